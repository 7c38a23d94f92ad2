"""The story that every generated client is tested with: python story.py http://127.0.0.1:8080

docs/clients.md shows parts of it.
"""

import json
import sys
import time
import urllib.request
from uuid import UUID

import braindrill
from braindrill import BatchItem, BatchRequest, Problem, State, Submission, SubmissionRequest, Verdict
from braindrill.exceptions import NotFoundException, UnprocessableEntityException

address = sys.argv[1]
client = braindrill.ApiClient(braindrill.Configuration(host=address))
submissions = braindrill.SubmissionsApi(client)
service = braindrill.ServiceApi(client)


def check(holds, what):
    if not holds:
        sys.exit(f"not as expected: {what}")


# List the languages.
languages = service.list_languages().items
python = next(language for language in languages if language.id == "python")
check(python.available, f"python is available: {python.reason}")

# Submit, and wait for the end.
request = SubmissionRequest(language="python", source="print(6*7)")
submission = submissions.create_submission(request, wait=30)
check(submission.state == State.FINISHED, "it is finished")
check(submission.outcome.verdict == Verdict.ACCEPTED, "it is accepted")
check(submission.outcome.runs[0].stdout.data == "42\n", "it wrote 42")

# Send a batch; one item is refused.
programs = [("python", "print(1)"), ("python", "exit(3)"), ("no-such-language", "")]
items = [BatchItem(language=language, source=source) for language, source in programs]
results = submissions.create_submission_batch(BatchRequest(items=items)).items
first, second, third = (result.actual_instance for result in results)
check(isinstance(first, Submission) and isinstance(second, Submission), "two are taken")
check(isinstance(third, Problem) and third.status == 422, "the third is a problem")


# Ask until they are finished.
def finished(id):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        submission = submissions.get_submission(id)
        if submission.state == State.FINISHED:
            return submission
        time.sleep(0.1)
    sys.exit(f"{id} does not finish")


check(finished(first.id).outcome.verdict == Verdict.ACCEPTED, "the first is accepted")
check(finished(second.id).outcome.verdict == Verdict.RUNTIME_ERROR, "the second is not")

# Read the list, two at a time.
seen = []
page = submissions.list_submissions(limit=2)
seen += [one.id for one in page.items]
while page.next_cursor:
    page = submissions.list_submissions(limit=2, cursor=page.next_cursor)
    seen += [one.id for one in page.items]
check(len(seen) == len(set(seen)), "none is listed twice")
check({submission.id, first.id, second.id} <= set(seen), "all are listed")

# Cancel.
request = SubmissionRequest(language="python", source="import time; time.sleep(8)")
sleeper = submissions.create_submission(request)
cancelled = submissions.cancel_submission(sleeper.id)
check(cancelled.outcome.verdict == Verdict.CANCELLED, "it is cancelled")

# Problems.
try:
    submissions.create_submission(SubmissionRequest(language="no-such-language", source=""))
    check(False, "an unknown language is refused")
except UnprocessableEntityException as error:
    check(error.data.type == "urn:braindrill:problem:invalid-request", "it is this kind of problem")
    # The generator has a use of its own for the name `field`.
    check(error.data.errors[0].var_field == "language", "it is about the language")
try:
    submissions.get_submission(UUID(int=0))
    check(False, "an unknown submission is not found")
except NotFoundException as error:
    check(error.data.status == 404, "it says 404")


# Follow one live. A generated client cannot: it would wait for the end.
def follow(id):
    with urllib.request.urlopen(f"{address}/v1/submissions/{id}/events") as lines:
        for line in lines:
            if line.startswith(b"data: "):
                yield json.loads(line[len(b"data: ") :])


events = list(follow(submission.id))
check([event["n"] for event in events] == list(range(len(events))), "no event is missing")
check("42\n" in [event.get("data") for event in events], "42 is among the events")
check(events[-1]["type"] == "finished", "the last event is the end")
