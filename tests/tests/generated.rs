//! Reference pages and the README's picture are written from the code. `just generate` writes them anew.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use idm_types::Reason;
use serde_json::Value;

fn check(name: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    if std::env::var_os("IDM_UPDATE").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap_or_default() == expected,
        "{name} is out of date: run `just generate`"
    );
}

/// The head of the page of reasons.
const REASONS: &str = "\
# Reasons for refusals

Written from the catalogue in `crds/types/src/reason.rs`. A reason is a metric label, a field of the audit record and
the title of a section here. Callers see the status; only a policy with `disclosure: Detailed` shows them the reason.

Begin with the decision id, which an answer has in its body and in the header `X-Decision-Id`. `ID` stands for it below:

- `idm explain ID` where `idm demo` or `idm run` has its records (`--audit-dir`, or the default folder);
- `idm explain ID --elasticsearch URL` where records are shipped there;
- `kubectl exec deploy/idm-gateway -- /idm explain ID --audit-dir /var/lib/idm/audit` in the pod that decided.

It prints what was checked, `why:` with a line of what was compared, and `fix:`. Log and metrics are those of the
gateway: `kubectl logs deploy/idm-gateway`, and `/-/metrics` on port 8081.

An answer has no decision id where the HTTP library answers before the gateway sees a request: to a head on HTTP/1.1
that is malformed (400), larger than 64 KiB or of more than 256 fields (431), and to a head on HTTP/2 for which the
stream or the connection is reset. Each of them leaves one record with the method `-`: `idm audit tail --no-follow
--denied` shows its id with the caller's address and the time.
";

#[test]
fn the_page_of_reasons_is_current() {
    let mut page = String::from(REASONS);
    for &reason in Reason::ALL {
        write!(
            page,
            "\n## {reason}\n\nStatus {}. Cause: {}.\n\nConfirm: {}.\n\nFix: {}.\n",
            reason.status(),
            reason.plain(),
            reason.confirm(),
            reason.fix()
        )
        .unwrap();
    }
    check("docs/reasons.md", &page);
}

#[test]
fn the_picture_in_the_readme_is_what_the_demo_prints() {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/picture");
    let output = Command::new(tool).arg(idm_tests::idm()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    check("docs/denied-explained-allowed.svg", &String::from_utf8(output.stdout).unwrap());
}

/// The verbs of each `idm …` in the text: `audit tail` of "`idm audit tail --denied`".
fn verbs(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let commands = text.split('`').skip(1).step_by(2).filter_map(|code| code.strip_prefix("idm "));
    commands.map(|command| {
        let is_verb = |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase());
        command.split_whitespace().take_while(is_verb).collect()
    })
}

#[test]
fn the_commands_that_reasons_name_exist() {
    let texts = Reason::ALL.iter().flat_map(|reason| [reason.confirm(), reason.fix()]);
    let commands: BTreeSet<Vec<&str>> = texts.flat_map(verbs).collect();
    assert!(commands.contains(&vec!["audit", "tail"]) && commands.contains(&vec!["explain"]), "{commands:?}");
    for command in commands {
        let help = Command::new(idm_tests::idm()).args(&command).arg("--help").output().unwrap();
        let usage = format!("Usage: idm {}", command.join(" "));
        assert!(String::from_utf8_lossy(&help.stdout).contains(&usage), "`idm {}`", command.join(" "));
    }
}

#[test]
fn the_page_of_fields_is_current() {
    let mut page = String::from("# Fields\n\nWritten from the CRDs: the same text as `kubectl explain`.\n");
    for crd in idm_api::crds() {
        let crd = serde_json::to_value(&crd).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        write!(
            page,
            "\n## {}\n\n{}\n\n| field | type | meaning |\n|---|---|---|\n",
            crd["spec"]["names"]["kind"].as_str().unwrap(),
            text(&schema["properties"]["spec"])
        )
        .unwrap();
        rows("spec", &schema["properties"]["spec"], &mut page);
        rows("status", &schema["properties"]["status"], &mut page);
    }
    check("docs/fields.md", &page);
}

fn text(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().replace(['\n', '|'], " ")
}

fn rows(path: &str, schema: &Value, page: &mut String) {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let list = property["type"] == "array";
        let path = format!("{path}.{name}{}", if list { "[]" } else { "" });
        if path.contains("conditions[]") {
            continue;
        }
        let must = if required.contains(&name.as_str()) { ", required" } else { "" };
        writeln!(page, "| `{path}` | {}{must} | {} |", property["type"].as_str().unwrap_or("any"), text(property))
            .unwrap();
        rows(&path, if list { &property["items"] } else { property }, page);
    }
}

/// The plain manifests have the chart's CRDs. The rest of them is compared with the chart where helm is at hand, by the
/// end-to-end suite.
#[test]
fn the_plain_manifests_have_the_charts_crds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let manifests = std::fs::read_to_string(root.join("config/default/install.yaml")).unwrap();
    let mut documents: Vec<String> = manifests.split("---\n").map(str::to_owned).collect();
    for kind in ["credentials", "credentialrequests", "federations", "identitypolicies", "rolebindings", "usageplans"] {
        let name = format!("crd-{kind}.yaml");
        let template = std::fs::read_to_string(root.join("charts/idm/templates").join(&name)).unwrap();
        let lines = template.lines().filter(|line| !line.starts_with("{{"));
        let source = format!("# Source: idm/templates/{name}\n");
        let crd = lines.fold(source.clone(), |text, line| text + line + "\n");
        let document = documents.iter_mut().find(|document| document.starts_with(&source));
        *document.unwrap_or_else(|| panic!("install.yaml has no {name}")) = crd;
    }
    check("config/default/install.yaml", &documents.join("---\n"));
}
