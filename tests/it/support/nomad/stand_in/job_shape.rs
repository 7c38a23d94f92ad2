//! The shape of a job: all its fields with their defaults, as Nomad 1.1 fills them in.

use serde_json::{Map, Value, json};

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;

/// The fields of `defaults`, with those that are given and not null put in. Other fields are
/// dropped, as Nomad does.
fn filled(given: &Value, defaults: Value) -> Value {
    let Value::Object(defaults) = defaults else { return given.clone() };
    let fill = |(key, default): (String, Value)| {
        let value = match given.get(&key) {
            None | Some(Value::Null) => default,
            Some(given) if default.is_object() && given.is_object() => filled(given, default),
            Some(given) => given.clone(),
        };
        (key, value)
    };
    Value::Object(defaults.into_iter().map(fill).collect::<Map<_, _>>())
}

/// A list of which each member is filled in; null stays null.
fn each(given: &Value, fill: impl Fn(&Value) -> Value) -> Value {
    match given {
        Value::Array(items) => items.iter().map(fill).collect(),
        _ => Value::Null,
    }
}

/// As `jobs/parse` answers.
pub(super) fn parsed(job: &Value) -> Value {
    let mut whole = filled(
        job,
        json!({
            "Affinities": null, "AllAtOnce": false, "Constraints": null, "ConsulNamespace": "",
            "ConsulToken": "", "CreateIndex": 0, "Datacenters": null, "Dispatched": false,
            "ID": "", "JobModifyIndex": 0, "Meta": null, "Migrate": null, "ModifyIndex": 0,
            "Multiregion": null, "Name": "", "Namespace": "default", "NomadTokenID": "",
            "ParameterizedJob": null, "ParentID": "", "Payload": null, "Periodic": null,
            "Priority": 50, "Region": "global", "Reschedule": null, "Spreads": null,
            "Stable": false, "Status": "", "StatusDescription": "", "Stop": false,
            "SubmitTime": null, "TaskGroups": null, "Type": "service", "Update": null,
            "VaultNamespace": "", "VaultToken": "", "Version": 0,
        }),
    );
    shape_groups(&mut whole, "");
    whole
}

/// As it is kept once it is registered.
pub(super) fn registered(job: &Value) -> Value {
    let mut whole = filled(
        job,
        json!({
            "Affinities": null, "AllAtOnce": false, "Constraints": null, "ConsulNamespace": "",
            "ConsulToken": "", "CreateIndex": 0, "Datacenters": null, "Dispatched": false,
            "ID": "", "JobModifyIndex": 0, "Meta": null, "ModifyIndex": 0, "Multiregion": null,
            "Name": "", "Namespace": "default", "NomadTokenID": "", "ParameterizedJob": null,
            "ParentID": "", "Payload": null, "Periodic": null, "Priority": 50,
            "Region": "global", "Spreads": null, "Stable": false, "Status": "",
            "StatusDescription": "", "Stop": false, "SubmitTime": 0, "TaskGroups": null,
            "Type": "service",
            "Update": {
                "AutoPromote": false, "AutoRevert": false, "Canary": 0, "HealthCheck": "",
                "HealthyDeadline": 0, "MaxParallel": 0, "MinHealthyTime": 0,
                "ProgressDeadline": 0, "Stagger": 0,
            },
            "VaultNamespace": "", "VaultToken": "", "Version": 0,
        }),
    );
    if whole["Name"] == "" {
        whole["Name"] = whole["ID"].clone();
    }
    shape_groups(&mut whole, "optional");
    for group in whole["TaskGroups"].as_array_mut().into_iter().flatten() {
        for task in group["Tasks"].as_array_mut().into_iter().flatten() {
            task["CSIPluginConfig"] = Value::Null;
            for (name, default) in [("DiskMB", 0), ("IOPS", 0), ("MemoryMaxMB", 0)] {
                let resource = &mut task["Resources"][name];
                if resource.is_null() {
                    *resource = default.into();
                }
            }
        }
    }
    whole
}

fn shape_groups(job: &mut Value, payload: &str) {
    let batch = job["Type"] == "batch";
    job["ParameterizedJob"] = match &job["ParameterizedJob"] {
        Value::Null => Value::Null,
        given => filled(given, parameterized(payload)),
    };
    job["TaskGroups"] = each(&job["TaskGroups"], |group| shape_group(group, batch));
}

fn parameterized(payload: &str) -> Value {
    json!({ "MetaOptional": null, "MetaRequired": null, "Payload": payload })
}

fn shape_group(group: &Value, batch: bool) -> Value {
    let (attempts, delay, interval) = if batch { (3, 15, DAY) } else { (2, 15, 1_800 * SECOND) };
    let reschedule = if batch {
        json!({
            "Attempts": 1, "Delay": 5 * SECOND, "DelayFunction": "constant", "Interval": DAY,
            "MaxDelay": 0, "Unlimited": false,
        })
    } else {
        json!({
            "Attempts": 0, "Delay": 30 * SECOND, "DelayFunction": "exponential", "Interval": 0,
            "MaxDelay": 3_600 * SECOND, "Unlimited": true,
        })
    };
    let mut shaped = filled(
        group,
        json!({
            "Affinities": null, "Constraints": null, "Consul": { "Namespace": "" }, "Count": 1,
            "EphemeralDisk": { "Migrate": false, "SizeMB": 300, "Sticky": false }, "Meta": null,
            "Migrate": null, "Name": "", "Networks": null, "ReschedulePolicy": reschedule,
            "RestartPolicy": {
                "Attempts": attempts, "Delay": delay * SECOND, "Interval": interval,
                "Mode": "fail",
            },
            "Scaling": null, "Services": null, "ShutdownDelay": null, "Spreads": null,
            "StopAfterClientDisconnect": null, "Tasks": null, "Update": null, "Volumes": null,
        }),
    );
    let restart = shaped["RestartPolicy"].clone();
    shaped["Tasks"] = each(&shaped["Tasks"], |task| shape_task(task, &restart));
    shaped
}

fn shape_task(task: &Value, restart: &Value) -> Value {
    let mut shaped = filled(
        task,
        json!({
            "Affinities": null, "Artifacts": null, "Config": null, "Constraints": null,
            "DispatchPayload": null, "Driver": "", "Env": null, "KillSignal": "",
            "KillTimeout": 5 * SECOND, "Kind": "", "Leader": false, "Lifecycle": null,
            "LogConfig": { "MaxFileSizeMB": 10, "MaxFiles": 10 }, "Meta": null, "Name": "",
            "Resources": {
                "CPU": 100, "Cores": 0, "Devices": null, "DiskMB": null, "IOPS": null,
                "MemoryMB": 300, "MemoryMaxMB": null, "Networks": null,
            },
            "RestartPolicy": restart, "ScalingPolicies": null, "Services": null,
            "ShutdownDelay": 0, "Templates": null, "User": "", "Vault": null,
            "VolumeMounts": null,
        }),
    );
    shaped["Artifacts"] = each(&shaped["Artifacts"], |artifact| {
        filled(
            artifact,
            json!({
                "GetterHeaders": null, "GetterMode": "any", "GetterOptions": null,
                "GetterSource": "", "RelativeDest": "local/",
            }),
        )
    });
    shaped
}

/// What is wrong with a job, one sentence each.
pub(super) fn problems(job: &Value) -> Vec<&'static str> {
    let mut found = Vec::new();
    let is_empty = |value: &Value| value.as_array().is_none_or(Vec::is_empty);
    if job["ID"].as_str().is_none_or(str::is_empty) {
        found.push("Missing job ID");
    }
    if is_empty(&job["Datacenters"]) {
        found.push("Missing job datacenters");
    }
    if is_empty(&job["TaskGroups"]) {
        found.push("Missing job task groups");
    }
    found
}
