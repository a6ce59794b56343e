//! A record that was read back. Its text is a caller's, so there is no way to it but shown safely.

use std::borrow::Cow;

use idm_types::{visible, visible_json};
use serde_json::Value;

/// A record as it was stored. Callers wrote parts of it: what is printed of it comes from [`Self::explain`],
/// [`Self::short`] and [`Self::json`], in which no control character is left.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRecord {
    value: Value,
    json: String,
}

impl StoredRecord {
    /// Reads a line of a segment; `None` for what is no record.
    pub fn parse(line: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(line).ok().filter(Value::is_object)?;
        Some(Self { json: visible_json(line).into_owned(), value: shown(value) })
    }

    /// A record as Elasticsearch gave it back.
    pub fn of(value: Value) -> Self {
        Self { json: visible_json(&value.to_string()).into_owned(), value: shown(value) }
    }

    /// The verdict, then what was checked in order, then what to do. Several lines, each of them ours.
    pub fn explain(&self) -> String {
        crate::explain::explain(&self.value)
    }

    /// The record as one line of JSON with the same meaning.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// Whether it tells of something that was let through.
    pub fn is_permitted(&self) -> bool {
        self.value["outcome"] == "Permitted"
    }

    /// When it happened: RFC 3339 in UTC with a fixed number of digits, so that the order of these texts is that of
    /// the times.
    pub fn time(&self) -> &str {
        self.text("/@timestamp", "")
    }

    /// Its id.
    pub fn id(&self) -> &str {
        self.text("/id", "")
    }

    /// One line for people.
    pub fn short(&self) -> String {
        let text = |pointer: &str| self.text(pointer, "-");
        if self.value["kind"] == "Change" {
            return format!(
                "{} {:<9} {} {}/{} by {}",
                text("/@timestamp"),
                text("/action"),
                text("/object/kind"),
                text("/object/namespace"),
                text("/object/name"),
                text("/actor")
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

    fn text<'s>(&'s self, pointer: &str, otherwise: &'s str) -> &'s str {
        self.value.pointer(pointer).and_then(Value::as_str).unwrap_or(otherwise)
    }
}

/// Every text in it, made visible.
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
