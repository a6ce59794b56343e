//! The fields that changed, in words. Values come out only where the schema or the list of names below says that they
//! cannot be secrets; of every other field it is only said that it changed.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::{Map, Value};

use crate::Content;

const MOST: usize = 100;
const MOST_CHARS: usize = 200;

/// Strings that are shown although the schema lets them be anything: names of things and people, by the end of the
/// field's path. Expressions, URLs, headers' values, texts and file contents are not among them.
const NAMES: &[&str] = &[
    // The names of entries, by which status and records speak of them.
    "methods[].name",
    "limits[].name",
    "rules[].name",
    "jose[].name",
    // References.
    "Ref.name",
    "Ref.key",
    "Ref.kind",
    "Refs[].name",
    "targetRefs[].kind",
    "targetRefs[].group",
    "targetRefs[].sectionName",
    // Grants.
    "spec.role",
    "spec.roles[]",
    "spec.replaces[]",
    "selects.roles[]",
    "provisioning.role",
    "roleMappings[].roles[]",
    "subjects[].user",
    "subjects[].group",
    "subjects[].credential",
    "subjects[].issuer",
    "serviceAccount.name",
    "serviceAccount.namespace",
    "team.name",
    "owner.user",
    "owner.application",
    "person.user",
    "credential.roles[]",
    "requester.username",
    "by.username",
    "oauthClient.clientId",
    "oauthClient.scopes[]",
    // Limits and hours.
    "timeZone",
    "hours[].from",
    "hours[].to",
    "cost.amount",
    "cost.currency",
    // Language models.
    "models[]",
    "exceptModels[]",
    "prices.currency",
    "prices.models[].model",
    "prices.models[].prompt",
    "prices.models[].cachedPrompt",
    "prices.models[].completion",
];

/// The schemas of the specs, by kind.
static SCHEMAS: LazyLock<BTreeMap<String, JSONSchemaProps>> = LazyLock::new(|| {
    let spec_of =
        |crd: k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition| {
            let schema = crd.spec.versions.into_iter().next()?.schema?.open_api_v3_schema?;
            Some((crd.spec.names.kind, schema.properties?.remove("spec")?))
        };
    idm_api::crds().into_iter().filter_map(spec_of).collect()
});

/// Reads the schemas, which takes a while: not where anything else waits for it.
pub fn prepare() {
    LazyLock::force(&SCHEMAS);
}

/// The lines for a change from one content to another; `None` is an object that is not there.
pub fn diff(kind: &str, old: Option<&Content>, new: Option<&Content>) -> Vec<String> {
    let mut lines = Lines::default();
    let part = |content: Option<&Content>, name: &str| content.map(|c| c.value()[name].clone()).unwrap_or_default();
    let (old_spec, new_spec) = (part(old, "spec"), part(new, "spec"));
    match SCHEMAS.get(kind) {
        Some(schema) => lines.compare(&At::root(schema), &old_spec, &new_spec),
        None if old_spec != new_spec => lines.push("spec: changed".into()),
        None => {}
    }
    lines.metadata(&part(old, "metadata"), &part(new, "metadata"));
    if lines.left_out > 0 {
        lines.out.push(format!("and {} more", lines.left_out));
    }
    lines.out
}

/// A place in a spec: its path for people, its path in the schema, and its schema, if there is one.
struct At<'s> {
    shown: String,
    path: String,
    schema: Option<&'s JSONSchemaProps>,
}

impl<'s> At<'s> {
    fn root(schema: &'s JSONSchemaProps) -> Self {
        Self { shown: "spec".into(), path: "spec".into(), schema: Some(schema) }
    }

    /// A member; `None` where the schema knows no such member: its name may be anything.
    fn member(&self, name: &str) -> Option<Self> {
        let schema = self.schema?;
        let known = schema.properties.as_ref().and_then(|properties| properties.get(name));
        known.map(|known| Self {
            shown: format!("{}.{name}", self.shown),
            path: format!("{}.{name}", self.path),
            schema: Some(known),
        })
    }

    fn item(&self, key: &str) -> Self {
        let items = self.schema.and_then(|schema| match &schema.items {
            Some(JSONSchemaPropsOrArray::Schema(items)) => Some(&**items),
            _ => None,
        });
        Self { shown: format!("{}[{key}]", self.shown), path: format!("{}[]", self.path), schema: items }
    }

    fn list_keys(&self) -> &'s [String] {
        self.schema.and_then(|schema| schema.x_kubernetes_list_map_keys.as_deref()).unwrap_or_default()
    }

    /// The values of a map whose names anybody chooses.
    fn is_map(&self) -> bool {
        let values = self.schema.and_then(|schema| schema.additional_properties.as_ref());
        matches!(values, Some(JSONSchemaPropsOrBool::Schema(_)))
            || self.schema.and_then(|s| s.x_kubernetes_preserve_unknown_fields) == Some(true)
    }

    /// Whether a value that is no object and no list may be shown.
    fn may_show(&self, value: &Value) -> bool {
        let Some(schema) = self.schema else { return false };
        match value {
            Value::Null | Value::Bool(_) => true,
            Value::Number(_) => matches!(schema.type_.as_deref(), Some("integer" | "number")),
            Value::String(_) => {
                schema.enum_.is_some()
                    || schema.format.as_deref() == Some("date-time")
                    || NAMES.iter().any(|name| self.path.ends_with(name))
            }
            _ => false,
        }
    }
}

struct Lines {
    out: Vec<String>,
    left_out: usize,
    /// Of a line about an entry, in characters.
    longest: usize,
}

impl Default for Lines {
    fn default() -> Self {
        Self { out: Vec::new(), left_out: 0, longest: MOST_CHARS }
    }
}

impl Lines {
    fn push(&mut self, line: String) {
        if self.out.len() < MOST { self.out.push(line) } else { self.left_out += 1 }
    }

    fn compare(&mut self, at: &At<'_>, old: &Value, new: &Value) {
        if old == new {
            return;
        }
        if at.is_map() {
            return self.push(format!("{}: {}", at.shown, how(old, new)));
        }
        match (old, new) {
            (Value::Object(_), Value::Object(_) | Value::Null) | (Value::Null, Value::Object(_)) => {
                let empty = Map::new();
                let (a, b) = (old.as_object().unwrap_or(&empty), new.as_object().unwrap_or(&empty));
                if a.is_empty() && b.is_empty() {
                    return self.push(format!("{}: {}", at.shown, how(old, new)));
                }
                let names: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
                for name in names {
                    let (a, b) = (a.get(name).unwrap_or(&Value::Null), b.get(name).unwrap_or(&Value::Null));
                    match at.member(name) {
                        Some(member) => self.compare(&member, a, b),
                        None if a != b => self.push(format!("{}: {}", at.shown, how(old, new))),
                        None => {}
                    }
                }
            }
            (Value::Array(_), Value::Array(_) | Value::Null) | (Value::Null, Value::Array(_)) => {
                let (a, b) =
                    (old.as_array().map_or(&[][..], Vec::as_slice), new.as_array().map_or(&[][..], Vec::as_slice));
                if at.list_keys().is_empty() { self.plain_list(at, a, b) } else { self.keyed_list(at, a, b) }
            }
            _ => self.leaf(at, old, new),
        }
    }

    fn leaf(&mut self, at: &At<'_>, old: &Value, new: &Value) {
        if at.may_show(old) && at.may_show(new) {
            self.push(format!("{}: {} -> {}", at.shown, short(old), short(new)));
        } else {
            self.push(format!("{}: {}", at.shown, how(old, new)));
        }
    }

    /// Entries that have a key are the same entry wherever they stand.
    fn keyed_list(&mut self, at: &At<'_>, old: &[Value], new: &[Value]) {
        let keys = at.list_keys();
        let key = |entry: &Value| keys.iter().map(|name| entry[name].clone()).collect::<Vec<_>>();
        for entry in old {
            let same = new.iter().find(|other| key(other) == key(entry));
            let place = at.item(&name_of(at, keys, entry, old));
            match same {
                Some(same) => self.compare(&place, entry, same),
                None => self.entry(&place, "removed", entry),
            }
        }
        for entry in new.iter().filter(|entry| !old.iter().any(|other| key(other) == key(entry))) {
            let place = at.item(&name_of(at, keys, entry, new));
            self.entry(&place, "added", entry);
        }
        let in_both = |of: &[Value], others: &[Value]| {
            of.iter().map(key).filter(|k| others.iter().any(|other| key(other) == *k)).collect::<Vec<_>>()
        };
        if in_both(old, new) != in_both(new, old) {
            self.push(format!("{}: in another order", at.shown));
        }
    }

    /// Entries without a key: those that are in both are the same, one that was replaced by one is compared with it.
    fn plain_list(&mut self, at: &At<'_>, old: &[Value], new: &[Value]) {
        let mut added: Vec<(usize, &Value)> = new.iter().enumerate().collect();
        let mut removed = Vec::new();
        for (index, entry) in old.iter().enumerate() {
            match added.iter().position(|(_, other)| *other == entry) {
                Some(found) => drop(added.remove(found)),
                None => removed.push((index, entry)),
            }
        }
        match (&removed[..], &added[..]) {
            ([], []) => self.push(format!("{}: in another order", at.shown)),
            ([(index, from)], [(other, to)]) if index == other && from.is_object() => {
                self.compare(&at.item(&index.to_string()), from, to);
            }
            _ => {
                removed.iter().for_each(|(_, entry)| self.entry(&at.item(""), "removed", entry));
                added.iter().for_each(|(_, entry)| self.entry(&at.item(""), "added", entry));
            }
        }
    }

    /// A whole entry came or went; what may be shown of it is.
    fn entry(&mut self, at: &At<'_>, what: &str, entry: &Value) {
        let mut shown = Vec::new();
        summary(at, "", entry, &mut shown);
        let shown = if shown.is_empty() { String::new() } else { format!(" ({})", shown.join(", ")) };
        self.push(cut_to(format!("{}: {what}{shown}", at.shown), self.longest));
    }

    fn metadata(&mut self, old: &Value, new: &Value) {
        for (part, shows) in [("labels", true), ("annotations", false)] {
            let empty = Map::new();
            let (a, b) = (old[part].as_object().unwrap_or(&empty), new[part].as_object().unwrap_or(&empty));
            let names: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            for name in names {
                let (a, b) = (a.get(name).unwrap_or(&Value::Null), b.get(name).unwrap_or(&Value::Null));
                if a == b {
                    continue;
                }
                let line = if shows && name == idm_permission::TEAM_LABEL {
                    format!("{} -> {}", short(a), short(b))
                } else {
                    how(a, b).to_owned()
                };
                self.push(format!("metadata.{part}[{name}]: {line}"));
            }
        }
        let names = |value: &Value, name: &str| -> Vec<String> {
            let text = |item: &Value| match item.as_str() {
                Some(finalizer) => finalizer.to_owned(),
                None => format!(
                    "{} {}",
                    item["kind"].as_str().unwrap_or_default(),
                    item["name"].as_str().unwrap_or_default()
                ),
            };
            value[name].as_array().into_iter().flatten().map(text).collect()
        };
        for part in ["finalizers", "ownerReferences"] {
            if old[part] == new[part] {
                continue;
            }
            let (a, b) = (names(old, part), names(new, part));
            let gone = a.iter().filter(|name| !b.contains(name)).map(|name| format!("removed {name}"));
            let come = b.iter().filter(|name| !a.contains(name)).map(|name| format!("added {name}"));
            let mut all: Vec<_> = gone.chain(come).collect();
            if all.is_empty() {
                all.push("changed".into());
            }
            self.push(cut(format!("metadata.{part}: {}", all.join(", "))));
        }
        if old["deletionRequested"] != new["deletionRequested"] && !new.is_null() {
            self.push("metadata.deletionTimestamp: set".into());
        }
    }
}

/// The name of an entry: its key if that may be shown, and its place otherwise.
fn name_of(at: &At<'_>, keys: &[String], entry: &Value, all: &[Value]) -> String {
    let item = at.item("");
    let shown = |name: &String| {
        let value = &entry[name];
        item.member(name).filter(|member| member.may_show(value)).map(|_| match value.as_str() {
            Some(text) => text.to_owned(),
            None => value.to_string(),
        })
    };
    let names: Option<Vec<String>> = keys.iter().map(shown).collect();
    let place = || all.iter().position(|other| other == entry).unwrap_or_default().to_string();
    names.map_or_else(place, |names| cut(names.join(",")))
}

/// The values of an entry that may be shown.
fn summary(at: &At<'_>, name: &str, value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Object(members) if !at.is_map() => {
            for (name, value) in members {
                at.member(name).into_iter().for_each(|member| summary(&member, name, value, out));
            }
        }
        Value::Array(items) => items.iter().for_each(|item| summary(&at.item(""), name, item, out)),
        Value::Null | Value::Object(_) => {}
        leaf if at.may_show(leaf) => {
            let text = leaf.as_str().map_or_else(|| leaf.to_string(), str::to_owned);
            out.push(if name.is_empty() { text } else { format!("{name} {text}") });
        }
        _ => {}
    }
}

fn how(old: &Value, new: &Value) -> &'static str {
    match (old.is_null(), new.is_null()) {
        (true, _) => "set",
        (_, true) => "removed",
        _ => "changed",
    }
}

fn short(value: &Value) -> String {
    match value {
        Value::Null => "(none)".to_owned(),
        Value::String(text) => cut(text.clone()),
        other => other.to_string(),
    }
}

fn cut(text: String) -> String {
    cut_to(text, MOST_CHARS)
}

fn cut_to(text: String, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests;
