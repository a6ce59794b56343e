//! Token services of policies, and the OAuth clients that use them.

use idm_api::v1alpha1 as wire;
use idm_plan::{
    ClientAuthentication, Expr, Federation, OauthClient, Secrets, ServiceKey, TokenGrant, TokenService, Validator,
    Variable, canonical_path,
};
use idm_types::{Algorithm, ApiKey, Redacted, Timestamp, hex};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use url::Url;

use super::directory::{cannot_look_up, lower_validators};
use super::keys::{DEFAULT_ALGORITHMS, check_url, lower_keys};
use super::mtls::lower_trusted;
use super::policy::expr;
use super::source::lower_selector;
use super::{Notes, secret};
use crate::signing::{self, MAX_LIFETIME_SECONDS, TimedKey, signing_secret};
use crate::{Cause, Condition, Object, World};

const DEFAULT_LIFETIME_SECONDS: u64 = 300;
const DEFAULT_REFRESH_SECONDS: u64 = 86_400;
const MAX_REFRESH_SECONDS: u64 = 366 * 86_400;
const DEFAULT_REFRESH_USES: i64 = 1000;
/// The variables that are known when a token is issued.
const KNOWN: &[Variable] =
    &[Variable::Identity, Variable::Credential, Variable::Request, Variable::Source, Variable::Env, Variable::Now];
/// Claims that only the service itself may write (RFC 9068 §2.2, RFC 7800, RFC 8693).
const OWN_CLAIMS: &[&str] =
    &["iss", "sub", "aud", "client_id", "exp", "nbf", "iat", "jti", "scope", "roles", "cnf", "act", "may_act", "idp"];

/// The path of an issuer's URL, where its endpoints are: empty, or with a leading slash and none at its end.
pub(crate) fn base_path(issuer: &str) -> Option<String> {
    let url = Url::parse(issuer).ok().filter(|url| url.query().is_none() && url.fragment().is_none())?;
    let path = url.path().trim_end_matches('/');
    (path.is_empty() || canonical_path(path).is_ok_and(|canonical| canonical == path)).then(|| path.to_owned())
}

pub(crate) fn lower_service(
    world: &World,
    object: &Object<wire::IdentityPolicySpec>,
    service: &wire::TokenService,
    federations: &[Federation],
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<TokenService> {
    // `signing` is read by signing.rs.
    let wire::TokenService {
        issuer,
        audiences,
        grants,
        credential_selector,
        validators: _,
        access_token,
        refresh_token,
        signing: _,
    } = service;
    let path = "spec.tokenService";
    check_issuer(world, object, issuer, notes)?;
    if audiences.is_empty() {
        return notes.fail(format!("{path}.audiences"), Cause::Invalid, "at least one audience must be given");
    }
    let grants = checked_grants(world, grants.as_deref(), notes)?;
    let validators = lower_people(federations, service, &grants, notes)?;
    let default = wire::AccessTokenSettings::default();
    let wire::AccessTokenSettings { lifetime, claims } = access_token.as_ref().unwrap_or(&default);
    let lifetime_seconds =
        lower_lifetime(&format!("{path}.accessToken.lifetime"), lifetime.as_ref(), MAX_LIFETIME_SECONDS, notes)?;
    let claims = lower_claims(claims.as_deref(), notes)?;
    let default = wire::RefreshTokenSettings::default();
    let wire::RefreshTokenSettings { lifetime, max_uses } = refresh_token.as_ref().unwrap_or(&default);
    let refresh_seconds =
        lower_lifetime(&format!("{path}.refreshToken.lifetime"), lifetime.as_ref(), MAX_REFRESH_SECONDS, notes)?;
    let Ok(refresh_uses @ 1..=100_000) = u64::try_from(max_uses.unwrap_or(DEFAULT_REFRESH_USES)) else {
        return notes.fail(
            format!("{path}.refreshToken.maxUses"),
            Cause::Invalid,
            "maxUses must be between 1 and 100000",
        );
    };
    let (secret, keys) = service_keys(world, object, &format!("{path}.signing"), notes)?;
    let keys = keys.into_iter().map(|TimedKey { jwk, algorithm, signs_from, published_until, .. }| {
        let handle = world.handle(format!("signing/{secret}/{}", jwk.kid().unwrap_or_default()));
        secrets.put(handle.clone(), Redacted::new(jwk.reveal().to_string().into_bytes()));
        ServiceKey {
            key: handle,
            algorithm,
            signs_from: Timestamp::from_seconds(signs_from),
            published_until: published_until.map(Timestamp::from_seconds),
        }
    });
    Some(TokenService {
        issuer: issuer.clone(),
        audiences: audiences.clone(),
        grants,
        only: lower_selector(credential_selector.as_ref()),
        validators,
        lifetime_seconds: lifetime_seconds.unwrap_or(DEFAULT_LIFETIME_SECONDS),
        claims,
        refresh_seconds: refresh_seconds.unwrap_or(DEFAULT_REFRESH_SECONDS),
        refresh_uses,
        revokes: world.settings.remembers_together,
        keys: keys.collect(),
    })
}

/// The sources of people for the password grant.
fn lower_people(
    federations: &[Federation],
    service: &wire::TokenService,
    grants: &[TokenGrant],
    notes: &mut Notes<'_>,
) -> Option<Vec<Validator>> {
    let (path, wire::TokenService { credential_selector, validators, .. }) = ("spec.tokenService", service);
    if validators.is_some() && !grants.contains(&TokenGrant::Password) {
        let message = "`validators` must be set only with the grant DangerPassword: no other one has a password";
        return notes.fail(format!("{path}.validators"), Cause::Invalid, message);
    }
    // The selector is about clients too, so it may stand beside validators here.
    let validators = match validators {
        Some(validators) => lower_validators(federations, path, Some(validators), None, notes)?,
        None => vec![Validator::Credentials(lower_selector(credential_selector.as_ref()))],
    };
    if let Some(name) = cannot_look_up(federations, &validators).filter(|_| grants.contains(&TokenGrant::RefreshToken))
    {
        let message = format!(
            "Federation '{name}' must be able to look people up again, as RefreshToken asks: with `users.base` of \
                `ldap`, or `lookUp` of `rest`"
        );
        return notes.fail(format!("{path}.validators"), Cause::InvalidRef, message);
    }
    Some(validators)
}

/// The issuer is a plain URL, and no other service of the namespace has it.
fn check_issuer(
    world: &World,
    object: &Object<wire::IdentityPolicySpec>,
    issuer: &str,
    notes: &mut Notes<'_>,
) -> Option<()> {
    let path = "spec.tokenService.issuer";
    check_url(world, path, issuer, notes)?;
    if issuer.ends_with('/') || base_path(issuer).is_none() {
        let message = format!(
            "'{issuer}' must be a URL without query, fragment, slash at its end, or anything in its path that has two \
             readings"
        );
        return notes.fail(path, Cause::Invalid, message);
    }
    let others = world
        .policies
        .iter()
        .filter(|other| other.meta.name != object.meta.name)
        .filter_map(|other| Some((other, other.spec.token_service.as_ref()?)));
    if let Some((other, _)) =
        others.filter(|(_, theirs)| theirs.issuer == issuer).find(|(other, _)| other.meta.name < object.meta.name)
    {
        return notes.fail(
            path,
            Cause::Conflicted,
            format!("IdentityPolicy '{}' has the same issuer: give each service its own", other.meta.name),
        );
    }
    Some(())
}

/// The grants; each grant that another one needs must be among them.
fn checked_grants(
    world: &World,
    grants: Option<&[wire::TokenGrant]>,
    notes: &mut Notes<'_>,
) -> Option<Vec<TokenGrant>> {
    let path = "spec.tokenService.grants";
    let grants = lower_grants(grants);
    if grants.is_empty() {
        return notes.fail(
            path,
            Cause::Invalid,
            "at least one grant must be given; leave `grants` out for ClientCredentials",
        );
    }
    let password = grants.contains(&TokenGrant::Password);
    if grants.contains(&TokenGrant::RefreshToken) {
        if !password {
            let message = "RefreshToken needs a grant with a user beside it, such as DangerPassword: clients get \
                           tokens for themselves at any time (RFC 6749 §4.4.3)";
            return notes.fail(path, Cause::Invalid, message);
        }
        if !world.settings.remembers_together {
            let message =
                "RefreshToken needs a store that all gateway pods share: set `gateway.store.url` in the chart's values";
            return notes.fail(path, Cause::UnsupportedValue, message);
        }
    }
    if password {
        let message = "DangerPassword lets clients see the passwords of users, which RFC 9700 forbids: use it only \
                       for clients of your own that cannot do better";
        notes.report.push(&notes.object, path, Condition::Programmed, Cause::DangerousOption, message);
    }
    Some(grants)
}

/// The claims that the policy adds to access tokens.
fn lower_claims(claims: Option<&[wire::TokenClaim]>, notes: &mut Notes<'_>) -> Option<Vec<(String, Expr)>> {
    let mut lowered = Vec::new();
    for (i, wire::TokenClaim { name, value }) in claims.into_iter().flatten().enumerate() {
        let path = format!("spec.tokenService.accessToken.claims[{i}]");
        if OWN_CLAIMS.contains(&name.as_str()) {
            return notes.fail(
                format!("{path}.name"),
                Cause::Invalid,
                format!("the claim '{name}' must not be replaced: the service writes it itself"),
            );
        }
        lowered.push((name.clone(), expr(&format!("{path}.value"), value, KNOWN, notes)?));
    }
    Some(lowered)
}

fn lower_grants(grants: Option<&[wire::TokenGrant]>) -> Vec<TokenGrant> {
    let lowered = grants.unwrap_or(&[wire::TokenGrant::ClientCredentials]).iter().map(|grant| match grant {
        wire::TokenGrant::ClientCredentials => TokenGrant::ClientCredentials,
        wire::TokenGrant::RefreshToken => TokenGrant::RefreshToken,
        wire::TokenGrant::DangerPassword => TokenGrant::Password,
    });
    lowered.collect()
}

fn lower_lifetime(
    path: &str,
    lifetime: Option<&wire::Lifetime>,
    max: u64,
    notes: &mut Notes<'_>,
) -> Option<Option<u64>> {
    let Some(lifetime) = lifetime else { return Some(None) };
    match lifetime.in_seconds().and_then(|seconds| u64::try_from(seconds).ok()) {
        Some(seconds) if (1..=max).contains(&seconds) => Some(Some(seconds)),
        Some(_) => {
            notes.fail(path, Cause::Invalid, format!("the lifetime must be between 1 second and {} hours", max / 3600))
        }
        None => notes.fail(path, Cause::Invalid, "lifetime must have exactly one of `seconds`, `minutes`, `hours`"),
    }
}

/// The signing keys of a policy's token service, and the name of their Secret.
fn service_keys(
    world: &World,
    object: &Object<wire::IdentityPolicySpec>,
    path: &str,
    notes: &mut Notes<'_>,
) -> Option<(String, Vec<TimedKey>)> {
    let (name, field) = signing_secret(object)?;
    let path = format!("{path}.secretRef");
    let algorithm = object.spec.token_service.as_ref().and_then(|service| service.signing.as_ref()?.algorithm);
    if algorithm.is_some_and(Algorithm::is_symmetric) {
        return notes.fail(
            path,
            Cause::Invalid,
            "the algorithm must be an asymmetric one: with HS256 whoever verifies tokens could also make them",
        );
    }
    let make = if name == signing::SIGNING_SECRET {
        format!("--policy {}", object.meta.name)
    } else {
        format!("--secret {name}")
    };
    let value = match secret::value(world, &name, &field) {
        Ok(value) => value,
        Err((cause, why)) => {
            let how = format!("without an operator, `idm token keys {make}` makes it");
            return notes.fail(path, cause, format!("{why}; {how}"));
        }
    };
    match signing::read(value.reveal()) {
        Ok(keys) => Some((name, keys)),
        Err(problem) => notes.fail(path, Cause::InvalidRef, format!("Secret '{name}', key '{field}', {problem}")),
    }
}

/// Issuer, public keys as a JWKS, and algorithms of the token service of a policy of this namespace.
pub(crate) fn published(
    world: &World,
    path: &str,
    policy: &str,
    notes: &mut Notes<'_>,
) -> Option<(String, String, Vec<Algorithm>)> {
    let found = world.policies.iter().find(|object| object.meta.name == policy);
    let Some((object, service)) = found.and_then(|object| Some((object, object.spec.token_service.as_ref()?))) else {
        return notes.fail(
            path,
            Cause::RefNotFound,
            format!("IdentityPolicy '{policy}' must exist in this namespace and have a `tokenService`"),
        );
    };
    let (_, keys) = service_keys(world, object, path, notes)?;
    let public: Vec<Value> = keys.iter().filter_map(|key| Some(key.jwk.public()?.reveal())).collect();
    let mut algorithms: Vec<Algorithm> = keys.iter().map(|key| key.algorithm).collect();
    algorithms.sort();
    algorithms.dedup();
    Some((service.issuer.clone(), json!({"keys": public}).to_string(), algorithms))
}

pub(crate) fn lower_client(
    world: &World,
    object: &Object<wire::CredentialSpec>,
    client: &wire::OauthClientCredential,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<OauthClient> {
    let wire::OauthClientCredential {
        client_id,
        client_secret,
        private_key_jwt,
        tls_client_auth,
        grants,
        scopes,
        audiences,
        access_token_lifetime,
        introspects,
    } = client;
    let path = "spec.oauthClient";
    let authentication = match (client_secret, private_key_jwt, tls_client_auth) {
        (Some(wire::ClientSecret {}), None, None) => lower_secret(world, object, notes)?,
        (None, Some(jwt), None) => lower_private_key_jwt(world, &format!("{path}.privateKeyJwt"), jwt, secrets, notes)?,
        (None, None, Some(trusted)) => {
            let trusted = lower_trusted(world, &format!("{path}.tlsClientAuth"), trusted, notes)?;
            ClientAuthentication::Certificate(Box::new(trusted))
        }
        _ => {
            return notes.fail(
                path,
                Cause::Invalid,
                "oauthClient must have exactly one of `clientSecret`, `privateKeyJwt`, `tlsClientAuth`",
            );
        }
    };
    let lifetime_seconds = lower_lifetime(
        &format!("{path}.accessTokenLifetime"),
        access_token_lifetime.as_ref(),
        MAX_LIFETIME_SECONDS,
        notes,
    )?;
    if let Some(wrong) = scopes.iter().flatten().find(|scope| !is_scope(scope)) {
        return notes.fail(
            format!("{path}.scopes"),
            Cause::Invalid,
            format!("'{wrong}' must be a scope: printable characters without space, quote and backslash"),
        );
    }
    Some(OauthClient {
        client_id: client_id.clone().unwrap_or_else(|| object.meta.name.clone()),
        authentication,
        grants: lower_grants(grants.as_deref()),
        scopes: scopes.clone().unwrap_or_default(),
        audiences: audiences.clone(),
        lifetime_seconds,
        introspects_all: *introspects == Some(wire::Introspects::All),
    })
}

/// Whether a text can be a scope (RFC 6749 §3.3).
pub(super) fn is_scope(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

/// Assertions that a client signs (RFC 7523).
fn lower_private_key_jwt(
    world: &World,
    path: &str,
    jwt: &wire::PrivateKeyJwt,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<ClientAuthentication> {
    let wire::PrivateKeyJwt { keys, algorithms } = jwt;
    let algorithms = algorithms.clone().unwrap_or_else(|| DEFAULT_ALGORITHMS.to_vec());
    if algorithms.is_empty() || algorithms.iter().any(|algorithm| algorithm.is_symmetric()) {
        return notes.fail(format!("{path}.algorithms"), Cause::Invalid, "the algorithms must be asymmetric ones");
    }
    if keys.discovery.is_some() {
        return notes.fail(
            format!("{path}.keys"),
            Cause::Invalid,
            "a client has no discovery: use `inline`, `secretRef` or `jwksUri`",
        );
    }
    let keys = lower_keys(world, &format!("{path}.keys"), "", keys, &algorithms, secrets, notes)?;
    Some(ClientAuthentication::Assertion { keys, algorithms })
}

/// The secret of a client.
pub(crate) enum StoredSecret {
    /// 256 random bits, as their hash.
    Random { sha256: String },
    /// An argon2id hash.
    Hash(String),
    /// A secret that a person chose, in clear text.
    Clear(Redacted<String>),
}

/// Reads the secret of a client. The value itself must not get into any message.
pub(crate) fn stored_secret(
    world: &World,
    object: &Object<wire::CredentialSpec>,
) -> Result<StoredSecret, (Cause, String)> {
    let Some(reference) = &object.spec.secret_ref else {
        return Err((Cause::Invalid, "`secretRef` must be set for a client with `clientSecret`".to_owned()));
    };
    let field = reference.key.as_deref().unwrap_or("clientSecret");
    let value = secret::value(world, &reference.name, field)?;
    let text = std::str::from_utf8(value.reveal()).map(|text| text.trim_end_matches(['\r', '\n'])).unwrap_or_default();
    if ApiKey::is_well_formed(text) {
        // 256 random bits cannot be guessed, so the hash need not be slow.
        return Ok(StoredSecret::Random { sha256: hex(&Sha256::digest(text.as_bytes())) });
    }
    if text.starts_with("$argon2id$") && argon2::PasswordHash::new(text).is_ok() {
        return Ok(StoredSecret::Hash(text.to_owned()));
    }
    let usable = (16..=1024).contains(&text.len()) && !text.chars().any(char::is_control);
    if usable && !text.starts_with("$argon2id$") {
        return Ok(StoredSecret::Clear(Redacted::new(text.to_owned())));
    }
    let message = format!(
        "Secret '{}', key '{field}', must hold a client secret of 16 to 1024 printable characters, or its argon2id \
         hash in PHC form",
        reference.name
    );
    Err((Cause::InvalidRef, message))
}

fn lower_secret(
    world: &World,
    object: &Object<wire::CredentialSpec>,
    notes: &mut Notes<'_>,
) -> Option<ClientAuthentication> {
    let path = "spec.secretRef";
    match stored_secret(world, object) {
        Ok(StoredSecret::Random { sha256 }) => Some(ClientAuthentication::Secret { sha256 }),
        Ok(StoredSecret::Hash(phc)) => Some(ClientAuthentication::Password { phc }),
        Ok(StoredSecret::Clear(_)) => match world.password_hashes.get(&object.meta.name) {
            Some(phc) => Some(ClientAuthentication::Password { phc: phc.clone() }),
            None => notes.fail(path, Cause::InvalidRef, "the client secret cannot be hashed"),
        },
        Err((cause, message)) => notes.fail(path, cause, message),
    }
}
