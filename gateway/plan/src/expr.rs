use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a mapped value comes from: a variable and a path into it.
///
/// The written form is the member-access part of CEL (`token.realm_access.roles`,
/// `token["https://example.com/roles"]`, `identity.username`), so that every mapping written today
/// stays valid when whole CEL expressions are read one day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expr {
    /// The variable the path starts from.
    pub variable: Variable,
    /// The members to follow, outermost first.
    pub path: Vec<String>,
}

/// The variables that a mapping may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Variable {
    /// The verified claims of a token.
    Token,
    /// The identity made of them: `id`, `username`, `roles`, `groups`, `scopes`, `issuer`, `method`, `attributes.NAME`.
    Identity,
    /// The Credential that matched: `name`, `owner`, `roles`, `attributes.NAME`.
    Credential,
}

impl Variable {
    /// The name as it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Variable::Token => "token",
            Variable::Identity => "identity",
            Variable::Credential => "credential",
        }
    }
}

const IDENTITY_MEMBERS: &[&str] = &["id", "username", "roles", "groups", "scopes", "issuer", "method", "attributes"];
const CREDENTIAL_MEMBERS: &[&str] = &["name", "owner", "roles", "attributes"];
const MAX_DEPTH: usize = 8;

impl Expr {
    /// Reads the written form. The error says what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let name_end = text.find(['.', '[']).unwrap_or(text.len());
        let (name, mut rest) = text.split_at(name_end);
        let variable = match name {
            "token" => Variable::Token,
            "identity" => Variable::Identity,
            "credential" => Variable::Credential,
            _ => return Err(format!("`{text}` must start with `token.`, `identity.` or `credential.`")),
        };
        let mut path = Vec::new();
        while !rest.is_empty() {
            let (member, after) = if let Some(quoted) = rest.strip_prefix("[\"") {
                let end = quoted.find("\"]").ok_or_else(|| format!("`{text}` must close `[\"` with `\"]`"))?;
                (&quoted[..end], &quoted[end + 2..])
            } else if let Some(plain) = rest.strip_prefix('.') {
                let end = plain.find(['.', '[']).unwrap_or(plain.len());
                let member = &plain[..end];
                if !is_identifier(member) {
                    return Err(format!("`{text}` must write the member `{member}` as `[\"{member}\"]`"));
                }
                (member, &plain[end..])
            } else {
                return Err(format!("`{text}` must go on with `.` or `[\"` after a member"));
            };
            if member.is_empty() {
                return Err(format!("`{text}` must not contain an empty member"));
            }
            path.push(member.to_owned());
            rest = after;
        }
        let known = match variable {
            Variable::Token => None,
            Variable::Identity => Some(IDENTITY_MEMBERS),
            Variable::Credential => Some(CREDENTIAL_MEMBERS),
        };
        let Some(first) = path.first() else {
            return Err(format!("`{text}` must name a member of `{name}`"));
        };
        if let Some(known) = known {
            let wanted = if first == "attributes" { 2 } else { 1 };
            if !known.contains(&first.as_str()) || path.len() != wanted {
                return Err(format!("`{text}` must be one of {}", known.iter().map(|m| format!("`{name}.{m}`")).collect::<Vec<_>>().join(", ")));
            }
        }
        if path.len() > MAX_DEPTH {
            return Err(format!("`{text}` must not be deeper than {MAX_DEPTH} members"));
        }
        Ok(Self { variable, path })
    }
}

fn is_identifier(member: &str) -> bool {
    member.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_') && member.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.variable.name())?;
        for member in &self.path {
            if is_identifier(member) { write!(f, ".{member}")? } else { write!(f, "[\"{member}\"]")? }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_written_form_reads_back() {
        for text in ["token.sub", "token.realm_access.roles", "token[\"https://example.com/roles\"].names", "identity.attributes.tenant", "credential.name"] {
            assert_eq!(Expr::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_not_a_member_access_is_refused_with_advice() {
        for (text, advice) in [
            ("sub", "must start with"),
            ("token", "must name a member"),
            ("token.a-b", "[\"a-b\"]"),
            ("token[\"x\"", ""),
            ("token.a..b", ""),
            ("identity.shoe_size", "must be one of"),
            ("token[\"x\"]y", "must go on"),
            ("token.a.b.c.d.e.f.g.h.i", "deeper"),
        ] {
            let error = Expr::parse(text).unwrap_err();
            assert!(error.contains(advice), "{text}: {error}");
        }
    }
}
