//! What poem-openapi cannot say, added to what it derives.

use serde_json::{Map, Value, json};

use crate::api::{cursor, params::IdempotencyKey};

const DESCRIPTION: &str = "\
Send source code, get output and a verdict. Every submission is saved before it is acknowledged and \
runs in a sandbox of its own.

Errors are problem documents (RFC 9457). Fields that are not known are refused, fields without a \
value are left out and never null, times are UTC.";

/// Shapes that come in: what they do not name is refused.
const CLOSED: [&str; 7] =
    ["SubmissionRequest", "BatchItem", "BatchRequest", "SourceFile", "Limits", "Test", "Checker"];

/// The problems of each operation, beside `default`.
pub(super) const PROBLEMS: [(&str, &[u16]); 22] = [
    ("createSubmission", &[400, 410, 413, 415, 422, 503]),
    ("createSubmissionBatch", &[400, 413, 415, 422, 503]),
    ("listSubmissions", &[422, 503]),
    ("getSubmission", &[404, 422, 503]),
    ("followSubmission", &[404, 422, 503]),
    ("getStdout", &[404, 422, 503]),
    ("getStderr", &[404, 422, 503]),
    ("getOutput", &[404, 422, 503]),
    ("getFile", &[404, 422, 503]),
    ("cancelSubmission", &[404, 409, 503]),
    ("rerunSubmission", &[404, 422, 503]),
    ("deleteSubmission", &[404, 503]),
    ("listLanguages", &[]),
    ("getLanguage", &[404]),
    ("listWorkers", &[503]),
    ("getStats", &[503]),
    ("getStatsHistory", &[]),
    ("getLive", &[]),
    ("getReady", &[503]),
    ("getMetrics", &[]),
    ("runSource", &[404, 413, 422, 500, 503, 504]),
    ("runSourceShort", &[404, 413, 422, 500, 503, 504]),
];

/// The groups of operations, in the order in which `/docs` shows them.
const TAGS: [&str; 4] = ["Submissions", "Raw", "Service", "Health"];

/// The name of a header as people write it; poem-openapi writes capitals.
const HEADERS: [&str; 4] =
    ["Location", "Idempotent-Replayed", "Braindrill-Submission", "Braindrill-Verdict"];

/// Completes a description.
pub(super) fn complete(document: &mut Value) {
    document["info"]["description"] = DESCRIPTION.into();
    document["info"]["license"] = json!({
        "name": "Apache 2.0",
        "url": "https://www.apache.org/licenses/LICENSE-2.0",
    });
    if let Some(fields) = document.as_object_mut() {
        // Relative to where the description was read from.
        fields.insert("servers".to_owned(), json!([{ "url": "/" }]));
        fields.insert("security".to_owned(), json!([{}, { "bearerAuth": [] }]));
    }
    document["components"]["securitySchemes"] = json!({
        "bearerAuth": {
            "type": "http",
            "scheme": "bearer",
            "description": "A token. There are none yet: everybody is the same user.",
        },
    });
    order_tags(&mut document["tags"]);
    complete_schemas(&mut document["components"]["schemas"]);
    let paths = document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    for operation in paths.filter_map(Value::as_object_mut).flat_map(Map::values_mut) {
        complete_operation(operation);
    }
    whole_numbers(document);
}

/// What people come for stands first.
fn order_tags(tags: &mut Value) {
    let place = |tag: &Value| {
        let name = tag["name"].as_str().unwrap_or_default();
        TAGS.iter().position(|tag| *tag == name)
    };
    if let Some(tags) = tags.as_array_mut() {
        tags.sort_by_key(place);
    }
}

/// What can be done with a submission that was accepted, by the id in its answer.
const LINKS: [&str; 7] = [
    "getSubmission",
    "followSubmission",
    "getStdout",
    "getStderr",
    "getOutput",
    "cancelSubmission",
    "deleteSubmission",
];

fn complete_schemas(schemas: &mut Value) {
    let request = &mut schemas["SubmissionRequest"];
    request["example"] = json!({ "language": "python", "source": "print(6*7)" });
    let mut item = request.clone();
    item["title"] = "BatchItem".into();
    item["description"] = "A submission of a batch, with its own idempotency key.".into();
    let mut key = json!(IdempotencyKey::schema());
    key["description"] = "What the `Idempotency-Key` header is for a single submission.".into();
    item["properties"]["idempotency_key"] = key;
    schemas["BatchItem"] = item;
    // What is worth sending. Any other object is answered with a problem in its place, but a choice
    // between the two is a type of its own in generated clients, which says nothing.
    schemas["BatchRequest"]["properties"]["items"]["items"] =
        json!({ "$ref": "#/components/schemas/BatchItem" });
    let items = [item_example("print(6*7)"), item_example("print(6*8)")];
    schemas["BatchRequest"]["example"] = json!({ "items": items });
    for name in CLOSED {
        schemas[name]["additionalProperties"] = false.into();
    }
}

fn item_example(source: &str) -> Value {
    json!({ "language": "python", "source": source })
}

fn complete_operation(operation: &mut Value) {
    let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
    if let Some(content) = operation.pointer_mut("/requestBody/content") {
        plain_json(content);
    }
    if let Some(text) = operation.pointer_mut("/requestBody/content/text~1plain") {
        text["example"] = "print(6*7)".into();
    }
    for parameter in operation["parameters"].as_array_mut().into_iter().flatten() {
        match parameter["name"].as_str() {
            Some("cursor") => {
                parameter["schema"] = json!({ "type": "string", "pattern": cursor::PATTERN });
            }
            Some("language") if parameter["in"] == "path" => {
                parameter["example"] = "python".into();
            }
            _ => {}
        }
    }
    let Some(responses) = operation["responses"].as_object_mut() else { return };
    let problem = json!({
        "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } },
    });
    for response in responses.values_mut() {
        if response["description"] == "" {
            response["description"] = "As asked.".into();
        }
        plain_json(&mut response["content"]);
        // An array stands for a stream in some tools, but on the way it is text: for an array, generated
        // clients look for JSON and fail.
        if let Some(stream) = response.pointer_mut("/content/text~1event-stream/schema") {
            *stream = json!({ "type": "string" });
        }
        name_headers(&mut response["headers"]);
    }
    if let Some(created) = responses.get_mut("201") {
        let link =
            |id: &str| json!({ "operationId": id, "parameters": { "id": "$response.body#/id" } });
        created["links"] =
            LINKS.iter().map(|id| ((*id).to_owned(), link(id))).collect::<Map<_, _>>().into();
    }
    let statuses = PROBLEMS.iter().find(|(name, _)| *name == id).map_or(&[][..], |(_, all)| all);
    for status in statuses {
        let response = json!({ "description": meaning(*status), "content": problem });
        responses.insert(status.to_string(), response);
    }
    let default = json!({ "description": "Any other problem.", "content": problem });
    responses.shift_remove("default");
    responses.insert("default".to_owned(), default);
    // poem-openapi writes members that are null when they are asked for by index above.
    remove_nulls(operation);
}

fn meaning(status: u16) -> &'static str {
    match status {
        400 => "The body is not JSON.",
        404 => "It is not there.",
        409 => "It has finished already.",
        410 => "The submission of this idempotency key was deleted less than 24 hours ago.",
        413 => "The body is over the limit.",
        415 => "The body is not `application/json`.",
        422 => "A field, a parameter or a header is not valid; `errors` says which and why.",
        500 => "We failed; this says nothing about the program.",
        503 => "Not now: the queue is full, or nothing can be saved. `Retry-After` says when.",
        504 => "The program has not ended in the time that the request may wait. It runs on.",
        _ => "A problem.",
    }
}

/// `application/json; charset=utf-8` is `application/json`: JSON has no other character set.
fn plain_json(content: &mut Value) {
    let Some(content) = content.as_object_mut() else { return };
    for (long, short) in [
        ("application/json; charset=utf-8", "application/json"),
        ("text/plain; charset=utf-8", "text/plain"),
    ] {
        if let Some(of_type) = content.shift_remove(long) {
            content.insert(short.to_owned(), of_type);
        }
    }
}

fn name_headers(headers: &mut Value) {
    let Some(headers) = headers.as_object_mut() else { return };
    for name in HEADERS {
        if let Some(header) = headers.shift_remove(&name.to_uppercase()) {
            headers.insert(name.to_owned(), header);
        }
    }
}

/// Formats such as `uint64` are not known outside of Rust: they become `int64` with a minimum of 0.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(fields) => {
            let unsigned = fields
                .get("format")
                .and_then(Value::as_str)
                .is_some_and(|format| format.starts_with("uint"));
            if unsigned {
                fields.insert("format".to_owned(), "int64".into());
                fields.entry("minimum").or_insert_with(|| 0.into());
            }
            for name in ["minimum", "maximum"] {
                let whole = fields.get(name).and_then(Value::as_f64).filter(|n| n.fract() == 0.0);
                if let Some(whole) = whole {
                    fields.insert(name.to_owned(), (whole as i64).into());
                }
            }
            fields.values_mut().for_each(whole_numbers);
        }
        _ => {}
    }
}

fn remove_nulls(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(remove_nulls),
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(remove_nulls);
        }
        _ => {}
    }
}
