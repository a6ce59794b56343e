//! A proxy on the way to issuers: which of them are asked through it, and what it looks up.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use idm_jose::SigningKey;
use idm_tests::{Authority, Gateway, Upstream, config_map, eventually, now, open_to, raw};
use idm_types::Algorithm;
use serde_json::json;

/// Its name is known nowhere: only the proxy finds it.
const ISSUER: &str = "https://keys.corp.invalid";

/// An HTTPS server of OpenSSL that serves the files of the authority's folder.
struct Files {
    child: Child,
    address: SocketAddr,
}

impl Files {
    fn start(authority: &Authority) -> Self {
        let mut child = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-cert", "idp.crt", "-key", "idp.key", "-WWW"])
            .current_dir(authority.as_ref())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl runs");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let address = lines.filter_map(|line| line.strip_prefix("ACCEPT ")?.trim().parse().ok()).next();
        Self { child, address: address.expect("it listens") }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A proxy whose every tunnel leads to one server. Returns its address and the request lines that it read.
fn proxy_to(server: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let kept = asked.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let kept = kept.clone();
            std::thread::spawn(move || {
                let (mut head, mut byte) = (String::new(), [0]);
                while !head.ends_with("\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                    head.push(char::from(byte[0]));
                }
                kept.lock().expect("no panic inside").push(head.lines().next().unwrap_or_default().to_owned());
                let Ok(mut to) = TcpStream::connect(server) else { return };
                let _ = stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n");
                let (mut back, mut up) = (stream.try_clone().expect("done"), to.try_clone().expect("done"));
                std::thread::spawn(move || std::io::copy(&mut back, &mut up));
                let _ = std::io::copy(&mut to, &mut stream);
                let _ = stream.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    (address, asked)
}

fn with_token(gateway: &Gateway, token: &str) -> idm_tests::Reply {
    let request = format!("GET /x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n");
    raw(gateway.address, request.as_bytes())
}

#[test]
fn r14_keys_come_through_the_proxy_which_looks_up_the_name() {
    let authority = Authority::new("corp");
    authority.issue("idp", "DNS:keys.corp.invalid", "serverAuth", "20400101000000Z");
    let key = SigningKey::generate(Algorithm::ES256, "k").expect("a key");
    std::fs::write(authority.as_ref().join("jwks.json"), key.jwks().to_string()).expect("written");
    let server = Files::start(&authority);
    let (proxy, asked) = proxy_to(server.address);
    let upstream = Upstream::new();
    let methods = format!(
        "{{name: staff, jwt: {{issuers: [{{issuer: '{ISSUER}', audiences: [orders], algorithms: [ES256], keys: \
         {{jwksUri: '{ISSUER}/jwks.json', tls: {{trustBundleRef: {{kind: ConfigMap, name: roots}}}}}}}}]}}}}"
    );
    let methods = format!("    - {methods}\n");
    let yaml = format!(
        "{}---\n{}",
        open_to(&upstream, &methods),
        config_map("roots", &[("ca.crt", authority.read("ca.crt"))])
    );
    let claims = json!({"iss": ISSUER, "aud": "orders", "sub": "ana", "iat": now(), "exp": now() + 60});
    let token = key.sign(&claims).expect("a token");

    let url = format!("http://{proxy}");
    let gateway = Gateway::start_in(&[("all.yaml", &yaml)], &[], &[("HTTPS_PROXY", &url)]);
    eventually("the keys are there", || match with_token(&gateway, &token).status {
        200 => Ok(()),
        status => Err(format!("{status}: {}", gateway.log().lines().last().unwrap_or_default())),
    });
    let lines = asked.lock().expect("no panic inside").clone();
    assert!(
        !lines.is_empty() && lines.iter().all(|line| line == "CONNECT keys.corp.invalid:443 HTTP/1.1"),
        "{lines:?}"
    );
    assert!(upstream.received().contains("x-authenticated-userid: ana"), "{}", upstream.received());
    gateway.stop();

    // Without the proxy nobody finds the server, and no request passes.
    asked.lock().expect("no panic inside").clear();
    upstream.forget();
    for (arguments, environment) in [
        (&["--egress-proxy", url.as_str(), "--no-proxy", "10.0.0.0/8,corp.invalid"][..], &[][..]),
        (&[][..], &[("HTTPS_PROXY", url.as_str()), ("NO_PROXY", "keys.corp.invalid")][..]),
    ] {
        let gateway = Gateway::start_in(&[("all.yaml", &yaml)], arguments, environment);
        let refused = with_token(&gateway, &token);
        assert_eq!(refused.status, 503, "{refused:?}");
        assert_eq!(gateway.record(refused.decision())["reason"], "KeysUnavailable");
        assert_eq!((upstream.received(), gateway.records().len()), (String::new(), 1));
    }
    assert_eq!(*asked.lock().expect("no panic inside"), Vec::<String>::new());
}
