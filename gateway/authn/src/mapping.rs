//! From claims to attributes, and from attributes to headers.

use http::{HeaderName, HeaderValue};
use idm_jose::Claims;
use idm_plan::{Expr, HeaderMapping, Variable};
use idm_types::RoleName;
use serde_json::Value;

use crate::Identity;

const MAX_ITEMS: usize = 1000;

/// A text claim that is safe to use as a name: not empty, bounded, without control characters.
pub(crate) fn name_at(claims: &Claims, expr: &Expr) -> Option<String> {
    let text = match claims.at(&expr.path)? {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    is_printable(&text).then_some(text).filter(|text| !text.is_empty() && text.len() <= 512 && text.trim() == text)
}

fn is_printable(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// A list of texts, or one text split at spaces.
pub(crate) fn list_at(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => text.split_ascii_whitespace().take(MAX_ITEMS).map(str::to_owned).collect(),
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).filter(|item| is_printable(item)).take(MAX_ITEMS).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// The usable roles among `names`: what is not a role name grants nothing.
pub(crate) fn roles(names: Vec<String>) -> Vec<String> {
    names.into_iter().filter(|name| name.parse::<RoleName>().is_ok()).collect()
}

pub(crate) fn attribute_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Array(items) => Some(join(items.iter().filter_map(attribute_text))),
        Value::Null | Value::Object(_) => None,
    }
}

/// Joins with commas; a comma or percent sign inside an item is escaped, so that no item can look like two.
fn join(items: impl Iterator<Item = String>) -> String {
    items.map(|item| item.replace('%', "%25").replace(',', "%2C")).collect::<Vec<_>>().join(",")
}

/// The headers for the upstream; a value that cannot travel in a header is an error, for half a story
/// about the caller is worse than none.
pub(crate) fn headers(mappings: &[HeaderMapping], identity: &Identity, claims: Option<&Claims>) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let mut out = Vec::with_capacity(mappings.len());
    for HeaderMapping { name, value } in mappings {
        let Some(text) = evaluate(value, identity, claims) else { continue };
        let unusable = || format!("`{value}` holds characters that cannot travel in the header `{name}`");
        if text.chars().any(char::is_control) || text.len() > 8192 {
            return Err(unusable());
        }
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unusable())?;
        out.push((name, HeaderValue::from_bytes(text.as_bytes()).map_err(|_| unusable())?));
    }
    Ok(out)
}

fn evaluate(expr: &Expr, identity: &Identity, claims: Option<&Claims>) -> Option<String> {
    let member = expr.path.first().map(String::as_str).unwrap_or_default();
    let list = |items: &[String]| Some(join(items.iter().cloned())).filter(|joined| !joined.is_empty());
    let attribute = |name: Option<&String>| identity.attributes.iter().find(|(n, _)| Some(n) == name).map(|(_, v)| v.clone());
    let known = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    match (expr.variable, member) {
        (Variable::Token, _) => claims?.at(&expr.path).and_then(attribute_text),
        (Variable::Identity, "id") => known(&identity.id),
        (Variable::Identity, "username") => known(&identity.username),
        (Variable::Identity, "roles") => list(&identity.roles),
        (Variable::Identity, "groups") => list(&identity.groups),
        (Variable::Identity, "scopes") => list(&identity.scopes),
        (Variable::Identity, "issuer") => identity.issuer.clone(),
        (Variable::Identity, "method") => known(identity.method.as_str()),
        (Variable::Identity, "attributes") => attribute(expr.path.get(1)),
        (Variable::Credential, "name") => identity.credential.clone(),
        (Variable::Credential, "owner") => identity.owner.clone(),
        (Variable::Credential, "roles") => identity.credential.as_ref().and_then(|_| list(&identity.roles)),
        (Variable::Credential, "attributes") => identity.credential.as_ref().and_then(|_| attribute(expr.path.get(1))),
        (Variable::Identity | Variable::Credential, _) => None,
    }
}
