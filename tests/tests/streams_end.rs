//! Streams end with the right of their caller, within a second, and nobody else's do.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use idm_tests::{Gateway, eventually, now, open_to_address, raw, secret};
use idm_types::{Algorithm, ApiKey, Timestamp, hex};
use sha2::{Digest, Sha256};

/// The promise, with some time for a machine that has other work.
const SOON: Duration = Duration::from_millis(1000);

/// An upstream that never ends what it begins: event streams, WebSockets, and requests that get no answer.
fn endless() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let head = read_head(&mut stream);
            let answer = if head.starts_with("GET /ws") {
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
            } else if head.starts_with("GET /events") {
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
                 9\r\ndata: 1\n\n\r\n"
            } else if head.starts_with("GET /never") {
                ""
            } else {
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
            };
            stream.write_all(answer.as_bytes()).expect("it is written");
            kept.push(stream);
        }
    });
    address
}

fn read_head(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

fn key(n: u8) -> String {
    ApiKey::from_random([n; 32]).reveal().to_owned()
}

fn credential(n: u8, more: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: c{n}}}\nstringData: {{key: {}}}\n---\n\
         apiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {{name: c{n}}}\n\
         spec: {{apiKey: {{}}, secretRef: {{name: c{n}}}{more}}}\n",
        key(n)
    )
}

const METHODS: &str = "    - {name: machines, apiKey: {}}\n";

/// A stream that was opened through the gateway.
fn open(gateway: SocketAddr, path: &str, key: &str) -> TcpStream {
    let mut stream = TcpStream::connect(gateway).expect("it listens");
    let more = if path == "/ws" {
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    } else {
        ""
    };
    let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Api-Key: {key}\r\n{more}\r\n");
    stream.write_all(head.as_bytes()).expect("it is written");
    if path != "/never" {
        let wanted = if path == "/ws" { "HTTP/1.1 101" } else { "HTTP/1.1 200" };
        let head = read_head(&mut stream);
        assert!(head.starts_with(wanted), "{head}");
    }
    stream.set_nonblocking(true).expect("it does not wait");
    stream
}

/// Whether the other side has ended a stream, or refused what was still waiting. What it sent before is read.
fn is_over(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(read) if buffer[..read].starts_with(b"HTTP/1.1 401") => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

/// Waits until all are over, and returns the time that it took.
fn all_over(streams: &mut [TcpStream]) -> Duration {
    let began = Instant::now();
    let mut open: Vec<&mut TcpStream> = streams.iter_mut().collect();
    eventually("the streams end", || {
        open.retain_mut(|stream| !is_over(stream));
        if open.is_empty() { Ok(()) } else { Err(format!("{} are open", open.len())) }
    });
    began.elapsed()
}

/// Waits until a change is in force, which a new request tells.
fn refused_now(gateway: &Gateway, key: &str) -> Instant {
    eventually("the change", || {
        let reply = raw(gateway.address, format!("GET / HTTP/1.1\r\nHost: a\r\nX-Api-Key: {key}\r\n\r\n").as_bytes());
        if reply.status == 401 { Ok(Instant::now()) } else { Err(format!("{reply:?}")) }
    })
}

#[test]
fn r65_a_revoked_credential_s_thousand_streams_are_cut_and_none_of_anybody_else_s() {
    let yaml = |of_first: &str| {
        format!("{}{}{}", open_to_address(endless(), METHODS), credential(1, of_first), credential(2, ""))
    };
    let policy = yaml("");
    let limits = ["--max-connections", "4000", "--max-connections-per-address", "4000", "--max-requests", "4000"];
    let limits = [&limits[..], &["--max-requests-per-address", "4000"]].concat();
    let gateway = Gateway::start_with(&[("all.yaml", &policy)], &limits);
    let mut theirs: Vec<TcpStream> = Vec::new();
    let mut others: Vec<TcpStream> = Vec::new();
    for n in 0..500 {
        let path = ["/events", "/ws", "/events", "/never"][n % 4];
        theirs.push(open(gateway.address, path, &key(1)));
        others.push(open(gateway.address, path, &key(2)));
    }
    let id = hex(&Sha256::digest(key(1)))[..12].to_owned();
    // Only what is changed may change: the same upstream, the same policy.
    gateway.write(
        "all.yaml",
        &policy.replace("secretRef: {name: c1}", &format!("secretRef: {{name: c1}}, revokedKeys: [{id}]")),
    );
    let changed = refused_now(&gateway, &key(1));
    all_over(&mut theirs);
    assert!(changed.elapsed() <= SOON, "{:?}", changed.elapsed());
    let cut = others.iter_mut().filter_map(|stream| is_over(stream).then_some(())).count();
    assert_eq!(cut, 0, "of others");
}

#[test]
fn r65_with_drain_streams_go_on_until_the_limit() {
    let policy = format!(
        "{}{}",
        open_to_address(endless(), METHODS)
            .replace("  authentication:\n", "  openStreams: {drain: {seconds: 2}}\n  authentication:\n"),
        credential(1, "")
    );
    let gateway = Gateway::start(&[("all.yaml", &policy)]);
    let mut streams = ["/events", "/ws"].map(|path| open(gateway.address, path, &key(1)));
    gateway.write("all.yaml", &policy.replace("secretRef: {name: c1}", "secretRef: {name: c1}, suspend: true"));
    let changed = refused_now(&gateway, &key(1));
    assert!(!streams.iter_mut().any(is_over), "they go on");
    all_over(&mut streams);
    let took = changed.elapsed();
    assert!((Duration::from_millis(1500)..=Duration::from_secs(2) + SOON).contains(&took), "{took:?}");
}

#[test]
fn r58_the_end_of_an_old_key_and_an_expiry_end_streams_without_any_change() {
    let in_3_s = Timestamp(Timestamp::now().0 + 3000).rfc3339();
    let hashes = format!("{}\\n{} until {in_3_s}", hex(&Sha256::digest(key(2))), hex(&Sha256::digest(key(1))));
    let both = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: both}}\nstringData: {{sha256: \"{hashes}\"}}\n---\n\
         apiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {{name: both}}\n\
         spec: {{apiKey: {{sha256: {{entropyBits: 256}}}}, secretRef: {{name: both}}}}\n"
    );
    let expiring = credential(3, &format!(", expireTime: '{in_3_s}'"));
    let policy = format!("{}{both}{expiring}", open_to_address(endless(), METHODS));
    let gateway = Gateway::start(&[("all.yaml", &policy)]);
    let mut ending = [open(gateway.address, "/events", &key(1)), open(gateway.address, "/ws", &key(3))];
    let mut staying = [open(gateway.address, "/events", &key(2))];
    all_over(&mut ending);
    let late = Timestamp::now().0.saturating_sub(Timestamp::parse_rfc3339(&in_3_s).expect("a time").0);
    assert!(late <= 1000, "{late} ms");
    assert!(!staying.iter_mut().any(is_over));
}

#[test]
fn r65_a_token_that_is_revoked_ends_its_streams() {
    const SECRET: &str = "idm_00000000000000000000000000000000000000000003RBGQh";
    let methods = "    - {name: tokens, jwt: {issuers: [{tokenServiceRef: {name: p}, audiences: [orders]}]}}\n";
    let keys = idm_compile::new_signing_keys(Algorithm::ES256, Timestamp::from_seconds(now() - 10)).expect("keys");
    let policy = format!(
        "{}  tokenService: {{issuer: 'https://shop.example/oauth', audiences: [orders]}}\n{}{}---\n\
         apiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {{name: reports}}\n\
         spec: {{oauthClient: {{clientSecret: {{}}}}, secretRef: {{name: s}}}}\n",
        open_to_address(endless(), methods),
        secret("idm-signing-keys", &[("p.json", keys)]),
        secret("s", &[("clientSecret", SECRET.to_owned())]),
    );
    let gateway = Gateway::start(&[("all.yaml", &policy)]);
    let post = |path: &str, body: &str| {
        let basic = STANDARD.encode(format!("reports:{SECRET}"));
        let head = format!(
            "POST /oauth/{path} HTTP/1.1\r\nHost: shop.example\r\nAuthorization: Basic {basic}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        raw(gateway.address, head.as_bytes())
    };
    let token = || {
        let reply = post("token", "grant_type=client_credentials");
        let answer: serde_json::Value = serde_json::from_str(&reply.body).expect("JSON");
        answer["access_token"].as_str().expect("a token").to_owned()
    };
    let open = |token: &str| {
        let mut stream = TcpStream::connect(gateway.address).expect("it listens");
        let head = format!("GET /events HTTP/1.1\r\nHost: shop.example\r\nAuthorization: Bearer {token}\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("it is written");
        assert!(read_head(&mut stream).starts_with("HTTP/1.1 200"));
        stream.set_nonblocking(true).expect("it does not wait");
        stream
    };
    let (first, second) = (token(), token());
    let (mut ending, mut staying) = ([open(&first)], [open(&second)]);
    assert_eq!(post("revoke", &format!("token={first}")).status, 200);
    assert!(all_over(&mut ending) <= SOON);
    assert!(!staying.iter_mut().any(is_over));
}

/// Two callers on one HTTP/2 connection, as behind a proxy: the stream of one is reset, and the other's goes on.
#[test]
fn r65_on_a_shared_http2_connection_only_the_revoked_caller_s_stream_is_reset() {
    let policy = format!("{}{}{}", open_to_address(endless(), METHODS), credential(1, ""), credential(2, ""));
    let gateway = Gateway::start(&[("all.yaml", &policy)]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(gateway.address).await.expect("it listens");
        let (mut sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        let mut bodies = Vec::new();
        for n in [1, 2] {
            let request = http::Request::builder().uri("http://a/events").header("x-api-key", key(n));
            let (answer, _) = sender.send_request(request.body(()).expect("a request"), true).expect("it is sent");
            let mut body = answer.await.expect("an answer").into_body();
            assert!(body.data().await.is_some(), "the first event");
            bodies.push(body);
        }
        gateway.write("all.yaml", &policy.replace("secretRef: {name: c1}", "secretRef: {name: c1}, suspend: true"));
        let ended = tokio::time::timeout(Duration::from_secs(10), bodies[0].data()).await.expect("it ends");
        assert!(matches!(ended, Some(Err(error)) if error.is_reset()), "it does not look whole");
        let other = tokio::time::timeout(Duration::from_millis(500), bodies[1].data()).await;
        assert!(other.is_err(), "nothing happens to the other's");
    });
}
