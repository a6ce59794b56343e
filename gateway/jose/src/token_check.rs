//! The checks of a token by name, in the order in which they are made.

use crate::TokenError;

/// One check. A token that fails one is not looked at further, so all that are smaller were passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TokenCheck {
    /// Three parts with JSON objects, without what would change their meaning.
    Form,
    /// Its issuer is one that is trusted.
    Issuer,
    /// The keys of the issuer are known.
    Keys,
    /// `typ`.
    Type,
    /// `alg` is one that is allowed.
    Algorithm,
    /// The issuer has the key.
    Key,
    /// The signature verifies under that key.
    Signature,
    /// `aud`.
    Audience,
    /// `client_id` and `azp`.
    Client,
    /// `exp`.
    Expiry,
    /// `nbf` and `iat`.
    NotBefore,
    /// The claims that the policy needs to name the caller.
    Claims,
    /// Neither the token nor the Credential that it was issued to has ended.
    Revocation,
    /// The key that the token is bound to.
    Binding,
}

impl TokenCheck {
    /// Every check, in order.
    pub const ALL: &[TokenCheck] = &[
        TokenCheck::Form,
        TokenCheck::Issuer,
        TokenCheck::Keys,
        TokenCheck::Type,
        TokenCheck::Algorithm,
        TokenCheck::Key,
        TokenCheck::Signature,
        TokenCheck::Audience,
        TokenCheck::Client,
        TokenCheck::Expiry,
        TokenCheck::NotBefore,
        TokenCheck::Claims,
        TokenCheck::Revocation,
        TokenCheck::Binding,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            TokenCheck::Form => "form",
            TokenCheck::Issuer => "issuer",
            TokenCheck::Keys => "keys",
            TokenCheck::Type => "type",
            TokenCheck::Algorithm => "algorithm",
            TokenCheck::Key => "key",
            TokenCheck::Signature => "signature",
            TokenCheck::Audience => "audience",
            TokenCheck::Client => "client",
            TokenCheck::Expiry => "expiry",
            TokenCheck::NotBefore => "notBefore",
            TokenCheck::Claims => "claims",
            TokenCheck::Revocation => "revocation",
            TokenCheck::Binding => "binding",
        }
    }
}

impl TokenError {
    /// The check that failed.
    pub fn check(&self) -> TokenCheck {
        match self {
            TokenError::Malformed(_) | TokenError::TooLarge(_) | TokenError::Critical => TokenCheck::Form,
            TokenError::AlgorithmNotAllowed(_) => TokenCheck::Algorithm,
            TokenError::WrongType(_) => TokenCheck::Type,
            TokenError::UnknownKey { .. } => TokenCheck::Key,
            TokenError::BadSignature { .. } => TokenCheck::Signature,
            TokenError::WrongIssuer(_) => TokenCheck::Issuer,
            TokenError::WrongAudience { .. } => TokenCheck::Audience,
            TokenError::WrongClient { .. } | TokenError::NotForAccess(_) => TokenCheck::Client,
            TokenError::Expired { .. } => TokenCheck::Expiry,
            TokenError::NotYetValid { .. } => TokenCheck::NotBefore,
            TokenError::MissingClaim(claim) | TokenError::UnusableDate { claim, .. } => match *claim {
                "exp" => TokenCheck::Expiry,
                "nbf" | "iat" => TokenCheck::NotBefore,
                _ => TokenCheck::Claims,
            },
        }
    }
}
