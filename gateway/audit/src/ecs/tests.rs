use super::*;

fn decision_line() -> String {
    json!({
        "kind": "Decision", "@timestamp": "2027-01-02T00:00:00.000Z", "id": "D", "namespace": "shop", "gateway": "g",
        "outcome": "Denied", "status": 403, "reason": "NotAllowed", "duration_us": 7,
        "request": {"method": "GET", "host": "h", "path": "/p", "source": "192.0.2.1"}, "policy": {"name": "orders"},
        "identity": {"username": "ana", "id": "u-1", "roles": ["a"]}, "trace": {"id": "t"},
    })
    .to_string()
}

fn shipped(line: &str) -> (String, Value) {
    let shipped = with_ecs(line, &serde_json::from_str(line).unwrap());
    let value = serde_json::from_str(&shipped).unwrap();
    (shipped, value)
}

#[test]
fn a_decision_has_the_fields_that_others_look_for() {
    let line = decision_line();
    let (text, record) = shipped(&line);
    assert!(text.starts_with(line.strip_suffix('}').unwrap()), "ours stay as they are: {text}");
    assert_eq!(record["event"]["outcome"], "failure");
    assert_eq!(record["event"]["category"], json!(["authentication", "web"]));
    assert_eq!(record["event"]["reason"], "NotAllowed");
    assert_eq!(record["event"]["duration"], 7000);
    assert_eq!(record["user"], json!({"name": "ana", "id": "u-1", "roles": ["a"]}));
    assert_eq!(record["source"]["ip"], "192.0.2.1");
    assert_eq!(record["http"], json!({"request": {"method": "GET"}, "response": {"status_code": 403}}));
    assert_eq!(record["url"], json!({"domain": "h", "path": "/p"}));
    assert_eq!(record["related"], json!({"user": ["ana", "u-1"], "ip": ["192.0.2.1"]}));
    assert_eq!(record["trace"]["id"], "t");
    assert_eq!(record["rule"], json!({"ruleset": "orders"}), "nothing is there that says nothing");
}

#[test]
fn a_change_has_the_fields_that_others_look_for() {
    let line = json!({
        "kind": "Change", "action": "Deleted", "actor": "ana or bob", "by": {"names": ["ana", "bob"]},
        "object": {"kind": "Credential", "namespace": "shop", "name": "a", "uid": "u"},
    });
    let (_, record) = shipped(&line.to_string());
    assert_eq!(record["event"]["type"], json!(["deletion"]));
    assert_eq!(record["event"]["category"], json!(["configuration", "iam"]));
    assert_eq!(record["related"]["user"], json!(["ana", "bob"]));
    assert_eq!(record["orchestrator"]["resource"], json!({"type": "Credential", "name": "a", "id": "u"}));
}

#[test]
fn what_is_no_record_of_ours_stays_as_it_is() {
    for line in ["{\"kind\":\"Seal\",\"id\":\"a-1\"}", "{}", "[]"] {
        assert_eq!(with_ecs(line, &serde_json::from_str(line).unwrap()), line);
    }
}

/// The lists of the schema, as far as they concern us.
#[test]
fn categories_and_types_are_words_of_the_schema_that_go_together() {
    let allowed = [
        ("authentication", &["start", "end", "info"][..]),
        ("web", &["access", "error", "info"]),
        ("configuration", &["access", "change", "creation", "deletion", "info"]),
        ("iam", &["admin", "change", "creation", "deletion", "group", "info", "user"]),
    ];
    let outcomes = ["Permitted", "Denied", "Failed"].map(|outcome| json!({"kind": "Decision", "outcome": outcome}));
    let actions = ["Created", "Updated", "Deleted", "Found"].map(|action| json!({"kind": "Change", "action": action}));
    for record in outcomes.into_iter().chain(actions) {
        let (_, record) = shipped(&record.to_string());
        let types: Vec<&str> = record["event"]["type"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let categories = record["event"]["category"].as_array().unwrap().iter().filter_map(Value::as_str);
        for category in categories {
            let (_, words) = allowed.iter().find(|(name, _)| *name == category).unwrap();
            assert!(types.iter().any(|word| words.contains(word)), "{category}: {types:?}");
        }
        assert!(["success", "failure"].contains(&record["event"]["outcome"].as_str().unwrap()));
    }
}

#[test]
fn every_field_is_mapped_and_none_is_one_of_ours() {
    fn check(path: &str, value: &Value, mapping: &Value) {
        let Some(members) = value.as_object() else { return };
        for (name, value) in members {
            let mapped = &mapping["properties"][name];
            assert!(mapped.is_object(), "{path}.{name} is not mapped");
            check(&format!("{path}.{name}"), value, mapped);
        }
    }
    let line = decision_line();
    let ours: Value = serde_json::from_str(&line).unwrap();
    let fields = decision(&ours);
    assert!(fields.keys().all(|name| ours.get(name).is_none()), "a member that is there twice would be refused");
    check("", &Value::Object(fields), &json!({"properties": mapping()}));
    check(
        "",
        &Value::Object(change(&json!({"object": {"kind": "a"}, "actor": "a"}))),
        &json!({"properties": mapping()}),
    );
}
