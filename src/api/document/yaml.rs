//! JSON values as YAML.

use serde_json::Value;

/// Writes block YAML whose scalars and keys are JSON, which every YAML 1.2 reader takes.
pub(super) fn write_yaml(value: &Value, depth: usize, text: &mut String) {
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
    use serde_json::json;

    use super::*;

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
