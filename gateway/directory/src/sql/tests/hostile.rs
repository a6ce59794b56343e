//! Servers and proxies that do what they should not.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::pooling::Proxy;
use super::servers::Certificates;
use super::*;

/// One step of a scripted server.
#[derive(Clone)]
enum Step {
    /// Reads until so many more octets have come.
    Read(usize),
    Send(Vec<u8>),
    /// Sends octets one by one, 20 ms apart.
    Drip(Vec<u8>),
    /// Sends the same again and again.
    Flood(Vec<u8>),
    /// Closes with a reset.
    Reset,
}

/// A server that does the same with every connection; then it reads until the other side closes.
struct Scripted {
    port: u16,
    seen: Arc<std::sync::Mutex<Vec<u8>>>,
}

impl Scripted {
    async fn start(steps: Vec<Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, seen) = (listener.local_addr().unwrap().port(), Arc::<std::sync::Mutex<Vec<u8>>>::default());
        let all = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Self::serve(stream, steps.clone(), all.clone()));
            }
        });
        Self { port, seen }
    }

    async fn serve(
        mut stream: tokio::net::TcpStream,
        steps: Vec<Step>,
        seen: Arc<std::sync::Mutex<Vec<u8>>>,
    ) -> std::io::Result<()> {
        for step in steps {
            match step {
                Step::Read(count) => {
                    let mut octets = vec![0; count];
                    stream.read_exact(&mut octets).await?;
                    seen.lock().unwrap().extend(octets);
                }
                Step::Send(octets) => stream.write_all(&octets).await?,
                Step::Drip(octets) => {
                    for octet in octets {
                        stream.write_all(&[octet]).await?;
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
                Step::Flood(octets) => loop {
                    stream.write_all(&octets).await?;
                },
                Step::Reset => {
                    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
                    return Ok(());
                }
            }
        }
        let mut octets = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut octets).await {
            seen.lock().unwrap().extend(&octets[..count]);
        }
        Ok(())
    }

    fn seen(&self) -> Vec<u8> {
        self.seen.lock().unwrap().clone()
    }
}

fn contains(octets: &[u8], text: &str) -> bool {
    octets.windows(text.len()).any(|part| part == text.as_bytes())
}

/// A message of PostgreSQL.
fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[tag], &length[..], body].concat()
}

/// A packet of MySQL.
fn packet(number: u8, body: &[u8]) -> Vec<u8> {
    let [a, b, c, _] = u32::try_from(body.len()).unwrap().to_le_bytes();
    [&[a, b, c, number], body].concat()
}

/// The greeting of a server with these capabilities, and a nonce of 20 times `n`.
fn greeting(capabilities: u32, plugin: &str) -> Vec<u8> {
    let [a, b, c, d] = capabilities.to_le_bytes();
    let mut body = b"\x0a8.0.36\0\x01\0\0\0nnnnnnnn\0".to_vec();
    body.extend([a, b, 45, 2, 0, c, d, 21]);
    body.extend([0; 10]);
    body.extend(b"nnnnnnnnnnnn\0");
    body.extend([plugin.as_bytes(), &[0]].concat());
    packet(0, &body)
}

const ALL_BUT_TLS: u32 = 0x00ff_ffff & !0x800;
const ALL: u32 = 0x00ff_ffff;

fn postgres(port: u16) -> DatabaseDirectory {
    plan(DatabaseProduct::PostgreSql, port, "people", "SELECT 1")
}

fn mysql(port: u16) -> DatabaseDirectory {
    plan(DatabaseProduct::MySql, port, "people", "SELECT 1")
}

/// The request for TLS of PostgreSQL: eight octets that say nothing of anybody.
const SSL_REQUEST: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];

#[tokio::test]
async fn r54_a_server_without_tls_gets_no_password() {
    let roots = Certificates::new().roots();
    for answer in [&b"N"[..], b"E", b"G", b"NNNN"] {
        let server = Scripted::start(vec![Step::Read(8), Step::Send(answer.into())]).await;
        let (kind, detail) = failed(&open(&with_tls(postgres(server.port), roots.clone())), "ana").await;
        assert!(kind == DirectoryErrorKind::Untrusted && detail.contains("does not begin TLS"), "{detail}");
        assert_eq!(server.seen(), SSL_REQUEST);
    }
    let server = Scripted::start(vec![Step::Send(greeting(ALL_BUT_TLS, "mysql_native_password"))]).await;
    let (kind, detail) = failed(&open(&with_tls(mysql(server.port), roots)), "ana").await;
    assert!(kind == DirectoryErrorKind::Untrusted && detail.contains("does not offer TLS"), "{detail}");
    assert_eq!(server.seen(), b"");
}

#[tokio::test]
async fn r54_what_is_sent_instead_of_tls_is_no_answer() {
    let roots = Certificates::new().roots();
    let ok = [message(b'R', &[0; 4]), message(b'Z', b"I")].concat();
    let server = Scripted::start(vec![Step::Read(8), Step::Send([b"S", &ok[..]].concat())]).await;
    let (kind, _) = failed(&open(&with_tls(postgres(server.port), roots.clone())), "ana").await;
    assert_eq!(kind, DirectoryErrorKind::Untrusted);
    assert!(!contains(&server.seen(), "gateway") && !contains(&server.seen(), PASSWORD));

    // The answer to a login comes with the greeting.
    let first = [greeting(ALL, "mysql_native_password"), packet(2, &[0; 7])].concat();
    let server = Scripted::start(vec![Step::Send(first)]).await;
    let (kind, _) = failed(&open(&with_tls(mysql(server.port), roots)), "ana").await;
    assert_eq!(kind, DirectoryErrorKind::Untrusted);
    assert!(!contains(&server.seen(), "gateway") && !contains(&server.seen(), PASSWORD));
}

#[tokio::test]
async fn r54_a_certificate_of_others_or_for_another_name_is_not_trusted() {
    let (postgres, mariadb) = (PostgresServer::shared(), MariaDbServer::shared());
    for (product, port, roots) in [
        (DatabaseProduct::PostgreSql, postgres.port, postgres.certificates.roots()),
        (DatabaseProduct::MySql, mariadb.port, mariadb.certificates.roots()),
    ] {
        let plan = plan(product, port, "postgres", "SELECT 1");
        let others = open(&with_tls(plan.clone(), Certificates::new().roots()));
        let (kind, detail) = failed(&others, "ana").await;
        assert!(kind == DirectoryErrorKind::Untrusted && detail.contains("UnknownIssuer"), "{detail}");
        let proxy = Proxy::start("127.0.0.2", port).await;
        let plan = with_tls(plan, roots);
        let server = DirectoryServer { host: "127.0.0.2".into(), port: proxy.port, ..plan.server.clone() };
        let (kind, detail) = failed(&open(&DatabaseDirectory { server, ..plan }), "ana").await;
        assert!(kind == DirectoryErrorKind::Untrusted && detail.contains("not valid for name"), "{detail}");
    }
}

#[tokio::test]
async fn r54_without_tls_only_this_machine_is_spoken_to() {
    let plan = postgres(servers::free_port());
    let server = DirectoryServer { host: "192.0.2.1".into(), ..plan.server.clone() };
    let database = open(&DatabaseDirectory { server, ..plan });
    let deadline = Instant::now() + Duration::from_millis(300);
    let error = database.verify(login("ana", RIGHT, Steps::default()), deadline).await.unwrap_err();
    assert!(matches!(error.kind, DirectoryErrorKind::Unavailable | DirectoryErrorKind::Untrusted), "{error:?}");
}

/// Without TLS a server of MySQL asks for the password under an RSA key that it sends itself.
#[tokio::test]
async fn r54_no_key_of_the_servers_choosing_gets_the_password() {
    let switch = |plugin: &str| {
        let body = [b"\xfe", plugin.as_bytes(), b"\0nnnnnnnnnnnnnnnnnnnn\0"].concat();
        packet(2, &body)
    };
    for (answer, part) in [
        (packet(2, &[1, 4]), "in TLS alone"),
        (switch("mysql_clear_password"), "in TLS alone"),
        (switch("sha256_password"), "plugin `sha256_password`"),
        (switch("mysql_old_password"), "plugin `mysql_old_password`"),
    ] {
        let steps = vec![Step::Send(greeting(ALL, "caching_sha2_password")), Step::Read(36), Step::Send(answer)];
        let server = Scripted::start(steps).await;
        let (kind, detail) = failed(&open(&mysql(server.port)), "ana").await;
        assert!(kind == DirectoryErrorKind::RefusesUs && detail.contains(part), "{detail}");
        let seen = server.seen();
        // One packet, which says how long it is: no request for a key follows it.
        let length = usize::from(seen[0]) + usize::from(seen[1]) * 256;
        assert_eq!(seen.len(), length + 4);
        assert!(contains(&seen, "gateway") && !contains(&seen, PASSWORD));
    }
}

#[tokio::test]
async fn a_server_that_does_not_prove_that_it_knows_the_password_is_not_used() {
    let sasl = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
    let ok = [message(b'R', &[0; 4]), message(b'Z', b"I")].concat();
    for (steps, part) in [
        (vec![sasl.clone(), ok.clone()], "does not prove"),
        (vec![sasl.clone(), message(b'R', b"\0\0\0\x0cv=AAAA"), ok.clone()], "does not prove"),
        (vec![sasl.clone(), message(b'Z', b"I")], "broke the protocol"),
        (vec![sasl, message(b'R', b"\0\0\0\x0br=other,s=AAAA,i=1")], "SCRAM"),
        (vec![message(b'R', b"\0\0\0\x0aSCRAM-SHA-999\0\0")], "SCRAM-SHA-256"),
        (vec![message(b'R', b"\0\0\0\x07")], "Kerberos"),
    ] {
        let server = Scripted::start(vec![Step::Read(8), Step::Send(steps.concat())]).await;
        let (_, detail) = failed(&open(&postgres(server.port)), "ana").await;
        assert!(detail.contains(part), "{detail}");
        assert!(!contains(&server.seen(), PASSWORD));
    }
}

/// A login that succeeds, and then this answer to the first question.
fn logged_in(product: DatabaseProduct, answer: Step) -> Vec<Step> {
    match product {
        DatabaseProduct::PostgreSql => {
            let ok = [message(b'R', &[0; 4]), message(b'Z', b"I")].concat();
            vec![Step::Read(8), Step::Send(ok), Step::Read(8), answer]
        }
        DatabaseProduct::MySql => {
            let ok = packet(2, &[0, 0, 0, 2, 0, 0, 0]);
            let set = packet(1, &[0, 0, 0, 2, 0, 0, 0]);
            let greet = Step::Send(greeting(ALL, "mysql_native_password"));
            vec![greet, Step::Read(36), Step::Send(ok), Step::Send(set), answer]
        }
    }
}

#[tokio::test]
async fn servers_that_stall_drip_flood_or_end_are_errors_within_the_deadline() {
    let row = message(b'D', &[0, 1, 0, 0, 0x40, 0]);
    let mut all = Vec::new();
    for product in [DatabaseProduct::PostgreSql, DatabaseProduct::MySql] {
        let pack = |body: &[u8]| match product {
            DatabaseProduct::PostgreSql => message(b'N', body),
            DatabaseProduct::MySql => packet(1, body),
        };
        for (steps, late) in [
            (vec![], true),
            (vec![Step::Reset], false),
            (logged_in(product, Step::Read(1 << 20)), true),
            (logged_in(product, Step::Reset), false),
            (logged_in(product, Step::Drip(pack(&[0; 200]))), true),
            (logged_in(product, Step::Flood(pack(&vec![b'x'; 60_000]))), false),
            (logged_in(product, Step::Send(vec![b'D', 0xff, 0xff, 0xff, 0xff])), false),
            (logged_in(product, Step::Send(vec![0xff, 0xff, 0xff, 1])), false),
            (logged_in(product, Step::Send(row.clone())), false),
        ] {
            all.push(ends(product, steps, late));
        }
    }
    futures::future::join_all(all).await;
}

/// A server that does this is an error, at the deadline if it is late and otherwise before.
async fn ends(product: DatabaseProduct, steps: Vec<Step>, late: bool) {
    let server = Scripted::start(steps).await;
    let database = open(&plan(product, server.port, "people", "SELECT 1"));
    let (began, limit) = (Instant::now(), Duration::from_millis(1500));
    let answer = database.verify(login("ana", RIGHT, Steps::default()), began + limit).await;
    let error = answer.unwrap_err();
    let kinds = [DirectoryErrorKind::Unavailable, DirectoryErrorKind::Unusable];
    assert!(kinds.contains(&error.kind), "{error:?}");
    let took = began.elapsed();
    assert!(took < limit + Duration::from_secs(1) && (!late || took >= limit), "{took:?} {error:?}");
}

/// Answers of random octets, whole and after a login: an error each time, and no panic.
#[tokio::test]
async fn random_answers_are_errors() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut all = Vec::new();
    for round in 0..120 {
        let product = if round % 2 == 0 { DatabaseProduct::PostgreSql } else { DatabaseProduct::MySql };
        let octets: Vec<u8> = (0..random() % 300).map(|_| (random() & 0xff) as u8).collect();
        // Well-formed outside, random inside.
        let tag = b"RSKZTDCE123nN"[(random() % 13) as usize];
        let framed = match product {
            DatabaseProduct::PostgreSql => message(tag, &octets),
            DatabaseProduct::MySql => packet((round % 3) as u8, &octets),
        };
        let steps = match round % 4 {
            0 | 1 => vec![Step::Send(framed)],
            _ => logged_in(product, Step::Send(framed)),
        };
        all.push(async move {
            let server = Scripted::start(steps).await;
            let database = open(&plan(product, server.port, "people", "SELECT 1"));
            let deadline = Instant::now() + Duration::from_millis(800);
            let answer = database.verify(login("ana", RIGHT, Steps::default()), deadline).await;
            assert!(answer.is_err(), "{answer:?}");
        });
    }
    futures::future::join_all(all).await;
}
