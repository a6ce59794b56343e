//! The part of an object whose changes are on record, and its digest.
//!
//! That is the spec, labels, annotations, finalizers, owners, and whether the object is being deleted. Status, field
//! managers and the copy of the object that `kubectl apply` keeps in an annotation are none of it.

use kube::core::DynamicObject;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// The annotation in which `kubectl apply` keeps the object as it was applied: it may hold what the object never had.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The first half of a SHA-256 hash.
pub type Digest = [u8; 16];

/// The recorded part of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Content(Value);

impl Content {
    /// Of an object of a watch.
    pub fn of(object: &DynamicObject) -> Self {
        let metadata = serde_json::to_value(&object.metadata).unwrap_or_default();
        Self::read(&metadata, object.data.get("spec"))
    }

    /// Of an object as JSON, as an admission request has it.
    pub fn of_json(object: &Value) -> Self {
        Self::read(&object["metadata"], object.get("spec"))
    }

    fn read(metadata: &Value, spec: Option<&Value>) -> Self {
        let mut kept = Map::new();
        for name in ["labels", "annotations", "finalizers", "ownerReferences"] {
            let mut value = metadata[name].clone();
            if let Some(annotations) = value.as_object_mut() {
                annotations.remove(LAST_APPLIED);
            }
            let is_empty = match &value {
                Value::Object(members) => members.is_empty(),
                Value::Array(items) => items.is_empty(),
                other => other.is_null(),
            };
            if !is_empty {
                kept.insert(name.to_owned(), value);
            }
        }
        if !metadata["deletionTimestamp"].is_null() {
            kept.insert("deletionRequested".into(), json!(true));
        }
        Self(json!({"metadata": kept, "spec": spec.cloned().unwrap_or_default()}))
    }

    /// As JSON: `metadata` and `spec`.
    pub fn value(&self) -> &Value {
        &self.0
    }

    /// Somebody asked for the object's deletion, and finalizers still hold it.
    pub fn is_ending(&self) -> bool {
        self.0["metadata"]["deletionRequested"] == true
    }

    /// No finalizer holds the object.
    pub fn is_free(&self) -> bool {
        self.0["metadata"]["finalizers"].is_null()
    }

    /// The same for equal contents, whatever the order of members, in every version of the operator.
    pub fn digest(&self) -> Digest {
        let mut text = Vec::new();
        write(&self.0, &mut text);
        hash(&[&text])
    }
}

/// Hashes parts so that no other parts give the same.
pub fn hash(parts: &[&[u8]]) -> Digest {
    let mut context = Sha256::new();
    for part in parts {
        context.update((part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut half = Digest::default();
    half.iter_mut().zip(context.finalize()).for_each(|(to, from)| *to = from);
    half
}

/// JSON with its members in order.
fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by_key(|(name, _)| *name);
            out.push(b'{');
            for (name, value) in sorted {
                out.extend(Value::String(name.clone()).to_string().as_bytes());
                out.push(b':');
                write(value, out);
                out.push(b',');
            }
            out.push(b'}');
        }
        Value::Array(items) => {
            out.push(b'[');
            for item in items {
                write(item, out);
                out.push(b',');
            }
            out.push(b']');
        }
        leaf => out.extend(leaf.to_string().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bookkeeping_is_no_change_and_everything_else_is_one() {
        let object =
            json!({"metadata": {"uid": "u", "labels": {"a": "b"}}, "spec": {"a": 1, "b": 2}, "status": {"x": 1}});
        let base = Content::of_json(&object).digest();
        let with = |pointer: &str, value: Value| {
            let mut other = object.clone();
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            other.pointer_mut(parent).unwrap()[name] = value;
            Content::of_json(&other).digest()
        };
        for (pointer, value) in [
            ("/metadata/resourceVersion", json!("7")),
            ("/metadata/generation", json!(7)),
            ("/metadata/managedFields", json!([{"manager": "x"}])),
            ("/metadata/annotations", json!({LAST_APPLIED: "{}"})),
            ("/metadata/annotations", json!({})),
            ("/metadata/finalizers", json!([])),
            ("/status", json!({"y": 1})),
            ("/spec", json!({"b": 2, "a": 1})),
        ] {
            assert_eq!(with(pointer, value), base, "{pointer}");
        }
        for (pointer, value) in [
            ("/metadata/labels", json!({})),
            ("/metadata/labels/a", json!("c")),
            ("/metadata/annotations", json!({"a": ""})),
            ("/metadata/finalizers", json!(["x"])),
            ("/metadata/ownerReferences", json!([{"uid": "x"}])),
            ("/metadata/deletionTimestamp", json!("2027-01-01T00:00:00Z")),
            ("/spec/a", json!("1")),
            ("/spec/c", json!(null)),
        ] {
            assert_ne!(with(pointer, value), base, "{pointer}");
        }
    }

    /// Ids of records are made of it: an upgrade must not change it.
    #[test]
    fn the_digest_is_fixed() {
        let content =
            Content::of_json(&json!({"metadata": {"labels": {"b": "c"}}, "spec": {"z": [1, "ä"], "a": null}}));
        assert_eq!(idm_types::hex(&content.digest()), "06239e453356d25d65a80bac7c437852");
    }
}
