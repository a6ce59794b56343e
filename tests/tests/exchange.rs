//! Tokens for the upstream in exchange for the caller's, tokens in the query, and the profile of RFC 9068.

use idm_jose::SigningKey;
use idm_tests::{Gateway, InProcess, Issuer, Reply, Serves, Upstream, now, open_to, raw};
use idm_types::Algorithm;
use serde_json::{Value, json};

fn answer(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

struct Bed<G = InProcess> {
    gateway: G,
    upstream: Upstream,
    issuer: Issuer,
    signer: SigningKey,
}

/// A gateway that takes the issuer's tokens (`more` of the issuer's entry and of the method), with the rest of a
/// policy.
fn bed<G: Serves>(of_issuer: &str, of_method: &str, rest: &str) -> Bed<G> {
    let signer = SigningKey::generate(Algorithm::ES256, "k1").unwrap();
    let (upstream, issuer) = (Upstream::new(), Issuer::new(&signer));
    let method = format!(
        "    - name: people\n      jwt: {{issuers: [{{issuer: '{}', audiences: [orders], keys: {{discovery: \
            {{}}}}{of_issuer}}}]{of_method}}}\n    - {{name: everyone, anonymous: {{}}}}\n{rest}",
        issuer.name()
    );
    let secret =
        "---\napiVersion: v1\nkind: Secret\nmetadata: {name: idp}\nstringData: {clientSecret: 'canary secret'}\n";
    let gateway = G::start_with(
        &[("all.yaml", &format!("{}{secret}", open_to(&upstream, &method)))],
        &["--danger-insecure-issuers"],
    );
    Bed { gateway, upstream, issuer, signer }
}

fn exchange(server: &Upstream, more: &str) -> String {
    format!(
        "  upstream: {{tokenExchange: {{endpoint: 'http://{}/token', clientId: gateway, clientSecretRef: {{name: \
            idp}}, audience: billing, scopes: [a.read, b.read]{more}}}}}\n",
        server.address
    )
}

impl<G: Serves> Bed<G> {
    fn token(&self) -> String {
        self.signer.sign(&self.issuer.claims("ana")).unwrap()
    }

    fn call(&self, token: &str) -> Reply {
        raw(
            self.gateway.address(),
            format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n").as_bytes(),
        )
    }

    fn refused(&self, reply: &Reply, status: u16, reason: &str) -> Value {
        let record = self.gateway.record(reply.decision());
        assert_eq!((reply.status, record["reason"].as_str()), (status, Some(reason)), "{record}");
        assert_eq!(self.upstream.received(), "");
        record
    }
}

#[test]
fn the_upstream_gets_a_token_of_its_own_and_never_the_callers() {
    let body = json!({"access_token": "narrow-token",
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token", "token_type": "Bearer",
        "expires_in": 300});
    let server = Upstream::answering(&answer(200, &body.to_string()));
    let bed: Bed<Gateway> = bed("", "", &exchange(&server, ""));
    let token = bed.token();
    for _ in 0..8 {
        assert_eq!(bed.call(&token).status, 200);
    }
    let seen = bed.upstream.received().to_ascii_lowercase();
    assert_eq!(seen.matches("authorization: bearer narrow-token\r\n").count(), 8, "{seen}");
    assert!(!seen.contains(&token.to_ascii_lowercase()));
    let asked = server.received();
    assert_eq!(
        asked.matches("POST /token").count(),
        1,
        "one exchange serves all requests with one token, on every core: {asked}"
    );
    for part in [
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange",
        "subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token",
        "audience=billing",
        "scope=a.read+b.read",
        &format!("subject_token={token}"),
    ] {
        assert!(asked.contains(part), "{part}: {asked}");
    }
    // Another caller's token is exchanged for itself.
    let other = bed.signer.sign(&bed.issuer.claims("bob")).unwrap();
    assert_eq!(bed.call(&other).status, 200);
    assert_eq!(server.received().matches("POST /token").count(), 2);
    let log = bed.gateway.log();
    assert!(!log.contains("narrow-token") && !log.contains("canary") && !log.contains(&token));
}

#[test]
fn without_a_token_for_the_upstream_nothing_goes_on() {
    let good = json!({"access_token": "t", "token_type": "Bearer", "expires_in": 300});
    let with = |change: fn(&mut Value)| {
        let mut body = good.clone();
        change(&mut body);
        answer(200, &body.to_string())
    };
    for (answer, status, reason) in [
        (answer(400, "{\"error\": \"invalid_target\"}"), 403, "TokenExchangeRefused"),
        (answer(403, "no"), 403, "TokenExchangeRefused"),
        (answer(401, "{\"error\": \"invalid_client\"}"), 503, "TokenExchangeFailed"),
        (answer(500, "{}"), 503, "TokenExchangeFailed"),
        (answer(302, ""), 503, "TokenExchangeFailed"),
        (answer(200, "<html>"), 503, "TokenExchangeFailed"),
        (
            answer(200, "{\"access_token\": \"a\", \"access_token\": \"b\", \"token_type\": \"Bearer\"}"),
            503,
            "TokenExchangeFailed",
        ),
        (with(|body| body["token_type"] = json!("N_A")), 503, "TokenExchangeFailed"),
        (with(|body| body["token_type"] = json!("DPoP")), 503, "TokenExchangeFailed"),
        (with(|body| body["access_token"] = json!("a\r\nX-Authenticated-UserId: root")), 503, "TokenExchangeFailed"),
        (
            with(|body| body["issued_token_type"] = json!("urn:ietf:params:oauth:token-type:refresh_token")),
            503,
            "TokenExchangeFailed",
        ),
        (with(|body| drop(body.as_object_mut().unwrap().remove("access_token"))), 503, "TokenExchangeFailed"),
    ] {
        let server = Upstream::answering(&answer);
        let bed: Bed = bed("", "", &exchange(&server, ""));
        bed.refused(&bed.call(&bed.token()), status, reason);
    }
    // A caller without a token has nothing to exchange; a refused one is not even asked about.
    let server = Upstream::answering(&answer(200, &good.to_string()));
    let bed: Bed = bed("", "", &exchange(&server, ""));
    bed.refused(&raw(bed.gateway.address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), 403, "TokenExchangeRefused");
    bed.refused(&bed.call("nonsense"), 401, "MalformedToken");
    assert_eq!(server.received(), "");
}

#[test]
fn an_exchanged_token_is_not_used_beyond_its_life_or_the_policys_time() {
    for (more, expires) in [(", cacheSeconds: 0", 300), ("", 10), ("", 0)] {
        let server = Upstream::answering(&answer(
            200,
            &json!({"access_token": "t", "token_type": "bearer", "expires_in": expires}).to_string(),
        ));
        let bed: Bed = bed("", "", &exchange(&server, more));
        let token = bed.token();
        assert_eq!((bed.call(&token).status, bed.call(&token).status), (200, 200));
        assert_eq!(server.received().matches("POST /token").count(), 2, "{more} {expires}");
    }
}

#[test]
fn a_token_in_the_query_is_limited_recorded_and_goes_no_further() {
    let bed: Bed<Gateway> = bed(
        "",
        ", sources: [{header: {name: Authorization, scheme: Bearer}}, {query: {name: access_token, requestsPerMinute: \
         3}}]",
        "",
    );
    let token = bed.token();
    let by_query = |rest: &str| {
        raw(
            bed.gateway.address,
            format!("GET /feed?a=1&access_token={token}{rest} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(),
        )
    };
    let good = by_query("");
    assert_eq!((good.status, good.header("cache-control")), (200, Some("private")));
    let seen = bed.upstream.received();
    assert!(seen.starts_with("GET /feed?a=1 HTTP/1.1\r\n") && !seen.contains(&token), "{seen}");
    let record = idm_tests::eventually("the record", || bed.gateway.records().pop().ok_or_else(|| "none".to_owned()));
    assert_eq!(record["policy"]["in_query"], true);
    assert!(!record.to_string().contains(&token));
    bed.upstream.forget();
    // Twice, or in two places, is not for us to choose from.
    bed.refused(&by_query(&format!("&access_token={token}")), 400, "AmbiguousCredential");
    let both = format!("GET /?access_token={token} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
    bed.refused(&raw(bed.gateway.address, both.as_bytes()), 400, "AmbiguousCredential");
    assert_eq!((by_query("").status, by_query("").status), (200, 200));
    bed.upstream.forget();
    let limited = by_query("");
    assert!(limited.header("retry-after").is_some_and(|seconds| (1..=60).contains(&seconds.parse::<u32>().unwrap())));
    bed.refused(&limited, 429, "TooManyQueryTokens");
    // In its own place it is not limited, and not remarked upon.
    let usual = bed.call(&token);
    assert_eq!((usual.status, usual.header("cache-control")), (200, None));
    assert!(!bed.gateway.log().contains(&token));
}

#[test]
fn the_profile_of_rfc_9068_is_held_to() {
    let bed: Bed = bed(", profile: RFC9068", "", "");
    let sign = |typ: &str, change: fn(&mut Value)| {
        let mut claims = bed.issuer.claims("ana");
        for (name, value) in [("client_id", json!("c")), ("jti", json!("1")), ("iat", json!(now()))] {
            claims[name] = value;
        }
        change(&mut claims);
        bed.signer.sign_with_header(&json!({"alg": "ES256", "kid": "k1", "typ": typ}), &claims).unwrap()
    };
    for typ in ["at+jwt", "application/at+jwt", "AT+JWT"] {
        assert_eq!(bed.call(&sign(typ, |_| {})).status, 200, "{typ}");
    }
    bed.upstream.forget();
    bed.refused(&bed.call(&sign("JWT", |_| {})), 401, "WrongTokenType");
    bed.refused(&bed.call(&bed.token()), 401, "WrongTokenType");
    let changes: [fn(&mut Value); 4] = [
        |claims| drop(claims.as_object_mut().unwrap().remove("client_id")),
        |claims| drop(claims.as_object_mut().unwrap().remove("jti")),
        |claims| drop(claims.as_object_mut().unwrap().remove("iat")),
        |claims| claims["sub"] = json!(""),
    ];
    for change in changes {
        bed.refused(&bed.call(&sign("at+jwt", change)), 401, "UnusableClaim");
    }
}
