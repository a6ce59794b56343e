//! API keys of the namespace's Credentials.

use std::collections::HashMap;
use std::rc::Rc;

use idm_plan::{Credential, Policy};
use idm_types::{ApiKey, MethodName, Reason, Timestamp};
use sha2::{Digest, Sha256};

use crate::chain::Attempt;
use crate::jwt::Fresh;
use crate::mapping;
use crate::{Denied, Grants, Identity};

/// The Credentials of a namespace by the hash of their key. Looking up a hash leaks nothing about
/// the keys: an attacker who could steer it would have to invert SHA-256 first.
#[derive(Debug, Default)]
pub struct CredentialTable {
    by_hash: HashMap<[u8; 32], Credential>,
}

impl CredentialTable {
    /// Arms the plan's credentials; an entry whose hash is not one is an error with its name.
    pub fn new(credentials: &[Credential]) -> Result<Self, String> {
        let mut by_hash = HashMap::with_capacity(credentials.len());
        for credential in credentials {
            let hash = unhex(&credential.sha256).ok_or_else(|| format!("credential {} has no SHA-256 hash", credential.key))?;
            by_hash.insert(hash, credential.clone());
        }
        Ok(Self { by_hash })
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    let mut digits = text.chars().map(|c| c.to_digit(16));
    for byte in &mut out {
        *byte = (digits.next()?? << 4 | digits.next()??) as u8;
    }
    digits.next().is_none().then_some(out)
}

/// Verifies an API key. A key whose Credential the method's selector does not pick is unknown here.
pub(crate) fn attempt(
    name: &MethodName,
    key: &str,
    only: Option<&[String]>,
    table: &CredentialTable,
    policy: &Policy,
    grants: &Grants,
    now: Timestamp,
) -> Attempt {
    let rejected = |reason, detail: String| Attempt::Rejected(Denied::new(reason, detail, Some(name)));
    if !key.starts_with("idm_") {
        return Attempt::NotMine(Denied::new(Reason::UnknownApiKey, "the key does not start with `idm_`", Some(name)));
    }
    if !ApiKey::is_well_formed(key) {
        return rejected(Reason::MalformedApiKey, "the checksum of the key does not match".into());
    }
    let hash: [u8; 32] = Sha256::digest(key.as_bytes()).into();
    let picked = |credential: &&Credential| only.is_none_or(|only| only.contains(&credential.key.name));
    let Some(credential) = table.by_hash.get(&hash).filter(picked) else {
        return rejected(Reason::UnknownApiKey, "the key is well formed, and no Credential that this method accepts has it".into());
    };
    if credential.suspended {
        return rejected(Reason::CredentialSuspended, format!("Credential {} is suspended", credential.key));
    }
    if let Some(expired) = credential.expires.filter(|expires| now >= *expires) {
        return rejected(Reason::CredentialExpired, format!("Credential {} expired at {}", credential.key, expired.rfc3339()));
    }
    match identity(name, credential, policy, grants) {
        Ok(identity) => Attempt::Verified(Fresh { identity: Rc::new(identity), until: credential.expires.map_or(u64::MAX, |t| t.0), epoch: 0 }),
        Err(detail) => rejected(Reason::UnusableClaim, detail),
    }
}

fn identity(name: &MethodName, credential: &Credential, policy: &Policy, grants: &Grants) -> Result<Identity, String> {
    let mut roles: Vec<String> = credential.roles.iter().map(ToString::to_string).collect();
    roles.extend(grants.of_credential(&credential.key.name).cloned());
    roles.sort();
    roles.dedup();
    let mut identity = Identity {
        method: name.clone(),
        kind: "apiKey",
        id: format!("credential:{}", credential.key),
        username: credential.key.name.clone(),
        issuer: None,
        roles,
        groups: Vec::new(),
        scopes: Vec::new(),
        attributes: credential.attributes.clone(),
        credential: Some(credential.key.name.clone()),
        owner: credential.owner.clone(),
        kid: None,
        expires: credential.expires,
        headers: Vec::new(),
        only_policies: credential.policies.clone(),
    };
    identity.headers = mapping::headers(&policy.upstream.headers, &identity, None)?;
    Ok(identity)
}
