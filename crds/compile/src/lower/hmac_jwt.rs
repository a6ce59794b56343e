//! JWTs that callers sign themselves: the method `hmacJwt`, and the secrets of Credentials.

use std::collections::BTreeSet;

use idm_api::v1alpha1 as wire;
use idm_plan::{CallerKey, HmacJwtMethod, Proof, Secrets};
use idm_types::{Algorithm, Skew};

use super::Notes;
use super::access_tokens::token_sources;
use super::signature::{lower_key_end, lower_secret};
use super::source::lower_selector;
use crate::{Cause, Condition, World};

const DEFAULT_SKEW_SECONDS: i64 = 30;
const MAX_LIFETIME_SECONDS: i64 = 31_536_000;

pub(super) fn lower_hmac_jwt(path: &str, method: &wire::HmacJwtMethod, notes: &mut Notes<'_>) -> Option<HmacJwtMethod> {
    let wire::HmacJwtMethod { sources, audiences, max_lifetime_seconds, clock_skew_seconds, credential_selector } =
        method;
    if audiences.as_ref().is_some_and(Vec::is_empty) {
        let message = "at least one audience must be given; leave `audiences` out for tokens without `aud`";
        return notes.fail(format!("{path}.audiences"), Cause::Invalid, message);
    }
    if audiences.is_none() {
        let message = "a token that a caller made for another API is taken here, too: let tokens have an `aud`";
        let object = notes.object.clone();
        let at = format!("{path}.audiences");
        notes.report.push(&object, at, Condition::ResolvedRefs, Cause::DangerousOption, message);
    }
    let lifetime = max_lifetime_seconds.as_ref();
    if lifetime.is_some_and(|seconds| !(1..=MAX_LIFETIME_SECONDS).contains(seconds)) {
        let message = "maxLifetimeSeconds must be between 1 and 31536000";
        return notes.fail(format!("{path}.maxLifetimeSeconds"), Cause::Invalid, message);
    }
    let skew = clock_skew_seconds.unwrap_or(DEFAULT_SKEW_SECONDS);
    if !(0..=Skew::MAX_SECONDS as i64).contains(&skew) {
        let message = "clockSkewSeconds must be between 0 and 300";
        return notes.fail(format!("{path}.clockSkewSeconds"), Cause::Invalid, message);
    }
    Some(HmacJwtMethod {
        sources: token_sources(path, sources.as_deref(), notes)?,
        audiences: audiences.clone().unwrap_or_default(),
        max_lifetime_seconds: lifetime.map(|seconds| seconds.unsigned_abs()),
        skew: Skew::from_seconds(skew as u64),
        only: lower_selector(credential_selector.as_ref()),
    })
}

/// The secrets of a Credential for its tokens.
pub(super) fn lower_hmac_keys(
    world: &World,
    jwt: &wire::HmacJwtCredential,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<Proof> {
    let wire::HmacJwtCredential { issuer, keys } = jwt;
    if keys.is_empty() {
        return notes.fail("spec.hmacJwt.keys", Cause::Invalid, "at least one key must be given");
    }
    let (mut names, mut lowered) = (BTreeSet::new(), Vec::with_capacity(keys.len()));
    for (i, wire::HmacJwtKey { id, algorithm, secret_ref, expire_time }) in keys.iter().enumerate() {
        let path = format!("spec.hmacJwt.keys[{i}]");
        if !names.insert(id.as_str()) {
            return notes.fail(format!("{path}.id"), Cause::Invalid, format!("key '{id}' must be listed once"));
        }
        let algorithm = match algorithm {
            None | Some(wire::HmacAlgorithm::HS256) => Algorithm::HS256,
            Some(wire::HmacAlgorithm::HS384) => Algorithm::HS384,
            Some(wire::HmacAlgorithm::HS512) => Algorithm::HS512,
        };
        let material = lower_secret(world, &format!("{path}.secretRef"), secret_ref, algorithm, secrets, notes)?;
        let expires = lower_key_end(&format!("{path}.expireTime"), expire_time.as_deref(), notes)?;
        lowered.push(CallerKey { id: id.clone(), algorithm, material, expires });
    }
    Some(Proof::HmacJwt { issuer: issuer.clone(), keys: lowered })
}
