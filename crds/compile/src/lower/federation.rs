//! Federations: the providers where people sign in, and the directories that know their passwords.

use idm_api::v1alpha1 as wire;
use idm_jose::{SigningKey, private_key};
use idm_plan::{
    Federation, FederationKind, KeySource, ObjectKey, OidcProvider, Plan, ProviderAuthentication, ProviderEndpoints,
    Secrets,
};
use idm_types::{Algorithm, Skew, Timestamp};

use super::Notes;
use super::access_tokens::lower_algorithms;
use super::directory::{lower_directory, lower_mappings};
use super::keys::{check_url, lower_keys, secret_text};
use super::mtls::lower_outgoing;
use super::saml::lower_saml;
use crate::{Cause, Condition, Object, ObjectId, Report, World};

/// The sentence for a Federation that is of no type, or of several.
pub(crate) const EXACTLY_ONE: &str = "federation must have exactly one of `oidc`, `saml`, `ldap`, `database`, `rest`";

/// Parameters of an authorization request that only the gateway may set.
const OWN_PARAMETERS: &[&str] = &[
    "response_type",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "request",
    "request_uri",
    "acr_values",
    "max_age",
];

/// The ways in which a provider's answer may travel.
const RESPONSE_MODES: &[&str] = &["query", "form_post"];

/// The Federations where people can sign in, by name. One that became invalid keeps its version in `previous`; the
/// flag tells whether one does.
pub(crate) fn lower_federations(
    world: &World,
    previous: Option<&Plan>,
    secrets: &mut Secrets,
    report: &mut Report,
) -> (Vec<Federation>, bool) {
    let (mut lowered, mut keeps_previous) = (Vec::new(), false);
    for object in &world.federations {
        let mut notes = Notes::new(report, ObjectId::new("Federation", &world.namespace, &object.meta.name));
        let federation = lower(world, object, secrets, &mut notes);
        let failed = notes.failed;
        let last_good = || {
            previous
                .and_then(|plan| plan.federations.iter().find(|known| known.uid == object.meta.uid))
                .filter(|_| failed)
                .cloned()
        };
        lowered.extend(federation.or_else(|| {
            let kept = last_good();
            keeps_previous |= kept.is_some();
            kept
        }));
    }
    lowered.sort_by(|a: &Federation, b| a.key.cmp(&b.key));
    (lowered, keeps_previous)
}

fn lower(
    world: &World,
    object: &Object<wire::FederationSpec>,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<Federation> {
    // `lower_directory` reads the others.
    let wire::FederationSpec {
        oidc,
        saml,
        ldap: _,
        database: _,
        rest: _,
        login: _,
        display_name,
        role_mappings: _,
        provisioning,
        ended_sessions,
        suspend,
        clock_skew_seconds,
    } = &object.spec;
    let skew = clock_skew_seconds.unwrap_or(30);
    let Some(skew) = u64::try_from(skew).ok().filter(|seconds| *seconds <= 300) else {
        let message = format!("{skew} must be a number of seconds between 0 and 300");
        return notes.fail("spec.clockSkewSeconds", Cause::Invalid, message);
    };
    let kind = match (oidc, saml, lower_directory(world, &object.spec, secrets, notes)) {
        (Some(oidc), None, None) => FederationKind::Oidc(Box::new(lower_provider(world, oidc, secrets, notes)?)),
        (None, Some(saml), None) => FederationKind::Saml(Box::new(lower_saml(world, saml, secrets, notes)?)),
        (None, None, Some(directory)) => FederationKind::Directory(Box::new(directory?)),
        _ => return notes.fail("spec", Cause::Invalid, EXACTLY_ONE),
    };
    let mut ended = Vec::new();
    for (i, wire::EndedSessions { subject, before_time }) in ended_sessions.iter().flatten().enumerate() {
        let Some(before) = Timestamp::parse_rfc3339(before_time) else {
            let message = format!("'{before_time}' must be a time in UTC such as 2027-01-01T00:00:00Z");
            return notes.fail(format!("spec.endedSessions[{i}].beforeTime"), Cause::Invalid, message);
        };
        ended.push((subject.clone(), before));
    }
    let mappings = lower_mappings(&object.spec, notes)?;
    Some(Federation {
        key: ObjectKey::new(&world.namespace, &object.meta.name),
        uid: object.meta.uid.clone(),
        title: display_name.clone().unwrap_or_else(|| object.meta.name.clone()),
        kind,
        role_mappings: mappings,
        provisions: provisioning.as_ref().map(|wire::Provisioning { role }| role.clone()),
        ended,
        suspended: suspend.unwrap_or(false),
        skew: Skew::from_seconds(skew),
    })
}

fn lower_provider(
    world: &World,
    oidc: &wire::OidcProvider,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<OidcProvider> {
    let wire::OidcProvider { issuer, keys, algorithms, client } = oidc;
    // Without a client there is no sign-in at this Federation: policies that accept its tokens lower the rest.
    let wire::OidcClient {
        client_id,
        authentication,
        scopes,
        endpoints,
        tls,
        claims_from,
        emails,
        danger_password_grant,
        parameters,
    } = client.as_ref()?;
    let path = "spec.oidc.client";
    let algorithms = lower_algorithms("spec.oidc", algorithms.as_deref(), notes)?;
    if algorithms.iter().any(|algorithm| algorithm.is_symmetric()) {
        return notes.fail(
            "spec.oidc.algorithms",
            Cause::Invalid,
            "the algorithms must be asymmetric ones where people sign in",
        );
    }
    let keys = keys.clone().unwrap_or_else(|| wire::KeySources::discovered(tls.clone()));
    let keys = lower_keys(world, "spec.oidc.keys", issuer, &keys, &algorithms, secrets, notes)?;
    let tls = match tls {
        Some(tls) => Some(lower_outgoing(world, &format!("{path}.tls"), tls, secrets, notes)?),
        None => None,
    };
    let endpoints = lower_endpoints(world, &format!("{path}.endpoints"), endpoints.clone().unwrap_or_default(), notes)?;
    let written = endpoints.authorization.is_some() && endpoints.token.is_some();
    let discovery = match &keys {
        KeySource::Discovery { url, .. } => Some(url.clone()),
        KeySource::Url { .. } | KeySource::Inline { .. } if written => None,
        KeySource::Url { .. } | KeySource::Inline { .. } => {
            let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
            check_url(world, "spec.oidc.issuer", &url, notes)?;
            Some(url)
        }
    };
    let authentication =
        lower_authentication(world, &format!("{path}.authentication"), authentication.as_ref(), secrets, notes)?;
    if authentication == ProviderAuthentication::Certificate && tls.as_ref().is_none_or(|tls| tls.certificate.is_none())
    {
        let message = "`tlsClientAuth` needs the certificate of `tls.clientCertificateRef`";
        return notes.fail(format!("{path}.authentication.tlsClientAuth"), Cause::Invalid, message);
    }
    let parameters = lower_parameters(&format!("{path}.parameters"), parameters.as_deref(), notes)?;
    warn_of_dangers(path, *emails, *danger_password_grant, notes);
    let usual = || vec!["profile".to_owned(), "email".to_owned()];
    let mut all = vec!["openid".to_owned()];
    all.extend(scopes.clone().unwrap_or_else(usual).into_iter().filter(|scope| scope != "openid"));
    Some(OidcProvider {
        issuer: issuer.clone(),
        keys,
        algorithms,
        discovery,
        endpoints,
        tls,
        client_id: client_id.clone(),
        authentication,
        scopes: all,
        takes_passwords: *danger_password_grant == Some(true),
        parameters,
        userinfo: *claims_from != Some(wire::ClaimsFrom::IdToken),
        takes_unverified_emails: *emails == Some(wire::Emails::DangerAll),
    })
}

/// Settings that look dangerous are said to be.
fn warn_of_dangers(path: &str, emails: Option<wire::Emails>, password_grant: Option<bool>, notes: &mut Notes<'_>) {
    if emails == Some(wire::Emails::DangerAll) {
        let message = "DangerAll believes e-mail addresses that the provider has not verified: whoever may choose an \
            address there can be anyone here";
        notes.report.push(
            &notes.object,
            format!("{path}.emails"),
            Condition::Programmed,
            Cause::DangerousOption,
            message,
        );
    }
    if password_grant == Some(true) {
        let message = "people learn to type their password of the provider elsewhere, and no second factor is asked \
            for: whoever has a password is in";
        let at = format!("{path}.dangerPasswordGrant");
        notes.report.push(&notes.object, at, Condition::Programmed, Cause::DangerousOption, message);
    }
}

/// Additional parameters of authorization requests, beside those that the gateway sets.
fn lower_parameters(
    path: &str,
    parameters: Option<&[wire::AuthorizationParameter]>,
    notes: &mut Notes<'_>,
) -> Option<Vec<(String, String)>> {
    let mut lowered = Vec::new();
    for (i, wire::AuthorizationParameter { name, value }) in parameters.into_iter().flatten().enumerate() {
        if OWN_PARAMETERS.contains(&name.as_str()) {
            let message = format!("the parameter '{name}' must not be replaced: the gateway sets it itself");
            return notes.fail(format!("{path}[{i}].name"), Cause::Invalid, message);
        }
        if name == "response_mode" && !RESPONSE_MODES.contains(&value.as_str()) {
            let message =
                format!("the response mode '{value}' is not supported: use one of {}", RESPONSE_MODES.join(", "));
            return notes.fail(format!("{path}[{i}].value"), Cause::Invalid, message);
        }
        lowered.push((name.clone(), value.clone()));
    }
    Some(lowered)
}

fn lower_endpoints(
    world: &World,
    path: &str,
    endpoints: wire::OidcEndpoints,
    notes: &mut Notes<'_>,
) -> Option<ProviderEndpoints> {
    let wire::OidcEndpoints { authorization, token, userinfo, end_session, pushed_authorization } = endpoints;
    let named = [
        ("authorization", &authorization),
        ("token", &token),
        ("userinfo", &userinfo),
        ("endSession", &end_session),
        ("pushedAuthorization", &pushed_authorization),
    ];
    for (name, url) in named {
        if let Some(url) = url {
            check_url(world, &format!("{path}.{name}"), url, notes)?;
        }
    }
    Some(ProviderEndpoints { authorization, token, userinfo, end_session, pushed_authorization })
}

fn lower_authentication(
    world: &World,
    path: &str,
    authentication: Option<&wire::OidcClientAuthentication>,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<ProviderAuthentication> {
    let Some(authentication) = authentication else { return Some(ProviderAuthentication::Nothing) };
    let wire::OidcClientAuthentication { client_secret_basic, client_secret_post, private_key_jwt, tls_client_auth } =
        authentication;
    match (client_secret_basic, client_secret_post, private_key_jwt, tls_client_auth) {
        (Some(reference), None, None, None) => {
            let (secret, _) =
                secret_text(world, &format!("{path}.clientSecretBasic"), reference, "clientSecret", secrets, notes)?;
            Some(ProviderAuthentication::Basic(secret))
        }
        (None, Some(reference), None, None) => {
            let (secret, _) =
                secret_text(world, &format!("{path}.clientSecretPost"), reference, "clientSecret", secrets, notes)?;
            Some(ProviderAuthentication::Post(secret))
        }
        (None, None, Some(wire::OidcAssertion { key_ref, algorithm }), None) => {
            let path = format!("{path}.privateKeyJwt.keyRef");
            let algorithm = algorithm.unwrap_or(Algorithm::ES256);
            let (key, text) = secret_text(world, &path, key_ref, "key", secrets, notes)?;
            if algorithm.is_symmetric() {
                return notes.fail(path, Cause::Invalid, "the algorithm must be an asymmetric one");
            }
            match private_key(&text).map(|jwk| SigningKey::from_jwk(&jwk, algorithm)) {
                Some(Ok(_)) => Some(ProviderAuthentication::Assertion { key, algorithm }),
                Some(Err(error)) => notes.fail(path, Cause::InvalidRef, format!("Secret '{}': {error}", key_ref.name)),
                None => notes.fail(
                    path,
                    Cause::InvalidRef,
                    format!("Secret '{}' must hold one private key, as JWK or in PEM", key_ref.name),
                ),
            }
        }
        (None, None, None, Some(wire::TlsClientAuth {})) => Some(ProviderAuthentication::Certificate),
        _ => notes.fail(
            path,
            Cause::Invalid,
            "authentication must have exactly one of `clientSecretBasic`, `clientSecretPost`, `privateKeyJwt`, \
                `tlsClientAuth`",
        ),
    }
}
