use serde_json::{Value, json};

use crate::StoredRecord;

fn record(more: Value) -> StoredRecord {
    let mut record = json!({
        "kind": "Decision", "@timestamp": "2027-01-01T00:00:00.000Z", "id": "i", "namespace": "shop", "gateway": "g",
        "generation": 1, "outcome": "Denied", "status": 403, "request": {"method": "GET", "host": "h", "path": "/",
        "source": "127.0.0.1"}, "route": "r", "policy": {"name": "p", "generation": 1, "method": "m"},
    });
    record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    StoredRecord::of(record)
}

/// The steps, as mark and name.
fn steps(more: Value) -> Vec<String> {
    let text = record(more).explain();
    let steps = text.lines().filter(|line| line.contains('✓') || line.contains('✗'));
    steps.map(|line| line.split_whitespace().skip(1).take(2).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn the_step_that_failed_is_the_one_on_record() {
    let before = ["✓ request", "✓ route", "✓ authenticate", "✓ authorize"];
    for (stage, passed) in
        [("request", 0), ("route", 1), ("authenticate", 2), ("open", 3), ("authorize", 3), ("limit", 4), ("prepare", 4)]
    {
        // The same reason at every stage: the explanation does not depend on it.
        let mut expected: Vec<String> = before.iter().take(passed).map(ToString::to_string).collect();
        expected.push(format!("✗ {stage}"));
        assert_eq!(steps(json!({"stage": stage, "reason": "UnusableClaim"})), expected);
    }
}

#[test]
fn a_record_without_a_stage_is_explained_by_what_is_in_it() {
    let last = |more| steps(more).pop().unwrap_or_default();
    assert_eq!(last(json!({"reason": "BadSignature"})), "✗ authenticate");
    assert_eq!(last(json!({"reason": "MissingRole", "identity": {"kind": "jwt", "username": "ann"}})), "✗ authorize");
    assert_eq!(last(json!({"reason": "UpstreamTimeout", "upstream": "up:80"})), "✗ upstream");
    assert_eq!(last(json!({"reason": "NoRoute", "route": null, "policy": null})), "✗ request");
}

#[test]
fn nothing_that_a_caller_wrote_controls_a_terminal_or_begins_a_line() {
    let evil = "x\u{1b}[2J\u{7}\nPERMITTED 200   GET h/\n\u{202e}\u{9b}2J\u{2028}";
    let stored = record(json!({"reason": "UnknownIssuer", "stage": "authenticate", "detail": evil, "route": evil,
        "request": {"method": evil, "host": evil, "path": evil, "source": evil},
        "identity": {"username": evil, "issuer": evil, "kid": evil}, evil: evil}));
    for shown in [stored.explain().as_str(), &stored.short(), stored.json()] {
        assert!(!shown.chars().any(|c| idm_types::is_hidden(c) && c != '\n'), "{shown:?}");
        assert!(!shown.lines().any(|line| line.trim_start().starts_with("PERMITTED")), "{shown}");
    }
    assert_eq!((stored.short().lines().count(), stored.json().lines().count()), (1, 1));
    assert!(stored.explain().contains("\\u{1b}[2J"), "what was sent can be read");
}

#[test]
fn the_baselines_that_hold_are_named_where_the_caller_was_allowed_or_not() {
    let policy = json!({"name": "p", "generation": 1, "method": "m", "baselines": ["infra/platform"]});
    let text = record(json!({"stage": "authorize", "reason": "BaselineNotMet", "policy": policy})).explain();
    assert!(text.contains("being authenticated is enough, and the baseline of infra/platform"), "{text}");
}

#[test]
fn mirrors_are_named_beside_the_upstream() {
    let of = json!({"stage": "answer", "outcome": "Permitted", "upstream": "up:80", "mirrors": ["one:80", "two:80"]});
    let text = record(of).explain();
    assert!(text.contains("up:80, copied to one:80, copied to two:80"), "{text}");
}

#[test]
fn a_trace_is_named_where_there_is_one() {
    let of = |more| record(more).explain().lines().filter(|line| line.starts_with("trace ")).count();
    assert_eq!((of(json!({"trace": {"id": "4bf9"}})), of(json!({}))), (1, 0));
}

#[test]
fn what_a_policy_in_shadow_would_have_done_is_no_check_that_failed() {
    let shadow = json!([
        {"policy": "shop/strict", "generation": 2, "outcome": "Denied", "reason": "MissingRole", "rule": "write",
         "detail": "needs role `writer`"},
        {"policy": "infra/platform", "generation": 1, "baseline": true, "outcome": "NotJudged",
         "reason": "OutsideServer"},
    ]);
    let more = json!({"outcome": "Permitted", "stage": "answer", "status": 200, "shadow": shadow});
    let marks = steps(more.clone());
    assert_eq!(marks.iter().filter(|mark| *mark == "✓ shadow").count(), 2, "{marks:?}");
    let text = record(more).explain();
    assert!(
        text.contains(
            "IdentityPolicy shop/strict (generation 2) would have refused it: MissingRole (rule write), needs role \
             `writer`; it is not enforced"
        ),
        "{text}"
    );
    assert!(text.contains("the baseline of IdentityPolicy infra/platform (generation 1) did not judge it"), "{text}");
    assert!(!text.contains("why:"), "nobody was refused: {text}");
}
