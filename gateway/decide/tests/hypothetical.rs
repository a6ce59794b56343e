//! Requests that nobody sends: the same decision as of those that somebody sends, and no trace of them.

mod bed;

use bed::{ANYONE, API_KEY, Bed, NOW, key, policy, robot};
use http::{HeaderValue, Method};
use idm_decide::{Assumed, Assumption, Hypotheses, Hypothesis, Hypothetical, HypotheticalError, HypotheticalOutcome};
use idm_jose::SigningKey;
use idm_plan::ObjectKey;
use idm_types::{Algorithm, Reason};
use serde_json::{Value, json};

const ISSUER: &str = "https://idp.example";

fn hypotheses(yaml: &str) -> Hypotheses {
    Hypotheses::new(Bed::compiled(yaml).seal(1)).expect("threads")
}

fn get(url: &str) -> Hypothetical {
    Hypothetical::new(Method::GET, url.parse().expect("a URL"))
}

fn with(header: &'static str, value: &str) -> Hypothetical {
    let headers = vec![(header.parse().expect("a name"), HeaderValue::from_str(value).expect("a value"))];
    Hypothetical { headers, ..get("http://up/x") }
}

fn assumed(username: &str) -> Hypothetical {
    let caller = Assumption { username: username.to_owned(), ..Assumption::default() };
    Hypothetical { caller: Some(Assumed { caller, roles: Vec::new() }), ..get("http://up/x") }
}

async fn ask(hypotheses: &Hypotheses, request: &Hypothetical) -> Hypothesis {
    hypotheses.decide(request, NOW).await.expect("a decision")
}

fn result(hypothesis: &Hypothesis) -> (HypotheticalOutcome, Option<u16>, Option<Reason>) {
    (hypothesis.outcome, hypothesis.status, hypothesis.reason)
}

/// A method for tokens of the issuer, whose keys are at an address.
fn jwt() -> String {
    format!(
        "{{name: staff, jwt: {{issuers: [{{issuer: '{ISSUER}', audiences: [orders], algorithms: [ES256], \
         keys: {{jwksUri: '{ISSUER}/keys'}}}}]}}}}"
    )
}

fn token(key: &SigningKey, claims: Value) -> String {
    let now = NOW.seconds();
    let mut all = json!({"iss": ISSUER, "aud": "orders", "sub": "ana", "iat": now, "exp": now + 300});
    all.as_object_mut().expect("claims").extend(claims.as_object().expect("claims").clone());
    key.sign_with_header(&json!({"alg": "ES256", "typ": "JWT", "kid": "k"}), &all).expect("a token")
}

#[tokio::test]
async fn a_decision_has_its_steps_and_its_words() {
    let rules = "  authorization: {rules: [{name: admins, require: {roles: {any: [admin]}}}]}\n";
    let all = hypotheses(&format!("{}{}", policy("up", API_KEY, rules), robot("reader")));
    let denied = ask(&all, &with("x-api-key", &key())).await;
    assert_eq!(result(&denied), (HypotheticalOutcome::Denied, Some(403), Some(Reason::MissingRole)));
    let steps: Vec<_> = denied.explanation.steps.iter().map(|step| (step.name, step.ok)).collect();
    assert_eq!(steps, [("request", true), ("route", true), ("authenticate", true), ("authorize", false)]);
    let text = denied.to_string();
    assert!(text.starts_with("DENIED 403 MissingRole   GET up/x\n"), "{text}");
    assert!(text.contains("nothing was sent, counted or recorded") && text.contains("rule admins"), "{text}");
    assert!(!text.contains("decision 0") && !text.contains(&key()), "{text}");
    let nobody = ask(&all, &get("http://up/x")).await;
    assert_eq!(result(&nobody), (HypotheticalOutcome::Denied, Some(401), Some(Reason::NoCredentials)));
}

#[tokio::test]
async fn a_caller_can_be_assumed_with_more_roles_and_it_is_said_first() {
    let rules = "  authorization: {rules: [{name: admins, require: {roles: {any: [admin]}}}]}\n";
    let all = hypotheses(&format!("{}{}", policy("up", API_KEY, rules), robot("reader")));
    let as_it_is = ask(&all, &assumed("robot")).await;
    assert_eq!(result(&as_it_is), (HypotheticalOutcome::Denied, Some(403), Some(Reason::MissingRole)));
    let mut more = assumed("robot");
    more.caller.as_mut().expect("a caller").roles = vec!["admin".parse().expect("a role")];
    let permitted = ask(&all, &more).await;
    assert_eq!(result(&permitted), (HypotheticalOutcome::Permitted, None, None));
    let text = permitted.to_string();
    assert!(text.starts_with("assumed: robot is authenticated, with the roles admin; no credential"), "{text}");
    assert!(text.contains("PERMITTED   GET up/x") && text.contains("127.0.0.1:80"), "{text}");
    let unknown = ask(&all, &assumed("nobody")).await;
    assert_eq!(result(&unknown), (HypotheticalOutcome::Denied, Some(401), Some(Reason::NoCredentials)));
}

#[tokio::test]
async fn an_assumed_person_has_the_claims_that_are_given() {
    let rules =
        "  authorization: {rules: [{name: admins, require: {roles: {any: [admin]}, scopes: {any: [write]}}}]}\n";
    let mapped = "authentication: {identity: {roles: token.groups, username: token.email}, methods";
    let yaml = policy("up", &jwt(), rules).replacen("authentication: {methods", mapped, 1);
    let all = hypotheses(&yaml);
    let mut ana = assumed("ana");
    assert_eq!(ask(&all, &ana).await.reason, Some(Reason::MissingRole));
    let claims = &mut ana.caller.as_mut().expect("a caller").caller.claims;
    claims.insert("groups".into(), json!(["admin"]));
    claims.insert("scope".into(), json!("read write"));
    assert_eq!(ask(&all, &ana).await.outcome, HypotheticalOutcome::Permitted);
}

#[tokio::test]
async fn what_an_issuer_would_have_to_say_is_not_guessed() {
    let key = SigningKey::generate(Algorithm::ES256, "k").expect("a key");
    let mut all = hypotheses(&policy("up", &jwt(), ""));
    let bearer = with("authorization", &format!("Bearer {}", token(&key, json!({}))));
    let unknown = ask(&all, &bearer).await;
    assert_eq!(unknown.outcome, HypotheticalOutcome::Unknown);
    assert!(unknown.to_string().starts_with("not known: no keys of `https://idp.example` yet"), "{unknown}");
    assert_eq!(all.supply_keys("https://other.example", &key.jwks().to_string()), 0);
    assert_eq!(all.supply_keys(ISSUER, &key.jwks().to_string()), 1);
    assert_eq!(ask(&all, &bearer).await.outcome, HypotheticalOutcome::Permitted);
}

#[tokio::test]
async fn no_request_leaves_anything_for_the_next_one() {
    let limits = "  limits: [{name: one, rate: {requests: 1, perSeconds: 3600, burst: 1}}]\n";
    let all = hypotheses(&format!("{}{}", policy("up", API_KEY, limits), robot("reader")));
    for _ in 0..5 {
        let permitted = ask(&all, &with("x-api-key", &key())).await;
        assert_eq!(permitted.outcome, HypotheticalOutcome::Permitted);
        assert!(!permitted.record.json().contains("\"cached\":true"), "no verdict is kept");
    }
    // Wrong guesses are forgotten, too.
    let basic = "{name: people, basic: {realm: shop, validators: [{credentials: {}}]}}";
    let all = hypotheses(&policy("up", basic, ""));
    for _ in 0..10 {
        let refused = ask(&all, &with("authorization", "Basic YW5hOndyb25n")).await;
        assert_eq!(refused.reason, Some(Reason::WrongPassword));
    }
}

#[tokio::test]
async fn the_url_and_the_connection_are_those_of_a_caller() {
    let all = hypotheses(&policy("up", ANYONE, ""));
    let secure = ask(&all, &get("https://up/x")).await;
    assert_eq!(secure.outcome, HypotheticalOutcome::Permitted);
    assert!(secure.notes.iter().any(|note| note.contains("trusted proxy")), "{:?}", secure.notes);
    assert_eq!(ask(&all, &get("http://other/")).await.reason, Some(Reason::NoRoute));
    for wrong in ["/x", "ftp://up/x", "http://ana:secret@up/x"] {
        let refused = all.decide(&get(wrong), NOW).await;
        assert!(matches!(refused, Err(HypotheticalError::Url(_))), "{wrong}");
    }
}

#[test]
fn a_token_is_examined_check_by_check() {
    let (key, other) = (SigningKey::generate(Algorithm::ES256, "k"), SigningKey::generate(Algorithm::ES256, "k"));
    let (key, other) = (key.expect("a key"), other.expect("a key"));
    let mut all = hypotheses(&policy("up", &jwt(), ""));
    let name = ObjectKey::new("default", "up");
    let good = token(&key, json!({}));
    let examined = |all: &Hypotheses, token: &str| all.examine(&name, token, NOW).expect("armed").expect("a policy");
    let unknown = examined(&all, &good);
    let of = |checks: &idm_decide::TokenChecks, name: &str| {
        checks.checks.iter().find(|check| check.name == name).expect("a check").ok
    };
    assert_eq!((of(&unknown, "issuer"), of(&unknown, "keys"), of(&unknown, "signature")), (Some(true), None, None));
    all.supply_keys(ISSUER, &key.jwks().to_string());
    let passed = examined(&all, &good);
    assert!(passed.checks.iter().all(|check| check.ok == Some(true)), "{:#?}", passed.checks);
    assert_eq!((passed.reason, passed.claims["sub"].as_str()), (None, Some("ana")));
    let past = NOW.seconds() - 1000;
    for (token, check, reason) in [
        (token(&other, json!({})), "signature", Reason::BadSignature),
        (token(&key, json!({"aud": "others"})), "audience", Reason::WrongAudience),
        (token(&key, json!({"exp": past})), "expiry", Reason::TokenExpired),
        (token(&key, json!({"nbf": NOW.seconds() + 1000})), "notBefore", Reason::TokenNotYetValid),
        (token(&key, json!({"sub": 1.5})), "claims", Reason::UnusableClaim),
        (token(&key, json!({"iss": "https://evil.example"})), "issuer", Reason::UnknownIssuer),
        ("no.token.s3cret".to_owned(), "form", Reason::MalformedToken),
    ] {
        let checks = examined(&all, &token);
        assert_eq!(checks.reason, Some(reason), "{check}");
        let failed = checks.checks.iter().position(|known| known.name == check).expect("a check");
        for (position, made) in checks.checks.iter().enumerate() {
            let expected = if position > failed { None } else { Some(position < failed) };
            assert_eq!(made.ok, expected, "{check}: {made:?}");
            assert!(!made.text.contains("s3cret") && !made.text.contains(&token), "{made:?}");
        }
    }
    let bound = examined(&all, &token(&key, json!({"cnf": {"jkt": "thumb"}})));
    assert_eq!((of(&bound, "binding"), bound.reason), (None, None), "it needs a request");
    assert!(all.examine(&ObjectKey::new("default", "none"), &good, NOW).expect("armed").is_none());
}
