//! The shape of JSON: which keys there are, and of what kind their values.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Keys under which an object is a map of names: its members are alike, and any may be there.
const MAPS: [&str; 15] = [
    "Details",
    "Meta",
    "Drivers",
    "Attributes",
    "Scores",
    "Config",
    "Links",
    "Options",
    "Tags",
    "DimensionExhausted",
    "ChrootEnv",
    "NodesAvailable",
    "ClassEligibility",
    "runtime",
    "serf",
];

/// What the values at one place look like, over all that were seen there.
#[derive(Debug, Default, Clone)]
pub(super) struct Shape {
    kinds: BTreeSet<&'static str>,
    /// With whether each was there in every object.
    fields: BTreeMap<String, (Shape, bool)>,
    items: Option<Box<Shape>>,
}

impl Shape {
    pub(super) fn of(value: &Value) -> Shape {
        Shape::named("", value)
    }

    /// Of several values at the same place.
    pub(super) fn of_all<'a>(values: impl IntoIterator<Item = &'a Value>) -> Shape {
        values.into_iter().map(Shape::of).reduce(Shape::merge).unwrap_or_default()
    }

    fn named(key: &str, value: &Value) -> Shape {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let mut shape = Shape { kinds: BTreeSet::from([kind]), ..Shape::default() };
        match value {
            Value::Array(items) => {
                let items = items.iter().map(|item| Shape::named("", item));
                shape.items = items.reduce(Shape::merge).map(Box::new);
            }
            Value::Object(fields) if MAPS.contains(&key) => {
                let values = fields.values().map(|value| Shape::named("", value));
                let any = values.reduce(Shape::merge).map(|any| ("*".to_owned(), (any, false)));
                shape.fields = any.into_iter().collect();
            }
            Value::Object(fields) => {
                let field = |(key, value): (&String, &Value)| {
                    (key.clone(), (Shape::named(key, value), true))
                };
                shape.fields = fields.iter().map(field).collect();
            }
            _ => {}
        }
        shape
    }

    fn merge(mut self, other: Shape) -> Shape {
        let both = self.kinds.contains("object") && other.kinds.contains("object");
        self.kinds.extend(other.kinds);
        if both {
            for (key, (_, always)) in &mut self.fields {
                *always &= other.fields.contains_key(key);
            }
        }
        for (key, (shape, always)) in other.fields {
            let known = self.fields.remove(&key);
            let merged = match known {
                Some((known, known_always)) => (known.merge(shape), known_always && always),
                None => (shape, always && !both),
            };
            self.fields.insert(key, merged);
        }
        self.items = match (self.items, other.items) {
            (Some(one), Some(other)) => Some(Box::new(one.merge(*other))),
            (one, other) => one.or(other),
        };
        self
    }

    /// Where a live answer is not shaped like this recorded one: keys that were never there, that
    /// are missing though they were always there, and values of another kind.
    pub(super) fn differences(&self, live: &Shape, path: &str) -> Vec<String> {
        let mut found = Vec::new();
        for kind in live.kinds.difference(&self.kinds) {
            found.push(format!("{path}: {kind}, recorded as {:?}", self.kinds));
        }
        let both = self.kinds.contains("object") && live.kinds.contains("object");
        for (key, (shape, _)) in &live.fields {
            let path = format!("{path}.{key}");
            match self.fields.get(key) {
                Some((recorded, _)) => found.extend(recorded.differences(shape, &path)),
                // A map that was recorded empty tells nothing of its members.
                None if key == "*" || !both => {}
                None => found.push(format!("{path}: was not recorded")),
            }
        }
        if both {
            let always = self.fields.iter().filter(|(key, (_, always))| *always && *key != "*");
            for (key, _) in always {
                if !live.fields.get(key).is_some_and(|(_, always)| *always) {
                    found.push(format!("{path}.{key}: is missing"));
                }
            }
        }
        if let (Some(recorded), Some(live)) = (&self.items, &live.items) {
            found.extend(recorded.differences(live, &format!("{path}[]")));
        }
        found
    }
}

/// Fields of which the values are states, to be the same and in the same order.
const STATES: [&str; 15] = [
    "ClientStatus",
    "ClientDescription",
    "DesiredStatus",
    "DesiredDescription",
    "DisplayMessage",
    "Status",
    "StatusDescription",
    "State",
    "Failed",
    "TriggeredBy",
    "ExitCode",
    "Signal",
    "Stop",
    "Type",
    "FailsTask",
];

/// All states in a value, each with its name.
pub(super) fn states(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().flat_map(states).collect(),
        Value::Object(fields) => {
            // In the order of their names, since Go writes structs in that of its own.
            let sorted: BTreeMap<_, _> = fields.iter().collect();
            let of = |(key, value): (&String, &Value)| match value {
                Value::Array(_) | Value::Object(_) => states(value),
                _ if STATES.contains(&key.as_str()) => vec![format!("{key}={value}")],
                _ => Vec::new(),
            };
            sorted.into_iter().flat_map(of).collect()
        }
        _ => Vec::new(),
    }
}

#[test]
fn a_missing_key_another_key_and_another_kind_are_told() {
    use serde_json::json;
    let recorded =
        Shape::of(&json!([{ "a": 1, "b": null }, { "a": 2, "c": { "Meta": { "x": "y" } } }]));
    let same = Shape::of(&json!([{ "a": 3, "c": { "Meta": { "other": "z" } } }]));
    assert_eq!(recorded.differences(&same, ""), Vec::<String>::new());
    let other = Shape::of(&json!([{ "b": "text", "d": 1, "c": { "Meta": { "x": 1 } } }]));
    assert_eq!(recorded.differences(&other, "").len(), 4, "{:?}", recorded.differences(&other, ""));
}
