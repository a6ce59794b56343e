//! Issuers and the sources of their keys.

use std::net::IpAddr;

use idm_api::v1alpha1::{KeyReference, KeySources};
use idm_jose::KeySet;
use idm_plan::{KeySource, SecretHandle, Secrets};
use idm_types::{Algorithm, Redacted};
use url::{Host, Url};

use super::mtls::lower_outgoing;
use super::{Notes, secret};
use crate::{Cause, World};

/// The algorithms when a policy names none.
pub(crate) const DEFAULT_ALGORITHMS: &[Algorithm] = &[Algorithm::RS256, Algorithm::ES256];

pub(crate) fn lower_keys(
    world: &World,
    path: &str,
    issuer: &str,
    keys: &KeySources,
    algorithms: &[Algorithm],
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<KeySource> {
    // No `..`: a member that users can set and that we ignore would have no effect and no finding.
    let KeySources { discovery, jwks_uri, inline, secret_ref, tls } = keys;
    if tls.is_some() && discovery.is_none() && jwks_uri.is_none() {
        return notes.fail(
            format!("{path}.tls"),
            Cause::Invalid,
            "`tls` must be set only with `discovery` or `jwksUri`: nothing else is fetched",
        );
    }
    let is_published = discovery.is_some() || jwks_uri.is_some();
    if is_published && algorithms.iter().all(|algorithm| algorithm.is_symmetric()) {
        let message = "published keys are public, and the `algorithms` are all for keys that are shared in secret: no \
                       token could be verified";
        return notes.fail(path, Cause::Invalid, message);
    }
    let tls = match tls {
        Some(tls) => Some(lower_outgoing(world, &format!("{path}.tls"), tls, secrets, notes)?),
        None => None,
    };
    match (discovery, jwks_uri, inline, secret_ref) {
        (Some(_), None, None, None) => {
            let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
            check_url(world, &format!("{path}.discovery"), &url, notes)?;
            Some(KeySource::Discovery { url, tls })
        }
        (None, Some(url), None, None) => {
            check_url(world, &format!("{path}.jwksUri"), url, notes)?;
            Some(KeySource::Url { url: url.clone(), tls })
        }
        (None, None, Some(jwks), None) => {
            checked_jwks(&format!("{path}.inline"), jwks.clone(), algorithms, Cause::Invalid, notes)
        }
        (None, None, None, Some(reference)) => {
            let path = format!("{path}.secretRef");
            let key = reference.key.as_deref().unwrap_or("jwks.json");
            let value = match secret::value(world, &reference.name, key) {
                Ok(value) => value,
                Err((cause, why)) => return notes.fail(path, cause, why),
            };
            let Ok(jwks) = String::from_utf8(value.reveal().clone()) else {
                return notes.fail(
                    path,
                    Cause::InvalidRef,
                    format!("Secret '{}', key '{key}', must hold JSON text", reference.name),
                );
            };
            checked_jwks(&path, jwks, algorithms, Cause::InvalidRef, notes)
        }
        _ => notes.fail(
            path,
            Cause::Invalid,
            "keys must have exactly one of `discovery`, `jwksUri`, `inline`, `secretRef`",
        ),
    }
}

/// Takes one key of a Secret into the bundle and returns its text for checks. The text must not get into any message.
pub(crate) fn secret_text(
    world: &World,
    path: &str,
    reference: &KeyReference,
    usual: &str,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<(SecretHandle, String)> {
    let key = reference.key.as_deref().unwrap_or(usual);
    let value = match secret::value(world, &reference.name, key) {
        Ok(value) => value,
        Err((cause, why)) => return notes.fail(path, cause, why),
    };
    let Ok(text) = String::from_utf8(value.reveal().clone()) else {
        return notes.fail(
            path,
            Cause::InvalidRef,
            format!("Secret '{}', key '{key}', must hold text", reference.name),
        );
    };
    let handle = world.handle(SecretHandle::of_secret(&reference.name, key).0);
    secrets.put(handle.clone(), Redacted::new(text.clone().into_bytes()));
    Some((handle, text))
}

fn checked_jwks(
    path: &str,
    jwks: String,
    algorithms: &[Algorithm],
    cause: Cause,
    notes: &mut Notes<'_>,
) -> Option<KeySource> {
    match KeySet::parse(jwks.as_bytes(), algorithms) {
        // A user wrote it by hand, so it gets a finding: a key that can never verify is a mistake in the object.
        Ok(set) => match set.left_out().first() {
            Some(left_out) => notes.fail(path, cause, left_out.to_string()),
            None => Some(KeySource::Inline { jwks }),
        },
        Err(error) => notes.fail(path, cause, error.to_string()),
    }
}

/// The gateway fetches a URL that a tenant wrote, so it must not lead to addresses that only the gateway can reach. The
/// fetcher checks the addresses again after every DNS answer.
pub(crate) fn check_url(world: &World, path: &str, text: &str, notes: &mut Notes<'_>) -> Option<()> {
    match judge_url(world, text) {
        Ok(()) => Some(()),
        Err(why) => notes.fail(path, Cause::Invalid, why),
    }
}

/// The same, for a URL that is part of a field; the error gives the reason why it may not be used.
pub(crate) fn judge_url(world: &World, text: &str) -> Result<(), String> {
    let url = Url::parse(text).map_err(|_| format!("'{text}' must be a URL"))?;
    let insecure_allowed = world.settings.danger_insecure_issuers;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the URL must not contain a user name or password".into());
    }
    let local = match url.host() {
        None => return Err(format!("'{text}' must name a host")),
        Some(Host::Ipv4(ip)) => is_local(ip.into()),
        Some(Host::Ipv6(ip)) => is_local(ip.into()),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
    };
    let in_cluster = url.host_str().is_some_and(|name| name.ends_with(".svc") || name.ends_with(".svc.cluster.local"));
    match url.scheme() {
        "https" | "http" if local && !insecure_allowed => {
            Err("the URL must not point at the gateway's own machine or at link-local addresses".into())
        }
        "https" => Ok(()),
        "http" if insecure_allowed || in_cluster => Ok(()),
        "http" => Err("the URL must be https: over plain http anyone on the way can replace what comes from there \
                       (only Services of the cluster may use http)"
            .into()),
        _ => Err(format!("'{text}' must be an http or https URL")),
    }
}

fn is_local(ip: IpAddr) -> bool {
    idm_plan::is_local_address(ip)
}
