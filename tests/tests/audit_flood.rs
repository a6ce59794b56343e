//! The audit under a flood, with disks that are slow or broken.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use idm_tests::{ANONYMOUS, Gateway, Upstream, eventually, idm, open_to};

/// Two hosts' worth of policy: everybody may, nobody may.
fn files(upstream: &Upstream) -> String {
    let key = "    - {name: keys, apiKey: {}}\n";
    let open = open_to(upstream, ANONYMOUS).replace("'*'", "open.test");
    let closed = open_to(upstream, key)
        .replace("'*'", "closed.test")
        .replace("name: up", "name: shut")
        .replace("name: p}", "name: q}");
    format!("{open}---\n{closed}")
}

fn shim(folder: &Path) -> PathBuf {
    let (source, library) =
        (Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/slow_disk.c"), folder.join("slow_disk.so"));
    let made =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl").status();
    assert!(made.is_ok_and(|status| status.success()), "cc compiles {}", source.display());
    library
}

fn start(upstream: &Upstream, folder: &Path, delay_ms: u64, arguments: &[&str]) -> Gateway {
    let (library, broken) = (shim(folder), folder.join("broken"));
    let delay = delay_ms.to_string();
    let environment = [
        ("LD_PRELOAD", library.to_str().expect("text")),
        ("SLOW_DISK_MS", delay.as_str()),
        ("SLOW_DISK_BROKEN", broken.to_str().expect("text")),
        ("IDM_LOG", "info"),
    ];
    Gateway::start_in(&[("all.yaml", &files(upstream))], arguments, &environment)
}

/// Sends one request on a connection that stays, and reads the whole answer: its status and decision id.
fn ask(stream: &mut BufReader<TcpStream>, host: &str) -> Option<(u16, String)> {
    stream.get_mut().write_all(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).ok()?;
    let (mut status, mut id, mut length) = (0, String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(rest) = line.strip_prefix("http/1.1 ") {
            status = rest.get(..3)?.parse().ok()?;
        } else if let Some(value) = line.strip_prefix("x-decision-id: ") {
            id = value.to_ascii_uppercase();
        } else if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().ok()?;
        }
    }
    stream.read_exact(&mut vec![0; length]).ok()?;
    Some((status, id))
}

fn connect(address: SocketAddr) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    BufReader::new(stream)
}

/// Everything that callers on so many connections were told until `stop`.
fn flood(address: SocketAddr, host: &'static str, connections: usize, stop: &Arc<AtomicBool>) -> Flood {
    let threads = (0..connections).map(|_| {
        let stop = stop.clone();
        std::thread::spawn(move || {
            let (mut stream, mut told) = (connect(address), Vec::new());
            while !stop.load(Ordering::Relaxed) {
                match ask(&mut stream, host) {
                    Some(answer) => told.push(answer),
                    None => break,
                }
            }
            told
        })
    });
    Flood(threads.collect())
}

struct Flood(Vec<std::thread::JoinHandle<Vec<(u16, String)>>>);

impl Flood {
    fn told(self) -> Vec<(u16, String)> {
        self.0.into_iter().flat_map(|thread| thread.join().expect("a caller")).collect()
    }
}

/// Waits, bounded, until the gateway has so many records.
fn wait_for_records(gateway: &Gateway, least: usize) {
    eventually("records", || {
        let found = gateway.records().len();
        if found >= least { Ok(()) } else { Err(format!("{found} of {least}")) }
    });
}

fn a_flood_is_recorded(delay_ms: u64) {
    let (upstream, folder) = (Upstream::new(), tempfile::tempdir().expect("a folder"));
    let gateway = start(&upstream, folder.path(), delay_ms, &[]);
    let (stop, started) = (Arc::new(AtomicBool::new(false)), Instant::now());
    let refused = flood(gateway.address, "closed.test", 100, &stop);
    let valid = flood(gateway.address, "open.test", 4, &stop);
    wait_for_records(&gateway, 2000);
    stop.store(true, Ordering::Relaxed);
    let (refused, valid) = (refused.told(), valid.told());
    println!("{} refusals in {:?} with {delay_ms} ms a sync", refused.len(), started.elapsed());
    assert!(refused.iter().all(|(status, _)| *status == 401), "no 503: a slow disk is not a broken one");
    assert!(!valid.is_empty() && valid.iter().all(|(status, _)| *status == 200), "valid callers are served");
    let records = eventually("every record", || {
        let records = gateway.records();
        let wanted = refused.len() + valid.len();
        if records.len() == wanted { Ok(records) } else { Err(format!("{} of {wanted}", records.len())) }
    });
    let ids: std::collections::HashSet<&str> = records.iter().filter_map(|record| record["id"].as_str()).collect();
    assert_eq!(ids.len(), records.len(), "one each");
    assert!(refused.iter().all(|(_, id)| ids.contains(id.as_str())));
    assert_eq!(
        upstream.received().matches("GET / HTTP/1.1").count(),
        valid.len(),
        "nothing refused reached the upstream"
    );
    gateway.stop();
}

#[test]
fn a08_a_flood_of_refusals_on_a_slow_disk_loses_nothing_and_costs_valid_callers_nothing() {
    a_flood_is_recorded(25);
}

#[test]
fn a08_a_flood_of_refusals_on_a_quicker_disk_loses_nothing_either() {
    a_flood_is_recorded(2);
}

#[test]
fn a08_every_refusal_that_was_answered_before_a_kill_has_its_record() {
    let (upstream, folder) = (Upstream::new(), tempfile::tempdir().expect("a folder"));
    let mut gateway = start(&upstream, folder.path(), 25, &[]);
    let stop = Arc::new(AtomicBool::new(false));
    let callers = flood(gateway.address, "closed.test", 100, &stop);
    wait_for_records(&gateway, 1000);
    gateway.kill();
    let told = callers.told();
    let ids: std::collections::HashSet<String> =
        gateway.records().iter().filter_map(|record| record["id"].as_str().map(str::to_owned)).collect();
    assert!(told.len() >= 500, "{}", told.len());
    assert!(told.iter().all(|(status, id)| *status == 401 && ids.contains(id)));
}

#[test]
fn a08_where_it_was_chosen_successes_too_have_their_record_before_a_kill() {
    let (upstream, folder) = (Upstream::new(), tempfile::tempdir().expect("a folder"));
    let mut gateway = start(&upstream, folder.path(), 25, &["--audit-successes", "before-answer"]);
    let stop = Arc::new(AtomicBool::new(false));
    let callers = flood(gateway.address, "open.test", 20, &stop);
    wait_for_records(&gateway, 200);
    gateway.kill();
    let told = callers.told();
    let recorded = gateway.records().iter().filter(|record| record["outcome"] == "Permitted").count();
    assert!(told.iter().all(|(status, _)| *status == 200));
    assert!(told.len() >= 100 && recorded >= told.len(), "{recorded} records of {} answers", told.len());
}

#[test]
fn a08_nothing_but_503_is_answered_while_the_disk_is_broken_and_it_recovers() {
    let (upstream, folder) = (Upstream::new(), tempfile::tempdir().expect("a folder"));
    let gateway = start(&upstream, folder.path(), 0, &[]);
    let mut stream = connect(gateway.address);
    let mut ask = |host| ask(&mut stream, host).expect("an answer");
    assert_eq!((ask("closed.test").0, ask("open.test").0), (401, 200));
    std::fs::write(folder.path().join("broken"), "").expect("written");
    let (status, id) = ask("closed.test");
    assert_eq!(status, 503, "a refusal without its record is not answered as such");
    let before = upstream.received().len();
    assert_eq!(ask("open.test").0, 503);
    assert_eq!(upstream.received().len(), before, "nothing is forwarded");
    std::fs::remove_file(folder.path().join("broken")).expect("removed");
    eventually("recovery", || match ask("open.test").0 {
        200 => Ok(()),
        other => Err(other.to_string()),
    });
    assert_eq!(gateway.record(&id)["reason"], "NoCredentials", "what was decided is stored afterwards, once");
    gateway.stop();
}

#[test]
fn a05_nothing_that_a_caller_wrote_controls_a_terminal() {
    let upstream = Upstream::new();
    let gateway = Gateway::start(&[("all.yaml", &files(&upstream))]);
    let claims = URL_SAFE_NO_PAD.encode(b"{\"iss\":\"\\u001b[2J\\u0007\\nPERMITTED 200 GET\\n\\u202e\\u009b\"}");
    let header = URL_SAFE_NO_PAD.encode(b"{\"alg\":\"RS256\",\"kid\":\"\\u001b\\n\\u202e\"}");
    let mut stream = TcpStream::connect(gateway.address).expect("connects");
    let request = format!(
        "GET /%1B%0A%E2%80%AE HTTP/1.1\r\nhost: closed.test\r\nuser-agent: \u{202e}\r\n\
         authorization: Bearer {header}.{claims}.AAAA\r\nx-api-key: \u{9b}2J\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    wait_for_records(&gateway, 1);
    let id = gateway.records()[0]["id"].as_str().expect("an id").to_owned();
    let run = |arguments: &[&str]| {
        let output = Command::new(idm()).args(arguments).arg("--audit-dir").arg(gateway.audit.path()).output();
        String::from_utf8(output.expect("idm runs").stdout).expect("text")
    };
    let shown = [
        run(&["explain", &id]),
        run(&["audit", "tail", "--no-follow"]),
        run(&["audit", "tail", "--no-follow", "-o", "json"]),
        gateway.log(),
    ];
    for text in &shown {
        assert!(!text.is_empty());
        assert!(!text.chars().any(|c| idm_types::is_hidden(c) && c != '\n'), "{text:?}");
        assert!(!text.lines().any(|line| line.trim_start().starts_with("PERMITTED")), "{text}");
    }
    gateway.stop();
}
