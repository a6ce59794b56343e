//! Fields of the Elastic Common Schema beside ours, so that rules and dashboards of others find what they look for.
//!
//! They are added on the way to a server: files have our fields alone. <https://www.elastic.co/guide/en/ecs/8.11>

use serde_json::{Map, Value, json};

/// The version of the schema.
const VERSION: &str = "8.11.0";

/// The record with these fields behind its own, which stay byte for byte as they are. What is no record stays whole.
pub(crate) fn with_ecs(line: &str, record: &Value) -> String {
    let fields = match record["kind"].as_str() {
        Some("Decision") => decision(record),
        Some("Change") => change(record),
        _ => return line.to_owned(),
    };
    match line.strip_suffix('}') {
        Some(ours) => format!("{ours},{}", Value::Object(fields).to_string().trim_start_matches('{')),
        None => line.to_owned(),
    }
}

fn decision(record: &Value) -> Map<String, Value> {
    let at = |pointer: &str| record.pointer(pointer).cloned().unwrap_or_default();
    let (success, action, of_web) = match record["outcome"].as_str() {
        Some("Permitted") => ("success", "request-permitted", "access"),
        Some("Denied") => ("failure", "request-denied", "access"),
        _ => ("failure", "request-failed", "error"),
    };
    let nanoseconds = record["duration_us"].as_u64().map(|us| us.saturating_mul(1000));
    let user = json!({"name": at("/identity/username"), "id": at("/identity/id"), "roles": at("/identity/roles")});
    let status = record["status"].as_u64().filter(|status| *status > 0);
    filled(json!({
        "ecs": {"version": VERSION},
        "event": {
            "kind": "event", "module": "idm", "dataset": "idm.decision", "category": ["authentication", "web"],
            "type": [of_web, "info"], "outcome": success, "action": action, "reason": at("/reason"),
            "duration": nanoseconds,
        },
        "user": user,
        "source": {"ip": at("/request/source")},
        "http": {"request": {"method": at("/request/method")}, "response": {"status_code": status}},
        "url": {"domain": at("/request/host"), "path": at("/request/path")},
        "rule": {"name": at("/policy/rule"), "ruleset": at("/policy/name")},
        "related": {"user": present([at("/identity/username"), at("/identity/id")]),
            "ip": present([at("/request/source")])},
        "observer": {"name": at("/gateway"), "product": "idm", "type": "gateway"},
        "orchestrator": {"namespace": at("/namespace")},
    }))
}

fn change(record: &Value) -> Map<String, Value> {
    let at = |pointer: &str| record.pointer(pointer).cloned().unwrap_or_default();
    let kind = match record["action"].as_str() {
        Some("Created") => "creation",
        Some("Deleted") => "deletion",
        Some("Updated") => "change",
        _ => "info",
    };
    let names = record.pointer("/by/names").and_then(Value::as_array).cloned().unwrap_or_default();
    filled(json!({
        "ecs": {"version": VERSION},
        "event": {
            "kind": "event", "module": "idm", "dataset": "idm.change", "category": ["configuration", "iam"],
            "type": [kind], "outcome": "success", "action": format!("object-{kind}"),
        },
        "user": {"name": at("/actor"), "id": at("/by/uid")},
        "related": {"user": names},
        "orchestrator": {
            "type": "kubernetes", "namespace": at("/object/namespace"),
            "resource": {"type": at("/object/kind"), "name": at("/object/name"), "id": at("/object/uid")},
        },
    }))
}

fn present<const N: usize>(values: [Value; N]) -> Vec<Value> {
    values.into_iter().filter(|value| value.as_str().is_some_and(|text| !text.is_empty())).collect()
}

/// The members that say something.
fn filled(value: Value) -> Map<String, Value> {
    let Value::Object(members) = value else { return Map::new() };
    let some = |(name, value): (String, Value)| {
        let value = if value.is_object() { Value::Object(filled(value)) } else { value };
        let is_empty = match &value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(members) => members.is_empty(),
            Value::Bool(_) | Value::Number(_) => false,
        };
        (!is_empty).then_some((name, value))
    };
    members.into_iter().filter_map(some).collect()
}

/// The types of these fields.
pub(crate) fn mapping() -> Map<String, Value> {
    let keyword = json!({"type": "keyword", "ignore_above": 1024});
    let of = |names: &[&str]| -> Value {
        json!({"properties": names.iter().map(|name| ((*name).to_owned(), keyword.clone())).collect::<Map<_, _>>()})
    };
    let mut event = of(&["kind", "module", "dataset", "category", "type", "outcome", "action", "reason"]);
    event["properties"]["duration"] = json!({"type": "long"});
    let mut orchestrator = of(&["type", "namespace"]);
    orchestrator["properties"]["resource"] = of(&["type", "name", "id"]);
    let mut related = of(&["user"]);
    related["properties"]["ip"] = json!({"type": "ip"});
    let http = json!({"properties": {
        "request": of(&["method"]), "response": {"properties": {"status_code": {"type": "long"}}},
    }});
    let fields = [
        ("ecs", of(&["version"])),
        ("event", event),
        ("user", of(&["name", "id", "roles"])),
        ("source", json!({"properties": {"ip": {"type": "ip"}}})),
        ("http", http),
        ("url", of(&["domain", "path"])),
        ("rule", of(&["name", "ruleset"])),
        ("related", related),
        ("observer", of(&["name", "product", "type"])),
        ("orchestrator", orchestrator),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests;
