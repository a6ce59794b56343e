//! Names with one rule each, enforced wherever they are read: CRD schema, YAML, JSON.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a piece of text is not a name of the wanted kind.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{value}` is not a {kind}: use {rule}")]
pub struct NameError {
    kind: &'static str,
    rule: &'static str,
    value: String,
}

macro_rules! restricted_string {
    ($(#[$doc:meta])* $name:ident, $kind:literal, max $max:literal, pattern $pattern:literal, rule $rule:literal,
     $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(extend("pattern" = $pattern, "maxLength" = $max, "minLength" = 1))]
        pub struct $name(#[schemars(with = "String")] std::sync::Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                let valid: fn(&str) -> bool = $valid;
                if !text.is_empty() && text.len() <= $max && valid(text) {
                    return Ok(Self(text.into()));
                }
                Err(NameError { kind: $kind, rule: $rule, value: text.chars().take(80).collect() })
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn dns_label(text: &str) -> bool {
    let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.bytes().all(|b| edge(b) || b == b'-')
        && text.bytes().next().is_some_and(edge)
        && text.bytes().last().is_some_and(edge)
}

restricted_string! {
    /// Name of one authentication method of a policy; what audit, metrics and `explain` call it.
    MethodName, "method name", max 63, pattern "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
    rule "at most 63 lower-case letters, digits and dashes, with a letter or digit at both ends", dns_label
}
restricted_string! {
    /// Name of one authorization rule of a policy.
    RuleName, "rule name", max 63, pattern "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
    rule "at most 63 lower-case letters, digits and dashes, with a letter or digit at both ends", dns_label
}
restricted_string! {
    /// A role as the upstream and the rules see it. No comma and no space, because roles travel
    /// comma-separated in one header.
    RoleName, "role name", max 128, pattern "^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$",
    rule "at most 128 letters, digits and . _ : / @ + -, with a letter or digit first",
    |t| t.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/@+-".contains(&b))
}

/// Names one decision: a ULID (48 bits of milliseconds, 80 random bits), shown to the caller and
/// used as the id of the audit record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DecisionId(ulid::Ulid);

impl DecisionId {
    /// Makes an id from a time in milliseconds and 80 bits of randomness (the upper bits are ignored).
    pub fn from_parts(millis: u64, random: u128) -> Self {
        Self(ulid::Ulid::from_parts(millis, random))
    }

    /// Writes the 26 characters into `buffer` and returns them.
    pub fn encode(self, buffer: &mut [u8; ulid::ULID_LEN]) -> &str {
        self.0.array_to_str(buffer)
    }
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for DecisionId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = || NameError {
            kind: "decision id",
            rule: "the 26 characters printed with the refusal",
            value: text.chars().take(80).collect(),
        };
        ulid::Ulid::from_string(text).map(Self).map_err(|_| wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_name_is_a_dns_label() {
        assert!("partners-2".parse::<MethodName>().is_ok());
        for wrong in ["", "-a", "a-", "A", "a_b", "a b", &"x".repeat(64)] {
            assert!(wrong.parse::<MethodName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_role_cannot_smuggle_a_second_role() {
        for wrong in ["admin,reader", "a b", " admin", "é", "a\nb"] {
            assert!(wrong.parse::<RoleName>().is_err(), "{wrong}");
        }
        assert!("orders/writer:eu".parse::<RoleName>().is_ok());
    }

    #[test]
    fn a_decision_id_reads_back() {
        let id = DecisionId::from_parts(1_795_459_920_123, 42);
        assert_eq!(id.to_string().parse::<DecisionId>(), Ok(id));
        assert!("not an id".parse::<DecisionId>().is_err());
    }
}
