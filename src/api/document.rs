//! The OpenAPI description: what poem-openapi derives from the code, with what it cannot say added.

use serde_json::{Map, Value, json};

/// What `/docs` may load: itself alone. Everything is inside the page.
pub const DOCS_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src \
                               'unsafe-inline'; img-src 'self' data:; font-src data:; connect-src \
                               'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

const DESCRIPTION: &str = "\
Send source code, get output and a verdict. Every submission is saved before it is acknowledged and \
runs in a sandbox of its own.

Errors are problem documents (RFC 9457). Fields that are not known are refused, fields without a \
value are left out and never null, times are UTC.";

/// Shapes that come in: what they do not name is refused.
const CLOSED: [&str; 7] =
    ["SubmissionRequest", "BatchItem", "BatchRequest", "SourceFile", "Limits", "Test", "Checker"];

/// The problems of each operation, beside `default`.
const PROBLEMS: [(&str, &[u16]); 17] = [
    ("createSubmission", &[400, 410, 413, 415, 422, 503]),
    ("createSubmissionBatch", &[400, 413, 415, 422, 503]),
    ("listSubmissions", &[422, 503]),
    ("getSubmission", &[404, 422, 503]),
    ("getStdout", &[404, 422, 503]),
    ("getStderr", &[404, 422, 503]),
    ("cancelSubmission", &[404, 409, 503]),
    ("deleteSubmission", &[404, 503]),
    ("listLanguages", &[]),
    ("getLanguage", &[404]),
    ("listWorkers", &[503]),
    ("getStats", &[503]),
    ("getLive", &[]),
    ("getReady", &[503]),
    ("getMetrics", &[]),
    ("runSource", &[404, 413, 422, 500, 503, 504]),
    ("runSourceShort", &[404, 413, 422, 500, 503, 504]),
];

/// The name of a header as people write it; poem-openapi writes capitals.
const HEADERS: [&str; 4] =
    ["Location", "Idempotent-Replayed", "Braindrill-Submission", "Braindrill-Verdict"];

/// The OpenAPI 3.0 description of the API.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    value: Value,
    derived: String,
}

impl Document {
    /// The description of this version.
    pub fn new() -> Self {
        let derived = super::service().spec();
        let mut value: Value =
            serde_json::from_str(&derived).expect("poem-openapi writes valid JSON");
        complete(&mut value);
        Document { value, derived }
    }

    /// As JSON, indented, with a line end.
    pub fn json(&self) -> String {
        let mut text = serde_json::to_string_pretty(&self.value).expect("a JSON value is JSON");
        text.push('\n');
        text
    }

    /// As YAML.
    pub fn yaml(&self) -> String {
        let mut text = String::new();
        write_yaml(&self.value, 0, &mut text);
        text
    }

    /// As a value.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The page of `/docs`, with all that it needs inside.
    pub fn swagger_ui(&self) -> String {
        let head = "<link rel=\"icon\" href=\"data:,\">\n    <title>braindrill API</title>";
        // `</` could end the script that the description stands in.
        let description = self.json().replace("</", "<\\/");
        let page = super::service().swagger_ui_html();
        let page = page.replace(&self.derived, &description);
        let page = page.replace("<title>Swagger UI</title>", head);
        format!("<!doctype html>{page}")
    }
}

impl Default for Document {
    fn default() -> Self {
        Document::new()
    }
}

fn complete(document: &mut Value) {
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
    complete_schemas(&mut document["components"]["schemas"]);
    let paths = document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    for operation in paths.filter_map(Value::as_object_mut).flat_map(Map::values_mut) {
        complete_operation(operation);
    }
    whole_numbers(document);
}

fn complete_schemas(schemas: &mut Value) {
    let mut item = schemas["SubmissionRequest"].clone();
    item["title"] = "BatchItem".into();
    item["description"] = "A submission of a batch, with its own idempotency key.".into();
    item["properties"]["idempotency_key"] = json!({
        "type": "string",
        "description": "What the `Idempotency-Key` header is for a single submission.",
        "minLength": 1,
        "maxLength": 255,
        "pattern": "^[!-~]*$",
    });
    schemas["BatchItem"] = item;
    // Whatever object is sent as an item is answered with a problem in its place, so it is allowed.
    schemas["BatchRequest"]["properties"]["items"]["items"] =
        json!({ "anyOf": [{ "$ref": "#/components/schemas/BatchItem" }, { "type": "object" }] });
    for name in CLOSED {
        schemas[name]["additionalProperties"] = false.into();
    }
}

fn complete_operation(operation: &mut Value) {
    let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
    if let Some(content) = operation.pointer_mut("/requestBody/content") {
        plain_json(content);
    }
    for parameter in operation["parameters"].as_array_mut().into_iter().flatten() {
        if parameter["name"] == "Idempotency-Key" {
            let schema = json!({
                "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]*$",
            });
            parameter["schema"] = schema;
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
        name_headers(&mut response["headers"]);
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

/// Writes block YAML whose scalars and keys are JSON, which every YAML 1.2 reader takes.
fn write_yaml(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, field) in fields {
                text.push_str(&format!("{indent}{}:", Value::from(name.as_str())));
                write_yaml_below(field, depth, text);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                text.push_str(&format!("{indent}-"));
                write_yaml_below(item, depth, text);
            }
        }
        scalar => text.push_str(&format!("{indent}{scalar}\n")),
    }
}

fn write_yaml_below(value: &Value, depth: usize, text: &mut String) {
    let is_block = match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    if is_block {
        text.push('\n');
        write_yaml(value, depth + 1, text);
    } else {
        text.push_str(&format!(" {value}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_an_id_and_its_problems_are_known() {
        let document = Document::new();
        let mut ids = Vec::new();
        for path in document.value["paths"].as_object().expect("paths").values() {
            for operation in path.as_object().expect("operations").values() {
                ids.push(operation["operationId"].as_str().expect("an id").to_owned());
            }
        }
        ids.sort();
        let mut known: Vec<_> = PROBLEMS.iter().map(|(id, _)| (*id).to_owned()).collect();
        known.sort();
        assert_eq!(ids, known);
    }

    #[test]
    fn the_description_holds_no_null_and_no_rust_format() {
        let text = Document::new().json();
        assert!(!text.contains(": null"), "a null");
        assert!(!text.contains("\"uint"), "an unsigned format");
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = Document::new();
        let text = document.json();
        for reference in text.split("\"$ref\": \"#").skip(1) {
            let pointer = reference.split('"').next().expect("a pointer");
            assert!(document.value.pointer(pointer).is_some(), "{pointer}");
        }
    }

    #[test]
    fn the_page_holds_the_completed_description_and_no_other_host() {
        let page = Document::new().swagger_ui();
        assert!(page.contains("bearerAuth"));
        assert!(!page.contains("<script src") && !page.contains("<link rel=\"stylesheet\""));
    }

    #[test]
    fn yaml_keeps_the_order_and_the_nesting() {
        let mut text = String::new();
        write_yaml(&json!({"a": {"b": [1, {"c": "x: y"}]}, "d": [], "e": {}}), 0, &mut text);
        assert_eq!(
            text,
            "\"a\":\n  \"b\":\n    - 1\n    -\n      \"c\": \"x: y\"\n\"d\": []\n\"e\": {}\n"
        );
    }
}
