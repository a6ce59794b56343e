//! Opaque tokens that are asked about, and tokens that are worth something only with their key.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use idm_jose::SigningKey;
use idm_tests::{Gateway, InProcess, Issuer, Redis, Reply, Serves, Upstream, eventually, now, open_to, raw};
use idm_types::Algorithm;
use serde_json::{Value, json};

fn answer(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A gateway that asks this server, and its upstream.
fn asking<G: Serves>(server: &Upstream, more: &str) -> (G, Upstream) {
    let upstream = Upstream::new();
    let method = format!(
        "    - name: opaque\n      introspection: {{issuer: 'https://idp', endpoint: 'http://{}/introspect', \
            clientId: 'gate way', clientSecretRef: {{name: idp}}{more}}}\n    identity: {{username: token.username, \
            roles: token.roles}}\n",
        server.address
    );
    let secret =
        "---\napiVersion: v1\nkind: Secret\nmetadata: {name: idp}\nstringData: {clientSecret: 'canary secret'}\n";
    let gateway = G::start_with(
        &[("all.yaml", &format!("{}{secret}", open_to(&upstream, &method)))],
        &["--danger-insecure-issuers"],
    );
    (gateway, upstream)
}

fn bearer(gateway: &impl Serves, token: &str) -> Reply {
    raw(gateway.address(), format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n").as_bytes())
}

#[test]
fn an_active_token_is_asked_about_once_and_makes_an_identity() {
    let body = json!({
        "active": true, "iss": "https://idp", "sub": "7", "username": "ana", "roles": ["reader"],
        "aud": ["orders"], "scope": "a b", "exp": now() + 60,
    });
    let server = Upstream::answering(&answer(200, &body.to_string()));
    let (gateway, upstream) = asking::<Gateway>(&server, ", audiences: [orders]");
    // Sixteen requests may meet each core for the first time, and then no more questions are asked.
    for _ in 0..16 {
        assert_eq!(bearer(&gateway, "opaque-token").status, 200);
    }
    let asked = server.received();
    assert!(
        asked.matches("POST /introspect").count() <= std::thread::available_parallelism().unwrap().get(),
        "{asked}"
    );
    assert!(asked.contains("token=opaque-token&token_type_hint=access_token"));
    // RFC 6749 §2.3.1: id and secret are form-encoded before they are joined.
    let expected = base64::engine::general_purpose::STANDARD.encode("gate+way:canary+secret");
    assert!(
        asked.to_ascii_lowercase().contains(&format!("authorization: basic {expected}").to_ascii_lowercase()),
        "{asked}"
    );
    let seen = upstream.received().to_ascii_lowercase();
    assert!(
        seen.contains("x-authenticated-userid: ana")
            && seen.contains("x-authenticated-userroles: reader")
            && !seen.contains("opaque-token")
    );
    let log = gateway.log();
    assert!(!log.contains("canary") && !log.contains("opaque-token"), "neither secret nor token in the log");
}

#[test]
fn what_the_issuer_does_not_vouch_for_is_refused() {
    let good = json!({"active": true, "iss": "https://idp", "sub": "7", "username": "ana", "aud": "orders",
        "exp": now() + 60});
    let with = |change: fn(&mut Value)| {
        let mut body = good.clone();
        change(&mut body);
        answer(200, &body.to_string())
    };
    for (answer, status, reason) in [
        (answer(200, "{\"active\": false}"), 401, "TokenInactive"),
        (with(|body| body["active"] = json!("true")), 503, "IntrospectionFailed"),
        (answer(200, "{}"), 503, "IntrospectionFailed"),
        (answer(200, "{\"active\": false, \"active\": true}"), 503, "IntrospectionFailed"),
        (answer(200, "<html>"), 503, "IntrospectionFailed"),
        (answer(401, "{\"active\": true}"), 503, "IntrospectionFailed"),
        (with(|body| body["iss"] = json!("https://other")), 401, "UnknownIssuer"),
        (with(|body| body["aud"] = json!("billing")), 401, "WrongAudience"),
        (with(|body| drop(body.as_object_mut().unwrap().remove("aud"))), 401, "WrongAudience"),
        (with(|body| body["exp"] = json!(1)), 401, "TokenExpired"),
        (with(|body| body["exp"] = json!("later")), 401, "UnusableClaim"),
        (with(|body| drop(body.as_object_mut().unwrap().remove("username"))), 401, "UnusableClaim"),
        (with(|body| body["cnf"] = json!({"jkt": "x"})), 401, "TokenNotBound"),
        (with(|body| body["cnf"] = json!({"kid": "x"})), 401, "TokenNotBound"),
    ] {
        let server = Upstream::answering(&answer);
        let (gateway, upstream) = asking::<InProcess>(&server, ", audiences: [orders]");
        let reply = bearer(&gateway, "t");
        let record = gateway.record(reply.decision());
        assert_eq!((reply.status, record["reason"].as_str()), (status, Some(reason)), "{answer}: {record}");
        assert_eq!(upstream.received(), "");
    }
}

#[test]
fn a_token_that_is_not_active_is_not_asked_about_again_at_once() {
    let server = Upstream::answering(&answer(200, "{\"active\": false}"));
    let (gateway, _upstream) = asking::<InProcess>(&server, "");
    for _ in 0..10 {
        assert_eq!(bearer(&gateway, "dead").status, 401);
    }
    assert_eq!(server.received().matches("POST /introspect").count(), 1);
    // The issuer is not asked about text that cannot be a token.
    assert_eq!(bearer(&gateway, "a b").status, 401);
    assert_eq!(server.received().matches("POST /introspect").count(), 1);
}

struct Dpop<G = InProcess> {
    gateway: G,
    upstream: Upstream,
    issuer: Issuer,
    signer: SigningKey,
    key: SigningKey,
}

impl Dpop {
    fn new(confirmation: &str) -> Self {
        Self::with(confirmation, &["--danger-insecure-issuers"])
    }
}

impl<G: Serves> Dpop<G> {
    fn with(confirmation: &str, arguments: &[&str]) -> Self {
        let (signer, key) = (
            SigningKey::generate(Algorithm::ES256, "k1").unwrap(),
            SigningKey::generate(Algorithm::ES256, "mine").unwrap(),
        );
        let (upstream, issuer) = (Upstream::new(), Issuer::new(&signer));
        let method = format!(
            "    - name: people\n      jwt: {{issuers: [{{issuer: '{}', audiences: [orders], keys: {{discovery: \
                {{}}}}}}]{confirmation}}}\n",
            issuer.name()
        );
        let gateway = G::start_with(&[("all.yaml", &open_to(&upstream, &method))], arguments);
        Self { gateway, upstream, issuer, signer, key }
    }

    fn token(&self, bound: bool) -> String {
        let mut claims = self.issuer.claims("ana");
        if bound {
            claims["cnf"] = json!({"jkt": self.key.public().unwrap().thumbprint().unwrap()});
        }
        self.signer.sign(&claims).unwrap()
    }

    fn proof(&self, token: &str, change: impl FnOnce(&mut Value)) -> String {
        let ath = B64.encode(aws_hash(token));
        let id: u64 = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 1);
        let mut claims =
            json!({"jti": id.to_string(), "htm": "GET", "htu": "https://api.example/orders", "iat": now(), "ath": ath});
        change(&mut claims);
        self.key
            .sign_with_header(
                &json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": self.key.public().unwrap().reveal()}),
                &claims,
            )
            .unwrap()
    }

    fn send(&self, scheme: &str, token: &str, proof: Option<&str>) -> Reply {
        let proof = proof.map(|proof| format!("DPoP: {proof}\r\n")).unwrap_or_default();
        raw(
            self.gateway.address(),
            format!("GET /orders?a=b HTTP/1.1\r\nHost: api.example\r\nAuthorization: {scheme} {token}\r\n{proof}\r\n")
                .as_bytes(),
        )
    }

    fn refused(&self, reply: &Reply, reason: &str) {
        let record = self.gateway.record(reply.decision());
        assert_eq!((reply.status, record["reason"].as_str()), (401, Some(reason)), "{record}");
        assert_eq!(self.upstream.received(), "");
    }
}

fn aws_hash(text: &str) -> Vec<u8> {
    let output = std::process::Command::new("openssl")
        .args(["dgst", "-sha256", "-binary"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn();
    let mut child = output.unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    child.wait_with_output().unwrap().stdout
}

#[test]
fn a_bound_token_passes_with_its_proof_and_each_proof_once() {
    let bed = Dpop::new("");
    let token = bed.token(true);
    let proof = bed.proof(&token, |_| {});
    assert_eq!(bed.send("DPoP", &token, Some(&proof)).status, 200);
    assert!(!bed.upstream.received().to_ascii_lowercase().contains("dpop"), "neither token nor proof goes on");
    bed.upstream.forget();
    bed.refused(&bed.send("DPoP", &token, Some(&proof)), "InvalidProof");
    assert_eq!(bed.send("DPoP", &token, Some(&bed.proof(&token, |_| {}))).status, 200);
    // A token that is bound to nothing is an ordinary one.
    assert_eq!(bed.send("Bearer", &bed.token(false), None).status, 200);
}

#[test]
fn a_proof_that_one_gateway_took_is_refused_by_the_next() {
    let redis = Redis::start();
    let (password, url) = (redis.password_file(), redis.url());
    let arguments =
        ["--danger-insecure-issuers", "--store", &url, "--store-password-file", password.path().to_str().unwrap()];
    let one = Dpop::<Gateway>::with("", &arguments);
    let files = one.gateway.read("all.yaml");
    let other = Gateway::start_with(&[("all.yaml", &files)], &arguments);
    let token = one.token(true);
    let proof = one.proof(&token, |_| {});
    assert_eq!(one.send("DPoP", &token, Some(&proof)).status, 200);
    one.upstream.forget();
    let again = raw(
        other.address,
        format!(
            "GET /orders?a=b HTTP/1.1\r\nHost: api.example\r\nAuthorization: DPoP {token}\r\nDPoP: {proof}\r\n\r\n"
        )
        .as_bytes(),
    );
    assert_eq!((again.status, other.record(again.decision())["reason"].as_str()), (401, Some("InvalidProof")));
    assert_eq!(one.upstream.received(), "");
}

#[test]
fn a_store_that_hangs_is_felt_by_those_who_need_it_alone_and_not_for_long() {
    let redis = Redis::start();
    let (password, url) = (redis.password_file(), redis.url());
    let arguments =
        ["--danger-insecure-issuers", "--store", &url, "--store-password-file", password.path().to_str().unwrap()];
    let (bed, other_upstream) = (Dpop::<Gateway>::with("", &arguments), Upstream::new());
    // A policy that takes tokens which are bound to nothing.
    let other = open_to(
        &other_upstream,
        &format!(
            "    - name: people\n      jwt: {{issuers: [{{issuer: '{}', audiences: [orders], \
             keys: {{discovery: {{}}}}}}]}}\n",
            bed.issuer.name()
        ),
    );
    let other = other.replace("hostnames: '*'", "hostnames: 'other.example'").replace("name: up", "name: other");
    bed.gateway.write("other.yaml", &other.replace("metadata: {name: p}", "metadata: {name: other}"));
    let address = bed.gateway.address;
    let ask_other = |token: &str| {
        raw(
            address,
            format!("GET / HTTP/1.1\r\nHost: other.example\r\nAuthorization: Bearer {token}\r\n\r\n").as_bytes(),
        )
    };
    eventually("the other policy is in force", || {
        let status = ask_other(&bed.token(false)).status;
        if status == 200 && other_upstream.received().contains("GET / ") { Ok(()) } else { Err(status.to_string()) }
    });
    let token = bed.token(true);
    eventually("the store is connected", || match bed.send("DPoP", &token, Some(&bed.proof(&token, |_| {}))).status {
        200 => Ok(()),
        status => Err(status.to_string()),
    });
    bed.upstream.forget();
    let refused_before = store_refusals(&bed.gateway);
    let proofs: Vec<String> = (0..100).map(|_| bed.proof(&token, |_| {})).collect();

    redis.pause(true);
    let send = |proof: String| bed.send("DPoP", &token, Some(&proof));
    let replies: Vec<Reply> = std::thread::scope(|threads| {
        let send = &send;
        let flood: Vec<_> = proofs.into_iter().map(|proof| threads.spawn(move || send(proof))).collect();
        for number in 0..20 {
            let mut claims = bed.issuer.claims("ana");
            claims["jti"] = json!(number);
            let (fresh, start) = (bed.signer.sign(&claims).unwrap(), Instant::now());
            assert_eq!(ask_other(&fresh).status, 200);
            assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        }
        flood.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(replies.iter().all(|reply| reply.status == 503));
    // Its circuit is open: refused at once, with a word about when.
    let proof = bed.proof(&token, |_| {});
    let (start, reply) = (Instant::now(), bed.send("DPoP", &token, Some(&proof)));
    assert!(start.elapsed() < Duration::from_millis(800), "{:?}", start.elapsed());
    let record = bed.gateway.record(reply.decision());
    assert_eq!((reply.status, &record["reason"]), (503, &json!("StoreUnavailable")), "{record}");
    assert!(record.to_string().contains("the store does not answer; it is asked again in "), "{record}");
    assert!(reply.header("retry-after").is_some(), "{:?}", reply.headers);
    assert_eq!(bed.upstream.received(), "");
    for reply in &replies {
        assert_eq!(bed.gateway.record(reply.decision())["reason"], "StoreUnavailable");
    }
    assert_eq!(store_refusals(&bed.gateway) - refused_before, replies.len() + 1, "one record each");
    assert_eq!(bed.gateway.log().matches("its circuit is open").count(), 1, "told once");

    redis.pause(false);
    eventually("the store is back", || match bed.send("DPoP", &token, Some(&bed.proof(&token, |_| {}))).status {
        200 => Ok(()),
        status => Err(status.to_string()),
    });
    assert_eq!(bed.gateway.log().matches("its circuit is closed").count(), 1, "told once");
}

fn store_refusals(gateway: &Gateway) -> usize {
    gateway.records().iter().filter(|record| record["reason"] == "StoreUnavailable").count()
}

#[test]
fn a_bound_token_without_the_right_proof_is_worth_nothing() {
    let bed = Dpop::new("");
    let token = bed.token(true);
    bed.refused(&bed.send("Bearer", &token, None), "TokenNotBound");
    bed.refused(&bed.send("Bearer", &token, Some(&bed.proof(&token, |_| {}))), "TokenNotBound");
    bed.refused(&bed.send("DPoP", &bed.token(false), Some(&bed.proof(&token, |_| {}))), "TokenNotBound");
    let missing = bed.send("DPoP", &token, None);
    assert!(
        missing.headers.iter().any(|(name, value)| name == "www-authenticate"
            && value.starts_with("DPoP ")
            && value.contains("invalid_dpop_proof")),
        "{missing:?}"
    );
    bed.refused(&missing, "InvalidProof");
    let other = bed.token(true).replace('.', "..");
    bed.refused(&bed.send("DPoP", &other, Some(&bed.proof(&other, |_| {}))), "MalformedToken");
    let changes: [fn(&mut Value); 8] = [
        |claims| claims["htm"] = json!("POST"),
        |claims| claims["htu"] = json!("https://evil.example/orders"),
        |claims| claims["htu"] = json!("https://api.example/other"),
        |claims| claims["iat"] = json!(now() - 120),
        |claims| claims["iat"] = json!(now() + 60),
        |claims| claims["ath"] = json!("x"),
        |claims| drop(claims.as_object_mut().unwrap().remove("jti")),
        |claims| drop(claims.as_object_mut().unwrap().remove("ath")),
    ];
    for change in changes {
        bed.refused(&bed.send("DPoP", &token, Some(&bed.proof(&token, change))), "InvalidProof");
    }
    // The thief has a key of his own.
    let thief = Dpop { key: SigningKey::generate(Algorithm::ES256, "thief").unwrap(), ..Dpop::new("") };
    let stolen = bed.token(true);
    bed.refused(&bed.send("DPoP", &stolen, Some(&thief.proof(&stolen, |_| {}))), "InvalidProof");
    let two = format!("{}\r\nDPoP: {}", bed.proof(&token, |_| {}), bed.proof(&token, |_| {}));
    bed.refused(&bed.send("DPoP", &token, Some(&two)), "InvalidProof");
}

#[test]
fn a_policy_may_demand_bound_tokens() {
    let bed = Dpop::new(", confirmation: {dpop: Required}");
    bed.refused(&bed.send("Bearer", &bed.token(false), None), "TokenNotBound");
    let token = bed.token(true);
    assert_eq!(bed.send("DPoP", &token, Some(&bed.proof(&token, |_| {}))).status, 200);
    let certificate = Dpop::new(", confirmation: {certificate: Required}");
    certificate.refused(&certificate.send("Bearer", &certificate.token(false), None), "TokenNotBound");
}
