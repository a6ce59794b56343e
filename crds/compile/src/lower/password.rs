//! Passwords: in Secrets in clear text or hashed, and the forms of them that methods need.

use idm_api::v1alpha1 as wire;
use idm_plan::{
    Base64Method, BasicMethod, DigestAlgorithm, DigestColumn, DigestMethod, DigestUser, DirectorySource, Federation,
    FederationKind, LayoutPart, Quality, Secrets, Validator,
};
use idm_types::{Redacted, hex};
use sha2::{Digest, Sha256, Sha512_256};

use super::directory::lower_validators;
use super::source::lower_source;
use super::{Notes, secret};
use crate::{Cause, Condition, Object, World};

/// A password in clear text, or its argon2id hash.
pub(crate) enum Stored {
    Clear(Redacted<String>),
    Hash(String),
}

/// Whether a text is a hash as `htpasswd -B` or `htpasswd -s` makes it.
fn is_of_htpasswd(text: &str) -> bool {
    ["$2a$", "$2b$", "$2y$", "{SHA}"].iter().any(|prefix| text.starts_with(prefix))
}

pub(crate) const NO_SECRET: &str = "`secretRef` must be set: it names the Secret with the key or password";

/// The user name and password of a Credential. The value itself must not get into any message.
pub(crate) fn stored(
    world: &World,
    object: &Object<wire::CredentialSpec>,
) -> Result<(String, Stored), (Cause, String)> {
    let wire::CredentialSpec { password, secret_ref, .. } = &object.spec;
    let username =
        password.as_ref().and_then(|password| password.username.clone()).unwrap_or_else(|| object.meta.name.clone());
    let secret_ref = secret_ref.as_ref().ok_or_else(|| (Cause::Invalid, NO_SECRET.to_owned()))?;
    let field = secret_ref.key.as_deref().unwrap_or("password");
    let value = secret::value(world, &secret_ref.name, field)?;
    let unusable = |why: &str| (Cause::InvalidRef, format!("Secret '{}', key '{field}', {why}", secret_ref.name));
    let text =
        std::str::from_utf8(value.reveal()).map_err(|_| unusable("must hold text"))?.trim_end_matches(['\r', '\n']);
    if text.starts_with("$argon2id$") {
        argon2::PasswordHash::new(text)
            .map_err(|_| unusable("must hold an argon2id hash in PHC form, or a password"))?;
        return Ok((username, Stored::Hash(text.to_owned())));
    }
    // A line of htpasswd, or its hash alone.
    let hash = text.strip_prefix(username.as_str()).and_then(|rest| rest.strip_prefix(':')).unwrap_or(text);
    if is_of_htpasswd(hash) {
        return match idm_password::Stored::read(hash) {
            Ok(_) => Ok((username, Stored::Hash(hash.to_owned()))),
            Err(why) => Err(unusable(&format!("cannot be used: {why}"))),
        };
    }
    // Some editors put a mark in front of a file. No person types it, so that the password would never fit.
    if text.starts_with('\u{feff}') {
        return Err(unusable("begins with a byte order mark: write the file without it"));
    }
    if text.is_empty() || text.len() > 1024 || text.chars().any(char::is_control) {
        return Err(unusable("must hold a password of 1 to 1024 characters without control characters"));
    }
    Ok((username, Stored::Clear(Redacted::new(text.to_owned()))))
}

pub(crate) fn lower_basic(
    federations: &[Federation],
    path: &str,
    method: &wire::BasicMethod,
    notes: &mut Notes<'_>,
) -> Option<BasicMethod> {
    let wire::BasicMethod { realm, credential_selector, validators } = method;
    let validators = lower_validators(federations, path, validators.as_deref(), credential_selector.as_ref(), notes)?;
    Some(BasicMethod { realm: realm.clone(), validators })
}

pub(crate) fn lower_digest(
    world: &World,
    federations: &[Federation],
    path: &str,
    method: &wire::DigestMethod,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<DigestMethod> {
    let wire::DigestMethod { realm, algorithms, qualities, nonce_seconds, credential_selector, validators } = method;
    let algorithms: Vec<DigestAlgorithm> = match algorithms.as_deref() {
        None => vec![DigestAlgorithm::Sha256],
        Some(given) => given.iter().map(|algorithm| lower_algorithm(*algorithm)).collect(),
    };
    let qualities: Vec<Quality> = match qualities.as_deref() {
        None => vec![Quality::Auth],
        Some(given) => given
            .iter()
            .map(|quality| if *quality == wire::Quality::Auth { Quality::Auth } else { Quality::AuthInt })
            .collect(),
    };
    if algorithms.is_empty() || qualities.is_empty() {
        return notes.fail(
            path,
            Cause::Invalid,
            "`algorithms` and `qualities` must not be empty; leave them out for SHA-256 and auth",
        );
    }
    if algorithms.contains(&DigestAlgorithm::Md5) {
        let message = "MD5 is broken: whoever records one exchange can search for the password; use it only for \
            clients that know nothing else";
        notes.report.push(
            &notes.object,
            format!("{path}.algorithms"),
            Condition::Programmed,
            Cause::DangerousOption,
            message,
        );
    }
    let nonce_seconds = nonce_seconds.unwrap_or(60);
    if !(10..=3600).contains(&nonce_seconds) {
        return notes.fail(format!("{path}.nonceSeconds"), Cause::Invalid, "nonceSeconds must be between 10 and 3600");
    }
    let validators = lower_validators(federations, path, validators.as_deref(), credential_selector.as_ref(), notes)?;
    let directories = digest_directories(federations, path, &validators, (realm, &algorithms), notes)?;
    let only = validators.iter().find_map(|validator| match validator {
        Validator::Credentials(selector) => Some(selector),
        Validator::Directory(_) => None,
    });
    let accepted = |object: &&std::sync::Arc<Object<wire::CredentialSpec>>| {
        only.is_some_and(|only| only.accepts(&object.meta.labels))
    };
    let mut users: Vec<DigestUser> = Vec::new();
    for object in world.credentials.iter().filter(|object| object.spec.password.is_some()).filter(accepted) {
        // A hashed password cannot be used here: Digest needs a hash of its own. A broken Secret is reported at the
        // Credential.
        let Ok((username, Stored::Clear(password))) = stored(world, object) else { continue };
        let handles = algorithms.iter().map(|&algorithm| {
            let value = ha1(algorithm, &username, realm, password.reveal());
            let handle = world.handle(format!(
                "digest/{}/{}/{}",
                object.meta.name,
                algorithm.name(),
                hex(&Sha256::digest(realm.as_bytes()))
            ));
            secrets.put(handle.clone(), Redacted::new(value.into_bytes()));
            handle
        });
        users.push(DigestUser { secrets: handles.collect(), username, credential: object.meta.name.clone() });
    }
    users.sort_by(|a, b| a.username.cmp(&b.username));
    let (realm, nonce_seconds) = (realm.clone(), nonce_seconds as u64);
    Some(DigestMethod { realm, algorithms, qualities, nonce_seconds, users, directories })
}

/// The databases of a Digest method. Their hashes fit one realm and one algorithm, and no other one can be made of
/// them.
fn digest_directories(
    federations: &[Federation],
    path: &str,
    validators: &[Validator],
    (realm, algorithms): (&str, &[DigestAlgorithm]),
    notes: &mut Notes<'_>,
) -> Option<Vec<String>> {
    let mut directories = Vec::new();
    for (i, validator) in validators.iter().enumerate() {
        let Validator::Directory(name) = validator else { continue };
        let at = format!("{path}.validators[{i}].federationRef");
        let found = federations.iter().find(|federation| federation.key.name == *name);
        let column = found.and_then(|federation| match &federation.kind {
            FederationKind::Directory(directory) => match &directory.source {
                DirectorySource::Database(database) => database.digest.as_ref(),
                DirectorySource::Ldap(_) | DirectorySource::Rest(_) => None,
            },
            FederationKind::Oidc(_) | FederationKind::Saml(_) => None,
        });
        let Some(DigestColumn { realm: of_column, algorithm }) = column else {
            let message = format!(
                "Federation '{name}' must be a `database` with `digest`: Digest needs a hash that the others do not \
                    have; use `basic` with it"
            );
            return notes.fail(at, Cause::InvalidRef, message);
        };
        if of_column != realm {
            let message =
                format!("the hashes of Federation '{name}' are for the realm '{of_column}', and fit no other");
            return notes.fail(at, Cause::InvalidRef, message);
        }
        if *algorithms != [*algorithm] {
            let name_of = algorithm.name();
            let message =
                format!("the hashes of Federation '{name}' are {name_of}: `algorithms` must be [{name_of}] alone");
            return notes.fail(at, Cause::InvalidRef, message);
        }
        directories.push(name.clone());
    }
    Some(directories)
}

pub(super) fn lower_algorithm(algorithm: wire::DigestAlgorithm) -> DigestAlgorithm {
    match algorithm {
        wire::DigestAlgorithm::Sha256 => DigestAlgorithm::Sha256,
        wire::DigestAlgorithm::Sha512_256 => DigestAlgorithm::Sha512_256,
        wire::DigestAlgorithm::Md5 => DigestAlgorithm::Md5,
    }
}

/// `H(username:realm:password)` in hexadecimal (RFC 7616 §3.4.2): equivalent to the password within its realm.
fn ha1(algorithm: DigestAlgorithm, username: &str, realm: &str, password: &str) -> String {
    let text = format!("{username}:{realm}:{password}");
    match algorithm {
        DigestAlgorithm::Sha256 => hex(&Sha256::digest(&text)),
        DigestAlgorithm::Sha512_256 => hex(&Sha512_256::digest(&text)),
        DigestAlgorithm::Md5 => hex(&md5::Md5::digest(&text)),
    }
}

pub(crate) fn lower_base64(
    federations: &[Federation],
    path: &str,
    method: &wire::Base64Method,
    notes: &mut Notes<'_>,
) -> Option<Base64Method> {
    let wire::Base64Method { sources, layout, credential_selector, validators } = method;
    let mut lowered = Vec::new();
    for (i, wire::TokenSource { header, cookie, query }) in sources.iter().enumerate() {
        if query.is_some() {
            return notes.fail(
                format!("{path}.sources[{i}].query"),
                Cause::Invalid,
                "a password must not travel in a URL: use `header` or `cookie`",
            );
        }
        lowered.push(lower_source(&format!("{path}.sources[{i}]"), header.as_ref(), cookie.as_ref(), None, notes)?);
    }
    if lowered.is_empty() {
        return notes.fail(format!("{path}.sources"), Cause::Invalid, "at least one source must be given");
    }
    let parts = match parse_layout(layout) {
        Ok(parts) => parts,
        Err(why) => return notes.fail(format!("{path}.layout"), Cause::Invalid, format!("'{layout}': {why}")),
    };
    let validators = lower_validators(federations, path, validators.as_deref(), credential_selector.as_ref(), notes)?;
    let has_directory = validators.iter().any(|validator| matches!(validator, Validator::Directory(_)));
    if has_directory && parts.contains(&LayoutPart::ApiKey) {
        let message =
            "`{apiKey}` is checked against Credentials alone: a directory checks `{username}` and `{password}`";
        return notes.fail(format!("{path}.validators"), Cause::Invalid, message);
    }
    Some(Base64Method { sources: lowered, layout: parts, validators })
}

fn parse_layout(layout: &str) -> Result<Vec<LayoutPart>, &'static str> {
    let mut parts: Vec<LayoutPart> = Vec::new();
    let mut rest = layout;
    while !rest.is_empty() {
        let (literal, after) = rest.split_at(rest.find('{').unwrap_or(rest.len()));
        if !literal.is_empty() {
            parts.push(LayoutPart::Literal(literal.to_owned()));
        }
        let Some(after) = after.strip_prefix('{') else { break };
        let (name, after) = after.split_once('}').ok_or("`{` must be closed with `}`")?;
        let part = match name {
            "username" => LayoutPart::Username,
            "password" => LayoutPart::Password,
            "apiKey" => LayoutPart::ApiKey,
            "ignored" => LayoutPart::Ignored,
            _ => return Err("the placeholders are {username}, {password}, {apiKey} and {ignored}"),
        };
        if parts.last().is_some_and(|last| !matches!(last, LayoutPart::Literal(_))) {
            return Err("there must be text between two placeholders, or nobody knows where the first ends");
        }
        if part != LayoutPart::Ignored && parts.contains(&part) {
            return Err("each placeholder must be used once");
        }
        parts.push(part);
        rest = after;
    }
    let has = |part: LayoutPart| parts.contains(&part);
    match (has(LayoutPart::Username), has(LayoutPart::Password), has(LayoutPart::ApiKey)) {
        (true, true, false) | (false, false, true) => Ok(parts),
        _ => Err("it must hold {username} and {password}, or {apiKey} alone"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_says_where_each_part_ends() {
        use LayoutPart::*;
        assert_eq!(parse_layout("{username}|{password}"), Ok(vec![Username, Literal("|".into()), Password]));
        assert_eq!(
            parse_layout("v1/{ignored}/{apiKey}"),
            Ok(vec![Literal("v1/".into()), Ignored, Literal("/".into()), ApiKey])
        );
        for wrong in [
            "",
            "plain",
            "{username}",
            "{username}{password}",
            "{username}:{username}",
            "{user}:{password}",
            "{username:{password}",
            "{apiKey}:{password}",
        ] {
            assert!(parse_layout(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ha1_is_the_one_of_the_rfcs() {
        // RFC 7616 §3.9.1, with its intermediate value computed from the text.
        assert_eq!(
            ha1(DigestAlgorithm::Md5, "Mufasa", "http-auth@example.org", "Circle of Life"),
            "3d78807defe7de2157e2b0b6573a855f"
        );
    }
}
