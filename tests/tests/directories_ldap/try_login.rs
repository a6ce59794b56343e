//! `idm idp try`: a login, step by step.

use std::io::Write;
use std::process::{Command, Stdio};

use idm_tests::slapd::{GROUPS, OWN_NAME, OWN_PASSWORD, PASSWORD, Slapd, uid};
use idm_tests::{Authority, idm};

use crate::bed::{OVERLAYS, WRONG, Way, authority, federation, slapd};

const PROVIDER: &str = "---
apiVersion: identity-manager.io/v1alpha1
kind: Federation
metadata: {name: kc}
spec:
  oidc:
    issuer: 'https://kc.example'
    client: {clientId: x, authentication: {clientSecretBasic: {name: kc-client}}}
---
apiVersion: v1
kind: Secret
metadata: {name: kc-client}
stringData: {clientSecret: planted-secret}
";

struct Bed {
    slapd: Slapd,
    folder: tempfile::TempDir,
    _authority: Authority,
}

/// The output of a try, on both channels, and its exit code.
struct Said {
    out: String,
    errors: String,
    code: i32,
}

impl Bed {
    fn new(way: Way) -> Self {
        let authority = authority();
        let slapd = slapd(&authority);
        let folder = tempfile::tempdir().unwrap();
        // Groups as the person's entry names them, so that some are outside the base.
        let text = federation(&slapd, way, &authority.read("ca.crt"), "{domains: [CORP]}")
            .replace("search: {filter: (objectClass=groupOfNames), nested: true}", "memberOf: {nested: true}");
        std::fs::write(folder.path().join("all.yaml"), format!("{text}{PROVIDER}")).unwrap();
        Self { slapd, folder, _authority: authority }
    }

    fn attempt(&self, federation: &str, username: &str, password: &str) -> Said {
        self.attempt_at("warn", federation, username, password)
    }

    /// The same with this level of log.
    fn attempt_at(&self, level: &str, federation: &str, username: &str, password: &str) -> Said {
        let mut child = Command::new(idm())
            .args(["idp", "try", "--federation", federation, "--username", username, "--dir"])
            .arg(self.folder.path())
            .env("IDM_LOG", level)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may end before it reads a password.
        let _ = child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let (out, errors) = (text(output.stdout), text(output.stderr));
        for secret in [PASSWORD, OWN_PASSWORD, WRONG, "planted-secret"] {
            assert!(!out.contains(secret) && !errors.contains(secret), "{secret} is told: {out}{errors}");
        }
        Said { out, errors, code: output.status.code().unwrap() }
    }
}

fn holds(said: &Said, parts: &[&str]) {
    let mut rest = said.out.as_str();
    for part in parts {
        let at = rest.find(part);
        rest = &rest[at.unwrap_or_else(|| panic!("no `{part}`, or not in this order: {}{}", said.out, said.errors))..];
    }
}

#[test]
fn r44_a_login_that_is_right_is_told_with_its_steps_groups_and_roles() {
    let bed = Bed::new(Way::StartTls);
    let said = bed.attempt("corp", "CORP\\ANA", PASSWORD);
    let server = format!("127.0.0.1:{}", bed.slapd.port());
    holds(
        &said,
        &[
            "✓ verified: `CORP\\ANA` at Federation corp",
            &format!(" 1 {server}: connected (StartTls)"),
            &format!("{server}: bind of the gateway `{OWN_NAME}`: code 0 (Success)"),
            "scope Subtree filter `(|(uid=ANA)(mail=ANA))`: 1 entries, code 0 (Success)",
            &format!("{server}: bind of the person `{}`: code 0 (Success)", uid("ana")),
            "groups: 3 found; dropped 1, outside the base of groups: `cn=admins,ou=other,dc=corp,dc=test`",
            "claims, as policies see them:",
            "  token.iss: \"federation:default/corp\"",
            "  token.mail: \"ana@corp.test\"",
            "  token.preferred_username: \"ana\"",
            "groups in `token.groups`: 3",
        ],
    );
    holds(&said, &[&format!("✓ Orders   cn=Orders,{GROUPS}  role mapping `CN=orders, OU=groups, DC=corp, DC=test`")]);
    holds(&said, &[&format!("  writers  cn=writers,{GROUPS}  no role mapping names it")]);
    holds(&said, &[&format!("✓ all      cn=all,{GROUPS}  role mapping `all`")]);
    holds(&said, &["‼ role mapping `admins` names none of these groups", "roles: order-reader, order-writer\n"]);
    holds(&said, &["provisioning: nothing is made, because the Federation has no `provisioning`"]);
    assert_eq!((said.code, said.errors.as_str()), (0, ""));
    // The directory was given the password once.
    assert_eq!(bed.slapd.binds_of_people(), 1);
    let path = bed.folder.path().join("all.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("  roleMappings:", "  provisioning: {role: member}\n  roleMappings:")).unwrap();
    let member = "makes a RoleBinding in default: role `member`, user `ana`, issuer `federation:default/corp`";
    holds(&bed.attempt("corp", "CORP\\ANA", PASSWORD), &[member]);
    let loud = bed.attempt_at("trace", "corp", "ana", PASSWORD);
    assert!(loud.code == 0 && loud.errors.contains("TRACE"), "and it has no secret either");
}

#[test]
fn r44_a_login_that_is_wrong_is_told_with_its_cause_and_what_to_do() {
    let bed = Bed::new(Way::Loopback);
    let lock = "changetype: modify\nadd: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z";
    bed.slapd.change(&format!("dn: {}\n{lock}\n\n", uid("bob")));
    for (username, password, lines) in [
        ("ana", WRONG, ["✗ refused: `ana` at Federation corp: WrongPassword", "code 49 (InvalidCredentials)", "why: "]),
        ("nobody", PASSWORD, ["✗ refused: `nobody`", ": 0 entries", "why: there is no user `nobody`"]),
        ("bob", PASSWORD, ["AccountLocked", "bind of the person", "why: the account is locked in its directory"]),
    ] {
        let said = bed.attempt("corp", username, password);
        holds(&said, &lines);
        holds(&said, &["fix: "]);
        assert_eq!(said.code, 4, "{username}");
    }
}

#[test]
fn r44_a_directory_that_cannot_be_asked_is_no_refusal() {
    let mut bed = Bed::new(Way::Loopback);
    bed.slapd.kill();
    let said = bed.attempt("corp", "ana", PASSWORD);
    holds(
        &said,
        &["✗ no verdict about `ana` at Federation corp: DirectoryUnavailable", "not connected", "why: ", "fix: "],
    );
    assert_eq!(said.code, 3);
    let another = Authority::new("another").read("ca.crt");
    let slapd = Slapd::start_with(&bed._authority, OVERLAYS);
    std::fs::write(bed.folder.path().join("all.yaml"), federation(&slapd, Way::Ldaps, &another, "{}")).unwrap();
    let said = bed.attempt("corp", "ana", PASSWORD);
    holds(&said, &["✗ no verdict about `ana` at Federation corp: DirectoryUntrusted", "certificate", "fix: name the"]);
    assert_eq!((said.code, slapd.binds_of_people()), (3, 0));
}

#[test]
fn what_cannot_be_tried_is_said_before_a_password_is_wanted() {
    let bed = Bed::new(Way::Loopback);
    let before = bed.slapd.binds().len();
    let said = bed.attempt("kc", "ana", PASSWORD);
    assert_eq!(said.code, 1);
    assert!(
        said.errors.contains("Federation `kc` is a provider") && said.errors.contains("idm idp probe"),
        "{}",
        said.errors
    );
    let said = bed.attempt("corq", "ana", PASSWORD);
    assert_eq!(said.code, 1);
    assert!(
        said.errors.contains("there is no Federation `corq`") && said.errors.contains("corp, kc"),
        "{}",
        said.errors
    );
    let said = bed.attempt("corp", "ana", "");
    assert_eq!(said.code, 1);
    assert!(said.errors.contains("the password must not be empty"), "{}", said.errors);
    std::fs::write(bed.folder.path().join("all.yaml"), "kind: [").unwrap();
    let said = bed.attempt("corp", "ana", PASSWORD);
    assert!(said.code == 1 && said.out.contains("all.yaml"), "{}{}", said.out, said.errors);
    assert_eq!(bed.slapd.binds().len(), before, "nothing was asked");
}
