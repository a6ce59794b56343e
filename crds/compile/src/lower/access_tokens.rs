//! The methods `jwt` and `introspection`, whose credential is an access token.

use idm_api::v1alpha1 as wire;
use idm_plan::{Confirmation, IntrospectionMethod, Issuer, JwtMethod, KeySource, Secrets, Source};
use idm_types::{Algorithm, Skew};

use super::Notes;
use super::keys::{DEFAULT_ALGORITHMS, check_url, lower_keys, secret_text};
use super::source::{lower_source, non_empty};
use super::token_service::published;
use crate::{Cause, Condition, World};

const DEFAULT_SKEW_SECONDS: i64 = 30;

pub(super) fn lower_jwt(
    world: &World,
    path: &str,
    jwt: &wire::JwtMethod,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<JwtMethod> {
    let wire::JwtMethod { issuers, sources, clock_skew_seconds, confirmation } = jwt;
    let mut lowered: Vec<Issuer> = Vec::new();
    for (i, issuer) in issuers.iter().enumerate() {
        let path = format!("{path}.issuers[{i}]");
        // A suspended Federation authenticates no caller, also where its tokens are presented.
        if issuer.federation_ref.as_ref().is_some_and(|reference| is_suspended(world, &reference.name)) {
            continue;
        }
        let issuer = lower_issuer(world, &path, issuer, secrets, notes)?;
        if lowered.iter().any(|other| other.issuer == issuer.issuer) {
            return notes.fail(
                path,
                Cause::Invalid,
                format!("issuer '{}' must be listed once; give it all its audiences there", issuer.issuer),
            );
        }
        lowered.push(issuer);
    }
    if issuers.is_empty() {
        return notes.fail(format!("{path}.issuers"), Cause::Invalid, "at least one issuer must be given");
    }
    let seconds = clock_skew_seconds.unwrap_or(DEFAULT_SKEW_SECONDS);
    if !(0..=Skew::MAX_SECONDS as i64).contains(&seconds) {
        return notes.fail(
            format!("{path}.clockSkewSeconds"),
            Cause::Invalid,
            "clockSkewSeconds must be between 0 and 300",
        );
    }
    let sources = token_sources(path, sources.as_deref(), notes)?;
    Some(JwtMethod {
        issuers: lowered,
        sources,
        skew: Skew::from_seconds(seconds as u64),
        confirmation: lower_confirmation(confirmation.as_ref()),
    })
}

fn is_suspended(world: &World, federation: &str) -> bool {
    world.federations.iter().any(|known| known.meta.name == federation && known.spec.suspend == Some(true))
}

pub(super) fn token_sources(
    path: &str,
    sources: Option<&[wire::TokenSource]>,
    notes: &mut Notes<'_>,
) -> Option<Vec<Source>> {
    let Some(given) = sources else {
        return Some(
            ["Bearer", "DPoP"]
                .map(|scheme| Source::Header { name: "authorization".into(), scheme: Some(scheme.into()) })
                .to_vec(),
        );
    };
    let mut lowered = Vec::new();
    for (i, wire::TokenSource { header, cookie, query }) in given.iter().enumerate() {
        let path = format!("{path}.sources[{i}]");
        let named = query.as_ref().map(|query| wire::NamedSource { name: query.name.clone() });
        let source = lower_source(&path, header.as_ref(), cookie.as_ref(), named.as_ref(), notes)?;
        let Some(wire::QueryTokenSource { name, requests_per_minute }) = query else {
            lowered.push(source);
            continue;
        };
        let message = format!(
            "tokens in the query parameter '{name}' stay in logs, histories and referrers: use it only for clients \
             that can do no better"
        );
        notes.report.push(
            &notes.object,
            format!("{path}.query"),
            Condition::Programmed,
            Cause::DangerousOption,
            message,
        );
        let Ok(per_minute @ 1..=6000) = u32::try_from(requests_per_minute.unwrap_or(60)) else {
            return notes.fail(
                format!("{path}.query.requestsPerMinute"),
                Cause::Invalid,
                "requestsPerMinute must be between 1 and 6000",
            );
        };
        lowered.push(Source::Query { name: name.clone(), per_minute: Some(per_minute) });
    }
    non_empty(path, lowered, notes)
}

fn lower_confirmation(confirmation: Option<&wire::Confirmation>) -> Confirmation {
    let required = |demand: &Option<wire::Demand>| *demand == Some(wire::Demand::Required);
    confirmation.map_or_else(Confirmation::default, |wire::Confirmation { dpop, certificate }| Confirmation {
        dpop: required(dpop),
        certificate: required(certificate),
    })
}

pub(super) fn lower_introspection(
    world: &World,
    path: &str,
    method: &wire::IntrospectionMethod,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<IntrospectionMethod> {
    let wire::IntrospectionMethod {
        issuer,
        endpoint,
        client_id,
        client_secret_ref,
        audiences,
        sources,
        cache_seconds,
        confirmation,
    } = method;
    check_url(world, &format!("{path}.endpoint"), endpoint, notes)?;
    let (client_secret, _) =
        secret_text(world, &format!("{path}.clientSecretRef"), client_secret_ref, "clientSecret", secrets, notes)?;
    let cache_seconds = cache_seconds.unwrap_or(15);
    if !(0..=300).contains(&cache_seconds) {
        return notes.fail(format!("{path}.cacheSeconds"), Cause::Invalid, "cacheSeconds must be between 0 and 300");
    }
    Some(IntrospectionMethod {
        endpoint: endpoint.clone(),
        client_id: client_id.clone(),
        client_secret,
        issuer: issuer.clone(),
        audiences: audiences.clone().unwrap_or_default(),
        sources: token_sources(path, sources.as_deref(), notes)?,
        cache_seconds: cache_seconds as u64,
        confirmation: lower_confirmation(confirmation.as_ref()),
    })
}

fn lower_issuer(
    world: &World,
    path: &str,
    entry: &wire::JwtIssuer,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<Issuer> {
    let wire::JwtIssuer {
        issuer,
        federation_ref,
        token_service_ref,
        audiences,
        client_ids,
        keys,
        algorithms,
        types,
        profile,
    } = entry;
    let (audiences, client_ids) = lower_recipients(path, audiences.as_ref(), client_ids.as_ref(), notes)?;
    let types: Vec<String> = types
        .iter()
        .flatten()
        .map(|t| t.to_ascii_lowercase())
        .map(|t| t.strip_prefix("application/").map(str::to_owned).unwrap_or(t))
        .collect();
    let (issuer, keys, algorithms) = match (issuer, keys, federation_ref, token_service_ref) {
        (Some(issuer), Some(keys), None, None) => {
            let algorithms = lower_algorithms(path, algorithms.as_deref(), notes)?;
            let keys = lower_keys(world, &format!("{path}.keys"), issuer, keys, &algorithms, secrets, notes)?;
            (issuer.clone(), keys, algorithms)
        }
        (None, None, None, Some(reference)) if algorithms.is_none() => {
            let (issuer, jwks, algorithms) =
                published(world, &format!("{path}.tokenServiceRef"), &reference.name, notes)?;
            (issuer, KeySource::Inline { jwks }, algorithms)
        }
        (None, None, Some(reference), None) if algorithms.is_none() => {
            lower_federated(world, &format!("{path}.federationRef"), &reference.name, secrets, notes)?
        }
        _ => {
            return notes.fail(
                path,
                Cause::Invalid,
                "an issuer entry must have `issuer` with `keys`, or `federationRef` or `tokenServiceRef` without \
                    `keys` and `algorithms`",
            );
        }
    };
    let issued_here = token_service_ref.is_some();
    // Our own service writes `at+jwt` into every token.
    let rfc9068 = *profile == Some(wire::TokenProfile::Rfc9068);
    let types = if (issued_here || rfc9068) && types.is_empty() { vec!["at+jwt".to_owned()] } else { types };
    if rfc9068 && types != ["at+jwt"] {
        return notes.fail(
            format!("{path}.types"),
            Cause::Invalid,
            "`types` must be left out, or be `at+jwt`, with the profile RFC9068",
        );
    }
    Some(Issuer { issuer, audiences, client_ids, keys, algorithms, types, rfc9068, issued_here })
}

/// The audiences and clients whose tokens are accepted, of which at least one is named.
fn lower_recipients(
    path: &str,
    audiences: Option<&Vec<String>>,
    client_ids: Option<&Vec<String>>,
    notes: &mut Notes<'_>,
) -> Option<(Vec<String>, Vec<String>)> {
    let lists = [("audiences", audiences), ("clientIds", client_ids)];
    if let Some((name, _)) = lists.iter().find(|(_, list)| list.is_some_and(Vec::is_empty)) {
        let message = "the list must not be empty: without it every token of the issuer would do";
        return notes.fail(format!("{path}.{name}"), Cause::Invalid, message);
    }
    if lists.iter().all(|(_, list)| list.is_none()) {
        let message = "at least one audience must be given, or `clientIds` where the issuer writes no `aud`: without \
                       either every token of the issuer would do";
        return notes.fail(format!("{path}.audiences"), Cause::Invalid, message);
    }
    let owned = |list: Option<&Vec<String>>| list.cloned().unwrap_or_default();
    Some((owned(audiences), owned(client_ids)))
}

/// The issuer, its keys and algorithms as a Federation has them.
fn lower_federated(
    world: &World,
    path: &str,
    name: &str,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<(String, KeySource, Vec<Algorithm>)> {
    let Some(federation) = world.federations.iter().find(|federation| federation.meta.name == name) else {
        return notes.fail(
            path,
            Cause::RefNotFound,
            format!("Federation '{name}' must exist in this namespace and be readable"),
        );
    };
    // `client` is read by federation.rs.
    let Some(wire::OidcProvider { issuer, keys, algorithms, client: _ }) = &federation.spec.oidc else {
        return notes.fail(path, Cause::InvalidRef, format!("Federation '{name}' must be of type `oidc`"));
    };
    let algorithms = lower_algorithms(path, algorithms.as_deref(), notes)?;
    let keys = keys.clone().unwrap_or_else(|| wire::KeySources::discovered(None));
    let keys = lower_keys(world, path, issuer, &keys, &algorithms, secrets, notes)?;
    Some((issuer.clone(), keys, algorithms))
}

pub(crate) fn lower_algorithms(
    path: &str,
    algorithms: Option<&[idm_types::Algorithm]>,
    notes: &mut Notes<'_>,
) -> Option<Vec<Algorithm>> {
    match algorithms {
        None => Some(DEFAULT_ALGORITHMS.to_vec()),
        Some([]) => notes.fail(
            format!("{path}.algorithms"),
            Cause::Invalid,
            "at least one algorithm must be given; leave `algorithms` out for RS256 and ES256",
        ),
        Some(given) => Some(given.to_vec()),
    }
}
