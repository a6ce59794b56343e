//! Every way in, with clients that others wrote, and what is refused.

use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use idm_tests::slapd::{OWN_PASSWORD, PASSWORD, PEOPLE, person, uid};
use idm_tests::{Authority, Reply, interop_libraries, records};
use serde_json::Value;

use crate::bed::{Bed, WRONG, Way, authority, client_secret, guess, new_address, slapd};

/// No password, in clear or as it travels, is in the log, the records, the metrics or these pages.
fn leaks_nothing(bed: &Bed, pages: &[&str]) {
    let records: String = records(bed.gateway.audit.path()).iter().map(Value::to_string).collect();
    let everything = [bed.gateway.log(), records, bed.metrics(), pages.concat()];
    assert!(everything[0].contains("TRACE"), "the log is at trace level");
    for secret in [PASSWORD, OWN_PASSWORD, WRONG, &client_secret()] {
        let pairs = ["ana", "bob", "app"].map(|name| STANDARD.encode(format!("{name}:{secret}")));
        for planted in pairs.iter().map(String::as_str).chain([secret]) {
            assert!(everything.iter().all(|text| !text.contains(planted)), "{secret} is found");
        }
    }
}

/// Every bind that carried a password was encrypted.
fn binds_are_encrypted(bed: &Bed) {
    let log = bed.slapd.log();
    let in_clear = |line: &&str| line.contains(" BIND ") && line.contains("mech=SIMPLE") && !line.contains("ssf=256");
    // The administrator of the tests binds as itself, in the clear, and is nobody of the gateway.
    let in_clear: Vec<&str> = log.lines().filter(in_clear).filter(|line| !line.contains("cn=admin,")).collect();
    assert_eq!(in_clear, Vec::<&str>::new());
    assert!(log.contains("mech=SIMPLE") && log.contains("ssf=256"), "{log}");
}

fn curl(bed: &Bed, pair: &str) -> (String, String) {
    let output = Command::new("curl")
        .args(["-s", "--basic", "-u", pair, "-w", "\n%{http_code}", &format!("http://{}/a", bed.gateway.address)])
        .output()
        .expect("curl runs");
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (body.to_owned(), status.to_owned())
}

/// `requests-oauthlib`, which knows nothing of us: tokens for a password, a call with them, a refresh, a wrong
/// password.
fn oauth_client(bed: &Bed) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/password_grant.py");
    let output = Command::new(interop_libraries().join("python/bin/python"))
        .arg(script)
        .args([&bed.gateway.address.to_string(), "ana"])
        .env("CLIENT_SECRET", client_secret())
        .env("PASSWORD", PASSWORD)
        .env("WRONG_PASSWORD", WRONG)
        .output()
        .expect("python runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("done"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

/// The upstream was told who it is, with the roles of the groups `Orders` and `all`, and no password.
fn upstream_knows_ana(bed: &Bed) {
    let heard = bed.heard();
    assert!(heard.contains("x-authenticated-userid: ana\r\n"), "{heard}");
    let roles = heard.split("x-authenticated-userroles: ").nth(1).unwrap_or_default();
    let mut roles: Vec<&str> = roles.split("\r\n").next().unwrap_or_default().split([',', ' ']).collect();
    roles.retain(|role| !role.is_empty());
    roles.sort_unstable();
    assert_eq!(roles, ["order-reader", "order-writer"], "{heard}");
    assert!(!heard.contains(&PASSWORD.to_lowercase()) && !heard.contains("basic "), "{heard}");
}

fn every_door(way: Way) {
    let bed = Bed::new(way, "{}");
    assert_eq!(curl(&bed, &format!("ana:{PASSWORD}")), ("<body>ok</body>".into(), "200".into()));
    upstream_knows_ana(&bed);
    let (page, status) = curl(&bed, &format!("ana:{WRONG}"));
    assert_eq!(status, "401", "{page}");
    oauth_client(&bed);
    upstream_knows_ana(&bed);
    let (mut browser, answer) = bed.signed_in("ana@corp.test", PASSWORD);
    assert_eq!((answer.status, answer.header("location")), (303, Some("/orders")), "{}", answer.body);
    let shown = browser.go("/orders");
    assert_eq!(shown.status, 200);
    upstream_knows_ana(&bed);
    let (_, refused) = bed.signed_in("ana", WRONG);
    bed.refused(&refused, 401, "WrongPassword");
    binds_are_encrypted(&bed);
    leaks_nothing(&bed, &[&page, &shown.body, &answer.body, &refused.body]);
}

#[test]
fn people_of_openldap_are_let_in_at_every_door_over_ldaps() {
    every_door(Way::Ldaps);
}

#[test]
fn people_of_openldap_are_let_in_at_every_door_over_starttls() {
    every_door(Way::StartTls);
}

#[test]
fn people_of_openldap_sign_in_with_chromium() {
    let bed = Bed::new(Way::Ldaps, "{recheckSeconds: 1}");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/directory-form.mjs");
    let output = Command::new("node")
        .arg(script)
        .arg(interop_libraries())
        .arg(format!("http://{}", bed.gateway.address))
        .env("PASSWORD", PASSWORD)
        .env("WRONG_PASSWORD", WRONG)
        .output()
        .expect("node runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let refused: Vec<Value> =
        bed.gateway.records().into_iter().filter(|record| record["outcome"] != "Permitted").collect();
    assert!(
        output.status.success() && said.contains("done: 8 steps"),
        "{said}{}\n{refused:?}",
        String::from_utf8_lossy(&output.stderr)
    );
    let heard = bed.heard();
    assert!(heard.contains("x-authenticated-userid: ana\r\n") && !heard.contains("oidc_session="), "{heard}");
    leaks_nothing(&bed, &[]);
}

#[test]
fn who_is_refused_has_a_reason_in_the_audit_and_the_same_answer_as_everybody_else() {
    let bed = Bed::new(Way::Loopback, "{}");
    let gone = |name: &str, more: &str| format!("dn: {}\nchangetype: modify\n{more}\n\n", uid(name));
    for name in ["locked", "reset", "one", "two"] {
        bed.slapd.change(&person(name, name));
    }
    bed.slapd.change(&gone("locked", "add: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z"));
    bed.slapd.change(&gone("reset", "add: pwdReset\npwdReset: TRUE"));
    bed.slapd.change(&gone("one", "replace: mail\nmail: same@corp.test"));
    bed.slapd.change(&gone("two", "replace: mail\nmail: same@corp.test"));
    let told = |reply: &Reply| (reply.status, reply.body.replace(reply.decision(), "ID"));
    let mut answers: Vec<(u16, String)> = Vec::new();
    for (username, password, reason, binds) in [
        ("ana", WRONG, "WrongPassword", 1),
        ("nobody", PASSWORD, "WrongPassword", 0),
        ("same@corp.test", PASSWORD, "AmbiguousUser", 0),
        ("locked", PASSWORD, "AccountLocked", 1),
        ("reset", PASSWORD, "PasswordMustChange", 1),
        ("*", PASSWORD, "WrongPassword", 0),
        ("ana)(uid=*", PASSWORD, "WrongPassword", 0),
    ] {
        let before = bed.slapd.binds_of_people();
        let reply = guess(bed.gateway.address, username, password, new_address());
        let record = bed.refused(&reply, 401, reason);
        assert_eq!(bed.slapd.binds_of_people() - before, binds, "{username}");
        assert!(record["detail"].as_str().is_some_and(|detail| detail.contains(username)), "{record}");
        answers.push(told(&reply));
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let before = bed.slapd.binds().len();
    bed.refused(&bed.basic("ana", ""), 401, "MalformedCredential");
    assert_eq!(bed.slapd.binds().len(), before);
    assert!(bed.slapd.binds().iter().all(|name| name.is_empty() || name.ends_with(PEOPLE) || name.starts_with("cn=")));
}

#[test]
fn a_directory_with_the_certificate_of_another_authority_gets_no_password() {
    for way in [Way::Ldaps, Way::StartTls] {
        let authority = authority();
        let slapd = slapd(&authority);
        let before = slapd.binds();
        let bed = Bed::with(way, "{}", authority, slapd, &Authority::new("another").read("ca.crt"));
        let record = bed.refused(&bed.basic("ana", PASSWORD), 503, "DirectoryUntrusted");
        assert!(record["detail"].as_str().is_some_and(|detail| detail.contains("127.0.0.1")), "{record}");
        assert_eq!(bed.slapd.binds(), before, "nobody was bound as");
    }
}
