//! Proxies in front of the gateway: a real HAProxy, and callers who pretend to be one.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use idm_tests::{ANONYMOUS, Gateway, Reply, Upstream, eventually, free_address, free_port, raw, raw_on};

/// A caller's address behind the proxy; the proxy itself is 127.0.0.1.
const CLIENT: &str = "127.0.0.9";
/// Lets in callers of one network only.
const OFFICE: &str = "  authorization: {rules: [{name: office, when: \"source.address == '203.0.113.7'\"}]}\n";

fn gateway(upstream: &Upstream, rest: &str, arguments: &[&str]) -> Gateway {
    let yaml = format!("{}{rest}", idm_tests::open_to(upstream, ANONYMOUS));
    Gateway::start_with(&[("all.yaml", &yaml)], arguments)
}

fn get(gateway: &Gateway, headers: &str) -> Reply {
    raw(gateway.address, format!("GET /x HTTP/1.1\r\nHost: a\r\n{headers}\r\n").as_bytes())
}

/// The request was refused for this reason: nothing reached the upstream, and one record says so. Returns the record.
fn refused(gateway: &Gateway, upstream: &Upstream, reply: &Reply, status: u16, reason: &str) -> serde_json::Value {
    let record = gateway.record(reply.decision());
    assert_eq!((reply.status, record["reason"].as_str()), (status, Some(reason)), "{record}");
    assert_eq!(upstream.received(), "");
    record
}

#[test]
fn the_client_that_a_trusted_proxy_names_is_the_caller() {
    let upstream = Upstream::new();
    let gateway = gateway(&upstream, OFFICE, &["--trusted-proxies", "127.0.0.0/8,10.0.0.0/8"]);
    for headers in [
        "X-Forwarded-For: 203.0.113.7\r\n",
        "X-Forwarded-For: 198.51.100.1, 203.0.113.7:4711, 10.0.0.3\r\n",
        "Forwarded: for=198.51.100.1, for=\"203.0.113.7:80\";proto=https\r\n",
        "Forwarded: for=203.0.113.7\r\nX-Forwarded-For: 203.0.113.7\r\n",
    ] {
        upstream.forget();
        assert_eq!(get(&gateway, headers).status, 200, "{headers}");
        let seen = upstream.received().to_ascii_lowercase();
        assert!(seen.contains("x-forwarded-for: 203.0.113.7\r\n"), "{seen}");
        assert!(!seen.contains("198.51.100.1") && !seen.contains("\r\nforwarded:"), "{seen}");
        let scheme = if headers.contains("https") { "https" } else { "http" };
        assert!(seen.contains(&format!("x-forwarded-proto: {scheme}\r\n")), "{seen}");
    }
    upstream.forget();
    // Nothing of these becomes the office: the last hop that a proxy vouches for counts.
    for (headers, source) in [
        ("", "127.0.0.1"),
        ("X-Forwarded-For: 203.0.113.7, 198.51.100.1\r\n", "198.51.100.1"),
        ("X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-For: 198.51.100.1\r\n", "198.51.100.1"),
        ("X-Forwarded-For: 203.0.113.7, unknown\r\n", "127.0.0.1"),
        ("X-Forwarded-For: 203.0.113.7, _hidden, 10.0.0.2\r\n", "10.0.0.2"),
        ("X-Forwarded-For: 203.0.113.7, [2001:db8::1]:443\r\n", "2001:db8::1"),
    ] {
        let record = refused(&gateway, &upstream, &get(&gateway, headers), 403, "NoRuleMatched");
        assert_eq!(record["request"]["source"], source, "{headers}");
    }
    for headers in [
        "Forwarded: for=203.0.113.7\r\nX-Forwarded-For: 198.51.100.1\r\n",
        "Forwarded: for=\"198.51.100.1, for=203.0.113.7\r\n",
        "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: gopher\r\n",
    ] {
        refused(&gateway, &upstream, &get(&gateway, headers), 400, "MalformedRequest");
    }
    let hops = format!("X-Forwarded-For: 203.0.113.7{}\r\n", ", 10.0.0.3".repeat(1000));
    refused(&gateway, &upstream, &get(&gateway, &hops), 403, "NoRuleMatched");
}

#[test]
fn the_scheme_of_a_trusted_proxy_reaches_the_upstream() {
    let upstream = Upstream::new();
    let gateway = gateway(&upstream, "", &["--trusted-proxies", "127.0.0.1"]);
    let reply = get(&gateway, "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n");
    assert_eq!(reply.status, 200);
    assert!(upstream.received().to_ascii_lowercase().contains("x-forwarded-proto: https\r\n"));
}

#[test]
fn nobody_else_can_say_where_he_comes_from() {
    let upstream = Upstream::new();
    for arguments in [&[][..], &["--trusted-proxies", "192.0.2.0/24"]] {
        let gateway = gateway(&upstream, OFFICE, arguments);
        for header in ["X-Forwarded-For: 203.0.113.7", "Forwarded: for=203.0.113.7", "X-Forwarded-For: ::::"] {
            let reply = get(&gateway, &format!("{header}\r\nX-Forwarded-Proto: https\r\n"));
            let record = refused(&gateway, &upstream, &reply, 403, "NoRuleMatched");
            assert_eq!(record["request"]["source"], "127.0.0.1");
        }
    }
}

/// The number of connections that were closed because they did not begin as a trusted proxy's.
fn not_proxied(admin: SocketAddr) -> u64 {
    let metrics = raw(admin, b"GET /-/metrics HTTP/1.1\r\nHost: a\r\n\r\n").body;
    let line = metrics.lines().find(|line| line.contains("cause=\"not_proxied\"")).expect("it is counted");
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn the_proxy_protocol_is_required_or_off() {
    let upstream = Upstream::new();
    let request = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
    let v2 = [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[0x21u8, 0x11, 0, 12, 203, 0, 113, 7, 127, 0, 0, 1, 0, 80, 0, 81]]
        .concat();
    let v1 = b"PROXY TCP4 203.0.113.7 127.0.0.1 80 81\r\n".to_vec();
    let send = |gateway: &Gateway, header: &[u8]| raw(gateway.address, &[header, request].concat());

    let admin = free_address();
    let arguments = ["--trusted-proxies", "127.0.0.1", "--proxy-protocol", "--admin", &admin.to_string()];
    let on = gateway(&upstream, OFFICE, &arguments);
    for header in [&v1, &v2] {
        assert_eq!(send(&on, header).status, 200);
        assert!(upstream.received().to_ascii_lowercase().contains("x-forwarded-for: 203.0.113.7\r\n"));
        upstream.forget();
    }
    // A header that arrives byte by byte is the same header, and what follows it is the first request.
    let mut stream = TcpStream::connect(on.address).unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in [v1.as_slice(), request].concat() {
        stream.write_all(&[byte]).unwrap();
    }
    assert_eq!(raw_on(&mut stream).status, 200);
    upstream.forget();
    // The client of the header is no trusted proxy: its own headers count for nothing.
    let stranger = b"PROXY TCP4 198.51.100.1 127.0.0.1 80 81\r\nGET /x HTTP/1.1\r\nHost: a\r\n\
                     X-Forwarded-For: 203.0.113.7\r\n\r\n";
    let record = refused(&on, &upstream, &raw(on.address, stranger), 403, "NoRuleMatched");
    assert_eq!(record["request"]["source"], "198.51.100.1");
    // Neither do those of a client that the proxy does not name.
    let unknown = b"PROXY UNKNOWN\r\nGET /x HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n";
    refused(&on, &upstream, &raw(on.address, unknown), 403, "NoRuleMatched");
    let before = not_proxied(admin);
    for header in [b"".as_slice(), b"PROXY TCP4 203.0.113.7\r\n", b"PROXY TCP4 ", &v2[..12], &[b'x'; 200]] {
        assert_eq!(send(&on, header).status, 0, "{}", String::from_utf8_lossy(header));
    }
    assert_eq!(not_proxied(admin), before + 5);
    assert_eq!(upstream.received(), "");

    let far = gateway(&upstream, OFFICE, &["--trusted-proxies", "192.0.2.0/24", "--proxy-protocol"]);
    assert_eq!((send(&far, &v1).status, send(&far, &v2).status), (0, 0));

    let off = gateway(&upstream, OFFICE, &["--trusted-proxies", "127.0.0.1"]);
    for header in [&v1, &v2] {
        assert_eq!(send(&off, header).status, 400);
        eventually("its record", || {
            let records = off.records();
            let malformed = records.iter().filter(|record| record["reason"] == "MalformedRequest").count();
            if malformed > 0 { Ok(()) } else { Err(format!("{records:?}")) }
        });
    }
    assert_eq!(upstream.received(), "");
}

/// HAProxy with one listener for each way to tell the client.
struct HaProxy {
    process: Child,
    ports: [u16; 3],
    _dir: tempfile::TempDir,
}

impl HaProxy {
    fn start(with_header: SocketAddr, without: SocketAddr) -> Self {
        let (dir, ports) = (tempfile::tempdir().unwrap(), [free_port(), free_port(), free_port()]);
        let [first, second, forwarded] = ports;
        let text = format!(
            "defaults\n  mode http\n  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\n\
             listen first\n  bind 127.0.0.1:{first}\n  server s {with_header} send-proxy\n\
             listen second\n  bind 127.0.0.1:{second}\n  server s {with_header} send-proxy-v2\n\
             listen forwarded\n  bind 127.0.0.1:{forwarded}\n  option forwardfor\n  \
             http-request set-header X-Forwarded-Proto https\n  server s {without}\n"
        );
        let file = dir.path().join("haproxy.cfg");
        std::fs::write(&file, text).unwrap();
        let process = Command::new("haproxy")
            .arg("-db")
            .arg("-f")
            .arg(&file)
            .stderr(Stdio::null())
            .spawn()
            .expect("haproxy runs");
        for port in ports {
            eventually("haproxy listens", || {
                TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|error| error.to_string())
            });
        }
        Self { process, ports, _dir: dir }
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn behind_haproxy_the_caller_is_its_client() {
    let upstream = Upstream::new();
    let trusted = ["--trusted-proxies", "127.0.0.1"];
    let with_header = gateway(&upstream, "", &["--trusted-proxies", "127.0.0.1", "--proxy-protocol"]);
    let without = gateway(&upstream, "", &trusted);
    let proxy = HaProxy::start(with_header.address, without.address);
    for (port, scheme) in proxy.ports.into_iter().zip(["http", "http", "https"]) {
        upstream.forget();
        let status = Command::new("curl")
            .args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--interface", CLIENT])
            .args(["-H", "X-Forwarded-For: 203.0.113.7", &format!("http://127.0.0.1:{port}/x")])
            .output()
            .expect("curl runs");
        assert_eq!(String::from_utf8_lossy(&status.stdout), "200", "{port}");
        let seen = upstream.received().to_ascii_lowercase();
        assert!(seen.contains(&format!("x-forwarded-for: {CLIENT}\r\n")), "{seen}");
        assert!(seen.contains(&format!("x-forwarded-proto: {scheme}\r\n")), "{seen}");
    }
}
