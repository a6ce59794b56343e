//! The field's failures with tokens, one test each, under the number that the security notes give them. The oracle
//! is the reason on record and the silence of the upstream, not the status alone.

use std::net::{IpAddr, TcpListener, ToSocketAddrs};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as B64};
use idm_jose::{EncryptionKey, Jwk, SigningKey, private_key, system_entropy};
use idm_tests::{
    Authority, Gateway, HTTPS_LISTENER, InProcess, Issuer, Redis, Reply, Serves, Upstream, eventually, now, open_to,
    raw, secret,
};
use idm_types::{Algorithm, ContentEncryption, KeyManagement};
use serde_json::{Value, json};

const INSECURE: &[&str] = &["--danger-insecure-issuers"];

struct Bed<G = InProcess> {
    gateway: G,
    upstream: Upstream,
}

impl Bed {
    fn new(methods: &str, more: &str, arguments: &[&str]) -> Self {
        Self::on(methods, more, arguments)
    }

    /// Takes tokens of `https://idp` that these keys signed.
    fn with_keys(jwks: &Value, algorithms: &str) -> Self {
        let method = format!(
            "    - {{name: m, jwt: {{issuers: [{{issuer: 'https://idp', audiences: [orders], algorithms: \
                [{algorithms}], keys: {{inline: '{jwks}'}}}}]}}}}\n"
        );
        Self::new(&method, "", &[])
    }
}

impl<G: Serves> Bed<G> {
    fn on(methods: &str, more: &str, arguments: &[&str]) -> Self {
        let upstream = Upstream::new();
        let gateway = G::start_with(&[("all.yaml", &format!("{}{more}", open_to(&upstream, methods)))], arguments);
        Self { gateway, upstream }
    }

    fn bearer(&self, token: &str) -> Reply {
        raw(
            self.gateway.address(),
            format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n").as_bytes(),
        )
    }

    /// Refused with one of these reasons, with one record, and nothing at the upstream.
    fn refused(&self, reply: &Reply, reasons: &[&str]) {
        assert!(matches!(reply.status, 400..=503), "{reply:?}");
        let record = self.gateway.record(reply.decision());
        assert!(reasons.iter().any(|reason| record["reason"] == *reason), "{reasons:?}: {record}");
        assert_eq!(self.upstream.received(), "");
    }
}

fn claims() -> Value {
    json!({"iss": "https://idp", "aud": "orders", "sub": "ana", "exp": now() + 300})
}

fn openssl(dir: &std::path::Path, arguments: &str) -> Vec<u8> {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn t24_a_public_key_is_no_hmac_secret_in_any_of_its_forms() {
    let dir = tempfile::tempdir().unwrap();
    openssl(dir.path(), "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key.pem");
    let jwk = private_key(&std::fs::read_to_string(dir.path().join("key.pem")).unwrap()).unwrap().named("k");
    let public = jwk.public().unwrap().reveal();
    let bed = Bed::with_keys(&json!({"keys": [public]}), "RS256");
    let good = SigningKey::from_jwk(&jwk, Algorithm::RS256).unwrap();
    assert_eq!(bed.bearer(&good.sign(&claims()).unwrap()).status, 200);
    bed.upstream.forget();
    let pem = openssl(dir.path(), "pkey -in key.pem -pubout");
    let forms: [Vec<u8>; 7] = [
        pem.clone(),
        pem.trim_ascii_end().to_vec(),
        openssl(dir.path(), "pkey -in key.pem -pubout -outform DER"),
        openssl(dir.path(), "rsa -in key.pem -RSAPublicKey_out"),
        B64.decode(public["n"].as_str().unwrap()).unwrap(),
        public["n"].as_str().unwrap().into(),
        public.to_string().into_bytes(),
    ];
    for form in forms {
        let key = Jwk::parse(json!({"kty": "oct", "k": B64.encode(&form)}).to_string().as_bytes()).unwrap();
        let key = SigningKey::from_jwk(&key, Algorithm::HS256).unwrap();
        for header in [
            json!({"alg": "HS256", "kid": "k"}),
            json!({"alg": "HS256"}),
            json!({"alg": "HS256", "kid": "k", "jwk": key_of(&key)}),
        ] {
            bed.refused(&bed.bearer(&key.sign_with_header(&header, &claims()).unwrap()), &["AlgorithmNotAllowed"]);
        }
    }
    // Not even where a policy asks for it: the key set cannot be bound to such an algorithm.
    use idm_compile::{Settings, compile, yaml::read_files};
    let upstream = Upstream::new();
    let method = format!(
        "    - {{name: m, jwt: {{issuers: [{{issuer: 'https://idp', audiences: [a], algorithms: [HS256], keys: \
            {{inline: '{}'}}}}]}}}}\n",
        json!({"keys": [public]})
    );
    let (world, _) =
        read_files(&[("all.yaml".into(), open_to(&upstream, &method))], Settings::of_a_folder(false)).unwrap();
    assert!(compile(&world, None).report.errors().next().is_some());
}

fn key_of(key: &SigningKey) -> Value {
    serde_json::from_str(key.reveal_jwk()).unwrap()
}

#[test]
fn t25_a_standard_claim_of_a_wrong_type_is_not_an_absent_one() {
    let key = SigningKey::generate(Algorithm::ES256, "k").unwrap();
    let bed = Bed::with_keys(&key.jwks(), "ES256");
    let dates = [json!("soon"), json!(null), json!([]), json!({}), json!(true), json!(-1), json!(1e308), json!("")];
    for claim in ["exp", "nbf", "iat"] {
        for wrong in &dates {
            let mut claims = claims();
            claims[claim] = wrong.clone();
            let reply = bed.bearer(&key.sign(&claims).unwrap());
            assert_ne!(reply.status, 200, "{claim}: {wrong}");
            bed.refused(&reply, &["UnusableClaim", "TokenNotYetValid"]);
        }
    }
    for claim in ["iss", "aud", "sub"] {
        for wrong in [
            json!(null),
            json!([]),
            json!({}),
            json!(true),
            json!(7),
            json!(1e308),
            json!(""),
            json!([["orders"]]),
            json!({"orders": 1}),
        ] {
            if claim == "sub" && wrong == 7 {
                continue; // a whole number names a caller by its digits
            }
            let mut claims = claims();
            claims[claim] = wrong.clone();
            bed.refused(&bed.bearer(&key.sign(&claims).unwrap()), &["UnusableClaim", "UnknownIssuer", "WrongAudience"]);
        }
    }
    // A date that providers write as text is a date: it counts, and is not passed over.
    for (claim, date, status) in
        [("exp", "9999999999", 200), ("exp", "1000000000", 401), ("nbf", "1000000000", 200), ("nbf", "9999999999", 401)]
    {
        let mut claims = claims();
        claims[claim] = json!(date);
        assert_eq!(bed.bearer(&key.sign(&claims).unwrap()).status, status, "{claim}: {date}");
    }
}

#[test]
fn t26_keys_that_are_missing_or_empty_close_the_route() {
    use idm_compile::{Settings, compile, yaml::read_files};
    let upstream = Upstream::new();
    for (keys, more) in [
        ("inline: '{\"keys\": []}'", ""),
        ("inline: '{}'", ""),
        ("inline: ''", ""),
        (
            "secretRef: {name: s}",
            "---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {jwks.json: ''}\n",
        ),
        ("secretRef: {name: s}", "---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {}\n"),
        ("secretRef: {name: s}", ""),
        ("inline: '{\"keys\": [{\"kty\": \"oct\", \"k\": \"\"}]}'", ""),
    ] {
        let method = format!(
            "    - {{name: m, jwt: {{issuers: [{{issuer: 'https://idp', audiences: [a], keys: {{{keys}}}}}]}}}}\n"
        );
        let (world, _) = read_files(
            &[("all.yaml".into(), format!("{}{more}", open_to(&upstream, &method)))],
            Settings::of_a_folder(false),
        )
        .unwrap();
        let compiled = compile(&world, None);
        assert!(compiled.report.errors().next().is_some(), "{keys}");
        assert!(
            compiled.plan.policies.is_empty()
                && !compiled.plan.rules.iter().any(|rule| matches!(rule.handler, idm_plan::Handler::Enforce { .. })),
            "{keys}"
        );
    }
    let key = SigningKey::generate(Algorithm::ES256, "k").unwrap();
    let bed = Bed::with_keys(&key.jwks(), "ES256");
    bed.refused(&raw(bed.gateway.address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), &["NoCredentials"]);
}

#[test]
fn t27_what_anyone_can_encrypt_is_no_token() {
    let dir = tempfile::tempdir().unwrap();
    openssl(dir.path(), "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key.pem");
    let jwk = private_key(&std::fs::read_to_string(dir.path().join("key.pem")).unwrap()).unwrap().named("k");
    let bed = Bed::with_keys(&json!({"keys": [jwk.public().unwrap().reveal()]}), "RS256");
    let key = EncryptionKey::from_jwk(&jwk.public().unwrap(), KeyManagement::RsaOaep256).unwrap();
    for cty in [None, Some("JWT")] {
        let header = cty.map(|cty| ("cty".to_owned(), Value::from(cty))).into_iter().collect();
        let sealed = key
            .encrypt(ContentEncryption::A256Gcm, header, claims().to_string().as_bytes(), &mut system_entropy)
            .unwrap();
        bed.refused(&bed.bearer(&sealed.compact()), &["MalformedToken"]);
    }
}

#[test]
fn t28_work_that_a_message_asks_for_is_bounded() {
    let password = "    - {name: everyone, anonymous: {}}\n  jose: [{name: s, consume: {from: {body: {}}, decrypt: \
        {secretRef: {name: enc}, algorithms: [PBES2-HS256+A128KW], encryptions: [A128GCM]}, to: {body: {}}}}]\n";
    let jwks = json!({"keys": [{"kty": "oct", "k": B64.encode("a password of some length, for wrapping"), "alg": "PBES2-HS256+A128KW"}]});
    let bed = Bed::new(password, &secret("enc", &[("jwks.json", jwks.to_string())]), &[]);
    let send = |header: Value| {
        let body = format!(
            "{}.{}.{}.{}.{}",
            B64.encode(header.to_string()),
            B64.encode([0; 24]),
            B64.encode([0; 12]),
            B64.encode([0; 16]),
            B64.encode([0; 16])
        );
        let start = Instant::now();
        let reply = raw(
            bed.gateway.address,
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes(),
        );
        (reply, start.elapsed())
    };
    for count in [json!(2_147_483_648u64), json!(10_000_000), json!(-1), json!("1000"), json!(1e9)] {
        let (reply, took) =
            send(json!({"alg": "PBES2-HS256+A128KW", "enc": "A128GCM", "p2s": B64.encode([7; 16]), "p2c": count}));
        bed.refused(&reply, &["MalformedToken", "CannotDecrypt", "AlgorithmNotAllowed"]);
        // Two billion rounds would take a quarter of an hour.
        assert!(took < Duration::from_millis(500), "{took:?}");
    }
    let (zipped, _) = send(
        json!({"alg": "PBES2-HS256+A128KW", "enc": "A128GCM", "p2s": B64.encode([7; 16]), "p2c": 1000, "zip": "DEF"}),
    );
    bed.refused(&zipped, &["MalformedToken", "CannotDecrypt", "UnsupportedCritical"]);
}

#[test]
fn t29_who_asks_a_server_that_hangs_holds_up_nobody_else() {
    let upstream = Upstream::new();
    // Takes connections and never answers.
    let hanging = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = hanging.local_addr().unwrap();
    std::thread::spawn(move || hanging.incoming().flatten().collect::<Vec<_>>());
    let policy = |name: &str, method: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, annotations: {{identity-manager.io/hostnames: \
                {name}.example}}}}\nspec: {{type: ExternalName, externalName: 127.0.0.1, ports: [{{name: http, port: \
                {}}}]}}\n---\napiVersion: identity-manager.io/v1alpha1\nkind: IdentityPolicy\nmetadata: {{name: \
                {name}}}\nspec: {{targetRefs: [{{group: '', kind: Service, name: {name}}}], authentication: \
                {{methods: [{{name: m, {method}}}]}}}}\n---\n",
            upstream.address.port()
        )
    };
    let slow = format!(
        "introspection: {{issuer: 'https://idp', endpoint: 'http://{endpoint}/ask', clientId: c, clientSecretRef: \
         {{name: idp}}}}"
    );
    let text = format!(
        "{}{}{}",
        policy("slow", &slow),
        policy("quick", "anonymous: {}"),
        secret("idp", &[("clientSecret", "s".into())]).trim_start_matches("---\n")
    );
    let gateway = Gateway::start_with(&[("all.yaml", &text)], INSECURE);
    let refused = std::thread::scope(|scope| {
        let stuck: Vec<_> = (0..150)
            .map(|i| {
                let address = gateway.address;
                scope.spawn(move || {
                    raw(
                        address,
                        format!("GET / HTTP/1.1\r\nHost: slow.example\r\nAuthorization: Bearer t{i}\r\n\r\n")
                            .as_bytes(),
                    )
                })
            })
            .collect();
        let mut took: Vec<Duration> = (0..300)
            .map(|_| {
                let start = Instant::now();
                assert_eq!(raw(gateway.address, b"GET / HTTP/1.1\r\nHost: quick.example\r\n\r\n").status, 200);
                start.elapsed()
            })
            .collect();
        took.sort();
        assert!(took[296] < Duration::from_millis(250), "{:?}", took[296]);
        stuck.into_iter().map(|stuck| stuck.join().unwrap()).collect::<Vec<_>>()
    });
    for reply in &refused {
        assert_eq!(reply.status, 503, "{reply:?}");
    }
    assert_eq!(gateway.record(refused[0].decision())["reason"], "IntrospectionFailed");
    assert!(!upstream.received().contains("slow.example"));
}

#[test]
fn t30_reloads_and_fetches_under_two_issuers_break_nothing() {
    let (one, two) =
        (SigningKey::generate(Algorithm::ES256, "a").unwrap(), SigningKey::generate(Algorithm::ES256, "b").unwrap());
    let (first, second) = (Issuer::new(&one), Issuer::new(&two));
    let entry =
        |issuer: &Issuer| format!("{{issuer: '{}', audiences: [orders], keys: {{discovery: {{}}}}}}", issuer.name());
    let method =
        |name: &str| format!("    - {{name: {name}, jwt: {{issuers: [{}, {}]}}}}\n", entry(&first), entry(&second));
    let upstream = Upstream::new();
    let gateway = Gateway::start_with(&[("all.yaml", &open_to(&upstream, &method("m0")))], INSECURE);
    let (t1, t2) = (one.sign(&first.claims("ana")).unwrap(), two.sign(&second.claims("bob")).unwrap());
    let done = std::sync::atomic::AtomicBool::new(false);
    let served = std::thread::scope(|scope| {
        let clients: Vec<_> = [&t1, &t2]
            .into_iter()
            .map(|token| {
                let (gateway, done) = (&gateway, &done);
                scope.spawn(move || {
                    let mut served = 0;
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        let reply = raw(
                            gateway.address,
                            format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n").as_bytes(),
                        );
                        assert_eq!(reply.status, 200, "{reply:?}");
                        served += 1;
                    }
                    served
                })
            })
            .collect();
        for round in 1..=8 {
            gateway.write("all.yaml", &open_to(&upstream, &method(&format!("m{round}"))));
            eventually("the change", || {
                let reply = raw(
                    gateway.address,
                    format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {t1}\r\n\r\n").as_bytes(),
                );
                let newest =
                    gateway.records().last().and_then(|record| record["policy"]["method"].as_str().map(str::to_owned));
                if reply.status == 200 && newest.as_deref() == Some(&format!("m{round}")) {
                    Ok(())
                } else {
                    Err(format!("{newest:?}"))
                }
            });
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().unwrap()).sum::<usize>()
    });
    assert!(served > 16, "{served}");
}

#[test]
fn t31_a_tenants_url_leads_nowhere_inside() {
    use idm_compile::{Settings, compile, yaml::read_files};
    let upstream = Upstream::new();
    for url in [
        "https://127.0.0.1/k",
        "https://127.1.2.3/k",
        "https://169.254.169.254/latest",
        "https://[::1]/k",
        "https://[::ffff:127.0.0.1]/k",
        "https://[fe80::1]/k",
        "https://0.0.0.0/k",
        "https://[::]/k",
        "https://localhost/k",
        "https://a.localhost/k",
        "https://2130706433/k",
        "https://0x7f.1/k",
        "https://0177.0.0.1/k",
        "http://idp.example/k",
        "file:///etc/passwd",
        "gopher://idp.example/k",
        "https://user:pw@idp.example/k",
        "ftp://idp.example/k",
    ] {
        for (field, settings) in [
            (
                "jwt",
                format!("jwt: {{issuers: [{{issuer: 'https://idp', audiences: [a], keys: {{jwksUri: '{url}'}}}}]}}"),
            ),
            (
                "introspection",
                format!("introspection: {{issuer: i, endpoint: '{url}', clientId: c, clientSecretRef: {{name: s}}}}"),
            ),
        ] {
            let text = format!(
                "{}{}",
                open_to(&upstream, &format!("    - {{name: m, {settings}}}\n")),
                secret("s", &[("clientSecret", "x".into())])
            );
            let (world, _) = read_files(&[("all.yaml".into(), text)], Settings::default()).unwrap();
            assert!(
                compile(&world, None).report.errors().any(|finding| finding.path.contains(field)),
                "{field}: {url}"
            );
        }
    }
    // A redirect to the inside is not followed, also where the first URL was allowed.
    let key = SigningKey::generate(Algorithm::ES256, "k").unwrap();
    let inside = Issuer::new(&key);
    let moved = Upstream::answering(&format!(
        "HTTP/1.1 302 Found\r\nLocation: http://{}/keys\r\nContent-Length: 0\r\n\r\n",
        inside.address
    ));
    let method = format!(
        "    - {{name: m, jwt: {{issuers: [{{issuer: '{}', audiences: [orders], keys: {{jwksUri: \
            'http://{}/keys'}}}}]}}}}\n",
        inside.name(),
        moved.address
    );
    let bed = Bed::new(&method, "", INSECURE);
    bed.refused(&bed.bearer(&key.sign(&inside.claims("ana")).unwrap()), &["KeysUnavailable"]);
    assert!(moved.received().contains("GET /keys") && inside.fetches() == 0);
}

/// A name that leads to this machine, with its address. `localhost` is refused by name, so it cannot be that one; every
/// container and every server has a name of its own.
fn name_of_this_machine() -> (String, IpAddr) {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let hosts = read("/etc/hosts");
    let known =
        hosts.lines().filter_map(|line| line.split('#').next()).flat_map(|line| line.split_whitespace().skip(1));
    let mut found: Vec<(String, IpAddr)> = std::iter::once(read("/etc/hostname").trim())
        .chain(known)
        .filter(|name| !name.is_empty() && *name != "localhost" && !name.ends_with(".localhost"))
        .filter_map(|name| Some((name.to_owned(), (name, 443).to_socket_addrs().ok()?.next()?.ip())))
        .filter(|(_, address)| TcpListener::bind((*address, 0)).is_ok())
        .collect();
    found.sort_by_key(|(_, address)| !address.is_loopback());
    found.into_iter().next().expect("a name of this machine besides `localhost`, in /etc/hosts or by DNS")
}

/// A name whose address is this machine's: the answer of the resolver is judged, not the name. Where the machine's
/// name has no loopback address, the gateway is told that it is the API server's, which is forbidden likewise.
#[test]
fn t31_a_name_that_resolves_to_the_inside_leads_nowhere() {
    let (name, address) = name_of_this_machine();
    let (key, listener) =
        (SigningKey::generate(Algorithm::ES256, "k").unwrap(), TcpListener::bind((address, 0)).unwrap());
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    let method = format!(
        "    - {{name: m, jwt: {{issuers: [{{issuer: 'https://idp', audiences: [orders], \
         keys: {{jwksUri: 'https://{name}:{port}/keys'}}}}]}}}}\n"
    );
    let text = address.to_string();
    let environment = [("KUBERNETES_SERVICE_HOST", text.as_str())];
    let environment = if address.is_loopback() { &[] } else { &environment[..] };
    let upstream = Upstream::new();
    let gateway = Gateway::start_in(&[("all.yaml", &open_to(&upstream, &method))], &[], environment);
    let bed = Bed { gateway, upstream };
    bed.refused(&bed.bearer(&key.sign(&claims()).unwrap()), &["KeysUnavailable"]);
    eventually("the refusal is in the log", || {
        if bed.gateway.log().contains("no address that may be fetched from") { Ok(()) } else { Err(bed.gateway.log()) }
    });
    assert!(listener.accept().is_err(), "somebody connected");
}

#[test]
fn t32_an_issuer_that_was_never_reached_has_no_keys_at_all() {
    let key = SigningKey::generate(Algorithm::ES256, "k").unwrap();
    let issuer = Issuer::new(&key);
    issuer.serve(503, "");
    let method = format!(
        "    - {{name: m, jwt: {{issuers: [{{issuer: '{}', audiences: [orders], keys: {{discovery: {{}}}}}}]}}}}\n",
        issuer.name()
    );
    let bed = Bed::new(&method, "", INSECURE);
    // Neither the right key, nor one that anybody could know.
    let known = br#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI",
        "kid":"k"}"#;
    let known = Jwk::parse(known).unwrap();
    let known = SigningKey::from_jwk(&known, Algorithm::ES256).unwrap();
    for key in [&key, &known] {
        bed.refused(&bed.bearer(&key.sign(&issuer.claims("ana")).unwrap()), &["KeysUnavailable"]);
    }
    issuer.serve(200, &key.jwks().to_string());
    eventually("the issuer is back", || match bed.bearer(&key.sign(&issuer.claims("ana")).unwrap()).status {
        200 => Ok(()),
        status => Err(status.to_string()),
    });
    bed.upstream.forget();
    bed.refused(&bed.bearer(&known.sign(&issuer.claims("ana")).unwrap()), &["BadSignature"]);
}

#[test]
fn t33_unknown_key_names_cause_few_fetches_and_a_new_key_is_taken_at_once() {
    let (old, new) = (
        SigningKey::generate(Algorithm::ES256, "old").unwrap(),
        SigningKey::generate(Algorithm::ES256, "new").unwrap(),
    );
    let issuer = Issuer::new(&old);
    let method = format!(
        "    - {{name: m, jwt: {{issuers: [{{issuer: '{}', audiences: [orders], keys: {{discovery: {{}}}}}}]}}}}\n",
        issuer.name()
    );
    let bed = Bed::new(&method, "", INSECURE);
    assert_eq!(bed.bearer(&old.sign(&issuer.claims("ana")).unwrap()).status, 200);
    let before = issuer.fetches();
    issuer.serve(200, &json!({"keys": [old.public().unwrap().reveal(), new.public().unwrap().reveal()]}).to_string());
    let start = Instant::now();
    assert_eq!(bed.bearer(&new.sign(&issuer.claims("ana")).unwrap()).status, 200);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    bed.upstream.forget();
    for i in 0..200 {
        let token = new
            .sign_with_header(&json!({"alg": "ES256", "kid": format!("made-up-{i}")}), &issuer.claims("ana"))
            .unwrap();
        bed.refused(&bed.bearer(&token), &["UnknownKey"]);
    }
    // Three are in hand; after them, one each four seconds.
    let fetches = (issuer.fetches() - before) as u64;
    assert!(fetches <= 4 + start.elapsed().as_secs() / 4, "{fetches} fetches in {:?}", start.elapsed());
}

#[test]
fn t34_a_kept_verdict_is_worth_nothing_elsewhere_or_after_a_change() {
    let key = SigningKey::generate(Algorithm::ES256, "k").unwrap();
    let upstream = Upstream::new();
    let policy = |name: &str, audience: &str, issuer: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, annotations: {{identity-manager.io/hostnames: \
                {name}.example}}}}\nspec: {{type: ExternalName, externalName: 127.0.0.1, ports: [{{name: http, port: \
                {}}}]}}\n---\napiVersion: identity-manager.io/v1alpha1\nkind: IdentityPolicy\nmetadata: {{name: \
                {name}}}\nspec: {{targetRefs: [{{group: '', kind: Service, name: {name}}}], authentication: \
                {{methods: [{{name: m, jwt: {{issuers: [{{issuer: '{issuer}', audiences: [{audience}], algorithms: \
                [ES256], keys: {{inline: '{}'}}}}]}}}}]}}}}\n---\n",
            upstream.address.port(),
            key.jwks()
        )
    };
    let both =
        |audience: &str| format!("{}{}", policy("a", audience, "https://idp"), policy("b", "billing", "https://idp"));
    let gateway = InProcess::start(&[("all.yaml", &both("orders"))]);
    let bed = Bed { gateway, upstream: Upstream::new() };
    let token = key.sign(&claims()).unwrap();
    let call = |host: &str| {
        raw(
            bed.gateway.address,
            format!("GET / HTTP/1.1\r\nHost: {host}.example\r\nAuthorization: Bearer {token}\r\n\r\n").as_bytes(),
        )
    };
    for _ in 0..16 {
        assert_eq!(call("a").status, 200);
        bed.refused(&call("b"), &["WrongAudience"]);
    }
    bed.gateway.write("all.yaml", &both("payroll"));
    eventually("the change", || match call("a").status {
        401 => Ok(()),
        status => Err(status.to_string()),
    });
    for _ in 0..16 {
        bed.refused(&call("a"), &["WrongAudience"]);
    }
}

/// A token service with two clients: one that signs, one with a secret and a user.
fn service<G: Serves>(key: &SigningKey, client: &str, rest: &str, arguments: &[&str]) -> Bed<G> {
    let keys = idm_compile::new_signing_keys(Algorithm::ES256, idm_types::Timestamp::from_seconds(now() - 10)).unwrap();
    let methods = format!(
        "    - {{name: own, jwt: {{issuers: [{{tokenServiceRef: {{name: p}}, audiences: [orders]}}]}}}}\n  \
            tokenService: {{issuer: 'https://shop.example/oauth', audiences: [orders], grants: [ClientCredentials, \
            RefreshToken, DangerPassword]}}\n{rest}"
    );
    let credential = |name: &str, spec: &str| {
        format!(
            "---\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {{name: {name}}}\n\
             spec: {{{spec}}}\n"
        )
    };
    let more = [
        secret("idm-signing-keys", &[("p.json", keys)]),
        credential(
            "robot",
            &format!("oauthClient: {{privateKeyJwt: {{keys: {{inline: '{}'}}, algorithms: [ES256]}}}}", key.jwks()),
        ),
        credential("web", client),
        credential("ana", "password: {}, secretRef: {name: ana-password}"),
        secret("web-secret", &[("clientSecret", web_secret())]),
        secret("ana-password", &[("password", "correct horse".into())]),
    ];
    Bed::on(&methods, &more.concat(), arguments)
}

fn web_secret() -> String {
    idm_types::ApiKey::from_random([5; 32]).reveal().to_owned()
}

const WEB: &str = "oauthClient: {clientSecret: {}, scopes: [a], grants: [ClientCredentials, RefreshToken, \
    DangerPassword]}, secretRef: {name: web-secret}";

fn post(address: std::net::SocketAddr, path: &str, client: Option<&str>, form: &str) -> Reply {
    let client = client
        .map(|client| format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{client}:{}", web_secret()))))
        .unwrap_or_default();
    let head = format!(
        "POST /oauth/{path} HTTP/1.1\r\nHost: shop.example\r\nContent-Type: \
            application/x-www-form-urlencoded\r\nContent-Length: {}\r\n{client}\r\n",
        form.len()
    );
    raw(address, format!("{head}{form}").as_bytes())
}

fn member(reply: &Reply, name: &str) -> String {
    let body: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    body[name].as_str().unwrap_or_else(|| panic!("{reply:?}")).to_owned()
}

#[test]
fn t35_an_assertion_without_the_clients_own_signature_is_none() {
    let key = SigningKey::generate(Algorithm::ES256, "k").unwrap();
    let bed = service::<InProcess>(&key, WEB, "", &[]);
    let said = json!({"iss": "robot", "sub": "robot", "aud": "https://shop.example/oauth", "jti": "1", "iat": now(),
        "exp": now() + 60});
    let public = key.public().unwrap().reveal();
    let hmac = Jwk::parse(json!({"kty": "oct", "k": B64.encode(public.to_string())}).to_string().as_bytes()).unwrap();
    let hmac = SigningKey::from_jwk(&hmac, Algorithm::HS256).unwrap();
    let thief = SigningKey::generate(Algorithm::ES256, "k").unwrap();
    let plain = |header: Value| format!("{}.{}.", B64.encode(header.to_string()), B64.encode(said.to_string()));
    for assertion in [
        plain(json!({"alg": "none"})),
        plain(json!({"alg": "None", "kid": "k"})),
        plain(json!({"alg": "ES256", "kid": "k"})),
        hmac.sign_with_header(&json!({"alg": "HS256", "kid": "k"}), &said).unwrap(),
        thief.sign(&said).unwrap(),
        thief.sign_with_header(&json!({"alg": "ES256", "jwk": thief.public().unwrap().reveal()}), &said).unwrap(),
        thief
            .sign_with_header(&json!({"alg": "ES256", "jku": "https://evil.example/keys", "kid": "k"}), &said)
            .unwrap(),
    ] {
        let form = format!(
            "grant_type=client_credentials&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type\
                %3Ajwt-bearer&client_assertion={assertion}"
        );
        bed.refused(&post(bed.gateway.address, "token", None, &form), &["InvalidClient"]);
    }
}

#[test]
fn t36_no_error_shows_a_secret() {
    let key = SigningKey::generate(Algorithm::ES256, "k").unwrap();
    let bed = service::<Gateway>(&key, WEB, "", &[]);
    let mut replies = vec![
        post(
            bed.gateway.address,
            "token",
            Some("web"),
            "grant_type=password&username=ana&password=canary-wrong-password",
        ),
        post(
            bed.gateway.address,
            "token",
            None,
            "grant_type=client_credentials&client_id=web&client_secret=canary-wrong-secret",
        ),
        post(bed.gateway.address, "token", Some("web"), "grant_type=canary-grant&refresh_token=canary-refresh"),
        post(
            bed.gateway.address,
            "token",
            Some("web"),
            "grant_type=refresh_token&refresh_token=canary-family.canary-secret",
        ),
        post(
            bed.gateway.address,
            "token",
            None,
            "client_assertion=canary.assertion.x&client_assertion_type=canary-type&grant_type=client_credentials",
        ),
        bed.bearer("canary-token"),
        bed.bearer(&format!("{}.canary-body.canary-signature", B64.encode("{\"alg\":\"ES256\"}"))),
    ];
    replies.push(post(
        bed.gateway.address,
        "token",
        Some("web"),
        "grant_type=password&username=ana&password=correct+horse",
    ));
    let good = replies.pop().unwrap();
    let (access, refresh) = (member(&good, "access_token"), member(&good, "refresh_token"));
    for reply in &replies {
        assert!(!reply.body.contains("canary") || reply.body.contains("canary-grant"), "{reply:?}");
        bed.gateway.record(reply.decision());
    }
    let records: String = bed.gateway.records().iter().map(Value::to_string).collect();
    let log = bed.gateway.log();
    for planted in [
        &web_secret(),
        "correct horse",
        "canary-wrong",
        "canary-refresh",
        "canary-secret",
        "canary.assertion",
        "canary-token",
        "canary-body",
        "canary-signature",
        &access,
        &refresh,
    ] {
        assert!(!records.contains(planted), "{planted} is on record");
        assert!(!log.contains(planted), "{planted} is in the log");
    }
}

#[test]
fn t37_signatures_of_nothing_and_keys_from_the_token_are_refused() {
    let key = SigningKey::generate(Algorithm::ES256, "k").unwrap();
    let thief = SigningKey::generate(Algorithm::ES256, "k").unwrap();
    let bed = Bed::with_keys(&key.jwks(), "ES256");
    let part = |value: &Value| B64.encode(value.to_string());
    let signed =
        |header: Value, signature: &[u8]| format!("{}.{}.{}", part(&header), part(&claims()), B64.encode(signature));
    let order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let order: Vec<u8> = (0..32).map(|i| u8::from_str_radix(&order[2 * i..2 * i + 2], 16).unwrap()).collect();
    let one: Vec<u8> = std::iter::repeat_n(0, 31).chain([1]).collect();
    for signature in [
        vec![0; 64],
        vec![],
        [order.clone(), order.clone()].concat(),
        [one.clone(), vec![0; 32]].concat(),
        [vec![0; 32], one].concat(),
        vec![0; 63],
        vec![0x30, 6, 2, 1, 0, 2, 1, 0],
    ] {
        bed.refused(
            &bed.bearer(&signed(json!({"alg": "ES256", "kid": "k"}), &signature)),
            &["BadSignature", "MalformedToken"],
        );
    }
    for header in [
        json!({"alg": "ES256", "jwk": thief.public().unwrap().reveal()}),
        json!({"alg": "ES256", "kid": "k", "jku": "https://evil.example/keys"}),
        json!({"alg": "ES256", "kid": "k", "x5u": "https://evil.example/chain"}),
        json!({"alg": "ES256", "kid": "../../../../dev/null"}),
        json!({"alg": "ES256", "kid": "' OR 1=1 --"}),
        json!({"alg": "ES256", "kid": ""}),
    ] {
        bed.refused(
            &bed.bearer(&thief.sign_with_header(&header, &claims()).unwrap()),
            &["BadSignature", "UnknownKey", "UnsupportedCritical", "MalformedToken"],
        );
    }
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        bed.refused(&bed.bearer(&signed(json!({"alg": alg}), &[])), &["AlgorithmNotAllowed", "MalformedToken"]);
    }
}

#[test]
fn t45_of_two_hundred_who_redeem_one_refresh_token_one_gets_the_next_and_all_end() {
    let key = SigningKey::generate(Algorithm::ES256, "k").unwrap();
    let bed = service::<Gateway>(&key, WEB, "", &[]);
    let good =
        post(bed.gateway.address, "token", Some("web"), "grant_type=password&username=ana&password=correct+horse");
    let form = format!("grant_type=refresh_token&refresh_token={}", member(&good, "refresh_token"));
    let replies: Vec<Reply> = std::thread::scope(|scope| {
        let asked: Vec<_> =
            (0..200).map(|_| scope.spawn(|| post(bed.gateway.address, "token", Some("web"), &form))).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    let (won, lost): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 200);
    assert_eq!(won.len(), 1);
    assert!(lost.iter().all(|reply| reply.status == 400 && member(reply, "error") == "invalid_grant"));
    // The family is revoked: what the winner got works no more either.
    let next = format!("grant_type=refresh_token&refresh_token={}", member(won[0], "refresh_token"));
    bed.refused(&post(bed.gateway.address, "token", Some("web"), &next), &["InvalidGrant"]);
    bed.refused(&bed.bearer(&member(won[0], "access_token")), &["TokenRevoked"]);
}

#[test]
fn t46_a_restart_forgets_no_revocation() {
    let redis = Redis::start();
    let password = redis.password_file();
    let url = redis.url();
    let arguments = ["--store", &url, "--store-password-file", password.path().to_str().unwrap()];
    let key = SigningKey::generate(Algorithm::ES256, "k").unwrap();
    let mut bed = service::<Gateway>(&key, WEB, "", &arguments);
    let good =
        post(bed.gateway.address, "token", Some("web"), "grant_type=password&username=ana&password=correct+horse");
    let (access, refresh) = (member(&good, "access_token"), member(&good, "refresh_token"));
    let alone =
        member(&post(bed.gateway.address, "token", Some("web"), "grant_type=client_credentials"), "access_token");
    for token in [&refresh, &alone] {
        assert_eq!(post(bed.gateway.address, "revoke", Some("web"), &format!("token={token}")).status, 200);
    }
    let files = bed.gateway.read("all.yaml");
    bed.gateway.kill();
    let again = Bed { gateway: Gateway::start_with(&[("all.yaml", &files)], &arguments), upstream: bed.upstream };
    for token in [&access, &alone] {
        again.refused(&again.bearer(token), &["TokenRevoked", "StoreUnavailable"]);
        eventually("the list is there", || {
            let reply = again.bearer(token);
            if again.gateway.record(reply.decision())["reason"] == "TokenRevoked" {
                Ok(())
            } else {
                Err(reply.status.to_string())
            }
        });
    }
    again.refused(
        &post(
            again.gateway.address,
            "token",
            Some("web"),
            &format!("grant_type=refresh_token&refresh_token={refresh}"),
        ),
        &["InvalidGrant"],
    );
}

#[test]
fn t49_every_grant_knows_every_restriction() {
    let key = SigningKey::generate(Algorithm::ES256, "k").unwrap();
    let grants = [
        "grant_type=client_credentials",
        "grant_type=password&username=ana&password=correct+horse",
        "grant_type=refresh_token&refresh_token=REFRESH",
    ];
    let usual = service::<InProcess>(&key, WEB, "", &[]);
    for (restriction, client, reason) in [
        ("suspended", format!("{WEB}, suspend: true"), "InvalidClient"),
        ("expired", format!("{WEB}, expireTime: '2020-01-01T00:00:00Z'"), "InvalidClient"),
        ("elsewhere", format!("{WEB}, access: {{policies: [other]}}"), "InvalidClient"),
        (
            "no grant",
            WEB.replace("grants: [ClientCredentials, RefreshToken, DangerPassword]", "grants: [GRANT]"),
            "GrantNotAllowed",
        ),
        ("no scope", WEB.to_owned(), "ScopeNotAllowed"),
        ("no audience", WEB.to_owned(), "AudienceNotAllowed"),
    ] {
        for (i, grant) in grants.iter().enumerate() {
            // A client that may use any grant but this one.
            let client = client.replace(
                "GRANT",
                [
                    "RefreshToken, DangerPassword",
                    "ClientCredentials, RefreshToken",
                    "ClientCredentials, DangerPassword",
                ][i],
            );
            let bed = if client == WEB { None } else { Some(service(&key, &client, "", &[])) };
            let bed = bed.as_ref().unwrap_or(&usual);
            let refresh = if i == 2 && restriction.starts_with("no ") && restriction != "no grant" {
                member(&post(bed.gateway.address, "token", Some("web"), grants[1]), "refresh_token")
            } else {
                "family.secret".to_owned()
            };
            let more = if restriction == "no scope" {
                "&scope=admin"
            } else if restriction == "no audience" {
                "&audience=payroll"
            } else {
                ""
            };
            let reply = post(
                bed.gateway.address,
                "token",
                Some("web"),
                &format!("{}{more}", grant.replace("REFRESH", &refresh)),
            );
            let record = bed.gateway.record(reply.decision());
            assert_eq!(record["reason"], reason, "{restriction} / {grant}: {record}");
            assert_eq!(bed.upstream.received(), "");
        }
    }
}

#[test]
fn t53_an_issuer_with_a_certificate_of_nobody_has_no_keys() {
    let servers = Authority::new("nobody");
    servers.issue("localhost", "DNS:localhost,IP:127.0.0.1", "serverAuth", "20400101000000Z");
    let key = SigningKey::generate(Algorithm::ES256, "k").unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("keys"), key.jwks().to_string()).unwrap();
    let port = idm_tests::free_port();
    let mut server = Command::new("openssl")
        .args([
            "s_server",
            "-quiet",
            "-WWW",
            "-accept",
            &port.to_string(),
            "-cert",
            &servers.path("localhost.crt"),
            "-key",
            &servers.path("localhost.key"),
        ])
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("it listens", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|error| error.to_string())
    });
    let method = format!(
        "    - {{name: m, jwt: {{issuers: [{{issuer: 'https://idp', audiences: [orders], \
         keys: {{jwksUri: 'https://localhost:{port}/keys'}}}}]}}}}\n"
    );
    // Even with the switch that allows plain http, a certificate that is shown has to be good.
    let bed = Bed::new(&method, "", INSECURE);
    bed.refused(&bed.bearer(&key.sign(&claims()).unwrap()), &["KeysUnavailable"]);
    eventually("the reason is in the log", || {
        if bed.gateway.log().contains("issuer keys: no keys yet") { Ok(()) } else { Err("not yet".into()) }
    });
    let _ = server.kill();
    let _ = server.wait();
}

#[test]
fn t54_old_protocols_stay_refused_after_a_certificate_was_replaced() {
    let upstream = Upstream::new();
    let pair = || {
        let servers = Authority::new("servers");
        servers.issue("shop.example", "DNS:shop.example", "serverAuth", "20400101000000Z");
        secret(
            "server",
            &[("tls.crt", servers.read("shop.example.crt")), ("tls.key", servers.read("shop.example.key"))],
        )
    };
    let text = |pair: &str| format!("{}{HTTPS_LISTENER}{pair}", open_to(&upstream, idm_tests::ANONYMOUS));
    let gateway = Gateway::start_with(&[("all.yaml", &text(&pair()))], &["--listen-tls", "127.0.0.1:0"]);
    let address = gateway.tls.unwrap().to_string();
    let client = |options: &[&str]| {
        let output = Command::new("openssl")
            .args(["s_client", "-connect", &address, "-servername", "shop.example"])
            .args(options)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let refused = || {
        for options in [
            &["-tls1", "-cipher", "ALL:@SECLEVEL=0"][..],
            &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
            &["-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0"],
            &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"],
        ] {
            assert!(!client(options).0, "{options:?} was taken");
        }
        assert!(client(&["-tls1_2"]).0 && client(&["-tls1_3"]).0);
    };
    refused();
    let serial = |text: &str| {
        text.split("-----BEGIN CERTIFICATE-----").nth(1).map(|rest| rest.chars().take(200).collect::<String>())
    };
    let before = serial(&client(&["-tls1_3"]).1);
    gateway.write("all.yaml", &text(&pair()));
    eventually("the new certificate is shown", || {
        if serial(&client(&["-tls1_3"]).1) == before { Err("the old one".to_owned()) } else { Ok(()) }
    });
    refused();
}

#[test]
fn t55_a_name_is_somebody_only_with_its_issuer() {
    let (ours, theirs) =
        (SigningKey::generate(Algorithm::ES256, "k").unwrap(), SigningKey::generate(Algorithm::ES256, "k").unwrap());
    let entry = |issuer: &str, key: &SigningKey| {
        format!("{{issuer: '{issuer}', audiences: [orders], keys: {{inline: '{}'}}}}", key.jwks())
    };
    let methods = format!(
        "    - {{name: m, jwt: {{issuers: [{}, {}]}}}}\n    identity: {{username: token.email}}\n  authorization: \
            {{rules: [{{name: r, require: {{roles: {{any: [admin]}}}}}}]}}\n",
        entry("https://idp", &ours),
        entry("https://partner", &theirs)
    );
    let binding = "---\napiVersion: identity-manager.io/v1alpha1\nkind: RoleBinding\nmetadata: {name: admins}\n\
        spec: {role: admin, subjects: [{user: ana@shop.example, issuer: 'https://idp'}], scope: {project: {}}}\n";
    let bed = Bed::new(&methods, binding, &[]);
    let token = |key: &SigningKey, issuer: &str| {
        key.sign(&json!({"iss": issuer, "aud": "orders", "sub": "1", "email": "ana@shop.example", "exp": now() + 60}))
            .unwrap()
    };
    assert_eq!(bed.bearer(&token(&ours, "https://idp")).status, 200);
    bed.upstream.forget();
    bed.refused(&bed.bearer(&token(&theirs, "https://partner")), &["MissingRole"]);
    // The identity is issuer and subject, not the address. A success reaches the disk within milliseconds, not before
    // its answer.
    eventually("both are on record", || {
        let records = bed.gateway.records();
        let ids: std::collections::BTreeSet<&str> =
            records.iter().filter_map(|record| record["identity"]["id"].as_str()).collect();
        if ids.iter().eq(["https://idp#1", "https://partner#1"].iter()) { Ok(()) } else { Err(format!("{ids:?}")) }
    });
}

#[test]
fn t56_a_claim_cannot_take_the_place_of_a_standard_one() {
    use idm_compile::{Settings, compile, yaml::read_files};
    let upstream = Upstream::new();
    let said = |name: &str, value: &str| {
        let methods = format!(
            "    - {{name: m, anonymous: {{}}}}\n  tokenService: {{issuer: 'https://a/oauth', audiences: [a], \
                accessToken: {{claims: [{{name: {}, value: {}}}]}}}}\n",
            json!(name),
            json!(value)
        );
        let keys = idm_compile::new_signing_keys(Algorithm::ES256, idm_types::Timestamp(0)).unwrap();
        let text = format!("{}{}", open_to(&upstream, &methods), secret("idm-signing-keys", &[("p.json", keys)]));
        let (world, _) = read_files(&[("all.yaml".into(), text)], Settings::of_a_folder(false)).unwrap();
        compile(&world, None).report.errors().count()
    };
    assert_eq!(said("tenant", "identity.id"), 0);
    for name in ["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "scope", "client_id", "cnf", "roles", "act"] {
        assert_eq!(said(name, "identity.id"), 1, "{name}");
    }
    assert_eq!(said("tenant", &format!("'{}'", "x".repeat(1 << 20))), 1);
    assert_eq!(said("tenant", "identity.id +"), 1);
}
