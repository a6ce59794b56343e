//! The sealed values that are stored in the cluster: how many there are of each key, and how they get another one.
//!
//! Rekeying writes one Secret after the other, each with the version that was read. It can be ended at any point and
//! begun again: what is sealed under the right key already is left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use idm_compile::SIGNING_SECRET;
use idm_envelope::{Sealed, is_sealed};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};

use super::{GATEWAY_KEYS, Sealing, opened};
use crate::MANAGER;
use crate::credentials::MANAGED_BY;
use crate::gateway::BUNDLE_LABEL;

/// Secrets of one answer: each may have 1 MiB.
const PAGE: u32 = 20;
/// How often a Secret is read again that others write at the same time.
const ATTEMPTS: usize = 10;

/// The number of stored values by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// The number of values that name each key.
    pub by_key: BTreeMap<String, usize>,
    /// Secrets with values in the clear, which should be sealed.
    pub clear: BTreeSet<String>,
    /// Secrets with values whose form is newer, or damaged.
    pub unreadable: BTreeSet<String>,
    /// The key for new values.
    pub primary: String,
    /// The keys that are there; empty where a command has them.
    pub known: Vec<String>,
}

/// The work of [`Sealing::rekey`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rekeyed {
    /// Secrets that were written.
    pub written: usize,
    /// Secrets in which nothing was to do.
    pub unchanged: usize,
}

impl Census {
    /// The keys that nothing is sealed with and that are not for new values. They may be removed.
    pub fn removable(&self) -> impl Iterator<Item = &str> {
        let is_free = |id: &&String| **id != self.primary && !self.by_key.contains_key(*id);
        self.known.iter().filter(is_free).map(String::as_str).filter(|_| self.unreadable.is_empty())
    }

    /// Keys that stored values name and that are not there.
    pub fn missing(&self) -> impl Iterator<Item = &str> {
        let is_missing = |id: &&String| !self.known.is_empty() && !self.known.contains(id);
        self.by_key.keys().filter(is_missing).map(String::as_str)
    }

    fn count(&mut self, secret: &Secret) {
        let name = || format!("{}/{}", secret.namespace().unwrap_or_default(), secret.name_any());
        for value in secret.data.iter().flatten().map(|(_, value)| &value.0) {
            match Sealed::parse(value) {
                Some(sealed) => *self.by_key.entry(sealed.key_id().to_owned()).or_default() += 1,
                None if is_sealed(value) => drop(self.unreadable.insert(name())),
                None => drop(self.clear.insert(name())),
            }
        }
    }

    /// As metrics, in the format of Prometheus.
    pub(crate) fn text(&self) -> String {
        let mut out = String::from("# TYPE idm_sealed_values gauge\n");
        for (key, count) in &self.by_key {
            let key = key.replace('\\', "\\\\").replace('"', "\\\"");
            let _ = writeln!(out, "idm_sealed_values{{key=\"{key}\"}} {count}");
        }
        let _ = writeln!(out, "# TYPE idm_unsealed_secrets gauge");
        let _ = writeln!(out, "idm_unsealed_secrets {}", self.clear.len());
        out
    }
}

/// Whether all fields of a Secret should be sealed.
fn is_ours(secret: &Secret) -> bool {
    let has = |label: &str, value: &str| secret.labels().get(label).is_some_and(|of| of == value);
    let name = secret.name_any();
    let is_ours = has(MANAGED_BY, MANAGER);
    is_ours && name != GATEWAY_KEYS && (has(BUNDLE_LABEL, "true") || name == SIGNING_SECRET)
}

impl Sealing {
    /// Counts the stored values.
    pub async fn census(&self) -> Result<Census, kube::Error> {
        let known = self.keys.as_ref().map(|keys| keys.now().ids().map(str::to_owned).collect());
        let primary = self.envelope.primary().unwrap_or_default();
        let mut census = Census { primary, known: known.unwrap_or_default(), ..Census::default() };
        let mut pages = self.pages();
        while let Some(page) = pages.next().await? {
            page.iter().for_each(|secret| census.count(secret));
        }
        if let Some(keys) = &self.keys {
            keys.are_in_use(census.by_key.keys().cloned().collect());
        }
        Ok(census)
    }

    /// Seals everything under the key for new values that is sealed under another one, or not at all. `wrote` is told
    /// the name of each Secret that was written.
    pub async fn rekey(&self, mut wrote: impl FnMut(&str)) -> anyhow::Result<Rekeyed> {
        let mut done = Rekeyed::default();
        let mut pages = self.pages();
        while let Some(page) = pages.next().await? {
            for secret in page {
                let name = format!("{}/{}", secret.namespace().unwrap_or_default(), secret.name_any());
                if self.rekey_one(secret).await? {
                    done.written += 1;
                    wrote(&name);
                } else {
                    done.unchanged += 1;
                }
            }
        }
        Ok(done)
    }

    /// Returns whether the Secret was written.
    async fn rekey_one(&self, mut secret: Secret) -> anyhow::Result<bool> {
        let (namespace, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &namespace);
        let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
        for _ in 0..ATTEMPTS {
            if !self.reseal(&mut secret).await? {
                return Ok(false);
            }
            secret.metadata.managed_fields = None;
            match api.replace(&name, &params, &secret).await {
                Ok(_) => return Ok(true),
                // Somebody else wrote it in the meantime: the operator, for a change of its configuration.
                Err(kube::Error::Api(status)) if status.code == 409 => match api.get_opt(&name).await? {
                    Some(newer) => secret = newer,
                    None => return Ok(false),
                },
                Err(kube::Error::Api(status)) if status.code == 404 => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        anyhow::bail!("Secret {namespace}/{name} is written by others all the time: try again")
    }

    /// Seals the fields of a Secret anew whose key is not the one for new values. Returns whether there were any.
    async fn reseal(&self, secret: &mut Secret) -> anyhow::Result<bool> {
        let (namespace, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
        let primary = self.envelope.primary()?;
        let mut changed = false;
        for (field, value) in secret.data.iter_mut().flatten() {
            if Sealed::parse(&value.0).is_some_and(|sealed| sealed.key_id() == primary) {
                // It must open all the same: what names the key and is not its own would be kept for ever.
                self.open(&namespace, &name, field, &value.0).await?;
                continue;
            }
            let plain = opened(Some(self), &namespace, &name, field, &value.0).await?;
            *value = self.seal(&namespace, &name, field, plain.reveal(), None).await?;
            changed = true;
        }
        Ok(changed)
    }

    fn pages(&self) -> Pages {
        // The same labels as in `is_ours`, so that the API server sends no others.
        let selectors = [
            format!("{MANAGED_BY}={MANAGER},{BUNDLE_LABEL}=true"),
            format!("{MANAGED_BY}={MANAGER},app.kubernetes.io/component=signing-keys"),
        ];
        let lists = selectors.iter().map(|labels| ListParams::default().labels(labels).limit(PAGE)).rev().collect();
        Pages { api: Api::all(self.client.clone()), lists, seen: BTreeSet::new() }
    }
}

/// The Secrets that should be sealed, page by page.
struct Pages {
    api: Api<Secret>,
    lists: Vec<ListParams>,
    seen: BTreeSet<(String, String)>,
}

impl Pages {
    async fn next(&mut self) -> Result<Option<Vec<Secret>>, kube::Error> {
        let Some(list) = self.lists.pop() else { return Ok(None) };
        let page = self.api.list(&list).await?;
        if let Some(token) = page.metadata.continue_.clone().filter(|token| !token.is_empty()) {
            self.lists.push(list.continue_token(&token));
        }
        let mut new = page.items;
        new.retain(|secret| {
            is_ours(secret) && self.seen.insert((secret.namespace().unwrap_or_default(), secret.name_any()))
        });
        Ok(Some(new))
    }
}
