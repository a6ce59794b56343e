//! Key sets (RFC 7517 §5). Every key leaves here bound to the algorithms it may verify.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{self as sig, ParsedPublicKey, VerificationAlgorithm};
use idm_types::Algorithm;
use serde_json::Value;

use crate::{Jwk, JwkError, numbers, parse_document, x5c};

/// Larger key sets are refused before they are parsed.
pub const MAX_JWKS_BYTES: usize = 512 * 1024;
const MAX_KEYS: usize = 256;
/// The keys that are named in one message.
const MAX_NAMED: usize = 3;

/// Why a key set was refused as a whole, so that the last good one stays in use; or why a key was left out.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeySetError {
    /// Too many bytes or keys.
    #[error("the key set is larger than 512 KiB or 256 keys")]
    TooLarge,
    /// Not JSON, or JSON with duplicate members.
    #[error("the key set is not JSON: {0}")]
    NotJson(String),
    /// JSON, but not a JWKS.
    #[error("the key set must be an object with a `keys` list")]
    NotAKeySet,
    /// Someone published a private or symmetric key, which is everybody's from then on.
    #[error(
        "the key set holds a private or symmetric key (key {position}): publish public keys only and replace that key"
    )]
    PrivateKey {
        /// Counted from 0.
        position: usize,
    },
    /// Secret and public keys in one set: a verifier could be led from one to the other.
    #[error("the key set mixes symmetric and other keys: give each kind a set of its own")]
    Mixed,
    /// Two different keys share a `kid` and an algorithm, so a token cannot say which one it means.
    #[error("two different keys of the key set have the kid `{0}`")]
    DuplicateKid(String),
    /// A key with an allowed algorithm could not be read.
    #[error("key {position} of the key set is broken: {problem}")]
    BrokenKey {
        /// Counted from 0.
        position: usize,
        /// The problem.
        problem: String,
    },
    /// Nothing to verify with.
    #[error("the key set has no key for any allowed algorithm")]
    NoUsableKey,
}

#[derive(Debug)]
enum Verifier {
    Public(ParsedPublicKey),
    Mac(Box<hmac::Key>),
}

#[derive(Debug)]
pub(crate) struct BoundKey {
    kid: Option<String>,
    x5t: Option<String>,
    algorithm: Algorithm,
    verifier: Verifier,
    identity: KeyIdentity,
}

/// Tells whether two entries are the same key, however each is written. Shows nothing of it: it may be a secret.
#[derive(Clone, PartialEq, Eq)]
struct KeyIdentity(Vec<u8>);

impl fmt::Debug for KeyIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyIdentity")
    }
}

impl BoundKey {
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.verifier {
            Verifier::Public(key) => key.verify_sig(message, signature).is_ok(),
            // Compared in constant time.
            Verifier::Mac(key) => hmac::verify(key, message, signature).is_ok(),
        }
    }

    pub(crate) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }
}

/// One key that verifies bare signatures, bound to one algorithm: for protocols that name their keys themselves.
#[derive(Debug)]
pub struct VerifyingKey(BoundKey);

impl VerifyingKey {
    /// Binds a public key, whatever its name. A key with a secret part is refused, and so is every algorithm whose keys
    /// are shared in secret.
    pub fn of_public(jwk: &Jwk, algorithm: Algorithm) -> Result<Self, KeySetError> {
        if jwk.is_secret() || algorithm.is_symmetric() {
            return Err(KeySetError::PrivateKey { position: 0 });
        }
        if !fits(jwk, algorithm, "verify") {
            return Err(KeySetError::NoUsableKey);
        }
        load(jwk, algorithm).map(Self).map_err(broken)
    }

    /// Binds a secret, which must be as long as the hash of the algorithm (RFC 7518 §3.2).
    pub fn of_secret(secret: &[u8], algorithm: Algorithm) -> Result<Self, KeySetError> {
        if !algorithm.is_symmetric() {
            return Err(KeySetError::NoUsableKey);
        }
        let key = hmac_key(secret, algorithm).map_err(broken)?;
        let identity = KeyIdentity(digest(&SHA256, secret).as_ref().to_vec());
        Ok(Self(BoundKey { kid: None, x5t: None, algorithm, verifier: Verifier::Mac(Box::new(key)), identity }))
    }

    /// The algorithm that it is bound to.
    pub fn algorithm(&self) -> Algorithm {
        self.0.algorithm
    }

    /// Whether the signature over the message is this key's.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.0.verifies(message, signature)
    }
}

fn broken(error: JwkError) -> KeySetError {
    KeySetError::BrokenKey { position: 0, problem: error.to_string() }
}

/// The usable keys of one issuer, each bound to one algorithm.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<BoundKey>,
    left_out: Vec<LeftOut>,
}

/// A published key that cannot be used. Shown bounded and without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Counted from 0.
    pub position: usize,
    /// Its name, as it was written.
    pub kid: Option<String>,
    /// Why.
    pub problem: KeySetError,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kid {
            Some(kid) => write!(f, "kid `{}`: {}", shown(kid), self.problem),
            None => write!(f, "key {} without a kid: {}", self.position, self.problem),
        }
    }
}

/// A name from a published key set, shortened and escaped for messages.
fn shown(kid: &str) -> String {
    kid.chars().take(64).flat_map(char::escape_debug).collect()
}

impl KeySet {
    /// Reads a published JWKS and binds each key to the `allowed` algorithms it fits.
    ///
    /// Keys for other purposes or of unknown types are skipped, and one that cannot be used does not take the others
    /// along, as RFC 7517 §5 asks: a broken or weak key, a private key together with its public twin, a symmetric key,
    /// and all keys of an algorithm that share a `kid` are left out and named ([`Self::left_out`]). A set of which
    /// nothing is left is refused, with the first of these problems.
    pub fn parse(json: &[u8], allowed: &[Algorithm]) -> Result<Self, KeySetError> {
        let entries: Vec<Jwk> = entries(json, false)?.into_iter().map(x5c::complete).collect();
        // A published private key is compromised, and so is its public counterpart, if the set holds that too.
        let known: Vec<_> = entries.iter().filter(|jwk| jwk.is_secret()).filter_map(Jwk::thumbprint).collect();
        let is_known = |jwk: &Jwk| jwk.is_secret() || jwk.thumbprint().is_some_and(|own| known.contains(&own));
        let secret: Vec<_> =
            entries.iter().enumerate().filter(|(_, jwk)| is_known(jwk)).map(|(position, _)| position).collect();
        Self::bind_usable(&entries, allowed, &secret)
    }

    /// Reads keys that are kept secret: a JWKS or one JWK, with symmetric keys, or with private keys of
    /// which only the public part is used. Never both: that is how HMAC gets to be verified with a public key.
    pub fn parse_secret(json: &[u8], allowed: &[Algorithm]) -> Result<Self, KeySetError> {
        let entries = entries(json, true)?;
        let symmetric = entries.iter().filter(|jwk| jwk.text("kty") == Some("oct")).count();
        if symmetric != 0 && symmetric != entries.len() {
            return Err(KeySetError::Mixed);
        }
        Self::bind(&entries, allowed)
    }

    /// Binds every key that fits, or returns the first problem: for keys that the operator configured.
    fn bind(entries: &[Jwk], allowed: &[Algorithm]) -> Result<Self, KeySetError> {
        let set = Self::bind_usable(entries, allowed, &[])?;
        match set.left_out.into_iter().next() {
            Some(LeftOut { problem, .. }) => Err(problem),
            None => Ok(Self { keys: set.keys, left_out: Vec::new() }),
        }
    }

    /// Binds the usable keys and lists the others as left out, as it does all keys at the positions in `secret`, whose
    /// private part was published. A set without any usable key is an error.
    fn bind_usable(entries: &[Jwk], allowed: &[Algorithm], secret: &[usize]) -> Result<Self, KeySetError> {
        let mut keys: Vec<BoundKey> = Vec::new();
        let mut left_out: Vec<LeftOut> = Vec::new();
        let identities: Vec<Option<KeyIdentity>> = entries.iter().map(|jwk| identity(jwk).ok()).collect();
        // A key that cannot be read is no other's twin.
        let is_same = |a: usize, b: usize| match (identities.get(a), identities.get(b)) {
            (Some(Some(a)), Some(Some(b))) => a == b,
            _ => false,
        };
        for (position, jwk) in entries.iter().enumerate() {
            let mut leave_out =
                |problem| left_out.push(LeftOut { position, kid: jwk.kid().map(str::to_owned), problem });
            if secret.contains(&position) {
                leave_out(KeySetError::PrivateKey { position });
                continue;
            }
            let others = || entries.iter().enumerate().filter(|(at, _)| *at != position && !secret.contains(at));
            for &algorithm in allowed.iter().filter(|&&algorithm| fits(jwk, algorithm, "verify")) {
                // Ambiguous only where another key could serve the same algorithm under the same name.
                let is_rival = |(at, other): (usize, &Jwk)| {
                    fits(other, algorithm, "verify") && other.kid() == jwk.kid() && !is_same(at, position)
                };
                if let Some(kid) = jwk.kid().filter(|_| others().any(is_rival)) {
                    leave_out(KeySetError::DuplicateKid(shown(kid)));
                    break;
                }
                match load(jwk, algorithm) {
                    Ok(key) => put(&mut keys, key),
                    Err(error) => {
                        leave_out(KeySetError::BrokenKey { position, problem: error.to_string() });
                        break;
                    }
                }
            }
        }
        match (keys.is_empty(), left_out.first()) {
            (true, Some(first)) => Err(first.problem.clone()),
            (true, None) => Err(KeySetError::NoUsableKey),
            (false, _) => Ok(Self { keys, left_out }),
        }
    }

    /// The published keys that cannot be used.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// The set of one key, whatever its purpose and name: for keys that proved their place otherwise.
    pub fn of_key(jwk: &Jwk, allowed: &[Algorithm]) -> Result<Self, KeySetError> {
        Self::bind(std::slice::from_ref(jwk), allowed)
    }

    /// The number of pairs of key and algorithm that can verify.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Never true: a set without usable keys is refused by [`Self::parse`].
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The one key a token means: by `kid`, by certificate thumbprint, or the only key of its algorithm
    /// when it names none.
    pub(crate) fn select(&self, kid: Option<&str>, x5t: Option<&str>, algorithm: Algorithm) -> Option<&BoundKey> {
        let mut fitting = self.keys.iter().filter(|key| key.algorithm == algorithm);
        match (kid, x5t) {
            (Some(kid), _) => fitting.find(|key| key.kid.as_deref() == Some(kid)),
            (None, Some(x5t)) if self.keys.iter().any(|key| key.x5t.is_some()) => {
                fitting.find(|key| key.x5t.as_deref() == Some(x5t))
            }
            (None, _) => fitting.next().filter(|first| fitting.all(|other| other.identity == first.identity)),
        }
    }

    /// The state of this set that explains why [`Self::select`] found nothing: a clause that begins with a colon, of
    /// visible characters and bounded; empty where there is nothing to say.
    pub(crate) fn hint(&self, kid: Option<&str>, x5t: Option<&str>, algorithm: Algorithm) -> String {
        let fitting = self.keys.iter().filter(|key| key.algorithm == algorithm).count();
        if kid.is_none() && x5t.is_none() && fitting > 1 {
            return format!(": {fitting} keys fit, and the token must name one");
        }
        let own: Vec<_> = self.left_out.iter().filter(|key| kid.is_some() && key.kid.as_deref() == kid).collect();
        let named = if own.is_empty() { self.left_out.iter().collect() } else { own };
        let some: Vec<String> = named.iter().take(MAX_NAMED).map(ToString::to_string).collect();
        match (named.len(), named.len().saturating_sub(MAX_NAMED)) {
            (0, _) => String::new(),
            (count, 0) => format!(": {count} of the published keys cannot be used: {}", some.join("; ")),
            (count, more) => {
                format!(": {count} of the published keys cannot be used: {}; and {more} more", some.join("; "))
            }
        }
    }
}

/// Adds a key to those that serve, once: a set may list the same key again, with another certificate or without one.
fn put(keys: &mut Vec<BoundKey>, new: BoundKey) {
    let is_again = |key: &BoundKey| {
        (&key.kid, key.algorithm) == (&new.kid, new.algorithm)
            && key.identity == new.identity
            && (key.x5t == new.x5t || key.x5t.is_none() || new.x5t.is_none())
    };
    match keys.iter_mut().find(|key| is_again(key)) {
        Some(known) => known.x5t = known.x5t.take().or(new.x5t),
        None => keys.push(new),
    }
}

pub(crate) fn entries(json: &[u8], bare: bool) -> Result<Vec<Jwk>, KeySetError> {
    if json.len() > MAX_JWKS_BYTES {
        return Err(KeySetError::TooLarge);
    }
    let document = parse_document(json).map_err(|e| KeySetError::NotJson(e.to_string()))?;
    let entries = match document {
        Value::Object(mut members) => match members.remove("keys") {
            Some(Value::Array(entries)) => entries,
            None if bare => vec![Value::Object(members)],
            _ => return Err(KeySetError::NotAKeySet),
        },
        _ => return Err(KeySetError::NotAKeySet),
    };
    if entries.len() > MAX_KEYS {
        return Err(KeySetError::TooLarge);
    }
    // An entry that is no object fits no algorithm and is skipped, like every other unknown key.
    Ok(entries.into_iter().map(Jwk::from_members).collect())
}

/// Whether the key may serve `algorithm`: by type and curve, and by `alg`, `use` and `key_ops` where given.
pub(crate) fn fits(jwk: &Jwk, algorithm: Algorithm, operation: &str) -> bool {
    use Algorithm::*;
    let kind = match algorithm {
        RS256 | RS384 | RS512 | PS256 | PS384 | PS512 => jwk.text("kty") == Some("RSA"),
        ES256 => is_ec(jwk, "P-256"),
        ES384 => is_ec(jwk, "P-384"),
        ES512 => is_ec(jwk, "P-521"),
        EdDSA => jwk.text("kty") == Some("OKP") && jwk.text("crv") == Some("Ed25519"),
        HS256 | HS384 | HS512 => jwk.text("kty") == Some("oct"),
    };
    let named = match jwk.get("alg") {
        None => true,
        Some(alg) => alg == algorithm.name() || algorithm == EdDSA && alg == "Ed25519",
    };
    kind && named && allows(jwk, "sig", operation)
}

pub(crate) fn is_ec(jwk: &Jwk, curve: &str) -> bool {
    jwk.text("kty") == Some("EC") && jwk.text("crv") == Some(curve)
}

/// Whether `use` and `key_ops` allow the purpose (RFC 7517 §4.2, §4.3). A private key that may sign may also verify.
pub(crate) fn allows(jwk: &Jwk, purpose: &str, operation: &str) -> bool {
    let implied = |op: &Value| op == operation || operation == "verify" && op == "sign";
    let ops_allow = |ops: &Value| ops.as_array().is_some_and(|ops| ops.iter().any(implied));
    jwk.get("use").is_none_or(|used| used == purpose) && jwk.get("key_ops").is_none_or(ops_allow)
}

fn load(jwk: &Jwk, algorithm: Algorithm) -> Result<BoundKey, JwkError> {
    use Algorithm::*;
    let public: &'static dyn VerificationAlgorithm = match algorithm {
        RS256 => &sig::RSA_PKCS1_2048_8192_SHA256,
        RS384 => &sig::RSA_PKCS1_2048_8192_SHA384,
        RS512 => &sig::RSA_PKCS1_2048_8192_SHA512,
        PS256 => &sig::RSA_PSS_2048_8192_SHA256,
        PS384 => &sig::RSA_PSS_2048_8192_SHA384,
        PS512 => &sig::RSA_PSS_2048_8192_SHA512,
        ES256 => &sig::ECDSA_P256_SHA256_FIXED,
        ES384 => &sig::ECDSA_P384_SHA384_FIXED,
        ES512 => &sig::ECDSA_P521_SHA512_FIXED,
        EdDSA => &sig::ED25519,
        HS256 | HS384 | HS512 => return bound(jwk, algorithm, Verifier::Mac(Box::new(mac_key(jwk, algorithm)?))),
    };
    let unusable = "its numbers are not a key that this algorithm accepts (RSA needs 2048 to 8192 bits)";
    let key = ParsedPublicKey::new(public, numbers_of(jwk)?).map_err(|_| JwkError::Broken(unusable))?;
    bound(jwk, algorithm, Verifier::Public(key))
}

fn bound(jwk: &Jwk, algorithm: Algorithm, verifier: Verifier) -> Result<BoundKey, JwkError> {
    let text = |name| jwk.text(name).map(str::to_owned);
    Ok(BoundKey { kid: text("kid"), x5t: text("x5t#S256"), algorithm, verifier, identity: identity(jwk)? })
}

/// The key as the crypto library reads it, which does not depend on how its numbers were written.
fn numbers_of(jwk: &Jwk) -> Result<Vec<u8>, JwkError> {
    match (jwk.text("kty"), jwk.text("crv")) {
        (Some("RSA"), _) => numbers::rsa_public(jwk),
        (Some("EC"), Some("P-256")) => numbers::point(jwk, 32),
        (Some("EC"), Some("P-384")) => numbers::point(jwk, 48),
        (Some("EC"), _) => numbers::point(jwk, 66),
        (Some("OKP"), _) => numbers::okp(jwk, "x"),
        _ => numbers::octets(jwk),
    }
}

fn identity(jwk: &Jwk) -> Result<KeyIdentity, JwkError> {
    Ok(KeyIdentity(digest(&SHA256, &numbers_of(jwk)?).as_ref().to_vec()))
}

/// RFC 7518 §3.2: a key as long as the hash at least.
pub(crate) fn mac_key(jwk: &Jwk, algorithm: Algorithm) -> Result<hmac::Key, JwkError> {
    hmac_key(&numbers::octets(jwk)?, algorithm)
}

fn hmac_key(key: &[u8], algorithm: Algorithm) -> Result<hmac::Key, JwkError> {
    let (hash, least) = match algorithm {
        Algorithm::HS256 => (hmac::HMAC_SHA256, 32),
        Algorithm::HS384 => (hmac::HMAC_SHA384, 48),
        _ => (hmac::HMAC_SHA512, 64),
    };
    if key.len() < least {
        return Err(JwkError::Broken("an HMAC key must have as many bytes as the hash: 32, 48 or 64"));
    }
    Ok(hmac::Key::new(hash, key))
}

#[cfg(test)]
mod tests;
