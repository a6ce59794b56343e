//! Folders of policies: bounded before they are parsed, and taken when they have come to rest.

use std::process::Command;
use std::time::{Duration, Instant};

use idm_tests::{ANONYMOUS, Gateway, Upstream, eventually, idm, open_to, raw};

fn lint(text: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("all.yaml"), text).unwrap();
    let began = Instant::now();
    let output = Command::new(idm()).arg("lint").arg(dir.path()).output().unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    assert!(!output.status.success());
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a13_what_nests_too_deep_is_refused_with_file_and_line() {
    for deep in ["[".repeat(10_000), "{a: ".repeat(10_000), "[\"]\", ".repeat(10_000)] {
        let said = lint(&format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nx: {deep}\n"));
        assert!(said.contains("all.yaml:4: it nests deeper than 64 levels"), "{said}");
    }
    let said = lint(&format!("a: b\nx:\n  {}\n", "- ".repeat(10_000)));
    assert!(said.contains("all.yaml:3: it nests deeper than 64 levels"), "{said}");
}

#[test]
fn a13_aliases_that_multiply_and_files_without_end_are_refused() {
    let laughs: String = (1..10).map(|n| format!("a{n}: &a{n} [{}]\n", format!("*a{}, ", n - 1).repeat(9))).collect();
    let said = lint(&format!("a0: &a0 [x]\n{laughs}"));
    assert!(said.contains("more than 32 aliases"), "{said}");
    let said = lint(&format!("a: {}\n", "x".repeat(5 << 20)));
    assert!(said.contains("larger than 4 MiB"), "{said}");
}

/// A policy that lets nobody in but administrators.
fn closed(upstream: &Upstream) -> String {
    let authorization = "  authorization: {rules: [{name: admins, require: {roles: {all: [admin]}}}]}\n";
    format!("{}{authorization}", open_to(upstream, ANONYMOUS))
}

#[test]
fn a17_half_a_file_is_never_in_force() {
    let upstream = Upstream::new();
    let whole = closed(&upstream);
    let gateway = Gateway::start(&[("all.yaml", &whole)]);
    let get = || raw(gateway.address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").status;
    assert_eq!(get(), 403);
    let half = open_to(&upstream, ANONYMOUS);
    let began = Instant::now();
    // Each time the file is without its end for longer than two looks at the folder.
    while began.elapsed() < Duration::from_secs(3) {
        gateway.write("all.yaml", &half);
        let written = Instant::now();
        while written.elapsed() < Duration::from_millis(280) {
            assert_eq!(get(), 403);
        }
        gateway.write("all.yaml", &whole);
        let finished = Instant::now();
        while finished.elapsed() < Duration::from_millis(280) {
            assert_eq!(get(), 403);
        }
    }
    assert_eq!(upstream.received(), "");
}

#[test]
fn a17_a_change_that_drops_a_section_is_taken_and_warned_of() {
    let upstream = Upstream::new();
    let gateway = Gateway::start(&[("all.yaml", &closed(&upstream))]);
    let get = || raw(gateway.address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").status;
    let began = Instant::now();
    gateway.write("all.yaml", &open_to(&upstream, ANONYMOUS));
    eventually("the change", || (get() == 200).then_some(()).ok_or_else(|| gateway.log()));
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let log = gateway.log();
    assert!(log.contains("WARN") && log.contains("IdentityPolicy 'p' no longer has any authorization rule"), "{log}");
}

#[test]
fn a_gateway_takes_its_port_when_it_has_a_configuration() {
    let upstream = Upstream::new();
    let folder = tempfile::tempdir().unwrap();
    let free = idm_tests::free_address();
    let address = free.to_string();
    // The folder is not quiet yet, so the gateway waits for it.
    std::fs::write(folder.path().join("all.yaml"), closed(&upstream)).unwrap();
    let mut gateway = Command::new(idm())
        .args(["run", "--listen", &address, "--dir"])
        .arg(folder.path())
        .arg("--audit-dir")
        .arg(folder.path().join("audit"))
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    eventually("the gateway listens", || std::net::TcpStream::connect(free).map_err(|error| error.to_string()));
    let first = raw(free, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").status;
    gateway.kill().unwrap();
    gateway.wait().unwrap();
    assert_eq!(first, 403, "an answer of the policy, not of a gateway without one");
}
