//! Children of parameterized jobs.

use std::sync::atomic::Ordering;

use base64::{DecodeError, Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{
    exchange::{Reply, Request},
    records::Job,
    routes::{Site, invalid_method},
    scheduler, stamps,
};

/// Nomad's `DispatchPayloadSizeLimit`, of decoded bytes.
const MAX_PAYLOAD: usize = 16 << 10;

pub(super) fn dispatch(site: &Site, request: &Request, id: &str) -> Reply {
    if !request.writes() {
        return invalid_method();
    }
    let (payload, meta) = match asked(request) {
        Ok(asked) => asked,
        Err(reply) => return reply,
    };
    let Some(parent) = site.cluster.read(|tables| tables.jobs.get(id).cloned()) else {
        return Reply::refusal(500, "parameterized job not found");
    };
    if let Err(text) = allowed(&parent, &payload, &meta) {
        return Reply::refusal(500, &text);
    }
    let switches = &site.cluster.switches;
    let token = request.query("idempotency_token").filter(|_| switches.honours_tokens());
    let key = token.map(|token| (id.to_owned(), token.to_owned()));
    let child = child(&parent, &payload, meta);
    let child_id = child.id().to_owned();
    // One write for the job and one for its evaluation, as Nomad had it until 1.10.4.
    let made = site.cluster.commit("JobRegistered", |change| {
        if let Some(key) = key {
            let known = change.tables.tokens.get(&key).and_then(|id| change.tables.jobs.get(id));
            if let Some(known) = known {
                return Err(known.clone());
            }
            change.tables.tokens.insert(key, child_id.clone());
        }
        change.job(child);
        Ok(change.index)
    });
    let created = match made {
        Ok(created) => created,
        Err(known) => {
            let index = known.number("ModifyIndex");
            return Reply::json(&json!({
                "DispatchedJobID": known.id(), "EvalCreateIndex": 0, "EvalID": "",
                "Index": index, "JobCreateIndex": known.number("CreateIndex"),
            }))
            .written(index);
        }
    };
    if switches.loses_next_evaluation.swap(false, Ordering::SeqCst) {
        return Reply::refusal(500, "leadership lost while committing log");
    }
    let (index, evaluation) = site.cluster.commit("EvaluationUpdated", |change| {
        let Some(job) = change.tables.jobs.get(&child_id) else { return (change.index, None) };
        let evaluation = scheduler::evaluation_of(job, "job-register");
        let id = evaluation.id.clone();
        change.evaluation(evaluation);
        (change.index, Some(id))
    });
    Reply::json(&json!({
        "DispatchedJobID": child_id, "EvalCreateIndex": index, "EvalID": evaluation,
        "Index": index, "JobCreateIndex": created,
    }))
    .written(index)
}

/// Payload and meta of a request; what is not known is ignored.
fn asked(request: &Request) -> Result<(Vec<u8>, Map<String, Value>), Reply> {
    let body = request.json()?;
    let payload = STANDARD.decode(body["Payload"].as_str().unwrap_or_default());
    let payload = payload.map_err(|error| {
        let at = match error {
            DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => at,
            DecodeError::InvalidLength(length) => length,
            DecodeError::InvalidPadding => 0,
        };
        Reply::refusal(400, &format!("illegal base64 data at input byte {at}"))
    })?;
    let meta = body["Meta"].as_object().cloned().unwrap_or_default();
    for value in meta.values() {
        let kind = match value {
            Value::Number(_) => "number",
            Value::Bool(_) => "bool",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
            Value::String(_) | Value::Null => continue,
        };
        let text = format!(
            "json: cannot unmarshal {kind} into Go struct field JobDispatchRequest.Meta of type \
             string"
        );
        return Err(Reply::refusal(400, &text));
    }
    Ok((payload, meta))
}

/// What Nomad validates, in its order.
fn allowed(parent: &Job, payload: &[u8], meta: &Map<String, Value>) -> Result<(), String> {
    let id = parent.id();
    if !parent.is_template() {
        return Err(format!("Specified job {id:?} is not a parameterized job"));
    }
    if parent.stopped() {
        return Err(format!("Specified job {id:?} is stopped"));
    }
    let config = &parent.0["ParameterizedJob"];
    let texts = match config["Payload"].as_str() {
        Some("required") if payload.is_empty() => {
            Err("Payload is not provided but required by parameterized job".to_owned())
        }
        Some("forbidden") if !payload.is_empty() => {
            Err("Payload provided but forbidden by parameterized job".to_owned())
        }
        _ => Ok(()),
    };
    texts?;
    if payload.len() > MAX_PAYLOAD {
        return Err(format!("Payload exceeds maximum size; {} > {MAX_PAYLOAD}", payload.len()));
    }
    let keys = |field: &str| {
        let keys = config[field].as_array().into_iter().flatten();
        keys.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
    };
    let (required, optional) = (keys("MetaRequired"), keys("MetaOptional"));
    let more: Vec<_> =
        meta.keys().filter(|key| !required.contains(key) && !optional.contains(key)).collect();
    if !more.is_empty() {
        let more = more.iter().map(|key| key.as_str()).collect::<Vec<_>>().join(" ");
        return Err(format!("Dispatch request included unpermitted metadata keys: [{more}]"));
    }
    let missing: Vec<_> = required.iter().filter(|key| !meta.contains_key(*key)).collect();
    if !missing.is_empty() {
        let missing = missing.iter().map(|key| key.as_str()).collect::<Vec<_>>().join(" ");
        return Err(format!("Dispatch did not provide required meta keys: [{missing}]"));
    }
    Ok(())
}

fn child(parent: &Job, payload: &[u8], meta: Map<String, Value>) -> Job {
    let seconds = stamps::now() / 1_000_000_000;
    let id = format!("{}/dispatch-{seconds}-{}", parent.id(), &stamps::uuid()[..8]);
    let mut child = parent.0.clone();
    let mut whole = child["Meta"].as_object().cloned().unwrap_or_default();
    whole.extend(meta);
    child["Meta"] = if whole.is_empty() { Value::Null } else { whole.into() };
    child["Payload"] =
        if payload.is_empty() { Value::Null } else { STANDARD.encode(payload).into() };
    child["ParentID"] = parent.id().into();
    child["Dispatched"] = true.into();
    child["Status"] = "".into();
    child["ID"] = id.clone().into();
    child["Name"] = id.into();
    Job(child)
}
