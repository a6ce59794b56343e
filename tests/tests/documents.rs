//! The pages under `docs` hold what they show: samples are in order, and links lead somewhere.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use idm_tests::idm;

/// The samples' surroundings: the route and Service that they protect.
const BASE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: shop}
spec: {gatewayClassName: idm, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: orders}
spec:
  parentRefs: [{name: shop}]
  hostnames: [shop.example]
  rules: [{backendRefs: [{name: orders, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: payments}
spec:
  parentRefs: [{name: shop}]
  hostnames: [payments.example]
  rules: [{backendRefs: [{name: orders, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: invoices}
spec:
  parentRefs: [{name: shop}]
  hostnames: [invoices.example]
  rules: [{backendRefs: [{name: orders, port: 80}]}]
---
apiVersion: v1
kind: Service
metadata: {name: orders}
spec: {selector: {app: orders}, ports: [{name: http, port: 80}]}
";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The pages, with their text.
fn pages() -> Vec<(PathBuf, String)> {
    let folders = [root(), root().join("docs"), root().join("docs/api")];
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let paths = files.map(|entry| entry.unwrap().path());
    let pages = paths.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

fn run(arguments: &[&str]) -> std::process::Output {
    let state = tempfile::tempdir().unwrap();
    Command::new(idm()).args(arguments).env("IDM_STATE_DIR", state.path()).output().unwrap()
}

/// A Secret that holds a new private key, as `keyRef` and `secretRef` of JOSE steps want it.
fn key_secret(name: &str, key: &str, kind: &str, algorithm: &str) -> String {
    let jwk = String::from_utf8(run(&["jwk", "new", kind, "--algorithm", algorithm]).stdout).unwrap().replace('\n', "");
    format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData:\n  {key}: '{jwk}'\n")
}

#[test]
fn every_sample_of_a_page_is_in_order() {
    // Secrets that the operator makes, or the reader with the commands that the page names.
    let made = [
        run(&["credential", "new", "--secret", "nightly-key"]).stdout,
        run(&["credential", "new", "--secret", "monthly-report-client", "--client"]).stdout,
        run(&["token", "keys", "--policy", "orders"]).stdout,
        key_secret("enc", "jwks.json", "rsa", "RSA-OAEP-256").into_bytes(),
        key_secret("out", "key", "p256", "ES256").into_bytes(),
    ];
    let mut samples = 0;
    for (page, text) in pages() {
        let blocks: Vec<&str> =
            text.split("```yaml sample\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
        if blocks.is_empty() {
            continue;
        }
        samples += blocks.len();
        let dir = tempfile::tempdir().unwrap();
        let parts = made.iter().map(Vec::as_slice).chain([BASE.as_bytes()]).chain(blocks.iter().map(|b| b.as_bytes()));
        for (number, part) in parts.enumerate() {
            std::fs::write(dir.path().join(format!("{number}.yaml")), part).unwrap();
        }
        let lint = run(&["lint", dir.path().to_str().unwrap()]);
        assert!(lint.status.success(), "{}: {}", page.display(), String::from_utf8_lossy(&lint.stdout));
    }
    assert!(samples >= 7, "{samples} samples were found");
}

/// The anchors that a page's headings make: lower case, spaces as dashes, other marks left out.
fn anchors(text: &str) -> HashSet<String> {
    let headings =
        text.lines().filter_map(|line| line.strip_prefix('#')).map(|line| line.trim_start_matches('#').trim());
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    headings.map(|heading| heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut links = 0;
    for (page, text) in pages() {
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://")) {
            links += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let to = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(to.exists(), "{}: {target}", page.display());
            let found = anchor.is_empty() || anchors(&std::fs::read_to_string(&to).unwrap()).contains(anchor);
            assert!(found, "{}: {target} has no such heading", page.display());
        }
    }
    assert!(links > 20, "{links} links were found");
}
