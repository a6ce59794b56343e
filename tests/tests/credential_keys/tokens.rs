//! JWTs that callers sign themselves with secrets of their Credentials, as Kong's and Tyk's consumers do.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use idm_jose::{Jwk, SigningKey};
use idm_tests::{Gateway, InProcess, Reply, Serves, Upstream, eventually, now, open_to, raw};
use idm_types::Algorithm;
use serde_json::{Value, json};

const OLD: &str = "the old secret of thirty-two bytes";
const NEW: &str = "the new secret, of sixty-four bytes: so that it is good for HS512";

struct Bed<G = InProcess> {
    gateway: G,
    upstream: Upstream,
}

fn credential(name: &str, jwt: &str, more: &str) -> String {
    format!(
        "---\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {{name: {name}}}\n\
         spec: {{hmacJwt: {jwt}, roles: [reader]{more}}}\n"
    )
}

fn files(upstream: &Upstream, method: &str, new: &str) -> String {
    [
        open_to(upstream, &format!("    - {{name: own, hmacJwt: {{{method}}}}}\n")),
        credential(
            "shop",
            "{issuer: 'https://shop.example', keys: [{id: k1, secretRef: {name: s, key: old}}, {id: k2, algorithm: \
             HS512, secretRef: {name: s, key: new}}]}",
            "",
        ),
        credential("kong", "{keys: [{id: a36c3049b36249a3c9f8891cb127243c, secretRef: {name: s, key: old}}]}", ""),
        credential(
            "over",
            "{keys: [{id: over, secretRef: {name: s, key: old}, expireTime: '2020-01-01T00:00:00Z'}]}",
            "",
        ),
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData: {{old: '{OLD}', new: '{new}'}}\n"
        ),
    ]
    .concat()
}

fn bed<G: Serves>(method: &str) -> Bed<G> {
    let upstream = Upstream::new();
    Bed { gateway: G::start_with(&[("all.yaml", &files(&upstream, method, NEW))], &[]), upstream }
}

/// A token with this secret and these claims, which lives for a minute.
fn token(secret: &str, algorithm: Algorithm, kid: Option<&str>, claims: Value) -> String {
    let jwk = Jwk::parse(format!("{{\"kty\":\"oct\",\"k\":\"{}\"}}", B64.encode(secret)).as_bytes()).unwrap();
    let jwk = kid.map_or(jwk.clone(), |kid| jwk.named(kid));
    let mut all = json!({"exp": now() + 60, "aud": "orders"});
    for (name, value) in claims.as_object().unwrap() {
        all[name] = value.clone();
    }
    all.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    SigningKey::from_jwk(&jwk, algorithm).unwrap().sign(&all).unwrap()
}

impl<G: Serves> Bed<G> {
    fn send(&self, token: &str) -> Reply {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
        raw(self.gateway.address(), text.as_bytes())
    }

    fn refused(&self, token: &str, reason: &str) {
        self.upstream.forget();
        let before = self.gateway.records().len();
        let reply = self.send(token);
        let record = self.gateway.record(reply.decision());
        let status = if reason == "AmbiguousCredential" { 400 } else { 401 };
        assert_eq!((reply.status, record["reason"].as_str()), (status, Some(reason)), "{record:#}");
        assert_eq!((self.upstream.received().as_str(), self.gateway.records().len()), ("", before + 1));
    }

    /// The Credential and the key by which a token is let in.
    fn known(&self, token: &str) -> (String, String) {
        let before = self.gateway.records().len();
        let status = self.send(token).status;
        let record = eventually("a record", || self.gateway.records().get(before).cloned().ok_or("none yet".into()));
        assert_eq!(status, 200, "{record:#}");
        let text = |name: &str| record["identity"][name].as_str().unwrap_or_default().to_owned();
        (text("credential"), text("kid"))
    }
}

#[test]
fn a_token_is_its_callers_by_kid_or_by_issuer_and_with_any_key_in_force() {
    let bed: Bed<Gateway> = bed("audiences: [orders]");
    let shop = json!({"iss": "https://shop.example", "sub": "admin", "roles": ["admin"]});
    let of = |credential: &str, key: &str| (credential.to_owned(), key.to_owned());
    let by_issuer = token(OLD, Algorithm::HS256, None, shop.clone());
    assert_eq!(bed.known(&by_issuer), of("shop", "k1"));
    // From what is kept, and it is the same.
    assert_eq!(bed.known(&by_issuer), of("shop", "k1"));
    assert_eq!(bed.known(&token(NEW, Algorithm::HS512, None, shop.clone())), of("shop", "k2"));
    assert_eq!(bed.known(&token(NEW, Algorithm::HS512, Some("k2"), shop)), of("shop", "k2"));
    let kong = "a36c3049b36249a3c9f8891cb127243c";
    assert_eq!(bed.known(&token(OLD, Algorithm::HS256, None, json!({"iss": kong}))), of("kong", kong));
    assert_eq!(bed.known(&token(OLD, Algorithm::HS256, Some(kong), json!({}))), of("kong", kong));
    let seen = bed.upstream.received().to_ascii_lowercase();
    assert!(
        seen.contains("x-authenticated-userid: shop") && seen.contains("x-authenticated-userroles: reader"),
        "{seen}"
    );
    assert!(!seen.contains("admin") && !seen.contains("authorization"), "what it claims counts for nothing: {seen}");
    let log = bed.gateway.log();
    assert!(!log.contains(OLD) && !log.contains(NEW));
}

#[test]
fn a_token_that_is_not_its_callers_is_refused() {
    let bed: Bed = bed("audiences: [orders], maxLifetimeSeconds: 300");
    let shop = |more: Value| {
        let mut claims = json!({"iss": "https://shop.example"});
        more.as_object().unwrap().iter().for_each(|(name, value)| claims[name] = value.clone());
        claims
    };
    let signed = |more: Value| token(OLD, Algorithm::HS256, None, shop(more));
    bed.refused(&token(OLD, Algorithm::HS256, None, json!({"iss": "https://eve.example"})), "UnknownIssuer");
    bed.refused(&token(OLD, Algorithm::HS256, None, json!({})), "UnknownIssuer");
    bed.refused(&token(&"x".repeat(64), Algorithm::HS256, None, shop(json!({}))), "BadSignature");
    // Each secret is bound to one algorithm, and another Credential's is no key of this one.
    bed.refused(&token(NEW, Algorithm::HS256, Some("k2"), shop(json!({}))), "AlgorithmNotAllowed");
    bed.refused(&token(OLD, Algorithm::HS256, Some("over"), shop(json!({}))), "AmbiguousCredential");
    bed.refused(&token(OLD, Algorithm::HS256, Some("k1"), json!({"iss": "https://eve.example"})), "UnknownIssuer");
    bed.refused(&signed(json!({"aud": "billing"})), "WrongAudience");
    bed.refused(&signed(json!({"exp": now() - 31})), "TokenExpired");
    bed.refused(&signed(json!({"nbf": now() + 60})), "TokenNotYetValid");
    bed.refused(&signed(json!({"exp": now() + 400})), "UnusableClaim");
    bed.refused(&signed(json!({"exp": null})), "UnusableClaim");
    bed.refused(&signed(json!({"cnf": {"jkt": "x"}})), "TokenNotBound");
    bed.refused(&token(OLD, Algorithm::HS256, Some("over"), json!({})), "CredentialExpired");
    // No asymmetric algorithm and none at all reaches a secret.
    let forged = |header: Value| {
        let part = |value: &Value| B64.encode(value.to_string());
        format!("{}.{}.AAAA", part(&header), part(&shop(json!({"exp": now() + 60, "aud": "orders"}))))
    };
    bed.refused(&forged(json!({"alg": "RS256", "kid": "k1"})), "AlgorithmNotAllowed");
    bed.refused(&forged(json!({"alg": "none"})), "AlgorithmNotAllowed");
    let open: Bed = self::bed("");
    assert_eq!(open.known(&token(OLD, Algorithm::HS256, None, shop(json!({"aud": null})))).0, "shop");
    open.refused(&signed(json!({})), "WrongAudience");
}

#[test]
fn a_secret_that_was_replaced_lets_nobody_in() {
    let upstream = Upstream::new();
    let gateway = InProcess::start(&[("all.yaml", &files(&upstream, "audiences: [orders]", NEW))]);
    let bed = Bed { gateway, upstream };
    let claims = json!({"iss": "https://shop.example"});
    let before = token(NEW, Algorithm::HS512, None, claims.clone());
    assert_eq!(bed.known(&before).1, "k2");
    let newest = NEW.to_uppercase();
    bed.gateway.write("all.yaml", &files(&bed.upstream, "audiences: [orders]", &newest));
    bed.refused(&before, "BadSignature");
    assert_eq!(bed.known(&token(&newest, Algorithm::HS512, None, claims.clone())).1, "k2");
    assert_eq!(bed.known(&token(OLD, Algorithm::HS256, None, claims)).1, "k1", "the other one stays");
}
