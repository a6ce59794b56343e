//! The table as it is written, and how an expectation is compared.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value};

/// One file of tests.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Table {
    /// The folder with the policies, relative to the file.
    pub(crate) policies: PathBuf,
    pub(crate) tests: Vec<Test>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Test {
    pub(crate) name: String,
    pub(crate) request: Request,
    /// The caller who sends it. Unset sends no credential.
    #[serde(default, rename = "as")]
    pub(crate) caller: Option<Caller>,
    pub(crate) expect: Expect,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Request {
    #[serde(default = "get")]
    pub(crate) method: String,
    pub(crate) host: String,
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) body: String,
}

fn get() -> String {
    "GET".into()
}

/// The caller that is played: exactly one of the members.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Caller {
    /// A token.
    pub(crate) token: Option<TokenCaller>,
    /// The API key of this Credential.
    pub(crate) api_key: Option<String>,
    /// User name and password of this Credential, with `Basic`.
    pub(crate) password: Option<String>,
}

/// A token of an issuer with these claims; `aud`, `sub` and `exp` are filled in where they are missing.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TokenCaller {
    pub(crate) issuer: String,
    #[serde(default)]
    pub(crate) claims: Map<String, Value>,
}

/// The expected outcome. Members that are unset are not compared.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Expect {
    /// `Permitted`, `Denied` or `Failed`.
    pub(crate) decision: String,
    /// The reason of a refusal.
    pub(crate) reason: Option<String>,
    /// The policy that decided.
    pub(crate) policy: Option<String>,
    /// Its method that recognised the caller.
    pub(crate) method: Option<String>,
    /// The authorization rule that granted or refused.
    pub(crate) rule: Option<String>,
    /// Headers that the upstream gets; `null` means that it does not get them.
    #[serde(default)]
    pub(crate) upstream: BTreeMap<String, Option<String>>,
}

/// The outcome of a request.
#[derive(Debug, Default)]
pub(crate) struct Got {
    /// `Permitted`, `Denied` or `Failed`.
    pub(crate) decision: &'static str,
    pub(crate) reason: Option<String>,
    pub(crate) policy: Option<String>,
    pub(crate) method: Option<String>,
    pub(crate) rule: Option<String>,
    /// The values that were compared.
    pub(crate) detail: String,
    /// The headers of the upstream's request; none where nothing is forwarded.
    pub(crate) upstream: BTreeMap<String, String>,
}

impl Expect {
    pub(crate) fn compare(&self, got: &Got) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |what: &str, expected: Option<&str>, got: Option<&str>| {
            let got = got.unwrap_or("none");
            if let Some(expected) = expected.filter(|expected| *expected != got) {
                problems.push(format!("{what}: expected {expected}, got {got}"));
            }
        };
        check("decision", Some(&self.decision), Some(got.decision));
        check("reason", self.reason.as_deref(), got.reason.as_deref());
        check("policy", self.policy.as_deref(), got.policy.as_deref());
        check("method", self.method.as_deref(), got.method.as_deref());
        check("rule", self.rule.as_deref(), got.rule.as_deref());
        for (name, expected) in &self.upstream {
            let header = got.upstream.get(&name.to_ascii_lowercase());
            let shown = |value: Option<&String>| value.map_or_else(|| "none".to_owned(), |value| format!("`{value}`"));
            if header != expected.as_ref() {
                let (expected, got) = (shown(expected.as_ref()), shown(header));
                problems.push(format!("upstream header {name}: expected {expected}, got {got}"));
            }
        }
        if !problems.is_empty() && !got.detail.is_empty() {
            problems.push(format!("the gateway says: {}", got.detail));
        }
        problems
    }
}
