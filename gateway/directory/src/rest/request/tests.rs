use futures::FutureExt;
use http_body_util::BodyExt;
use idm_plan::SecretHandle;

use super::*;

fn password(text: &str) -> Password {
    Password::new(Redacted::new(text.to_owned())).unwrap()
}

fn request(segments: Vec<RestValue>, headers: Vec<(String, RestValue)>, body: RestBody) -> RestRequest {
    let method = if body == RestBody::Nothing { "GET" } else { "POST" };
    let url = "https://service.test:8443/users/".to_owned();
    RestRequest { method: method.into(), url, segments, query: vec![], headers, body }
}

fn arm(plan: &RestRequest) -> Result<Template, String> {
    let mut secrets = Secrets::default();
    secrets.put(SecretHandle::of_secret("api", "key"), Redacted::new(b"s3cret\n".to_vec()));
    Template::arm(plan, Purpose::Verify, &secrets)
}

fn prepare(plan: &RestRequest, username: &str, word: &str) -> Result<Prepared, NotSent> {
    arm(plan).unwrap().prepare(Subject::Login { username, password: &password(word) })
}

fn body_of(prepared: Prepared) -> String {
    let collected = prepared.request.into_body().collect().now_or_never().unwrap().unwrap();
    String::from_utf8(collected.to_bytes().into()).unwrap()
}

fn secret(before: &str) -> RestValue {
    RestValue::Secret(before.into(), SecretHandle::of_secret("api", "key"))
}

#[test]
fn r55_a_value_in_a_path_stays_one_segment() {
    let plan = request(vec![RestValue::Username, RestValue::Text("check".into())], vec![], RestBody::Nothing);
    for (typed, sent) in [
        ("ana", "/users/ana/check"),
        ("../admin", "/users/..%2Fadmin/check"),
        ("a/b?c#d;e&f=g", "/users/a%2Fb%3Fc%23d%3Be%26f%3Dg/check"),
        ("%2e%2e", "/users/%252e%252e/check"),
        ("é ", "/users/%C3%A9%20/check"),
    ] {
        let prepared = prepare(&plan, typed, "x").unwrap();
        assert_eq!(prepared.request.uri().to_string(), sent);
        assert_eq!(prepared.request.headers()[HOST], "service.test:8443");
    }
    for dots in [".", ".."] {
        assert!(matches!(prepare(&plan, dots, "x"), Err(NotSent::Username(_))), "{dots}");
    }
}

#[test]
fn r55_a_header_that_cannot_hold_a_value_is_not_sent() {
    let plan = |value| request(vec![], vec![("x-who".into(), value)], RestBody::Nothing);
    for name in ["a\r\nx-admin: 1", "a\nb", "a\rb", "a\tb", "a\0", " ana", "ana ", "a\u{85}b", "a\u{7f}"] {
        assert!(matches!(prepare(&plan(RestValue::Username), name, "x"), Err(NotSent::Username(_))), "{name:?}");
        assert!(matches!(prepare(&plan(RestValue::Password), "ana", name), Err(NotSent::Password(_))), "{name:?}");
    }
    let prepared = prepare(&plan(RestValue::Username), "Jörg, \"x\"; a", "x").unwrap();
    assert_eq!(prepared.request.headers()["x-who"].as_bytes(), "Jörg, \"x\"; a".as_bytes());
}

#[test]
fn r55_basic_has_no_form_for_a_colon_in_a_name() {
    let plan = request(vec![], vec![("authorization".into(), RestValue::Basic)], RestBody::Nothing);
    assert!(matches!(prepare(&plan, "ana:x", "y"), Err(NotSent::Username(_))));
    assert!(matches!(prepare(&plan, "ana", "y\n"), Err(NotSent::Password(_))));
    let prepared = prepare(&plan, "ana", "x:y").unwrap();
    // `printf ana:x:y | base64`
    assert_eq!(prepared.request.headers()[AUTHORIZATION], "Basic YW5hOng6eQ==");
    assert!(!format!("{:?}", prepared.request).contains("YW5h"));
}

#[test]
fn r55_json_and_forms_encode_what_they_hold() {
    let evil = "a\"}, {\"admin\": true, \u{0}\r\n&x=1+%41é";
    let object = RestJson::Object(vec![
        ("name".into(), RestJson::Text(RestValue::Username)),
        ("list".into(), RestJson::List(vec![RestJson::Text(RestValue::Password), RestJson::Constant(7.into())])),
    ]);
    let prepared = prepare(&request(vec![], vec![], RestBody::Json(object)), "a\"}\\", evil).unwrap();
    assert_eq!(prepared.request.headers()[CONTENT_TYPE], "application/json");
    let sent: Value = serde_json::from_str(&body_of(prepared)).unwrap();
    assert_eq!(sent, serde_json::json!({"name": "a\"}\\", "list": [evil, 7]}));
    let form = RestBody::Form(vec![("u ser".into(), RestValue::Username), ("p".into(), RestValue::Password)]);
    let sent = body_of(prepare(&request(vec![], vec![], form), "a&b=c+d e", "é%").unwrap());
    assert_eq!(sent, "u%20ser=a%26b%3Dc%2Bd%20e&p=%C3%A9%25");
}

#[test]
fn what_is_shown_holds_no_value_of_the_query_and_no_secret() {
    let mut plan = request(vec![secret(""), RestValue::Username], vec![], RestBody::Nothing);
    plan.query = vec![("key".into(), secret("")), ("name".into(), RestValue::Username)];
    plan.headers = vec![("authorization".into(), secret("Bearer "))];
    let prepared = prepare(&plan, "ana", "hunter2").unwrap();
    assert_eq!(prepared.shown, "GET https://service.test:8443/users/…/ana?key=…&name=…");
    assert_eq!(prepared.request.uri().to_string(), "/users/s3cret/ana?key=s3cret&name=ana");
    assert_eq!(prepared.request.headers()[AUTHORIZATION], "Bearer s3cret");
    assert!(!format!("{:?}", prepared.request.headers()).contains("s3cret"));
}

#[test]
fn r55_no_password_stands_in_a_url_and_no_value_where_it_is_not_known() {
    let refused =
        |plan: &RestRequest, purpose| Template::arm(plan, purpose, &Secrets::default()).map(drop).unwrap_err();
    let verify = |plan: &RestRequest| refused(plan, Purpose::Verify);
    let base = || request(vec![], vec![], RestBody::Nothing);
    assert!(verify(&request(vec![RestValue::Password], vec![], RestBody::Nothing)).contains("URL"));
    assert!(verify(&RestRequest { query: vec![("p".into(), RestValue::Password)], ..base() }).contains("URL"));
    for place in [RestValue::Basic, RestValue::Id] {
        verify(&request(vec![], vec![("x-a".into(), place)], RestBody::Nothing));
    }
    verify(&request(vec![], vec![("authorization".into(), secret("Bearer "))], RestBody::Nothing));
    for password in [RestValue::Password, RestValue::Basic] {
        let plan = request(vec![], vec![("authorization".into(), password)], RestBody::Nothing);
        assert!(refused(&plan, Purpose::LookUp).contains("no password"));
    }
    for name in ["Host", "content-length", "transfer-encoding", "a b", ""] {
        verify(&request(vec![], vec![(name.into(), RestValue::Username)], RestBody::Nothing));
    }
    for text in ["", ".", ".."] {
        verify(&request(vec![RestValue::Text(text.into())], vec![], RestBody::Nothing));
    }
    for url in ["ftp://a/", "https://u:p@a/", "https://a/?q", "https://a/#f", "a", "https://"] {
        verify(&RestRequest { url: url.into(), ..base() });
    }
    verify(&RestRequest { method: "DELETE".into(), ..base() });
    verify(&RestRequest { method: "GET".into(), ..request(vec![], vec![], RestBody::Form(vec![])) });
}
