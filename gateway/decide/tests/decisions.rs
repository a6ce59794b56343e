//! Decisions about whole requests, made in this process: from YAML to the verdict and its trace.

mod bed;

use std::collections::BTreeMap;

use bed::{ANYONE, API_KEY, Bed, key, policy, robot};
use idm_decide::{Decided, Decision};
use idm_types::{ApiKey, Reason, Stage};

#[tokio::test]
async fn a_request_is_refused_at_the_stage_where_it_fails() {
    let rules = "  authorization: {rules: [{name: admins, require: {roles: {any: [admin]}}}]}\n";
    let bed = Bed::new(&format!("{}{}", policy("up", API_KEY, rules), robot("reader")));
    let right = key();
    let wrong = ApiKey::from_random([8; 32]).reveal().to_owned();
    for (host, path, headers, expected) in [
        ("up", "/a/../b", vec![], (Reason::AmbiguousPath, Stage::Request)),
        ("other", "/", vec![], (Reason::NoRoute, Stage::Route)),
        ("up", "/", vec![], (Reason::NoCredentials, Stage::Authenticate)),
        ("up", "/", vec![("x-api-key", "idm_short")], (Reason::MalformedApiKey, Stage::Authenticate)),
        ("up", "/", vec![("x-api-key", wrong.as_str())], (Reason::UnknownApiKey, Stage::Authenticate)),
        ("up", "/", vec![("x-api-key", right.as_str())], (Reason::MissingRole, Stage::Authorize)),
    ] {
        assert_eq!(bed.refused(host, path, &headers).await, expected, "{host}{path}");
    }
}

#[tokio::test]
async fn the_trace_names_what_granted_and_what_refused() {
    let rules = "  authorization: {rules: [{name: readers, methods: [GET], require: {roles: {any: [reader]}}}]}\n";
    let bed = Bed::new(&format!("{}{}", policy("up", API_KEY, rules), robot("reader")));
    let key = key();
    let Decision { trace, outcome } = bed.ask("GET", "up", "/x", &[("x-api-key", &key)]).await;
    assert!(matches!(outcome, Ok(Decided::Forward { .. })));
    assert_eq!(trace.authentication.map(|name| name.to_string()).as_deref(), Some("machines"));
    assert_eq!(trace.authorization.map(|name| name.to_string()).as_deref(), Some("readers"));
    assert_eq!(trace.policy.and_then(|policy| bed.0.engine().policy(policy)).map(|plan| &*plan.key.name), Some("up"));
    assert_eq!((trace.host.as_str(), trace.path.as_str()), ("up", "/x"));
    let Decision { trace, outcome } = bed.ask("DELETE", "up", "/x", &[("x-api-key", &key)]).await;
    assert_eq!(outcome.err().map(|refusal| refusal.reason), Some(Reason::NoRuleMatched));
    assert!(trace.authorization.is_none() && trace.identity.is_some());
}

#[tokio::test]
async fn a_verdict_is_kept_and_says_so() {
    let bed = Bed::new(&format!("{}{}", policy("up", API_KEY, ""), robot("")));
    let key = key();
    let mut cached = Vec::new();
    for _ in 0..2 {
        let trace = bed.ask("GET", "up", "/x", &[("x-api-key", &key)]).await.trace;
        cached.extend(trace.identity.map(|(_, cached)| cached));
    }
    assert_eq!(cached, [false, true]);
}

#[tokio::test]
async fn the_upstream_gets_no_credential_and_no_header_that_only_the_gateway_writes() {
    let upstream = "  upstream: {headers: [{name: X-Who, value: identity.username}]}\n";
    let bed = Bed::new(&format!("{}{}", policy("up", API_KEY, upstream), robot("")));
    let key = key();
    let forged = [
        ("x-api-key", key.as_str()),
        ("x-who", "root"),
        ("x_who", "root"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-host", "evil"),
        ("connection", "x-who"),
    ];
    let headers = bed.forwarded("up", &forged).await;
    let texts: BTreeMap<_, _> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    assert_eq!(texts.get("x-who"), Some(&&b"robot"[..]), "{texts:?}");
    assert_eq!(texts.get("x-forwarded-for"), Some(&&b"127.0.0.1"[..]), "{texts:?}");
    assert_eq!(texts.get("x-forwarded-host"), Some(&&b"up"[..]), "{texts:?}");
    for gone in ["x-api-key", "x_who", "connection"] {
        assert!(!texts.contains_key(gone), "{gone}: {texts:?}");
    }
}

#[tokio::test]
async fn two_credentials_of_one_kind_are_ambiguous_and_a_bad_one_gets_no_second_method() {
    let methods = format!("{API_KEY}, {ANYONE}");
    let bed = Bed::new(&format!("{}{}", policy("up", &methods, ""), robot("")));
    let key = key();
    let twice = [("x-api-key", key.as_str()), ("x-api-key", key.as_str())];
    assert_eq!(bed.refused("up", "/", &twice).await.0, Reason::AmbiguousCredential);
    assert_eq!(bed.refused("up", "/", &[("x-api-key", "idm_bad")]).await.0, Reason::MalformedApiKey);
    let trace = bed.ask("GET", "up", "/", &[]).await.trace;
    assert_eq!(trace.authentication.map(|name| name.to_string()).as_deref(), Some("anyone"));
}

#[tokio::test]
async fn a_suspended_credential_is_refused_whatever_was_kept() {
    let suspended = robot("").replace("secretRef", "suspend: true, secretRef");
    let bed = Bed::new(&format!("{}{suspended}", policy("up", API_KEY, "")));
    let key = key();
    for _ in 0..2 {
        let refused = bed.refused("up", "/", &[("x-api-key", key.as_str())]).await;
        assert_eq!(refused, (Reason::CredentialSuspended, Stage::Authenticate));
    }
}

#[tokio::test]
async fn no_outside_server_is_asked_offline() {
    let ask = "{name: ask, introspection: {issuer: 'https://idp.example', endpoint: 'https://idp.example/ask', \
               clientId: c, clientSecretRef: {name: idp}}}";
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: idp}\nstringData: {clientSecret: s}\n";
    let bed = Bed::new(&format!("{}{secret}", policy("up", ask, "")));
    let refused = bed.refused("up", "/", &[("authorization", "Bearer opaque")]).await;
    assert_eq!(refused, (Reason::IntrospectionFailed, Stage::Authenticate));
}

#[tokio::test]
async fn the_upstream_hears_the_scheme_that_browsers_use() {
    let rest = "apiVersion: identity-manager.io/v1alpha1\nkind: Federation\nmetadata: {name: corp}\n\
                spec: {oidc: {issuer: 'https://idp.example', client: {clientId: c, \
                authentication: {clientSecretBasic: {name: idp}}}}}\n---\n\
                apiVersion: v1\nkind: Secret\nmetadata: {name: idp}\nstringData: {clientSecret: s}\n---\n";
    let key = key();
    for (origins, scheme) in
        [("https://up", "https"), ("https://other, https://up", "https"), ("https://other", "http")]
    {
        let methods =
            format!("{API_KEY}, {{name: people, signIn: {{federationRefs: [{{name: corp}}], origins: [{}]}}}}", {
                origins.split(", ").map(|origin| format!("'{origin}'")).collect::<Vec<_>>().join(", ")
            });
        let bed = Bed::new(&format!("{}{rest}{}", policy("up", &methods, ""), robot("")));
        let upstream = bed.forwarded("up", &[("x-api-key", key.as_str()), ("x-forwarded-proto", "wss")]).await;
        assert_eq!(upstream["x-forwarded-proto"], scheme, "{origins}");
    }
}
