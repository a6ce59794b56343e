//! Explains a record in plain words.

use std::fmt::{self, Write};

use idm_types::{Reason, Stage};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One check of a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Its name: `request`, `route`, `authenticate` and so on.
    pub name: &'static str,
    /// Whether the request passed.
    pub ok: bool,
    /// The facts that were compared, or found.
    pub text: String,
}

/// The explanation of a record: the verdict, the checks in order, the remedy. No text in it has a control character
/// but line feeds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// The verdict, and of which decision it is: lines.
    pub verdict: String,
    /// The checks; none for a change.
    pub steps: Vec<Step>,
    /// The reason of a refusal, and the remedy: lines; empty for a request that was let through.
    pub advice: String,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.verdict)?;
        for (i, Step { name, ok, text }) in self.steps.iter().enumerate() {
            writeln!(f, " {} {} {name:<13} {text}", i + 1, if *ok { "✓" } else { "✗" })?;
        }
        f.write_str(&self.advice)
    }
}

/// The request that a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Somebody sent it.
    Really,
    /// It was not sent: the record was made for its explanation, and is kept nowhere.
    Hypothetically,
}

/// For records whose texts were made visible.
pub(crate) fn explain(record: &Value, asked: Asked) -> Explanation {
    if record["kind"] == "Change" {
        return Explanation { verdict: change(record), ..Explanation::default() };
    }
    let mut steps = Steps { all: Vec::new(), failed: failed_at(record) };
    steps.until_authentication(record);
    // A preflight has no caller.
    let has_caller = record["stage"] != "preflight" && !text(record, "/policy/name").is_empty();
    if steps.came_to(Stage::Authenticate) && has_caller {
        steps.by_policy(record);
    }
    steps.upstream(record);
    steps.outcome(record);
    steps.observed_block(record);
    steps.shadows(record);
    Explanation { verdict: verdict(record, asked), steps: steps.all, advice: advice(record) }
}

fn text<'r>(record: &'r Value, pointer: &str) -> &'r str {
    record.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// How sure the author of a change is; nothing for records that do not say it.
pub(crate) fn evidence(record: &Value) -> String {
    let evidence = text(record, "/by/evidence");
    if evidence.is_empty() { String::new() } else { format!(" ({evidence})") }
}

/// The tool that a change was made with, and what it was told to apply, as far as the record says it.
pub(crate) fn origin(record: &Value) -> Option<String> {
    let text = |pointer: &str| Some(text(record, pointer)).filter(|text| !text.is_empty());
    let tool = text("/origin/tool")?;
    let application = text("/origin/application").map(|name| format!(", {name}")).unwrap_or_default();
    let revision = text("/origin/revision").map(|revision| format!(" at {revision}")).unwrap_or_default();
    let copied = if record["origin"]["mismatched"] == true { ", with the mark of another object" } else { "" };
    Some(format!("with {tool}{application}{revision}{copied} (asserted)"))
}

fn change(record: &Value) -> String {
    let text = |pointer: &str| text(record, pointer);
    let (kind, namespace, name) = (text("/object/kind"), text("/object/namespace"), text("/object/name"));
    let (action, actor, time) = (text("/action"), text("/actor"), text("/@timestamp"));
    let mut out = format!("{action} {kind} {namespace}/{name} by {actor}{} at {time}\n", evidence(record));
    if record["between"].is_object() {
        let from = Some(text("/between/from")).filter(|from| !from.is_empty()).unwrap_or("an unknown time");
        let _ = writeln!(out, "  nobody watched: it happened between {from} and {}", text("/between/to"));
    }
    if let Some(origin) = origin(record) {
        let _ = writeln!(out, "  {origin}");
    }
    for line in record["diff"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let _ = writeln!(out, "  {line}");
    }
    out
}

fn reason(record: &Value) -> Option<Reason> {
    Reason::from_code(text(record, "/reason"))
}

fn verdict(record: &Value, asked: Asked) -> String {
    let text = |pointer: &str| text(record, pointer);
    let outcome = text("/outcome").to_ascii_uppercase();
    let reason = reason(record).map(|reason| format!(" {reason}")).unwrap_or_default();
    let (method, host, path) = (text("/request/method"), text("/request/host"), text("/request/path"));
    let (id, time, gateway, namespace) = (text("/id"), text("/@timestamp"), text("/gateway"), text("/namespace"));
    let (status, generation) = (&record["status"], &record["generation"]);
    if asked == Asked::Hypothetically {
        // The upstream would have given the status of a request that is permitted.
        let status =
            status.as_u64().filter(|status| *status > 0).map(|status| format!(" {status}")).unwrap_or_default();
        return format!(
            "{outcome}{status}{reason}   {method} {host}{path}\n\
             at {time} in namespace {namespace}; nobody asked: nothing was sent, counted or recorded\n\n"
        );
    }
    let trace = text("/trace/id");
    let trace = if trace.is_empty() { String::new() } else { format!("trace {trace}\n") };
    format!(
        "{outcome} {status}{reason}   {method} {host}{path}\n\
         decision {id} at {time} by gateway {gateway} in namespace {namespace} (configuration {generation})\n{trace}\n"
    )
}

/// The checks, in order.
struct Steps {
    all: Vec<Step>,
    failed: Option<Stage>,
}

impl Steps {
    /// Whether the request reached this stage.
    fn came_to(&self, stage: Stage) -> bool {
        self.failed.is_none_or(|failed| failed >= stage)
    }

    fn line(&mut self, ok: bool, name: &'static str, what: impl fmt::Display) {
        self.all.push(Step { name, ok, text: what.to_string() });
    }

    /// A stage that every request reaches, or that this one reached.
    fn stage(&mut self, stage: Stage, name: &'static str, what: impl fmt::Display) {
        self.line(self.failed != Some(stage), name, what);
    }

    /// A stage that is shown only where it refused.
    fn refused_at(&mut self, stage: Stage, name: &'static str, what: &str) {
        if self.failed == Some(stage) {
            self.line(false, name, what);
        }
    }

    fn until_authentication(&mut self, record: &Value) {
        self.stage(Stage::Request, "request", format_args!("from {}", text(record, "/request/source")));
        if self.came_to(Stage::Route) {
            let route = Some(text(record, "/route")).filter(|route| !route.is_empty());
            self.stage(Stage::Route, "route", route.unwrap_or("none"));
        }
        if record["stage"] == "preflight" {
            self.stage(Stage::Preflight, "preflight", "a browser asks for a script of another origin");
        }
    }

    fn by_policy(&mut self, record: &Value) {
        let text = |pointer: &str| text(record, pointer);
        let (namespace, name, generation) = (text("/namespace"), text("/policy/name"), &record["policy"]["generation"]);
        let method = Some(text("/policy/method")).filter(|method| !method.is_empty());
        let method = method.map(|method| format!(", method {method}")).unwrap_or_default();
        let policy = format!("IdentityPolicy {namespace}/{name} (generation {generation}){method}{}", who(record));
        self.stage(Stage::Authenticate, "authenticate", policy);
        self.refused_at(Stage::Open, "open", "what the JOSE steps of the policy name");
        if self.came_to(Stage::Authorize) {
            let rule = if reason(record) == Some(Reason::CredentialNotAllowedHere) {
                "the credential's access list".to_owned()
            } else if text("/policy/rule").is_empty() {
                "being authenticated is enough".to_owned()
            } else {
                format!("rule {}", text("/policy/rule"))
            };
            let names = record["policy"]["baselines"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let names = names.collect::<Vec<_>>().join(", ");
            let rule = if names.is_empty() { rule } else { format!("{rule}, and the baseline of {names}") };
            self.stage(Stage::Authorize, "authorize", rule);
        }
        let limit = Some(text("/limit")).filter(|limit| !limit.is_empty());
        self.refused_at(Stage::Limit, "limit", limit.unwrap_or("the caller's limits"));
        self.refused_at(Stage::Prepare, "prepare", "what the upstream gets");
    }

    fn upstream(&mut self, record: &Value) {
        if self.came_to(Stage::Upstream) && record["upstream"].is_string() {
            let mirrors = record["mirrors"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let mirrors: String = mirrors.map(|mirror| format!(", copied to {mirror}")).collect();
            self.stage(Stage::Upstream, "upstream", format!("{}{mirrors}", text(record, "/upstream")));
        }
        self.refused_at(Stage::Answer, "answer", "what the policy makes of the upstream's answer");
    }

    /// Policies that judged and changed nothing. What they would have refused is no check that failed.
    fn shadows(&mut self, record: &Value) {
        for shadow in record["shadow"].as_array().into_iter().flatten() {
            let text = |pointer: &str| text(shadow, pointer);
            let part = if shadow["baseline"] == true { "the baseline of IdentityPolicy" } else { "IdentityPolicy" };
            let verdict = match text("/outcome") {
                "Permitted" => "would have permitted it".to_owned(),
                "Denied" => format!("would have refused it: {}", text("/reason")),
                _ => format!("did not judge it: {}", text("/reason")),
            };
            let rule = Some(text("/rule")).filter(|rule| !rule.is_empty());
            let rule = rule.map(|rule| format!(" (rule {rule})")).unwrap_or_default();
            let detail = Some(text("/detail")).filter(|detail| !detail.is_empty());
            let detail = detail.map(|detail| format!(", {detail}")).unwrap_or_default();
            let (name, generation) = (text("/policy"), &shadow["generation"]);
            let what = format!("{part} {name} (generation {generation}) {verdict}{rule}{detail}; it is not enforced");
            self.line(true, "shadow", what);
        }
    }

    /// A block that only watched. One that refused is the reason itself.
    fn observed_block(&mut self, record: &Value) {
        if record["block"]["observed"] == true {
            let (rule, ends) = (text(record, "/block/rule"), text(record, "/block/ends"));
            let what = format!(
                "a block of the address until {ends} (rule {rule}) would have refused it: AddressBlocked; it is only \
                 observed"
            );
            self.line(true, "block", what);
        }
    }

    /// Tokens that were used or issued.
    fn outcome(&mut self, record: &Value) {
        let text = |pointer: &str| text(record, pointer);
        let usage = &record["usage"];
        if usage.is_object() {
            let estimated = if usage["estimated"] == true { " (estimated: the provider told nothing)" } else { "" };
            let (model, prompt, completion) =
                (text("/usage/model"), &usage["prompt_tokens"], &usage["completion_tokens"]);
            let used = format!("{model} prompt and completion tokens: {prompt} + {completion}{estimated}");
            self.line(true, "usage", used);
        }
        if record["issued"].is_object() {
            let scopes = record["issued"]["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let scopes = scopes.collect::<Vec<_>>().join(" ");
            let scopes = if scopes.is_empty() { scopes } else { format!(", scope {scopes}") };
            let (token, subject, grant) = (text("/issued/token"), text("/issued/subject"), text("/issued/grant"));
            self.line(true, "issued", format!("token {token} for {subject} by {grant}{scopes}"));
        }
    }
}

/// The reason of the refusal, and the remedy.
fn advice(record: &Value) -> String {
    let mut out = String::new();
    let Some(reason) = reason(record) else { return out };
    let _ = writeln!(out, "\nwhy: {}", reason.plain());
    let detail = text(record, "/detail");
    if !detail.is_empty() {
        let _ = writeln!(out, "     {detail}");
    }
    let _ = writeln!(out, "fix: {}", reason.fix());
    let _ = writeln!(out, "see: docs/reasons.md#{}", reason.code().to_ascii_lowercase());
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
