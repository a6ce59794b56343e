//! `idm policy test` as a pipeline runs it: the sample's table passes, and a table that is wrong says how.

use std::path::Path;
use std::process::Command;

fn run(table: &Path, more: &[&str]) -> (bool, String) {
    let state = tempfile::tempdir().unwrap();
    let output = Command::new(idm_tests::idm())
        .args(["policy", "test"])
        .arg(table)
        .args(more)
        .env("IDM_STATE_DIR", state.path())
        .output()
        .unwrap();
    (
        output.status.success(),
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
    )
}

fn sample() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/samples/tests/orders.yaml")
}

#[test]
fn the_table_of_the_sample_passes() {
    let (passed, said) = run(&sample(), &[]);
    assert!(passed && said.ends_with("11 passed, 0 failed\n"), "{said}");
    let (_, said) = run(&sample(), &["--filter", "nightly"]);
    assert!(said.ends_with("2 passed, 0 failed\n"), "{said}");
}

#[test]
fn a_wrong_expectation_says_expected_and_got() {
    let dir = tempfile::tempdir().unwrap();
    let samples = sample().canonicalize().unwrap().parent().unwrap().parent().unwrap().to_owned();
    let write = |tests: &str| {
        let path = dir.path().join("t.yaml");
        std::fs::write(&path, format!("policies: {}\ntests:\n{tests}", samples.display())).unwrap();
        path
    };
    let table = write(
        "- {name: one, request: {host: api.shop.example, path: /orders}, expect: {decision: Permitted, rule: read, \
            upstream: {X-A: b}}}\n- {name: two, request: {host: api.shop.example, path: /healthz}, expect: \
            {decision: Permitted}}\n",
    );
    let (passed, said) = run(&table, &[]);
    assert!(!passed);
    for line in [
        "FAILED  one",
        "decision: expected Permitted, got Denied",
        "rule: expected read, got none",
        "upstream header X-A: expected `b`, got none",
        "ok      two",
        "1 passed, 1 failed",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let (passed, said) = run(&table, &["--filter", "nothing"]);
    assert!(!passed && said.contains("0 passed, 0 failed"), "no test is no success: {said}");
    let (passed, said) = run(&write("- {name: x, request: {host: a, path: /}, expect: {decison: Denied}}\n"), &[]);
    assert!(!passed && said.contains("unknown field `decison`"), "{said}");
}

/// Passwords are not kept beside policies: the Secret of one is made up, like that of a key.
#[test]
fn a_password_whose_secret_is_missing_is_made_up() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    std::fs::create_dir(dir.path().join("policies")).unwrap();
    write(
        "policies/people.yaml",
        "apiVersion: v1
kind: Service
metadata: {name: people, annotations: {identity-manager.io/hostnames: people.example}}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: identity-manager.io/v1alpha1
kind: IdentityPolicy
metadata: {name: people}
spec:
  targetRefs: [{group: '', kind: Service, name: people}]
  authentication: {methods: [{name: passwords, basic: {realm: people}}]}
---
apiVersion: identity-manager.io/v1alpha1
kind: Credential
metadata: {name: ana}
spec: {password: {}, secretRef: {name: ana-password}}
",
    );
    write(
        "t.yaml",
        "policies: policies
tests:
- name: a stranger
  request: {host: people.example, path: /}
  expect: {decision: Denied, reason: NoCredentials}
- name: somebody with a password
  as: {password: ana}
  request: {host: people.example, path: /}
  expect: {decision: Permitted}
",
    );
    let (passed, said) = run(&dir.path().join("t.yaml"), &[]);
    assert!(passed && said.ends_with("2 passed, 0 failed\n"), "{said}");
}
