//! Credentials of the namespace: found by their proofs, and made into identities.

use idm_request::{Binding, Identity, IssuedTo, Unusable};
use std::rc::Rc;
use std::sync::Arc;

use foldhash::HashMap;
use idm_plan::{Credential, Credentials, EndedKey, KeyEnd, ObjectKey, Proof, Secrets, Selector, UsagePlan, key_id};
use idm_signature::ContentDigest;
use idm_trust::{KeyRing, Keys};
use idm_types::{Reason, Refusal, Timestamp};
use std::collections::HashSet;
use std::net::IpAddr;

use crate::basis::unique;
use crate::caller_keys::{ArmedKey, CallerKeys, is_live, secrets_of};
use crate::client::ArmedClient;
use crate::keys::{self, KeyFound, KeyTable, RetiringReport, RetiringUse};
use crate::method::{Attempt, MethodContext, NewVerdict};
use crate::usage::{ArmedPlan, Usage};

/// The Credentials of a namespace. Immutable: a change makes a new table, in which a Credential that did not change
/// keeps its epoch.
#[derive(Default)]
pub struct CredentialTable {
    /// Ordered by name.
    all: Vec<Arc<Entry>>,
    /// The tiers of the namespace.
    plans: Vec<ArmedPlan>,
    by_hash: KeyTable,
    /// Whether some keys have another form than our own: see [`Self::takes_any_form`].
    any_form: bool,
    by_username: HashMap<String, usize>,
    /// The Credentials with passwords.
    with_password: Vec<usize>,
    /// The index of each client, with its armed proof: see client.rs.
    by_client: HashMap<String, (usize, ArmedClient)>,
    /// By the value that the sign-in method compares, and the Federation's uid where the Credential names one.
    by_person: HashMap<(String, Option<String>), usize>,
    /// The keys with which callers sign requests.
    caller_keys: CallerKeys,
    /// The keys with which callers sign tokens.
    token_keys: CallerKeys,
    /// By the `iss` of the tokens that its caller signs.
    by_issuer: HashMap<String, usize>,
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
    pub fn arm(credentials: &Credentials, known: &KeyRing, before: Option<&Self>) -> Result<Self, String> {
        let Credentials { all, secrets, usage_plans, ended } = credentials;
        let mut grouped: HashMap<&str, Credentials> = HashMap::default();
        for credential in all {
            grouped.entry(&credential.key.namespace).or_default().all.push(credential.clone());
        }
        // Names are looked up in this order.
        grouped.values_mut().for_each(|of| of.all.sort_by(|a, b| a.key.name.cmp(&b.key.name)));
        for plan in usage_plans {
            grouped.entry(&plan.key.namespace).or_default().usage_plans.push(plan.clone());
        }
        for key in ended {
            grouped.entry(&key.credential.namespace).or_default().ended.push(key.clone());
        }
        let mut tables = Self::default();
        for (namespace, Credentials { all, secrets: _, usage_plans, ended }) in grouped {
            let before = before.map(|before| before.of(namespace));
            let table = CredentialTable::arm(&all, secrets, &usage_plans, &ended, known, before)?;
            tables.keys.extend(table.keys.iter().map(|(id, keys)| (id.clone(), keys.clone())));
            tables.by_namespace.insert(namespace.to_owned(), table);
        }
        Ok(tables)
    }

    /// Those that the policies of a namespace know.
    pub fn of(&self, namespace: &str) -> &CredentialTable {
        self.by_namespace.get(namespace).unwrap_or(&self.none)
    }

    /// The older of two keys of each Credential that has two, and where it was used last; at most `most`.
    pub fn retiring(&self, most: usize) -> Vec<RetiringReport> {
        self.by_namespace.values().flat_map(CredentialTable::retiring).take(most).collect()
    }

    /// The keys of clients that they use.
    pub fn keys(&self) -> &KeyRing {
        &self.keys
    }
}

/// The Credential of a key and the end of the key; or, where it has ended, the Credential's name and the refusal.
pub(crate) type Judged<'t> = Result<(&'t Credential, Option<KeyEnd>), (ObjectKey, Refusal)>;

/// One Credential. Tables that follow one another share those that did not change.
struct Entry {
    credential: Arc<Credential>,
    /// Tells the secrets of its keys apart, which the Credential only names.
    secrets: Option<[u8; 32]>,
    /// Unique to this value of the Credential and of its secrets: a verdict that rests on another value is void.
    epoch: u64,
    /// `None` where nothing limits or restricts it.
    usage: Option<Box<Usage>>,
    /// The last use of the older of two keys; `None` where there is one at most.
    retiring_use: Option<RetiringUse>,
}

impl Entry {
    /// `before` is the entry of the same name in the table in force, and `same_plans` says that its tiers are the same.
    fn arm(
        (credential, secrets): (&Arc<Credential>, &Secrets),
        before: Option<&Arc<Self>>,
        (plans, same_plans): (&[ArmedPlan], bool),
    ) -> Result<Arc<Self>, String> {
        let secrets = secrets_of(&credential.proof, secrets);
        let is_same = |known: &&Arc<Self>| {
            known.secrets == secrets
                && (Arc::ptr_eq(&known.credential, credential) || *known.credential == **credential)
        };
        let same = before.filter(is_same);
        if let Some(same) = same.filter(|_| same_plans) {
            return Ok(same.clone());
        }
        let retiring = retiring_of(credential);
        let same_key = before.filter(|known| retiring_of(&known.credential) == retiring);
        let retiring_use = retiring.map(|_| {
            same_key.and_then(|known| known.retiring_use.as_ref()).map(RetiringUse::shared).unwrap_or_default()
        });
        let usage = Usage::arm(credential, plans)?;
        let usage = (!usage.is_open()).then(|| Box::new(usage));
        let epoch = same.map_or_else(unique, |same| same.epoch);
        Ok(Arc::new(Self { credential: credential.clone(), secrets, epoch, usage, retiring_use }))
    }
}

impl CredentialTable {
    /// Arms Credentials, which are ordered by name, with their secrets and the keys that are `known`; `before` is the
    /// table in force. The error names the Credential, and no secret.
    pub fn arm(
        all: &[Arc<Credential>],
        secrets: &Secrets,
        plans: &[UsagePlan],
        ended: &[EndedKey],
        known: &KeyRing,
        before: Option<&Self>,
    ) -> Result<Self, String> {
        let mut keys = Keys::new(known);
        let plans: Vec<ArmedPlan> = plans.iter().map(ArmedPlan::arm).collect::<Result<_, String>>()?;
        let same_plans =
            before.is_some_and(|before| before.plans.iter().map(ArmedPlan::plan).eq(plans.iter().map(ArmedPlan::plan)));
        let mut table = Self { plans, ..Self::default() };
        table.all.reserve_exact(all.len());
        table.by_hash.reserve(all.len());
        for (position, credential) in all.iter().enumerate() {
            let broken = |problem: String| format!("credential {}: {problem}", credential.key);
            match &credential.proof {
                Proof::ApiKey { keys, any_form } => {
                    table.by_hash.add(keys, position).map_err(broken)?;
                    table.any_form |= any_form;
                }
                Proof::Password { username, .. } => {
                    table.by_username.insert(username.clone(), position);
                    table.with_password.push(position);
                }
                // Clients authenticate at token services only.
                Proof::Client(client) => {
                    let armed = ArmedClient::arm(client, &mut keys).map_err(broken)?;
                    table.by_client.insert(client.client_id.clone(), (position, armed));
                }
                Proof::Person { user, federation } => {
                    table.by_person.insert((user.clone(), federation.clone()), position);
                }
                Proof::Signature { .. } => {
                    let before = before.map(|before| &before.caller_keys);
                    table.caller_keys.add(&credential.proof, position, secrets, before).map_err(broken)?;
                }
                Proof::HmacJwt { issuer, .. } => {
                    let before = before.map(|before| &before.token_keys);
                    table.token_keys.add(&credential.proof, position, secrets, before).map_err(broken)?;
                    if let Some(issuer) = issuer {
                        table.by_issuer.insert(issuer.clone(), position);
                    }
                }
            }
            let known = before.and_then(|before| before.entry(&credential.key.name));
            let entry = Entry::arm((credential, secrets), known, (&table.plans, same_plans)).map_err(broken)?;
            table.all.push(entry);
        }
        for key in ended {
            table.by_hash.add_ended(key).map_err(|problem| format!("credential {}: {problem}", key.credential))?;
        }
        let same = before.filter(|before| before.people().eq(table.people()));
        table.people_epoch = same.map_or_else(unique, |same| same.people_epoch);
        table.keys = keys.used();
        Ok(table)
    }

    /// The number of Credentials.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The Credential of this name.
    pub fn key_of(&self, name: &str) -> Option<&ObjectKey> {
        self.by_name(name).map(|credential| &credential.key)
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
        let all = self.all.iter().map(|entry| &*entry.credential);
        all.filter(|credential| matches!(credential.proof, Proof::Person { .. }))
    }

    pub(crate) fn plans(&self) -> &[ArmedPlan] {
        &self.plans
    }

    /// The Credential of this name, with its limits and restrictions.
    pub(crate) fn with_usage(&self, name: &str) -> Option<(&Credential, Option<&Usage>)> {
        self.entry(name).map(|entry| (&*entry.credential, entry.usage.as_deref()))
    }

    fn entry(&self, name: &str) -> Option<&Arc<Entry>> {
        let position = self.all.binary_search_by(|entry| entry.credential.key.name.as_str().cmp(name)).ok()?;
        self.all.get(position)
    }

    /// Whether a key may have another form than our own.
    pub(crate) fn takes_any_form(&self) -> bool {
        self.any_form
    }

    /// The Credential with this API key hash and the end of the key, if the method accepts it; the refusal, where the
    /// key has ended at this time.
    pub(crate) fn by_hash(&self, hash: &[u8; 32], only: &Selector, now: Timestamp) -> Option<Judged<'_>> {
        let id = || key_id(&idm_types::hex(hash)).to_owned();
        match self.by_hash.find(hash)? {
            KeyFound::Ended(credential, end) => Some(Err((credential.clone(), keys::over(credential, &id(), end)))),
            KeyFound::Live(position) => {
                let credential = self.picked(Some(&position), only)?;
                let end = keys::end_of(credential, hash);
                match end.filter(|end| now >= end.at) {
                    Some(end) => Some(Err((credential.key.clone(), keys::over(&credential.key, &id(), end)))),
                    None => Some(Ok((credential, end))),
                }
            }
        }
    }

    fn retiring(&self) -> impl Iterator<Item = RetiringReport> {
        self.all.iter().filter_map(|entry| {
            let Proof::ApiKey { keys, .. } = &entry.credential.proof else { return None };
            let retiring = keys.retiring.as_ref()?;
            Some(RetiringReport {
                credential: entry.credential.key.clone(),
                key: key_id(&retiring.sha256).to_owned(),
                newer: keys.current.as_ref().map(|key| key_id(&key.sha256).to_owned()),
                last: entry.retiring_use.as_ref().and_then(RetiringUse::last),
            })
        })
    }

    /// The Credential with this user name and its password hash, if the method accepts it.
    pub(crate) fn by_username(&self, username: &str, only: &Selector) -> Option<(&Credential, &str)> {
        let credential = self.picked(self.by_username.get(username), only)?;
        match &credential.proof {
            Proof::Password { phc, .. } => Some((credential, phc)),
            Proof::ApiKey { .. }
            | Proof::Client(_)
            | Proof::Person { .. }
            | Proof::Signature { .. }
            | Proof::HmacJwt { .. } => None,
        }
    }

    /// The Credential with a key of this name for signed requests, and the key, if the method accepts it.
    pub(crate) fn signer(&self, id: &str, only: &Selector) -> Option<(&Credential, &ArmedKey)> {
        let (position, key) = self.caller_keys.find(id)?;
        let credential = self.picked(Some(&position), only)?;
        matches!(credential.proof, Proof::Signature { .. }).then_some((credential, key))
    }

    /// The Credential that a token of its own means, and the keys that may have signed it, if the method accepts it.
    /// `Err`: its `kid` and its `iss` mean different ones.
    pub(crate) fn own_token(
        &self,
        kid: Option<&str>,
        issuer: Option<&str>,
        only: &Selector,
    ) -> Result<Option<(&Credential, Vec<&ArmedKey>)>, ()> {
        let by_kid = kid.and_then(|kid| self.token_keys.find(kid));
        let whole = issuer.and_then(|issuer| self.by_issuer.get(issuer)).copied();
        let by_issuer = issuer.and_then(|issuer| self.token_keys.find(issuer));
        let of_issuer = whole.or(by_issuer.map(|(position, _)| position));
        if by_kid.zip(of_issuer).is_some_and(|((one, _), other)| one != other) {
            return Err(());
        }
        let Some(position) = by_kid.map(|(position, _)| position).or(of_issuer) else { return Ok(None) };
        let Some(credential) = self.picked(Some(&position), only) else { return Ok(None) };
        let all = || credential.proof.caller_keys().iter().filter_map(|key| self.token_keys.find(&key.id));
        let keys = match by_kid {
            Some((_, key)) => vec![key],
            None if whole.is_some() => all().map(|(_, key)| key).collect(),
            None => by_issuer.into_iter().map(|(_, key)| key).collect(),
        };
        Ok(Some((credential, keys)))
    }

    /// The Credential with an API key, a password or keys for signed requests that has this name or user name, if the
    /// method accepts it.
    pub(crate) fn named(&self, name: &str, only: &Selector) -> Option<&Credential> {
        let accepted = |credential: &&Credential| {
            let proof = &credential.proof;
            let signs = !proof.caller_keys().is_empty();
            let proves = signs || matches!(proof, Proof::ApiKey { .. } | Proof::Password { .. });
            proves && only.accepts(&credential.labels)
        };
        self.by_name(name).filter(accepted).or_else(|| self.by_username(name, only).map(|(credential, _)| credential))
    }

    /// A hash that an unknown user could have as well: the same one for the same name, and each format as often as
    /// users have it, so that the time of an answer does not tell who exists. `key` is random, and the same for the
    /// process.
    pub(crate) fn alike(&self, username: &str, key: impl Fn(&[&str]) -> [u8; 32]) -> Option<&str> {
        let [a, b, c, d, ..] = key(&["alike", username]);
        let number = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
        let position = *self.with_password.get(number.checked_rem(self.with_password.len())?)?;
        match &self.all.get(position)?.credential.proof {
            Proof::Password { phc, .. } => Some(phc),
            _ => None,
        }
    }

    /// The Credential of a person whom this federation vouches for; one that names the federation comes first.
    pub(crate) fn by_person(&self, user: &str, federation: &str, only: &Selector) -> Option<&Credential> {
        let of = |federation: Option<&str>| self.by_person.get(&(user.to_owned(), federation.map(str::to_owned)));
        self.picked(of(Some(federation)), only).or_else(|| self.picked(of(None), only))
    }

    /// Checks that the Credential of an identity still exists and may be used now, and so may the key by which it was
    /// found, if it was found by one.
    pub(crate) fn stands(&self, name: &str, key: Option<&str>, now: Timestamp, address: IpAddr) -> Result<(), Refusal> {
        let Some(entry) = self.entry(name) else {
            return Err(Refusal::new(Reason::TokenRevoked, format!("Credential {name} is gone")));
        };
        let credential = &entry.credential;
        stands(credential, now)?;
        match (&credential.proof, key) {
            (Proof::ApiKey { keys, .. }, Some(id)) => {
                keys::stands(&credential.key, keys, entry.retiring_use.as_ref(), id, (now, address))
            }
            _ => Ok(()),
        }
    }

    /// Checks that the Credentials that a token was issued to still exist, and may be used now and with this policy;
    /// and that the directory of a person is among those that `vouch`.
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
            let only = credential.only_policies();
            if only.is_some_and(|policies| !policies.iter().any(|name| name == policy)) {
                return Err(Refusal::new(
                    Reason::CredentialNotAllowedHere,
                    format!("the access list of Credential {} does not contain this policy", credential.key),
                ));
            }
        }
        Ok(())
    }

    /// Until when the Credential of this name lets a caller go on who was found by this key, if by one; the reason why
    /// not. A key that the Credential has no more ends with what replaced it.
    pub(crate) fn standing(&self, name: &str, key: Option<&str>, now: Timestamp) -> Result<Option<Timestamp>, Reason> {
        let credential = self.by_name(name).ok_or(Reason::TokenRevoked)?;
        stands(credential, now).map_err(|refusal| refusal.reason)?;
        let end = match (&credential.proof, key) {
            (Proof::ApiKey { keys, .. }, Some(id)) => {
                let (_, end) = keys.all().find(|(sha256, _)| key_id(sha256) == id).ok_or(Reason::KeyRevoked)?;
                end
            }
            (Proof::Signature { keys } | Proof::HmacJwt { keys, .. }, Some(id)) => {
                let key = keys.iter().find(|key| key.id == id).ok_or(Reason::KeyRevoked)?;
                is_live(&credential.key, key, now).map_err(|refusal| refusal.reason)?;
                return Ok(credential.expires.into_iter().chain(key.expires).min());
            }
            _ => None,
        };
        match end.filter(|end| now >= end.at) {
            Some(end) => Err(keys::over(&credential.key, "", end).reason),
            None => Ok(credential.expires.into_iter().chain(end.map(|end| end.at)).min()),
        }
    }

    /// The Credential of this name.
    pub(crate) fn by_name(&self, name: &str) -> Option<&Credential> {
        self.entry(name).map(|entry| &*entry.credential)
    }

    /// The client with this id and its armed proof, if the service accepts it.
    pub(crate) fn client(&self, id: &str, only: &Selector) -> Option<(&Credential, &ArmedClient)> {
        let (position, armed) = self.by_client.get(id)?;
        Some((self.picked(Some(position), only)?, armed))
    }

    fn picked(&self, position: Option<&usize>, only: &Selector) -> Option<&Credential> {
        let credential = &*self.all.get(*position?)?.credential;
        only.accepts(&credential.labels).then_some(credential)
    }
}

/// The hash of the older of two keys.
fn retiring_of(credential: &Credential) -> Option<&str> {
    match &credential.proof {
        Proof::ApiKey { keys, .. } => keys.retiring.as_ref().map(|key| key.sha256.as_str()),
        _ => None,
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

/// How a caller proved to be that of a Credential.
#[derive(Default)]
pub(crate) struct ProvenBy {
    /// The id of the key.
    pub(crate) key: Option<String>,
    /// The end of the key.
    pub(crate) end: Option<Timestamp>,
    /// The digests of the body that the caller signed.
    pub(crate) content: Option<ContentDigest>,
    /// The keys that the caller's token is bound to.
    pub(crate) binding: Binding,
}

/// Admits the caller of a Credential whose proof was right, unless the Credential is suspended, expired or unusable.
pub(crate) fn admit(context: MethodContext<'_>, credential: &Credential) -> Attempt {
    admit_key(context, credential, ProvenBy::default())
}

/// The same for a caller who has a key of the Credential.
pub(crate) fn admit_key(context: MethodContext<'_>, credential: &Credential, by: ProvenBy) -> Attempt {
    let rejected = |reason, detail: String| Attempt::Rejected(context.denied(reason, detail));
    if let Err(refusal) = stands(credential, context.now) {
        return Attempt::Rejected(refusal.by_method(context.name));
    }
    let end = by.end;
    match identity(context, credential, by) {
        Ok(identity) => Attempt::Verified(NewVerdict {
            until: credential.expires.into_iter().chain(end).min().map_or(u64::MAX, |t| t.0),
            epoch: context.table.epoch_of(&identity),
            identity: Rc::new(identity),
        }),
        Err(problem) => rejected(problem.reason, problem.detail),
    }
}

fn identity(context: MethodContext<'_>, credential: &Credential, by: ProvenBy) -> Result<Identity, Unusable> {
    let ProvenBy { key, end: _, content, binding } = by;
    let mut roles: Vec<String> = credential.roles.iter().map(ToString::to_string).collect();
    roles.extend(context.grants.of_credential(&credential.key.name).cloned());
    roles.sort();
    roles.dedup();
    let username = match &credential.proof {
        Proof::Password { username, .. } => username.clone(),
        Proof::ApiKey { .. } | Proof::Signature { .. } | Proof::HmacJwt { .. } => credential.key.name.clone(),
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
        kid: key,
        expires: credential.expires,
        only_policies: credential.only_policies().cloned(),
        content: content.map(Box::new),
        binding,
        ..Identity::nobody(context.name, context.kind)
    };
    identity.headers = context.headers(&identity)?;
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(name: &str, proof: Proof) -> Credential {
        let key = ObjectKey::new("shop", name);
        Credential::new(key, proof)
    }

    fn robot(name: &str) -> Credential {
        credential(
            name,
            Proof::ApiKey { keys: idm_plan::Keys::one(idm_types::hex(&[name.len() as u8; 32])), any_form: false },
        )
    }

    fn person(name: &str) -> Credential {
        credential(name, Proof::Person { user: name.into(), federation: None })
    }

    fn after(before: Option<&CredentialTable>, all: &[Credential]) -> CredentialTable {
        let mut all: Vec<_> = all.iter().cloned().map(Arc::new).collect();
        all.sort_by(|a, b| a.key.name.cmp(&b.key.name));
        CredentialTable::arm(&all, &Secrets::default(), &[], &[], &KeyRing::new(), before).unwrap()
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
