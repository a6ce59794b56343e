//! Headers that a caller writes beside, instead of or against those that a policy reads and writes: what reaches the
//! upstream, byte for byte, and the record.

use std::io::{Read, Write};
use std::net::TcpStream;

use idm_jose::SigningKey;
use idm_tests::{
    ANONYMOUS, Authority, Gateway, HTTPS_LISTENER, InProcess, Serves, Upstream, eventually, open_to, raw, secret,
};
use idm_types::Algorithm;
use serde_json::{Value, json};

struct Bed<G = InProcess> {
    gateway: G,
    upstream: Upstream,
}

impl Bed {
    fn new(upstream: Upstream, methods: &str, rest: &str) -> Self {
        Self::on(upstream, methods, rest)
    }
}

impl<G: Serves> Bed<G> {
    fn on(upstream: Upstream, methods: &str, rest: &str) -> Self {
        let gateway = G::start_with(&[("all.yaml", &format!("{}{rest}", open_to(&upstream, methods)))], &[]);
        Self { gateway, upstream }
    }

    /// Sends a request with these headers and returns what the upstream received, in lower case.
    fn passed(&self, headers: &str) -> String {
        self.upstream.forget();
        let reply = raw(self.gateway.address(), format!("GET /x HTTP/1.1\r\nHost: a\r\n{headers}\r\n").as_bytes());
        assert_eq!(reply.status, 200, "{headers}: {reply:?}");
        self.upstream.received().to_ascii_lowercase()
    }

    /// Expects this status, a record with this reason, and no request at the upstream.
    fn refused(&self, headers: &str, status: u16, reason: &str) {
        self.upstream.forget();
        let reply = raw(self.gateway.address(), format!("GET /x HTTP/1.1\r\nHost: a\r\n{headers}\r\n").as_bytes());
        assert_eq!(reply.status, status, "{headers}: {reply:?}");
        assert_eq!(self.gateway.record(reply.decision())["reason"], reason, "{headers}");
        assert_eq!(self.upstream.received(), "", "{headers} reached the upstream");
    }
}

/// A policy that verifies and replaces `X-Order` and signs `X-Passport`; and an order.
fn steps<G: Serves>() -> (Bed<G>, String) {
    let (orders, passports) =
        (SigningKey::generate(Algorithm::EdDSA, "o").unwrap(), SigningKey::generate(Algorithm::ES256, "p").unwrap());
    let rest = format!(
        "  jose:\n  - name: order\n    consume: {{from: {{header: X-Order}}, verify: {{keys: {{inline: '{}'}}, \
         algorithms: [EdDSA]}}, to: {{header: X-Order}}}}\n  \
         - name: passport\n    produce: {{sign: {{keyRef: {{name: out}}, algorithm: ES256, claims: {{issuer: me}}}}, \
         to: {{header: X-Passport}}}}\n{}",
        orders.jwks(),
        secret("out", &[("key", passports.reveal_jwk().to_string())]),
    );
    (Bed::on(Upstream::new(), ANONYMOUS, &rest), orders.sign(&json!({"order": 7})).unwrap())
}

#[test]
fn a03_connection_removes_nothing_that_the_gateway_writes_or_reads() {
    let (bed, order) = steps::<Gateway>();
    for connection in ["x-passport", "X-Passport, close", "x-order", "x_passport, X_ORDER", "keep-alive, x-order"] {
        let seen = bed.passed(&format!("Connection: {connection}\r\nX-Order: {order}\r\nX-Other: 1\r\n"));
        assert!(seen.contains("\r\nx-passport: ey") && seen.contains("x-order: {\"order\":7}\r\n"), "{seen}");
    }
    // Of what no policy uses, the caller may say that it is for this connection.
    let seen = bed.passed(&format!("Connection: x-other\r\nX-Order: {order}\r\nX-Other: 1\r\n"));
    assert!(!seen.contains("x-other"), "{seen}");
}

#[test]
fn a04_what_a_step_verifies_or_writes_arrives_in_one_spelling() {
    let (bed, order) = steps::<InProcess>();
    let seen = bed.passed(&format!(
        "X-Order: {order}\r\nX_Order: forged\r\nX.Order: forged\r\nX-Passport: forged\r\nX_Passport: forged\r\n\
         x~passport: forged\r\nX-Orders: mine\r\n"
    ));
    assert!(!seen.contains("forged") && seen.contains("x-orders: mine\r\n"), "{seen}");
    assert_eq!((seen.matches("order: ").count(), seen.matches("passport: ").count()), (1, 1), "{seen}");
    bed.refused(&format!("X_Order: {order}\r\n"), 400, "MissingObject");
}

#[test]
fn a04_what_a_condition_reads_has_no_twin_at_the_upstream() {
    let rules = "  authorization: {rules: [{name: level, when: \"request.headers['x-level'] == '1'\"}]}\n";
    let bed = Bed::new(Upstream::new(), ANONYMOUS, rules);
    let seen = bed.passed("X-Level: 1\r\nX_Level: 9\r\nx|level: 9\r\nX_Other: 5\r\n");
    assert!(seen.contains("x-level: 1\r\n") && !seen.contains(": 9") && seen.contains("x_other: 5"), "{seen}");
    bed.refused("X_Level: 1\r\n", 403, "RuleUndecided");
    // A condition that may read any header: then each has one spelling.
    let rules = "  authorization: {rules: [{name: any, when: \"!request.headers.exists(h, h == 'x-evil')\"}]}\n";
    let bed = Bed::new(Upstream::new(), ANONYMOUS, rules);
    let seen = bed.passed("X_Evil: 9\r\nX_Other: 9\r\nX-Other: 1\r\n");
    assert!(seen.contains("x-other: 1\r\n") && !seen.contains(": 9"), "{seen}");
}

#[test]
fn a04_a_credentials_header_has_no_twin_at_the_upstream() {
    let methods =
        "    - {name: sdk, base64: {sources: [{header: {name: X-Login}}], layout: '{username}:{password}'}}\n";
    let rest = format!(
        "---\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {{name: ana}}\n\
         spec: {{password: {{}}, secretRef: {{name: ana}}}}\n{}",
        secret("ana", &[("password", "secret".to_owned())])
    );
    let bed = Bed::new(Upstream::new(), methods, &rest);
    let seen = bed.passed("X-Login: YW5hOnNlY3JldA==\r\nX_Login: Ym9iOnNlY3JldA==\r\n");
    assert!(!seen.contains("login"), "{seen}");
}

#[test]
fn addresses_and_hosts_that_frameworks_believe_go_nowhere() {
    let bed = Bed::new(Upstream::new(), ANONYMOUS, "");
    for name in [
        "Client-IP",
        "Client_IP",
        "X-Host",
        "X-Original-Forwarded-For",
        "X_Original.Forwarded_For",
        "X-HTTP-Host-Override",
        "X-Original-Remote-Addr",
        "Content_Length",
        "Transfer_Encoding",
    ] {
        let seen = bed.passed(&format!("{name}: 6.6.6.6\r\n"));
        assert!(!seen.contains("6.6.6.6"), "{name}: {seen}");
    }
}

fn escaped(pem: &str) -> String {
    pem.bytes().map(|b| if b.is_ascii_alphanumeric() { char::from(b).into() } else { format!("%{b:02X}") }).collect()
}

#[test]
fn a02_a_forwarded_certificate_is_read_by_its_grammar_or_refused() {
    let devices = Authority::new("devices");
    for name in ["alice", "mallory"] {
        devices.issue(name, &format!("DNS:{name}.example"), "clientAuth", "20400101000000Z");
    }
    let methods = "    - {name: devices, mtls: {trustBundleRef: {name: ca}, identity: DNS, \
                   trustedProxies: [127.0.0.0/8]}}\n    - {name: everyone, anonymous: {}}\n";
    let servers = Authority::new("servers");
    servers.issue("api.example", "DNS:api.example", "serverAuth", "20400101000000Z");
    let rest = format!(
        "{}{}{HTTPS_LISTENER}",
        secret("ca", &[("ca.crt", devices.read("ca.crt"))]),
        secret("server", &[("tls.crt", servers.read("api.example.crt")), ("tls.key", servers.read("api.example.key"))])
    );
    let bed = Bed::new(Upstream::new(), methods, &rest);
    let (alice, mallory) = (escaped(&devices.read("alice.crt")), escaped(&devices.read("mallory.crt")));
    for attack in [
        format!("Subject=\"CN=m;Cert={alice}\";Cert=\"{mallory}\""),
        format!("Cert=\"{mallory}\";URI=\"x,Cert={alice}\""),
        format!("Cert={alice},By=spiffe://a;Cert=\"{mallory}\""),
    ] {
        let seen = bed.passed(&format!("X-Forwarded-Client-Cert: {attack}\r\n"));
        assert!(seen.contains("x-authenticated-userid: mallory.example\r\n"), "{attack}: {seen}");
        assert!(!seen.contains("client-cert"), "{seen}");
    }
    let line = |value: &str| format!("X-Forwarded-Client-Cert: {value}\r\n");
    for malformed in [
        line(&format!("Cert={alice};Cert={mallory}")),
        line(&format!("Subject=\"x,Cert=\"{alice}\"")),
        line(&format!("Hash={};Cert={alice}", "0".repeat(64))),
        line(&format!("Cert={alice},URI=spiffe://x")),
        format!("{}{}", line(&format!("Cert={alice}")), line(&format!("Cert={mallory}"))),
    ] {
        // Not even as somebody without a certificate.
        bed.refused(&malformed, 401, "MalformedCredential");
    }
    let twin = bed.passed(&format!("X_Forwarded_Client_Cert: Cert={alice}\r\n"));
    assert!(!twin.contains("alice") && !twin.contains("client"), "{twin}");
}

const PROVIDER: &str =
    "  llm: {keyRef: {name: provider}, provider: OpenAI, quotas: [{tokens: 1000, perSeconds: 86400}]}\n";

fn provider<G: Serves>(upstream: Upstream, more: &str) -> Bed<G> {
    let rest = format!("{PROVIDER}{more}{}", secret("provider", &[("apiKey", "sk-canary-key".to_owned())]));
    Bed::on(upstream, ANONYMOUS, &rest)
}

#[test]
fn a_provider_learns_nothing_of_the_caller() {
    let bed: Bed = provider(Upstream::new(), "");
    let seen = bed.passed(
        "Cookie: a=canary\r\nReferer: http://canary\r\nOrigin: http://canary\r\nOpenAI-Organization: canary\r\n\
         OpenAI-Beta: v2\r\nX-Api-Key: canary\r\nUser-Agent: canary\r\nAccept: text/plain\r\n",
    );
    let port = bed.upstream.address.port();
    assert!(seen.contains(&format!("\r\nhost: 127.0.0.1:{port}\r\n")), "{seen}");
    assert!(seen.contains("authorization: bearer sk-canary-key\r\n") && seen.contains("openai-beta: v2\r\n"), "{seen}");
    assert!(seen.contains("accept: text/plain\r\n") && seen.contains("user-agent: idm\r\n"), "{seen}");
    assert_eq!(seen.matches("canary").count(), 1, "{seen}");
    assert!(!seen.contains("x-forwarded") && !seen.contains("x-authenticated"), "{seen}");
    let bed: Bed = provider(Upstream::new(), "  upstream: {headers: [{name: X-Asked, value: request.method}]}\n");
    assert!(bed.passed("").contains("x-asked: get\r\n"), "what the policy says is told");
}

#[test]
fn a_tunnel_to_a_provider_is_refused_by_name() {
    let bed: Bed = provider(Upstream::new(), "");
    bed.refused("Connection: Upgrade\r\nUpgrade: websocket\r\n", 403, "UpgradeNotAllowed");
}

#[test]
fn a15_who_leaves_before_the_usage_is_told_pays_for_what_passed() {
    let mut answer =
        String::from("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 100000\r\n\r\n");
    answer.push_str("data: {\"message\":{\"model\":\"c\",\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n");
    (0..200).for_each(|_| answer.push_str("data: {\"delta\":{\"text\":\"12345678901234567890\"}}\n\n"));
    let bed: Bed<Gateway> = provider(Upstream::answering(&answer), "");
    let mut stream = TcpStream::connect(bed.gateway.address).unwrap();
    stream.write_all(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut read = 0;
    while read < answer.len() - 200 {
        let got = stream.read(&mut [0; 4096]).unwrap();
        assert!(got > 0, "the answer ended early");
        read += got;
    }
    drop(stream);
    let usage: Value = eventually("the record", || {
        bed.gateway.records().iter().find(|r| r["usage"].is_object()).map(|r| r["usage"].clone()).ok_or("none".into())
    });
    assert_eq!(usage, json!({"model": "c", "prompt_tokens": 9, "completion_tokens": 1000, "estimated": true}));
    bed.refused("", 429, "TokenQuotaExceeded");
}
