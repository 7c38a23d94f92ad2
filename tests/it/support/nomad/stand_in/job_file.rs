//! From a job file to the JSON of the same job.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::hcl::{self, Block, Body, Complaint, Expression};

type Variables = BTreeMap<String, Value>;

/// The job that a file describes, without defaults.
pub(super) fn job(text: &str) -> Result<Value, Complaint> {
    let file = hcl::read(text)?;
    let mut variables = Variables::new();
    for block in file.blocks.iter().filter(|block| block.kind == "variable") {
        let default = block.body.attributes.iter().find(|(name, _)| name == "default");
        let Some((_, default)) = default else {
            return Err(format!("Missing value for variable {:?}", block.labels));
        };
        let value = value(default, &Variables::new())?;
        variables.insert(block.labels.concat(), value);
    }
    let Some(job) = file.blocks.iter().find(|block| block.kind == "job") else {
        return Err("'job' stanza not found".to_owned());
    };
    let id = label(job);
    let mut whole = object(&job.body, &variables, JOB)?;
    whole.insert("ID".to_owned(), json!(id));
    whole.insert("Name".to_owned(), json!(id));
    Ok(Value::Object(whole))
}

/// How an attribute or a block is named in JSON, and what it becomes there.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// As it is.
    Plain(&'static str),
    /// A time like `5s`, in nanoseconds.
    Time(&'static str),
    /// A block that is there once at the most.
    One(&'static str, &'static [(&'static str, Kind)]),
    /// A block that may be there several times, its label under this key.
    Many(&'static str, &'static str, &'static [(&'static str, Kind)]),
    /// A block or a map of any keys.
    Free(&'static str),
}

use Kind::{Free, Many, One, Plain, Time};

const CONSTRAINT: &[(&str, Kind)] =
    &[("attribute", Plain("LTarget")), ("operator", Plain("Operand")), ("value", Plain("RTarget"))];

const JOB: &[(&str, Kind)] = &[
    ("type", Plain("Type")),
    ("datacenters", Plain("Datacenters")),
    ("namespace", Plain("Namespace")),
    ("region", Plain("Region")),
    ("priority", Plain("Priority")),
    ("meta", Free("Meta")),
    ("constraint", Many("Constraints", "", CONSTRAINT)),
    (
        "parameterized",
        One(
            "ParameterizedJob",
            &[
                ("payload", Plain("Payload")),
                ("meta_optional", Plain("MetaOptional")),
                ("meta_required", Plain("MetaRequired")),
            ],
        ),
    ),
    ("group", Many("TaskGroups", "Name", GROUP)),
];

const GROUP: &[(&str, Kind)] = &[
    ("count", Plain("Count")),
    ("meta", Free("Meta")),
    ("constraint", Many("Constraints", "", CONSTRAINT)),
    (
        "restart",
        One(
            "RestartPolicy",
            &[
                ("attempts", Plain("Attempts")),
                ("mode", Plain("Mode")),
                ("delay", Time("Delay")),
                ("interval", Time("Interval")),
            ],
        ),
    ),
    (
        "reschedule",
        One(
            "ReschedulePolicy",
            &[
                ("attempts", Plain("Attempts")),
                ("unlimited", Plain("Unlimited")),
                ("delay", Time("Delay")),
                ("interval", Time("Interval")),
            ],
        ),
    ),
    (
        "ephemeral_disk",
        One(
            "EphemeralDisk",
            &[
                ("size", Plain("SizeMB")),
                ("migrate", Plain("Migrate")),
                ("sticky", Plain("Sticky")),
            ],
        ),
    ),
    ("task", Many("Tasks", "Name", TASK)),
];

const TASK: &[(&str, Kind)] = &[
    ("driver", Plain("Driver")),
    ("user", Plain("User")),
    ("leader", Plain("Leader")),
    ("kill_signal", Plain("KillSignal")),
    ("kill_timeout", Time("KillTimeout")),
    ("config", Free("Config")),
    ("env", Free("Env")),
    ("meta", Free("Meta")),
    ("constraint", Many("Constraints", "", CONSTRAINT)),
    ("dispatch_payload", One("DispatchPayload", &[("file", Plain("File"))])),
    (
        "logs",
        One(
            "LogConfig",
            &[("max_files", Plain("MaxFiles")), ("max_file_size", Plain("MaxFileSizeMB"))],
        ),
    ),
    (
        "resources",
        One(
            "Resources",
            &[
                ("cpu", Plain("CPU")),
                ("cores", Plain("Cores")),
                ("memory", Plain("MemoryMB")),
                ("memory_max", Plain("MemoryMaxMB")),
            ],
        ),
    ),
    (
        "artifact",
        Many(
            "Artifacts",
            "",
            &[
                ("source", Plain("GetterSource")),
                ("destination", Plain("RelativeDest")),
                ("mode", Plain("GetterMode")),
                ("options", Free("GetterOptions")),
                ("headers", Free("GetterHeaders")),
            ],
        ),
    ),
];

fn object(
    body: &Body,
    variables: &Variables,
    known: &[(&str, Kind)],
) -> Result<Map<String, Value>, Complaint> {
    let mut object = Map::new();
    let kind_of = |name: &str| {
        let kind = known.iter().find(|(each, _)| *each == name).map(|(_, kind)| *kind);
        kind.ok_or_else(|| {
            format!(
                "Unsupported argument; An argument named \"{name}\" is not expected here, or is \
                 beyond the stand-in for Nomad."
            )
        })
    };
    for (name, expression) in &body.attributes {
        let value = value(expression, variables)?;
        match kind_of(name)? {
            Plain(key) | Free(key) => object.insert(key.to_owned(), value),
            Time(key) => object.insert(key.to_owned(), json!(nanoseconds(&value)?)),
            One(..) | Many(..) => return Err(format!("\"{name}\" is a block")),
        };
    }
    for block in &body.blocks {
        match kind_of(&block.kind)? {
            Free(key) => {
                object.insert(key.to_owned(), Value::Object(free(&block.body, variables)?));
            }
            One(key, inner) => {
                let inner = self::object(&block.body, variables, inner)?;
                object.insert(key.to_owned(), Value::Object(inner));
            }
            Many(key, named, inner) => {
                let mut inner = self::object(&block.body, variables, inner)?;
                if !named.is_empty() {
                    inner.insert(named.to_owned(), json!(label(block)));
                }
                let list = object.entry(key).or_insert_with(|| json!([]));
                list.as_array_mut().expect("it was made so").push(Value::Object(inner));
            }
            Plain(_) | Time(_) => return Err(format!("\"{}\" is no block", block.kind)),
        }
    }
    Ok(object)
}

/// Any keys; blocks in it are lists, since they may be there several times.
fn free(body: &Body, variables: &Variables) -> Result<Map<String, Value>, Complaint> {
    let mut object = Map::new();
    for (name, expression) in &body.attributes {
        object.insert(name.clone(), value(expression, variables)?);
    }
    for block in &body.blocks {
        let inner = free(&block.body, variables)?;
        let list = object.entry(&block.kind).or_insert_with(|| json!([]));
        let list = list.as_array_mut().ok_or_else(|| format!("{} twice", block.kind))?;
        list.push(Value::Object(inner));
    }
    Ok(object)
}

fn label(block: &Block) -> &str {
    block.labels.first().map_or("", String::as_str)
}

fn value(expression: &Expression, variables: &Variables) -> Result<Value, Complaint> {
    Ok(match expression {
        Expression::Literal(value) => value.clone(),
        Expression::Text(text) => text_value(text, variables)?,
        Expression::Name(name) => variable(name, variables)?,
        Expression::List(items) => {
            items.iter().map(|item| value(item, variables)).collect::<Result<_, _>>()?
        }
        Expression::Map(entries) => {
            let entry = |(key, each): &(String, Expression)| {
                value(each, variables).map(|value| (key.clone(), value))
            };
            Value::Object(entries.iter().map(entry).collect::<Result<_, _>>()?)
        }
    })
}

fn variable(name: &str, variables: &Variables) -> Result<Value, Complaint> {
    let known = name.strip_prefix("var.").and_then(|name| variables.get(name));
    known.cloned().ok_or_else(|| {
        format!("Unknown variable; There is no variable named \"{name}\" for the stand-in.")
    })
}

/// Puts variables in; what else is in `${...}` is for the node.
fn text_value(text: &str, variables: &Variables) -> Result<Value, Complaint> {
    let mut whole = String::new();
    let mut rest = text;
    while let Some(begin) = rest.find("${var.") {
        let Some(end) = rest[begin..].find('}') else { break };
        whole.push_str(&rest[..begin]);
        match variable(rest[begin + 2..begin + end].trim(), variables)? {
            Value::String(text) => whole.push_str(&text),
            other => whole.push_str(&other.to_string()),
        }
        rest = &rest[begin + end + 1..];
    }
    whole.push_str(rest);
    Ok(whole.into())
}

fn nanoseconds(value: &Value) -> Result<u64, Complaint> {
    let text = value.as_str().unwrap_or_default();
    super::exchange::duration(text)
        .map(|duration| duration.as_nanos() as u64)
        .ok_or_else(|| format!("time: invalid duration {value}"))
}

#[test]
fn variables_are_put_in_and_other_interpolations_are_left() {
    let file = r#"
        variable "where" { default = ["dc1", "dc2"] }
        variable "port" { default = 80 }
        job "j" {
          datacenters = var.where
          group "g" {
            task "t" {
              driver = "docker"
              kill_timeout = "1m30s"
              config {
                args = ["${var.port}:${NOMAD_META_x}"]
                mount { type = "bind" }
                mount { type = "tmpfs" }
              }
            }
          }
        }"#;
    let job = job(file).unwrap();
    assert_eq!(job["ID"], "j");
    assert_eq!(job["Datacenters"], json!(["dc1", "dc2"]));
    let task = &job["TaskGroups"][0]["Tasks"][0];
    assert_eq!(task["Config"]["args"], json!(["80:${NOMAD_META_x}"]));
    assert_eq!(task["Config"]["mount"], json!([{ "type": "bind" }, { "type": "tmpfs" }]));
    assert_eq!(task["KillTimeout"], 90_000_000_000u64);
    assert!(self::job("job \"j\" { colour = 1 }").unwrap_err().contains("colour"));
}
