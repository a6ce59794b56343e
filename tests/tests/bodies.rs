//! Bodies that have to be there as a whole: for whom they are held, how long, and in how much memory.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use idm_jose::SigningKey;
use idm_tests::{ANONYMOUS, Gateway, Reply, Upstream, now, open_to, raw, raw_on, secret};
use idm_types::{Algorithm, Timestamp};
use serde_json::json;

const ANA: &str = "---\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {name: ana}\n\
                   spec: {password: {}, secretRef: {name: ana}}\n---\napiVersion: v1\nkind: Secret\n\
                   metadata: {name: ana}\nstringData: {password: secret}\n---\napiVersion: v1\nkind: Secret\n\
                   metadata: {name: provider}\nstringData: {apiKey: sk}\n";
const BASIC: &str = "    - {name: people, basic: {realm: shop}}\n";
const MODELS: &str = "  llm: {provider: OpenAI, keyRef: {name: provider}}\n";
/// A second for a pause, and 16 MiB, of which strangers have 4 and one address of them 2.
const SHORT: &[&str] = &["--body-pause-seconds", "1", "--bodies-max-mib", "16"];

struct Bed {
    gateway: Gateway,
    upstream: Upstream,
}

fn bed(methods: &str, rest: &str, arguments: &[&str]) -> Bed {
    bed_before(Upstream::new(), methods, rest, arguments)
}

fn bed_before(upstream: Upstream, methods: &str, rest: &str, arguments: &[&str]) -> Bed {
    let yaml = format!("{}{rest}{ANA}", open_to(&upstream, methods));
    Bed { gateway: Gateway::start_with(&[("all.yaml", &yaml)], arguments), upstream }
}

fn basic() -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode("ana:secret"))
}

fn head(path: &str, headers: &str, announced: usize) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: a\r\n{headers}Content-Length: {announced}\r\n\r\n")
}

/// Sends a head and a part of the body, and no more.
fn begin(address: SocketAddr, head: &str, part: usize) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    // The gateway may refuse the request at once and not read the body, so this write may fail.
    let _ = stream.write_all(&vec![b'a'; part]);
    stream
}

/// Whether the other end closes within ten seconds.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    match stream.read(&mut [0; 64]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

impl Bed {
    fn refused(&self, reply: &Reply, status: u16, reason: &str) {
        assert_eq!(reply.status, status, "{reply:?}");
        let record = self.gateway.record(reply.decision());
        assert_eq!(record["reason"], reason, "{record}");
        assert_eq!(self.upstream.received(), "");
    }

    /// A call of somebody who is known, with a body that is held.
    fn is_served(&self) {
        let body = "{\"model\":\"m\",\"messages\":[]}";
        let text = format!("{}{body}", head("/v1/chat/completions", &basic(), body.len()));
        assert_eq!(raw(self.gateway.address, text.as_bytes()).status, 200);
        assert!(self.upstream.received().ends_with(body));
        self.upstream.forget();
    }
}

#[test]
fn a06_a_body_is_not_held_for_a_caller_who_is_not_known() {
    let bed = bed(BASIC, MODELS, SHORT);
    bed.is_served();
    let before = bed.gateway.memory_kib();
    let began = Instant::now();
    let mut held: Vec<_> =
        (0..40).map(|_| begin(bed.gateway.address, &head("/v1/chat/completions", "", 16 << 20), 15 << 20)).collect();
    for stream in &mut held {
        // The kernel may lose an answer to somebody who goes on sending; it is on record all the same.
        let reply = raw_on(stream);
        if reply.status != 0 {
            bed.refused(&reply, 401, "NoCredentials");
        }
    }
    assert!(began.elapsed() < Duration::from_secs(30));
    bed.is_served();
    let refused = bed.gateway.records().iter().filter(|record| record["reason"] == "NoCredentials").count();
    assert_eq!(refused, 40, "one record each");
    let grown = bed.gateway.memory_kib().saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB for 600 MiB");
    for stream in &mut held {
        assert!(is_closed(stream));
    }
}

#[test]
fn a06_who_is_let_in_without_being_known_holds_as_strangers_do() {
    let methods = format!("{BASIC}{ANONYMOUS}");
    let bed = bed(&methods, MODELS, SHORT);
    bed.is_served();
    let before = bed.gateway.memory_kib();
    let mut held: Vec<_> =
        (0..300).map(|_| begin(bed.gateway.address, &head("/v1/chat/completions", "", 1 << 20), 300 << 10)).collect();
    // Those who are known have memory of their own.
    bed.is_served();
    let grown = bed.gateway.memory_kib().saturating_sub(before);
    // Nearly all of it is buffers of connections, which have a limit of their own.
    assert!(grown < 64 << 10, "{grown} KiB for 90 MiB");
    let mut statuses = std::collections::BTreeMap::new();
    for stream in &mut held {
        *statuses.entry(raw_on(stream).status).or_insert(0) += 1;
        assert!(is_closed(stream));
    }
    assert_eq!(statuses.values().sum::<i32>(), 300);
    assert!(statuses.keys().all(|status| [0, 408, 503].contains(status)), "{statuses:?}");
    assert!(statuses[&408] > 0, "{statuses:?}");
    let records = bed.gateway.records();
    let count = |reason: &str| records.iter().filter(|record| record["reason"] == reason).count();
    assert!(count("BodiesBusy") > 200 && count("BodyTooSlow") > 0, "{} {}", count("BodiesBusy"), count("BodyTooSlow"));
    assert_eq!(count("BodiesBusy") + count("BodyTooSlow"), 300);
    bed.is_served();
}

#[test]
fn a06_forms_have_little_memory_and_little_time() {
    let upstream = Upstream::new();
    let keys = idm_compile::new_signing_keys(Algorithm::ES256, Timestamp::from_seconds(now() - 10)).unwrap();
    let methods = format!(
        "    - {{name: tokens, jwt: {{issuers: [{{tokenServiceRef: {{name: p}}, audiences: [orders]}}]}}}}\n{BASIC}"
    );
    let service = "  tokenService: {issuer: 'https://shop.example/oauth', audiences: [orders]}\n";
    let more = format!("{service}{MODELS}{}", secret("idm-signing-keys", &[("p.json", keys)]));
    let bed = bed_before(upstream, &methods, &more, SHORT);
    bed.is_served();
    let before = bed.gateway.memory_kib();
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let head = head("/oauth/token", form, 60 << 10).replace("Host: a\r\n", "Host: shop.example\r\n");
    let began = Instant::now();
    let mut held: Vec<_> = (0..200).map(|_| begin(bed.gateway.address, &head, 50 << 10)).collect();
    bed.is_served();
    let grown = bed.gateway.memory_kib().saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} KiB");
    for stream in &mut held {
        let reply = raw_on(stream);
        assert!([408, 503].contains(&reply.status), "{reply:?}");
        assert!(is_closed(stream));
    }
    assert!(began.elapsed() < Duration::from_secs(30));
    let records = bed.gateway.records();
    let count = |reason: &str| records.iter().filter(|record| record["reason"] == reason).count();
    assert_eq!(count("BodiesBusy") + count("BodyTooSlow"), 200);
    assert_eq!(bed.upstream.received(), "");
}

#[test]
fn a06_a_body_that_stops_is_given_up_with_its_connection() {
    let bed = bed(BASIC, MODELS, SHORT);
    let began = Instant::now();
    let mut stream = begin(bed.gateway.address, &head("/v1/chat/completions", &basic(), 1000), 10);
    let reply = raw_on(&mut stream);
    bed.refused(&reply, 408, "BodyTooSlow");
    assert_eq!(reply.header("connection"), Some("close"));
    assert!(began.elapsed() >= Duration::from_secs(1) && is_closed(&mut stream));
    assert_eq!(bed.gateway.records().len(), 1);
}

#[test]
fn a06_what_announces_too_much_or_may_not_go_on_is_refused_before_its_body() {
    let bed = bed(
        BASIC,
        &format!("{MODELS}  authorization: {{rules: [{{name: admins, require: {{roles: {{all: [admin]}}}}}}]}}\n"),
        SHORT,
    );
    // Nothing of the body is ever sent: whoever waited for it would wait for the pause.
    let mut stream = begin(bed.gateway.address, &head("/v1/chat/completions", &basic(), 1000), 0);
    bed.refused(&raw_on(&mut stream), 403, "MissingRole");
    let open = bed_before(Upstream::new(), BASIC, MODELS, &[]);
    let mut stream = begin(open.gateway.address, &head("/v1/chat/completions", &basic(), (16 << 20) + 1), 0);
    let reply = raw_on(&mut stream);
    open.refused(&reply, 413, "PayloadTooLarge");
    assert_eq!(reply.header("connection"), Some("close"));
}

#[test]
fn a06_an_answer_reaches_a_caller_who_still_sends_and_the_connection_goes_on() {
    let bed = bed(BASIC, MODELS, &[]);
    let mut stream = TcpStream::connect(bed.gateway.address).unwrap();
    stream.write_all(head("/v1/chat/completions", "", 700 << 10).as_bytes()).unwrap();
    stream.write_all(&vec![b'a'; 700 << 10]).unwrap();
    bed.refused(&raw_on(&mut stream), 401, "NoCredentials");
    stream.write_all(format!("{}{{}}", head("/v1/models", &basic(), 2)).as_bytes()).unwrap();
    assert_eq!(raw_on(&mut stream).status, 200, "the body of the first was read and thrown away");
}

#[test]
fn a06_a_digest_of_the_body_holds_it_only_with_a_nonce_of_ours() {
    let digest = "    - {name: people, digest: {realm: shop, qualities: [auth-int], algorithms: [SHA-256]}}\n";
    let bed = bed(digest, "", SHORT);
    let claim = |nonce: &str| {
        format!(
            "Authorization: Digest username=\"ana\", realm=\"shop\", nonce=\"{nonce}\", uri=\"/x\", response=\"00\", \
             algorithm=SHA-256, cnonce=\"c\", qop=auth-int, nc=00000001\r\n"
        )
    };
    let mut stream = begin(bed.gateway.address, &head("/x", &claim("AAAA"), 1000), 0);
    let challenge = raw_on(&mut stream);
    bed.refused(&challenge, 401, "StaleNonce");
    let nonce = challenge.header("www-authenticate").and_then(|text| text.split("nonce=\"").nth(1)).unwrap();
    let nonce = nonce.split('"').next().unwrap();
    // With one of ours the body is waited for, a pause long; what is not there in time is not compared.
    let mut stream = begin(bed.gateway.address, &head("/x", &claim(nonce), 1000), 0);
    bed.refused(&raw_on(&mut stream), 408, "BodyTooSlow");
}

#[test]
fn a06_a_response_that_is_held_has_a_deadline() {
    let key = SigningKey::generate(Algorithm::ES256, "k").unwrap();
    let steps = "  jose: [{name: out, produce: {message: Response, from: {body: {}}, \
                 sign: {keyRef: {name: k}, algorithm: ES256}, to: {body: {}}}}]\n";
    let stuck = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nok");
    let keys = secret("k", &[("key", key.reveal_jwk().to_owned())]);
    let bed = bed_before(stuck, BASIC, &format!("{steps}{keys}"), &["--body-deadline-seconds", "1"]);
    let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", basic());
    let reply = raw(bed.gateway.address, text.as_bytes());
    assert_eq!(reply.status, 504, "{reply:?}");
    assert_eq!(bed.gateway.record(reply.decision())["reason"], "UpstreamTimeout");
}

#[test]
fn a06_keys_that_are_made_of_passwords_are_made_beside_the_cores_and_few_at_once() {
    let steps = "  jose: [{name: s, consume: {from: {body: {}}, decrypt: {secretRef: {name: enc}, \
                 algorithms: [PBES2-HS256+A128KW], encryptions: [A128GCM]}, to: {body: {}}}}]\n";
    let password = URL_SAFE_NO_PAD.encode("a password of some length, for wrapping");
    let jwks = json!({"keys": [{"kty": "oct", "k": password, "alg": "PBES2-HS256+A128KW"}]});
    let bed = bed(ANONYMOUS, &format!("{steps}{}", secret("enc", &[("jwks.json", jwks.to_string())])), &[]);
    let header =
        json!({"alg": "PBES2-HS256+A128KW", "enc": "A128GCM", "p2s": URL_SAFE_NO_PAD.encode([7; 16]), "p2c": 100_000});
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let object = format!(
        "{}.{}.{}.{}.{}",
        part(header.to_string().as_bytes()),
        part(&[0; 24]),
        part(&[0; 12]),
        part(&[0; 16]),
        part(&[0; 16])
    );
    let text = format!("{}{object}", head("/", "", object.len()));
    let mut all: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(bed.gateway.address).unwrap()).collect();
    all.iter_mut().for_each(|stream| stream.write_all(text.as_bytes()).unwrap());
    let replies: Vec<Reply> = all.iter_mut().map(raw_on).collect();
    let mut busy = 0;
    for reply in &replies {
        if reply.status == 503 {
            busy += 1;
            bed.refused(reply, 503, "DecryptionsBusy");
            assert!(reply.header("retry-after").is_some());
        } else {
            bed.refused(reply, 401, "CannotDecrypt");
        }
    }
    // At most four of an address are under way: of forty at once most are told to come back.
    assert!((1..=36).contains(&busy), "{busy}");
}
