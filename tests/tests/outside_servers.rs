//! Servers that the gateway asks: one that hangs is felt by those who need it alone, and keys that change are known in
//! time, whatever strangers send.

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use idm_jose::SigningKey;
use idm_tests::{Gateway, Issuer, Reply, Upstream, eventually, now, open_to, raw};
use idm_types::Algorithm;
use serde_json::{Value, json};

/// Takes connections, reads what comes, and says nothing.
fn hanging() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, taken) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = taken.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::Relaxed);
            std::thread::spawn(move || while matches!(stream.read(&mut [0; 4096]), Ok(n) if n > 0) {});
        }
    });
    (address, taken)
}

fn active() -> Upstream {
    let body =
        json!({"active": true, "iss": "https://idp", "sub": "ana", "aud": "orders", "exp": now() + 600}).to_string();
    Upstream::answering(&format!(
        "HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

fn introspects(name: &str, server: SocketAddr) -> String {
    format!(
        "apiVersion: identity-manager.io/v1alpha1\nkind: IdentityPolicy\nmetadata: {{name: {name}}}\nspec:\n  \
         targetRefs: [{{group: '', kind: Service, name: {name}}}]\n  authentication:\n    methods:\n    \
         - name: opaque\n      introspection: {{issuer: 'https://idp', endpoint: 'http://{server}/introspect', \
         clientId: c, clientSecretRef: {{name: idp}}}}\n"
    )
}

fn service(name: &str, upstream: &Upstream) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, \
         annotations: {{identity-manager.io/hostnames: '{name}.example'}}}}\n\
         spec: {{type: ExternalName, externalName: 127.0.0.1, ports: [{{name: http, port: {}}}]}}\n",
        upstream.address.port()
    )
}

const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: idp}\nstringData: {clientSecret: 's'}\n";

fn ask(gateway: SocketAddr, host: &str, token: &str) -> Reply {
    raw(gateway, format!("GET / HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n").as_bytes())
}

#[test]
fn a09_a_server_that_hangs_is_not_felt_by_a_policy_that_does_not_use_it() {
    let ((sick, taken), healthy) = (hanging(), active());
    let (sick_up, up) = (Upstream::new(), Upstream::new());
    let files = [
        service("sick", &sick_up),
        service("well", &up),
        introspects("sick", sick),
        introspects("well", healthy.address),
        SECRET.to_owned(),
    ];
    let gateway = Gateway::start_with(&[("all.yaml", &files.join("---\n"))], &["--danger-insecure-issuers"]);
    let address = gateway.address;
    let flood: Vec<_> = (0..150)
        .map(|number| std::thread::spawn(move || ask(address, "sick.example", &format!("random-{number}"))))
        .collect();
    eventually(
        "the server is asked",
        || {
            if taken.load(Ordering::Relaxed) >= 40 { Ok(()) } else { Err("not yet".into()) }
        },
    );
    // Every token is a fresh one, so that each of these asks.
    for number in 0..20 {
        let start = Instant::now();
        assert_eq!(ask(address, "well.example", &format!("good-{number}")).status, 200);
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
    let replies: Vec<Reply> = flood.into_iter().map(|one| one.join().unwrap()).collect();
    assert!(replies.iter().all(|reply| reply.status == 503));
    assert_eq!(sick_up.received(), "");
    assert!(taken.load(Ordering::Relaxed) <= 64, "{}", taken.load(Ordering::Relaxed));
    // Its circuit is open: refused at once, with a word about when.
    let (start, reply) = (Instant::now(), ask(address, "sick.example", "later"));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    let record = gateway.record(reply.decision());
    assert_eq!((reply.status, &record["reason"]), (503, &json!("IntrospectionFailed")), "{record}");
    assert!(record.to_string().contains("the circuit has been open for"), "{record}");
    assert!(reply.header("retry-after").is_some(), "{:?}", reply.headers);
    let log = gateway.log();
    assert_eq!(log.matches("its circuit is open").count(), 1, "told once");
}

#[test]
fn a09_the_same_token_is_asked_about_once_however_many_bring_it() {
    // Answers after a while, and counts.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (server, asked) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = asked.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let counted = counted.clone();
            std::thread::spawn(move || {
                let body = json!({"active": true, "sub": "ana", "exp": now() + 600}).to_string();
                let mut seen = Vec::new();
                let mut chunk = [0; 4096];
                while !String::from_utf8_lossy(&seen).contains("token_type_hint") {
                    match stream.read(&mut chunk) {
                        Ok(n) if n > 0 => seen.extend_from_slice(&chunk[..n]),
                        _ => return,
                    }
                }
                counted.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(800));
                let head = format!("HTTP/1.1 200 X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let _ = std::io::Write::write_all(&mut stream, format!("{head}{body}").as_bytes());
            });
        }
    });
    let up = Upstream::new();
    let files = [service("one", &up), introspects("one", server), SECRET.to_owned()];
    let gateway = Gateway::start_with(&[("all.yaml", &files.join("---\n"))], &["--danger-insecure-issuers"]);
    let address = gateway.address;
    let all: Vec<_> = (0..30).map(|_| std::thread::spawn(move || ask(address, "one.example", "same").status)).collect();
    assert!(all.into_iter().all(|one| one.join().unwrap() == 200));
    // A connection that came late may have missed the answer on its core.
    let cores = std::thread::available_parallelism().unwrap().get();
    assert!(asked.load(Ordering::Relaxed) <= cores, "{}", asked.load(Ordering::Relaxed));
}

fn jwt(upstream: &Upstream, issuer: &Issuer) -> String {
    open_to(
        upstream,
        &format!(
            "    - name: people\n      jwt: {{issuers: [{{issuer: '{}', audiences: [orders], \
             algorithms: [ES256, RS256], keys: {{discovery: {{}}}}}}]}}\n",
            issuer.name()
        ),
    )
}

fn key(kid: &str) -> SigningKey {
    SigningKey::generate(Algorithm::ES256, kid).unwrap()
}

#[test]
fn a10_one_unusable_key_is_left_out_and_named_and_the_others_serve() {
    let good = key("good");
    let (upstream, issuer) = (Upstream::new(), Issuer::new(&good));
    let mut all = vec![good.jwks()["keys"][0].clone()];
    all.push(json!({"kty": "RSA", "kid": "weak", "n": "AQAB", "e": "AQAB"}));
    issuer.serve(200, &json!({ "keys": all }).to_string());
    let gateway = Gateway::start_with(&[("all.yaml", &jwt(&upstream, &issuer))], &["--danger-insecure-issuers"]);
    let token = good.sign(&issuer.claims("ana")).unwrap();
    eventually("the good key serves", || {
        let reply = ask(gateway.address, "a", &token);
        if reply.status == 200 { Ok(()) } else { Err(format!("{}", reply.status)) }
    });
    eventually("the weak key is named", || {
        if gateway.log().contains("an issuer key is left out: kid `weak`") { Ok(()) } else { Err("not yet".into()) }
    });
}

#[test]
fn a11_a_key_published_5_s_before_it_signs_is_taken_in_a_flood_of_unknown_ones() {
    let first = key("k0");
    let (upstream, issuer) = (Upstream::new(), Issuer::new(&first));
    let gateway = Gateway::start_with(&[("all.yaml", &jwt(&upstream, &issuer))], &["--danger-insecure-issuers"]);
    let address = gateway.address;
    let good = first.sign(&issuer.claims("ana")).unwrap();
    eventually("the first key serves", || {
        if ask(address, "a", &good).status == 200 { Ok(()) } else { Err("not yet".into()) }
    });
    let stop = Arc::new(AtomicBool::new(false));
    let began = Instant::now();
    let fetched_before = issuer.fetches();
    let flood: Vec<_> = (0..2)
        .map(|thread| {
            let (stop, claims) = (stop.clone(), issuer.claims("mallory"));
            let stranger = key("x");
            std::thread::spawn(move || {
                let mut sent = 0;
                while !stop.load(Ordering::Relaxed) && sent < 20_000 {
                    let header = json!({"alg": "ES256", "kid": format!("unknown-{thread}-{sent}")});
                    let token = stranger.sign_with_header(&header, &claims).unwrap();
                    assert_eq!(ask(address, "a", &token).status, 401);
                    sent += 1;
                }
                sent
            })
        })
        .collect();
    let mut keys: Vec<Value> = vec![first.jwks()["keys"][0].clone()];
    for round in 1..=4 {
        let new = key(&format!("k{round}"));
        keys.push(new.jwks()["keys"][0].clone());
        issuer.serve(200, &json!({ "keys": keys }).to_string());
        // The promise is about time: five seconds after it was published.
        std::thread::sleep(Duration::from_secs(5));
        let reply = ask(address, "a", &new.sign(&issuer.claims("ana")).unwrap());
        assert_eq!(reply.status, 200, "round {round}: {}", gateway.record(reply.decision()));
    }
    stop.store(true, Ordering::Relaxed);
    let sent: usize = flood.into_iter().map(|one| one.join().unwrap()).sum();
    assert!(sent > 200, "{sent}");
    // One every four seconds, and those in hand: three, and one more every 30 s. Twenty in a minute.
    let (fetches, seconds) = (issuer.fetches() - fetched_before, began.elapsed().as_secs() as usize);
    assert!(fetches <= seconds / 4 + 1 + 3 + seconds / 30, "{fetches} fetches in {seconds} s");
    let record = gateway.records().into_iter().find(|record| record["reason"] == "UnknownKey");
    assert!(record.is_some());
}
