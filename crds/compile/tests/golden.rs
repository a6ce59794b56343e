//! Golden plans: for each YAML file in `golden/`, the plan and the findings are kept beside it as JSON. After an
//! intended change, `IDM_UPDATE=1 cargo test -p idm-compile --test golden` writes them anew, and the review shows the
//! change.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use idm_compile::{Compiled, Settings, compile, yaml::read_files};
use serde_json::{Value, json};

/// The inputs. Each has its own test, so that all differences are reported.
const INPUTS: &[&str] = &[
    "directories",
    "directories-refused",
    "jwt",
    "keys",
    "llm",
    "mtls",
    "refused",
    "role-bindings",
    "sign-in",
    "token-service",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The plan without its empty tables, the names of the secrets it refers to, and the findings.
fn outcome(yaml: String) -> Value {
    let settings = Settings { remembers_together: true, ..Settings::default() };
    let (world, _) = read_files(&[("all.yaml".into(), yaml)], settings).expect("the YAML is read");
    let Compiled { plan, secrets, report, .. } = compile(&world, None);
    let mut plan = serde_json::to_value(&plan).expect("a plan is JSON");
    plan.as_object_mut().expect("an object").retain(|_, table| !table.as_array().is_some_and(Vec::is_empty));
    let finding = |finding: &idm_compile::Finding| {
        json!({
            "object": format!("{} {}", finding.object.kind, finding.object.name), "field": finding.path,
            "condition": finding.condition.name(), "cause": finding.cause.name(), "message": finding.message,
        })
    };
    let secrets = serde_json::to_value(&secrets).expect("secrets are JSON");
    let handles: Vec<&String> = secrets.as_object().expect("an object").keys().collect();
    json!({"plan": plan, "secrets": handles, "findings": report.findings().iter().map(finding).collect::<Vec<_>>()})
}

fn check(name: &str) {
    let (input, kept) = (folder().join(format!("{name}.yaml")), folder().join(format!("{name}.json")));
    let outcome = outcome(std::fs::read_to_string(&input).unwrap_or_else(|error| panic!("{input:?}: {error}")));
    if std::env::var_os("IDM_UPDATE").is_some() {
        std::fs::write(&kept, format!("{outcome:#}\n")).expect("written");
    }
    let text = std::fs::read_to_string(&kept).unwrap_or_else(|error| panic!("{kept:?}: {error}"));
    let golden: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{kept:?}: {error}"));
    let differences = differences("", &golden, &outcome);
    assert!(differences.is_empty(), "{name}.yaml compiles to another plan:\n{}", differences.join("\n"));
}

/// The places at which two documents differ, by JSON pointer.
fn differences(at: &str, kept: &Value, found: &Value) -> Vec<String> {
    match (kept, found) {
        (Value::Object(one), Value::Object(other)) => {
            let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            let of = |name| differences(&format!("{at}/{name}"), &kept[name], &found[name]);
            names.into_iter().flat_map(of).collect()
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            let pairs = one.iter().zip(other).enumerate();
            pairs.flat_map(|(i, (one, other))| differences(&format!("{at}/{i}"), one, other)).collect()
        }
        _ if kept == found => Vec::new(),
        _ => vec![format!("{at}: {kept} is now {found}")],
    }
}

#[test]
fn directories() {
    check("directories");
}

#[test]
fn directories_refused() {
    check("directories-refused");
}

#[test]
fn jwt() {
    check("jwt");
}

#[test]
fn keys() {
    check("keys");
}

#[test]
fn llm() {
    check("llm");
}

#[test]
fn mtls() {
    check("mtls");
}

#[test]
fn refused() {
    check("refused");
}

#[test]
fn role_bindings() {
    check("role-bindings");
}

#[test]
fn sign_in() {
    check("sign-in");
}

#[test]
fn token_service() {
    check("token-service");
}

#[test]
fn every_golden_file_has_its_test() {
    let files = std::fs::read_dir(folder()).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap());
    let expected = INPUTS.iter().flat_map(|name| [format!("{name}.yaml"), format!("{name}.json")]);
    assert_eq!(files.collect::<BTreeSet<_>>(), expected.collect::<BTreeSet<_>>());
}

#[test]
fn differences_are_found_wherever_they_are() {
    let kept = json!({"a": [1, {"b": "x"}], "c": null});
    assert_eq!(differences("", &kept, &kept), Vec::<String>::new());
    assert_eq!(differences("", &kept, &json!({"a": [1, {"b": "y"}], "c": null})), ["/a/1/b: \"x\" is now \"y\""]);
    assert_eq!(differences("", &kept, &json!({"a": [1], "c": null})), ["/a: [1,{\"b\":\"x\"}] is now [1]"]);
}
