//! Attacks on path, host, headers and framing (T-01 to T-16, T-22, T-23 of the threat list). Each asserts
//! what the upstream received, byte for byte, and the record.

use std::io::{Read, Write};
use std::net::TcpStream;

use idm_jose::SigningKey;
use idm_tests::{ANONYMOUS, Gateway, InProcess, Serves, Upstream, open_to, policy_of, raw, raw_on, route_to};
use idm_types::Algorithm;

fn open<G: Serves>() -> (G, Upstream) {
    let upstream = Upstream::new();
    let gateway = G::start_with(&[("all.yaml", &open_to(&upstream, ANONYMOUS))], &[]);
    (gateway, upstream)
}

/// `/public` is open, everything else wants an API key.
fn guarded<G: Serves>() -> (G, Upstream) {
    let upstream = Upstream::new();
    let rules = "  - {name: public, matches: [{path: {type: PathPrefix, value: /public}}], UP}\n  \
                 - {name: rest, matches: [{path: {type: PathPrefix, value: /}}], UP}\n";
    let public = policy_of("public", Some("public"), "{name: everyone, anonymous: {}}", "");
    let rest = policy_of("rest", None, "{name: machines, apiKey: {}}", "");
    let yaml = format!("{}{public}{rest}", route_to(&upstream, rules));
    (G::start_with(&[("all.yaml", &yaml)], &[]), upstream)
}

/// A refusal: this status, this reason, one record, and nothing at the upstream.
fn assert_refused(gateway: &impl Serves, upstream: &Upstream, request: &str, status: u16, reason: &str) {
    upstream.forget();
    let reply = raw(gateway.address(), request.as_bytes());
    assert_eq!(reply.status, status, "{request:?}: {reply:?}");
    assert_eq!(gateway.record(reply.decision())["reason"], reason, "{request:?}");
    assert_eq!(upstream.received(), "", "{request:?} reached the upstream");
}

#[test]
fn t01_t04_t10_a_path_has_one_reading_and_it_decides() {
    let (gateway, upstream) = guarded::<InProcess>();
    for path in ["/admin?x=/public", "/admin", "/publicity", "/"] {
        assert_refused(
            &gateway,
            &upstream,
            &format!("GET {path} HTTP/1.1\r\nHost: a\r\nUser-Agent: kube-probe/1.30\r\n\r\n"),
            401,
            "NoCredentials",
        );
    }
    for path in [
        "/public/../admin",
        "/public/%2e%2e/admin",
        "/public/%252e%252e/admin",
        "/public/..%2fadmin",
        "/public//admin",
        "/public/./x",
        "/public;x/admin",
        "/public/%5c..%5cadmin",
        "/public%2f..%2fadmin",
        "/public/%00",
        "/public/%c0%ae%c0%ae/admin",
        "//public",
        "/public/%",
        "/public/%3b",
        "/public/..",
        "/public/.",
    ] {
        assert_refused(&gateway, &upstream, &format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"), 400, "AmbiguousPath");
    }
    // An allowed request arrives in the one spelling that was judged.
    upstream.forget();
    assert_eq!(raw(gateway.address, b"GET /%70ublic/a%20b?q=%2e%2e/ HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    assert!(upstream.received().starts_with("GET /public/a%20b?q=%2e%2e/ HTTP/1.1\r\n"), "{}", upstream.received());
}

#[test]
fn t02_a_fragment_never_widens_what_is_open() {
    let (gateway, upstream) = guarded::<Gateway>();
    upstream.forget();
    let reply = raw(gateway.address, b"GET /secret#/../public HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(matches!(reply.status, 400 | 401), "{reply:?}");
    assert_eq!(upstream.received(), "");
}

#[test]
fn t03_forwarding_headers_of_the_caller_decide_nothing_and_go_nowhere() {
    let (gateway, upstream) = guarded::<InProcess>();
    for name in [
        "X-Forwarded-Uri",
        "X-Forwarded-Path",
        "X-Forwarded-Prefix",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Forwarded-Host",
    ] {
        assert_refused(
            &gateway,
            &upstream,
            &format!("GET /admin HTTP/1.1\r\nHost: a\r\n{name}: /public\r\n\r\n"),
            401,
            "NoCredentials",
        );
    }
    upstream.forget();
    let request = "GET /public HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: \
        https\r\nX-Forwarded-Prefix: /evil\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: \
        6.6.6.6\r\nX-HTTP-Method-Override: DELETE\r\nX_Forwarded_For: 6.6.6.6\r\n\r\n";
    assert_eq!(raw(gateway.address, request.as_bytes()).status, 200);
    let received = upstream.received().to_ascii_lowercase();
    assert!(
        received.contains("x-forwarded-for: 127.0.0.1\r\n")
            && received.contains("x-forwarded-proto: http\r\n")
            && received.contains("x-forwarded-host: a\r\n"),
        "{received}"
    );
    assert!(
        !received.contains("6.6.6.6")
            && !received.contains("evil")
            && !received.contains("override")
            && !received.contains("https"),
        "{received}"
    );
}

#[test]
fn t06_t08_nobody_arrives_pre_named() {
    let (gateway, upstream) = open::<InProcess>();
    let spellings = [
        "X-Authenticated-UserId",
        "x-authenticated-userid",
        "X_Authenticated_UserId",
        "X-Authenticated_UserId",
        "X.Authenticated.UserId",
        "X-Authenticated-UserRoles",
        "X-AUTHENTICATED-ANYTHING",
    ];
    for name in spellings {
        upstream.forget();
        let request = format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{name}: root\r\n{name}: admin\r\n\
             Connection: {name}, Host, Authorization\r\n\r\n"
        );
        assert_eq!(raw(gateway.address, request.as_bytes()).status, 200, "{name}");
        let received = upstream.received().to_ascii_lowercase();
        assert!(
            !received.contains("root") && !received.contains("admin") && received.contains("host: a"),
            "{name}: {received}"
        );
    }
}

#[test]
fn t07_trailers_do_not_reach_the_upstream() {
    let (gateway, upstream) = open::<Gateway>();
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: \
        X-Authenticated-UserId\r\n\r\n2\r\nhi\r\n0\r\nX-Authenticated-UserId: root\r\n\r\n";
    assert_eq!(raw(gateway.address, request.as_bytes()).status, 200);
    let received = upstream.received().to_ascii_lowercase();
    assert!(received.contains("hi") && !received.contains("root") && !received.contains("trailer:"), "{received}");
}

#[test]
fn t11_a_host_has_one_reading() {
    let (gateway, upstream) = open::<InProcess>();
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: user@a\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a..b\r\n\r\n",
    ] {
        assert_refused(&gateway, &upstream, request, 400, "InvalidHost");
    }
}

#[test]
fn t14_nothing_a_caller_sends_can_forge_a_record() {
    let (gateway, _upstream) = open::<Gateway>();
    let reply =
        raw(gateway.address, b"GET /x\"},{\"kind\":\"Decision\"} HTTP/1.1\r\nHost: a\r\nUser-Agent: \x1b[31m\r\n\r\n");
    assert_eq!(reply.status, 400);
    // A head that is malformed has its record, too, which is written beside the answer.
    let before = idm_tests::eventually("the record of the refusal", || match gateway.records().len() {
        0 => Err("none yet".into()),
        count => Ok(count),
    });
    assert_eq!(raw(gateway.address, b"GET /%22%7D HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    let after = idm_tests::eventually("the record", || {
        Some(gateway.records()).filter(|r| r.len() == before + 1).ok_or_else(|| "not yet".into())
    });
    assert_eq!(after.last().unwrap()["request"]["path"], "/%22%7D");
}

#[test]
fn t15_an_upgrade_other_than_websocket_is_stripped_and_early_bytes_wait() {
    let (gateway, upstream) = open::<Gateway>();
    let request = "GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: \
        h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    assert_eq!(raw(gateway.address, request.as_bytes()).status, 200);
    let received = upstream.received().to_ascii_lowercase();
    assert!(!received.contains("upgrade") && !received.contains("http2-settings"), "{received}");

    // The upstream does not agree to the upgrade: what followed must not have reached it as a request.
    upstream.forget();
    let request = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: \
        websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\nGET /smuggled \
        HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(raw(gateway.address, request.as_bytes()).status, 200);
    let received = upstream.received();
    assert!(received.contains("GET /ws") && received.to_ascii_lowercase().contains("upgrade: websocket"), "{received}");
    // If it is forwarded at all, then as a request of its own that was decided on: it has its record.
    if received.contains("/smuggled") {
        idm_tests::eventually("its record", || {
            gateway
                .records()
                .iter()
                .any(|r| r["request"]["path"] == "/smuggled")
                .then_some(())
                .ok_or_else(|| "not yet".into())
        });
    }
}

#[test]
fn a_websocket_is_a_tunnel_once_both_sides_agree() {
    let upstream = Upstream::answering(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello from upstream",
    );
    let gateway = Gateway::start(&[("all.yaml", &open_to(&upstream, ANONYMOUS))]);
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.write_all(b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").unwrap();
    let reply = raw_on(&mut stream);
    assert_eq!((reply.status, reply.header("upgrade")), (101, Some("websocket")));
    let mut greeting = [0; 19];
    stream.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"hello from upstream");
    stream.write_all(b"bytes of any kind").unwrap();
    idm_tests::eventually("the bytes arrive", || {
        upstream.received().ends_with("bytes of any kind").then_some(()).ok_or_else(|| upstream.received())
    });
}

#[test]
fn t16_a_refused_body_is_never_read_as_a_request() {
    let (gateway, upstream) = guarded::<Gateway>();
    upstream.forget();
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    let inner = "GET /public HTTP/1.1\r\nHost: a\r\n\r\n";
    stream
        .write_all(
            format!("POST /admin HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{inner}", inner.len()).as_bytes(),
        )
        .unwrap();
    assert_eq!(raw_on(&mut stream).status, 401);
    assert_eq!(raw_on(&mut stream).status, 0, "nothing more is answered on this connection");
    assert_eq!(upstream.received(), "");
}

#[test]
fn framing_that_two_readers_would_read_differently_is_not_forwarded_twice() {
    let (gateway, upstream) = open::<Gateway>();
    for request in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        upstream.forget();
        let reply = raw(gateway.address, request.as_bytes());
        assert!(matches!(reply.status, 0 | 400), "{request:?}: {reply:?}");
        assert_eq!(upstream.received(), "", "{request:?}");
    }
    // With both, Transfer-Encoding alone counts (RFC 9112 §6.3), and only it goes on.
    upstream.forget();
    let both =
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    let reply = raw(gateway.address, both.as_bytes());
    if reply.status == 200 {
        let received = upstream.received().to_ascii_lowercase();
        assert!(received.contains("transfer-encoding: chunked") && !received.contains("content-length"), "{received}");
    } else {
        assert_eq!((reply.status, upstream.received().as_str()), (400, ""));
    }
}

#[test]
fn large_uploads_and_answers_stream() {
    let upstream = Upstream::new();
    let gateway = Gateway::start(&[("all.yaml", &open_to(&upstream, ANONYMOUS))]);
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    let size = 8 << 20;
    stream.write_all(format!("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n").as_bytes()).unwrap();
    // The head and the first part arrive at the upstream while the rest has not been sent.
    stream.write_all(&vec![b'x'; 1 << 20]).unwrap();
    idm_tests::eventually("the first part streams through", || {
        (upstream.received().len() > 1 << 20)
            .then_some(())
            .ok_or_else(|| format!("{} bytes", upstream.received().len()))
    });
    stream.write_all(&vec![b'x'; size - (1 << 20)]).unwrap();
    assert_eq!(raw_on(&mut stream).status, 200);
}

#[test]
fn t22_nothing_in_authorization_is_a_server_error() {
    let jwks = SigningKey::generate(Algorithm::ES256, "k").unwrap().jwks();
    let methods = format!(
        "    - {{name: tokens, jwt: {{issuers: [{{issuer: 'https://idp.example', audiences: [a], \
         keys: {{inline: '{jwks}'}}}}]}}}}\n    \
         - {{name: people, basic: {{realm: shop}}}}\n    - {{name: readers, digest: {{realm: shop}}}}\n"
    );
    let upstream = Upstream::new();
    let gateway = Gateway::start(&[("all.yaml", &open_to(&upstream, &methods))]);
    for value in [
        "",
        "Bearer",
        "Bearer ",
        "Basic",
        "Bearer a b",
        "\u{7f}",
        ",",
        "Bearer\t",
        "Bearer ....",
        "Digest username=\"",
        "Digest username=\"a\", realm=\"shop\", nonce=\"\", uri=\"/admin\", response=\"\", cnonce=\"\", qop=auth, \
            nc=zzzzzzzz",
        "Basic !!!",
        "Basic Og==",
        "basic YTo",
        &"x".repeat(9000),
        &format!("Bearer {}", "x".repeat(9000)),
    ] {
        let mut request = b"GET /admin HTTP/1.1\r\nHost: a\r\nAuthorization: ".to_vec();
        request.extend(value.as_bytes());
        request.extend(b"\r\n\r\n");
        upstream.forget();
        let reply = raw(gateway.address, &request);
        assert!((400..500).contains(&reply.status), "{value:?}: {reply:?}");
        assert_eq!(upstream.received(), "");
    }
}

/// The trace of a request is on record and goes on; one that is not valid, or said twice, is none and decides nothing.
#[test]
fn the_trace_that_a_request_is_part_of_is_on_its_record() {
    let (gateway, upstream) = guarded::<InProcess>();
    let id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let line = format!("traceparent: 00-{id}-00f067aa0ba902b7-01\r\n");
    let ask = |path: &str, lines: &str| {
        let before = gateway.records().len();
        let reply = raw(gateway.address(), format!("GET {path} HTTP/1.1\r\nHost: a\r\n{lines}\r\n").as_bytes());
        (reply.status, gateway.records().swap_remove(before)["trace"]["id"].as_str().map(str::to_owned))
    };
    assert_eq!(ask("/public", &line), (200, Some(id.to_owned())));
    assert!(upstream.received().to_ascii_lowercase().contains(&line), "{}", upstream.received());
    assert_eq!(ask("/private", &line), (401, Some(id.to_owned())), "refusals have it, too");
    for other in ["", "traceparent: 00-x\r\n", &format!("{line}{line}")] {
        assert_eq!(ask("/public", other), (200, None), "{other}");
    }
}
