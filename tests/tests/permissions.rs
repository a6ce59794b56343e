//! Questions about permissions, asked of a folder: `idm can-i`, `idm who-can`, `idm access-matrix`.

use std::path::Path;
use std::process::{Command, Output};

use idm_tests::idm;
use serde_json::Value;

const FOLDER: &str = "
apiVersion: identity-manager.io/v1alpha1
kind: RoleBinding
metadata: {name: leads, namespace: shop}
spec: {permissionRole: Owner, subjects: [{group: leads}], scope: {project: {}}}
---
apiVersion: identity-manager.io/v1alpha1
kind: RoleBinding
metadata: {name: keys, namespace: shop}
spec:
  permissionRole: CredentialManager
  subjects: [{user: cara, issuer: 'https://idp.example'}]
  scope: {team: {name: checkout}}
---
apiVersion: identity-manager.io/v1alpha1
kind: RoleBinding
metadata: {name: callers, namespace: shop}
spec: {role: order-writer, subjects: [{user: cara}], scope: {project: {}}}
---
apiVersion: identity-manager.io/v1alpha1
kind: Credential
metadata: {name: own, namespace: shop, labels: {identity-manager.io/team: checkout}}
spec: {apiKey: {}, secretRef: {name: k}}
---
apiVersion: identity-manager.io/v1alpha1
kind: Credential
metadata: {name: foreign, namespace: shop, labels: {identity-manager.io/team: search}}
spec: {apiKey: {}, secretRef: {name: k}}
";
const ISSUERS: &str = r#"[{"issuer": "https://idp.example", "usernamePrefix": "idp:"}]"#;

fn ask(dir: &Path, arguments: &[&str]) -> Output {
    let dir = dir.to_str().unwrap();
    Command::new(idm()).args(arguments).args(["--dir", dir, "--issuers", ISSUERS]).output().unwrap()
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.yaml"), FOLDER).unwrap();
    dir
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn can_i_says_by_what_or_what_is_missing_and_who_can_give_it() {
    let dir = folder();
    let can = |arguments: &[&str]| {
        let output = ask(dir.path(), &[&["can-i"], arguments].concat());
        (output.status.code(), said(&output))
    };
    let (code, text) = can(&["update", "credential/own", "--as", "idp:cara"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("RoleBinding shop/keys gives CredentialManager in team `checkout`"), "{text}");
    for (object, user) in
        [("credential/foreign", "idp:cara"), ("credential/own", "cara"), ("identitypolicy", "idp:cara")]
    {
        let (code, text) = can(&["update", object, "--as", user]);
        assert_eq!(code, Some(1), "{object} {user}: {text}");
        assert!(text.contains("is missing in") && text.contains("it can be given by group leads"), "{text}");
    }
    let (code, text) = can(&["delete", "idrb", "--as", "x", "--as-group", "leads"]);
    assert_eq!(code, Some(0), "{text}");
    for wrong in
        [&["rotate", "federation", "--as", "x"][..], &["fly", "credential", "--as", "x"], &["get", "credential"]]
    {
        assert!(!matches!(can(wrong).0, Some(0)), "{wrong:?}");
    }
    assert!(can(&["update", "credential/none", "--as", "x"]).1.contains("there is no Credential `none`"));
}

#[test]
fn who_can_and_the_matrix_know_every_holder_and_no_caller() {
    let dir = folder();
    let text = said(&ask(dir.path(), &["who-can", "rotate", "credential", "--team", "checkout"]));
    assert!(text.contains("user idp:cara: CredentialManager") && text.contains("group leads: Owner"), "{text}");
    let text = said(&ask(dir.path(), &["who-can", "rotate", "credential"]));
    assert!(!text.contains("cara") && text.contains("group leads"), "{text}");
    let output = ask(dir.path(), &["access-matrix", "--json"]);
    let matrix: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    let cells = matrix["cells"].as_array().unwrap();
    let of = |subject: &str| cells.iter().filter(|cell| cell["subject"] == subject).count();
    // An owner's 31 permissions in the project and in the team, and those of a CredentialManager.
    assert_eq!((of("group leads"), of("user idp:cara"), of("user cara")), (62, 19, 0), "{matrix:#}");
    assert_eq!(matrix["notByIdm"], serde_json::json!([]));
}

/// It is incomplete where webhooks authorize, as in most managed clusters.
#[test]
fn r15_nothing_asks_for_a_summary_of_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for room in ["operator/src", "gateway/cli/src", "crds/permission/src", "charts"] {
        walk(&root.join(room), &mut files);
    }
    let name = ["SelfSubject", "RulesReview"].concat();
    assert!(files.len() > 40);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(!text.contains(&name) && !text.to_lowercase().contains(&name.to_lowercase()), "{}", file.display());
    }
}

fn walk(dir: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() { walk(&path, files) } else { files.push(path) }
    }
}
