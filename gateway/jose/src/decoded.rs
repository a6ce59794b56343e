//! Header and claims of a token for people to read. Nothing of it is believed.

use serde_json::Value;

use crate::base64url;

/// The readable parts of a token.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The header.
    pub header: Value,
    /// The claims; `None` for an encrypted token.
    pub claims: Option<Value>,
}

/// Why a text cannot be read as a token. The text is no part of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Another number of parts.
    #[error("a signed token has three parts and an encrypted one five, this has {0}")]
    Parts(usize),
    /// A part in another encoding.
    #[error("the {0} is not base64url")]
    Encoding(&'static str),
    /// A part that is no JSON.
    #[error("the {0} is not JSON")]
    Json(&'static str),
}

impl Decoded {
    /// Reads the header of a token, and its claims where it is signed.
    ///
    /// # Errors
    /// A part cannot be read.
    pub fn read(token: &str) -> Result<Self, DecodeError> {
        let parts: Vec<&str> = token.split('.').collect();
        match parts.as_slice() {
            [header, claims, _] => Ok(Self { header: json("header", header)?, claims: Some(json("claims", claims)?) }),
            [header, _, _, _, _] => Ok(Self { header: json("header", header)?, claims: None }),
            _ => Err(DecodeError::Parts(parts.len())),
        }
    }
}

fn json(name: &'static str, part: &str) -> Result<Value, DecodeError> {
    let bytes = base64url(part).ok_or(DecodeError::Encoding(name))?;
    serde_json::from_slice(&bytes).map_err(|_| DecodeError::Json(name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::to_base64url;

    #[test]
    fn parts_are_read_and_errors_do_not_have_the_token() {
        let part = |value: Value| to_base64url(value.to_string().as_bytes());
        let (header, claims) = (part(json!({"alg": "none"})), part(json!({"sub": "ana"})));
        let decoded = Decoded::read(&format!("{header}.{claims}.c2ln")).expect("readable");
        assert_eq!((decoded.header["alg"].as_str(), decoded.claims), (Some("none"), Some(json!({"sub": "ana"}))));
        assert_eq!(Decoded::read(&format!("{header}.a.b.c.d")).expect("readable").claims, None);
        for wrong in ["s3cret", "s3cret.s3cret.", "!.s3cret.", &format!("{header}.s3cret.x")] {
            let error = Decoded::read(wrong).expect_err(wrong).to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
