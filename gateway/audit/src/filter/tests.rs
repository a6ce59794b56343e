use super::*;

fn decision() -> StoredRecord {
    StoredRecord::of(json!({
        "kind": "Decision", "@timestamp": "2027-01-02T00:00:00.000Z", "id": "D", "namespace": "shop", "gateway": "g",
        "outcome": "Denied", "status": 403, "reason": "NotAllowed", "detail": "it compared Apples with pears",
        "request": {"method": "GET", "host": "Shop.example", "path": "/orders/7", "source": "192.0.2.1"},
        "shadow": [{"policy": "shop/a", "outcome": "Permitted"}, {"policy": "shop/b", "outcome": "Denied"}],
        "policy": {"name": "orders"}, "identity": {"username": "ana", "id": "u-1", "credential": "nightly"},
    }))
}

fn change() -> StoredRecord {
    StoredRecord::of(json!({
        "kind": "Change", "@timestamp": "2027-01-03T00:00:00.000Z", "id": "C", "action": "Updated", "actor": "x",
        "object": {"kind": "Credential", "namespace": "shop", "name": "nightly"}, "by": {"names": ["ana", "bob"]},
        "diff": ["spec.owner: set"],
    }))
}

/// Which of the two records match, as `D`, `C`, `DC` or nothing.
fn matched(filter: &RecordFilter) -> String {
    [decision(), change()].iter().filter(|record| filter.matches(record)).map(StoredRecord::id).collect()
}

#[test]
fn of_no_namespace_a_server_finds_nothing() {
    let filter = RecordFilter { namespaces: Some(vec![]), ..RecordFilter::default() };
    assert!(filter.query().to_string().contains(r#"{"match_none":{}}"#));
}

#[test]
fn each_field_of_a_filter_chooses() {
    let all = RecordFilter::default();
    let some = |text: &str| Some(text.to_owned());
    let cases = [
        (all.clone(), "DC"),
        (RecordFilter { kind: Some(RecordKind::Change), ..all.clone() }, "C"),
        (RecordFilter { kind: Some(RecordKind::Decision), ..all.clone() }, "D"),
        (RecordFilter { outcome: Some("denied".parse().unwrap()), ..all.clone() }, "D"),
        (RecordFilter { outcome: Some("Updated".parse().unwrap()), ..all.clone() }, "C"),
        (RecordFilter { outcome: Some("failed".parse().unwrap()), ..all.clone() }, ""),
        (RecordFilter { reason: Reason::from_code("NoCredentials"), ..all.clone() }, ""),
        (RecordFilter { shadow: Some("denied".parse().unwrap()), ..all.clone() }, "D"),
        (RecordFilter { shadow: Some(ShadowedAs::NotJudged), ..all.clone() }, ""),
        (RecordFilter { text: some("shop/b"), ..all.clone() }, "D"),
        (RecordFilter { namespace: some("shop"), ..all.clone() }, "DC"),
        (RecordFilter { namespace: some("sho"), ..all.clone() }, ""),
        (RecordFilter { namespaces: Some(vec!["bank".into(), "shop".into()]), ..all.clone() }, "DC"),
        (RecordFilter { namespaces: Some(vec!["bank".into()]), namespace: some("shop"), ..all.clone() }, ""),
        (RecordFilter { namespaces: Some(vec![]), ..all.clone() }, ""),
        (RecordFilter { object_kind: some("Credential"), ..all.clone() }, "DC"),
        (RecordFilter { object_kind: some("IdentityPolicy"), name: some("orders"), ..all.clone() }, "D"),
        (RecordFilter { object_kind: some("IdentityPolicy"), name: some("nightly"), ..all.clone() }, ""),
        (RecordFilter { object_kind: some("Federation"), ..all.clone() }, ""),
        (RecordFilter { name: some("nightly"), ..all.clone() }, "DC"),
        (RecordFilter { who: some("ana"), ..all.clone() }, "DC"),
        (RecordFilter { who: some("bob"), ..all.clone() }, "C"),
        (RecordFilter { who: some("x"), ..all.clone() }, "C"),
        (RecordFilter { who: some("an"), ..all.clone() }, ""),
        (RecordFilter { text: some("SHOP.ex"), ..all.clone() }, "D"),
        (RecordFilter { text: some("apples WITH"), ..all.clone() }, "D"),
        (RecordFilter { text: some("spec.owner"), ..all.clone() }, "C"),
        (RecordFilter { text: some("*"), ..all.clone() }, ""),
        (RecordFilter { since: Timestamp::parse_rfc3339("2027-01-03T00:00:00Z"), ..all.clone() }, "C"),
        (RecordFilter { until: Timestamp::parse_rfc3339("2027-01-03T00:00:00Z"), ..all.clone() }, "D"),
    ];
    for (filter, wanted) in &cases {
        assert_eq!(matched(filter), *wanted, "{filter:?}");
        for record in [decision(), change()].iter().filter(|record| filter.matches(record)) {
            assert!(filter.may_be_in(record.json()), "what matches passes the cheap test: {filter:?}");
        }
    }
}

#[test]
fn what_is_neither_decision_nor_change_is_never_asked_for() {
    let other = StoredRecord::of(json!({"kind": "Other", "id": "1"}));
    assert!(!RecordFilter::default().matches(&other));
}

#[test]
fn calls_of_language_models_are_those_that_used_tokens_or_were_refused_for_them() {
    let filter = RecordFilter { language_models: true, ..RecordFilter::default() };
    let record = |more: Value| {
        let mut record = json!({"kind": "Decision", "id": "1"});
        record.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        StoredRecord::of(record)
    };
    let calls = [
        json!({"usage": {"prompt_tokens": 0, "completion_tokens": 7, "estimated": false}}),
        json!({"reason": "PromptRefused"}),
        json!({"reason": "TokenQuotaExceeded"}),
    ];
    for call in calls.map(record) {
        assert!(filter.matches(&call) && filter.may_be_in(call.json()), "{}", call.json());
    }
    for other in [json!({"reason": "QuotaExceeded"}), json!({"detail": "\"usage\":"})].map(record) {
        assert!(!filter.matches(&other), "{}", other.json());
    }
    assert!(!filter.may_be_in(r#"{"kind":"Decision","reason":"NoCredentials"}"#));
}

#[test]
fn a_query_has_the_same_tests() {
    let filter = RecordFilter {
        kind: Some(RecordKind::Change),
        object_kind: Some("RoleBinding".into()),
        name: Some("a".into()),
        who: Some("ana".into()),
        since: Some(Timestamp(0)),
        ..RecordFilter::default()
    };
    let who: Vec<Value> = WHO.iter().map(|field| json!({"term": {*field: "ana"}})).collect();
    let wanted = json!({"bool": {"filter": [
        {"term": {"kind": "Change"}},
        {"term": {"object.kind": "RoleBinding"}},
        {"term": {"object.name": "a"}},
        {"bool": {"should": who, "minimum_should_match": 1}},
        {"range": {"@timestamp": {"gte": "1970-01-01T00:00:00.000Z"}}},
    ]}});
    assert_eq!(filter.query(), wanted);
}

#[test]
fn no_wildcard_of_a_caller_is_one() {
    let filter = RecordFilter { text: Some(r"a*?\".into()), ..RecordFilter::default() };
    let query = filter.query().to_string();
    assert!(query.contains(r#""value":"*a\\*\\?\\\\*""#), "{query}");
}

#[test]
fn a_wrong_word_is_told_the_right_ones() {
    assert_eq!("x".parse::<RecordKind>().unwrap_err().to_string(), "give one of: Decision, Change");
    assert!("x".parse::<RecordOutcome>().unwrap_err().to_string().contains("Denied"));
}

#[test]
fn every_field_that_is_asked_for_is_in_the_mapping() {
    let filter = RecordFilter {
        namespace: Some("a".into()),
        object_kind: Some("Credential".into()),
        name: Some("a".into()),
        who: Some("a".into()),
        text: Some("a".into()),
        outcome: Some(RecordOutcome::Outcome(Outcome::Denied)),
        reason: Reason::from_code("NoCredentials"),
        ..RecordFilter::default()
    };
    let fields = Value::Object(crate::indices::fields());
    let used = fields.pointer("/usage/properties/prompt_tokens/type");
    assert_eq!(used, Some(&json!("long")), "{USED}");
    for test in filter.tests().0.iter().flatten() {
        let (field, wanted) = match test {
            Test::Is(field, _) | Test::Exists(field) | Test::Contains(field, _) => (*field, "keyword"),
            Test::HasWords(field, _) => (*field, "text"),
            Test::Since(_) | Test::Until(_) => continue,
        };
        let pointer = format!("/{}/type", field.replace('.', "/properties/"));
        assert_eq!(fields.pointer(&pointer).and_then(Value::as_str), Some(wanted), "{field}");
    }
}
