"""Half of the submissions that fit the schema are made ones that are accepted, so that what lies
behind validation is tested too: without this, hardly one names a language."""

import schemathesis
from schemathesis import GenerationMode

LANGUAGES = ("python", "bash", "py")


def is_positive(case):
    return case.meta is not None and case.meta.generation.mode == GenerationMode.POSITIVE


def make_acceptable(request):
    text = str(request.get("language", ""))
    if len(text) % 2:
        return
    request["language"] = LANGUAGES[len(text) % len(LANGUAGES)]
    for name in ("files", "entrypoint", "env", "limits", "tests"):
        request.pop(name, None)
    request.setdefault("source", "echo 1")


@schemathesis.hook
def before_call(context, case, kwargs):
    operation = case.operation.definition.raw.get("operationId")
    if not is_positive(case) or not isinstance(case.body, dict):
        return
    if operation == "createSubmission":
        make_acceptable(case.body)
    elif operation == "createSubmissionBatch":
        for item in case.body.get("items", []):
            if isinstance(item, dict):
                make_acceptable(item)
