//! TLS to upstreams, against a server on OpenSSL and a gRPC server of the C core: which certificates are accepted, what
//! the upstream hears, and that nothing is sent to one that is not trusted.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use idm_tests::{ANONYMOUS, Authority, Gateway, Reply, config_map, eventually, interop_libraries, raw, raw_on, secret};
use idm_types::ApiKey;
use serde_json::{Value, json};

const FOREVER: &str = "20400101000000Z";
const GET: &[u8] = b"GET /orders HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n";

/// A server in a process of its own, and what it says of each handshake and request.
struct Server {
    child: Child,
    port: u16,
    said: Receiver<Value>,
}

impl Server {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let port = lines.next().and_then(|line| line.parse().ok()).expect("a port");
        let (say, said) = channel();
        std::thread::spawn(move || lines.for_each(|line| drop(say.send(serde_json::from_str(&line).expect("JSON")))));
        Self { child, port, said }
    }

    /// HTTPS with the certificate that the authority issued under this name.
    fn https(authority: &Authority, name: &str, clients: Option<&Authority>) -> Self {
        let script: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/tls_upstream.py");
        let mut command = Command::new("python3");
        command.arg(script).args([authority.path(&format!("{name}.crt")), authority.path(&format!("{name}.key"))]);
        command.args(clients.map(|clients| clients.path("ca.crt")));
        Self::start(&mut command)
    }

    fn next(&self) -> Value {
        self.said.recv_timeout(Duration::from_secs(10)).expect("the server says something")
    }

    /// Everything it said until now, after the gateway has answered.
    fn heard(&self) -> Vec<Value> {
        self.said.try_iter().collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A Service on this machine with this protocol on its port, open to the method's callers.
fn service(port: u16, protocol: &str, methods: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: up, annotations: {{identity-manager.io/hostnames: '*'}}}}\n\
         spec: {{type: ExternalName, externalName: localhost, ports: [{{name: web, port: {port}{protocol}}}]}}\n---\n\
         apiVersion: identity-manager.io/v1alpha1\nkind: IdentityPolicy\nmetadata: {{name: p}}\nspec:\n  \
         targetRefs: [{{group: '', kind: Service, name: up}}]\n  authentication:\n    methods:\n{methods}"
    )
}

const HTTPS: &str = ", appProtocol: https";

fn backend_policy(name: &str, validation: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {{name: {name}}}\nspec:\n  \
         targetRefs: [{{group: '', kind: Service, name: up}}]\n  validation: {{{validation}}}\n"
    )
}

const TRUSTED: &str = "caCertificateRefs: [{group: '', kind: ConfigMap, name: roots}]";

fn trust(authority: &Authority) -> String {
    config_map("roots", &[("ca.crt", authority.read("ca.crt"))])
}

/// The gateway, whose system trusts this authority.
fn gateway(yaml: &str, system: &Authority) -> Gateway {
    Gateway::start_in(&[("all.yaml", yaml)], &[], &[("SSL_CERT_FILE", &system.path("ca.crt"))])
}

fn assert_refused(gateway: &Gateway, reply: &Reply, status: u16, reason: &str) {
    assert_eq!(reply.status, status, "{reply:?}");
    let records = gateway.records();
    let of_it: Vec<_> = records.iter().filter(|record| record["id"] == reply.decision()).collect();
    assert_eq!((of_it.len(), of_it[0]["reason"].as_str()), (1, Some(reason)), "{records:#?}");
}

#[test]
fn an_https_upstream_hears_its_name_and_its_connection_is_used_again() {
    let authority = Authority::new("authority");
    authority.issue("up", "DNS:localhost", "serverAuth", FOREVER);
    let server = Server::https(&authority, "up", None);
    let gateway = gateway(&service(server.port, HTTPS, ANONYMOUS), &authority);
    // One connection of the caller is served by one core, which has connections of its own to the upstream.
    let mut caller = TcpStream::connect(gateway.address).expect("it listens");
    for _ in 0..2 {
        caller.write_all(b"GET /orders HTTP/1.1\r\nHost: shop.example\r\n\r\n").expect("sent");
        let reply = raw_on(&mut caller);
        assert_eq!((reply.status, reply.body.as_str()), (200, "/orders"), "{reply:?}");
    }
    assert_eq!(server.next(), json!({"handshake": {"name": "localhost", "alpn": "http/1.1", "client": null}}));
    for _ in 0..2 {
        let request = server.next();
        assert_eq!(request["line"], "GET /orders HTTP/1.1", "no second handshake");
        assert_eq!(request["headers"]["host"], "shop.example", "{request}");
    }
}

#[test]
fn nothing_is_sent_to_an_upstream_whose_certificate_is_not_trusted() {
    let (authority, other) = (Authority::new("authority"), Authority::new("other"));
    authority.issue("old", "DNS:localhost", "serverAuth", "20210101000000Z");
    authority.issue("elsewhere", "DNS:elsewhere.example,IP:127.0.0.1", "serverAuth", FOREVER);
    authority.issue("client", "DNS:localhost", "clientAuth", FOREVER);
    other.issue("foreign", "DNS:localhost", "serverAuth", FOREVER);
    for (of, name) in [(&authority, "old"), (&authority, "elsewhere"), (&authority, "client"), (&other, "foreign")] {
        let server = Server::https(of, name, None);
        let gateway = gateway(&service(server.port, HTTPS, ANONYMOUS), &authority);
        let reply = raw(gateway.address, GET);
        assert_refused(&gateway, &reply, 502, "UpstreamUntrusted");
        // The handshake ended before the server could see it as complete, or right after.
        let said = server.heard();
        assert!(said.iter().all(|line| line.get("line").is_none()), "{name}: {said:?}");
        assert!(!reply.body.contains("certificate"), "the caller learns nothing of it: {}", reply.body);
    }
}

#[test]
fn an_upstream_without_tls_is_not_spoken_to_in_the_clear() {
    let authority = Authority::new("authority");
    let upstream = idm_tests::Upstream::answering("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    let gateway = gateway(&service(upstream.address.port(), HTTPS, ANONYMOUS), &authority);
    let reply = raw(gateway.address, GET);
    assert_refused(&gateway, &reply, 502, "UpstreamUnreachable");
    assert!(!upstream.received().contains("HTTP/1.1") && !upstream.received().contains("/orders"));
}

#[test]
fn a_backend_tls_policy_says_name_and_authorities() {
    let (authority, system) = (Authority::new("authority"), Authority::new("system"));
    authority.issue("up", "DNS:orders.internal,URI:spiffe://shop/orders", "serverAuth", FOREVER);
    let uri = "subjectAltNames: [{type: URI, uri: 'spiffe://shop/orders'}]";
    let (host, wrong) = (
        "subjectAltNames: [{type: Hostname, hostname: nowhere.example}, {type: Hostname, hostname: orders.internal}]",
        "subjectAltNames: [{type: URI, uri: 'spiffe://shop/order'}]",
    );
    for (validation, name, status) in [
        (format!("hostname: orders.internal, {TRUSTED}"), "orders.internal", 200),
        (format!("hostname: Sni.Example, {TRUSTED}, {uri}"), "sni.example", 200),
        (format!("hostname: sni.example, {TRUSTED}, {host}"), "sni.example", 200),
        (format!("hostname: sni.example, {TRUSTED}"), "", 502),
        (format!("hostname: orders.internal, {TRUSTED}, {wrong}"), "", 502),
        ("hostname: orders.internal, wellKnownCACertificates: System".to_owned(), "", 502),
    ] {
        let server = Server::https(&authority, "up", None);
        let yaml = format!(
            "{}{}{}",
            service(server.port, ", appProtocol: HTTPS", ANONYMOUS),
            backend_policy("b", &validation),
            trust(&authority)
        );
        let gateway = gateway(&yaml, &system);
        let reply = raw(gateway.address, GET);
        if status == 200 {
            assert_eq!((reply.status, &server.next()["handshake"]["name"]), (200, &json!(name)), "{validation}");
            assert_eq!(server.next()["line"], "GET /orders HTTP/1.1");
        } else {
            assert_refused(&gateway, &reply, 502, "UpstreamUntrusted");
            assert!(server.heard().iter().all(|line| line.get("line").is_none()), "{validation}");
        }
    }
}

/// A Gateway with a route to the Service, for everyone.
fn routed(port: u16, protocol: &str, tls: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: up}}\nspec: {{type: ExternalName, externalName: localhost, \
         ports: [{{name: web, port: {port}{protocol}}}]}}\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: g}}\nspec: {{gatewayClassName: \
         idm, listeners: [{{name: http, port: 80, protocol: HTTP}}]{tls}}}\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r}}\nspec: {{parentRefs: \
         [{{name: g}}], rules: [{{backendRefs: [{{name: up, port: {port}}}]}}]}}\n---\n\
         apiVersion: identity-manager.io/v1alpha1\nkind: IdentityPolicy\nmetadata: {{name: p}}\nspec:\n  targetRefs: \
         [{{group: gateway.networking.k8s.io, kind: Gateway, name: g}}]\n  authentication:\n    methods:\n{ANONYMOUS}"
    )
}

const SHOWN: &str = ", tls: {backend: {clientCertificateRef: {name: shown}}}";

#[test]
fn a_gateway_shows_its_certificate_to_upstreams_that_ask() {
    let (authority, clients) = (Authority::new("authority"), Authority::new("clients"));
    authority.issue("up", "DNS:localhost", "serverAuth", FOREVER);
    clients.issue("gateway", "DNS:gateway.shop", "clientAuth", FOREVER);
    let server = Server::https(&authority, "up", Some(&clients));
    let pair = secret("shown", &[("tls.crt", clients.read("gateway.crt")), ("tls.key", clients.read("gateway.key"))]);
    let with = gateway(&format!("{}{pair}", routed(server.port, HTTPS, SHOWN)), &authority);
    let reply = raw(with.address, GET);
    assert_eq!((reply.status, reply.body.as_str()), (200, "/orders"), "{reply:?}");
    assert_eq!(server.next()["handshake"]["client"], "gateway");
    assert_eq!(server.next()["line"], "GET /orders HTTP/1.1");
    let without = gateway(&routed(server.port, HTTPS, ""), &authority);
    let reply = raw(without.address, GET);
    assert_eq!(reply.status, 502, "{reply:?}");
    let said = server.heard();
    assert!(said.iter().all(|line| line.get("line").is_none()), "{said:?}");
}

/// The findings about the objects of this YAML, and the backends of its rule with the weight that is refused.
fn compiled(yaml: &str) -> (Vec<String>, Vec<idm_plan::Backend>, u64) {
    let files = [("all.yaml".to_owned(), yaml.to_owned())];
    let settings = idm_compile::Settings::of_a_folder(false);
    let (world, _) = idm_compile::yaml::read_files(&files, settings).expect("it can be read");
    let compiled = idm_compile::compile(&world, None);
    let said = compiled.report.findings().iter().map(ToString::to_string).collect();
    match &compiled.plan.rules[0].handler {
        idm_plan::Handler::Enforce { backends, unresolved_weight, .. } => (said, backends.clone(), *unresolved_weight),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_asks_for_tls_and_cannot_be_used_gets_no_request() {
    let authority = Authority::new("authority");
    let policy = |validation: &str| backend_policy("b", validation);
    let localhost = format!("hostname: localhost, {TRUSTED}");
    let no_pem = config_map("roots", &[("ca.crt", "no certificate".to_owned())]);
    let both = format!("{localhost}, wellKnownCACertificates: System");
    let gateways = "caCertificateRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: g}]";
    for (tls, extra, said) in [
        ("", policy(&localhost), "(NoValidCACertificate)"),
        ("", policy(&localhost), "ConfigMap 'roots' must exist in this namespace (InvalidCACertificateRef)"),
        ("", format!("{}{no_pem}", policy(&localhost)), "must hold certificates in PEM (InvalidCACertificateRef)"),
        ("", policy(&format!("hostname: localhost, {gateways}")), "(InvalidKind)"),
        ("", policy("hostname: '*.example', wellKnownCACertificates: System"), "must be a DNS name"),
        ("", policy("hostname: localhost, wellKnownCACertificates: Mine"), "'Mine' is not known: use System"),
        ("", policy("hostname: localhost"), "must be given"),
        ("", format!("{}{}", policy(&both), trust(&authority)), "only one of"),
        (
            "",
            policy("hostname: localhost, wellKnownCACertificates: System}\n  options: {a.example/b: c"),
            "remove them (UnsupportedValue)",
        ),
        (
            "",
            policy("hostname: localhost, wellKnownCACertificates: System, subjectAltNames: [{type: URI, uri: 'a b'}]"),
            "'a b' must be a URI",
        ),
        (SHOWN, policy("hostname: localhost, wellKnownCACertificates: System"), "Secret 'shown' must exist"),
    ] {
        let (findings, backends, refused) = compiled(&format!("{}{extra}", routed(8443, "", tls)));
        assert!(findings.iter().any(|finding| finding.contains(said)), "{said}: {findings:#?}");
        assert_eq!((backends, refused), (vec![], 1), "{said}");
    }
}

#[test]
fn of_two_backend_tls_policies_one_is_in_force_and_the_other_says_so() {
    let of_port = |name: &str, section: &str, host: &str| {
        let validation = format!("hostname: {host}, wellKnownCACertificates: System");
        backend_policy(name, &validation).replace("name: up}", &format!("name: up{section}}}"))
    };
    let named = ", sectionName: web";
    let (whole, port) = (of_port("b", "", "whole.example"), of_port("c", named, "port.example"));
    let backend = |yaml: &str| compiled(&format!("{}{yaml}", routed(8443, "", "")));
    let (findings, backends, _) = backend(&format!("{port}{whole}"));
    assert_eq!((findings, &*backends[0].tls.as_ref().unwrap().server_name), (vec![], "port.example"));
    for (other, held) in [(of_port("a", "", "first.example"), "whole.example"), (of_port("a", named, "x.example"), "")]
    {
        let first = if held.is_empty() { &port } else { &whole };
        let (findings, backends, _) = backend(&format!("{first}{other}"));
        let loser = if held.is_empty() { "c" } else { "b" };
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].contains(&format!("/{loser}: ")), "{findings:?}");
        assert!(findings[0].ends_with("(Conflicted)"), "{findings:?}");
        assert_ne!(backends[0].tls.as_ref().unwrap().server_name, held);
    }
    let (findings, _, _) = backend(&of_port("a", ", sectionName: nowhere", "x.example"));
    assert!(findings[0].contains("must have a port named 'nowhere' (TargetNotFound)"), "{findings:?}");
    let (findings, backends, _) =
        compiled(&format!("{}{}", routed(8443, ", appProtocol: kubernetes.io/h2c", ""), whole));
    assert_eq!((findings, backends[0].protocol), (vec![], idm_plan::BackendProtocol::Http2));
    assert!(backends[0].tls.is_some());
}

#[test]
fn a_new_bundle_ends_the_use_of_connections_under_the_old_one() {
    let (authority, other) = (Authority::new("authority"), Authority::new("other"));
    authority.issue("up", "DNS:localhost", "serverAuth", FOREVER);
    let server = Server::https(&authority, "up", None);
    let yaml = |trusted: &Authority| {
        format!(
            "{}{}{}",
            service(server.port, "", ANONYMOUS),
            backend_policy("b", &format!("hostname: localhost, {TRUSTED}")),
            trust(trusted)
        )
    };
    let gateway = gateway(&yaml(&authority), &authority);
    assert_eq!(raw(gateway.address, GET).status, 200);
    std::fs::write(gateway.dir.path().join("all.yaml"), yaml(&other)).expect("written");
    let refused = eventually("the new bundle is in force", || {
        let reply = raw(gateway.address, GET);
        if reply.status == 200 { Err("the old one is".to_owned()) } else { Ok(reply) }
    });
    assert_refused(&gateway, &refused, 502, "UpstreamUntrusted");
}

#[test]
fn a_websocket_goes_through_tls() {
    let authority = Authority::new("authority");
    authority.issue("up", "DNS:localhost", "serverAuth", FOREVER);
    let server = Server::https(&authority, "up", None);
    let gateway = gateway(&service(server.port, ", appProtocol: kubernetes.io/wss", ANONYMOUS), &authority);
    let mut stream = TcpStream::connect(gateway.address).expect("it listens");
    stream
        .write_all(
            b"GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .expect("sent");
    assert_eq!(raw_on(&mut stream).status, 101);
    stream.write_all(b"\x81\x82\0\0\0\0hi").expect("sent");
    let mut echoed = [0; 8];
    stream.read_exact(&mut echoed).expect("echoed");
    assert_eq!(&echoed, b"\x81\x82\0\0\0\0hi");
    assert_eq!(server.next()["handshake"]["alpn"], "http/1.1");
}

#[test]
fn a_language_model_provider_gets_its_own_name_over_tls() {
    let authority = Authority::new("authority");
    authority.issue("up", "DNS:localhost", "serverAuth", FOREVER);
    let server = Server::https(&authority, "up", None);
    let yaml = format!(
        "{}  llm: {{keyRef: {{name: provider}}, provider: OpenAI}}\n{}",
        service(server.port, HTTPS, ANONYMOUS),
        secret("provider", &[("apiKey", "sk-canary-key".to_owned())])
    );
    let gateway = gateway(&yaml, &authority);
    let body = r#"{"model":"m","messages":[]}"#;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: shop.example\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let reply = raw(gateway.address, format!("{head}{body}").as_bytes());
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(server.next().get("handshake").is_some());
    let request = server.next();
    assert_eq!(request["headers"]["host"], format!("localhost:{}", server.port), "{request}");
    assert_eq!(request["headers"]["authorization"], "Bearer sk-canary-key");
    assert!(!gateway.log().contains("sk-canary-key"));
}

#[test]
fn calls_of_grpc_agree_on_http2_in_the_handshake() {
    let authority = Authority::new("authority");
    authority.issue("up", "DNS:localhost", "serverAuth", FOREVER);
    let python = interop_libraries().join("python/bin/python");
    let script: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/grpc_peer.py");
    let server = Server::start(Command::new(&python).arg(&script).args([
        "serve",
        &authority.path("up.crt"),
        &authority.path("up.key"),
    ]));
    let key = ApiKey::from_random([3; 32]).reveal().to_owned();
    let methods = "    - {name: keys, apiKey: {sources: [{header: {name: X-Api-Key}}]}}\n";
    let credential = "---\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {name: shop}\n\
                      spec: {apiKey: {}, secretRef: {name: shop}}\n";
    let yaml =
        format!("{}{credential}{}", service(server.port, HTTPS, methods), secret("shop", &[("key", key.clone())]));
    let gateway = gateway(&yaml, &authority);
    let call = |key: &str| -> Value {
        let output = Command::new(&python)
            .arg(&script)
            .args(["call", &gateway.address.port().to_string(), key])
            .output()
            .expect("it runs");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    };
    let outcome = call(&key);
    assert_eq!(outcome["unary"]["answer"], "one x", "{outcome}");
    assert_eq!(outcome["streaming"]["answers"], json!(["each 0", "each 1", "each 2"]), "{outcome}");
    (0..3).for_each(|_| drop(server.next()));
    let refused = call(ApiKey::from_random([4; 32]).reveal());
    assert_eq!(refused["unary"]["code"], "UNAUTHENTICATED", "{refused}");
    assert!(server.heard().is_empty(), "a refused call arrived");
    // The server of the other tests speaks HTTP/1.1 only: a call of gRPC cannot be made there.
    let http1 = Server::https(&authority, "up", None);
    std::fs::write(
        gateway.dir.path().join("all.yaml"),
        yaml.replace(&server.port.to_string(), &http1.port.to_string()),
    )
    .expect("written");
    eventually("the call fails at the server of HTTP/1.1", || {
        let outcome = call(&key);
        if outcome["unary"]["code"] == "UNAVAILABLE" { Ok(()) } else { Err(outcome.to_string()) }
    });
}
