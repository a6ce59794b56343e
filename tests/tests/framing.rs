//! An upstream never receives bytes between two requests of a connection, whatever callers and upstreams send.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use idm_tests::play::{StrictUpstream, client, differences};
use idm_tests::{ANONYMOUS, Gateway, Upstream, eventually, open_to, open_to_address, raw, raw_on};

const UPGRADE: &str = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn gateway(upstream: &Upstream) -> Gateway {
    Gateway::start(&[("all.yaml", &open_to(upstream, ANONYMOUS))])
}

/// Numbers that are random enough and the same for the same seed.
fn script(seed: u64, length: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Every byte that a strict upstream receives belongs to a request that the gateway decided on, and every answer goes
/// to the request that it answers, over framings, answers, reuse and timings.
#[test]
fn a01_every_byte_at_the_upstream_belongs_to_a_decision() {
    let upstream = StrictUpstream::start();
    let gateway = Gateway::start(&[("all.yaml", &open_to_address(upstream.address, ANONYMOUS))]);
    let seed = std::env::var("IDM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand_seed);
    let address = gateway.address;
    let players: Vec<_> = (0..6)
        .map(|player| std::thread::spawn(move || client(address, &script(seed.wrapping_add(player), 2 * 120))))
        .collect();
    let (mut sent, mut problems) = (BTreeMap::new(), Vec::new());
    for player in players {
        let (more, wrong) = player.join().expect("a client ends");
        sent.extend(more);
        problems.extend(wrong);
    }
    let account = upstream.account();
    problems.extend(differences(&sent, &account));
    assert!(problems.is_empty(), "IDM_SEED={seed}: {problems:#?}");
    assert!(account.requests.len() > 100, "few requests arrived, so little was shown: {}", account.requests.len());
    // Each request that arrived has its one record.
    eventually("the records", || {
        let mut records: BTreeMap<String, usize> = BTreeMap::new();
        for record in gateway.records() {
            *records.entry(record["request"]["path"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
        let wrong: Vec<_> = account.requests.keys().filter(|path| records.get(*path) != Some(&1)).collect();
        if wrong.is_empty() { Ok(()) } else { Err(format!("IDM_SEED={seed}: not exactly one record of {wrong:?}")) }
    });
}

fn rand_seed() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |now| now.subsec_nanos().into())
}

/// The bypass that was found: an upstream that does not upgrade reads the announced body from the next caller's bytes.
#[test]
fn a01_a_websocket_handshake_with_a_body_is_refused() {
    let upstream = Upstream::new();
    let gateway = gateway(&upstream);
    let smuggled = "GET /admin HTTP/1.1\r\nHost: a\r\nX-Authenticated-UserId: admin\r\n\r\n";
    for framing in [format!("Content-Length: {}", smuggled.len()), "Transfer-Encoding: chunked".to_owned()] {
        let reply = raw(gateway.address, format!("GET / HTTP/1.1\r\nHost: a\r\n{UPGRADE}{framing}\r\n\r\n").as_bytes());
        assert_eq!((reply.status, reply.header("connection")), (400, Some("close")), "{framing}");
        assert_eq!(gateway.record(reply.decision())["reason"], "MalformedRequest");
        assert_eq!(upstream.received(), "");
    }
}

/// Each name that `Connection` lists is looked up: a head full of them would cost as much as many requests.
#[test]
fn a_connection_header_lists_no_more_names_than_a_request_has_headers() {
    let upstream = Upstream::new();
    let gateway = gateway(&upstream);
    for (names, lines) in [(97, 1), (60, 3), (15_000, 1)] {
        let line = format!("Connection: x{}\r\n", ",x".repeat(names - 1));
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n{}\r\n", line.repeat(lines));
        let reply = raw(gateway.address, request.as_bytes());
        assert_eq!(reply.status, 400, "{names}");
        assert_eq!(gateway.record(reply.decision())["reason"], "MalformedRequest");
    }
    assert_eq!((upstream.received(), gateway.records().len()), (String::new(), 3));
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nConnection: x{}\r\n\r\n", ",x".repeat(95));
    assert_eq!(raw(gateway.address, request.as_bytes()).status, 200);
}

/// A handshake that the upstream declines leaves its connection to nobody.
#[test]
fn a01_a_declined_upgrade_ends_its_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let gateway = Gateway::start(&[("all.yaml", &open_to_address(address, ANONYMOUS))]);
    let server = std::thread::spawn(move || {
        let (mut first, _) = listener.accept().unwrap();
        let mut head = [0; 4096];
        let n = first.read(&mut head).unwrap();
        assert!(!String::from_utf8_lossy(&head[..n]).to_ascii_lowercase().contains("content-length"));
        first.write_all(b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n").unwrap();
        first.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert_eq!(first.read(&mut head).unwrap_or(0), 0, "something else came on the upgrade's connection");
    });
    let mut caller = TcpStream::connect(gateway.address).unwrap();
    caller.write_all(format!("GET / HTTP/1.1\r\nHost: a\r\n{UPGRADE}\r\n").as_bytes()).unwrap();
    assert_eq!(raw_on(&mut caller).status, 426);
    server.join().unwrap();
}

#[test]
fn a_protocol_that_nobody_asked_for_is_a_failure_of_the_upstream() {
    let upstream =
        Upstream::answering("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n");
    let gateway = gateway(&upstream);
    let reply = raw(gateway.address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(reply.status, 502);
    assert_eq!(gateway.record(reply.decision())["reason"], "UpstreamFailed");
    let other = Upstream::answering("HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n");
    let gateway = Gateway::start(&[("all.yaml", &open_to(&other, ANONYMOUS))]);
    let reply = raw(gateway.address, format!("GET / HTTP/1.1\r\nHost: a\r\n{UPGRADE}\r\n").as_bytes());
    assert_eq!(reply.status, 502);
}

#[test]
fn a_transfer_coding_that_would_be_forgotten_is_refused() {
    let upstream = Upstream::new();
    let gateway = gateway(&upstream);
    for codings in ["Transfer-Encoding: gzip, chunked", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked"] {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{codings}\r\n\r\n0\r\n\r\n");
        let reply = raw(gateway.address, request.as_bytes());
        assert_eq!((reply.status, reply.header("connection")), (400, Some("close")), "{codings}");
        assert_eq!(gateway.record(reply.decision())["reason"], "MalformedRequest");
    }
    assert_eq!(upstream.received(), "");
}

#[test]
fn a18_trace_and_connect_are_refused_everywhere() {
    let upstream = Upstream::new();
    let gateway = gateway(&upstream);
    for line in ["TRACE / HTTP/1.1\r\nHost: a", "CONNECT a:80 HTTP/1.1\r\nHost: a:80"] {
        let reply = raw(gateway.address, format!("{line}\r\n\r\n").as_bytes());
        assert_eq!(reply.status, 405, "{line}");
        assert_eq!(gateway.record(reply.decision())["reason"], "MethodNotAllowed");
    }
    assert_eq!(upstream.received(), "");
}

#[test]
fn a_get_of_unknown_length_keeps_its_body() {
    let upstream = Upstream::new();
    let gateway = gateway(&upstream);
    let reply =
        raw(gateway.address, b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    assert_eq!(reply.status, 200);
    let received = upstream.received();
    assert!(
        received.contains("transfer-encoding: chunked") && received.contains("5\r\nhello\r\n0\r\n\r\n"),
        "{received}"
    );
}

#[test]
fn the_host_that_was_judged_is_the_one_that_is_forwarded() {
    let upstream = Upstream::new();
    let gateway = gateway(&upstream);
    assert_eq!(raw(gateway.address, b"GET / HTTP/1.1\r\nHost: A.Example.:080\r\n\r\n").status, 200);
    let received = upstream.received();
    assert!(received.contains("host: a.example:80\r\n"), "{received}");
    assert!(received.contains("x-forwarded-host: a.example:80\r\n"), "{received}");
}

#[test]
fn a20_a_path_of_many_segments_costs_next_to_nothing() {
    let upstream = Upstream::new();
    let gateway = gateway(&upstream);
    let before = gateway.cpu_ticks();
    let path = "/a".repeat(31_000);
    for _ in 0..50 {
        let reply = raw(gateway.address, format!("GET {path} HTTP/1.1\r\nHost: b\r\n\r\n").as_bytes());
        assert_eq!(reply.status, 200);
    }
    // A hundred ticks are a second; before, each request took 20 of them in a release build.
    let spent = gateway.cpu_ticks() - before;
    assert!(spent < 200, "50 requests took {spent} hundredths of a second of a core");
}
