//! One task of an allocation on its node, from `Received` to its end.

use std::{path::Path, str::FromStr as _, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use nix::sys::signal::Signal;
use serde_json::{Map, Value, json};

use super::{
    artifact, environment,
    process::{Ended, Program},
    rotation::Rotation,
    run::Run,
    stamps,
};

/// Something that happened to a task, as the node reports it.
pub(super) fn event(kind: &str, message: &str, details: Value, fields: Value) -> Value {
    let mut whole = json!({
        "Details": details, "DiskLimit": 0, "DisplayMessage": message, "DownloadError": "",
        "DriverError": "", "DriverMessage": "", "ExitCode": 0, "FailedSibling": "",
        "FailsTask": false, "GenericSource": "", "KillError": "", "KillReason": "",
        "KillTimeout": 0, "Message": "", "RestartReason": "", "SetupError": "", "Signal": 0,
        "StartDelay": 0, "TaskSignal": "", "TaskSignalReason": "", "Time": stamps::now(),
        "Type": kind, "ValidationError": "", "VaultError": "",
    });
    for (name, value) in fields.as_object().into_iter().flatten() {
        whole[name] = value.clone();
    }
    whole
}

/// Why a task did not run to an end of its own.
struct Failure {
    event: Value,
}

impl Failure {
    /// In Nomad's words, told in the detail of this name and in a field of its own.
    fn new(kind: &str, detail: &str, field: &str, what: &str) -> Failure {
        let details = Map::from_iter([(detail.to_owned(), json!(what))]);
        let fields = Map::from_iter([(field.to_owned(), json!(what))]);
        Failure { event: event(kind, what, details.into(), fields.into()) }
    }
}

/// Runs a task until it is not to be started again.
pub(super) async fn run(run: &Run, task: &Value) {
    let name = task["Name"].as_str().unwrap_or_default();
    run.note(name, event("Received", "Task received by client", json!({}), json!({})));
    let message = "Building Task Directory";
    let fields = json!({ "Message": message });
    run.note(name, event("Task Setup", message, json!({ "message": message }), fields));
    let policy = &task["RestartPolicy"];
    let allowed = policy["Attempts"].as_u64().unwrap_or(0);
    let mut restarts = 0;
    loop {
        let failed = match once(run, task, name).await {
            _ if run.stop.is_cancelled() => {
                let message = "Task successfully killed";
                run.note(name, event("Killed", message, json!({}), json!({})));
                return run.end(name, false);
            }
            Ok(Ended { code: 0, .. }) if run.is_batch() => return run.end(name, false),
            Ok(_) => true,
            Err(failure) => {
                run.note(name, failure.event);
                true
            }
        };
        if restarts >= allowed {
            let reason = match allowed {
                0 => "Policy allows no restarts".to_owned(),
                _ => {
                    format!("Exceeded allowed attempts {allowed} in interval and mode is \"fail\"")
                }
            };
            let details = json!({ "restart_reason": reason, "fails_task": "true" });
            let fields = json!({ "RestartReason": reason, "FailsTask": true });
            run.note(name, event("Not Restarting", &reason, details, fields));
            return run.end(name, failed);
        }
        restarts += 1;
        let delay = Duration::from_nanos(policy["Delay"].as_u64().unwrap_or(0));
        let reason = "Restart within policy";
        let message = format!("Task restarting in {delay:?}");
        let details = json!({
            "restart_reason": reason, "start_delay": delay.as_nanos().to_string(),
        });
        run.note(name, event("Restarting", &message, details, json!({ "RestartReason": reason })));
        run.restarted(name);
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = run.stop.cancelled() => {}
        }
    }
}

async fn once(run: &Run, task: &Value, name: &str) -> Result<Ended, Failure> {
    let folder = run.dir.join(name);
    let setup = |error: std::io::Error| {
        Failure::new("Setup Failure", "setup_error", "SetupError", &error.to_string())
    };
    lay_out(run, task, &folder).map_err(setup)?;
    let variables = environment::variables(&run.allocation, task, &run.dir);
    let invalid = |what: String| {
        Failure::new("Failed Validation", "validation_error", "ValidationError", &what)
    };
    let config = environment::configured(&task["Config"], &variables).map_err(invalid)?;
    if task["Artifacts"].as_array().is_some_and(|all| !all.is_empty()) {
        let message = "Client is downloading artifacts";
        run.note(name, event("Downloading Artifacts", message, json!({}), json!({})));
        let failed = |what: String| {
            Failure::new("Failed Artifact Download", "download_error", "DownloadError", &what)
        };
        artifact::fetch_all(task, &variables, &folder).await.map_err(failed)?;
    }
    if run.stop.is_cancelled() {
        return Ok(Ended { code: 0, signal: 0 });
    }
    let logs = &task["LogConfig"];
    let log = |kind: &str| {
        let max_bytes = logs["MaxFileSizeMB"].as_u64().unwrap_or(10) << 20;
        let base = format!("{name}.{kind}");
        let max_files = logs["MaxFiles"].as_u64().unwrap_or(10);
        Rotation::open(&run.dir.join("alloc/logs"), &base, max_files, max_bytes).map_err(setup)
    };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let kill_timeout = Duration::from_nanos(task["KillTimeout"].as_u64().unwrap_or(0));
    let kill_signal = task["KillSignal"].as_str().and_then(|name| Signal::from_str(name).ok());
    let program = Program {
        allocation: run.allocation.id.clone(),
        command: text(&config["command"]).into(),
        args: config["args"].as_array().into_iter().flatten().map(text).collect(),
        environment: variables,
        folder: folder.clone(),
        kill_signal: kill_signal.unwrap_or(Signal::SIGINT),
        kill_timeout,
        stdout: log("stdout")?,
        stderr: log("stderr")?,
    };
    let failed =
        |what: String| Failure::new("Driver Failure", "driver_error", "DriverError", &what);
    let running = program.start().map_err(failed)?;
    run.started(name, event("Started", "Task started by client", json!({}), json!({})));
    let ended = running.ended(&run.stop, &run.at_once, || {
        let message = format!("Sent interrupt. Waiting {kill_timeout:?} before force killing");
        let details = json!({ "kill_timeout": format!("{kill_timeout:?}") });
        let fields = json!({ "KillTimeout": task["KillTimeout"] });
        run.note(name, event("Killing", &message, details, fields));
    });
    let ended = ended.await;
    let Ended { code, signal } = ended;
    let message = match signal {
        0 => format!("Exit Code: {code}"),
        _ => format!("Exit Code: {code}, Signal: {signal}"),
    };
    let details = json!({
        "exit_code": code.to_string(), "signal": signal.to_string(), "oom_killed": "false",
    });
    let fields = json!({ "ExitCode": code, "Signal": signal });
    run.note(name, event("Terminated", &message, details, fields));
    Ok(ended)
}

/// The folders that a task finds, and its payload.
fn lay_out(run: &Run, task: &Value, folder: &Path) -> std::io::Result<()> {
    for shared in ["data", "logs", "tmp"] {
        std::fs::create_dir_all(run.dir.join("alloc").join(shared))?;
    }
    for own in ["local", "secrets", "tmp"] {
        std::fs::create_dir_all(folder.join(own))?;
    }
    // Nomad's own mark that there is a file system of its own in it.
    std::fs::write(folder.join("secrets/.nomad-mount"), "")?;
    let payload = run.allocation.job.0["Payload"].as_str();
    let payload = payload.and_then(|payload| STANDARD.decode(payload).ok());
    if let (Some(payload), Some(file)) = (payload, task["DispatchPayload"]["File"].as_str()) {
        let file = folder.join("local").join(file);
        std::fs::write(&file, payload)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(file, mode)?;
    }
    Ok(())
}
