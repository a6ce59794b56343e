//! Token handling, with a live issuer: what is refused, why, and what happens when keys change.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use idm_jose::SigningKey;
use idm_tests::{Gateway, InProcess, Issuer, Reply, Serves, Upstream, eventually, now, open_to, raw};
use serde_json::{Value, json};

struct Bed<G = InProcess> {
    gateway: G,
    upstream: Upstream,
    issuer: Issuer,
    key: SigningKey,
}

fn bed<G: Serves>() -> Bed<G> {
    let key = SigningKey::generate(idm_types::Algorithm::ES256, "k1").unwrap();
    let (upstream, issuer) = (Upstream::new(), Issuer::new(&key));
    let gateway = G::start_with(&[("all.yaml", &policy(&upstream, &issuer))], &["--danger-insecure-issuers"]);
    Bed { gateway, upstream, issuer, key }
}

fn policy(upstream: &Upstream, issuer: &Issuer) -> String {
    let method = format!(
        "    - name: people\n      jwt: {{issuers: [{{issuer: '{}', audiences: [orders], algorithms: [ES256], keys: \
            {{discovery: {{}}}}}}], sources: [{{header: {{name: Authorization, scheme: Bearer}}}}, {{cookie: {{name: \
            token}}}}], clockSkewSeconds: 0}}\n    - {{name: machines, apiKey: {{sources: [{{query: {{name: key}}}}, \
            {{header: {{name: X-Api-Key}}}}]}}}}\n    identity: {{roles: token.roles}}\n",
        issuer.name()
    );
    open_to(upstream, &method)
}

impl<G: Serves> Bed<G> {
    fn send(&self, headers: &str) -> Reply {
        raw(self.gateway.address(), format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n").as_bytes())
    }

    fn bearer(&self, token: &str) -> Reply {
        self.send(&format!("Authorization: Bearer {token}\r\n"))
    }

    fn refused(&self, token: &str, reason: &str) {
        self.upstream.forget();
        let reply = self.bearer(token);
        let record = self.gateway.record(reply.decision());
        assert_eq!(record["reason"], reason, "{record}");
        assert_eq!(self.upstream.received(), "", "{reason}");
        assert!(matches!(reply.status, 400 | 401), "{reply:?}");
        assert!(!reply.body.contains(reason), "the caller learns no reason: {}", reply.body);
    }

    fn token(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = self.issuer.claims("ana");
        change(&mut claims);
        self.key.sign(&claims).unwrap()
    }
}

#[test]
fn bad_tokens_are_refused_for_the_right_reason() {
    let bed: Bed = bed();
    assert_eq!(bed.bearer(&bed.token(|_| {})).status, 200);
    let good = bed.token(|_| {});
    let parts: Vec<&str> = good.split('.').collect();
    let part = |value: Value| B64.encode(value.to_string());
    bed.refused(&bed.token(|c| c["exp"] = json!(now() - 1)), "TokenExpired");
    bed.refused(&bed.token(|c| c["nbf"] = json!(now() + 60)), "TokenNotYetValid");
    bed.refused(&bed.token(|c| c["aud"] = json!("billing")), "WrongAudience");
    bed.refused(&bed.token(|c| c["iss"] = json!("http://evil.example")), "UnknownIssuer");
    bed.refused(&bed.token(|c| c["sub"] = json!("a\u{0}b")), "UnusableClaim");
    bed.refused(&bed.token(|c| drop(c.as_object_mut().unwrap().remove("sub"))), "UnusableClaim");
    bed.refused(&format!("{}.{}.{}", parts[0], part(bed.issuer.claims("root")), parts[2]), "BadSignature");
    bed.refused(&format!("{}.{}.", part(json!({"alg": "none"})), parts[1]), "AlgorithmNotAllowed");
    bed.refused(
        &format!("{}.{}.{}", part(json!({"alg": "HS256", "kid": "k1"})), parts[1], parts[2]),
        "AlgorithmNotAllowed",
    );
    bed.refused(
        &format!("{}.{}.{}", part(json!({"alg": "ES256", "kid": "../../etc/passwd"})), parts[1], parts[2]),
        "UnknownKey",
    );
    bed.refused(
        &format!("{}.{}.{}", part(json!({"alg": "ES256", "kid": "k1", "crit": ["x"], "x": 1})), parts[1], parts[2]),
        "UnsupportedCritical",
    );
    bed.refused(
        &format!("{}.{}.{}", part(json!({"alg": "ES256", "kid": "k1", "typ": "dpop+jwt"})), parts[1], parts[2]),
        "WrongTokenType",
    );
    bed.refused(&format!("{good}.x.y"), "MalformedToken");
    bed.refused(&format!("{}={}", parts[0], &good[parts[0].len()..]), "MalformedToken");
    bed.refused(&"a".repeat(17_000), "TokenTooLarge");
    let other = SigningKey::generate(idm_types::Algorithm::ES256, "k1").unwrap();
    bed.refused(
        &other
            .sign_with_header(
                &json!({"alg": "ES256", "kid": "k1", "jwk": other.jwks()["keys"][0]}),
                &bed.issuer.claims("root"),
            )
            .unwrap(),
        "BadSignature",
    );
}

#[test]
fn t23_one_credential_is_verified_and_nothing_else_goes_on() {
    let bed: Bed<Gateway> = bed();
    let (good, other) = (bed.token(|_| {}), bed.token(|c| c["sub"] = json!("root")));
    bed.upstream.forget();
    for headers in [
        format!("Authorization: Bearer {good}\r\nAuthorization: Bearer {other}\r\n"),
        format!("Authorization: Bearer {good}\r\nCookie: token={other}\r\n"),
        format!("Cookie: token={good}; token={other}\r\n"),
    ] {
        let reply = bed.send(&headers);
        assert_eq!(bed.gateway.record(reply.decision())["reason"], "AmbiguousCredential");
        assert_eq!((reply.status, bed.upstream.received().as_str()), (400, ""));
    }
    // Another method's credential beside the verified one is removed, in header, cookie and query.
    let request = format!(
        "GET /x?a=1&key=idm_secret&%6bey=idm_twice&b=2 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer \
            {good}\r\nX-Api-Key: idm_other\r\nCookie: a=1\r\n\r\n"
    );
    assert_eq!(raw(bed.gateway.address, request.as_bytes()).status, 200);
    let received = bed.upstream.received();
    assert!(
        received.starts_with("GET /x?a=1&b=2 HTTP/1.1\r\n")
            && !received.contains("idm_")
            && !received.contains(&good)
            && received.contains("cookie: a=1"),
        "{received}"
    );
}

#[test]
fn a_role_with_a_comma_does_not_become_two() {
    let bed: Bed = bed();
    let token = bed.token(|c| c["roles"] = json!(["reader", "x,admin", "a b", 7]));
    assert_eq!(bed.bearer(&token).status, 200);
    assert!(bed.upstream.received().contains("x-authenticated-userroles: reader\r\n"), "{}", bed.upstream.received());
}

#[test]
fn a_new_key_is_fetched_when_it_is_met_and_a_removed_one_is_void() {
    let bed: Bed = bed();
    let old = bed.token(|_| {});
    assert_eq!(bed.bearer(&old).status, 200);
    let new = SigningKey::generate(idm_types::Algorithm::ES256, "k2").unwrap();
    bed.issuer.serve(200, &new.jwks().to_string());
    // The first token under the new key is accepted at once, not after a refresh.
    let fresh = new.sign(&bed.issuer.claims("ana")).unwrap();
    assert_eq!(bed.bearer(&fresh).status, 200);
    // With the same answer the old key went: also for a verdict that was cached.
    bed.refused(&old, "UnknownKey");
    // A flood of unknown keys causes no flood of fetches.
    let fetched = bed.issuer.fetches();
    for i in 0..50 {
        let token = SigningKey::generate(idm_types::Algorithm::ES256, &format!("evil-{i}"))
            .unwrap()
            .sign(&bed.issuer.claims("root"))
            .unwrap();
        assert_eq!(bed.bearer(&token).status, 401);
    }
    assert!(bed.issuer.fetches() <= fetched + 1, "{} fetches", bed.issuer.fetches() - fetched);
}

#[test]
fn a_sick_issuer_harms_nobody_who_was_fine() {
    for (status, jwks) in [
        (500, "{}"),
        (200, "<html>"),
        (200, ""),
        (200, "{\"keys\":[]}"),
        (200, &"x".repeat(600_000)),
        (200, "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\",\"kid\":\"k1\"}]}"),
    ] {
        let bed: Bed = bed();
        assert_eq!(bed.bearer(&bed.token(|_| {})).status, 200);
        bed.issuer.serve(status, jwks);
        let stranger =
            SigningKey::generate(idm_types::Algorithm::ES256, "k9").unwrap().sign(&bed.issuer.claims("root")).unwrap();
        // This makes the gateway fetch the broken set; the last good keys must survive it.
        assert_eq!(bed.bearer(&stranger).status, 401, "{jwks:.40}");
        assert_eq!(bed.bearer(&bed.token(|c| c["sub"] = json!("bob"))).status, 200, "{jwks:.40}");
    }
}

#[test]
fn keys_of_another_issuer_are_not_taken() {
    let key = SigningKey::generate(idm_types::Algorithm::ES256, "k1").unwrap();
    let (upstream, issuer) = (Upstream::new(), Issuer::new(&key));
    issuer.claim_to_be("http://someone-else.example");
    let gateway = InProcess::start_with(&[("all.yaml", &policy(&upstream, &issuer))], &["--danger-insecure-issuers"]);
    let bed = Bed { gateway, upstream, issuer, key };
    let reply = bed.bearer(&bed.token(|_| {}));
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("5")));
    assert_eq!(bed.gateway.record(reply.decision())["reason"], "KeysUnavailable");
    assert_eq!(bed.upstream.received(), "");
}

#[test]
fn secrets_are_in_no_log_and_no_record() {
    let bed: Bed<Gateway> = bed();
    let good = bed.token(|_| {});
    let expired = bed.token(|c| c["exp"] = json!(1));
    let key = "idm_000000000000000000000000000000000000000000000AbCdEf";
    bed.bearer(&good);
    bed.bearer(&expired);
    bed.send(&format!("X-Api-Key: {key}\r\n"));
    raw(
        bed.gateway.address,
        format!("GET /q?key={key} HTTP/1.1\r\nHost: a\r\nCookie: token=canary-cookie\r\n\r\n").as_bytes(),
    );
    eventually("four records", || (bed.gateway.records().len() >= 4).then_some(()).ok_or_else(|| "not yet".into()));
    let everything = format!("{}{:?}", bed.gateway.log(), bed.gateway.records());
    for secret in [good.rsplit('.').next().unwrap(), expired.rsplit('.').next().unwrap(), &key[10..], "canary-cookie"] {
        assert!(!everything.contains(secret), "{secret} leaked");
    }
}

#[test]
fn http2_meets_the_same_checks() {
    let bed: Bed<Gateway> = bed();
    let token = bed.token(|_| {});
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let send = |path: &'static str, headers: Vec<(&'static str, String)>| {
        let address = bed.gateway.address;
        runtime.block_on(async move {
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let (client, connection) = h2::client::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            let mut client = client.ready().await.unwrap();
            let mut request = http::Request::builder().uri(format!("http://a.example{path}"));
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let (answer, mut body) = client.send_request(request.body(()).unwrap(), false).unwrap();
            let mut trailers = http::HeaderMap::new();
            trailers.insert("x-authenticated-userid", "root".parse().unwrap());
            body.send_data(bytes::Bytes::from_static(b"hi"), false).unwrap();
            body.send_trailers(trailers).unwrap();
            tokio::time::timeout(Duration::from_secs(5), answer).await.unwrap().unwrap().status().as_u16()
        })
    };
    assert_eq!(
        send("/a", vec![("authorization", format!("Bearer {token}")), ("x_authenticated_userid", "root".into())]),
        200
    );
    let received = bed.upstream.received();
    assert!(
        received.contains("host: a.example")
            && received.contains("x-authenticated-userid: ana")
            && !received.contains("root"),
        "{received}"
    );
    bed.upstream.forget();
    assert_eq!(send("/a", vec![]), 401);
    assert_eq!(send("/a", vec![("authorization", format!("Bearer {token}")), ("host", "b.example".into())]), 400);
    assert_eq!(send("/x/../a", vec![("authorization", format!("Bearer {token}"))]), 400);
    assert_eq!(bed.upstream.received(), "");
}
