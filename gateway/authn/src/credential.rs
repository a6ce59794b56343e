//! Credentials of the namespace: found by their proofs, and made into identities.

use idm_request::{Identity, IssuedTo, Unusable};
use std::rc::Rc;

use foldhash::HashMap;
use idm_plan::{Credential, Proof, Selector, UsagePlan};
use idm_trust::{KeyRing, Keys};
use idm_types::{Reason, Refusal, Timestamp, unhex};
use std::collections::HashSet;

use crate::basis::unique;
use crate::client::ArmedClient;
use crate::method::{Attempt, MethodContext, NewVerdict};
use crate::usage::{ArmedPlan, Usage};

/// The Credentials of a namespace. Immutable: a change makes a new table, in which a Credential that did not change
/// keeps its epoch. Looking up the hash of a key tells an attacker nothing about the keys: to choose the hash, an
/// attacker would have to invert SHA-256 first.
#[derive(Default)]
pub struct CredentialTable {
    all: Vec<Entry>,
    /// The tiers of the namespace.
    plans: Vec<ArmedPlan>,
    by_hash: HashMap<[u8; 32], usize>,
    by_username: HashMap<String, usize>,
    by_name: HashMap<String, usize>,
    /// The index of each client, with its armed proof: see client.rs.
    by_client: HashMap<String, (usize, ArmedClient)>,
    /// By the value that the sign-in method compares, and the Federation's uid where the Credential names one.
    by_person: HashMap<(String, Option<String>), usize>,
    /// Changes whenever a Credential of a person changes.
    people_epoch: u64,
    /// Keys of clients.
    keys: KeyRing,
}

/// The Credentials of a plan by namespace: a policy knows those of its own namespace and no others.
#[derive(Default)]
pub struct CredentialTables {
    by_namespace: HashMap<String, CredentialTable>,
    none: CredentialTable,
    keys: KeyRing,
}

impl CredentialTables {
    /// Arms the Credentials of all namespaces; see [`CredentialTable::arm`].
    pub fn arm(
        all: &[Credential],
        plans: &[UsagePlan],
        known: &KeyRing,
        before: Option<&Self>,
    ) -> Result<Self, String> {
        let mut grouped: HashMap<&str, (Vec<Credential>, Vec<UsagePlan>)> = HashMap::default();
        for credential in all {
            grouped.entry(&credential.key.namespace).or_default().0.push(credential.clone());
        }
        for plan in plans {
            grouped.entry(&plan.key.namespace).or_default().1.push(plan.clone());
        }
        let mut tables = Self::default();
        for (namespace, (credentials, plans)) in grouped {
            let table = CredentialTable::arm(&credentials, &plans, known, before.map(|before| before.of(namespace)))?;
            tables.keys.extend(table.keys.iter().map(|(id, keys)| (id.clone(), keys.clone())));
            tables.by_namespace.insert(namespace.to_owned(), table);
        }
        Ok(tables)
    }

    /// Those that the policies of a namespace know.
    pub fn of(&self, namespace: &str) -> &CredentialTable {
        self.by_namespace.get(namespace).unwrap_or(&self.none)
    }

    /// The keys of clients that they use.
    pub fn keys(&self) -> &KeyRing {
        &self.keys
    }
}

struct Entry {
    credential: Credential,
    /// Unique to this value of the Credential: a verdict that rests on another value is void.
    epoch: u64,
    usage: Usage,
}

impl CredentialTable {
    /// Arms Credentials with the keys that are `known`; `before` is the table in force. The error names the Credential,
    /// and no secret.
    pub fn arm(
        all: &[Credential],
        plans: &[UsagePlan],
        known: &KeyRing,
        before: Option<&Self>,
    ) -> Result<Self, String> {
        let mut keys = Keys::new(known);
        let plans = plans.iter().map(ArmedPlan::arm).collect::<Result<_, String>>()?;
        let mut table = Self { plans, ..Self::default() };
        for (position, credential) in all.iter().enumerate() {
            let broken = |problem: String| format!("credential {}: {problem}", credential.key);
            match &credential.proof {
                Proof::ApiKey { sha256 } => {
                    let hash = unhex(sha256).ok_or_else(|| broken("its hash is not SHA-256".into()))?;
                    table.by_hash.insert(hash, position);
                }
                Proof::Password { username, .. } => drop(table.by_username.insert(username.clone(), position)),
                // Clients authenticate at token services only.
                Proof::Client(client) => {
                    let armed = ArmedClient::arm(client, &mut keys).map_err(broken)?;
                    table.by_client.insert(client.client_id.clone(), (position, armed));
                }
                Proof::Person { user, federation } => {
                    table.by_person.insert((user.clone(), federation.clone()), position);
                }
            }
            let same = before.and_then(|before| before.entry(&credential.key.name));
            let same = same.filter(|same| same.credential == *credential);
            let epoch = same.map_or_else(unique, |same| same.epoch);
            table.by_name.insert(credential.key.name.clone(), position);
            let usage = Usage::arm(credential, &table.plans).map_err(broken)?;
            table.all.push(Entry { credential: credential.clone(), epoch, usage });
        }
        let same = before.filter(|before| before.people().eq(table.people()));
        table.people_epoch = same.map_or_else(unique, |same| same.people_epoch);
        table.keys = keys.used();
        Ok(table)
    }

    /// The epoch of the Credential behind an identity; 0, which no Credential has, if it was removed.
    pub(crate) fn epoch_of(&self, identity: &Identity) -> u64 {
        identity.credential.as_deref().and_then(|name| self.entry(name)).map_or(0, |entry| entry.epoch)
    }

    /// The epoch of all Credentials of people.
    pub(crate) fn people_epoch(&self) -> u64 {
        self.people_epoch
    }

    fn people(&self) -> impl Iterator<Item = &Credential> {
        let all = self.all.iter().map(|entry| &entry.credential);
        all.filter(|credential| matches!(credential.proof, Proof::Person { .. }))
    }

    pub(crate) fn plans(&self) -> &[ArmedPlan] {
        &self.plans
    }

    /// The Credential of this name, with its limits and restrictions.
    pub(crate) fn with_usage(&self, name: &str) -> Option<(&Credential, &Usage)> {
        self.entry(name).map(|entry| (&entry.credential, &entry.usage))
    }

    fn entry(&self, name: &str) -> Option<&Entry> {
        self.all.get(*self.by_name.get(name)?)
    }

    /// The Credential with this API key hash, if the method accepts it.
    pub(crate) fn by_hash(&self, hash: &[u8; 32], only: &Selector) -> Option<&Credential> {
        self.picked(self.by_hash.get(hash), only)
    }

    /// The Credential with this user name and its password hash, if the method accepts it.
    pub(crate) fn by_username(&self, username: &str, only: &Selector) -> Option<(&Credential, &str)> {
        let credential = self.picked(self.by_username.get(username), only)?;
        match &credential.proof {
            Proof::Password { phc, .. } => Some((credential, phc)),
            Proof::ApiKey { .. } | Proof::Client(_) | Proof::Person { .. } => None,
        }
    }

    /// The Credential of a person whom this federation vouches for; one that names the federation comes first.
    pub(crate) fn by_person(&self, user: &str, federation: &str, only: &Selector) -> Option<&Credential> {
        let of = |federation: Option<&str>| self.by_person.get(&(user.to_owned(), federation.map(str::to_owned)));
        self.picked(of(Some(federation)), only).or_else(|| self.picked(of(None), only))
    }

    /// Checks that the Credential of an identity still exists and may be used now.
    pub(crate) fn stands(&self, name: &str, now: Timestamp) -> Result<(), Refusal> {
        match self.by_name(name) {
            Some(credential) => stands(credential, now),
            None => Err(Refusal::new(Reason::TokenRevoked, format!("Credential {name} is gone"))),
        }
    }

    /// Checks that the Credentials that a token was issued to still exist, and may be used now and with this policy; and
    /// that the directory of a person is among those that `vouch`.
    pub(crate) fn token_stands(
        &self,
        to: &IssuedTo,
        policy: &str,
        vouch: &HashSet<String>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let IssuedTo { client, subject, directory } = to;
        if let Some(directory) = directory.as_ref().filter(|directory| !vouch.contains(*directory)) {
            let detail = format!("{directory}, of which the person is, is suspended or gone");
            return Err(Refusal::new(Reason::TokenRevoked, detail));
        }
        let gone = |kind: &str| {
            Refusal::new(Reason::TokenRevoked, format!("the Credential of the {kind} it was issued to is gone"))
        };
        let (of_client, _) = self.client(client, &Selector::ANY).ok_or_else(|| gone("client"))?;
        let is_user = directory.is_none();
        let of_user = self.by_username(subject, &Selector::ANY).map(|(credential, _)| credential).filter(|_| is_user);
        if is_user && client != subject && of_user.is_none() {
            return Err(gone("user"));
        }
        for credential in [Some(of_client), of_user].into_iter().flatten() {
            stands(credential, now)?;
            let only = credential.access.policies.as_ref();
            if only.is_some_and(|policies| !policies.iter().any(|name| name == policy)) {
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
        self.entry(name).map(|entry| &entry.credential)
    }

    /// The client with this id and its armed proof, if the service accepts it.
    pub(crate) fn client(&self, id: &str, only: &Selector) -> Option<(&Credential, &ArmedClient)> {
        let (position, armed) = self.by_client.get(id)?;
        Some((self.picked(Some(position), only)?, armed))
    }

    fn picked(&self, position: Option<&usize>, only: &Selector) -> Option<&Credential> {
        let Entry { credential, .. } = self.all.get(*position?)?;
        only.accepts(&credential.labels).then_some(credential)
    }
}

/// Checks that a Credential may be used now.
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

/// Admits the caller of a Credential whose proof was right, unless the Credential is suspended, expired or unusable.
pub(crate) fn admit(context: MethodContext<'_>, credential: &Credential) -> Attempt {
    let rejected = |reason, detail: String| Attempt::Rejected(context.denied(reason, detail));
    if let Err(refusal) = stands(credential, context.now) {
        return Attempt::Rejected(refusal.by_method(context.name));
    }
    match identity(context, credential) {
        Ok(identity) => Attempt::Verified(NewVerdict {
            until: credential.expires.map_or(u64::MAX, |t| t.0),
            epoch: context.table.epoch_of(&identity),
            identity: Rc::new(identity),
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
        only_policies: credential.access.policies.clone(),
        ..Identity::nobody(context.name, context.kind)
    };
    identity.headers = context.headers(&identity)?;
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use idm_plan::ObjectKey;

    use super::*;

    fn credential(name: &str, proof: Proof) -> Credential {
        let key = ObjectKey::new("shop", name);
        Credential::new(key, proof)
    }

    fn robot(name: &str) -> Credential {
        credential(name, Proof::ApiKey { sha256: idm_types::hex(&[name.len() as u8; 32]) })
    }

    fn person(name: &str) -> Credential {
        credential(name, Proof::Person { user: name.into(), federation: None })
    }

    fn after(before: Option<&CredentialTable>, all: &[Credential]) -> CredentialTable {
        CredentialTable::arm(all, &[], &KeyRing::new(), before).unwrap()
    }

    fn epoch(table: &CredentialTable, name: &str) -> u64 {
        let nobody = Identity::nobody(&"m".parse().unwrap(), "apiKey");
        table.epoch_of(&Identity { credential: Some(name.into()), ..nobody })
    }

    #[test]
    fn an_epoch_is_that_of_one_value_of_a_credential() {
        let first = after(None, &[robot("a"), robot("of b")]);
        assert_eq!(epoch(&first, "gone"), 0);
        let suspended = Credential { suspended: true, ..robot("a") };
        let next = after(Some(&first), &[robot("of b"), suspended]);
        assert_eq!(epoch(&next, "of b"), epoch(&first, "of b"), "whatever its position");
        let gone = after(Some(&next), &[robot("of b")]);
        assert_eq!((epoch(&gone, "a"), epoch(&gone, "of b")), (0, epoch(&first, "of b")));
        let back = after(Some(&gone), &[robot("a")]);
        let mut all = [epoch(&first, "a"), epoch(&next, "a"), epoch(&back, "a"), 0];
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{all:?}: also when the old value is back");
    }

    #[test]
    fn people_have_one_epoch_together() {
        let first = after(None, &[person("ana"), robot("a")]);
        assert_eq!(after(Some(&first), &[person("ana")]).people_epoch(), first.people_epoch());
        let more = after(Some(&first), &[person("ana"), person("bob")]);
        assert_ne!(more.people_epoch(), first.people_epoch());
        assert_ne!(
            after(Some(&more), &[person("ana")]).people_epoch(),
            first.people_epoch(),
            "also when it is as it was"
        );
    }
}
