// The story that every generated client is tested with: java Story http://127.0.0.1:8080
//
// docs/clients.md shows parts of it.

import braindrill.ApiClient;
import braindrill.ApiException;
import braindrill.JSON;
import braindrill.api.ServiceApi;
import braindrill.api.SubmissionsApi;
import braindrill.model.BatchItem;
import braindrill.model.BatchRequest;
import braindrill.model.Problem;
import braindrill.model.State;
import braindrill.model.Submission;
import braindrill.model.SubmissionRequest;
import braindrill.model.Verdict;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.UUID;

public class Story {
    static void check(boolean holds, String what) {
        if (!holds) {
            System.err.println("not as expected: " + what);
            System.exit(1);
        }
    }

    interface Call {
        Object make() throws ApiException;
    }

    // The problem of a call that is refused.
    static Problem problem(Call call) {
        try {
            call.make();
        } catch (ApiException refused) {
            return JSON.getGson().fromJson(refused.getResponseBody(), Problem.class);
        }
        throw new IllegalStateException("it is not refused");
    }

    // Asks until it is finished.
    static Submission finished(SubmissionsApi submissions, UUID id) throws ApiException, InterruptedException {
        Instant deadline = Instant.now().plus(Duration.ofMinutes(1));
        while (Instant.now().isBefore(deadline)) {
            Submission submission = submissions.getSubmission(id, null, null);
            if (submission.getState() == State.FINISHED) {
                return submission;
            }
            Thread.sleep(100);
        }
        throw new IllegalStateException(id + " does not finish");
    }

    public static void main(String[] args) throws Exception {
        ApiClient client = new ApiClient().setBasePath(args[0]).setReadTimeout(70_000);
        ServiceApi service = new ServiceApi(client);
        SubmissionsApi submissions = new SubmissionsApi(client);

        // List the languages.
        boolean python = service.listLanguages().getItems().stream()
                .anyMatch(language -> language.getId().equals("python") && language.getAvailable());
        check(python, "python is available");

        // Submit, and wait for the end.
        SubmissionRequest request = new SubmissionRequest().language("python").source("print(6*7)");
        Submission submission = submissions.createSubmission(request, null, 30, null);
        check(submission.getState() == State.FINISHED, "it is finished");
        check(submission.getOutcome().getVerdict() == Verdict.ACCEPTED, "it is accepted");
        check(submission.getOutcome().getRuns().get(0).getStdout().getData().equals("42\n"), "it wrote 42");

        // Send a batch; one item is refused.
        BatchRequest batch = new BatchRequest()
                .addItemsItem(new BatchItem().language("python").source("print(1)"))
                .addItemsItem(new BatchItem().language("python").source("exit(3)"))
                .addItemsItem(new BatchItem().language("no-such-language").source(""));
        List<Submission> taken = new ArrayList<>();
        List<Problem> refused = new ArrayList<>();
        for (var result : submissions.createSubmissionBatch(batch).getItems()) {
            if (result.getActualInstance() instanceof Submission one) {
                taken.add(one);
            } else {
                refused.add(result.getProblem());
            }
        }
        check(taken.size() == 2, "two are taken");
        check(refused.size() == 1 && refused.get(0).getStatus() == 422, "the third is a problem");

        // Ask until they are finished.
        Submission first = finished(submissions, taken.get(0).getId());
        Submission second = finished(submissions, taken.get(1).getId());
        check(first.getOutcome().getVerdict() == Verdict.ACCEPTED, "the first is accepted");
        check(second.getOutcome().getVerdict() == Verdict.RUNTIME_ERROR, "the second is not");

        // Read the list, two at a time.
        List<UUID> seen = new ArrayList<>();
        String cursor = null;
        do {
            var page = submissions.listSubmissions(null, null, null, 2, cursor);
            page.getItems().forEach(one -> seen.add(one.getId()));
            cursor = page.getNextCursor();
        } while (cursor != null);
        check(seen.size() == new HashSet<>(seen).size(), "none is listed twice");
        check(seen.containsAll(List.of(submission.getId(), first.getId(), second.getId())), "all are listed");

        // Cancel.
        request.source("import time; time.sleep(8)");
        Submission sleeper = submissions.createSubmission(request, null, null, null);
        Submission cancelled = submissions.cancelSubmission(sleeper.getId());
        check(cancelled.getOutcome().getVerdict() == Verdict.CANCELLED, "it is cancelled");

        // Problems.
        request.language("no-such-language");
        Problem unknown = problem(() -> submissions.createSubmission(request, null, null, null));
        check(unknown.getType().equals("urn:braindrill:problem:invalid-request"), "an unknown language is refused");
        check(unknown.getErrors().get(0).getField().equals("language"), "it is about the language");
        Problem missing = problem(() -> submissions.getSubmission(new UUID(0, 0), null, null));
        check(missing.getStatus() == 404, "an unknown submission is not found");
    }
}
