//! The OpenAPI description: what poem-openapi derives from the code, with what it cannot say added.

mod complete;
mod yaml;

use serde_json::Value;

/// What `/docs` may load: itself alone. Everything is inside the page.
pub const DOCS_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src \
                               'unsafe-inline'; img-src 'self' data:; font-src data:; connect-src \
                               'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

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
        complete::complete(&mut value);
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
        yaml::write_yaml(&self.value, 0, &mut text);
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
        let mut known: Vec<_> = complete::PROBLEMS.iter().map(|(id, _)| (*id).to_owned()).collect();
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

    /// Each of these stopped a generator that `.ci/clients` runs, or left a type that says nothing.
    #[test]
    fn generated_clients_get_types_that_they_can_use() {
        let document = Document::new();
        let at = |pointer: &str| document.value.pointer(pointer).expect("it is described");
        let items = at("/components/schemas/BatchRequest/properties/items/items");
        assert_eq!(items["$ref"], "#/components/schemas/BatchItem");
        let events = at("/paths/~1v1~1submissions~1{id}~1events/get/responses/200/content");
        assert_eq!(events["text/event-stream"]["schema"]["type"], "string");
        at("/components/schemas/SubmissionEvent");
    }

    #[test]
    fn the_page_holds_the_completed_description_and_no_other_host() {
        let page = Document::new().swagger_ui();
        assert!(page.contains("bearerAuth"));
        assert!(!page.contains("<script src") && !page.contains("<link rel=\"stylesheet\""));
    }
}
