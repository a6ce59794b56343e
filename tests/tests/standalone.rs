//! `idm demo`, `idm run` and the tools as a newcomer meets them.

use std::path::Path;
use std::process::{Command, Output};

use idm_tests::{ANONYMOUS, Demo, Gateway, Upstream, eventually, idm, open_to, raw};

fn run(arguments: &[&str], state: &Path) -> Output {
    Command::new(idm()).args(arguments).env("IDM_STATE_DIR", state).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_change_is_served_without_a_restart_and_a_broken_file_is_refused_by_line() {
    let upstream = Upstream::new();
    let gateway = Gateway::start(&[("all.yaml", &open_to(&upstream, ANONYMOUS))]);
    let get = || raw(gateway.address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").status;
    assert_eq!(get(), 200);
    gateway.write("all.yaml", &open_to(&upstream, "    - {name: machines, apiKey: {}}\n"));
    eventually("the change is in force", || (get() == 401).then_some(()).ok_or_else(|| "still open".into()));
    let good = open_to(&upstream, ANONYMOUS);
    for (broken, problem) in [
        (
            good.replace("kind: Service", "kind: Servise"),
            "all.yaml:2: kind 'Servise' of apiVersion 'v1' is not known here",
        ),
        (good.replace("anonymous: {}", "anonymus: {}"), "unknown field `anonymus`"),
        (good.replace("metadata: {name: p}", "metadata: {name: p"), "all.yaml:"),
        (good.replace("name: up}]", "name: nowhere}]"), "Service 'nowhere' must exist"),
        (format!("{good}    - {{name: everyone, apiKey: {{}}}}\n"), "method name 'everyone' must be used once"),
    ] {
        gateway.write("all.yaml", &broken);
        eventually("it is refused by name", || {
            gateway.log().contains(problem).then_some(()).ok_or_else(|| format!("{problem}\n{}", gateway.log()))
        });
        assert_eq!(get(), 401, "the last good configuration keeps serving: {problem}");
    }
    gateway.write("all.yaml", &good);
    eventually("the repaired file is in force", || (get() == 200).then_some(()).ok_or_else(|| "still closed".into()));
}

#[test]
fn reloads_drop_no_request() {
    let upstream = Upstream::new();
    let gateway = Gateway::start(&[("all.yaml", &open_to(&upstream, ANONYMOUS))]);
    let address = gateway.address;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let callers: Vec<_> = (0..2)
        .map(|_| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut count = 0;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    assert_eq!(raw(address, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").status, 200);
                    count += 1;
                }
                count
            })
        })
        .collect();
    for generation in 2..8 {
        gateway.write(
            "extra.yaml",
            &format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: extra-{generation}}}\nspec: {{ports: [{{port: \
                {generation}}}]}}\n"
            ),
        );
        let policy = open_to(&upstream, ANONYMOUS).replace("name: everyone", &format!("name: everyone-{generation}"));
        gateway.write("all.yaml", &policy);
        eventually("the reload", || {
            gateway
                .log()
                .contains(&format!("generation={generation}"))
                .then_some(())
                .ok_or_else(|| gateway.log().lines().last().unwrap_or("").to_owned())
        });
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let total: u32 = callers.into_iter().map(|caller| caller.join().unwrap()).sum();
    assert!(total > 20, "{total}");
}

#[test]
fn no_record_is_lost_when_the_gateway_is_killed() {
    let upstream = Upstream::new();
    let mut gateway = Gateway::start(&[("all.yaml", &open_to(&upstream, "    - {name: machines, apiKey: {}}\n"))]);
    let mut seen: Vec<String> =
        (0..200).map(|_| raw(gateway.address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").decision().to_owned()).collect();
    gateway.kill();
    let mut found: Vec<String> = gateway.records().iter().map(|r| r["id"].as_str().unwrap().to_owned()).collect();
    seen.sort();
    found.sort();
    assert_eq!(seen, found, "a refusal that was answered is on disk, once");
}

#[test]
fn what_cannot_start_says_why() {
    let state = tempfile::tempdir().unwrap();
    let upstream = Upstream::new();
    let gateway = Gateway::start(&[("all.yaml", &open_to(&upstream, ANONYMOUS))]);
    let dir = gateway.dir.path().to_str().unwrap();
    let taken = run(&["run", "--dir", dir, "--listen", &gateway.address.to_string()], state.path());
    assert!(
        !taken.status.success() && text(&taken.stderr).contains("cannot listen on 127.0.0.1"),
        "{}",
        text(&taken.stderr)
    );
    let same_audit = run(
        &["run", "--dir", dir, "--listen", "127.0.0.1:0", "--audit-dir", gateway.audit.path().to_str().unwrap()],
        state.path(),
    );
    assert!(text(&same_audit.stderr).contains("in use by another idm process"), "{}", text(&same_audit.stderr));
    let empty = run(&["run", "--dir", state.path().to_str().unwrap()], state.path());
    assert!(text(&empty.stderr).contains("at least one .yaml file"), "{}", text(&empty.stderr));
    let operator = Command::new(idm())
        .args(["operator", "--gateway-image", "x"])
        .env("KUBECONFIG", "/nonexistent")
        .env("IDM_AUDIT_DIR", state.path())
        .output()
        .unwrap();
    assert!(!operator.status.success() && text(&operator.stderr).contains("no cluster"), "{}", text(&operator.stderr));
}

#[test]
fn a_secret_that_is_missing_or_wrong_is_named_and_never_shown() {
    let state = tempfile::tempdir().unwrap();
    let upstream = Upstream::new();
    let base = open_to(&upstream, "    - {name: machines, apiKey: {}}\n");
    let credential = "---\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {name: c}\nspec: \
        {apiKey: {}, secretRef: {name: s}}\n";
    let secret = |data: &str| format!("---\napiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData: {data}\n");
    for (yaml, problem) in [
        (format!("{base}{credential}"), "Secret 's' must exist"),
        (format!("{base}{credential}{}", secret("{other: x}")), "must have the key 'key'"),
        (format!("{base}{credential}{}", secret("{key: canary-password}")), "must hold an API key"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("all.yaml"), &yaml).unwrap();
        let lint = run(&["lint", dir.path().to_str().unwrap()], state.path());
        let out = text(&lint.stdout);
        assert!(
            !lint.status.success() && out.contains(problem) && out.starts_with("all.yaml:") && !out.contains("canary"),
            "{out}"
        );
    }
}

#[test]
fn every_sample_is_in_order() {
    let state = tempfile::tempdir().unwrap();
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/samples")).unwrap() {
        let path = entry.unwrap().path();
        // Beside the samples lie the tables that test them: a folder, which is not for the gateway.
        if path.is_file() {
            std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    // Secrets that the operator would make.
    for (file, command) in [
        ("key.yaml", &["credential", "new", "--secret", "nightly-key"][..]),
        ("client.yaml", &["credential", "new", "--secret", "monthly-report-client", "--client"]),
        ("signing.yaml", &["token", "keys", "--policy", "reports"]),
    ] {
        std::fs::write(dir.path().join(file), run(command, state.path()).stdout).unwrap();
    }
    let lint = run(&["lint", dir.path().to_str().unwrap()], state.path());
    assert!(lint.status.success(), "{}", text(&lint.stdout));
}

#[test]
fn the_demo_is_as_the_readme_says() {
    let state = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(state.path());
    let address = demo.address;
    assert_eq!(raw(address, b"GET /open HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    let refused = raw(address, b"GET /orders HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(refused.status, 401);
    let why = run(&["explain", refused.decision()], state.path());
    assert!(
        text(&why.stdout).contains("DENIED 401 NoCredentials") && text(&why.stdout).contains("fix: send a credential"),
        "{}",
        text(&why.stdout)
    );
    let token = text(&run(&["token", "mint", "--user", "ana"], state.path()).stdout);
    let ana = raw(
        address,
        format!(
            "POST /orders HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nAuthorization: Bearer {}\r\n\r\n",
            token.trim()
        )
        .as_bytes(),
    );
    assert!(ana.status == 200 && ana.body.contains("\"x-authenticated-userroles\": \"order-writer\""), "{ana:?}");
    let expired = text(&run(&["token", "mint", "--user", "ana", "--expires-in-seconds", "-100"], state.path()).stdout);
    assert_eq!(
        raw(
            address,
            format!("GET /orders HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\n\r\n", expired.trim()).as_bytes()
        )
        .status,
        401
    );
    let key = std::fs::read_to_string(state.path().join("demo-api-key")).unwrap();
    assert_eq!(
        raw(
            address,
            format!("POST /orders HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nX-Api-Key: {key}\r\n\r\n").as_bytes()
        )
        .status,
        403
    );
    let tail = run(&["audit", "tail", "--no-follow", "--denied"], state.path());
    assert_eq!(text(&tail.stdout).lines().count(), 3, "{}", text(&tail.stdout));
    let search = run(&["audit", "search", "--outcome", "denied", "--text", "/ORDERS", "-o", "csv"], state.path());
    assert_eq!(text(&search.stdout).lines().count(), 1 + 3, "a head and three: {}", text(&search.stdout));
    let search = run(&["audit", "search", "--since", "1h", "--most", "1"], state.path());
    assert_eq!(text(&search.stdout).lines().next(), text(&tail.stdout).lines().last(), "the newest");
    assert!(text(&search.stderr).contains("--before f."), "{}", text(&search.stderr));
    demo.kill();
    let verified = run(&["audit", "verify"], state.path());
    assert!(verified.status.success(), "a process that was killed is none who tampered: {}", text(&verified.stdout));
    assert!(text(&verified.stdout).contains("note: the end has no seal"), "{}", text(&verified.stdout));
    let segment = state.path().join("audit/audit-000000000001.ndjson");
    let records = std::fs::read_to_string(&segment).unwrap();
    std::fs::write(&segment, records.replacen("Denied", "Failed", 1)).unwrap();
    let verified = run(&["audit", "verify"], state.path());
    assert_eq!(verified.status.code(), Some(1));
    assert!(text(&verified.stdout).contains("audit-000000000001.ndjson line"), "{}", text(&verified.stdout));
    let export = tempfile::tempdir().unwrap();
    assert!(run(&["demo", "--export", export.path().to_str().unwrap()], state.path()).status.success());
    let lint = run(&["lint", export.path().to_str().unwrap()], state.path());
    assert!(lint.status.success(), "{}", text(&lint.stdout));
}
