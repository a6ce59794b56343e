//! A record in plain words.

use std::fmt::Write;

use idm_types::{Reason, Stage};
use serde::Deserialize;
use serde_json::Value;

/// The verdict, then what was checked in order, then what to do. For records whose texts were made visible.
pub(crate) fn explain(record: &Value) -> String {
    let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let mut out = String::new();
    if record["kind"] == "Change" {
        let _ = writeln!(
            out,
            "{} {} {}/{} by {} at {}",
            text("/action"),
            text("/object/kind"),
            text("/object/namespace"),
            text("/object/name"),
            text("/actor"),
            text("/@timestamp")
        );
        for line in record["diff"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let _ = writeln!(out, "  {line}");
        }
        return out;
    }
    let reason = Reason::from_code(text("/reason"));
    let verdict = text("/outcome").to_ascii_uppercase();
    let _ = writeln!(
        out,
        "{verdict} {}{}   {} {}{}",
        record["status"],
        reason.map(|r| format!(" {r}")).unwrap_or_default(),
        text("/request/method"),
        text("/request/host"),
        text("/request/path")
    );
    let _ = writeln!(
        out,
        "decision {} at {} by gateway {} in namespace {} (configuration {})",
        text("/id"),
        text("/@timestamp"),
        text("/gateway"),
        text("/namespace"),
        record["generation"]
    );
    let _ = writeln!(out);
    let mut step = 0;
    let mut line = |good: bool, name: &str, what: String| {
        step += 1;
        let _ = writeln!(out, " {step} {} {name:<13} {what}", if good { "✓" } else { "✗" });
    };
    let failed = failed_at(record);
    // Whether it came to this stage, and whether that went well.
    let came_to = |stage: Stage| failed.is_none_or(|failed| failed >= stage);
    let good = |stage: Stage| failed != Some(stage);
    line(good(Stage::Request), "request", format!("from {}", text("/request/source")));
    if came_to(Stage::Route) {
        let route = if text("/route").is_empty() { "none".to_owned() } else { text("/route").to_owned() };
        line(good(Stage::Route), "route", route);
    }
    if came_to(Stage::Authenticate) && !text("/policy/name").is_empty() {
        let policy = format!(
            "IdentityPolicy {}/{} (generation {})",
            text("/namespace"),
            text("/policy/name"),
            record["policy"]["generation"]
        );
        let method = if text("/policy/method").is_empty() {
            String::new()
        } else {
            format!(", method {}", text("/policy/method"))
        };
        line(good(Stage::Authenticate), "authenticate", format!("{policy}{method}{}", who(record)));
        if !good(Stage::Open) {
            line(false, "open", "what the JOSE steps of the policy name".to_owned());
        }
        if came_to(Stage::Authorize) {
            let rule = if reason == Some(Reason::CredentialNotAllowedHere) {
                "the credential's access list".to_owned()
            } else if text("/policy/rule").is_empty() {
                "being authenticated is enough".to_owned()
            } else {
                format!("rule {}", text("/policy/rule"))
            };
            line(good(Stage::Authorize), "authorize", rule);
        }
        if !good(Stage::Limit) {
            line(false, "limit", "the caller's quota of tokens".to_owned());
        }
        if !good(Stage::Prepare) {
            line(false, "prepare", "what the upstream gets".to_owned());
        }
    }
    if came_to(Stage::Upstream) && record["upstream"].is_string() {
        line(good(Stage::Upstream), "upstream", text("/upstream").to_owned());
    }
    if !good(Stage::Answer) {
        line(false, "answer", "what the policy makes of the upstream's answer".to_owned());
    }
    if record["usage"].is_object() {
        let estimated =
            if record["usage"]["estimated"] == true { " (estimated: the provider told nothing)" } else { "" };
        let (prompt, completion) = (&record["usage"]["prompt_tokens"], &record["usage"]["completion_tokens"]);
        line(
            true,
            "usage",
            format!("{} prompt and completion tokens: {prompt} + {completion}{estimated}", text("/usage/model")),
        );
    }
    if record["issued"].is_object() {
        let scopes = record["issued"]["scopes"]
            .as_array()
            .map(|all| all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "))
            .unwrap_or_default();
        let scopes = if scopes.is_empty() { String::new() } else { format!(", scope {scopes}") };
        line(
            true,
            "issued",
            format!(
                "token {} for {} by {}{scopes}",
                text("/issued/token"),
                text("/issued/subject"),
                text("/issued/grant")
            ),
        );
    }
    if let Some(reason) = reason {
        let _ = writeln!(out, "\nwhy: {}", reason.plain());
        if !text("/detail").is_empty() {
            let _ = writeln!(out, "     {}", text("/detail"));
        }
        let _ = writeln!(out, "fix: {}", reason.fix());
        let _ = writeln!(out, "see: docs/reasons.md#{}", reason.code().to_ascii_lowercase());
    }
    out
}

fn who(record: &Value) -> String {
    let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str);
    match (text("/identity/username"), text("/identity/issuer"), text("/identity/kind")) {
        (Some(name), Some(issuer), _) => format!(": {name}, vouched for by {issuer}"),
        (Some(name), None, Some(kind)) => format!(": {name} ({kind})"),
        (None, _, Some("anonymous")) => ": anonymous".to_owned(),
        _ => String::new(),
    }
}

/// The stage that refused the request; `None` for a request that was let through. Older records have no `stage`: for
/// these it is derived from the fields that the steps before it wrote.
fn failed_at(record: &Value) -> Option<Stage> {
    record.get("reason").filter(|reason| !reason.is_null())?;
    let told = record.get("stage").and_then(|stage| Stage::deserialize(stage).ok());
    Some(told.unwrap_or_else(|| {
        if record["upstream"].is_string() {
            Stage::Upstream
        } else if record.pointer("/policy/rule").is_some() || record["identity"].is_object() {
            Stage::Authorize
        } else if record["policy"].is_object() {
            Stage::Authenticate
        } else if record["route"].is_string() {
            Stage::Route
        } else {
            Stage::Request
        }
    }))
}

#[cfg(test)]
mod tests;
