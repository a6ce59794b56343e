//! Writes a record for every change of our own kinds, by any author.

use idm_audit::{Action, Change, ObjectName, Record, SCHEMA, SpoolHandle};
use idm_types::{DecisionId, Timestamp};
use kube::ResourceExt;
use kube::core::DynamicObject;
use serde_json::Value;

use crate::objects::Kind;
use crate::watch::Seen;

const MAX_DIFF: usize = 100;
const MAX_VALUE: usize = 200;

/// Writes the record of a change, if it is one. What was listed at start is recorded only when no
/// operator processed it before; the id makes a repetition the same record.
pub(crate) fn record(seen: &Seen, spool_handle: &SpoolHandle, now: Timestamp) {
    if !Kind::OURS.contains(&seen.kind) {
        return;
    }
    let (action, object) = match (&seen.before, &seen.now) {
        (Some(before), Some(after))
            if before.uid() == after.uid() && before.metadata.generation == after.metadata.generation =>
        {
            return;
        }
        (Some(before), Some(after)) if before.uid() == after.uid() => (Action::Updated, after),
        (_, Some(after))
            if seen.initial
                && after.data.pointer("/status/observedGeneration").and_then(Value::as_i64)
                    == after.metadata.generation =>
        {
            return;
        }
        (_, Some(after)) => (Action::Created, after),
        (Some(before), None) => (Action::Deleted, before),
        (None, None) => return,
    };
    let mut diff = Vec::new();
    let empty = Value::Null;
    let before = seen.before.as_ref().filter(|before| before.uid() == object.uid() && action != Action::Created);
    let old = before.and_then(|o| o.data.get("spec")).unwrap_or(&empty);
    let new = if action == Action::Deleted { &empty } else { object.data.get("spec").unwrap_or(&empty) };
    compare("spec", old, new, &mut diff);
    let uid = object.uid().unwrap_or_default();
    let generation = object.metadata.generation.unwrap_or(0);
    let record = Record::Change(Change {
        time: now,
        id: &change_id(object, &uid, generation, action),
        schema: SCHEMA,
        action,
        object: ObjectName {
            kind: seen.kind.name(),
            namespace: &object.namespace().unwrap_or_default(),
            name: &object.name_any(),
            uid: &uid,
            generation,
        },
        // A deletion leaves no field manager in the object.
        actor: &if action == Action::Deleted { "unknown".to_owned() } else { actor(object) },
        diff: &diff,
    });
    spool_handle.record(&record);
    spool_handle.flush();
}

/// The same change has the same id, for every observer and each time: its time is the object's own, its randomness a
/// hash of uid, generation and action.
fn change_id(object: &DynamicObject, uid: &str, generation: i64, action: Action) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, uid, generation, action as u8).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    let millis = object.metadata.creation_timestamp.as_ref().map_or(0, |t| t.0.as_millisecond().max(0) as u64);
    DecisionId::from_parts(millis, half(0) << 64 | half(1)).to_string()
}

/// The last writer of the spec. The API server shows the field manager to watchers, not the person.
fn actor(object: &DynamicObject) -> String {
    let spec_writers = object.managed_fields().iter().filter(|entry| entry.subresource.is_none());
    let last = spec_writers.max_by_key(|entry| entry.time.as_ref().map(|time| time.0));
    last.and_then(|entry| entry.manager.clone())
        .map_or_else(|| "unknown".to_owned(), |manager| format!("unknown ({manager})"))
}

fn compare(path: &str, old: &Value, new: &Value, out: &mut Vec<String>) {
    if old == new || out.len() >= MAX_DIFF {
        return;
    }
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            let mut names: Vec<_> = a.keys().chain(b.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                compare(
                    &format!("{path}.{name}"),
                    a.get(name).unwrap_or(&Value::Null),
                    b.get(name).unwrap_or(&Value::Null),
                    out,
                );
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            for i in 0..a.len().max(b.len()) {
                compare(
                    &format!("{path}[{i}]"),
                    a.get(i).unwrap_or(&Value::Null),
                    b.get(i).unwrap_or(&Value::Null),
                    out,
                );
            }
        }
        _ => out.push(format!("{path}: {} -> {}", short(old), short(new))),
    }
}

fn short(value: &Value) -> String {
    if value.is_null() {
        return "(none)".to_owned();
    }
    let text = value.to_string();
    match text.char_indices().nth(MAX_VALUE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_diff_names_the_fields() {
        let mut out = Vec::new();
        compare(
            "spec",
            &json!({"a": 1, "b": [1, 2], "c": {"d": true}}),
            &json!({"a": 2, "b": [1], "c": {"d": true}}),
            &mut out,
        );
        assert_eq!(out, ["spec.a: 1 -> 2", "spec.b[1]: 2 -> (none)"]);
    }
}
