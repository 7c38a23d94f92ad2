//! A Nomad, a job made of shell lines, and what a test wants to know of its children.

use std::{sync::Arc, time::Duration};

use super::*;

/// How long anything may take.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);

pub(super) struct Bench {
    pub(super) nomad: Arc<Nomad>,
    pub(super) client: reqwest::Client,
}

impl Bench {
    /// With a Nomad of one's own, whichever tests run against.
    pub(super) async fn own(options: Options) -> Bench {
        Bench::with(Arc::new(Nomad::own(options).await))
    }

    /// With the Nomad that tests share.
    pub(super) async fn shared() -> Bench {
        Bench::with(Nomad::shared().await)
    }

    /// With the stand-in.
    pub(super) async fn stand_in(options: Options) -> Bench {
        Bench::with(Arc::new(Nomad::stand_in(options).await))
    }

    fn with(nomad: Arc<Nomad>) -> Bench {
        Bench { nomad, client: reqwest::Client::new() }
    }

    /// Registers a job of one shell script, with a change to its only task.
    pub(super) async fn register(&self, name: &str, script: &str, more: Value) {
        let mut task = json!({
            "Name": "main", "Driver": "raw_exec",
            "Config": { "command": "/bin/sh", "args": ["-c", script] },
            "DispatchPayload": { "File": "request" }, "KillTimeout": 1_000_000_000,
            "LogConfig": { "MaxFiles": 2, "MaxFileSizeMB": 1 },
            "Resources": { "CPU": 20, "MemoryMB": 32 },
        });
        for (field, value) in more.as_object().into_iter().flatten() {
            task[field] = value.clone();
        }
        let job = json!({ "Job": {
            "ID": name, "Name": name, "Type": "batch", "Datacenters": ["dc1"],
            "ParameterizedJob": { "Payload": "optional", "MetaOptional": ["a-key"] },
            "TaskGroups": [{
                "Name": "run", "EphemeralDisk": { "SizeMB": 10 }, "Tasks": [task],
                "RestartPolicy": { "Attempts": 0, "Mode": "fail" },
                "ReschedulePolicy": { "Attempts": 0, "Unlimited": false },
            }],
        }});
        self.ask(Method::PUT, "/v1/jobs", Some(job)).await;
    }

    /// Registers a job and dispatches it once; returns the child's id.
    pub(super) async fn run(&self, name: &str, script: &str) -> String {
        self.register(name, script, Value::Null).await;
        self.dispatch(name).await
    }

    pub(super) async fn dispatch(&self, name: &str) -> String {
        let body = json!({ "Payload": "aGVsbG8K", "Meta": { "a-key": "value" } });
        let made = self.ask(Method::PUT, &format!("/v1/job/{name}/dispatch"), Some(body)).await;
        made["DispatchedJobID"].as_str().unwrap().to_owned()
    }

    /// What is answered with a success.
    pub(super) async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let (status, text) = self.answer(method, path, body).await;
        assert!(status < 300, "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    }

    pub(super) async fn get(&self, path: &str) -> Value {
        self.ask(Method::GET, path, None).await
    }

    /// What is answered in any case.
    pub(super) async fn answer(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (u16, String) {
        let url = format!("{}{path}", self.nomad.address());
        let mut request = self.client.request(method, url);
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// The child's allocations, oldest first.
    pub(super) async fn allocations(&self, child: &str) -> Vec<Value> {
        let all = self.get(&format!("/v1/job/{child}/allocations")).await;
        let mut all = all.as_array().unwrap().clone();
        all.sort_by_key(|each| each["CreateIndex"].as_u64());
        all
    }

    /// Waits until this holds for the child's newest allocation, and returns it.
    pub(super) async fn until(&self, child: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let begun = std::time::Instant::now();
        loop {
            let newest = self.allocations(child).await.pop();
            if let Some(newest) = newest.as_ref().filter(|newest| holds(newest)) {
                return newest.clone();
            }
            assert!(begun.elapsed() < DEADLINE, "{child}: still {newest:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(super) async fn until_status(&self, child: &str, status: &str) -> Value {
        self.until(child, |newest| newest["ClientStatus"] == status).await
    }

    /// Waits until this holds for what a child's task wrote: a log that is asked for early is not
    /// there yet, or not whole.
    pub(super) async fn until_stdout(
        &self,
        allocation: &Value,
        holds: impl Fn(&str) -> bool,
    ) -> String {
        let begun = std::time::Instant::now();
        loop {
            let output = self.stdout(allocation).await;
            if holds(&output) {
                return output;
            }
            assert!(begun.elapsed() < DEADLINE, "still {output:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What a child's task wrote.
    pub(super) async fn stdout(&self, allocation: &Value) -> String {
        let id = allocation["ID"].as_str().unwrap();
        let path = format!("/v1/client/fs/logs/{id}?task=main&type=stdout&plain=true");
        self.answer(Method::GET, &path, None).await.1
    }
}

/// The event of this type, of a task's.
pub(super) fn event<'a>(allocation: &'a Value, kind: &str) -> Option<&'a Value> {
    let events = allocation["TaskStates"]["main"]["Events"].as_array()?;
    events.iter().find(|event| event["Type"] == kind)
}

/// Whether a process of this id runs.
pub(super) fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}
