//! The keys of Credentials over time: revoked as objects ask for it, replaced when it is due, and remembered in a
//! register that nobody's restored or re-applied object can change.
//!
//! A rotation can be interrupted anywhere. First the register says when the old key ends, then the Secret gets the new
//! key, then the register says that the request was answered; each step is found done or not done by the next run.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use idm_api::v1alpha1::CredentialSpec;
use idm_compile::{Cause, Condition, Object, ObjectId, Register, Report, World, due, held_keys};
use idm_plan::key_id;
use idm_types::{ApiKey, Redacted, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client, ResourceExt};

use crate::MANAGER;
use crate::credentials::{CREDENTIAL_LABEL, MANAGED_BY, labels};

/// A leaked key is replaced when all gateways refuse it, or when they had this time to learn of it.
const LEARN_MS: u64 = 30_000;

/// The registers of all namespaces that were worked on; this process alone writes them.
#[derive(Default)]
pub(crate) struct Registers(tokio::sync::Mutex<BTreeMap<String, Kept>>, std::sync::Mutex<Vec<String>>);

impl Registers {
    /// The names of the Secrets in which keys were replaced since this was asked last.
    pub(crate) fn written(&self) -> Vec<String> {
        std::mem::take(&mut *self.1.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn wrote(&self, name: &str) {
        self.1.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(name.to_owned());
    }
}

#[derive(Clone, Default)]
struct Kept {
    register: Register,
    /// As it is stored; `None` where nothing is.
    version: Option<String>,
    /// More is known than what is stored.
    unstored: bool,
}

/// One namespace's keys during one reconcile.
pub(crate) struct KeyWork<'c> {
    pub(crate) client: &'c Client,
    pub(crate) registers: &'c Registers,
    /// The operator's own namespace, where the registers are.
    pub(crate) home: &'c str,
    pub(crate) now: Timestamp,
}

const FIELD: &str = idm_compile::REGISTER_FIELD;

fn name_of(namespace: &str) -> String {
    format!("{}-{namespace}", idm_compile::REGISTER_SECRET)
}

impl KeyWork<'_> {
    fn params() -> PostParams {
        PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() }
    }

    /// The register of a namespace. One that cannot be read is an error: without it, revoked keys would work again.
    async fn load(&self, namespace: &str) -> anyhow::Result<Kept> {
        let mut all = self.registers.0.lock().await;
        if let Some(kept) = all.get(namespace) {
            return Ok(kept.clone());
        }
        let api: Api<Secret> = Api::namespaced(self.client.clone(), self.home);
        let kept = match api.get_opt(&name_of(namespace)).await? {
            None => Kept::default(),
            Some(secret) => {
                let text = secret.data.as_ref().and_then(|data| data.get(FIELD)).map(|text| text.0.as_slice());
                let register = Register::parse(text.unwrap_or_default());
                let register = register.map_err(|why| {
                    anyhow::anyhow!("Secret {}/{}, key '{FIELD}', {why}", self.home, name_of(namespace))
                })?;
                Kept { register, version: secret.resource_version(), unstored: false }
            }
        };
        all.insert(namespace.to_owned(), kept.clone());
        Ok(kept)
    }

    /// Stores a register, if it is another than the one that was read.
    async fn save(&self, namespace: &str, kept: &mut Kept, register: &Register) -> anyhow::Result<()> {
        if kept.register == *register && !kept.unstored {
            return Ok(());
        }
        let api: Api<Secret> = Api::namespaced(self.client.clone(), self.home);
        let name = name_of(namespace);
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                resource_version: kept.version.clone(),
                labels: Some(labels(("app.kubernetes.io/component", "credential-keys"))),
                ..ObjectMeta::default()
            },
            data: Some([(FIELD.to_owned(), ByteString(register.text().into_bytes()))].into()),
            ..Secret::default()
        };
        let mut all = self.registers.0.lock().await;
        let written = match kept.version {
            None => api.create(&Self::params(), &secret).await,
            Some(_) => api.replace(&name, &Self::params(), &secret).await,
        };
        match written {
            Ok(written) => {
                *kept = Kept { register: register.clone(), version: written.resource_version(), unstored: false };
                all.insert(namespace.to_owned(), kept.clone());
                Ok(())
            }
            Err(error) => {
                // Somebody else wrote it, or deleted it: what is stored now is read anew, and no key that has ended
                // comes back by that.
                let stored = api.get_opt(&name).await?;
                let version = stored.as_ref().and_then(|secret| secret.resource_version());
                let text = stored.as_ref().and_then(|secret| Some(secret.data.as_ref()?.get(FIELD)?.0.as_slice()));
                let mut merged = text.and_then(|text| Register::parse(text).ok()).unwrap_or_else(|| register.clone());
                merged.absorb(register);
                all.insert(namespace.to_owned(), Kept { register: merged, version, unstored: true });
                Err(error.into())
            }
        }
    }

    /// Gives a world, and those of the namespaces whose routes it takes, what is known of their keys.
    pub(crate) async fn remember(&self, world: &mut World) -> anyhow::Result<()> {
        world.register = self.load(&world.namespace.clone()).await?.register;
        for tenant in world.tenants_mut() {
            tenant.register = self.load(&tenant.namespace.clone()).await?.register;
        }
        Ok(())
    }

    /// Revokes what the objects ask for, and begins the rotations that are due; those that keep the old key for a while
    /// are finished at once. What cannot be done is told in the report.
    pub(crate) async fn advance(&self, world: &mut World, report: &mut Report) -> anyhow::Result<()> {
        let mut kept = self.load(&world.namespace).await?;
        let mut register = kept.register.clone();
        let mut objects: Vec<_> = world.credentials.clone();
        objects.retain(|object| object.spec.api_key.is_some());
        for object in &objects {
            let told = revoke(world, object, &mut register, self.now);
            told.into_iter().for_each(|why| tell(world, object, report, "spec.revokedKeys", why));
        }
        // They are in the order of their names.
        let expiry = |name: &str| {
            let found = objects.binary_search_by(|object| object.meta.name.as_str().cmp(name)).ok()?;
            objects.get(found).map(|object| natural_end(&object.spec))
        };
        // A Credential that cannot be read is there all the same, with an expiry that nobody knows.
        if !world.broken.iter().any(|broken| broken.id.kind == "Credential") {
            register.tidy(self.now, expiry);
        }
        // The age of a key counts from when it is seen first.
        let of_schedule = |object: &&Arc<Object<CredentialSpec>>| {
            object.spec.rotation.as_ref().is_some_and(|rotation| rotation.every.is_some())
        };
        for object in objects.iter().filter(of_schedule) {
            let is_begun = register.record(&object.meta.name).is_some_and(|record| record.pending.is_some());
            if let Some(current) = held_keys(world, object).first().filter(|_| !is_begun) {
                if !register.has_room_for(&object.meta.name) {
                    let why = "the ages of no more keys are remembered in this namespace: it is not replaced by its \
                               age; move some Credentials with `rotation.every` to another namespace";
                    tell(world, object, report, "spec.rotation", why.into());
                    continue;
                }
                register.see(&object.meta.name, current, self.now);
            }
        }
        self.save(&world.namespace, &mut kept, &register).await?;
        for object in &objects {
            match self.rotate(world, object, &mut kept).await? {
                Ok(()) => {}
                Err(why) => tell(world, object, report, "spec.rotation", why),
            }
        }
        world.register = kept.register;
        Ok(())
    }

    /// Begins the rotation of a Credential that is due, and finishes one that keeps the old key for a while. The inner
    /// error says why a key that somebody asked for cannot be made.
    async fn rotate(
        &self,
        world: &mut World,
        object: &Object<CredentialSpec>,
        kept: &mut Kept,
    ) -> anyhow::Result<Result<(), String>> {
        let name = &object.meta.name;
        let register = &kept.register;
        if register.record(name).is_some_and(|record| record.pending.is_some()) {
            // It was interrupted: without an overlap it goes on when the gateways know of the end.
            let replaced = register.record(name).and_then(|record| record.pending.as_ref());
            let end = replaced.and_then(|pending| register.end_of(&pending.replaces));
            let goes_on = end.is_some_and(|end| end.at > self.now || self.now.0 >= end.at.0.saturating_add(LEARN_MS));
            return if goes_on { self.finish(world, object, kept).await } else { Ok(Ok(())) };
        }
        let every = object.spec.rotation.as_ref().is_some_and(|rotation| rotation.every.is_some());
        let asked = object.meta.rotate.is_some();
        if !every && !asked {
            return Ok(Ok(()));
        }
        let held = held_keys(world, object);
        let Some(current) = held.first() else { return Ok(Ok(())) };
        let due = match due(object, register.record(name), self.now) {
            Ok(Some(due)) => due,
            Ok(None) => return Ok(Ok(())),
            Err(why) => return Ok(Err(why.to_owned())),
        };
        if object.spec.api_key.as_ref().is_some_and(|api_key| api_key.sha256.is_some()) {
            return Ok(Err(
                "whoever made the key makes the next one: put its hash first into the Secret, and the old one behind \
                           it as `HASH until TIME`"
                    .into(),
            ));
        }
        if let Err(why) = self.ours(world, object).await? {
            return Ok(Err(why));
        }
        let request = due.request.as_deref();
        let mut register = kept.register.clone();
        let natural = natural_end(&object.spec);
        if let Err(full) = register.begin(name, current, request, due.overlap_ms, self.now, natural) {
            return Ok(Err(full.to_string()));
        }
        self.save(&world.namespace, kept, &register).await?;
        tracing::info!(
            namespace = world.namespace,
            credential = name,
            key = key_id(current),
            "a key is being replaced"
        );
        if due.overlap_ms > 0 { self.finish(world, object, kept).await } else { Ok(Ok(())) }
    }

    /// Finishes rotations without an overlap. Call this when the gateways were asked: `refused` tells whether all of
    /// them refuse the old keys. Returns whether another run is needed soon.
    pub(crate) async fn finish_leaked(&self, world: &mut World, refused: bool) -> anyhow::Result<bool> {
        let mut kept = self.load(&world.namespace).await?;
        let mut waiting = world.credentials.clone();
        waiting.retain(|object| kept.register.record(&object.meta.name).is_some_and(|of| of.pending.is_some()));
        if refused {
            for object in &waiting {
                let _ = self.finish(world, object, &mut kept).await?;
            }
        }
        Ok(!waiting.is_empty())
    }

    /// Writes the new key of a rotation that has begun, unless the Secret has it already, and ends the rotation.
    async fn finish(
        &self,
        world: &mut World,
        object: &Object<CredentialSpec>,
        kept: &mut Kept,
    ) -> anyhow::Result<Result<(), String>> {
        let (name, held) = (&object.meta.name, held_keys(world, object));
        let mut register = kept.register.clone();
        let replaces = register.record(name).and_then(|record| record.pending.as_ref()).map(|of| of.replaces.clone());
        let (Some(replaces), Some(current)) = (replaces, held.first()) else { return Ok(Ok(())) };
        let mut new = current.clone();
        if *current == replaces {
            let mut secret = match self.ours(world, object).await? {
                Ok(secret) => secret,
                Err(why) => return Ok(Err(why)),
            };
            let mut random = [0; 32];
            SystemRandom::new().fill(&mut random).map_err(|_| anyhow::anyhow!("the system gave no random bits"))?;
            let key = ApiKey::from_random(random);
            let Some(reference) = &object.spec.secret_ref else { return Ok(Ok(())) };
            let field = reference.key.clone().unwrap_or_else(|| "key".into());
            secret.metadata.managed_fields = None;
            let value = key.reveal().as_bytes().to_vec();
            secret.data.get_or_insert_default().insert(field.clone(), ByteString(value.clone()));
            let api: Api<Secret> = Api::namespaced(self.client.clone(), &world.namespace);
            // The write carries the version that was read: nobody else's change is lost.
            api.replace(&reference.name, &Self::params(), &secret).await?;
            self.registers.wrote(&reference.name);
            world.secrets.entry(reference.name.clone()).or_default().insert(field, Redacted::new(value));
            new = held_keys(world, object).into_iter().next().unwrap_or(new);
        }
        register.finish(name, &new, self.now);
        self.save(&world.namespace, kept, &register).await?;
        world.register = register;
        Ok(Ok(()))
    }

    /// The Secret of a Credential, if the operator made it; otherwise what to do instead.
    async fn ours(&self, world: &World, object: &Object<CredentialSpec>) -> anyhow::Result<Result<Secret, String>> {
        let Some(reference) = &object.spec.secret_ref else { return Ok(Err("it has no Secret".into())) };
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &world.namespace);
        let Some(secret) = api.get_opt(&reference.name).await? else {
            return Ok(Err(format!("Secret '{}' must exist", reference.name)));
        };
        let has = |label: &str, value: &str| secret.labels().get(label).is_some_and(|of| of == value);
        if has(MANAGED_BY, MANAGER) && has(CREDENTIAL_LABEL, &object.meta.name) {
            return Ok(Ok(secret));
        }
        let writer =
            secret.managed_fields().iter().filter_map(|entry| Some((entry.time.as_ref()?.0, entry.manager.clone()?)));
        let writer = writer.max().map_or_else(|| "somebody else".to_owned(), |(_, manager)| format!("'{manager}'"));
        let name = &reference.name;
        Ok(Err(format!(
            "Secret '{name}' is written by {writer}, so the next key must come from there: a key that is replaced \
                there takes effect at once. For two keys at a time use `apiKey.sha256`, or delete the Secret there \
                and let the operator make it"
        )))
    }
}

/// Ends the keys whose ids a Credential lists. Returns what could not be done.
fn revoke(world: &World, object: &Object<CredentialSpec>, register: &mut Register, now: Timestamp) -> Option<String> {
    let of_annotation = object.meta.revoke.as_deref().unwrap_or_default().split(',').map(str::trim);
    let ids: Vec<&str> = object
        .spec
        .revoked_keys
        .iter()
        .flatten()
        .map(String::as_str)
        .chain(of_annotation)
        .filter(|id| id.len() == 12)
        .collect();
    if ids.is_empty() {
        return None;
    }
    let name = &object.meta.name;
    let before = register.record(name).and_then(|record| record.retiring.as_ref()).map(|known| known.sha256.clone());
    let ended = register.ended().filter(|(_, ended)| ended.credential == *name).map(|(sha256, _)| sha256.to_owned());
    let known: Vec<String> = held_keys(world, object).into_iter().chain(before).chain(ended).collect();
    for sha256 in known.iter().filter(|sha256| ids.contains(&key_id(sha256))) {
        match register.revoke(name, sha256, now, natural_end(&object.spec)) {
            Ok(true) => {
                tracing::info!(namespace = world.namespace, credential = name, key = key_id(sha256), "a key is revoked")
            }
            Ok(false) => {}
            Err(full) => return Some(full.to_string()),
        }
    }
    None
}

fn tell(world: &World, object: &Object<CredentialSpec>, report: &mut Report, path: &str, why: String) {
    let id = ObjectId::new("Credential", &world.namespace, &object.meta.name);
    report.push(&id, path, Condition::ResolvedRefs, Cause::NotRotated, why);
}

/// The expiry of a Credential, by which all its keys end.
fn natural_end(spec: &CredentialSpec) -> Option<Timestamp> {
    Timestamp::parse_rfc3339(spec.expire_time.as_deref()?)
}

#[cfg(test)]
mod tests;
