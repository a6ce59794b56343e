//! A record that was read back. Callers wrote parts of its text, so it can only be read with control characters made
//! visible.

use std::borrow::Cow;

use idm_types::{visible, visible_json};
use serde_json::Value;

use crate::RecordKind;
use crate::explain::{Asked, Explanation, explain};

/// A record as it was stored. Callers wrote parts of it: print it only with [`Self::explain`], [`Self::short`] and
/// [`Self::json`], whose output contains no control character.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRecord {
    value: Value,
    json: String,
}

impl StoredRecord {
    /// Reads a line of a segment; `None` for a line that is not a record.
    pub fn parse(line: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(line).ok().filter(Value::is_object)?;
        Some(Self { json: visible_json(line).into_owned(), value: shown(value) })
    }

    /// A record as Elasticsearch returned it.
    pub fn of(value: Value) -> Self {
        Self { json: visible_json(&value.to_string()).into_owned(), value: shown(value) }
    }

    /// The verdict, then the checks in order, then the remedy. Several lines, each of them written by the gateway.
    pub fn explain(&self) -> String {
        self.explanation().to_string()
    }

    /// The same in parts.
    pub fn explanation(&self) -> Explanation {
        explain(&self.value, Asked::Really)
    }

    /// The same for a record of a request that nobody sent, which is kept nowhere.
    pub fn hypothetical(&self) -> Explanation {
        explain(&self.value, Asked::Hypothetically)
    }

    /// The record as one line of JSON with the same meaning.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// Its fields, with all control characters in texts made visible.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Whether it records a request that was let through.
    pub fn is_permitted(&self) -> bool {
        self.value["outcome"] == "Permitted"
    }

    /// The time of the record: RFC 3339 in UTC with a fixed number of digits, so that sorting these texts sorts by
    /// time.
    pub fn time(&self) -> &str {
        self.text("/@timestamp", "")
    }

    /// Its id.
    pub fn id(&self) -> &str {
        self.text("/id", "")
    }

    /// One line for a human reader.
    pub fn short(&self) -> String {
        let text = |pointer: &str| self.text(pointer, "-");
        if self.value["kind"] == "Change" {
            return format!(
                "{} {:<9} {} {}/{} by {}{}",
                text("/@timestamp"),
                text("/action"),
                text("/object/kind"),
                text("/object/namespace"),
                text("/object/name"),
                text("/actor"),
                crate::explain::evidence(&self.value)
            );
        }
        let reason = self.value["reason"].as_str().map(|reason| format!(" {reason}")).unwrap_or_default();
        format!(
            "{} {:<9} {}{reason} {} {}{} {} {}",
            text("/@timestamp"),
            text("/outcome"),
            self.value["status"],
            text("/request/method"),
            text("/request/host"),
            text("/request/path"),
            text("/identity/username"),
            text("/id")
        )
    }

    /// A decision or a change; `None` for what neither people nor programs ask for.
    pub fn kind(&self) -> Option<RecordKind> {
        self.text("/kind", "").parse().ok()
    }

    /// The outcome of a decision or the action of a change, as [`RecordOutcome::name`](crate::RecordOutcome::name).
    pub fn outcome(&self) -> &str {
        self.text("/outcome", self.text("/action", ""))
    }

    /// The code of the reason of a refusal or failure.
    pub fn reason(&self) -> Option<&str> {
        self.value["reason"].as_str()
    }

    /// The status that the caller of a decision got; 0 when they had disconnected.
    pub fn status(&self) -> Option<u16> {
        self.value["status"].as_u64().and_then(|status| status.try_into().ok())
    }

    /// The caller or the author, for people; empty where nobody is known.
    pub fn who(&self) -> &str {
        let names = ["/actor", "/identity/username", "/identity/id", "/identity/credential", "/identity/kind"];
        names.into_iter().map(|name| self.text(name, "")).find(|name| !name.is_empty()).unwrap_or_default()
    }

    /// How sure the author of a change is: a name of [`Evidence`](crate::Evidence).
    pub fn evidence(&self) -> Option<&str> {
        self.value.pointer("/by/evidence").and_then(Value::as_str)
    }

    /// The tool that a change was made with, in words; `None` where the record does not say it.
    pub fn origin(&self) -> Option<String> {
        crate::explain::origin(&self.value)
    }

    /// The namespace of the policy that decided, or of the object that changed.
    pub fn namespace(&self) -> &str {
        self.text("/object/namespace", self.text("/namespace", ""))
    }

    /// The request as `GET host/path`, or the object as `Kind namespace/name`.
    pub fn title(&self) -> String {
        let text = |pointer: &str| self.text(pointer, "");
        match self.kind() {
            Some(RecordKind::Change) => {
                format!("{} {}/{}", text("/object/kind"), text("/object/namespace"), text("/object/name"))
            }
            _ => format!("{} {}{}", text("/request/method"), text("/request/host"), text("/request/path")),
        }
    }

    /// The address of the caller of a decision.
    pub fn source(&self) -> &str {
        self.text("/request/source", "")
    }

    /// The facts that a decision compared, or the fields that changed.
    pub fn detail(&self) -> String {
        let lines: Vec<&str> = self.texts("detail").chain(self.texts("diff")).collect();
        lines.join("; ")
    }

    /// The texts of a field, which is named by its path with dots. A list on the way stands for its items, as in an
    /// index of a server.
    pub(crate) fn texts<'s>(&'s self, field: &str) -> impl Iterator<Item = &'s str> + use<'s> {
        let mut values = vec![&self.value];
        for name in field.split('.') {
            values = values.into_iter().flat_map(items).filter_map(|value| value.get(name)).collect();
        }
        values.into_iter().flat_map(items).filter_map(Value::as_str)
    }

    /// Whether a field, which is named by its path with dots, has a value.
    pub(crate) fn has(&self, field: &str) -> bool {
        let value = field.split('.').try_fold(&self.value, |value, name| value.get(name));
        value.is_some_and(|value| !value.is_null())
    }

    fn text<'s>(&'s self, pointer: &str, otherwise: &'s str) -> &'s str {
        self.value.pointer(pointer).and_then(Value::as_str).unwrap_or(otherwise)
    }
}

/// The items of a list, or the one value.
fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice)
}

/// Makes the control characters in all texts visible.
fn shown(value: Value) -> Value {
    match value {
        Value::String(text) => match visible(&text) {
            Cow::Borrowed(_) => Value::String(text),
            Cow::Owned(shown) => Value::String(shown),
        },
        Value::Array(items) => items.into_iter().map(shown).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(name, value)| (visible(&name).into_owned(), shown(value))).collect()
        }
        other => other,
    }
}
