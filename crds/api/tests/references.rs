//! The fields that refer to other objects, as the schemas have them: no list of them is kept by hand.
//!
//! Each one that names a Secret or a ConfigMap is read by `refer`, so that operator and folder provide it; and none can
//! name an object of another namespace: such a reference is not read, by no kind.

use std::collections::BTreeSet;

use idm_api::v1alpha1::{CredentialSpec, FederationSpec, IdentityPolicySpec, References, ReferredNames};
use serde_json::{Map, Value, json};

/// References to kinds of ours, which are looked up by name among the objects of the namespace.
const TO_OURS: [&str; 3] = ["federationRef", "federationRefs", "tokenServiceRef"];

/// The schemas of the specs of all kinds.
fn schemas() -> Vec<(String, Value)> {
    let all = idm_api::crds().into_iter().map(|definition| {
        let kind = definition.spec.names.kind.clone();
        let definition = serde_json::to_value(definition).unwrap();
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        (kind, schema["properties"]["spec"].clone())
    });
    all.collect()
}

/// The paths of all references below a schema; `[]` is an element of a list.
fn references(schema: &Value, path: &[String], found: &mut Vec<Vec<String>>) {
    let at = |name: &str| path.iter().cloned().chain([name.to_owned()]).collect::<Vec<_>>();
    if schema["items"].is_object() {
        references(&schema["items"], &at("[]"), found);
    }
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        if name.ends_with("Ref") {
            found.push(at(name));
        } else if name.ends_with("Refs") && name != "targetRefs" {
            found.push(at(name).into_iter().chain(["[]".to_owned()]).collect());
        } else {
            references(member, &at(name), found);
        }
    }
}

/// The smallest value that a schema allows, as far as reading asks for it.
fn smallest(schema: &Value) -> Value {
    if let Some(first) = schema["enum"].as_array().and_then(|all| all.first()) {
        return first.clone();
    }
    match schema["type"].as_str() {
        Some("object") => {
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let members = required.map(|name| (name.to_owned(), smallest(&schema["properties"][name])));
            Value::Object(members.collect())
        }
        Some("array") => {
            let least = schema["minItems"].as_u64().unwrap_or_default().min(1);
            (0..least).map(|_| smallest(&schema["items"])).collect()
        }
        Some("integer") => schema["minimum"].as_f64().map_or(json!(1), |least| json!(least as i64)),
        Some("boolean") => json!(false),
        _ => json!("a"),
    }
}

/// The smallest value with another one at a path.
fn with(schema: &Value, path: &[String], value: &Value) -> Value {
    let Some((first, rest)) = path.split_first() else { return value.clone() };
    if first == "[]" {
        return json!([with(&schema["items"], rest, value)]);
    }
    let mut object = smallest(schema);
    let members: &mut Map<String, Value> = object.as_object_mut().expect("an object");
    members.insert(first.clone(), with(&schema["properties"][first], rest, value));
    object
}

fn at<'s>(schema: &'s Value, path: &[String]) -> &'s Value {
    path.iter().fold(schema, |schema, name| if name == "[]" { &schema["items"] } else { &schema["properties"][name] })
}

/// The names of Secrets and ConfigMaps that a spec refers to.
fn referred(kind: &str, spec: Value) -> Result<BTreeSet<String>, String> {
    fn of<S: References + serde::de::DeserializeOwned>(spec: Value) -> Result<BTreeSet<String>, String> {
        let spec: S = serde_json::from_value(spec).map_err(|error| error.to_string())?;
        let mut names = ReferredNames::default();
        spec.refer(&mut names);
        Ok(names.secrets.iter().chain(&names.config_maps).map(|name| (*name).to_owned()).collect())
    }
    match kind {
        "IdentityPolicy" => of::<IdentityPolicySpec>(spec),
        "Credential" => of::<CredentialSpec>(spec),
        "Federation" => of::<FederationSpec>(spec),
        _ => Err(format!("{kind} has a reference, and nothing reads what it names")),
    }
}

fn all() -> Vec<(String, Value, Vec<String>)> {
    let mut all = Vec::new();
    for (kind, schema) in schemas() {
        let mut found = Vec::new();
        references(&schema, &[], &mut found);
        all.extend(found.into_iter().map(|path| (kind.clone(), schema.clone(), path)));
    }
    assert!(all.len() > 30, "the schemas have references: {}", all.len());
    all
}

#[test]
fn what_a_field_refers_to_is_provided() {
    for (kind, schema, path) in all() {
        if path.iter().any(|name| TO_OURS.contains(&name.as_str())) {
            continue;
        }
        let mut reference = smallest(at(&schema, &path));
        reference["name"] = json!("wanted");
        let names = referred(&kind, with(&schema, &path, &reference));
        let names = names.unwrap_or_else(|error| panic!("{kind} {}: {error}", path.join(".")));
        assert!(names.contains("wanted"), "{kind} {}: `refer` reads {names:?}", path.join("."));
    }
}

#[test]
fn no_field_refers_to_an_object_of_another_namespace() {
    for (kind, schema, path) in all() {
        let of = at(&schema, &path);
        let members: Vec<_> = of["properties"].as_object().into_iter().flatten().map(|(name, _)| name).collect();
        let named = format!("{kind} {}", path.join("."));
        assert!(members.iter().any(|name| *name == "name"), "{named}: {members:?}");
        assert!(
            members.iter().all(|name| ["name", "key", "kind"].contains(&name.as_str())),
            "{named} has {members:?}: a reference across namespaces needs a grant of its target, a finding \
             `RefNotPermitted` without one, and a test of both"
        );
        // It is refused where it is read, and not taken for an object of this namespace.
        let mut reference = smallest(of);
        reference["namespace"] = json!("other");
        let error = referred(&kind, with(&schema, &path, &reference)).expect_err(&named);
        assert!(error.contains("unknown field `namespace`"), "{named}: {error}");
    }
}
