use std::fmt;

use serde::{Deserialize, Serialize};

/// The source of a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Expr {
    /// A variable and a path into it: the part of CEL that most mappings use (`token.realm_access.roles`,
    /// `token["https://example.com/roles"]`). It has its own variant because it needs no interpreter.
    Member {
        /// The variable the path starts from.
        variable: Variable,
        /// The members to follow, outermost first.
        path: Vec<String>,
    },
    /// A CEL expression.
    Cel(String),
}

/// The variables that an expression may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Variable {
    /// The verified claims of a token.
    Token,
    /// The identity made of the claims: `id`, `username`, `roles`, `groups`, `scopes`, `issuer`, `method`,
    /// `attributes.NAME`.
    Identity,
    /// The Credential that matched: `name`, `owner`, `roles`, `attributes.NAME`.
    Credential,
    /// The request: `method`, `host`, `path`, `query`, `headers.NAME`, `parameters.NAME`.
    Request,
    /// The caller's address: `address`.
    Source,
    /// The gateway's own place: `namespace`, `gateway`, `policy`. It contains no environment variables of the process.
    Env,
    /// The results of the policy's JOSE steps, by the name of the step.
    Jose,
    /// The time, in whole seconds since the epoch.
    Now,
    /// A request to a language model: `model`, `maxTokens`, `tools`, `stream`, `text`. Only rules about prompts
    /// have it.
    Llm,
}

impl Variable {
    /// Every variable that a request has.
    pub const ALL: &'static [Variable] = &[
        Variable::Token,
        Variable::Identity,
        Variable::Credential,
        Variable::Request,
        Variable::Source,
        Variable::Env,
        Variable::Jose,
        Variable::Now,
    ];

    /// The name as expressions write it.
    pub const fn name(self) -> &'static str {
        match self {
            Variable::Token => "token",
            Variable::Identity => "identity",
            Variable::Credential => "credential",
            Variable::Request => "request",
            Variable::Source => "source",
            Variable::Env => "env",
            Variable::Jose => "jose",
            Variable::Now => "now",
            Variable::Llm => "llm",
        }
    }

    /// The variable of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().chain([Variable::Llm]).find(|variable| variable.name() == name)
    }

    /// Whether its value is the same for every request of one caller with one credential.
    pub const fn is_of_caller(self) -> bool {
        matches!(self, Variable::Token | Variable::Identity | Variable::Credential)
    }

    /// The members of the variable, where they are known in advance.
    pub const fn members(self) -> Option<&'static [&'static str]> {
        match self {
            Variable::Identity => Some(IDENTITY_MEMBERS),
            Variable::Credential => Some(CREDENTIAL_MEMBERS),
            Variable::Request => Some(&["method", "host", "path", "query", "headers", "parameters"]),
            Variable::Source => Some(&["address"]),
            Variable::Env => Some(&["namespace", "gateway", "policy"]),
            Variable::Llm => Some(&["model", "maxTokens", "tools", "stream", "text"]),
            Variable::Token | Variable::Jose | Variable::Now => None,
        }
    }
}

const IDENTITY_MEMBERS: &[&str] = &["id", "username", "roles", "groups", "scopes", "issuer", "method", "attributes"];
const CREDENTIAL_MEMBERS: &[&str] = &["name", "owner", "roles", "attributes"];
const MAX_DEPTH: usize = 8;

impl Expr {
    /// Reads a plain member access. `None`: the text is another kind of expression. An error: the text is a member
    /// access that cannot be valid; the error says what would be.
    pub fn member(text: &str) -> Option<Result<Self, String>> {
        let name_end = text.find(['.', '[']).unwrap_or(text.len());
        let (name, mut rest) = text.split_at(name_end);
        let variable = Variable::from_name(name)?;
        let mut path = Vec::new();
        while !rest.is_empty() {
            let (member, after) = if let Some(quoted) = rest.strip_prefix("[\"") {
                quoted.split_once("\"]")?
            } else {
                let plain = rest.strip_prefix('.')?;
                let (member, after) = plain.split_at(plain.find(['.', '[']).unwrap_or(plain.len()));
                (is_identifier(member).then_some(member)?, after)
            };
            if member.is_empty() || member.contains('\\') {
                return None;
            }
            path.push(member.to_owned());
            rest = after;
        }
        let Some(first) = path.first() else {
            return (variable != Variable::Now).then(|| Err(format!("`{text}` must name a member of `{name}`")));
        };
        if let Some(known) = variable.members() {
            let nested = ["attributes", "headers", "parameters"].contains(&first.as_str());
            if !known.contains(&first.as_str()) || path.len() != if nested { 2 } else { 1 } {
                let known: Vec<_> = known.iter().map(|member| format!("`{name}.{member}`")).collect();
                return Some(Err(format!("`{text}` must be one of {}", known.join(", "))));
            }
        }
        if path.len() > MAX_DEPTH {
            return Some(Err(format!("`{text}` must not be deeper than {MAX_DEPTH} members")));
        }
        Some(Ok(Expr::Member { variable, path }))
    }
}

fn is_identifier(member: &str) -> bool {
    member.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && member.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (variable, path) = match self {
            Expr::Cel(text) => return f.write_str(text),
            Expr::Member { variable, path } => (variable, path),
        };
        f.write_str(variable.name())?;
        for member in path {
            if is_identifier(member) { write!(f, ".{member}")? } else { write!(f, "[\"{member}\"]")? }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_access_reads_back() {
        for text in [
            "token.sub",
            "token.realm_access.roles",
            "token[\"https://example.com/roles\"].names",
            "identity.attributes.tenant",
            "request.headers[\"x-a\"]",
        ] {
            assert_eq!(Expr::member(text).unwrap().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_not_a_member_access_is_left_to_cel_and_what_cannot_be_is_refused() {
        for text in ["sub", "token.a == 1", "token.a-b", "token[\"x\"", "token.a..b", "token[\"x\"]y", "now"] {
            assert_eq!(Expr::member(text), None, "{text}");
        }
        for (text, advice) in [
            ("token", "must name a member"),
            ("identity.shoe_size", "must be one of"),
            ("request.headers", "must be one of"),
            ("token.a.b.c.d.e.f.g.h.i", "deeper"),
        ] {
            let error = Expr::member(text).unwrap().unwrap_err();
            assert!(error.contains(advice), "{text}: {error}");
        }
    }
}
