//! The meaning of an answer: expressions over its status and its body.

use std::borrow::Cow;

use idm_expr::{EvaluationError, Expression, Known, Scope};
use idm_plan::{RestAnswer, Variable};
use idm_trust::{DirectoryError, DirectoryErrorKind, Group, Person};
use serde_json::{Map, Value, json};

use super::client::Answer;

/// A person in more groups is refused.
const MAX_GROUPS: usize = 5_000;
/// Longer names and ids are refused, in bytes.
const MAX_NAME: usize = 1024;

/// How answers are read, ready to be used.
pub(super) struct Reader {
    success: Expression,
    failure: Expression,
    id: Expression,
    username: Expression,
    groups: Option<Expression>,
    claims: Vec<(String, Expression)>,
}

/// The meaning of an answer.
pub(super) enum Said {
    Success(Box<Person>),
    Failure,
}

impl Reader {
    pub(super) fn arm(plan: &RestAnswer) -> Result<Self, String> {
        let RestAnswer { success, failure, id, username, groups, claims } = plan;
        let claims = claims.iter().map(|(name, expr)| Ok((name.clone(), Expression::arm(expr)?)));
        Ok(Self {
            success: Expression::arm(success)?,
            failure: Expression::arm(failure)?,
            id: Expression::arm(id)?,
            username: Expression::arm(username)?,
            groups: groups.as_ref().map(Expression::arm).transpose()?,
            claims: claims.collect::<Result<_, String>>()?,
        })
    }

    /// Reads an answer. The error never shows its body.
    pub(super) fn read(&self, answer: &Answer) -> Result<Said, DirectoryError> {
        let seen = Seen(json!({"status": answer.status, "body": body(answer)?}));
        let status = answer.status;
        match (is_true(&self.success, &seen)?, is_true(&self.failure, &seen)?) {
            (true, true) => Err(unusable(format!("both `success` and `failure` are true for its answer {status}"))),
            (false, true) => Ok(Said::Failure),
            (true, false) => self.person(&seen).map(|person| Said::Success(Box::new(person))),
            (false, false) => Err(unusable(match &answer.redirects_to {
                Some(to) => format!("it answered {status}, a redirect to {to}, which is not followed"),
                None => format!("neither `success` nor `failure` is true for its answer {status}"),
            })),
        }
    }

    fn person(&self, seen: &Seen) -> Result<Person, DirectoryError> {
        let mut claims = Map::new();
        for (name, expression) in &self.claims {
            let value = EvaluationError::absent(expression.value(seen)).map_err(|error| unusable(error.to_string()))?;
            claims.extend(value.filter(|value| !value.is_null()).map(|value| (name.clone(), value)));
        }
        let id = match value(&self.id, seen)? {
            // Numbers of databases are ids too; one with a fraction is read in several ways.
            Value::Number(number) if number.is_u64() || number.is_i64() => number.to_string(),
            other => name(other, "id")?,
        };
        let groups = self.groups.as_ref().map(|groups| value(groups, seen)).transpose()?;
        Ok(Person {
            id,
            username: name(value(&self.username, seen)?, "user name")?,
            claims,
            groups: read_groups(groups.unwrap_or_default())?,
        })
    }
}

/// The groups, each once: a list of names. A list that is missing is an error, so that nobody is let in because a group
/// that forbids it was not read; `null` is a list without groups.
fn read_groups(value: Value) -> Result<Vec<Group>, DirectoryError> {
    let names = match value {
        Value::Null => vec![],
        Value::Array(names) => names,
        _ => return Err(unusable("the groups of its answer are not a list")),
    };
    if names.len() > MAX_GROUPS {
        let why = format!("the service names {} groups of one person: {MAX_GROUPS} are taken", names.len());
        return Err(DirectoryError::new(DirectoryErrorKind::TooManyGroups, why));
    }
    let mut seen = std::collections::HashSet::with_capacity(names.len());
    let mut groups = Vec::with_capacity(names.len());
    for group in names {
        let name = name(group, "name of a group")?;
        if seen.insert(name.clone()) {
            groups.push(Group { name, ids: vec![], dn: None });
        }
    }
    Ok(groups)
}

/// The body as JSON; `null` where there is none.
fn body(answer: &Answer) -> Result<Value, DirectoryError> {
    match idm_jose::parse_document(&answer.body) {
        Ok(body) => Ok(body),
        Err(_) if !answer.is_json || answer.body.is_empty() => Ok(Value::Null),
        Err(error) => {
            // The message of a parser may quote what it read.
            let (line, column) = (error.line(), error.column());
            Err(unusable(format!("its answer {} is not JSON from line {line}, column {column}", answer.status)))
        }
    }
}

/// Whether a condition is true; what has no value is not.
fn is_true(condition: &Expression, seen: &Seen) -> Result<bool, DirectoryError> {
    let truth = EvaluationError::absent(condition.holds(seen)).map_err(|error| unusable(error.to_string()))?;
    Ok(truth.unwrap_or_default())
}

fn value(expression: &Expression, seen: &Seen) -> Result<Value, DirectoryError> {
    expression.value(seen).map_err(|error| unusable(format!("{error} of the answer")))
}

fn name(value: Value, what: &str) -> Result<String, DirectoryError> {
    let Value::String(name) = value else { return Err(unusable(format!("the {what} of its answer is not a text"))) };
    let wrong = match name.len() {
        0 => "is empty",
        MAX_NAME.. => "is too long",
        _ if name.chars().any(char::is_control) => "holds a control character",
        _ => return Ok(name),
    };
    Err(unusable(format!("the {what} of its answer {wrong}")))
}

fn unusable(why: impl Into<String>) -> DirectoryError {
    DirectoryError::new(DirectoryErrorKind::Unusable, why)
}

/// An answer as expressions see it: `token.status` and `token.body`.
struct Seen(Value);

impl Scope for Seen {
    fn variable(&self, variable: Variable) -> Option<Known<'_>> {
        (variable == Variable::Token).then_some(Known::Value(Cow::Borrowed(&self.0)))
    }

    /// A value that is named by its place alone is copied at no cost: an answer is bounded, and five thousand groups
    /// cost more than one expression may.
    fn at(&self, variable: Variable, path: &[String]) -> Option<Known<'_>> {
        let found = self.variable(variable)?.below(path)?;
        Some(found.into_value().into())
    }
}

#[cfg(test)]
mod tests;
