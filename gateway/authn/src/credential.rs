//! Credentials of the namespace: found by what they prove themselves with, and made into identities.

use idm_request::{Identity, IssuedTo, Unusable};
use std::collections::HashMap;
use std::rc::Rc;

use idm_plan::{Credential, Proof};
use idm_types::{Reason, Refusal, Timestamp, unhex};

use crate::method::{Attempt, Fresh, MethodContext};

/// The Credentials of a namespace. Looking up the hash of a key leaks nothing about the keys: an
/// attacker who could steer it would have to invert SHA-256 first.
#[derive(Debug, Default)]
pub struct CredentialTable {
    all: Vec<Credential>,
    by_hash: HashMap<[u8; 32], usize>,
    by_username: HashMap<String, usize>,
    by_name: HashMap<String, usize>,
    by_client: HashMap<String, usize>,
    /// By what the sign-in method compares, and the federation's uid where one is named.
    by_person: HashMap<(String, Option<String>), usize>,
}

impl CredentialTable {
    /// Arms the plan's credentials; an entry whose hash is not one is an error with its name.
    pub fn new(credentials: &[Credential]) -> Result<Self, String> {
        let mut table = Self { all: credentials.to_vec(), ..Self::default() };
        for (position, credential) in credentials.iter().enumerate() {
            table.by_name.insert(credential.key.name.clone(), position);
            match &credential.proof {
                Proof::ApiKey { sha256 } => {
                    let hash =
                        unhex(sha256).ok_or_else(|| format!("credential {} has no SHA-256 hash", credential.key))?;
                    table.by_hash.insert(hash, position);
                }
                Proof::Password { username, .. } => drop(table.by_username.insert(username.clone(), position)),
                // They prove themselves to the token services only: see client.rs.
                Proof::Client(client) => drop(table.by_client.insert(client.client_id.clone(), position)),
                Proof::Person { user, federation } => {
                    table.by_person.insert((user.clone(), federation.clone()), position);
                }
            }
        }
        Ok(table)
    }

    /// The Credential with this API key hash, if the method accepts it.
    pub(crate) fn by_hash(&self, hash: &[u8; 32], only: Option<&[String]>) -> Option<&Credential> {
        self.picked(self.by_hash.get(hash), only)
    }

    /// The Credential with this user name and its password hash, if the method accepts it.
    pub(crate) fn by_username(&self, username: &str, only: Option<&[String]>) -> Option<(&Credential, &str)> {
        let credential = self.picked(self.by_username.get(username), only)?;
        match &credential.proof {
            Proof::Password { phc, .. } => Some((credential, phc)),
            Proof::ApiKey { .. } | Proof::Client(_) | Proof::Person { .. } => None,
        }
    }

    /// The Credential of a person whom this federation vouches for; one that names the federation comes first.
    pub(crate) fn by_person(&self, user: &str, federation: &str, only: Option<&[String]>) -> Option<&Credential> {
        let of = |federation: Option<&str>| self.by_person.get(&(user.to_owned(), federation.map(str::to_owned)));
        self.picked(of(Some(federation)), only).or_else(|| self.picked(of(None), only))
    }

    /// Whether the Credential of an identity still is there, and may be used now.
    pub(crate) fn stands(&self, name: &str, now: Timestamp) -> Result<(), Refusal> {
        match self.by_name(name) {
            Some(credential) => stands(credential, now),
            None => Err(Refusal::new(Reason::TokenRevoked, format!("Credential {name} is gone"))),
        }
    }

    /// Whether the Credentials that a token was issued to still are there, and may be used now and with this policy.
    pub(crate) fn token_stands(&self, to: &IssuedTo, policy: &str, now: Timestamp) -> Result<(), Refusal> {
        let IssuedTo { client, subject } = to;
        let gone = |kind: &str| {
            Refusal::new(Reason::TokenRevoked, format!("the Credential of the {kind} it was issued to is gone"))
        };
        let of_client = self.picked(self.by_client.get(client), None).ok_or_else(|| gone("client"))?;
        let of_user = self.by_username(subject, None).map(|(credential, _)| credential);
        if client != subject && of_user.is_none() {
            return Err(gone("user"));
        }
        for credential in [Some(of_client), of_user].into_iter().flatten() {
            stands(credential, now)?;
            if credential.policies.as_ref().is_some_and(|policies| !policies.iter().any(|name| name == policy)) {
                return Err(Refusal::new(
                    Reason::CredentialNotAllowedHere,
                    format!("the access list of Credential {} does not contain this policy", credential.key),
                ));
            }
        }
        Ok(())
    }

    /// The Credential of this name.
    pub(crate) fn by_name(&self, name: &str) -> Option<&Credential> {
        self.picked(self.by_name.get(name), None)
    }

    fn picked(&self, position: Option<&usize>, only: Option<&[String]>) -> Option<&Credential> {
        let credential = self.all.get(*position?)?;
        only.is_none_or(|only| only.contains(&credential.key.name)).then_some(credential)
    }
}

/// Whether a Credential may be used now.
fn stands(credential: &Credential, now: Timestamp) -> Result<(), Refusal> {
    if credential.suspended {
        return Err(Refusal::new(Reason::CredentialSuspended, format!("Credential {} is suspended", credential.key)));
    }
    match credential.expires.filter(|expires| now >= *expires) {
        Some(at) => Err(Refusal::new(
            Reason::CredentialExpired,
            format!("Credential {} expired at {}", credential.key, at.rfc3339()),
        )),
        None => Ok(()),
    }
}

/// A Credential whose proof was right: admitted unless it is suspended, expired or unusable.
pub(crate) fn admit(context: MethodContext<'_>, credential: &Credential) -> Attempt {
    let rejected = |reason, detail: String| Attempt::Rejected(context.denied(reason, detail));
    if let Err(refusal) = stands(credential, context.now) {
        return Attempt::Rejected(refusal.by_method(context.name));
    }
    match identity(context, credential) {
        Ok(identity) => Attempt::Verified(Fresh {
            identity: Rc::new(identity),
            until: credential.expires.map_or(u64::MAX, |t| t.0),
            epoch: 0,
        }),
        Err(problem) => rejected(problem.reason, problem.detail),
    }
}

fn identity(context: MethodContext<'_>, credential: &Credential) -> Result<Identity, Unusable> {
    let mut roles: Vec<String> = credential.roles.iter().map(ToString::to_string).collect();
    roles.extend(context.grants.of_credential(&credential.key.name).cloned());
    roles.sort();
    roles.dedup();
    let username = match &credential.proof {
        Proof::Password { username, .. } => username.clone(),
        Proof::ApiKey { .. } => credential.key.name.clone(),
        Proof::Client(client) => client.client_id.clone(),
        Proof::Person { user, .. } => user.clone(),
    };
    let mut identity = Identity {
        id: format!("credential:{}", credential.key),
        username,
        roles,
        attributes: credential.attributes.clone(),
        credential: Some(credential.key.name.clone()),
        owner: credential.owner.clone(),
        expires: credential.expires,
        only_policies: credential.policies.clone(),
        ..Identity::nobody(context.name, context.kind)
    };
    identity.headers = context.headers(&identity)?;
    Ok(identity)
}
