//! Policies in shadow judge what others decide about, and change nothing.

use std::fmt::Write;
use std::net::TcpListener;

use idm_compile::yaml::read_files;
use idm_compile::{Cause, Compiled, Condition, Settings, World, compile};
use idm_jose::SigningKey;
use idm_plan::{Bundle, Handler, ShadowPart};
use idm_tests::{InProcess, Reply, Serves, Upstream, now, raw, secret};
use idm_types::{Algorithm, ApiKey, Reason};
use serde_json::{Value, json};

const ISSUER: &str = "https://idp.example";
const OPEN: &str = "{name: everyone, anonymous: {}}";
const KEYS: &str = "{name: machines, apiKey: {}}";

fn key(number: u8) -> String {
    ApiKey::from_random([number; 32]).reveal().to_owned()
}

fn route(name: &str, port: u16) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\n\
         spec: {{parentRefs: [{{name: g}}], hostnames: [{name}.example], rules: [{{backendRefs: \
         [{{name: up, port: {port}}}]}}]}}\n"
    )
}

/// A Gateway with one route, and two Credentials: one with the role `writer`.
fn objects(port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: up}}\nspec: {{type: ExternalName, externalName: 127.0.0.1, \
         ports: [{{name: http, port: {port}}}]}}\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n\
         metadata: {{name: g}}\nspec: {{gatewayClassName: idm, listeners: [{{name: one, port: 80, protocol: HTTP}}]}}\n\
         {}---\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {{name: robot}}\n\
         spec: {{apiKey: {{}}, roles: [writer], secretRef: {{name: robot}}}}\n{}---\n\
         apiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {{name: guest}}\n\
         spec: {{apiKey: {{}}, secretRef: {{name: guest}}}}\n{}",
        route("shop", port),
        secret("robot", &[("key", key(7))]),
        secret("guest", &[("key", key(8))]),
    )
}

/// A policy on a target.
fn policy(name: &str, target: &str, methods: &str, more: &str) -> String {
    format!(
        "---\napiVersion: identity-manager.io/v1alpha1\nkind: IdentityPolicy\nmetadata: {{name: {name}, uid: uid of \
         {name}, generation: 3}}\nspec:\n  targetRefs: [{target}]\n  authentication: {{methods: [{methods}]}}\n{more}"
    )
}

const ROUTE: &str = "{group: gateway.networking.k8s.io, kind: HTTPRoute, name: shop}";
const GATEWAY: &str = "{group: gateway.networking.k8s.io, kind: Gateway, name: g}";
const SHADOW: &str = "  enforcement: Shadow\n";

struct Bed {
    gateway: InProcess,
    upstream: Upstream,
}

/// The route with an enforced policy and others.
fn bed(enforced: &str, others: &str) -> Bed {
    let upstream = Upstream::new();
    let yaml = objects(upstream.address.port()) + &policy("enforced", ROUTE, enforced, "") + others;
    Bed { gateway: InProcess::start_with(&[("all.yaml", &yaml)], &["--danger-insecure-issuers"]), upstream }
}

impl Bed {
    fn get(&self, headers: &str) -> Reply {
        self.ask("GET", headers)
    }

    fn ask(&self, method: &str, headers: &str) -> Reply {
        let head = format!("{method} /orders HTTP/1.1\r\nHost: shop.example\r\n{headers}\r\n");
        raw(self.gateway.address(), head.as_bytes())
    }

    /// The shadow's part of the last record of a request that was let through.
    fn judged(&self, headers: &str) -> Value {
        let reply = self.get(headers);
        assert_eq!(reply.status, 200, "{reply:?}");
        let record = self.gateway.records().pop().expect("a record");
        assert_eq!(record["outcome"], "Permitted", "{record}");
        record["shadow"].clone()
    }
}

fn api_key(number: u8) -> String {
    format!("X-Api-Key: {}\r\n", key(number))
}

const WRITERS: &str = "  enforcement: Shadow\n  authorization: {rules: [{name: write, require: {roles: {any: \
                       [writer]}}}]}\n";

#[test]
fn what_it_would_have_refused_is_on_record_and_nothing_else_differs() {
    let bed = bed(OPEN, &policy("strict", ROUTE, KEYS, WRITERS));
    let nobody = bed.judged("");
    assert_eq!(nobody[0]["policy"], "default/strict");
    assert_eq!((&nobody[0]["outcome"], &nobody[0]["reason"]), (&json!("Denied"), &json!("NoCredentials")));
    assert_eq!((&nobody[0]["generation"], nobody.as_array().map(Vec::len)), (&json!(3), Some(1)));
    let guest = bed.judged(&api_key(8));
    let of = |shadow: &Value| json!([shadow[0]["outcome"], shadow[0]["reason"], shadow[0]["rule"]]);
    assert_eq!(of(&guest), json!(["Denied", "MissingRole", "write"]));
    assert_eq!(of(&bed.judged(&api_key(7))), json!(["Permitted", null, "write"]));
    assert_eq!(of(&bed.judged(&api_key(9))), json!(["Denied", "UnknownApiKey", null]));
}

#[test]
fn answers_and_what_the_upstream_gets_are_the_same_bytes_with_and_without_it() {
    let heavy = "  enforcement: Shadow\n  limits: [{name: one, key: Address, rate: {requests: 1, perSeconds: 3600}}]\n  \
                 upstream: {credential: Remove, headers: [{name: X-Tenant, value: identity.username}]}\n  \
                 cors: {allowOrigins: ['https://a.example']}\n  disclosure: Detailed\n";
    let transcript = |others: &str| {
        let bed = bed(OPEN, others);
        let mut all = String::new();
        let token =
            "Authorization: Basic dXNlcjpwYXNz\r\nX-Tenant: mine\r\nX_Api_Key: a\r\nOrigin: https://a.example\r\n";
        for headers in ["", &api_key(7), &api_key(9), token, "Cookie: __Host-idm-session=x\r\n"] {
            for method in ["GET", "POST", "OPTIONS"] {
                let mut reply = bed.ask(method, headers);
                reply.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("date"));
                let _ = write!(all, "{} {:?}", reply.status, reply.headers);
            }
        }
        (all, bed.upstream.received())
    };
    let (without, with) = (transcript(""), transcript(&policy("strict", ROUTE, KEYS, heavy)));
    assert!(without.1.contains("X-Tenant") || without.1.contains("x-tenant"), "{}", without.1);
    assert_eq!(without.1, with.1, "the upstream's bytes");
    assert_eq!(without.0, with.0, "the answers");
}

#[test]
fn nothing_is_counted_or_used_up() {
    let guesses = "  enforcement: Shadow\n";
    let digest = "{name: d, basic: {realm: r}}, {name: machines, apiKey: {}}";
    let bed = bed(OPEN, &policy("strict", ROUTE, digest, guesses));
    // Many wrong passwords: none of them is a guess, so no one is locked out, and none is checked.
    for _ in 0..30 {
        let shadow = bed.judged("Authorization: Basic cm9ib3Q6d3Jvbmc=\r\n");
        assert_eq!(shadow[0]["reason"], "WrongPassword", "no Credential has this name: {shadow}");
    }
}

#[test]
fn methods_that_ask_others_are_not_asked() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let asks = format!(
        "{{name: tokens, introspection: {{issuer: '{ISSUER}', endpoint: 'http://{}/ask', clientId: a, \
         clientSecretRef: {{name: s}}, audiences: [a]}}}}",
        server.local_addr().unwrap()
    );
    let bed = bed(OPEN, &(policy("asks", ROUTE, &asks, SHADOW) + &secret("s", &[("clientSecret", "hush".into())])));
    let shadow = bed.judged("Authorization: Bearer opaque\r\n");
    assert_eq!(
        (&shadow[0]["outcome"], &shadow[0]["reason"]),
        (&json!("NotJudged"), &json!("OutsideServer")),
        "{shadow}"
    );
    assert!(server.accept().is_err(), "nobody was asked");
    assert_eq!(bed.judged("")[0]["reason"], "NoCredentials", "without a credential nobody needs to be asked");
}

fn world(yaml: &str) -> World {
    read_files(&[("all.yaml".into(), yaml.into())], Settings::default()).unwrap().0
}

fn compiled(more: &str, previous: Option<&Bundle>) -> Compiled {
    compile(&world(&(objects(8080) + more)), previous)
}

fn finding(compiled: &Compiled, name: &str) -> Option<(Condition, Cause, bool)> {
    let about = compiled.report.findings().iter().find(|finding| finding.object.name == name);
    about.map(|finding| (finding.condition, finding.cause, finding.is_note()))
}

fn handler_of(compiled: &Compiled) -> Result<Vec<ShadowPart>, Reason> {
    let rule = compiled.plan.rules.iter().find(|rule| rule.name.contains("/shop ")).expect("a rule");
    match &rule.handler {
        Handler::Refuse { reason, .. } => Err(*reason),
        _ => Ok(rule.shadows.iter().map(|shadow| shadow.part).collect()),
    }
}

#[test]
fn where_nothing_enforced_decides_requests_are_refused_and_the_policy_says_why() {
    let alone = compiled(&policy("strict", ROUTE, KEYS, SHADOW), None);
    assert_eq!(handler_of(&alone), Err(Reason::NoPolicy));
    assert_eq!(finding(&alone, "strict"), Some((Condition::Accepted, Cause::Unprotected, false)));
    // A policy on the Gateway decides; the shadow would take its place at this route.
    let below = compiled(&(policy("strict", ROUTE, KEYS, SHADOW) + &policy("usual", GATEWAY, OPEN, "")), None);
    assert_eq!(handler_of(&below), Ok(vec![ShadowPart::Policy]));
    assert_eq!(finding(&below, "strict"), Some((Condition::Programmed, Cause::Shadow, true)));
    // A Service that nothing else covers is not served at all.
    let service = compiled(&policy("strict", "{group: '', kind: Service, name: up}", KEYS, SHADOW), None);
    assert_eq!(finding(&service, "strict"), Some((Condition::Accepted, Cause::Unprotected, false)));
    // A class that forwards what no policy covers is open on purpose.
    let class = format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {{name: idm, annotations: {{{}: \
         'true'}}}}\nspec: {{controllerName: {}}}\n",
        idm_api::DANGER_OPEN_ANNOTATION,
        idm_api::CONTROLLER_NAME
    );
    let open = compiled(&(class + &policy("strict", ROUTE, KEYS, SHADOW)), None);
    assert_eq!(handler_of(&open), Ok(vec![ShadowPart::Policy]));
    assert_eq!(finding(&open, "strict"), Some((Condition::Programmed, Cause::Shadow, true)));
}

#[test]
fn it_judges_only_what_it_would_decide_about() {
    let less = compiled(&(policy("strict", GATEWAY, KEYS, SHADOW) + &policy("own", ROUTE, OPEN, "")), None);
    assert_eq!(handler_of(&less), Ok(vec![]), "the route has a policy of its own");
    assert_eq!(finding(&less, "strict"), Some((Condition::Programmed, Cause::Overridden, false)));
    let baseline = "  enforcement: Shadow\n  baseline: {methods: [apiKey]}\n";
    let demands = compiled(&(policy("strict", GATEWAY, KEYS, baseline) + &policy("own", ROUTE, OPEN, "")), None);
    assert_eq!(handler_of(&demands), Ok(vec![ShadowPart::Baseline]), "a baseline is for all routes");
    assert_eq!(finding(&demands, "own"), None, "it does not hold yet");
    let later =
        policy("strict", ROUTE, KEYS, SHADOW).replace("generation: 3", "creationTimestamp: '2020-01-01T00:00:00Z'");
    let both = compiled(&(later + &policy("older", ROUTE, KEYS, SHADOW) + &policy("own", ROUTE, OPEN, "")), None);
    let lost = both.report.errors().find(|of| of.object.name == "strict").map(|of| of.cause);
    assert_eq!(lost, Some(Cause::Conflicted), "the older one judges");
}

#[test]
fn what_decides_goes_on_when_a_change_into_a_shadow_is_not_valid() {
    let good = compiled(&policy("own", ROUTE, KEYS, ""), None);
    let wrong = "  enforcement: Shadow\n  authorization: {rules: [{name: a, when: '1 +'}]}\n";
    let kept = compiled(&policy("own", ROUTE, KEYS, wrong), Some(&good.seal(1)));
    assert_eq!(handler_of(&kept), Ok(vec![]), "the version that decides is in force");
    let never = compiled(&(policy("new", ROUTE, KEYS, wrong) + &policy("own", GATEWAY, KEYS, "")), None);
    assert_eq!(handler_of(&never), Ok(vec![]), "what never was valid judges nothing, and closes nothing");
    let service = "  enforcement: Shadow\n  tokenService: {issuer: 'https://shop.example/t', audiences: [a], grants: \
                   [ClientCredentials]}\n";
    let answers = compiled(&policy("own", ROUTE, KEYS, service), None);
    assert!(answers.report.errors().any(|of| of.path == "spec.tokenService" && of.cause == Cause::Invalid));
}

#[test]
fn a_baseline_in_shadow_judges_the_caller_that_the_route_let_in() {
    let baseline = "  enforcement: Shadow\n  baseline: {methods: [apiKey], access: {exceptPaths: [/internal]}}\n";
    let bed = bed(OPEN, &policy("platform", GATEWAY, KEYS, baseline));
    let shadow = bed.judged("");
    assert_eq!((&shadow[0]["baseline"], &shadow[0]["reason"]), (&json!(true), &json!("BaselineNotMet")), "{shadow}");
}

#[test]
fn a_token_is_judged_by_the_other_issuers_and_rules() {
    let signer = SigningKey::generate(Algorithm::ES256, "k1").unwrap();
    let method = |audience: &str| {
        format!(
            "{{name: people, jwt: {{issuers: [{{issuer: '{ISSUER}', audiences: [{audience}], algorithms: [ES256], \
             keys: {{inline: '{}'}}}}]}}}}",
            signer.jwks()
        )
    };
    let token = |claims: Value| {
        let mut all = json!({"iss": ISSUER, "aud": ["a", "c"], "sub": "ana", "exp": now() + 60});
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        format!("Authorization: Bearer {}\r\n", signer.sign(&all).unwrap())
    };
    let rules = "  enforcement: Shadow\n  authorization: {rules: [{name: strong, when: \"'otp' in token.amr\"}]}\n";
    let same = bed(&method("a"), &policy("strict", ROUTE, &method("a"), rules));
    for _ in 0..2 {
        // Also where the verdict on the token is kept: its claims are kept for the shadow's rules.
        assert_eq!(same.judged(&token(json!({"amr": ["otp"]})))[0]["outcome"], "Permitted");
        assert_eq!(same.judged(&token(json!({"amr": ["pwd"]})))[0]["reason"], "NoRuleMatched");
    }
    let other = bed(&method("a"), &policy("strict", ROUTE, &method("b"), SHADOW));
    assert_eq!(other.judged(&token(json!({})))[0]["reason"], "WrongAudience");
}
