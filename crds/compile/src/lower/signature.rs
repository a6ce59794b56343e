//! Signed requests (RFC 9421): the method `signature`, and the keys of Credentials.

use std::collections::BTreeSet;

use idm_api::v1alpha1 as wire;
use idm_jose::{Jwk, VerifyingKey, jwk_of_spki, pem_block};
use idm_plan::{CallerKey, KeyMaterial, Secrets, SignatureMethod};
use idm_types::{Algorithm, Redacted, Skew, Timestamp};

use super::source::lower_selector;
use super::{Notes, secret};
use crate::{Cause, Condition, World};

/// The components that make a request what it is. Without one of them, a signature for one request fits another.
const DEFAULT_COMPONENTS: [&str; 5] = ["@method", "@authority", "@path", "@query", "content-digest"];
const DEFAULT_MAX_AGE_SECONDS: i64 = 60;
const MAX_AGE_SECONDS: i64 = 3600;
const DEFAULT_SKEW_SECONDS: i64 = 10;

pub(super) fn lower_signature(
    path: &str,
    method: &wire::SignatureMethod,
    notes: &mut Notes<'_>,
) -> Option<SignatureMethod> {
    let wire::SignatureMethod {
        tag,
        components,
        max_age_seconds,
        clock_skew_seconds,
        danger_replayable,
        credential_selector,
    } = method;
    let max_age = max_age_seconds.unwrap_or(DEFAULT_MAX_AGE_SECONDS);
    if !(1..=MAX_AGE_SECONDS).contains(&max_age) {
        let message = "maxAgeSeconds must be between 1 and 3600";
        return notes.fail(format!("{path}.maxAgeSeconds"), Cause::Invalid, message);
    }
    let skew = clock_skew_seconds.unwrap_or(DEFAULT_SKEW_SECONDS);
    if !(0..=Skew::MAX_SECONDS as i64).contains(&skew) {
        let message = "clockSkewSeconds must be between 0 and 300";
        return notes.fail(format!("{path}.clockSkewSeconds"), Cause::Invalid, message);
    }
    let replayable = danger_replayable.unwrap_or(false);
    if replayable {
        let message = "whoever sees a request can send it again for as long as its signature is valid";
        warn(&format!("{path}.dangerReplayable"), message, notes);
    }
    Some(SignatureMethod {
        tag: tag.clone(),
        components: lower_components(&format!("{path}.components"), components.as_deref(), notes)?,
        max_age_seconds: max_age as u64,
        skew: Skew::from_seconds(skew as u64),
        replayable,
        only: lower_selector(credential_selector.as_ref()),
    })
}

fn lower_components(path: &str, given: Option<&[String]>, notes: &mut Notes<'_>) -> Option<Vec<String>> {
    let Some(given) = given else { return Some(DEFAULT_COMPONENTS.map(str::to_owned).to_vec()) };
    if let Some(wrong) = given.iter().find(|name| !idm_signature::is_component(name)) {
        let message = format!(
            "'{wrong}' must be a header in lower case, or one of @method, @authority, @scheme, @target-uri, @path, \
             @query"
        );
        return notes.fail(path, Cause::Invalid, message);
    }
    let has = |name: &str| given.iter().any(|given| given == name);
    let is_within = |name: &str| matches!(name, "@authority" | "@path" | "@query") && has("@target-uri");
    let without: Vec<&str> = DEFAULT_COMPONENTS.into_iter().filter(|name| !has(name) && !is_within(name)).collect();
    if !without.is_empty() {
        let what = without.join(", ");
        warn(path, &format!("a signature fits other requests, too: it need not cover {what}"), notes);
    }
    Some(given.to_vec())
}

fn warn(path: &str, message: &str, notes: &mut Notes<'_>) {
    let object = notes.object.clone();
    notes.report.push(&object, path, Condition::ResolvedRefs, Cause::DangerousOption, message);
}

/// The keys of a Credential for signed requests.
pub(super) fn lower_signature_keys(
    world: &World,
    signature: &wire::SignatureCredential,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<Vec<CallerKey>> {
    let wire::SignatureCredential { keys } = signature;
    let mut names = BTreeSet::new();
    let mut lowered = Vec::with_capacity(keys.len());
    if keys.is_empty() {
        return notes.fail("spec.signature.keys", Cause::Invalid, "at least one key must be given");
    }
    for (i, key) in keys.iter().enumerate() {
        let path = format!("spec.signature.keys[{i}]");
        if !names.insert(key.id.as_str()) {
            let message = format!("key '{}' must be listed once", key.id);
            return notes.fail(format!("{path}.id"), Cause::Invalid, message);
        }
        lowered.push(lower_key(world, &path, key, secrets, notes)?);
    }
    Some(lowered)
}

fn lower_key(
    world: &World,
    path: &str,
    key: &wire::SignatureKey,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<CallerKey> {
    let wire::SignatureKey { id, algorithm, public_key, secret_ref, expire_time } = key;
    let algorithm = algorithm_of(*algorithm);
    let material = match (public_key, secret_ref) {
        (Some(text), None) if !algorithm.is_symmetric() => {
            lower_public(&format!("{path}.publicKey"), text, algorithm, notes)?
        }
        (None, Some(reference)) if algorithm.is_symmetric() => {
            lower_secret(world, &format!("{path}.secretRef"), reference, algorithm, secrets, notes)?
        }
        _ => {
            let message = "key must have `secretRef` for hmac-sha256, and `publicKey` for every other algorithm";
            return notes.fail(path, Cause::Invalid, message);
        }
    };
    let expires = lower_key_end(&format!("{path}.expireTime"), expire_time.as_deref(), notes)?;
    Some(CallerKey { id: id.clone(), algorithm, material, expires })
}

/// The end of a key; `Some(None)` where it has none of its own.
pub(super) fn lower_key_end(path: &str, text: Option<&str>, notes: &mut Notes<'_>) -> Option<Option<Timestamp>> {
    match text {
        None => Some(None),
        Some(text) => super::credential::lower_end(path, text, notes).map(Some),
    }
}

/// The algorithm of JOSE that signs in the same way.
fn algorithm_of(algorithm: wire::SignatureAlgorithm) -> Algorithm {
    match algorithm {
        wire::SignatureAlgorithm::Ed25519 => Algorithm::EdDSA,
        wire::SignatureAlgorithm::EcdsaP256Sha256 => Algorithm::ES256,
        wire::SignatureAlgorithm::EcdsaP384Sha384 => Algorithm::ES384,
        wire::SignatureAlgorithm::RsaPssSha512 => Algorithm::PS512,
        wire::SignatureAlgorithm::RsaV15Sha256 => Algorithm::RS256,
        wire::SignatureAlgorithm::HmacSha256 => Algorithm::HS256,
    }
}

/// A public key, checked as the gateway will load it. Its text may be a private key by mistake, and does not get into
/// any message.
fn lower_public(path: &str, text: &str, algorithm: Algorithm, notes: &mut Notes<'_>) -> Option<KeyMaterial> {
    let jwk = match text.trim_start().starts_with('{') {
        true => Jwk::parse(text.as_bytes()).ok(),
        false => pem_block(text, "PUBLIC KEY").and_then(|der| jwk_of_spki(&der).ok()),
    };
    let Some(jwk) = jwk else {
        let message = "the key must be PEM with one `BEGIN PUBLIC KEY`, or one JWK";
        return notes.fail(path, Cause::Invalid, message);
    };
    if jwk.is_secret() {
        let message = "the key has its private part: give the public part alone, and replace the key";
        return notes.fail(path, Cause::Invalid, message);
    }
    match VerifyingKey::of_public(&jwk, algorithm) {
        Ok(_) => Some(KeyMaterial::Public(jwk.reveal().to_string())),
        Err(_) => {
            let message = format!("the key ({}) cannot be used with {}", jwk.describe(), algorithm.name());
            notes.fail(path, Cause::Invalid, message)
        }
    }
}

/// A secret that the caller has too.
pub(super) fn lower_secret(
    world: &World,
    path: &str,
    reference: &wire::KeyReference,
    algorithm: Algorithm,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<KeyMaterial> {
    let key = reference.key.as_deref().unwrap_or("secret");
    let value = match secret::value(world, &reference.name, key) {
        Ok(value) => value,
        Err((cause, why)) => return notes.fail(path, cause, why),
    };
    if VerifyingKey::of_secret(value.reveal(), algorithm).is_err() {
        let message = format!(
            "Secret '{}', key '{key}', must hold as many bytes as the hash of {} at least: 32, 48 or 64",
            reference.name,
            algorithm.name()
        );
        return notes.fail(path, Cause::InvalidRef, message);
    }
    let handle = world.handle(idm_plan::SecretHandle::of_secret(&reference.name, key).0);
    secrets.put(handle.clone(), Redacted::new(value.reveal().clone()));
    Some(KeyMaterial::Secret(handle))
}
