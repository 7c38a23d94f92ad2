// The story that every generated client is tested with: story http://127.0.0.1:8080
//
// docs/clients.md shows parts of it.
package main

import (
	"context"
	"errors"
	"log"
	"net/http"
	"os"
	"slices"
	"time"

	"braindrill"
)

func check(holds bool, what string) {
	if !holds {
		log.Fatal("not as expected: ", what)
	}
}

// The answer, where there is one.
func must[T any](answer T, _ *http.Response, err error) T {
	if err != nil {
		log.Fatal(problem(err).Detail, ": ", err)
	}
	return answer
}

// The problem of a call that was refused.
func problem(err error) braindrill.Problem {
	var failure *braindrill.GenericOpenAPIError
	if errors.As(err, &failure) {
		if problem, ok := failure.Model().(braindrill.Problem); ok {
			return problem
		}
	}
	return braindrill.Problem{Detail: "no problem document"}
}

func main() {
	log.SetFlags(0)
	ctx := context.Background()
	config := braindrill.NewConfiguration()
	config.Servers = braindrill.ServerConfigurations{{URL: os.Args[1]}}
	client := braindrill.NewAPIClient(config)

	// List the languages.
	languages := must(client.ServiceAPI.ListLanguages(ctx).Execute()).Items
	python := slices.IndexFunc(languages, func(language braindrill.Language) bool {
		return language.Id == "python"
	})
	check(python >= 0 && languages[python].Available, "python is available")

	// Submit, and wait for the end.
	request := braindrill.NewSubmissionRequest("python")
	request.SetSource("print(6*7)")
	submission := must(client.SubmissionsAPI.CreateSubmission(ctx).SubmissionRequest(*request).Wait(30).Execute())
	check(submission.State == braindrill.STATE_FINISHED, "it is finished")
	check(submission.Outcome.Verdict == braindrill.VERDICT_ACCEPTED, "it is accepted")
	check(submission.Outcome.Runs[0].Stdout.Data == "42\n", "it wrote 42")

	// Send a batch; one item is refused.
	programs := [][2]string{{"python", "print(1)"}, {"python", "exit(3)"}, {"no-such-language", ""}}
	batch := braindrill.BatchRequest{}
	for _, program := range programs {
		batch.Items = append(batch.Items, braindrill.BatchItem{Language: program[0], Source: &program[1]})
	}
	results := must(client.SubmissionsAPI.CreateSubmissionBatch(ctx).BatchRequest(batch).Execute()).Items
	first, second, third := results[0].Submission, results[1].Submission, results[2].Problem
	check(first != nil && second != nil, "two are taken")
	check(third != nil && third.Status == 422, "the third is a problem")

	// Ask until they are finished.
	finished := func(id string) *braindrill.Submission {
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
			submission := must(client.SubmissionsAPI.GetSubmission(ctx, id).Execute())
			if submission.State == braindrill.STATE_FINISHED {
				return submission
			}
			time.Sleep(100 * time.Millisecond)
		}
		log.Fatal(id, " does not finish")
		return nil
	}
	check(finished(first.Id).Outcome.Verdict == braindrill.VERDICT_ACCEPTED, "the first is accepted")
	check(finished(second.Id).Outcome.Verdict == braindrill.VERDICT_RUNTIME_ERROR, "the second is not")

	// Read the list, two at a time.
	seen := map[string]int{}
	list := client.SubmissionsAPI.ListSubmissions(ctx).Limit(2)
	for more := true; more; {
		page := must(list.Execute())
		for _, one := range page.Items {
			seen[one.Id]++
		}
		list = list.Cursor(page.GetNextCursor())
		more = page.HasNextCursor()
	}
	for _, times := range seen {
		check(times == 1, "none is listed twice")
	}
	check(seen[submission.Id]+seen[first.Id]+seen[second.Id] == 3, "all are listed")

	// Cancel.
	request.SetSource("import time; time.sleep(8)")
	sleeper := must(client.SubmissionsAPI.CreateSubmission(ctx).SubmissionRequest(*request).Execute())
	cancelled := must(client.SubmissionsAPI.CancelSubmission(ctx, sleeper.Id).Execute())
	check(cancelled.Outcome.Verdict == braindrill.VERDICT_CANCELLED, "it is cancelled")

	// Problems.
	request.Language = "no-such-language"
	_, _, err := client.SubmissionsAPI.CreateSubmission(ctx).SubmissionRequest(*request).Execute()
	refused := problem(err)
	check(refused.Type == "urn:braindrill:problem:invalid-request", "an unknown language is refused")
	check(refused.Errors[0].Field == "language", "it is about the language")
	nobody := "00000000-0000-0000-0000-000000000000"
	_, _, err = client.SubmissionsAPI.GetSubmission(ctx, nobody).Execute()
	check(problem(err).Status == 404, "an unknown submission is not found")
}
