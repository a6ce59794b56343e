//! JWS: compact, JSON and detached (RFC 7515 §7, RFC 7797), taken apart and verified.

use idm_types::{Algorithm, Reason};
use serde_json::{Map, Value};

use crate::{DateError, KeySet, VerifyingKey, base64url, parse_strict};

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
    #[error("no key fits kid {kid} with {algorithm}{hint}")]
    UnknownKey {
        /// The `kid`, quoted, or `(none)`.
        kid: String,
        /// The algorithm.
        algorithm: Algorithm,
        /// The state of the key set where it explains this; empty otherwise.
        hint: String,
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
        /// The value in the token.
        found: String,
        /// The values that the policy accepts.
        expected: String,
    },
    /// `client_id` or `azp` is missing or names another client.
    #[error("the token's client is {found}, expected one of {expected}")]
    WrongClient {
        /// The value in the token.
        found: String,
        /// The values that the policy accepts.
        expected: String,
    },
    /// `token_use` is not `access`.
    #[error("the token's `token_use` is {0}, and an access token is wanted")]
    NotForAccess(String),
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
    /// A standard claim is absent.
    #[error("the claim `{0}` is absent")]
    MissingClaim(&'static str),
    /// A standard claim that has to be a date is none.
    #[error("the claim `{claim}` {problem}")]
    UnusableDate {
        /// The claim.
        claim: &'static str,
        /// Why it is no date.
        problem: DateError,
    },
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
            TokenError::WrongAudience { .. } | TokenError::WrongClient { .. } => Reason::WrongAudience,
            TokenError::NotForAccess(_) => Reason::WrongTokenType,
            TokenError::Expired { .. } => Reason::TokenExpired,
            TokenError::NotYetValid { .. } => Reason::TokenNotYetValid,
            TokenError::MissingClaim(_) | TokenError::UnusableDate { .. } => Reason::UnusableClaim,
        }
    }
}

/// Signatures of one JSON serialization; more are refused.
const MAX_SIGNATURES: usize = 8;

/// The header of one signature, protected and unprotected members merged.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) alg: String,
    kid: Option<String>,
    typ: Option<String>,
    x5t: Option<String>,
    x5c: Option<Vec<String>>,
    jwk: Option<Value>,
    /// `b64: false` (RFC 7797): the payload was signed as it is.
    unencoded: bool,
}

/// The forms that are accepted beyond the compact serialization of tokens.
#[derive(Clone, Copy, Debug, Default)]
pub struct JwsForm<'p> {
    /// The payload that travels apart from the signature (RFC 7515 appendix F).
    pub detached: Option<&'p [u8]>,
    /// Larger objects are refused unread; 0 means [`MAX_TOKEN_BYTES`].
    pub max_bytes: usize,
}

/// A JWS that was taken apart and not believed yet.
#[derive(Debug)]
pub struct Jws<'t> {
    signed: Signed<'t>,
    payload: Vec<u8>,
    signature: Vec<u8>,
    pub(crate) header: Header,
}

#[derive(Debug)]
enum Signed<'t> {
    /// Header, dot and payload as they stand in the token.
    AsWritten(&'t str),
    /// Put together from parts.
    Built(Vec<u8>),
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

impl Header {
    /// Reads the merged header. `protected` alone may hold `crit` and `b64` (RFC 7515 §4.1.11, RFC 7797 §3).
    fn read(
        protected: Map<String, Value>,
        unprotected: Map<String, Value>,
        may_be_unencoded: bool,
    ) -> Result<Self, TokenError> {
        use TokenError::Malformed;
        if unprotected.keys().any(|name| protected.contains_key(name) || name == "crit" || name == "b64") {
            return Err(Malformed(
                "protected and unprotected header must not share members, and `crit` and `b64` must be protected",
            ));
        }
        let unencoded = match (protected.get("b64"), protected.get("crit")) {
            (None, None) => false,
            (Some(Value::Bool(encoded)), Some(Value::Array(crit)))
                if may_be_unencoded && crit.len() == 1 && crit.iter().all(|name| name == "b64") =>
            {
                !encoded
            }
            (_, Some(_)) => return Err(TokenError::Critical),
            // Unencoded payloads are another reading of the same bytes.
            (Some(_), None) => return Err(Malformed("`b64` is not accepted")),
        };
        // So are compressed ones.
        if protected.contains_key("zip") || unprotected.contains_key("zip") {
            return Err(Malformed("`zip` is not accepted"));
        }
        let member = |name: &str| protected.get(name).or_else(|| unprotected.get(name));
        let text = |name: &str| match member(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(Malformed("`alg`, `kid`, `typ` and `x5t#S256` must be strings")),
        };
        let x5c = match member("x5c") {
            None => None,
            Some(Value::Array(chain)) => Some(
                chain
                    .iter()
                    .map(|c| c.as_str().map(str::to_owned))
                    .collect::<Option<Vec<_>>>()
                    .ok_or(Malformed("`x5c` must be a list of texts"))?,
            ),
            Some(_) => return Err(Malformed("`x5c` must be a list of texts")),
        };
        let jwk = protected.get("jwk").cloned();
        Ok(Self {
            alg: text("alg")?.ok_or(Malformed("`alg` is missing"))?,
            jwk,
            kid: text("kid")?,
            typ: text("typ")?,
            x5t: text("x5t#S256")?,
            x5c,
            unencoded,
        })
    }

    pub(crate) fn check_type(&self, types: &[String]) -> Result<(), TokenError> {
        let typ = self.typ.as_deref().map(str::to_ascii_lowercase);
        let typ = typ.as_deref().map(|typ| typ.strip_prefix("application/").unwrap_or(typ));
        let accepted = match typ {
            None => types.is_empty(),
            Some(typ) if types.is_empty() => typ == "jwt" || typ == "at+jwt",
            Some(typ) => types.iter().any(|t| t == typ),
        };
        if accepted { Ok(()) } else { Err(TokenError::WrongType(self.typ.clone().unwrap_or_else(|| "(none)".into()))) }
    }
}

fn part(text: &str) -> Result<Vec<u8>, TokenError> {
    base64url(text).ok_or(TokenError::Malformed("each part must be base64url without padding"))
}

impl<'t> Jws<'t> {
    /// Takes a compact JWS apart. Nothing is believed yet.
    pub fn parse(token: &'t str) -> Result<Self, TokenError> {
        Self::parse_compact(token, JwsForm::default())
    }

    /// Takes a compact JWS apart that may be detached or large.
    pub fn parse_compact(token: &'t str, form: JwsForm<'_>) -> Result<Self, TokenError> {
        use TokenError::Malformed;
        check_size(token.len(), form)?;
        let (signed, signature) = token.rsplit_once('.').ok_or(Malformed("it must have three parts"))?;
        let (protected, payload) = signed.split_once('.').ok_or(Malformed("it must have three parts"))?;
        if payload.contains('.') {
            return Err(Malformed("it must have three parts (an encrypted token has five)"));
        }
        let header = Header::read(object(&part(protected)?)?, Map::new(), form.detached.is_some())?;
        let signature = part(signature)?;
        match form.detached {
            None => Ok(Self { signed: Signed::AsWritten(signed), payload: part(payload)?, signature, header }),
            Some(detached) if payload.is_empty() => {
                Ok(Self { signed: built(protected, detached, &header), payload: detached.to_vec(), signature, header })
            }
            Some(_) => Err(Malformed("the payload must be empty where it travels apart")),
        }
    }

    /// Takes the JSON serialization apart (RFC 7515 §7.2), one [`Jws`] for each signature.
    pub fn parse_json(text: &'t str, form: JwsForm<'_>) -> Result<Vec<Self>, TokenError> {
        use TokenError::Malformed;
        check_size(text.len(), form)?;
        let whole = object(text.as_bytes())?;
        let payload_text = match (whole.get("payload"), form.detached) {
            (Some(Value::String(payload)), None) => Some(payload.as_str()),
            (None, Some(_)) => None,
            _ => return Err(Malformed("`payload` must be text, and absent where it travels apart")),
        };
        let signatures: Vec<&Map<String, Value>> = match (whole.get("signatures"), whole.get("signature")) {
            (Some(Value::Array(all)), None) if all.len() <= MAX_SIGNATURES => {
                all.iter().filter_map(Value::as_object).collect()
            }
            (None, Some(_)) => vec![&whole],
            _ => return Err(Malformed("there must be `signature`, or `signatures` with up to 8 entries")),
        };
        let mut out = Vec::with_capacity(signatures.len());
        for entry in signatures {
            let text = |name: &str| {
                entry
                    .get(name)
                    .map(|value| value.as_str().ok_or(Malformed("`protected` and `signature` must be texts")))
                    .transpose()
            };
            let protected = text("protected")?.unwrap_or_default();
            let unprotected = match entry.get("header") {
                None => Map::new(),
                Some(Value::Object(members)) => members.clone(),
                Some(_) => return Err(Malformed("`header` must be an object")),
            };
            let read = if protected.is_empty() { Map::new() } else { object(&part(protected)?)? };
            let header = Header::read(read, unprotected, true)?;
            let signature = part(text("signature")?.ok_or(Malformed("`signature` is missing"))?)?;
            let (signed, payload) = match (payload_text, form.detached) {
                (Some(payload), _) if header.unencoded => {
                    (built(protected, payload.as_bytes(), &header), payload.as_bytes().to_vec())
                }
                (Some(payload), _) => (Signed::Built(format!("{protected}.{payload}").into_bytes()), part(payload)?),
                (None, detached) => {
                    let detached = detached.unwrap_or_default();
                    (built(protected, detached, &header), detached.to_vec())
                }
            };
            out.push(Self { signed, payload, signature, header });
        }
        if out.is_empty() { Err(Malformed("there is no signature")) } else { Ok(out) }
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The `typ` header parameter.
    pub fn typ(&self) -> Option<&str> {
        self.header.typ.as_deref()
    }

    /// The key the signer attached (RFC 7515 §4.1.3): an unverified claim, of use for proofs only.
    pub(crate) fn jwk(&self) -> Option<&Value> {
        self.header.jwk.as_ref()
    }

    /// The `kid` header parameter.
    pub fn kid(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// The `x5t#S256` header parameter.
    pub fn x5t(&self) -> Option<&str> {
        self.header.x5t.as_deref()
    }

    /// The certificate chain the signer attached (RFC 7515 §4.1.6): an unverified claim.
    pub fn x5c(&self) -> Option<&[String]> {
        self.header.x5c.as_deref()
    }

    /// Whether the signature is this key's, whatever the header names.
    pub(crate) fn is_signed_by(&self, key: &VerifyingKey) -> bool {
        key.verifies(self.signed.bytes(), &self.signature)
    }

    /// Checks the signature with the key that the header selects among `keys`, if its algorithm is one
    /// of `algorithms`.
    pub fn verify(self, keys: &KeySet, algorithms: &[Algorithm]) -> Result<VerifiedJws, TokenError> {
        let Header { alg, kid, x5t, .. } = &self.header;
        let algorithm = Algorithm::from_name(alg)
            .filter(|algorithm| algorithms.contains(algorithm))
            .ok_or_else(|| TokenError::AlgorithmNotAllowed(alg.clone()))?;
        let key = keys.select(kid.as_deref(), x5t.as_deref(), algorithm).ok_or_else(|| TokenError::UnknownKey {
            kid: quoted(kid.as_deref()),
            algorithm,
            hint: keys.hint(kid.as_deref(), x5t.as_deref(), algorithm),
        })?;
        if !key.verifies(self.signed.bytes(), &self.signature) {
            return Err(TokenError::BadSignature { kid: quoted(key.kid()) });
        }
        let kid = key.kid().map(str::to_owned);
        Ok(VerifiedJws { payload: self.payload, kid, algorithm })
    }
}

impl Signed<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Signed::AsWritten(text) => text.as_bytes(),
            Signed::Built(bytes) => bytes,
        }
    }
}

fn check_size(len: usize, form: JwsForm<'_>) -> Result<(), TokenError> {
    let max = if form.max_bytes == 0 { MAX_TOKEN_BYTES } else { form.max_bytes };
    if len > max { Err(TokenError::TooLarge(len)) } else { Ok(()) }
}

fn built(protected: &str, payload: &[u8], header: &Header) -> Signed<'static> {
    let mut signed = format!("{protected}.").into_bytes();
    if header.unencoded {
        signed.extend_from_slice(payload);
    } else {
        signed.extend_from_slice(crate::to_base64url(payload).as_bytes());
    }
    Signed::Built(signed)
}

pub(crate) fn object(json: &[u8]) -> Result<Map<String, Value>, TokenError> {
    match parse_strict(json) {
        Ok(Value::Object(members)) => Ok(members),
        _ => Err(TokenError::Malformed("header and claims must be JSON objects that name each member once")),
    }
}

pub(crate) fn quoted(kid: Option<&str>) -> String {
    kid.map_or_else(|| "(none)".to_owned(), |kid| format!("`{kid}`"))
}
