//! Maps claims to attributes, and attributes to headers.

use http::{HeaderName, HeaderValue};
use idm_expr::{EvaluationError, Expression};
use idm_jose::exact_integer;
use idm_plan::{HeaderMapping, IdentityMapping, Policy, Variable};
use idm_types::{RoleName, visible};
use serde_json::Value;

use crate::{Facts, Unusable};

const MAX_ITEMS: usize = 1000;
/// The dropped names that are told, and the characters of each.
const MAX_NAMED: usize = 5;
const MAX_SHOWN: usize = 64;

/// The mappings of one policy, ready to be evaluated.
pub struct ArmedMapping {
    /// The human-readable name.
    pub username: Option<Expression>,
    /// Roles.
    pub roles: Option<Expression>,
    /// Groups.
    pub groups: Option<Expression>,
    /// Further attributes, by name.
    pub attributes: Vec<(String, Expression)>,
    headers: Vec<ArmedHeader>,
    /// Whether any expression reads claims after the identity was made.
    pub keeps_claims: bool,
}

struct ArmedHeader {
    name: HeaderName,
    value: Expression,
    /// Its value is the same for every request of one caller, so it is computed once.
    of_caller: bool,
}

impl ArmedMapping {
    /// Arms the mappings of a policy. The error names the expression that cannot be used.
    pub fn arm(policy: &Policy) -> Result<Self, String> {
        let IdentityMapping { username, roles, groups, attributes } = &policy.identity;
        let arm = |expr: &Option<_>| expr.as_ref().map(Expression::arm).transpose();
        let headers = policy.upstream.headers.iter().map(|HeaderMapping { name, value }| {
            let value = Expression::arm(value)?;
            let of_caller = Variable::ALL.iter().all(|variable| variable.is_of_caller() || !value.uses(*variable));
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is not a header name"))?;
            Ok(ArmedHeader { name, value, of_caller })
        });
        let headers = headers.collect::<Result<Vec<_>, String>>()?;
        let conditions = policy
            .rules
            .iter()
            .filter_map(|rule| rule.when.as_ref())
            .map(Expression::arm)
            .collect::<Result<Vec<_>, _>>()?;
        let later = headers.iter().filter(|header| !header.of_caller).map(|header| &header.value).chain(&conditions);
        Ok(Self {
            username: arm(username)?,
            roles: arm(roles)?,
            groups: arm(groups)?,
            attributes: attributes
                .iter()
                .map(|(name, expr)| Ok((name.clone(), Expression::arm(expr)?)))
                .collect::<Result<_, String>>()?,
            // JOSE steps may sign claims of the token too.
            keeps_claims: policy.keeps_claims
                || !policy.jose.is_empty()
                || later.into_iter().any(|expression| expression.uses(Variable::Token)),
            headers,
        })
    }

    /// The headers that are the same for every request of a caller, or those that are not. A value that cannot be
    /// computed or cannot be sent in a header is an error, because incomplete facts about the caller are worse than
    /// none.
    pub fn headers(&self, of_caller: bool, facts: &Facts<'_>) -> Result<Vec<(HeaderName, HeaderValue)>, Unusable> {
        let mut out = Vec::new();
        for header in self.headers.iter().filter(|header| header.of_caller == of_caller) {
            let value = match header.value.value(facts) {
                Ok(value) => value,
                Err(EvaluationError::Missing(_)) => continue,
                Err(error) => return Err(error.into()),
            };
            let Some(text) = attribute_text(&value).filter(|text| !text.is_empty()) else { continue };
            let unusable = || {
                format!("`{}` holds characters that cannot travel in the header `{}`", header.value.plan(), header.name)
            };
            if text.chars().any(char::is_control) || text.len() > 8192 {
                return Err(unusable().into());
            }
            out.push((header.name.clone(), HeaderValue::from_bytes(text.as_bytes()).map_err(|_| unusable())?));
        }
        Ok(out)
    }
}

/// A value that is safe as a name: not empty, bounded, without control characters.
pub fn name(value: Option<Value>) -> Option<String> {
    let text = match value? {
        // Some sources have only lists, even for members with a single value.
        Value::Array(items) => match <[Value; 1]>::try_from(items) {
            Ok([Value::String(text)]) => text,
            _ => return None,
        },
        Value::String(text) => text,
        // Rounded, a number would be the name of another caller.
        number @ Value::Number(_) => exact_integer(&number)?,
        _ => return None,
    };
    is_printable(&text).then_some(text).filter(|text| !text.is_empty() && text.len() <= 512 && text.trim() == text)
}

fn is_printable(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// A list of texts, or one text split at spaces.
pub fn list(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => text.split_ascii_whitespace().take(MAX_ITEMS).map(str::to_owned).collect(),
        Some(Value::Array(items)) => items
            .iter()
            .filter_map(Value::as_str)
            .filter(|item| is_printable(item))
            .take(MAX_ITEMS)
            .map(str::to_owned)
            .collect(),
        _ => Vec::new(),
    }
}

/// The usable roles among `names`, and the others in words: what is not a role name grants nothing.
pub fn roles(names: Vec<String>) -> (Vec<String>, Option<String>) {
    let (roles, dropped): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| name.parse::<RoleName>().is_ok());
    let shown = |name: &String| format!("`{}`", visible(&name.chars().take(MAX_SHOWN).collect::<String>()));
    let some: Vec<String> = dropped.iter().take(MAX_NAMED).map(shown).collect();
    let more = dropped.len().saturating_sub(MAX_NAMED);
    let words = match (some.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(some.join(", ")),
        (false, more) => Some(format!("{} and {more} more", some.join(", "))),
    };
    (roles, words)
}

/// A value as the text of a header or an attribute; `None` for a value without a text form.
pub fn attribute_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Array(items) => Some(join(items.iter().filter_map(attribute_text))),
        Value::Null | Value::Object(_) => None,
    }
}

/// Joins with commas; a comma or percent sign inside an item is escaped, so that no item can be read as two.
fn join(items: impl Iterator<Item = String>) -> String {
    items.map(|item| item.replace('%', "%25").replace(',', "%2C")).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f26_names_that_are_no_roles_are_told_short_and_visible() {
        let of = |names: &[&str]| roles(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(of(&["reader", "writer"]), (vec!["reader".into(), "writer".into()], None));
        let (kept, dropped) = of(&["Order Writer", "reader", "/orders/admin", "SHOP\\ana", "CN=x,OU=y"]);
        assert_eq!(kept, ["reader"]);
        assert!(
            dropped.as_deref().is_some_and(|text| text.starts_with("`Order Writer`, `/orders/admin`")),
            "{dropped:?}"
        );
        let long = format!(" \u{1b}[2J\u{202e}{}", "x".repeat(9999));
        let (_, dropped) = roles(vec![long; 900]);
        let dropped = dropped.expect("names were dropped");
        assert!(dropped.len() < 600 && dropped.ends_with(" and 895 more"), "{dropped}");
        assert!(!dropped.contains(['\u{1b}', '\u{202e}']), "{dropped}");
    }

    #[test]
    fn f14_a_number_that_was_rounded_names_nobody() {
        let of = |json: &str| name(Some(serde_json::from_str(json).expect("JSON")));
        assert_eq!(of("4711").as_deref(), Some("4711"));
        for rounded in ["18446744073709551616", "1e30", "4711.5", "-0.0"] {
            assert_eq!(of(rounded), None, "{rounded}");
        }
    }
}
