//! `idm explain` for what nobody sent: requests by the policies of a folder, and the settings in force.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use http::{HeaderName, HeaderValue, Method};
use idm_compile::{Settings, compile, yaml};
use idm_decide::{Hypotheses, Hypothesis, Hypothetical, HypotheticalOutcome};
use idm_jose::SigningKey;
use idm_tests::{InProcess, Serves, Upstream, raw, secret};
use idm_types::{Algorithm, ApiKey, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/samples")
}

struct Said {
    code: Option<i32>,
    out: String,
    problems: String,
}

/// Runs `idm explain` in an empty state folder, which must be empty afterwards: nothing is recorded.
fn explain(arguments: &[&str]) -> Said {
    let state = tempfile::tempdir().unwrap();
    let command =
        Command::new(idm_tests::idm()).arg("explain").args(arguments).env("IDM_STATE_DIR", state.path()).output();
    let output = command.unwrap();
    assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 0, "it left a trace");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code(), out: text(&output.stdout), problems: text(&output.stderr) }
}

fn of_sample(request: &str, more: &[&str]) -> Said {
    let dir = samples();
    let dir = dir.to_str().unwrap();
    explain(&[&["--request", request, "--dir", dir], more].concat())
}

#[test]
fn a_hypothetical_request_is_explained_and_its_exit_code_says_how_it_ends() {
    let write = "POST http://api.shop.example/orders";
    let denied = of_sample(write, &["--as", "ana"]);
    assert_eq!(denied.code, Some(1), "{}", denied.problems);
    assert!(denied.out.starts_with("assumed: ana is authenticated; no credential was checked\n"), "{}", denied.out);
    for part in ["DENIED 403 MissingRole", "✗ authorize", "rule write", "nothing was sent, counted or recorded"] {
        assert!(denied.out.contains(part), "{part}: {}", denied.out);
    }
    let permitted = of_sample(write, &["--as", "ana", "--role", "order-writer"]);
    assert_eq!(permitted.code, Some(0), "{}{}", permitted.out, permitted.problems);
    assert!(permitted.out.contains("PERMITTED   POST api.shop.example/orders"), "{}", permitted.out);
    let by_claim = of_sample(write, &["--as", "ana", "--claim", r#"realm_access={"roles":["order-writer"]}"#]);
    assert_eq!(by_claim.code, Some(0), "{}{}", by_claim.out, by_claim.problems);
    let robot = of_sample("GET http://api.shop.example/orders", &["--as", "nightly", "-o", "json"]);
    assert_eq!(robot.code, Some(0), "{}{}", robot.out, robot.problems);
    let shown: Value = serde_json::from_str(&robot.out).unwrap();
    assert_eq!((&shown["outcome"], &shown["status"]), (&json!("Permitted"), &Value::Null));
    assert_eq!(shown["record"]["identity"]["credential"], "nightly");
    assert_eq!(shown["steps"][0]["name"], "request");
    let nobody = of_sample("GET http://api.shop.example/orders", &[]);
    assert_eq!(nobody.code, Some(1));
    assert!(nobody.out.contains("401 NoCredentials"), "{}", nobody.out);
}

#[test]
fn what_is_not_known_is_said_and_not_guessed() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    let key = SigningKey::generate(Algorithm::RS256, "k")
        .unwrap_or_else(|_| SigningKey::generate(Algorithm::ES256, "k").unwrap());
    let now = Timestamp::now().seconds();
    let claims =
        json!({"iss": "https://idp.shop.example/realms/staff", "aud": "orders", "sub": "ana", "exp": now + 300});
    std::fs::write(&token, key.sign(&claims).unwrap()).unwrap();
    let unknown = of_sample("GET http://api.shop.example/orders", &["--token", token.to_str().unwrap()]);
    assert_eq!(unknown.code, Some(3), "{}{}", unknown.out, unknown.problems);
    assert!(
        unknown.out.contains("not known: no keys of `https://idp.shop.example/realms/staff` yet"),
        "{}",
        unknown.out
    );
    let token = std::fs::read_to_string(token).unwrap();
    assert!(!unknown.out.contains(&token) && !unknown.problems.contains(&token));
    // The sample's API key is not kept beside it.
    let guess = ApiKey::from_random([9; 32]).reveal().to_owned();
    let unknown = of_sample("GET http://api.shop.example/orders", &["--header", &format!("X-Api-Key: {guess}")]);
    assert_eq!(unknown.code, Some(3));
    assert!(unknown.out.contains("nightly-key") && !unknown.out.contains(&guess), "{}", unknown.out);
}

#[test]
fn wrong_usage_says_what_to_write() {
    for (arguments, said) in [
        (vec![], "ID|policy/NAME"),
        (vec!["--request", "GET /orders", "--dir", "."], "POST https://shop.example/orders"),
        (vec!["--request", "GET http://a/", "--role", "r", "--dir", "."], "--as"),
        (vec!["--request", "GET http://a/", "--header", "x", "--dir", "."], "NAME: VALUE"),
    ] {
        let wrong = explain(&arguments);
        assert_eq!(wrong.code, Some(2), "{arguments:?}: {}", wrong.problems);
        assert!(wrong.problems.contains(said), "{arguments:?}: {}", wrong.problems);
    }
}

#[test]
fn the_settings_in_force_have_their_sources() {
    let dir = samples();
    let dir = dir.to_str().unwrap();
    let orders = explain(&["policy/orders", "--dir", dir]);
    assert_eq!(orders.code, Some(0), "{}", orders.problems);
    for part in [
        "IdentityPolicy default/orders generation 1: in force",
        "authorization.rules[write]",
        "[the policy]",
        "disclosure",
        "[default]",
        "is overridden at",
        "by IdentityPolicy default/health",
    ] {
        assert!(orders.out.contains(part), "{part}: {}", orders.out);
    }
    let shown: Value = serde_json::from_str(&explain(&["policy/orders", "--dir", dir, "-o", "json"]).out).unwrap();
    assert_eq!(shown["inForce"], 1);
    let none = explain(&["policy/nothing", "--dir", dir]);
    assert_eq!(none.code, Some(1));
    assert!(none.problems.contains("there are"), "{}", none.problems);
}

const ISSUER: &str = "https://idp.shop.example/realms/staff";

/// The sample of orders, with keys of its issuer and of its Credential that the test has, and an upstream of its own.
fn playable(upstream: &Upstream, signing: &SigningKey, api_key: &str) -> String {
    let sample = std::fs::read_to_string(samples().join("orders.yaml")).unwrap();
    let keys = format!("keys: {{inline: '{}'}}", signing.jwks());
    let issuer = format!("{{issuer: '{ISSUER}', audiences: [orders], algorithms: [ES256], {keys}}}");
    let service = format!(
        "spec:\n  type: ExternalName\n  externalName: 127.0.0.1\n  ports: [{{name: http, port: {}}}]",
        upstream.address.port()
    );
    let text = sample
        .replace("{federationRef: {name: company}, audiences: [orders]}", &issuer)
        .replace("spec:\n  selector: {app: orders}\n  ports: [{name: http, port: 80, targetPort: 8080}]", &service)
        .replace("{name: orders, port: 80}", &format!("{{name: orders, port: {}}}", upstream.address.port()));
    for changed in [ISSUER, "ExternalName", "algorithms: [ES256]"] {
        assert!(text.contains(changed), "the sample has changed: {changed}");
    }
    format!("{text}\n---\n{}", secret("nightly-key", &[("key", api_key.to_owned())]))
}

/// A request, as a real caller would send it and as it is explained.
#[derive(Clone, Debug)]
struct Request {
    method: &'static str,
    host: &'static str,
    path: &'static str,
    headers: Vec<(&'static str, String)>,
}

impl Request {
    fn bytes(&self) -> Vec<u8> {
        let Self { method, host, path, headers } = self;
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n").into_bytes()
    }

    fn hypothetical(&self) -> Hypothetical {
        let Self { method, host, path, headers } = self;
        let header = |(name, value): &(&str, String)| {
            (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
        };
        let url = format!("http://{host}{path}").parse().unwrap();
        let headers = headers.iter().map(header).collect();
        Hypothetical { headers, ..Hypothetical::new(method.parse::<Method>().unwrap(), url) }
    }
}

fn requests(signing: &SigningKey, api_key: &str) -> impl Strategy<Value = Request> + use<> {
    let now = Timestamp::now().seconds();
    let token = |more: Value| {
        let mut claims =
            json!({"iss": ISSUER, "aud": "orders", "sub": "u1", "preferred_username": "ana", "exp": now + 600});
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        format!("Bearer {}", signing.sign(&claims).unwrap())
    };
    let other = SigningKey::generate(Algorithm::ES256, "k").unwrap();
    let bearer = |value: String| vec![("authorization", value)];
    let credentials = vec![
        vec![],
        bearer(token(json!({}))),
        bearer(token(json!({"realm_access": {"roles": ["order-writer"]}, "tid": "t1"}))),
        bearer(token(json!({"exp": now - 600}))),
        bearer(token(json!({"aud": "others"}))),
        bearer(token(json!({"iss": "https://evil.example"}))),
        bearer(token(json!({"preferred_username": null}))),
        bearer(format!("Bearer {}", other.sign(&json!({"iss": ISSUER, "aud": "orders", "exp": now + 600})).unwrap())),
        bearer("Bearer not.a.token".into()),
        vec![("x-api-key", api_key.to_owned())],
        vec![("x-api-key", ApiKey::from_random([4; 32]).reveal().to_owned())],
        vec![("x-api-key", "idm_short".into())],
        vec![("x-api-key", api_key.to_owned()), ("authorization", token(json!({})))],
    ];
    let paths = ["/orders", "/orders/7?x=1", "/healthz", "/other", "/orders/../x", "/orders%2F7", "/orders;a=b", "//"];
    let methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"];
    let hosts = ["api.shop.example", "API.shop.example", "other.shop.example", "elsewhere.example"];
    (
        prop::sample::select(methods.to_vec()),
        prop::sample::select(hosts.to_vec()),
        prop::sample::select(paths.to_vec()),
        prop::sample::select(credentials),
    )
        .prop_map(|(method, host, path, headers)| Request { method, host, path, headers })
}

#[test]
fn an_explanation_and_the_gateway_agree_on_outcome_status_and_reason() {
    let upstream = Upstream::answering("HTTP/1.1 204 X\r\n\r\n");
    let signing = SigningKey::generate(Algorithm::ES256, "k").unwrap();
    let api_key = ApiKey::from_random([3; 32]).reveal().to_owned();
    let text = playable(&upstream, &signing, &api_key);
    let gateway = InProcess::start(&[("all.yaml", &text)]);
    let (world, _) = yaml::read_files(&[("all.yaml".into(), text)], Settings::of_a_folder(false)).unwrap();
    let hypotheses = Hypotheses::new(compile(&world, None).seal(1)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let seen = std::cell::RefCell::new(BTreeSet::new());
    // The same requests in each run: among them there is one for each of the reasons below.
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let config = Config { cases: 400, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, rng);
    let agreed = runner.run(&requests(&signing, &api_key), |request| {
        let before = gateway.records().len();
        let reply = raw(gateway.address(), &request.bytes());
        let records = gateway.records();
        prop_assert_eq!(records.len(), before + 1);
        let record = records.last().unwrap();
        let asked = request.hypothetical();
        let decision = runtime.block_on(hypotheses.decide(&asked, Timestamp::now()));
        let Hypothesis { outcome, status, reason, explanation, .. } = decision.unwrap();
        let reason = reason.map(|reason| reason.code());
        prop_assert_eq!(reason, record["reason"].as_str(), "{:?}", request);
        prop_assert_eq!(format!("{outcome:?}"), record["outcome"].as_str().unwrap());
        prop_assert_eq!(status.unwrap_or(204), reply.status);
        let failed = explanation.steps.iter().filter(|step| !step.ok).count();
        prop_assert_eq!(failed, usize::from(outcome != HypotheticalOutcome::Permitted));
        prop_assert_eq!(gateway.records().len(), before + 1, "the explanation is on no record");
        seen.borrow_mut().insert(reason.unwrap_or("Permitted").to_owned());
        Ok(())
    });
    agreed.unwrap();
    let seen = seen.into_inner();
    for reason in
        ["Permitted", "NoCredentials", "MissingRole", "TokenExpired", "BadSignature", "UnknownApiKey", "NoRoute"]
    {
        assert!(seen.contains(reason), "{reason} was never asked for: {seen:?}");
    }
}
