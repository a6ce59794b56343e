//! The borders: who may depend on whom, what pure rooms may not touch, and no file outside every crate.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Every allowed edge. A new one needs a reason in the commit that adds it.
const EDGES: &[(&str, &[&str])] = &[
    ("idm-types", &[]),
    ("idm-permission", &[]),
    // api has the words of permissions in its fields, and compile reads bindings as permission judges them.
    ("idm-api", &["idm-permission", "idm-types"]),
    ("idm-diff", &["idm-api", "idm-permission"]),
    ("idm-plan", &["idm-types"]),
    ("idm-envelope", &["idm-types"]),
    ("idm-jose", &["idm-types"]),
    ("idm-expr", &["idm-plan", "idm-types"]),
    ("idm-password", &["idm-plan"]),
    ("idm-saml", &["idm-types"]),
    ("idm-signature", &[]),
    // compile reads key sets, metadata and hashes of passwords, so that a broken one is a finding and not a surprise in
    // the gateway.
    (
        "idm-compile",
        &[
            "idm-api",
            "idm-expr",
            "idm-jose",
            "idm-password",
            "idm-permission",
            "idm-plan",
            "idm-saml",
            // It knows which components a signature can cover.
            "idm-signature",
            "idm-types",
        ],
    ),
    ("idm-audit", &["idm-types"]),
    ("idm-bulkhead", &["idm-types"]),
    // store keeps counters, whose arithmetic limit has.
    // store, trust, directory and gateway tell the span of each question that they ask for a request.
    ("idm-store", &["idm-bulkhead", "idm-limit", "idm-traces", "idm-types"]),
    ("idm-session", &["idm-store", "idm-types"]),
    // request names the keys under which an identity's session is revoked, and the digests that a caller signed.
    ("idm-request", &["idm-expr", "idm-jose", "idm-plan", "idm-signature", "idm-store", "idm-types"]),
    ("idm-trust", &["idm-jose", "idm-plan", "idm-traces", "idm-types"]),
    // directory reads the answers of services with the reader that refuses duplicate members.
    (
        "idm-directory",
        &[
            "idm-bulkhead",
            "idm-expr",
            "idm-jose",
            "idm-metrics",
            "idm-password",
            "idm-plan",
            "idm-traces",
            "idm-trust",
            "idm-types",
        ],
    ),
    ("idm-limit", &["idm-types"]),
    ("idm-metrics", &["idm-types"]),
    ("idm-traces", &["idm-types"]),
    (
        "idm-authn",
        &[
            "idm-expr",
            "idm-jose",
            "idm-limit",
            "idm-password",
            "idm-plan",
            "idm-request",
            "idm-saml",
            "idm-session",
            "idm-signature",
            "idm-store",
            "idm-trust",
            "idm-types",
        ],
    ),
    ("idm-sign-in", &["idm-authn", "idm-plan", "idm-request", "idm-saml", "idm-session", "idm-store", "idm-types"]),
    ("idm-authz", &["idm-authn", "idm-expr", "idm-plan", "idm-request", "idm-types"]),
    ("idm-transform", &["idm-expr", "idm-jose", "idm-limit", "idm-plan", "idm-request", "idm-trust", "idm-types"]),
    ("idm-issue", &["idm-authn", "idm-expr", "idm-jose", "idm-plan", "idm-request", "idm-store", "idm-types"]),
    (
        "idm-decide",
        &[
            // The record of a decision is made where the decision is; who stores it is another matter.
            "idm-audit",
            "idm-authn",
            "idm-authz",
            "idm-issue",
            // The state behind the answer's fields about limits.
            "idm-limit",
            "idm-plan",
            "idm-request",
            "idm-sign-in",
            "idm-store",
            "idm-transform",
            "idm-trust",
            "idm-types",
        ],
    ),
    // proxy performs decisions: what it knows of the rooms behind them is how use is counted and which roots are there.
    (
        "idm-proxy",
        &[
            "idm-audit",
            "idm-decide",
            "idm-metrics",
            "idm-plan",
            "idm-traces",
            "idm-transform",
            "idm-trust",
            "idm-types",
        ],
    ),
    (
        "idm-gateway",
        &[
            "idm-audit",
            "idm-authn",
            "idm-bulkhead",
            "idm-compile",
            "idm-decide",
            "idm-directory",
            "idm-envelope",
            "idm-jose",
            "idm-metrics",
            "idm-plan",
            "idm-proxy",
            "idm-store",
            "idm-traces",
            "idm-trust",
            "idm-types",
        ],
    ),
    (
        "idm-operator",
        &["idm-api", "idm-audit", "idm-compile", "idm-diff", "idm-envelope", "idm-permission", "idm-plan", "idm-types"],
    ),
    // manager shows what the compiler, the audit and hypothetical decisions say; of a folder it asks the gateway that
    // serves it, whose spool takes the records of changes.
    (
        "idm-manager",
        &[
            "idm-api",
            "idm-audit",
            "idm-compile",
            "idm-decide",
            "idm-diff",
            "idm-envelope",
            "idm-gateway",
            "idm-jose",
            "idm-permission",
            "idm-plan",
            "idm-saml",
            "idm-types",
        ],
    ),
    (
        "idm",
        &[
            "idm-api",
            "idm-audit",
            "idm-compile",
            "idm-decide",
            "idm-envelope",
            "idm-gateway",
            "idm-jose",
            "idm-manager",
            "idm-operator",
            "idm-permission",
            "idm-plan",
            "idm-saml",
            "idm-store",
            "idm-types",
        ],
    ),
    // The tests decide in their own process too, with the product's code.
    (
        "idm-tests",
        &[
            "idm-compile",
            "idm-decide",
            "idm-gateway",
            "idm-jose",
            "idm-proxy",
            "idm-store",
            "idm-transform",
            "idm-types",
        ],
    ),
    ("idm-e2e", &["idm-jose", "idm-permission", "idm-types"]),
];

/// The crates that must not be direct dependencies of a room: IO, clients and runtimes in pure rooms, Kubernetes in the
/// data plane.
const NEVER: &[(&str, &[&str])] = &[
    ("idm-types", &["tokio", "reqwest", "hyper"]),
    ("idm-permission", &["tokio", "reqwest", "hyper", "kube", "k8s-openapi"]),
    ("idm-diff", &["tokio", "reqwest", "hyper"]),
    ("idm-plan", &["tokio", "reqwest", "hyper", "kube"]),
    ("idm-envelope", &["reqwest", "hyper", "kube", "redis"]),
    ("idm-jose", &["tokio", "reqwest", "hyper", "kube"]),
    ("idm-saml", &["tokio", "reqwest", "hyper", "kube"]),
    ("idm-signature", &["tokio", "reqwest", "hyper", "kube"]),
    ("idm-expr", &["tokio", "reqwest", "hyper", "kube"]),
    ("idm-compile", &["tokio", "reqwest", "hyper"]),
    ("idm-password", &["tokio", "reqwest", "hyper", "kube"]),
    ("idm-authz", &["tokio", "reqwest", "hyper", "kube"]),
    ("idm-request", &["tokio", "reqwest", "hyper", "kube", "redis"]),
    ("idm-trust", &["reqwest", "hyper", "kube", "redis"]),
    ("idm-directory", &["kube", "redis"]),
    ("idm-limit", &["reqwest", "hyper", "kube", "redis"]),
    ("idm-metrics", &["tokio", "reqwest", "hyper", "kube", "redis"]),
    ("idm-traces", &["reqwest", "hyper", "kube", "redis"]),
    ("idm-bulkhead", &["reqwest", "hyper", "kube", "redis"]),
    ("idm-authn", &["reqwest", "hyper", "kube", "redis"]),
    ("idm-transform", &["tokio", "reqwest", "hyper", "kube"]),
    ("idm-issue", &["tokio", "reqwest", "hyper", "kube", "redis"]),
    ("idm-sign-in", &["tokio", "reqwest", "hyper", "kube", "redis"]),
    ("idm-session", &["tokio", "reqwest", "hyper", "kube", "redis"]),
    ("idm-store", &["hyper", "kube"]),
    ("idm-decide", &["reqwest", "hyper", "hyper-util", "kube", "k8s-openapi", "redis"]),
    ("idm-proxy", &["reqwest", "kube", "k8s-openapi"]),
    ("idm-audit", &["kube", "hyper"]),
];

fn metadata() -> cargo_metadata::Metadata {
    MetadataCommand::new()
        .manifest_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"))
        .no_deps()
        .exec()
        .unwrap()
}

fn direct(kind: DependencyKind) -> BTreeMap<String, BTreeSet<String>> {
    let names = |package: &cargo_metadata::Package| {
        package.dependencies.iter().filter(|d| d.kind == kind).map(|d| d.name.clone()).collect()
    };
    metadata().packages.iter().map(|package| (package.name.to_string(), names(package))).collect()
}

#[test]
fn rooms_depend_only_on_the_rooms_they_may() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        EDGES.iter().map(|(room, edges)| (*room, edges.iter().copied().collect())).collect();
    for (room, dependencies) in direct(DependencyKind::Normal) {
        let ours: BTreeSet<&str> =
            dependencies.iter().map(String::as_str).filter(|name| allowed.contains_key(name)).collect();
        let may = allowed.get(room.as_str()).unwrap_or_else(|| panic!("{room} is not in the list of rooms"));
        assert_eq!(&ours, may, "{room}: left what it uses, right what the list says");
    }
}

#[test]
fn pure_rooms_stay_pure() {
    let direct = direct(DependencyKind::Normal);
    for (room, never) in NEVER {
        let found: Vec<_> = never.iter().filter(|name| direct[*room].contains(**name)).collect();
        assert!(found.is_empty(), "{room} must not use {found:?}");
    }
}

fn files(dir: &Path, extension: &str, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let apart = ["target", ".git", "state", "fuzz", "witnesses", "node_modules"];
        if path.is_dir() && !apart.iter().any(|other| name == *other) {
            files(&path, extension, out);
        } else if path.extension().is_some_and(|e| e == extension) {
            out.push(path);
        }
    }
}

/// A file that no `mod` names is not compiled, and its tests silently stop running.
#[test]
fn every_source_file_belongs_to_a_crate() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let mut reached = BTreeSet::new();
    for package in metadata().packages {
        for target in package.targets {
            reach(target.src_path.as_std_path(), true, &mut reached);
        }
    }
    let mut all = Vec::new();
    files(&root, "rs", &mut all);
    let orphans: Vec<_> = all.iter().filter(|path| !reached.contains(*path)).collect();
    assert!(orphans.is_empty(), "no mod names {orphans:#?}");
    assert!(all.len() > 60, "the walk found the sources");
}

fn reach(file: &Path, is_root: bool, reached: &mut BTreeSet<PathBuf>) {
    let Ok(text) = std::fs::read_to_string(file) else { return };
    reached.insert(file.canonicalize().unwrap());
    let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
    let dir = if is_root || stem == "mod" { file.parent().unwrap().to_owned() } else { file.with_extension("") };
    for line in text.lines() {
        let line = line.trim().trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        if let Some(name) = line.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) {
            reach(&dir.join(format!("{name}.rs")), false, reached);
            reach(&dir.join(name).join("mod.rs"), false, reached);
        }
    }
}

/// A memory that takes callers for authenticated is for requests that nobody sends.
#[test]
fn nothing_but_an_explanation_assumes_a_caller() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let mut all = Vec::new();
    files(&root, "rs", &mut all);
    let own = root.join("tests/tests/rooms.rs");
    let assume = |path: &&PathBuf| std::fs::read_to_string(path).unwrap().contains("Memory::assuming");
    let found: Vec<_> = all.iter().filter(|path| **path != own).filter(assume).collect();
    let expected = ["gateway/authn/src/assumed.rs", "gateway/decide/src/offline/hypothetical.rs"];
    let found: BTreeSet<_> = found.into_iter().cloned().collect();
    assert_eq!(found, expected.map(|path| root.join(path)).into_iter().collect());
}

#[test]
fn no_crate_of_ours_may_hold_unsafe_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let workspace = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    assert!(workspace.contains("unsafe_code = \"forbid\""));
    for package in metadata().packages {
        let manifest = std::fs::read_to_string(&package.manifest_path).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{} does not take the workspace's lints", package.name);
    }
}
