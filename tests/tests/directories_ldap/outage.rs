//! A directory that is away, and one that hangs while a route that does not need it is busy.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use idm_jose::SigningKey;
use idm_tests::slapd::PASSWORD;
use idm_tests::{Gateway, Reply, Upstream, eventually, raw, raw_on};
use idm_types::Algorithm;
use serde_json::Value;

use crate::bed::{Bed, Way};

#[test]
fn r09_without_its_server_logins_are_503_and_work_again_when_it_is_back() {
    let mut bed = Bed::new(Way::StartTls, "{recheckSeconds: 1}");
    assert_eq!(bed.basic("ana", PASSWORD).status, 200);
    let (mut browser, _) = bed.signed_in("ana", PASSWORD);
    assert_eq!(browser.fetch("/orders").status, 200);
    let tokens = bed.tokens("ana", PASSWORD);
    bed.slapd.kill();
    bed.upstream.forget();
    let record = bed.refused(&bed.basic("ana", PASSWORD), 503, "DirectoryUnavailable");
    assert!(record["detail"].as_str().is_some_and(|detail| detail.contains("127.0.0.1")), "{record}");
    bed.refused(&bed.basic("ana", "wrong"), 503, "DirectoryUnavailable");
    let refused = bed.refresh(&tokens);
    assert_eq!(refused.status, 503, "{}", refused.body);
    let held = eventually("the session is refused", || {
        let reply = browser.fetch("/orders");
        (reply.status != 200).then_some(reply).ok_or_else(|| "not yet".into())
    });
    assert_eq!(held.status, 503, "{}", held.body);
    // The circuit opens, and says so; from then on nobody waits, and everybody is told when to come back.
    eventually("the circuit opens", || {
        let reply = bed.basic("ana", PASSWORD);
        assert_eq!(reply.status, 503);
        let open = bed.metric("idm_directory_circuit_open");
        (open.as_deref() == Some("1")).then_some(()).ok_or_else(|| format!("{open:?}"))
    });
    bed.upstream.forget();
    let began = Instant::now();
    let busy = bed.basic("ana", PASSWORD);
    assert!(busy.header("retry-after").is_some() && began.elapsed() < Duration::from_secs(1), "{busy:?}");
    let record = bed.gateway.record(busy.decision());
    assert!(["DirectoryBusy", "DirectoryUnavailable"].contains(&record["reason"].as_str().unwrap()), "{record}");
    bed.slapd.restart();
    let start = Instant::now();
    while bed.basic("ana", PASSWORD).status != 200 {
        assert!(start.elapsed() < Duration::from_secs(40), "it does not come back");
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("the directory is used again {:?} after it is back", start.elapsed());
    assert_eq!(bed.metric("idm_directory_circuit_open").as_deref(), Some("0"));
    // Nothing was taken from anybody.
    assert!(bed.heard().contains("order-reader"));
    assert_eq!(browser.fetch("/orders").status, 200);
    assert_eq!(bed.refresh(&tokens).status, 200);
}

/// A port whose connections are never answered: its queue is full.
struct BlackHole {
    listener: TcpListener,
    _kept: Vec<TcpStream>,
}

impl BlackHole {
    fn new() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        let mut kept = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            kept.push(stream);
            assert!(kept.len() < 64, "the queue has no end");
        }
        Self { listener, _kept: kept }
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// The sockets of this machine that wait for it.
    fn waiting(&self) -> usize {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let (remote, syn_sent) = (format!("0100007F:{:04X}", self.port()), "02");
        let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        fields.filter(|fields| fields.get(2) == Some(&remote.as_str()) && fields.get(3) == Some(&syn_sent)).count()
    }
}

const CONCURRENCY: usize = 6;

/// A route for tokens, and one for people of a directory that never answers.
fn two_routes(upstream: &Upstream, key: &SigningKey, hole: &BlackHole) -> String {
    let service = |name: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, annotations: \
             {{identity-manager.io/hostnames: {name}}}}}\nspec: {{type: ExternalName, externalName: 127.0.0.1, ports: \
             [{{name: http, port: {}}}]}}\n",
            upstream.address.port()
        )
    };
    let policy = |name: &str, method: &str| {
        format!(
            "---\napiVersion: identity-manager.io/v1alpha1\nkind: IdentityPolicy\nmetadata: {{name: {name}}}\nspec:\n  \
             targetRefs: [{{group: '', kind: Service, name: {name}}}]\n  authentication: {{methods: [{{name: m, \
             {method}}}]}}\n"
        )
    };
    let jwt = format!(
        "jwt: {{issuers: [{{issuer: 'https://idp.example', audiences: [orders], keys: {{inline: '{}'}}}}]}}",
        key.jwks()
    );
    let federation = format!(
        "---\napiVersion: identity-manager.io/v1alpha1\nkind: Federation\nmetadata: {{name: corp}}\n\
            spec:\n  ldap:\n    \
         servers: ['ldap://127.0.0.1:{}']\n    startTls: false\n    bind: {{anonymous: {{}}}}\n    users: {{base: \
         'dc=corp,dc=test'}}\n  login: {{concurrency: {CONCURRENCY}, deadlineSeconds: 1}}\n",
        hole.port()
    );
    [
        service("tokens"),
        service("people"),
        policy("tokens", &jwt),
        policy("people", "basic: {realm: r, validators: [{federationRef: {name: corp}}]}"),
        federation,
    ]
    .concat()
}

/// Ten times as many logins as the directory has places, until `end`: the answers.
fn flood(gateway: SocketAddr, end: Instant) -> Vec<Reply> {
    let callers = (0..CONCURRENCY * 10).map(|caller| {
        std::thread::spawn(move || {
            let mut replies = Vec::new();
            let mut stream: Option<TcpStream> = None;
            for guess in 0.. {
                if Instant::now() >= end {
                    break;
                }
                let pair = STANDARD.encode(format!("user{caller}-{guess}:canary-guess"));
                let text = format!("GET / HTTP/1.1\r\nHost: people\r\nAuthorization: Basic {pair}\r\n\r\n");
                let mut open = stream.take().unwrap_or_else(|| from(gateway, caller));
                if std::io::Write::write_all(&mut open, text.as_bytes()).is_ok() {
                    let reply = raw_on(&mut open);
                    if reply.status != 0 {
                        replies.push(reply);
                        stream = Some(open);
                    }
                }
                // About a thousand logins in a second.
                std::thread::sleep(Duration::from_millis(50));
            }
            replies
        })
    });
    let callers: Vec<_> = callers.collect();
    callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
}

/// A connection from an address of this machine that is this caller's own.
fn from(gateway: SocketAddr, caller: usize) -> TcpStream {
    let own = Ipv4Addr::from(0x7f01_0000 + u32::try_from(caller).unwrap());
    crate::bed::connect_from(own, gateway)
}

#[test]
fn r11_a_directory_that_hangs_is_felt_by_its_own_logins_alone() {
    let (upstream, hole) = (Upstream::new(), BlackHole::new());
    let key = SigningKey::generate(Algorithm::ES256, "k").unwrap();
    let gateway = Gateway::start_in(
        &[("all.yaml", &two_routes(&upstream, &key, &hole))],
        &["--danger-insecure-issuers"],
        &[("IDM_LOG", "warn")],
    );
    let address = gateway.address;
    let token = key
        .sign(&serde_json::json!({"iss": "https://idp.example", "aud": "orders", "sub": "robot",
        "iat": idm_tests::now(), "exp": idm_tests::now() + 600}))
        .unwrap();
    let (over, most) = (AtomicBool::new(false), AtomicUsize::new(0));
    let end = Instant::now() + Duration::from_secs(6);
    let (replies, statuses) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                most.fetch_max(hole.waiting(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let tokens = scope.spawn(|| {
            let mut statuses = Vec::new();
            while Instant::now() < end {
                let text = format!("GET / HTTP/1.1\r\nHost: tokens\r\nAuthorization: Bearer {token}\r\n\r\n");
                statuses.push(raw(address, text.as_bytes()).status);
            }
            statuses
        });
        let replies = flood(address, end);
        let statuses = tokens.join().unwrap();
        over.store(true, Ordering::Relaxed);
        (replies, statuses)
    });
    let most = most.load(Ordering::Relaxed);
    println!("{} logins, {} requests with tokens, at most {most} sockets", replies.len(), statuses.len());
    assert!(statuses.len() > 100 && statuses.iter().all(|status| *status == 200), "a token was refused: {statuses:?}");
    assert!(replies.len() > CONCURRENCY * 20, "{} logins", replies.len());
    let reasons: std::collections::BTreeMap<String, usize> = gateway
        .records()
        .iter()
        .filter_map(|record| record["reason"].as_str())
        .fold(Default::default(), |mut all, one| {
            *all.entry(one.to_owned()).or_default() += 1;
            all
        });
    println!("{reasons:?}");
    assert!(replies.iter().all(|reply| reply.status == 503 && reply.header("retry-after").is_some()), "{reasons:?}");
    assert!(reasons["DirectoryBusy"] > CONCURRENCY, "overflow is not asked: {reasons:?}");
    assert!((1..=CONCURRENCY).contains(&most), "{most} sockets");
    let records: Vec<Value> = gateway.records();
    assert!(!records.iter().any(|record| record.to_string().contains("canary-guess")), "no password in a record");
}
