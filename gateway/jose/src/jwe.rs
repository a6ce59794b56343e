//! JWE (RFC 7516): taken apart, and decrypted with keys that were bound to their algorithms.

use std::io::Read;

use aws_lc_rs::agreement::PrivateKey;
use aws_lc_rs::pbkdf2;
use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use idm_types::{ContentEncryption, KeyManagement, Reason, Redacted};
use serde_json::{Map, Value};

use crate::{Jwk, JwkError, agree, base64url, content, key_set, numbers, parse_strict, wrap};

/// Larger objects are refused unread.
pub const MAX_JWE_BYTES: usize = 1024 * 1024;
/// Recipients of one JSON serialization; more are refused.
const MAX_RECIPIENTS: usize = 8;
/// Rounds of PBKDF2 a sender may ask for: more would let one message keep a core busy.
pub(crate) const MAX_ROUNDS: u32 = 100_000;
const MIN_ROUNDS: u32 = 1_000;
/// The most that a compressed payload may grow to, in bytes and relative to its compressed size.
const MAX_INFLATED: usize = 250 * 1024;
const MAX_RATIO: usize = 10;

/// Why a JWE was refused or could not be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum JweError {
    /// Not a JWE.
    #[error("the encrypted object is malformed: {0}")]
    Malformed(&'static str),
    /// Too many bytes.
    #[error("the encrypted object has {0} bytes, more than are read")]
    TooLarge(usize),
    /// `alg` or `enc` is not allowed (or unknown).
    #[error("the encrypted object's algorithm is `{0}`")]
    AlgorithmNotAllowed(String),
    /// `crit` is present.
    #[error("the encrypted object marks header parameters as critical")]
    Critical,
    /// No key fits.
    #[error("no key fits kid {kid} with {algorithm}")]
    UnknownKey {
        /// The `kid`, quoted, or `(none)`.
        kid: String,
        /// The algorithm.
        algorithm: KeyManagement,
    },
    /// It was not made with the key, or was altered. Deliberately says no more.
    #[error("the encrypted object cannot be decrypted")]
    CannotDecrypt,
    /// Decrypting would cost more work than is given to one message.
    #[error("the encrypted object asks for too much work: {0}")]
    TooMuchWork(&'static str),
    /// The crypto library refused to encrypt.
    #[error("the content cannot be encrypted")]
    CannotEncrypt,
    /// The key is not usable.
    #[error(transparent)]
    Key(#[from] JwkError),
}

impl JweError {
    /// The catalogue's reason for this error.
    pub const fn reason(&self) -> Reason {
        match self {
            JweError::Malformed(_) | JweError::TooMuchWork(_) => Reason::MalformedToken,
            JweError::TooLarge(_) => Reason::TokenTooLarge,
            JweError::AlgorithmNotAllowed(_) => Reason::AlgorithmNotAllowed,
            JweError::Critical => Reason::UnsupportedCritical,
            JweError::UnknownKey { .. } => Reason::UnknownKey,
            JweError::CannotDecrypt => Reason::CannotDecrypt,
            JweError::CannotEncrypt | JweError::Key(_) => Reason::InternalError,
        }
    }
}

enum Unwrapper {
    Oaep(OaepPrivateDecryptingKey),
    Agreement(PrivateKey),
    Octets(Redacted<Vec<u8>>),
}

struct BoundKey {
    kid: Option<String>,
    algorithm: KeyManagement,
    unwrapper: Unwrapper,
}

/// Keys that decrypt, each bound to one algorithm.
pub struct DecryptionKeys {
    keys: Vec<BoundKey>,
}

impl std::fmt::Debug for DecryptionKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DecryptionKeys({})", self.keys.len())
    }
}

impl DecryptionKeys {
    /// Reads a JWKS or one JWK with secret keys and binds each to the `allowed` algorithms it fits.
    pub fn parse(json: &[u8], allowed: &[KeyManagement]) -> Result<Self, key_set::KeySetError> {
        use key_set::KeySetError;
        let mut keys = Vec::new();
        for (position, jwk) in key_set::entries(json, true)?.iter().enumerate() {
            for &algorithm in allowed
                .iter()
                .filter(|&&algorithm| fits(jwk, algorithm, &["decrypt", "unwrapKey", "deriveKey", "deriveBits"]))
            {
                let unwrapper =
                    load(jwk, algorithm).map_err(|e| KeySetError::BrokenKey { position, problem: e.to_string() })?;
                keys.push(BoundKey { kid: jwk.kid().map(str::to_owned), algorithm, unwrapper });
            }
        }
        if keys.is_empty() { Err(KeySetError::NoUsableKey) } else { Ok(Self { keys }) }
    }

    /// By `kid`, or the only key of its algorithm when the message names none.
    fn select(&self, kid: Option<&str>, algorithm: KeyManagement) -> Option<&BoundKey> {
        let mut fitting = self.keys.iter().filter(|key| key.algorithm == algorithm);
        match kid {
            Some(kid) => fitting.find(|key| key.kid.as_deref() == Some(kid)),
            None => fitting.next().filter(|_| fitting.next().is_none()),
        }
    }
}

/// Whether the key may serve `algorithm`: by type, size, `alg`, `use` and `key_ops`.
pub(crate) fn fits(jwk: &Jwk, algorithm: KeyManagement, operations: &[&str]) -> bool {
    use KeyManagement::*;
    let octets = |wanted: &[usize]| {
        jwk.text("kty") == Some("oct")
            && numbers::octets(jwk).is_ok_and(|k| wanted.is_empty() || wanted.contains(&k.len()))
    };
    let kind = match algorithm {
        RsaOaep | RsaOaep256 => jwk.text("kty") == Some("RSA"),
        EcdhEs | EcdhEsA128Kw | EcdhEsA192Kw | EcdhEsA256Kw => agree::is_agreement_key(jwk),
        A128Kw | A128GcmKw => octets(&[16]),
        A192Kw | A192GcmKw => octets(&[24]),
        A256Kw | A256GcmKw => octets(&[32]),
        Dir => octets(&[16, 24, 32, 48, 64]),
        Pbes2Hs256A128Kw | Pbes2Hs384A192Kw | Pbes2Hs512A256Kw => octets(&[]),
    };
    let named = match jwk.text("alg") {
        None => jwk.get("alg").is_none(),
        // A key that is used directly may be named after the content encryption (RFC 7520 §5.6.1).
        Some(alg) => alg == algorithm.name() || algorithm == Dir && ContentEncryption::from_name(alg).is_some(),
    };
    kind && named && operations.iter().any(|operation| key_set::allows(jwk, "enc", operation))
}

fn load(jwk: &Jwk, algorithm: KeyManagement) -> Result<Unwrapper, JwkError> {
    use KeyManagement::*;
    match algorithm {
        RsaOaep | RsaOaep256 => {
            let pkcs8 = numbers::pkcs8_of_rsa(&numbers::rsa_private(jwk)?)?;
            let key = PrivateDecryptingKey::from_pkcs8(&pkcs8)
                .map_err(|_| JwkError::Broken("its numbers are not an RSA key"))?;
            Ok(Unwrapper::Oaep(
                OaepPrivateDecryptingKey::new(key).map_err(|_| JwkError::Broken("its numbers are not an RSA key"))?,
            ))
        }
        EcdhEs | EcdhEsA128Kw | EcdhEsA192Kw | EcdhEsA256Kw => agree::private(jwk).map(Unwrapper::Agreement),
        _ => numbers::octets(jwk).map(|k| Unwrapper::Octets(Redacted::new(k))),
    }
}

/// The algorithms that a policy accepts.
#[derive(Clone, Copy, Debug)]
pub struct JweExpectations<'a> {
    /// Allowed `alg` values.
    pub key_management: &'a [KeyManagement],
    /// Allowed `enc` values.
    pub content_encryption: &'a [ContentEncryption],
    /// Whether `zip: DEF` is accepted; what it grows to is bounded.
    pub compressed: bool,
}

struct Recipient {
    header: Map<String, Value>,
    encrypted_key: Vec<u8>,
}

/// A JWE that was taken apart and not believed yet.
pub struct Jwe {
    protected: Map<String, Value>,
    recipients: Vec<Recipient>,
    iv: Vec<u8>,
    ciphertext: Vec<u8>,
    tag: Vec<u8>,
    aad: Vec<u8>,
}

/// The plaintext and the headers of a decrypted object.
#[derive(Debug)]
pub struct Decrypted {
    /// The plaintext.
    pub payload: Vec<u8>,
    /// The `kid` of the key.
    pub kid: Option<String>,
    /// The key management algorithm.
    pub algorithm: KeyManagement,
    /// The content encryption algorithm.
    pub content_encryption: ContentEncryption,
    /// The protected header.
    pub header: Map<String, Value>,
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>, JweError> {
    match parse_strict(bytes) {
        Ok(Value::Object(members)) => Ok(members),
        _ => Err(JweError::Malformed("a header must be a JSON object that names each member once")),
    }
}

fn part(text: &str) -> Result<Vec<u8>, JweError> {
    base64url(text).ok_or(JweError::Malformed("each part must be base64url without padding"))
}

impl Jwe {
    /// Takes the compact serialization apart (RFC 7516 §7.1).
    pub fn parse(text: &str) -> Result<Self, JweError> {
        if text.len() > MAX_JWE_BYTES {
            return Err(JweError::TooLarge(text.len()));
        }
        let parts: Vec<&str> = text.split('.').collect();
        let [protected, key, iv, ciphertext, tag] = parts.as_slice() else {
            return Err(JweError::Malformed("it must have five parts"));
        };
        let recipients = vec![Recipient { header: Map::new(), encrypted_key: part(key)? }];
        let header = object(&part(protected)?)?;
        let aad = protected.as_bytes().to_vec();
        Self { protected: header, recipients, iv: part(iv)?, ciphertext: part(ciphertext)?, tag: part(tag)?, aad }
            .checked()
    }

    /// Takes the JSON serialization apart (RFC 7516 §7.2), flattened or with several recipients.
    pub fn parse_json(text: &str) -> Result<Self, JweError> {
        use JweError::Malformed;
        if text.len() > MAX_JWE_BYTES {
            return Err(JweError::TooLarge(text.len()));
        }
        let whole = object(text.as_bytes())?;
        let member = |from: &Map<String, Value>, name: &str| match from.get(name) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(Malformed("members must be texts")),
        };
        let map = |from: &Map<String, Value>, name: &str| match from.get(name) {
            None => Ok(Map::new()),
            Some(Value::Object(members)) => Ok(members.clone()),
            Some(_) => Err(Malformed("`header` and `unprotected` must be objects")),
        };
        let shared = map(&whole, "unprotected")?;
        let entries: Vec<&Map<String, Value>> = match whole.get("recipients") {
            None => vec![&whole],
            Some(Value::Array(all)) if all.len() <= MAX_RECIPIENTS && !whole.contains_key("encrypted_key") => {
                all.iter().filter_map(Value::as_object).collect()
            }
            Some(_) => return Err(Malformed("`recipients` must be a list of up to 8 entries")),
        };
        let mut recipients = Vec::with_capacity(entries.len());
        for entry in entries {
            let mut header = map(entry, "header")?;
            for (name, value) in &shared {
                if header.insert(name.clone(), value.clone()).is_some() {
                    return Err(Malformed("headers must not share members"));
                }
            }
            recipients.push(Recipient { header, encrypted_key: part(&member(entry, "encrypted_key")?)? });
        }
        let protected = member(&whole, "protected")?;
        let header = if protected.is_empty() { Map::new() } else { object(&part(&protected)?)? };
        let mut aad = protected.into_bytes();
        let extra = member(&whole, "aad")?;
        if whole.contains_key("aad") {
            aad.push(b'.');
            aad.extend_from_slice(extra.as_bytes());
        }
        let read = |name: &str| member(&whole, name).and_then(|text| part(&text));
        Self { protected: header, recipients, iv: read("iv")?, ciphertext: read("ciphertext")?, tag: read("tag")?, aad }
            .checked()
    }

    fn checked(self) -> Result<Self, JweError> {
        for Recipient { header, .. } in &self.recipients {
            if header.keys().any(|name| self.protected.contains_key(name) || name == "zip" || name == "crit") {
                return Err(JweError::Malformed(
                    "headers must not share members, and `zip` and `crit` must be protected",
                ));
            }
        }
        if self.protected.contains_key("crit") {
            return Err(JweError::Critical);
        }
        if self.recipients.is_empty() { Err(JweError::Malformed("there is no recipient")) } else { Ok(self) }
    }

    fn text<'j>(&'j self, recipient: &'j Recipient, name: &str) -> Option<&'j str> {
        self.protected.get(name).or_else(|| recipient.header.get(name)).and_then(Value::as_str)
    }

    /// The `kid` of the first recipient, to find keys by: an unverified claim.
    pub fn kid(&self) -> Option<&str> {
        self.recipients.first().and_then(|recipient| self.text(recipient, "kid"))
    }

    /// Whether decrypting derives a key from a password (RFC 7518 §4.8): tens of milliseconds of a core, by the
    /// sender's choice.
    pub fn is_slow(&self) -> bool {
        let derives = |recipient| self.text(recipient, "alg").is_some_and(|alg| alg.starts_with("PBES2-"));
        self.recipients.iter().any(derives)
    }

    /// Decrypts with the key that the header selects among `keys`, if its algorithms are allowed.
    pub fn decrypt(&self, keys: &DecryptionKeys, expected: &JweExpectations<'_>) -> Result<Decrypted, JweError> {
        let mut missing = None;
        for recipient in &self.recipients {
            let alg = self.text(recipient, "alg").ok_or(JweError::Malformed("`alg` is missing"))?;
            let allowed = KeyManagement::from_name(alg).filter(|algorithm| expected.key_management.contains(algorithm));
            let Some(algorithm) = allowed else {
                missing = missing.or(Some(JweError::AlgorithmNotAllowed(alg.chars().take(64).collect())));
                continue;
            };
            let kid = self.text(recipient, "kid");
            match keys.select(kid, algorithm) {
                Some(key) => return self.decrypt_for(recipient, key, expected),
                None => missing = Some(JweError::UnknownKey { kid: crate::jws::quoted(kid), algorithm }),
            }
        }
        Err(missing.unwrap_or(JweError::CannotDecrypt))
    }

    fn decrypt_for(
        &self,
        recipient: &Recipient,
        key: &BoundKey,
        expected: &JweExpectations<'_>,
    ) -> Result<Decrypted, JweError> {
        let enc = self.text(recipient, "enc").ok_or(JweError::Malformed("`enc` is missing"))?;
        let content_encryption = ContentEncryption::from_name(enc)
            .filter(|enc| expected.content_encryption.contains(enc))
            .ok_or_else(|| JweError::AlgorithmNotAllowed(enc.chars().take(64).collect()))?;
        let compressed = match self.protected.get("zip") {
            None => false,
            Some(zip) if zip == "DEF" && expected.compressed => true,
            Some(_) => return Err(JweError::Malformed("`zip` is not accepted")),
        };
        let cek = self.content_key(recipient, key, content_encryption)?;
        let payload = content::open(content_encryption, &cek, &self.iv, &self.aad, &self.ciphertext, &self.tag)?;
        let payload = if compressed { inflate(&payload)? } else { payload };
        Ok(Decrypted {
            payload,
            kid: key.kid.clone(),
            algorithm: key.algorithm,
            content_encryption,
            header: self.protected.clone(),
        })
    }

    fn content_key(&self, recipient: &Recipient, key: &BoundKey, enc: ContentEncryption) -> Result<Vec<u8>, JweError> {
        use KeyManagement::*;
        let wrapped = recipient.encrypted_key.as_slice();
        let bytes = |name: &str| self.text(recipient, name).and_then(base64url).ok_or(JweError::CannotDecrypt);
        match (key.algorithm, &key.unwrapper) {
            (RsaOaep, Unwrapper::Oaep(private)) => oaep(private, &OAEP_SHA1_MGF1SHA1, wrapped),
            (RsaOaep256, Unwrapper::Oaep(private)) => oaep(private, &OAEP_SHA256_MGF1SHA256, wrapped),
            (algorithm, Unwrapper::Agreement(private)) => {
                let epk = self
                    .protected
                    .get("epk")
                    .or_else(|| recipient.header.get("epk"))
                    .cloned()
                    .and_then(Jwk::from_value);
                let secret = agree::shared_secret(private, &epk.ok_or(JweError::Malformed("`epk` is missing"))?)?;
                let party = |name: &str| self.text(recipient, name).map_or(Ok(Vec::new()), part);
                let (id, size) = agreed(algorithm, enc);
                let derived = agree::derive(&secret, id, &party("apu")?, &party("apv")?, size)?;
                match algorithm {
                    EcdhEs if wrapped.is_empty() => Ok(derived),
                    EcdhEs => Err(JweError::Malformed("the encrypted key must be empty with ECDH-ES")),
                    _ => wrap::unwrap(&derived, wrapped),
                }
            }
            (Dir, Unwrapper::Octets(key)) if wrapped.is_empty() => Ok(key.reveal().clone()),
            (A128Kw | A192Kw | A256Kw, Unwrapper::Octets(key)) => wrap::unwrap(key.reveal(), wrapped),
            (A128GcmKw | A192GcmKw | A256GcmKw, Unwrapper::Octets(key)) => {
                content::gcm_open(key.reveal(), &bytes("iv")?, b"", wrapped, &bytes("tag")?)
            }
            (Pbes2Hs256A128Kw | Pbes2Hs384A192Kw | Pbes2Hs512A256Kw, Unwrapper::Octets(password)) => {
                let rounds = self.protected.get("p2c").or_else(|| recipient.header.get("p2c")).and_then(Value::as_u64);
                let rounds = rounds
                    .and_then(|rounds| u32::try_from(rounds).ok())
                    .filter(|rounds| (MIN_ROUNDS..=MAX_ROUNDS).contains(rounds));
                let rounds = rounds.ok_or(JweError::TooMuchWork("`p2c` must be between 1,000 and 100,000"))?;
                let derived = password_key(key.algorithm, password.reveal(), &bytes("p2s")?, rounds)?;
                wrap::unwrap(&derived, wrapped)
            }
            _ => Err(JweError::CannotDecrypt),
        }
    }
}

fn oaep(
    private: &OaepPrivateDecryptingKey,
    algorithm: &'static aws_lc_rs::rsa::OaepAlgorithm,
    wrapped: &[u8],
) -> Result<Vec<u8>, JweError> {
    let mut out = vec![0; private.min_output_size()];
    private.decrypt(algorithm, wrapped, &mut out, None).map(|bytes| bytes.to_vec()).map_err(|_| JweError::CannotDecrypt)
}

/// AlgorithmID and key size for the Concat KDF (RFC 7518 §4.6.2).
pub(crate) fn agreed(algorithm: KeyManagement, enc: ContentEncryption) -> (&'static str, usize) {
    match algorithm {
        KeyManagement::EcdhEsA128Kw => (algorithm.name(), 16),
        KeyManagement::EcdhEsA192Kw => (algorithm.name(), 24),
        KeyManagement::EcdhEsA256Kw => (algorithm.name(), 32),
        _ => (enc.name(), enc.key_bytes()),
    }
}

/// RFC 7518 §4.8.1.1: the salt is the algorithm's name, a zero byte and `p2s`.
pub(crate) fn password_key(
    algorithm: KeyManagement,
    password: &[u8],
    p2s: &[u8],
    rounds: u32,
) -> Result<Vec<u8>, JweError> {
    let (prf, size) = match algorithm {
        KeyManagement::Pbes2Hs256A128Kw => (pbkdf2::PBKDF2_HMAC_SHA256, 16),
        KeyManagement::Pbes2Hs384A192Kw => (pbkdf2::PBKDF2_HMAC_SHA384, 24),
        _ => (pbkdf2::PBKDF2_HMAC_SHA512, 32),
    };
    let rounds = std::num::NonZeroU32::new(rounds).ok_or(JweError::CannotDecrypt)?;
    if p2s.len() < 8 {
        return Err(JweError::Malformed("`p2s` must have at least 8 bytes"));
    }
    let salt = [algorithm.name().as_bytes(), &[0], p2s].concat();
    let mut key = vec![0; size];
    pbkdf2::derive(prf, rounds, &salt, password, &mut key);
    Ok(key)
}

fn inflate(compressed: &[u8]) -> Result<Vec<u8>, JweError> {
    let limit = MAX_INFLATED.min(compressed.len().saturating_mul(MAX_RATIO));
    let mut out = Vec::new();
    let mut reader = flate2::read::DeflateDecoder::new(compressed).take(limit as u64 + 1);
    reader.read_to_end(&mut out).map_err(|_| JweError::CannotDecrypt)?;
    if out.len() > limit { Err(JweError::TooMuchWork("the compressed payload grows too much")) } else { Ok(out) }
}
