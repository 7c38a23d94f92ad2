//! Which operations there are, for answers about paths, methods and parameters that there are not.

use poem::{
    Request,
    http::{HeaderValue, Method},
};
use serde_json::Value;

use crate::{
    api::{
        attach,
        body::shorten,
        document::Document,
        problem::{Failure, FieldError},
        ui,
    },
    protocol::REQUESTS_PATH,
};

/// The path that stands beside every other of one part.
const SHORT_PATH: &str = "/{language}";

/// All operations, to answer for paths and methods that there are not.
#[derive(Debug, Clone)]
pub(crate) struct Operations(Vec<PathOperations>);

/// The operations of one path.
#[derive(Debug, Clone)]
pub(super) struct PathOperations {
    template: String,
    operations: Vec<Operation>,
}

#[derive(Debug, Clone)]
struct Operation {
    method: Method,
    id: String,
    /// Names of its query parameters.
    query: Vec<String>,
}

impl Operations {
    /// Those of a description, and those that it does not describe.
    pub(crate) fn of(document: &Document) -> Self {
        let mut paths = Vec::new();
        for (template, operations) in document.value()["paths"].as_object().into_iter().flatten() {
            let operations = operations.as_object().into_iter().flatten();
            let operations = operations.filter_map(|(method, value)| operation(method, value));
            paths.push(PathOperations {
                template: template.clone(),
                operations: operations.collect(),
            });
        }
        let attempt = format!("{REQUESTS_PATH}/{{submission}}/{{attempt}}/{{token}}");
        let page = |id| move |template: &str| (template.to_owned(), vec![(Method::GET, id)]);
        let undescribed = ["/docs", "/openapi.json", "/openapi.yaml"]
            .into_iter()
            .map(page("getDocs"))
            .chain(ui::PATHS.into_iter().map(page("getPage")))
            .chain([(attempt, vec![(Method::GET, "getRequest"), (Method::POST, "tellOfEnd")])]);
        for (template, methods) in undescribed {
            let operations = methods.into_iter().map(|(method, id)| Operation {
                method,
                id: id.to_owned(),
                query: Vec::new(),
            });
            paths.push(PathOperations { template, operations: operations.collect() });
        }
        paths.push(PathOperations {
            template: attach::PATH.to_owned(),
            operations: vec![Operation {
                method: Method::GET,
                id: "attachToSubmission".to_owned(),
                query: vec![attach::AFTER.to_owned()],
            }],
        });
        // Paths without a parameter come first, as they do for the router.
        paths.sort_by_key(|path| path.template.matches('{').count());
        Operations(paths)
    }

    /// Those of the path that a request names.
    pub(super) fn find(&self, path: &str) -> Option<&PathOperations> {
        self.0.iter().find(|candidate| candidate.matches(path))
    }
}

fn operation(method: &str, value: &Value) -> Option<Operation> {
    let parameters = value["parameters"].as_array().into_iter().flatten();
    let query = parameters.filter(|parameter| parameter["in"] == "query");
    Some(Operation {
        method: method.to_ascii_uppercase().parse().ok()?,
        id: value["operationId"].as_str()?.to_owned(),
        query: query.filter_map(|parameter| Some(parameter["name"].as_str()?.to_owned())).collect(),
    })
}

impl PathOperations {
    fn matches(&self, path: &str) -> bool {
        let (mut ours, mut theirs) = (self.template.split('/'), path.split('/'));
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => return true,
                (Some(ours), Some(theirs)) if ours.starts_with('{') && !theirs.is_empty() => {}
                (Some(ours), Some(theirs)) if ours == theirs => {}
                _ => return false,
            }
        }
    }

    /// Whether this is the path that a language alone stands in.
    pub(super) fn is_short(&self) -> bool {
        self.template == SHORT_PATH
    }

    /// The path with the names of its parameters in their places.
    pub(super) fn template(&self) -> &str {
        &self.template
    }

    /// The id of the operation of a method.
    pub(super) fn operation_id(&self, method: &Method) -> Option<&str> {
        let mut own = self.operations.iter();
        own.find(|operation| operation.method == *method).map(|operation| operation.id.as_str())
    }

    /// The `Allow` header.
    pub(super) fn allow(&self) -> HeaderValue {
        let has = |method: &Method| self.operations.iter().any(|own| own.method == *method);
        let mut methods: Vec<&str> =
            self.operations.iter().map(|operation| operation.method.as_str()).collect();
        if has(&Method::GET) {
            methods.push("HEAD");
        }
        methods.push("OPTIONS");
        methods.join(", ").parse().expect("methods are header values")
    }
}

/// The query parameters that the operation does not have. A misspelt one would be passed over.
pub(super) fn unknown_query(known: &PathOperations, request: &Request) -> Option<Failure> {
    let operation = known.operations.iter().find(|own| own.method == *request.method())?;
    if !known.template.starts_with("/v1/") {
        return None;
    }
    let sent: Vec<(String, String)> = request.params().unwrap_or_default();
    let unknown = sent.into_iter().filter(|(name, _)| !operation.query.contains(name));
    let errors: Vec<_> =
        unknown.map(|(name, _)| FieldError::new(shorten(&name, 64), "unknown parameter")).collect();
    (!errors.is_empty()).then(|| Failure::invalid(errors))
}
