//! One JSON Web Key (RFC 7517, RFC 7518 §6, RFC 8037): read, shown without its secret part, named by thumbprint.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Map, Value, json};

use crate::{base64url, parse_document, to_base64url};

/// Members that only the holder of a key may know (RFC 7518 §6.2.2, §6.3.2, §6.4.1; RFC 9964 §3).
const SECRET_MEMBERS: [&str; 9] = ["d", "p", "q", "dp", "dq", "qi", "k", "oth", "priv"];

/// Why a text is not a usable key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum JwkError {
    /// Not a JSON object with a `kty`.
    #[error("the key is not a JSON object that names each member once and has a `kty`")]
    NotAKey,
    /// A member is missing or wrong.
    #[error("the key is broken: {0}")]
    Broken(&'static str),
    /// The key is of a type or curve that the algorithm does not use.
    #[error("the key ({key}) cannot be used with {algorithm}")]
    Unfit {
        /// Its type and curve.
        key: String,
        /// The algorithm that the key was wanted for.
        algorithm: &'static str,
    },
    /// Only the public part is there.
    #[error("the key has no private part")]
    NotPrivate,
}

/// One key as it was written. `Debug` shows no secret.
#[derive(Clone, PartialEq)]
pub struct Jwk(Map<String, Value>);

impl fmt::Debug for Jwk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Jwk({}, kid {:?})", self.describe(), self.kid())
    }
}

impl Jwk {
    /// Reads a key; nothing is known of its numbers yet.
    pub fn parse(json: &[u8]) -> Result<Self, JwkError> {
        parse_document(json).ok().and_then(Self::from_value).ok_or(JwkError::NotAKey)
    }

    pub(crate) fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Object(members) if members.get("kty").is_some_and(Value::is_string) => Some(Self(members)),
            _ => None,
        }
    }

    pub(crate) fn from_members(value: Value) -> Self {
        match value {
            Value::Object(members) => Self(members),
            _ => Self(Map::new()),
        }
    }

    /// The text of a member.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// A member's bytes, when it is base64url.
    pub(crate) fn bytes(&self, name: &'static str) -> Option<Vec<u8>> {
        self.text(name).and_then(base64url)
    }

    /// The key's name.
    pub fn kid(&self) -> Option<&str> {
        self.text("kid")
    }

    /// Gives the key a name.
    #[must_use]
    pub fn named(mut self, kid: &str) -> Self {
        self.0.insert("kid".into(), kid.into());
        self
    }

    /// Sets a member such as `alg` or `use`.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// Type and curve, for people: `EC P-256`.
    pub fn describe(&self) -> String {
        let kty = self.text("kty").unwrap_or_default();
        self.text("crv").map_or_else(|| kty.to_owned(), |crv| format!("{kty} {crv}"))
    }

    /// Whether any secret part is there; symmetric keys are nothing else.
    pub fn is_secret(&self) -> bool {
        self.text("kty") == Some("oct") || SECRET_MEMBERS.iter().any(|member| self.0.contains_key(*member))
    }

    /// The key without its secret part; `None` for symmetric keys, which have no other.
    pub fn public(&self) -> Option<Self> {
        if self.text("kty") == Some("oct") {
            return None;
        }
        let members = self.0.iter().filter(|(name, _)| !SECRET_MEMBERS.contains(&name.as_str()) && *name != "key_ops");
        Some(Self(members.map(|(name, value)| (name.clone(), value.clone())).collect()))
    }

    /// The SHA-256 thumbprint (RFC 7638, RFC 8037 §2) in base64url.
    pub fn thumbprint(&self) -> Option<String> {
        let required: &[&str] = match self.text("kty")? {
            "RSA" => &["e", "kty", "n"],
            "EC" => &["crv", "kty", "x", "y"],
            "OKP" => &["crv", "kty", "x"],
            "oct" => &["k", "kty"],
            _ => return None,
        };
        let members = required
            .iter()
            .map(|name| Some(format!("{}:{}", json!(name), json!(self.text(name)?))))
            .collect::<Option<Vec<_>>>()?;
        let canonical = format!("{{{}}}", members.join(","));
        Some(to_base64url(digest(&SHA256, canonical.as_bytes()).as_ref()))
    }

    /// The key as JSON, secret part included.
    pub fn reveal(&self) -> Value {
        Value::Object(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thumbprint_is_the_one_of_rfc_7638() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJE\
            CPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2Q\
            vzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6\
            WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let jwk = format!(r#"{{"kty":"RSA","n":"{n}","e":"AQAB","alg":"RS256","kid":"2011-04-29"}}"#);
        let jwk = Jwk::parse(jwk.as_bytes()).unwrap();
        assert_eq!(jwk.thumbprint().as_deref(), Some("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"));
    }

    #[test]
    fn the_public_part_and_debug_hold_no_secret() {
        let jwk = Jwk::parse(
            br#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
                "d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","kid":"a"}"#,
        )
        .unwrap();
        let public = jwk.public().unwrap();
        assert!(jwk.is_secret() && !public.is_secret());
        assert_eq!(public.thumbprint(), jwk.thumbprint());
        assert_eq!(format!("{jwk:?}"), "Jwk(OKP Ed25519, kid Some(\"a\"))");
        assert_eq!(Jwk::parse(br#"{"kty":"oct","k":"AAAA"}"#).unwrap().public(), None);
    }
}
