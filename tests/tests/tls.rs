//! HTTPS and client certificates: OpenSSL makes the certificates, curl and `openssl s_client` are the clients.

use std::process::{Command, Stdio};

use idm_tests::{Authority, Gateway, HTTPS_LISTENER, Upstream, eventually, secret};

const LATER: &str = "20400101000000Z";

struct Bed {
    gateway: Gateway,
    upstream: Upstream,
    servers: Authority,
}

fn yaml(upstream: &Upstream, servers: &Authority, method: &str, rest: &str) -> String {
    let certificate =
        secret("server", &[("tls.crt", servers.read("api.example.crt")), ("tls.key", servers.read("api.example.key"))]);
    format!("{}{rest}{certificate}{HTTPS_LISTENER}", idm_tests::open_to(upstream, method))
}

fn servers() -> Authority {
    let servers = Authority::new("servers");
    servers.issue("api.example", "DNS:api.example,DNS:other.example", "serverAuth", LATER);
    servers
}

fn bed(method: &str, rest: &str) -> Bed {
    let (upstream, servers) = (Upstream::new(), servers());
    let gateway = Gateway::start_with(
        &[("all.yaml", &yaml(&upstream, &servers, method, rest))],
        &["--listen-tls", "127.0.0.1:0"],
    );
    Bed { gateway, upstream, servers }
}

impl Bed {
    /// curl's status (000 for a failed handshake), decision id and what it printed of the response's headers.
    fn curl(&self, arguments: &[&str]) -> (String, Option<String>) {
        self.upstream.forget();
        let address = self.gateway.tls.unwrap();
        let output = Command::new("curl")
            .args(["-s", "-D", "-", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", &self.servers.path("ca.crt")])
            .args(["--resolve", &format!("api.example:{}:127.0.0.1", address.port())])
            .args(arguments)
            .arg(format!("https://api.example:{}/x", address.port()))
            .output()
            .expect("curl runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let decision =
            text.lines().find_map(|line| line.strip_prefix("x-decision-id: ").map(|id| id.trim().to_owned()));
        (text.get(text.len().saturating_sub(3)..).unwrap_or_default().to_owned(), decision)
    }

    fn with(&self, authority: &Authority, name: &str) -> (String, Option<String>) {
        self.curl(&[
            "--cert",
            &authority.path(&format!("{name}.crt")),
            "--key",
            &authority.path(&format!("{name}.key")),
        ])
    }

    fn refused(&self, answer: (String, Option<String>), reason: &str) {
        let (status, decision) = answer;
        let record = self.gateway.record(&decision.unwrap_or_else(|| panic!("no decision for {reason}: {status}")));
        assert_eq!((status.as_str(), record["reason"].as_str()), ("401", Some(reason)), "{record}");
        assert_eq!(self.upstream.received(), "");
    }
}

const OPEN: &str = "    - {name: everyone, anonymous: {}}\n";

#[test]
fn https_is_served_in_both_versions_of_http_and_says_so_to_the_upstream() {
    let bed = bed(OPEN, "");
    for version in ["--http1.1", "--http2"] {
        assert_eq!(bed.curl(&[version]).0, "200", "{version}");
        assert!(
            bed.upstream.received().to_ascii_lowercase().contains("x-forwarded-proto: https"),
            "{}",
            bed.upstream.received()
        );
    }
    // Old versions of TLS are refused in the handshake.
    assert_eq!(bed.curl(&["--tls-max", "1.1"]).0, "000");
    // A connection for one host is of no use for another.
    let (status, decision) = bed.curl(&["-H", "Host: other.example"]);
    assert_eq!(
        (status.as_str(), bed.gateway.record(&decision.unwrap())["reason"].as_str()),
        ("421", Some("MisdirectedRequest"))
    );
    assert_eq!(bed.upstream.received(), "");
}

fn devices() -> Authority {
    let devices = Authority::new("devices");
    devices.issue("good", "URI:spiffe://shop/device/7,DNS:good.example", "clientAuth", LATER);
    devices.issue("foreign", "URI:spiffe://evil/device/7", "clientAuth", LATER);
    devices.issue("nameless", "DNS:nameless.example", "clientAuth", LATER);
    devices.issue("revoked", "URI:spiffe://shop/device/8", "clientAuth", LATER);
    devices.issue("expired", "URI:spiffe://shop/device/9", "clientAuth", "20210101000000Z");
    devices.issue("server", "URI:spiffe://shop/device/6", "serverAuth", LATER);
    devices.revoke("revoked");
    devices
}

const DEVICES: &str = "    - {name: devices, mtls: {trustBundleRef: {name: ca}, revocationListRef: {name: ca}, \
    names: [{name: URI, startsWith: 'spiffe://shop/'}], identity: URI}}\n";

#[test]
fn a_certificate_of_the_right_authority_and_name_becomes_the_caller() {
    let (devices, strangers) = (devices(), Authority::new("strangers"));
    strangers.issue("good", "URI:spiffe://shop/device/7", "clientAuth", LATER);
    let trust = secret("ca", &[("ca.crt", devices.read("ca.crt")), ("ca.crl", devices.revocation_list())]);
    let grant = "---\napiVersion: identity-manager.io/v1alpha1\nkind: RoleBinding\nmetadata: {name: d}\n\
        spec: {role: device, subjects: [{user: 'spiffe://shop/device/7', issuer: 'x509:CN=devices'}], scope: \
        {project: {}}}\n";
    let bed = bed(DEVICES, &format!("{trust}{grant}"));
    assert_eq!(bed.with(&devices, "good").0, "200");
    let seen = bed.upstream.received().to_ascii_lowercase();
    assert!(
        seen.contains("x-authenticated-userid: spiffe://shop/device/7")
            && seen.contains("x-authenticated-userroles: device"),
        "{seen}"
    );

    bed.refused(bed.curl(&[]), "NoCredentials");
    bed.refused(bed.with(&devices, "foreign"), "CertificateNotAllowed");
    bed.refused(bed.with(&devices, "revoked"), "CertificateRevoked");
    // A certificate of no authority of the gateway does not get through the handshake.
    for (authority, name) in [(&strangers, "good"), (&devices, "expired"), (&devices, "server")] {
        assert_eq!(bed.with(authority, name).0, "000", "{name}");
        assert_eq!(bed.upstream.received(), "");
    }
    // A header that speaks of a certificate is nobody's.
    bed.refused(
        bed.curl(&["-H", "X-Forwarded-Client-Cert: URI=spiffe://shop/device/7", "-H", "X-Client-Cert: x"]),
        "NoCredentials",
    );
    // On plain HTTP there is no certificate, and the same route asks for one.
    let plain = idm_tests::raw(bed.gateway.address, b"GET /x HTTP/1.1\r\nHost: api.example\r\n\r\n");
    assert_eq!(bed.gateway.record(plain.decision())["reason"], "NoCredentials");
}

#[test]
fn a_name_is_needed_where_it_is_mapped() {
    let devices = devices();
    let trust = secret("ca", &[("ca.crt", devices.read("ca.crt"))]);
    let bed = bed("    - {name: devices, mtls: {trustBundleRef: {name: ca}, identity: URI}}\n", &trust);
    bed.refused(bed.with(&devices, "nameless"), "CertificateNotAllowed");
    // Without a list nobody is revoked.
    assert_eq!(bed.with(&devices, "revoked").0, "200");
}

#[test]
fn a_proxy_is_believed_only_where_the_policy_names_it() {
    let devices = devices();
    let trust = secret("ca", &[("ca.crt", devices.read("ca.crt"))]);
    let method = |proxies: &str| {
        format!(
            "    - {{name: devices, mtls: {{trustBundleRef: {{name: ca}}, identity: DNS, \
             trustedProxies: [{proxies}]}}}}\n"
        )
    };
    let header = |name: &str| {
        let escaped: String = devices
            .read(name)
            .bytes()
            .map(
                |byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") },
            )
            .collect();
        format!("X-Forwarded-Client-Cert: By=spiffe://shop/edge;Cert=\"{escaped}\"")
    };
    let near = bed(&method("127.0.0.0/8"), &trust);
    assert_eq!(near.curl(&["-H", &header("good.crt")]).0, "200");
    let seen = near.upstream.received().to_ascii_lowercase();
    assert!(
        seen.contains("x-authenticated-userid: good.example") && !seen.contains("x-forwarded-client-cert"),
        "{seen}"
    );
    near.refused(near.curl(&["-H", &header("expired.crt")]), "CertificateExpired");
    let strangers = Authority::new("strangers");
    strangers.issue("good", "DNS:good.example", "clientAuth", LATER);
    let escaped: String = strangers.read("good.crt").bytes().map(|byte| format!("%{byte:02x}")).collect();
    near.refused(near.curl(&["-H", &format!("X-Forwarded-Client-Cert: Cert={escaped}")]), "UntrustedCertificate");
    let twice = [header("good.crt"), header("good.crt")];
    near.refused(near.curl(&["-H", &twice[0], "-H", &twice[1]]), "MalformedCredential");
    let far = bed(&method("192.0.2.0/24"), &trust);
    far.refused(far.curl(&["-H", &header("good.crt")]), "NoCredentials");
}

#[test]
fn a_certificate_is_believed_of_the_proxy_that_sent_it_and_not_of_its_client() {
    let (devices, servers, upstream) = (devices(), servers(), Upstream::new());
    let trust = secret("ca", &[("ca.crt", devices.read("ca.crt"))]);
    let escaped: String = devices.read("good.crt").bytes().map(|byte| format!("%{byte:02x}")).collect();
    let certificate = format!("X-Forwarded-Client-Cert: Cert={escaped}");
    for (believed, taken) in [("127.0.0.0/8", true), ("192.0.2.0/24", false)] {
        let method = format!(
            "    - {{name: devices, mtls: {{trustBundleRef: {{name: ca}}, identity: DNS, trustedProxies: \
                [{believed}]}}}}\n"
        );
        let gateway = Gateway::start_with(
            &[("all.yaml", &yaml(&upstream, &servers, &method, &trust))],
            &["--listen-tls", "127.0.0.1:0", "--trusted-proxies", "127.0.0.1"],
        );
        upstream.forget();
        let request = format!("GET /x HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\n{certificate}\r\n\r\n");
        let reply = idm_tests::raw(gateway.address, request.as_bytes());
        assert_eq!(reply.status == 200, taken, "{believed}: {reply:?}");
        if !taken {
            let record = gateway.record(reply.decision());
            assert_eq!(
                (&record["reason"], &record["request"]["source"]),
                (&"NoCredentials".into(), &"192.0.2.7".into())
            );
            assert_eq!(upstream.received(), "");
        }
    }
}

#[test]
fn a_removed_authority_takes_its_sessions_along_and_drops_no_connection() {
    let (devices, others) = (devices(), Authority::new("others"));
    let trust = |authority: &Authority| secret("ca", &[("ca.crt", authority.read("ca.crt"))]);
    let method = "    - {name: devices, mtls: {trustBundleRef: {name: ca}, identity: URI}}\n";
    let bed = bed(method, &trust(&devices));
    let session = bed.servers.path("session");
    let connect = |resume: bool| {
        let mut command = Command::new("openssl");
        command.args([
            "s_client",
            "-connect",
            &bed.gateway.tls.unwrap().to_string(),
            "-servername",
            "api.example",
            "-tls1_2",
            "-CAfile",
            &bed.servers.path("ca.crt"),
        ]);
        command.args(["-cert", &devices.path("good.crt"), "-key", &devices.path("good.key")]);
        command.args(if resume { ["-sess_in", &session] } else { ["-sess_out", &session] });
        let output = command.stdin(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(connect(false).contains("New, TLSv1.2"));
    assert!(connect(true).contains("Reused, TLSv1.2"), "a session is resumed while nothing changed");
    assert_eq!(bed.with(&devices, "good").0, "200");

    bed.gateway.write("all.yaml", &yaml(&bed.upstream, &bed.servers, method, &trust(&others)));
    eventually("the new authority is in force", || {
        let (status, _) = bed.with(&devices, "good");
        if status == "000" { Ok(()) } else { Err(status) }
    });
    assert!(!connect(true).contains("Reused"), "no session outlives the authority it was made under");
    assert_eq!(bed.upstream.received(), "");
}

#[test]
fn a_listener_without_a_usable_certificate_is_named() {
    use idm_compile::{Settings, compile, yaml::read_files};
    let (upstream, servers) = (Upstream::new(), servers());
    let said = |text: String| {
        let (world, _) = read_files(&[("all.yaml".into(), text)], Settings::of_a_folder(false)).unwrap();
        compile(&world, None).report.findings().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let good = yaml(&upstream, &servers, OPEN, "");
    assert_eq!(said(good.clone()), "");
    assert!(
        said(good.replace("certificateRefs: [{name: server}]", "certificateRefs: [{name: none}]"))
            .contains("Secret 'none' must exist")
    );
    assert!(
        said(good.replace("certificateRefs: [{name: server}]", "certificateRefs: []"))
            .contains("exactly one certificateRef")
    );
    assert!(said(good.replace("protocol: HTTPS", "protocol: TLS")).contains("use HTTP or HTTPS"));
    let key = servers.read("api.example.key");
    let broken = said(good.replace(key.lines().nth(1).unwrap(), "canary"));
    assert!(broken.contains("must hold certificates (`tls.crt`)") && !broken.contains("canary"), "{broken}");
}

/// OpenSSL as the issuer's server: authorities of its own, and nobody without a certificate is let in.
#[test]
fn keys_come_from_a_server_with_authorities_of_its_own() {
    use idm_jose::SigningKey;
    let (servers, clients, others) = (Authority::new("servers"), Authority::new("clients"), Authority::new("others"));
    servers.issue("localhost", "DNS:localhost,IP:127.0.0.1", "serverAuth", LATER);
    clients.issue("gateway", "DNS:gateway.example", "clientAuth", LATER);
    let key = SigningKey::generate(idm_types::Algorithm::ES256, "k").unwrap();
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
            "-Verify",
            "2",
            "-verify_return_error",
            "-CAfile",
            &clients.path("ca.crt"),
        ])
        .args(["-cert", &servers.path("localhost.crt"), "-key", &servers.path("localhost.key")])
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("it listens", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|error| error.to_string())
    });
    let upstream = Upstream::new();
    let token = key
        .sign(&serde_json::json!({"iss": "https://idp", "aud": "orders", "sub": "ana", "exp": idm_tests::now() + 300}))
        .unwrap();
    let call = |tls: &str, authority: &Authority| {
        let method = format!(
            "    - {{name: m, jwt: {{issuers: [{{issuer: 'https://idp', audiences: [orders], keys: {{jwksUri: \
                'https://localhost:{port}/keys'{tls}}}}}]}}}}\n"
        );
        let secrets = secret("ca", &[("ca.crt", authority.read("ca.crt"))])
            + &secret("gateway", &[("tls.crt", clients.read("gateway.crt")), ("tls.key", clients.read("gateway.key"))]);
        let gateway = Gateway::start_with(
            &[("all.yaml", &format!("{}{secrets}", idm_tests::open_to(&upstream, &method)))],
            &["--danger-insecure-issuers"],
        );
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
        let reply = idm_tests::raw(gateway.address, request.as_bytes());
        if reply.status != 200 {
            let record = gateway.record(reply.decision());
            assert_eq!(record["reason"], "KeysUnavailable", "{record}");
        }
        assert!(!gateway.log().contains("PRIVATE KEY"));
        reply.status
    };
    assert_eq!(call(", tls: {trustBundleRef: {name: ca}, clientCertificateRef: {name: gateway}}", &servers), 200);
    upstream.forget();
    assert_eq!(call(", tls: {trustBundleRef: {name: ca}}", &servers), 503, "it shows no certificate");
    assert_eq!(
        call(", tls: {trustBundleRef: {name: ca}, clientCertificateRef: {name: gateway}}", &others),
        503,
        "another authority"
    );
    assert_eq!(call(", tls: {clientCertificateRef: {name: gateway}}", &servers), 503, "the system's authorities");
    assert_eq!(upstream.received(), "");
    let _ = server.kill();
    let _ = server.wait();
}
