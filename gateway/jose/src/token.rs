//! Compact JWS (RFC 7515 §7.1) holding a JWT (RFC 7519), checked as RFC 8725 asks.

use idm_types::{Algorithm, Reason, Skew, Timestamp};
use serde_json::Value;

use crate::{Claims, KeySet, base64url, parse_strict};

/// Larger tokens are refused unread.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Why a token was refused. Each has one [`Reason`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TokenError {
    /// Not three parts of base64url holding JSON objects.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// More than [`MAX_TOKEN_BYTES`].
    #[error("the token has {0} bytes, more than 16,384")]
    TooLarge(usize),
    /// `alg` is not allowed (or is `none`, or unknown).
    #[error("the token's algorithm is `{0}`")]
    AlgorithmNotAllowed(String),
    /// `typ` is not accepted.
    #[error("the token's type is `{0}`")]
    WrongType(String),
    /// `crit` is present.
    #[error("the token marks header parameters as critical")]
    Critical,
    /// No key fits `kid` and `alg`.
    #[error("no key fits kid {kid} with {algorithm}")]
    UnknownKey {
        /// The `kid`, quoted, or `(none)`.
        kid: String,
        /// The algorithm.
        algorithm: Algorithm,
    },
    /// The signature is wrong.
    #[error("the signature does not verify under key {kid}")]
    BadSignature {
        /// The `kid` of the key tried, quoted, or `(none)`.
        kid: String,
    },
    /// `iss` is not the expected one.
    #[error("the token was issued by {0}")]
    WrongIssuer(String),
    /// `aud` is missing or names others only.
    #[error("the token's audience is {found}, expected one of {expected}")]
    WrongAudience {
        /// What the token says.
        found: String,
        /// What the policy accepts.
        expected: String,
    },
    /// Past `exp` plus skew.
    #[error("the token expired {seconds_ago} s ago")]
    Expired {
        /// Seconds since `exp`.
        seconds_ago: u64,
    },
    /// Before `nbf` or `iat` minus skew.
    #[error("the token becomes valid in {seconds} s by its `{claim}`")]
    NotYetValid {
        /// `nbf` or `iat`.
        claim: &'static str,
        /// Seconds until then.
        seconds: u64,
    },
    /// A standard claim is missing or of the wrong type.
    #[error("the claim `{0}` is missing or of the wrong type")]
    UnusableClaim(&'static str),
}

impl TokenError {
    /// The catalogue's reason for this error.
    pub const fn reason(&self) -> Reason {
        match self {
            TokenError::Malformed(_) => Reason::MalformedToken,
            TokenError::TooLarge(_) => Reason::TokenTooLarge,
            TokenError::AlgorithmNotAllowed(_) => Reason::AlgorithmNotAllowed,
            TokenError::WrongType(_) => Reason::WrongTokenType,
            TokenError::Critical => Reason::UnsupportedCritical,
            TokenError::UnknownKey { .. } => Reason::UnknownKey,
            TokenError::BadSignature { .. } => Reason::BadSignature,
            TokenError::WrongIssuer(_) => Reason::UnknownIssuer,
            TokenError::WrongAudience { .. } => Reason::WrongAudience,
            TokenError::Expired { .. } => Reason::TokenExpired,
            TokenError::NotYetValid { .. } => Reason::TokenNotYetValid,
            TokenError::UnusableClaim(_) => Reason::UnusableClaim,
        }
    }
}

/// What a policy expects of a token of one issuer.
#[derive(Clone, Copy, Debug)]
pub struct Expectations<'a> {
    /// The exact `iss`.
    pub issuer: &'a str,
    /// At least one must be in `aud`.
    pub audiences: &'a [String],
    /// Allowed algorithms.
    pub algorithms: &'a [Algorithm],
    /// Accepted `typ` values, lower case, without `application/`; empty: absent, `jwt` or `at+jwt`.
    pub types: &'a [String],
    /// Tolerance for times.
    pub skew: Skew,
}

/// A compact JWS that was taken apart and not believed yet.
#[derive(Debug)]
pub struct Jws<'t> {
    signed: &'t str,
    payload: Vec<u8>,
    signature: Vec<u8>,
    header: Header,
}

#[derive(Debug)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
}

/// Evidence that a signature verified: the payload it covers, and the key and algorithm that say so.
#[derive(Debug)]
pub struct VerifiedJws {
    /// The bytes that were signed.
    pub payload: Vec<u8>,
    /// The `kid` of the key.
    pub kid: Option<String>,
    /// The algorithm.
    pub algorithm: Algorithm,
}

/// A token that was taken apart and not believed yet. Only its issuer can be read, to find the keys.
#[derive(Debug)]
pub struct Unverified<'t> {
    jws: Jws<'t>,
    claims: Claims,
}

/// A token whose signature and standard claims were checked. Only [`Unverified::verify`] makes one.
#[derive(Debug)]
pub struct Verified {
    claims: Claims,
    expires: Timestamp,
    kid: Option<String>,
    algorithm: Algorithm,
}

impl Verified {
    /// The claims.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// `exp`, without skew.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// The `kid` of the key that verified it.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The algorithm that verified it.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl<'t> Jws<'t> {
    /// Takes a compact JWS apart. Nothing is believed yet.
    pub fn parse(token: &'t str) -> Result<Self, TokenError> {
        use TokenError::Malformed;
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLarge(token.len()));
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Malformed("it must have three parts"))?;
        let (header, payload) = signed.split_once('.').ok_or(Malformed("it must have three parts"))?;
        if payload.contains('.') {
            return Err(Malformed("it must have three parts (an encrypted token has five)"));
        }
        let decoded = |part: &str| base64url(part).ok_or(Malformed("each part must be base64url without padding"));
        let header = object(&decoded(header)?)?;
        if header.contains_key("crit") {
            return Err(TokenError::Critical);
        }
        // Unencoded (RFC 7797) and compressed payloads are other readings of the same bytes.
        if header.contains_key("b64") || header.contains_key("zip") {
            return Err(Malformed("`b64` and `zip` are not accepted"));
        }
        let text = |name: &str| match header.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(Malformed("`alg`, `kid` and `typ` must be strings")),
        };
        let header = Header { alg: text("alg")?.ok_or(Malformed("`alg` is missing"))?, kid: text("kid")?, typ: text("typ")? };
        Ok(Self { signed, payload: decoded(payload)?, signature: decoded(signature)?, header })
    }

    /// Checks the signature with the key that the header selects among `keys`, if its algorithm is one
    /// of `algorithms`.
    pub fn verify(self, keys: &KeySet, algorithms: &[Algorithm]) -> Result<VerifiedJws, TokenError> {
        let algorithm = Algorithm::from_name(&self.header.alg)
            .filter(|algorithm| algorithms.contains(algorithm))
            .ok_or_else(|| TokenError::AlgorithmNotAllowed(self.header.alg.clone()))?;
        let kid = self.header.kid.as_deref();
        let key = keys.select(kid, algorithm).ok_or_else(|| TokenError::UnknownKey { kid: quoted(kid), algorithm })?;
        if !key.verifies(self.signed.as_bytes(), &self.signature) {
            return Err(TokenError::BadSignature { kid: quoted(key.kid()) });
        }
        let kid = key.kid().map(str::to_owned);
        Ok(VerifiedJws { payload: self.payload, kid, algorithm })
    }

    fn check_type(&self, types: &[String]) -> Result<(), TokenError> {
        let typ = self.header.typ.as_deref().map(str::to_ascii_lowercase);
        let typ = typ.as_deref().map(|typ| typ.strip_prefix("application/").unwrap_or(typ));
        let accepted = match typ {
            None => types.is_empty(),
            Some(typ) if types.is_empty() => typ == "jwt" || typ == "at+jwt",
            Some(typ) => types.iter().any(|t| t == typ),
        };
        if accepted { Ok(()) } else { Err(TokenError::WrongType(self.header.typ.clone().unwrap_or_else(|| "(none)".into()))) }
    }
}

fn object(json: &[u8]) -> Result<serde_json::Map<String, Value>, TokenError> {
    match parse_strict(json) {
        Ok(Value::Object(members)) => Ok(members),
        _ => Err(TokenError::Malformed("header and claims must be JSON objects that name each member once")),
    }
}

impl<'t> Unverified<'t> {
    /// Takes a signed JWT apart. Nothing is believed yet.
    pub fn parse(token: &'t str) -> Result<Self, TokenError> {
        let jws = Jws::parse(token)?;
        let claims = Claims::new(object(&jws.payload)?);
        Ok(Self { jws, claims })
    }

    /// The issuer the token claims to be from: good for choosing keys and nothing else.
    pub fn claimed_issuer(&self) -> Option<&str> {
        self.claims.text("iss")
    }

    /// Checks everything: type, algorithm, key, signature, issuer, audience and times, in that order,
    /// so that nothing of the claims is believed before the signature.
    pub fn verify(self, keys: &KeySet, expected: &Expectations<'_>, now: Timestamp) -> Result<Verified, TokenError> {
        self.jws.check_type(expected.types)?;
        let VerifiedJws { payload: _, kid, algorithm } = self.jws.verify(keys, expected.algorithms)?;
        let expires = check_claims(&self.claims, expected, now)?;
        Ok(Verified { claims: self.claims, expires, kid, algorithm })
    }
}

fn quoted(kid: Option<&str>) -> String {
    kid.map_or_else(|| "(none)".to_owned(), |kid| format!("`{kid}`"))
}

fn check_claims(claims: &Claims, expected: &Expectations<'_>, now: Timestamp) -> Result<Timestamp, TokenError> {
    let (now, skew) = (now.seconds(), expected.skew.seconds());
    match claims.text("iss") {
        Some(issuer) if issuer == expected.issuer => {}
        other => return Err(TokenError::WrongIssuer(quoted(other))),
    }
    check_audience(claims, expected)?;
    let exp = claims.date("exp").ok().flatten().ok_or(TokenError::UnusableClaim("exp"))?;
    if now >= exp.saturating_add(skew) {
        return Err(TokenError::Expired { seconds_ago: now.saturating_sub(exp) });
    }
    for claim in ["nbf", "iat"] {
        let date = claims.date(claim).map_err(|()| TokenError::UnusableClaim(claim))?;
        if let Some(seconds) = date.and_then(|date| date.checked_sub(now.saturating_add(skew))).filter(|s| *s > 0) {
            return Err(TokenError::NotYetValid { claim, seconds: seconds.saturating_add(skew) });
        }
    }
    Ok(Timestamp::from_seconds(exp))
}

fn check_audience(claims: &Claims, expected: &Expectations<'_>) -> Result<(), TokenError> {
    let accepted = |audience: &str| expected.audiences.iter().any(|a| a == audience);
    let found = match claims.members().get("aud") {
        Some(Value::String(one)) if accepted(one) => return Ok(()),
        Some(Value::Array(many)) if many.iter().any(|a| a.as_str().is_some_and(accepted)) => return Ok(()),
        Some(other) => other.to_string().chars().take(200).collect(),
        None => "missing".to_owned(),
    };
    Err(TokenError::WrongAudience { found, expected: expected.audiences.join(", ") })
}

#[cfg(test)]
mod tests;
