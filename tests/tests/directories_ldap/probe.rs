//! `idm idp probe` of an LDAP server: each step is told, nothing secret is, and a Federation comes out that serves.

use std::io::Write;
use std::process::{Command, Stdio};

use idm_tests::slapd::{GROUPS, OWN_NAME, OWN_PASSWORD, PASSWORD, Slapd};
use idm_tests::{Authority, idm};

use crate::bed::{authority, slapd};

/// The output of a verb: standard output, standard error, and the exit code.
struct Said {
    out: String,
    errors: String,
    code: i32,
}

fn idp(arguments: &[&str], input: &str) -> Said {
    let mut child = Command::new(idm())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end before it reads anything.
    let _ = child.stdin.take().unwrap().write_all(format!("{input}\n").as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let said = Said { out: text(output.stdout), errors: text(output.stderr), code: output.status.code().unwrap() };
    for secret in [PASSWORD, OWN_PASSWORD] {
        assert!(!said.out.contains(secret) && !said.errors.contains(secret), "{secret}: {}{}", said.out, said.errors);
    }
    said
}

fn probe(address: &str, more: &[&str]) -> Said {
    let usual = ["idp", "probe", address, "--name", "corp", "--bind", OWN_NAME];
    idp(&[&usual, more].concat(), OWN_PASSWORD)
}

/// The printed Federation is in order, and somebody logs in with it.
fn serves(printed: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    std::fs::write(folder.path().join("all.yaml"), printed.replace("replace-me", OWN_PASSWORD)).unwrap();
    let lint = idp(&["lint", &path], "");
    assert!(lint.code == 0 && !lint.out.contains("note:"), "{}{}", lint.out, lint.errors);
    let login =
        ["idp", "try", "--dir", &path, "--federation", "corp", "--username", "ana", "--danger-insecure-issuers"];
    let tried = idp(&login, PASSWORD);
    assert_eq!(tried.code, 0, "{}{}", tried.out, tried.errors);
    tried.out
}

fn bed() -> (Authority, Slapd, String) {
    let authority = authority();
    let slapd = slapd(&authority);
    let ca = authority.path("ca.crt");
    (authority, slapd, ca)
}

#[test]
fn r44_a_probe_tells_each_step_and_prints_a_federation_that_serves() {
    let (_authority, slapd, ca) = bed();
    let ldaps = format!("ldaps://localhost:{}", slapd.tls_port());
    let said = probe(&ldaps, &["--username", "ana", "--ca-file", &ca]);
    assert_eq!(said.code, 0, "{}", said.errors);
    for line in [
        "✓ certificate",
        &format!("localhost:{}: connected (Tls), ", slapd.tls_port()),
        &format!("bind of the gateway `{OWN_NAME}`: code 0 (Success)"),
        "✓ server         OpenLDAP",
        "✓ trees          dc=corp,dc=test",
        "✓ base           dc=corp,dc=test",
        "scope Subtree filter `(|(uid=ana)(mail=ana)(cn=ana))`: 1 entries, code 0 (Success)",
        "✓ people         `ana` is found by uid",
        "✓ id             entryUUID",
        "✓ groups         memberOf",
        "of passwords by RFC 3062: yes",
        " ms\n",
    ] {
        assert!(said.errors.contains(line), "{line}: {}", said.errors);
    }
    let tried = serves(&said.out);
    assert!(tried.contains(&format!("cn=Orders,{GROUPS}")), "{tried}");
    assert_eq!(slapd.binds_of_people(), 1, "the probe itself binds as nobody but the gateway");
}

#[test]
fn a_server_that_is_not_trusted_is_told_with_its_key_which_can_be_pinned() {
    let (_authority, slapd, _) = bed();
    for address in [format!("ldaps://localhost:{}", slapd.tls_port()), format!("ldap://localhost:{}", slapd.port())] {
        let before = slapd.binds().len();
        let said = probe(&address, &["--username", "ana"]);
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{}", said.errors);
        assert!(said.errors.contains("✗ DirectoryUntrusted"), "{}", said.errors);
        let key = said
            .errors
            .split("--pinned-key ")
            .nth(1)
            .unwrap()
            .split_whitespace()
            .next()
            .unwrap()
            .trim_end_matches('`')
            .to_owned();
        assert_eq!(slapd.binds().len(), before, "nobody binds at a server that is not trusted");
        let said = probe(&address, &["--username", "ana", "--pinned-key", &key]);
        assert!(said.code == 0 && said.out.contains(&format!("pinnedKeys: ['{key}']")), "{}{}", said.out, said.errors);
        serves(&said.out);
    }
}

#[test]
fn what_keeps_people_out_is_told_with_what_to_do() {
    let (_authority, slapd, ca) = bed();
    let ldaps = format!("ldaps://localhost:{}", slapd.tls_port());
    let trusted = ["--ca-file", ca.as_str()];
    for (arguments, input, line) in [
        (vec!["--bind", OWN_NAME], "canary-wrong", "✗ DirectoryRefusesGateway"),
        (vec!["--bind", OWN_NAME, "--username", "nobody"], OWN_PASSWORD, "nobody has the name `nobody`"),
        (vec!["--bind", OWN_NAME, "--base", "dc=elsewhere"], OWN_PASSWORD, "✗ DirectoryUnusable"),
        (vec![], "", "fix: give the gateway's login with `--bind`"),
    ] {
        let usual = ["idp", "probe", ldaps.as_str()];
        let said = idp(&[&usual, trusted.as_slice(), &arguments].concat(), input);
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{}", said.errors);
        assert!(said.errors.contains(line) && said.errors.contains("fix: "), "{line}: {}", said.errors);
    }
    let closed = format!("ldap://localhost:{}", idm_tests::free_port());
    let said = probe(&closed, &[]);
    assert!(said.code == 1 && said.errors.contains("✗ DirectoryUnavailable"), "{}", said.errors);
    let said = probe("ldap://ldap.example:389", &["--plain"]);
    assert!(said.code == 1 && said.errors.contains("on this machine alone"), "{}", said.errors);
    let said = idp(&["idp", "probe", "postgres://gateway:canary-in-url@localhost/shop"], "");
    assert!(said.code == 1 && said.errors.contains("must not be in the address"), "{}", said.errors);
    assert!(!said.errors.contains("canary-in-url"), "{}", said.errors);
}
