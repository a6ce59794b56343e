use std::collections::BTreeSet;

use serde_json::json;

use super::*;

fn content(spec: Value, metadata: Value) -> Content {
    Content::of_json(&json!({"metadata": metadata, "spec": spec}))
}

fn lines(kind: &str, old: Value, new: Value) -> Vec<String> {
    let of = |spec: Value| (!spec.is_null()).then(|| content(spec, json!({})));
    diff(kind, of(old).as_ref(), of(new).as_ref())
}

fn rule(name: &str) -> Value {
    json!({"name": name, "when": "token.marker == 'secret'"})
}

#[test]
fn r33_entries_are_known_by_their_keys() {
    let policy = |rules: Value| json!({"authorization": {"rules": rules}});
    let old = policy(json!([rule("read"), rule("write")]));
    let first = policy(json!([rule("admin"), rule("read"), rule("write")]));
    assert_eq!(lines("IdentityPolicy", old.clone(), first), ["spec.authorization.rules[admin]: added (name admin)"]);
    let mut changed = old.clone();
    changed["authorization"]["rules"][1]["when"] = json!("true");
    assert_eq!(lines("IdentityPolicy", old.clone(), changed), ["spec.authorization.rules[write].when: changed"]);
    let turned = policy(json!([rule("write"), rule("read")]));
    assert_eq!(lines("IdentityPolicy", old.clone(), turned), ["spec.authorization.rules: in another order"]);
    let fewer = policy(json!([rule("write")]));
    assert_eq!(lines("IdentityPolicy", old, fewer), ["spec.authorization.rules[read]: removed (name read)"]);
}

#[test]
fn a_grant_says_who_got_which_role() {
    let binding = |subjects: Value| json!({"role": "admin", "subjects": subjects, "scope": {"project": {}}});
    let (ana, bob) = (json!({"user": "ana", "issuer": "https://i"}), json!({"user": "bob"}));
    assert_eq!(
        lines("RoleBinding", Value::Null, binding(json!([ana]))),
        [
            "spec.role: (none) -> admin",
            "spec.scope.project: set",
            "spec.subjects[]: added (issuer https://i, user ana)"
        ]
    );
    assert_eq!(
        lines("RoleBinding", binding(json!([ana])), binding(json!([ana, bob]))),
        ["spec.subjects[]: added (user bob)"]
    );
}

#[test]
fn labels_and_annotations_are_named_and_only_the_team_is_shown() {
    let old = content(json!({}), json!({"labels": {"identity-manager.io/team": "a", "x": "secret"}}));
    let new = content(
        json!({}),
        json!({
            "labels": {"identity-manager.io/team": "b"}, "annotations": {"identity-manager.io/rotate": "secret"},
            "finalizers": ["example.com/x"], "deletionTimestamp": "2027-01-01T00:00:00Z",
        }),
    );
    assert_eq!(
        diff("Credential", Some(&old), Some(&new)),
        [
            "metadata.labels[identity-manager.io/team]: a -> b",
            "metadata.labels[x]: removed",
            "metadata.annotations[identity-manager.io/rotate]: set",
            "metadata.finalizers: added example.com/x",
            "metadata.deletionTimestamp: set",
        ]
    );
}

#[test]
fn members_that_the_schema_does_not_know_are_not_named() {
    let told = lines("Credential", json!({"suspend": false}), json!({"suspend": true, "s3cret": "s3cret"}));
    assert_eq!(told, ["spec: changed", "spec.suspend: false -> true"]);
    assert_eq!(lines("Unknown", json!({"a": 1}), json!({"a": 2})), ["spec: changed"]);
}

#[test]
fn a_long_diff_says_how_much_it_leaves_out() {
    let many = |count: usize| json!({"roles": (0..count).map(|n| format!("r{n}")).collect::<Vec<_>>()});
    let told = lines("Credential", many(0), many(MOST + 5));
    assert_eq!(told.len(), MOST + 1);
    assert_eq!(told.last().unwrap(), "and 5 more");
}

/// An object of a schema with a marker of its own in every string, and the markers with their paths.
fn planted(schema: &JSONSchemaProps, path: &str, markers: &mut Vec<(String, String)>) -> Value {
    if let Some(properties) = &schema.properties {
        let members =
            properties.iter().map(|(name, of)| (name.clone(), planted(of, &format!("{path}.{name}"), markers)));
        return Value::Object(members.collect());
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        return json!([planted(items, &format!("{path}[]"), markers)]);
    }
    let is_open = schema.x_kubernetes_preserve_unknown_fields == Some(true);
    match schema.type_.as_deref() {
        Some("string") => {
            let marker = format!("marker-{}-", markers.len());
            markers.push((path.to_owned(), marker.clone()));
            json!(marker)
        }
        Some("object") | None if schema.additional_properties.is_some() || is_open => {
            let marker = format!("marker-{}-", markers.len());
            markers.push((format!("{path}{{}}"), marker.clone()));
            json!({marker.clone(): {marker.clone(): marker}})
        }
        Some("integer" | "number") => json!(1),
        Some("boolean") => json!(true),
        _ => json!({}),
    }
}

/// A marker is in every string of every kind. None comes out of a creation, a change or a deletion but those of the
/// fields that `shown.txt` lists.
#[test]
fn r27_no_value_comes_out_that_is_not_listed() {
    let mut shown = BTreeSet::new();
    let mut strings = 0;
    for (kind, schema) in SCHEMAS.iter() {
        let mut markers = Vec::new();
        let planted = planted(schema, "spec", &mut markers);
        strings += markers.len();
        // A second object in which every string is another one.
        let other: Value = serde_json::from_str(&planted.to_string().replace("marker-", "other-marker-")).unwrap();
        let metadata = json!({
            "labels": {"a": "meta-marker-1"}, "annotations": {"b": "meta-marker-2"},
        });
        let (a, b) = (content(planted, metadata), content(other, json!({"labels": {"a": "meta-marker-3"}})));
        for (old, new) in [(None, Some(&a)), (Some(&a), Some(&b)), (Some(&b), Some(&a)), (Some(&a), None)] {
            let told = diff_all(kind, old, new);
            assert!(!told.contains("meta-marker"), "{told}");
            let found = markers.iter().filter(|(_, marker)| told.contains(&**marker));
            shown.extend(found.map(|(path, _)| format!("{kind} {path}")));
        }
    }
    assert!(strings > 250, "{strings}");
    let told = shown.into_iter().collect::<Vec<_>>().join("\n") + "\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lines/shown.txt");
    if std::env::var_os("IDM_UPDATE").is_some() {
        std::fs::write(path, &told).unwrap();
    }
    assert_eq!(told, std::fs::read_to_string(path).unwrap(), "IDM_UPDATE=1 writes it anew");
}

/// Without the limits of the numbers of lines and characters.
fn diff_all(kind: &str, old: Option<&Content>, new: Option<&Content>) -> String {
    let schema = SCHEMAS.get(kind).unwrap();
    let part = |content: Option<&Content>, name: &str| content.map(|c| c.value()[name].clone()).unwrap_or_default();
    let mut told = String::new();
    // Each member of the spec for itself, so that no line is left out.
    let (old_spec, new_spec) = (part(old, "spec"), part(new, "spec"));
    for name in schema.properties.iter().flat_map(|properties| properties.keys()) {
        let mut lines = Lines { longest: usize::MAX, ..Lines::default() };
        let at = At::root(schema).member(name).unwrap();
        lines.compare(&at, &old_spec[name], &new_spec[name]);
        told.push_str(&lines.out.join("\n"));
    }
    let mut lines = Lines::default();
    lines.metadata(&part(old, "metadata"), &part(new, "metadata"));
    told + &lines.out.join("\n")
}
