use super::*;

fn expr(text: &str) -> idm_plan::Expr {
    idm_expr::parse(text, &[Variable::Token]).unwrap()
}

fn plan() -> RestAnswer {
    RestAnswer {
        success: expr("token.status == 200 && token.body.ok"),
        failure: expr("token.status == 401 || token.body.error == 'credentials'"),
        id: expr("token.body.id"),
        username: expr("token.body.user.name"),
        groups: Some(expr("token.body.groups")),
        claims: vec![("mail".into(), expr("token.body.user.mail")), ("shift".into(), expr("token.body.shift"))],
    }
}

fn read_as(plan: &RestAnswer, status: u16, body: &str) -> Result<Option<Person>, DirectoryError> {
    let answer = Answer { status, is_json: true, body: body.into(), redirects_to: None };
    Reader::arm(plan).unwrap().read(&answer).map(|said| match said {
        Said::Success(person) => Some(*person),
        Said::Failure => None,
    })
}

fn read(status: u16, body: &str) -> Result<Option<Person>, DirectoryError> {
    read_as(&plan(), status, body)
}

fn kind(outcome: Result<Option<Person>, DirectoryError>) -> DirectoryErrorKind {
    outcome.unwrap_err().kind
}

fn body_with(member: &str, value: Value) -> String {
    let mut body = json!({"ok": true, "id": "7", "user": {"name": "ana"}, "groups": []});
    *body.pointer_mut(member).unwrap() = value;
    body.to_string()
}

#[test]
fn r55_a_person_is_read_as_a_whole() {
    let body = r#"{"ok": true, "id": 7, "user": {"name": "Ana", "mail": "ana@corp.test"}, "groups": ["a", "b", "a"]}"#;
    let person = read(200, body).unwrap().unwrap();
    assert_eq!((&*person.id, &*person.username), ("7", "Ana"));
    assert_eq!(person.groups.iter().map(|group| &*group.name).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(Value::Object(person.claims), json!({"mail": "ana@corp.test"}));
}

#[test]
fn r55_status_and_body_decide_together() {
    assert_eq!(read(401, ""), Ok(None));
    assert_eq!(read(200, r#"{"ok": false, "error": "credentials"}"#), Ok(None));
    for (status, body) in [(200, r#"{"ok": false}"#), (200, ""), (418, r#"{"ok": true}"#), (500, "{}"), (200, "[]")] {
        let error = read(status, body).unwrap_err();
        assert_eq!(error.kind, DirectoryErrorKind::Unusable, "{status} {body}");
        assert!(error.detail.contains(&status.to_string()), "{error}");
    }
    let both = read(200, r#"{"ok": true, "error": "credentials"}"#).unwrap_err();
    assert!(both.kind == DirectoryErrorKind::Unusable && both.detail.contains("both"), "{both}");
}

#[test]
fn an_incomplete_person_is_an_error_and_never_a_person() {
    for (member, value) in [
        ("/id", Value::Null),
        ("/id", json!("")),
        ("/id", json!(1.5)),
        ("/id", json!(true)),
        ("/user/name", json!("")),
        ("/user/name", json!(7)),
        ("/user/name", json!("ana\r\nx")),
        ("/user/name", json!("a".repeat(2000))),
        ("/user", Value::Null),
        ("/groups", json!("admins")),
        ("/groups", json!({})),
        ("/groups", json!(["a", 1])),
        ("/groups", json!([""])),
        ("/groups", json!([["a"]])),
    ] {
        assert_eq!(
            kind(read(200, &body_with(member, value.clone()))),
            DirectoryErrorKind::Unusable,
            "{member} {value}"
        );
    }
    assert_eq!(kind(read(200, r#"{"ok": true, "id": "7", "user": {"name": "ana"}}"#)), DirectoryErrorKind::Unusable);
    assert_eq!(read(200, &body_with("/groups", Value::Null)).unwrap().unwrap().groups, []);
}

#[test]
fn five_thousand_groups_are_taken_and_no_more() {
    let groups = |count: usize| (0..count).map(|at| format!("department-{at}-readers")).collect::<Vec<_>>();
    let person = read(200, &body_with("/groups", groups(5_000).into())).unwrap().unwrap();
    assert_eq!(person.groups.len(), 5_000);
    assert_eq!(kind(read(200, &body_with("/groups", groups(5_001).into()))), DirectoryErrorKind::TooManyGroups);
}

#[test]
fn what_is_not_json_is_null_unless_its_type_says_json() {
    let plan = RestAnswer { success: expr("token.status == 200"), failure: expr("token.body == null"), ..plan() };
    let reader = Reader::arm(&plan).unwrap();
    let answer = |is_json, body: &str| Answer { status: 403, is_json, body: body.into(), redirects_to: None };
    assert!(matches!(reader.read(&answer(false, "<p>no</p>")), Ok(Said::Failure)));
    assert!(matches!(reader.read(&answer(true, "")), Ok(Said::Failure)));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for body in ["<p>secret</p>", r#"{"ok": true, "ok": false}"#, "{\"a\":", &deep] {
        let error = reader.read(&answer(true, body)).map(drop).unwrap_err();
        assert!(error.kind == DirectoryErrorKind::Unusable && !error.detail.contains("secret"), "{error}");
    }
}

#[test]
fn a_costly_expression_is_an_error_and_not_a_refusal() {
    let costly = "token.body.all(a, token.body.all(b, a + b >= 0))";
    let plan = RestAnswer { failure: expr(costly), ..plan() };
    let numbers = serde_json::to_string(&(0..1000).collect::<Vec<_>>()).unwrap();
    let error = read_as(&plan, 401, &numbers).unwrap_err();
    assert!(error.kind == DirectoryErrorKind::Unusable && error.detail.contains("costs more"), "{error}");
}
