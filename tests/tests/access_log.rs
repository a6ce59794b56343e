//! The access log on standard output.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use idm_tests::{ANONYMOUS, Gateway, Upstream, eventually, open_to, raw, raw_on};
use serde_json::Value;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Serves a password's owner `ana` with this access log.
fn start(upstream: &Upstream, format: &str) -> Gateway {
    let credential = "---\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {name: ana}\nspec: \
        {password: \
                      {}, secretRef: {name: ana}}\n";
    let secret = idm_tests::secret("ana", &[("password", "canary-password".into())]);
    let methods = "    - {name: people, basic: {realm: people}}\n";
    let files = [&open_to(upstream, methods), credential, &secret].concat();
    Gateway::start_with(&[("all.yaml", &files)], &["--access-log", format])
}

/// Sends a request with these headers and waits for its line.
fn line_of(gateway: &Gateway, request: &str, headers: &str) -> (idm_tests::Reply, String) {
    let before = gateway.output().lines().count();
    let reply = raw(gateway.address, format!("{request} HTTP/1.1\r\nHost: a.example\r\n{headers}\r\n").as_bytes());
    let line = eventually("the line", || {
        let output = gateway.output();
        output.lines().nth(before).map(str::to_owned).ok_or(output)
    });
    (reply, line)
}

/// The credentials of `ana`, and other headers with something secret.
fn secrets() -> String {
    let basic = "Authorization: Basic YW5hOmNhbmFyeS1wYXNzd29yZA==\r\n";
    let others = "Cookie: c=canary-cookie\r\nX-API-Key: canary-key\r\n\
                  Referer: https://u:canary-user@other.example/from?x=canary-referrer\r\nUser-Agent: curl/8 \
                  \"odd\"\r\n";
    format!("{basic}{others}traceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\n")
}

#[test]
fn a_request_is_one_line_of_json_without_secrets() {
    let upstream = Upstream::new();
    let gateway = start(&upstream, "json");
    let (reply, line) = line_of(&gateway, "GET /orders/7?token=canary-query&q=%1b", &secrets());
    assert_eq!(reply.status, 200, "{reply:?}");
    let entry: Value = serde_json::from_str(&line).unwrap();
    let record = eventually("the record", || gateway.records().first().cloned().ok_or_else(String::new));
    let up = format!("127.0.0.1:{}", upstream.address.port());
    for (field, value) in [
        ("id", record["id"].as_str().unwrap()),
        ("trace_id", TRACE),
        ("source", "127.0.0.1"),
        ("method", "GET"),
        ("host", "a.example"),
        ("path", "/orders/7"),
        ("protocol", "HTTP/1.1"),
        ("outcome", "Permitted"),
        ("route", "Service default/up"),
        ("policy", "default/p"),
        ("authentication", "people"),
        ("username", "ana"),
        ("credential", "ana"),
        ("upstream", &up),
        ("user_agent", "curl/8 \"odd\""),
        ("referrer", "https://other.example/from"),
    ] {
        assert_eq!(entry[field], value, "{field} of {line}");
    }
    assert_eq!(
        (&entry["status"], &entry["bytes"], &entry["duration_us"]),
        (&Value::from(200), &Value::from(2), &record["duration_us"])
    );
    let us = |field: &str| entry[field].as_u64().unwrap();
    assert!(us("upstream_us") <= us("duration_us") && us("duration_us") <= us("total_us"), "{line}");
    let (reply, line) = line_of(&gateway, "GET /orders/7?token=canary-query", "Authorization: Basic YTpjYW5hcnk=\r\n");
    let entry: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((reply.status, entry["id"].as_str()), (401, Some(reply.decision())), "{line}");
    assert_eq!((entry["reason"].as_str(), entry["outcome"].as_str()), (Some("WrongPassword"), Some("Denied")));
    assert_eq!(entry["bytes"], reply.body.len());
    assert!(!gateway.output().contains("canary"), "{}", gateway.output());
    gateway.stop();
}

#[test]
fn a_line_in_the_combined_format_has_the_columns_of_web_servers() {
    let upstream = Upstream::new();
    let gateway = start(&upstream, "combined");
    let (_, line) = line_of(&gateway, "GET /orders/7?token=canary-query", &secrets());
    let record = eventually("the record", || gateway.records().first().cloned().ok_or_else(String::new));
    let (before, rest) = line.split_once(" [").unwrap();
    let (time, rest) = rest.split_once("] ").unwrap();
    assert_eq!((before, time.len()), ("127.0.0.1 - ana", "27/Nov/2026:14:51:58 +0000".len()));
    let expected = format!(
        "\"GET /orders/7 HTTP/1.1\" 200 2 \"https://other.example/from\" \"curl/8 \\x22odd\\x22\" {} {TRACE}",
        record["id"].as_str().unwrap()
    );
    assert_eq!(rest, expected);
    // A head that the HTTP library refuses has a line, too.
    let (_, line) = line_of(&gateway, "GET /\u{1b}[2J\"", "");
    assert!(line.contains("\"-  HTTP/1.1\" 400 0 \"-\" \"-\" "), "{line}");
    assert!(!gateway.output().contains("canary"), "{}", gateway.output());
    gateway.stop();
}

#[test]
fn a_caller_that_left_is_on_a_line() {
    let upstream = Upstream::answering("");
    let gateway = Gateway::start_with(&[("all.yaml", &open_to(&upstream, ANONYMOUS))], &["--access-log", "json"]);
    let mut caller = TcpStream::connect(gateway.address).unwrap();
    caller.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    eventually("the request", || if upstream.received().is_empty() { Err("nothing".into()) } else { Ok(()) });
    drop(caller);
    let line = eventually("the line", || gateway.output().lines().next().map(str::to_owned).ok_or_else(String::new));
    let entry: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&entry["status"], &entry["reason"]), (&Value::from(0), &Value::from("ClientGone")), "{line}");
    gateway.stop();
}

#[test]
fn a_log_that_nobody_reads_holds_up_no_request_and_no_stop() {
    let upstream = Upstream::new();
    let (dir, audit) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(dir.path().join("all.yaml"), open_to(&upstream, ANONYMOUS)).unwrap();
    let admin = idm_tests::free_address();
    let child = Command::new(idm_tests::idm())
        .args(["run", "--listen", "127.0.0.1:0", "--access-log", "json", "--admin", &admin.to_string(), "--dir"])
        .args([dir.path().as_os_str(), "--audit-dir".as_ref(), audit.path().as_os_str()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("idm starts");
    let mut child = Killed(child);
    let said = BufReader::new(child.0.stderr.take().unwrap()).lines().map_while(Result::ok);
    let address = said.filter_map(|line| line.rsplit_once(" on http://")?.1.parse().ok()).next().expect("an address");
    let (mut stream, path) = (TcpStream::connect::<std::net::SocketAddr>(address).unwrap(), "x".repeat(1900));
    for _ in 0..1500 {
        stream.write_all(format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(raw_on(&mut stream).status, 200);
    }
    let metrics = raw(admin, b"GET /-/metrics HTTP/1.1\r\nHost: a\r\n\r\n").body;
    let dropped = metrics.lines().find_map(|line| line.strip_prefix("idm_access_log_dropped_total ")).unwrap();
    assert!(dropped.parse::<u64>().unwrap() > 100, "{dropped}");
    drop(stream);
    let stopping = Instant::now();
    let _ = Command::new("kill").arg(child.0.id().to_string()).status();
    let _ = child.0.wait();
    assert!(stopping.elapsed() < Duration::from_secs(15), "{:?}", stopping.elapsed());
}

struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
