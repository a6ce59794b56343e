//! Reference pages are written from the code. `just generate` writes them anew.

use std::fmt::Write;
use std::path::Path;

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

#[test]
fn the_page_of_reasons_is_current() {
    let mut page = String::from(
        "# Reasons for refusals\n\nWritten from the catalogue in `crds/types/src/reason.rs`. A reason is a metric label, a field of the audit record and\nthe title of a section here. Callers see the status; only a policy with `disclosure: Detailed` shows them the reason.\n\nAn answer has its decision id in the header `X-Decision-Id`, except where the HTTP library answers before the gateway\nsees a request: to a head on HTTP/1.1 that is malformed (400), larger than 64 KiB or of more than 256 fields (431), and\nto a head on HTTP/2 for which the stream or the connection is reset. Each of them leaves one record with the method `-`:\n`idm audit tail --no-follow --denied` shows its id with the caller's address and the time.\n",
    );
    for &reason in Reason::ALL {
        write!(
            page,
            "\n## {reason}\n\nStatus {}. Cause: {}.\n\nConfirm: `idm explain DECISION-ID` shows what was compared.\n\nFix: {}.\n",
            reason.status(),
            reason.plain(),
            reason.fix()
        )
        .unwrap();
    }
    check("docs/reasons.md", &page);
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
