//! Versions of objects, and the difference between two: everything without what only the API server and the operator
//! write, so that a new status is no new version.

use idm_types::hex;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::text;
use crate::failure::FieldConflict;

/// The annotation that kubectl notes for itself, which is nobody's text.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The object as people write it.
pub(super) fn plain(object: &Value) -> Value {
    let metadata = &object["metadata"];
    let mut kept = Map::new();
    for name in ["name", "namespace", "labels", "annotations"] {
        let mut value = metadata[name].clone();
        if let Some(annotations) = value.as_object_mut().filter(|_| name == "annotations") {
            annotations.remove(LAST_APPLIED);
        }
        let is_empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
        if !is_empty {
            kept.insert(name.to_owned(), value);
        }
    }
    json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": kept, "spec": object["spec"]})
}

/// The version of an object: its content, and the second of its newest change by a writer of content.
pub(super) fn version(object: &Value) -> String {
    let content = json!([object["metadata"]["uid"], plain(object)]);
    let digest = Sha256::digest(content.to_string());
    let digest = hex(&digest);
    let newest = writers(object).map(|(time, _)| time).max().unwrap_or_default();
    let newest: String = newest.chars().filter(char::is_ascii_digit).take(14).collect();
    format!("{}-{newest}", digest.get(..32).unwrap_or_default())
}

/// Whether two versions are of the same content.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    let content = |version: &str| version.split('-').next().unwrap_or_default().to_owned();
    content(one) == content(other)
}

/// Times and entries of those who wrote content.
fn writers(object: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    entries.filter(|entry| entry["subresource"].is_null()).map(|entry| (text(entry, "/time"), entry))
}

/// The difference from one object to another as a merge patch (RFC 7396); an empty one is none.
pub(super) fn patch(old: &Value, new: &Value) -> Value {
    let (Some(before), Some(after)) = (old.as_object(), new.as_object()) else { return new.clone() };
    let mut patch = Map::new();
    for (name, value) in after {
        match before.get(name) {
            Some(known) if known == value => {}
            Some(known) if known.is_object() && value.is_object() => {
                patch.insert(name.clone(), self::patch(known, value));
            }
            _ => {
                patch.insert(name.clone(), value.clone());
            }
        }
    }
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    Value::Object(patch)
}

/// Whether a merge patch changes nothing.
pub(super) fn is_empty(patch: &Value) -> bool {
    patch.as_object().is_some_and(Map::is_empty)
}

/// The fields that a merge patch changes.
pub(super) fn fields(patch: &Value) -> Vec<String> {
    fn walk(value: &Value, at: &str, out: &mut Vec<String>) {
        match value.as_object().filter(|members| !members.is_empty()) {
            Some(members) => members.iter().for_each(|(name, value)| {
                let name = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                walk(value, &name, out);
            }),
            None => out.push(at.to_owned()),
        }
    }
    let mut out = Vec::new();
    walk(patch, "", &mut out);
    out
}

/// The fields in which a draft differs from the object and which somebody wrote after the draft's version was read,
/// each with the writer.
pub(super) fn conflicts(object: &Value, patch: &Value, version: &str) -> Vec<FieldConflict> {
    let read = version.split_once('-').map(|(_, time)| time).unwrap_or_default();
    let digits = |time: &str| time.chars().filter(char::is_ascii_digit).take(14).collect::<String>();
    let newer: Vec<_> = writers(object).filter(|(time, _)| digits(time).as_str() >= read).collect();
    let of = |field: String| {
        let (_, entry) = newer.iter().find(|(_, entry)| owns(&entry["fieldsV1"], &field))?;
        let manager = idm_types::visible(text(entry, "/manager")).into_owned();
        Some(FieldConflict { field: idm_types::visible(&field).into_owned(), manager })
    };
    fields(patch).into_iter().filter_map(of).collect()
}

/// Whether a set of fields has this one, or something in it.
fn owns(fields: &Value, path: &str) -> bool {
    let mut at = fields;
    for name in path.split('.') {
        match at.get(format!("f:{name}")) {
            Some(next) => at = next,
            // A field is owned with what it is in, where that is one value.
            None => return at.as_object().is_some_and(Map::is_empty) && at != fields,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(spec: Value) -> Value {
        json!({
            "apiVersion": "identity-manager.io/v1alpha1", "kind": "Credential",
            "metadata": {"name": "a", "namespace": "shop", "uid": "u", "resourceVersion": "7",
                "annotations": {LAST_APPLIED: "{}", "note": "kept"},
                "managedFields": [
                    {"manager": "kubectl-edit", "time": "2027-01-01T00:00:09Z",
                        "fieldsV1": {"f:spec": {"f:owner": {"f:user": {}}}}},
                    {"manager": "idm-operator", "subresource": "status", "time": "2027-01-02T00:00:00Z"},
                ]},
            "spec": spec, "status": {"conditions": []},
        })
    }

    #[test]
    fn a_status_is_no_new_version_and_a_field_is() {
        let old = object(json!({"apiKey": {}}));
        let mut status = old.clone();
        status["status"] = json!({"prefix": "x"});
        status["metadata"]["resourceVersion"] = "8".into();
        assert!(is_same(&version(&old), &version(&status)));
        assert!(!is_same(&version(&old), &version(&object(json!({"apiKey": {}, "suspend": true})))));
        assert!(version(&old).ends_with("-20270101000009"), "{}", version(&old));
        assert_eq!(plain(&old)["metadata"]["annotations"], json!({"note": "kept"}));
        assert!(plain(&old).get("status").is_none());
    }

    #[test]
    fn a_patch_has_what_changed_and_nothing_else() {
        let old = json!({"a": 1, "b": {"c": 1, "d": [1]}, "gone": {"x": 1}});
        let new = json!({"a": 1, "b": {"c": 2, "d": [1, 2]}, "new": {"y": {}}});
        let made = patch(&old, &new);
        assert_eq!(made, json!({"b": {"c": 2, "d": [1, 2]}, "new": {"y": {}}, "gone": null}));
        assert_eq!(fields(&made), ["b.c", "b.d", "gone", "new.y"]);
        assert!(is_empty(&patch(&old, &old)));
    }

    #[test]
    fn a_conflict_is_a_field_that_somebody_wrote_meanwhile() {
        let now = object(json!({"owner": {"user": "bob"}, "suspend": true}));
        let mut draft = plain(&now);
        draft["spec"] = json!({"owner": {"user": "ana"}, "suspend": false});
        let made = patch(&plain(&now), &draft);
        let conflict = FieldConflict { field: "spec.owner.user".into(), manager: "kubectl-edit".into() };
        assert_eq!(conflicts(&now, &made, "x-20270101000005"), [conflict]);
        assert_eq!(conflicts(&now, &made, "x-20270101000010"), []);
    }
}
