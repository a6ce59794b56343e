//! TLS or loopback, and nothing between.

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::pooling::Proxy;
use super::script::{ALL, ALL_BUT_TLS, Scripted, Step, contains, greeting, message, mysql, packet, postgres};
use super::servers::Certificates;
use super::*;

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
    let plan = postgres(idm_tests::free_port());
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

/// MySQL 8 after a restart: it has forgotten its part of the proof, and wants the password itself.
#[tokio::test]
async fn r54_the_password_itself_is_sent_in_tls_alone() {
    let certificates = Certificates::new();
    let config = certificates.server_config();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plan = with_tls(mysql(listener.local_addr().unwrap().port()), certificates.roots());
    let server = async {
        let mut stream = greeted(&listener, config).await;
        let login = read_packet(&mut stream, 2).await;
        assert!(contains(&login, "gateway\0\x20") && contains(&login, "people\0caching_sha2_password\0"));
        stream.write_all(&packet(3, &[1, 4])).await.unwrap();
        assert_eq!(read_packet(&mut stream, 4).await, format!("{PASSWORD}\0").as_bytes());
        stream.write_all(&packet(5, &[0, 0, 0, 2, 0, 0, 0])).await.unwrap();
        assert!(contains(&read_packet(&mut stream, 0).await, "character_set_results=utf8mb4"));
    };
    let database = open(&plan);
    let (answer, ()) = tokio::join!(verify(&database, "ana", RIGHT), server);
    assert_eq!(answer.unwrap_err().kind, DirectoryErrorKind::Unavailable, "the script ends here");
}

/// MySQL 8 that remembers its part of the proof: the password itself is not sent at all, and the proof is what another
/// client makes.
#[tokio::test]
async fn r54_a_server_that_remembers_the_proof_gets_no_password() {
    let certificates = Certificates::new();
    let config = certificates.server_config();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plan = with_tls(mysql(listener.local_addr().unwrap().port()), certificates.roots());
    let server = async {
        let mut stream = greeted(&listener, config).await;
        let login = read_packet(&mut stream, 2).await;
        assert!(contains(&login, "gateway\0\x20") && !contains(&login, PASSWORD));
        stream.write_all(&packet(3, &[1, 3])).await.unwrap();
        stream.write_all(&packet(4, &[0, 0, 0, 2, 0, 0, 0])).await.unwrap();
        // The next that comes is a statement, and no password.
        let statement = read_packet(&mut stream, 0).await;
        assert!(contains(&statement, "character_set_results=utf8mb4") && !contains(&statement, PASSWORD));
    };
    let database = open(&plan);
    let (answer, ()) = tokio::join!(verify(&database, "ana", RIGHT), server);
    assert_eq!(answer.unwrap_err().kind, DirectoryErrorKind::Unavailable, "the script ends here");
}

/// MySQL 8 with a client that asks for TLS, and begins it.
async fn greeted(listener: &TcpListener, config: Arc<ServerConfig>) -> TlsStream<TcpStream> {
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.write_all(&greeting(ALL, "caching_sha2_password")).await.unwrap();
    let mut request = [0; 36];
    stream.read_exact(&mut request).await.unwrap();
    assert_eq!(request[3], 1, "the packet's number");
    assert_ne!(u32::from_le_bytes(request[4..8].try_into().unwrap()) & 0x800, 0, "it asks for TLS");
    TlsAcceptor::from(config).accept(stream).await.unwrap()
}

/// Reads a packet that must have this number.
async fn read_packet(stream: &mut (impl tokio::io::AsyncRead + Unpin), number: u8) -> Vec<u8> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], number);
    let mut payload = vec![0; usize::from(head[0]) + usize::from(head[1]) * 256];
    stream.read_exact(&mut payload).await.unwrap();
    payload
}
