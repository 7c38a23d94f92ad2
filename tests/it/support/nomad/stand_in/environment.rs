//! What a task finds round it: variables, and interpolation in its job.

use std::{collections::BTreeMap, path::Path};

use serde_json::Value;

use super::records::{Allocation, DATACENTER};

/// The variables of a task, over those of the agent itself.
pub(super) fn variables(
    allocation: &Allocation,
    task: &Value,
    folder: &Path,
) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> =
        std::env::vars().filter(|(name, _)| !name.starts_with("NOMAD_")).collect();
    // Of a worker: it would have the machine busy beside the tests.
    all.insert("BRAINDRILL_WORKER_SELF_TEST".to_owned(), "false".to_owned());
    let job = &allocation.job;
    let name = task["Name"].as_str().unwrap_or_default();
    let group = job.group(&allocation.group).cloned().unwrap_or_default();
    let path = |parts: &[&str]| {
        let path = parts.iter().fold(folder.to_owned(), |path, part| path.join(part));
        path.display().to_string()
    };
    let mut set = |name: &str, value: String| {
        all.insert(format!("NOMAD_{name}"), value);
    };
    for meta in [&job.0["Meta"], &group["Meta"], &task["Meta"]] {
        for (key, value) in meta.as_object().into_iter().flatten() {
            let value = value.as_str().unwrap_or_default();
            let key = key.replace(|each: char| !each.is_ascii_alphanumeric(), "_");
            set(&format!("META_{}", key.to_uppercase()), value.to_owned());
            set(&format!("META_{key}"), value.to_owned());
        }
    }
    set("ALLOC_DIR", path(&["alloc"]));
    set("ALLOC_ID", allocation.id.clone());
    set("ALLOC_INDEX", allocation.number.to_string());
    set("ALLOC_NAME", allocation.name());
    set("CPU_LIMIT", task["Resources"]["CPU"].to_string());
    set("DC", DATACENTER.to_owned());
    set("GROUP_NAME", allocation.group.clone());
    set("JOB_ID", job.id().to_owned());
    set("JOB_NAME", job.0["Name"].as_str().unwrap_or_default().to_owned());
    if !job.parent().is_empty() {
        set("JOB_PARENT_ID", job.parent().to_owned());
    }
    set("MEMORY_LIMIT", task["Resources"]["MemoryMB"].to_string());
    set("NAMESPACE", "default".to_owned());
    set("REGION", "global".to_owned());
    set("SECRETS_DIR", path(&[name, "secrets"]));
    set("TASK_DIR", path(&[name, "local"]));
    set("TASK_NAME", name.to_owned());
    let own = task["Env"].as_object().into_iter().flatten();
    let own = own.map(|(name, value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        (name.clone(), replaced(&text, &all))
    });
    let own: Vec<_> = own.collect();
    all.extend(own);
    all
}

/// The parts of a text: what stands in `${...}`, and what does not.
fn parts(text: &str) -> Vec<(bool, &str)> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(begin) = rest.find("${") {
        let Some(end) = rest[begin..].find('}') else { break };
        parts.push((false, &rest[..begin]));
        parts.push((true, &rest[begin + 2..begin + end]));
        rest = &rest[begin + end + 1..];
    }
    parts.push((false, rest));
    parts
}

/// With the known variables put in; others stay as they are.
pub(super) fn replaced(text: &str, variables: &BTreeMap<String, String>) -> String {
    let part = |(inside, part): (bool, &str)| match variables.get(part) {
        Some(value) if inside => value.clone(),
        _ if inside => format!("${{{part}}}"),
        _ => part.to_owned(),
    };
    parts(text).into_iter().map(part).collect()
}

/// A driver's configuration with its variables put in.
///
/// # Errors
/// What Nomad says when something in `${...}` is no known variable: `${X:-0}` is an expression
/// that is not understood, not one of a shell.
pub(super) fn configured(
    config: &Value,
    variables: &BTreeMap<String, String>,
) -> Result<Value, String> {
    let failed =
        |what: String| format!("2 errors occurred:\n\t* failed to parse config: \n\t* {what}\n\n");
    match config {
        Value::String(text) => {
            let mut whole = String::new();
            for (inside, part) in parts(text) {
                let name = |each: char| each.is_alphanumeric() || matches!(each, '_' | '.');
                match variables.get(part) {
                    _ if !inside => whole.push_str(part),
                    Some(value) => whole.push_str(value),
                    None if part.chars().all(name) => {
                        return Err(failed(format!(
                            "Unknown variable: There is no variable named \"{part}\"."
                        )));
                    }
                    None => {
                        let what = "Extra characters after interpolation expression: Expected a \
                                    closing brace to end the interpolation expression, but found \
                                    extra characters.";
                        return Err(failed(what.to_owned()));
                    }
                }
            }
            Ok(whole.into())
        }
        Value::Array(items) => items.iter().map(|item| configured(item, variables)).collect(),
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| {
                configured(value, variables).map(|value| (name.clone(), value))
            };
            Ok(Value::Object(fields.iter().map(field).collect::<Result<_, _>>()?))
        }
        other => Ok(other.clone()),
    }
}
