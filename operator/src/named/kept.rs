//! The part of a namespace's Secrets and ConfigMaps that is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use idm_compile::{KeySecret, SecretValues};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt;

use super::values;

type KeySecrets = Arc<BTreeMap<String, KeySecret>>;
type ConfigData = BTreeMap<String, String>;

/// Names, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Need {
    /// Secrets of which the hashes of keys suffice.
    pub(super) keys: Vec<String>,
    /// Secrets whose values are needed.
    pub(super) values: Vec<String>,
    pub(super) config_maps: Vec<String>,
}

impl Need {
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.values.is_empty() && self.config_maps.is_empty()
    }

    fn has_secret(&self, name: &str) -> bool {
        self.needs_values(name) || has(&self.keys, name)
    }

    fn needs_values(&self, name: &str) -> bool {
        has(&self.values, name)
    }
}

fn has(names: &[String], name: &str) -> bool {
    names.binary_search_by(|known| known.as_str().cmp(name)).is_ok()
}

#[derive(Default)]
pub(super) struct Kept {
    /// By the namespace that needs it.
    needs: BTreeMap<String, Need>,
    keys: KeySecrets,
    values: BTreeMap<String, SecretValues>,
    config_maps: BTreeMap<String, ConfigData>,
    /// Those that are there, of which nothing is kept.
    others: BTreeSet<String>,
    other_config_maps: BTreeSet<String>,
    /// Secrets that are to be read before they count: no event does instead.
    unread: BTreeSet<String>,
    unread_config_maps: BTreeSet<String>,
    /// The versions that were read: an event of an older one comes late.
    read: BTreeMap<String, u64>,
}

fn version(secret: &Secret) -> Option<u64> {
    secret.metadata.resource_version.as_deref()?.parse().ok()
}

impl Kept {
    /// Notes what a namespace needs, in place of what it needed. What is there and was not needed is to be read.
    pub(super) fn want(&mut self, watcher: &str, mut need: Need) {
        for names in [&mut need.keys, &mut need.values, &mut need.config_maps] {
            names.sort_unstable();
            names.dedup();
        }
        if self.needs.get(watcher) == Some(&need) {
            return;
        }
        for name in need.keys.iter().chain(&need.values).filter(|name| self.others.contains(*name)) {
            self.unread.insert(name.clone());
        }
        // Their hashes do not suffice any more.
        for name in need.values.iter().filter(|name| self.keys.contains_key(*name)) {
            self.unread.insert(name.clone());
        }
        for name in need.config_maps.iter().filter(|name| self.other_config_maps.contains(*name)) {
            self.unread_config_maps.insert(name.clone());
        }
        self.needs.insert(watcher.to_owned(), need);
        self.let_go();
    }

    /// Nothing is needed by a namespace any more. Returns whether nobody needs anything.
    pub(super) fn leave(&mut self, watcher: &str) -> bool {
        self.needs.remove(watcher);
        self.let_go();
        self.needs.is_empty()
    }

    pub(super) fn is_needed_by(&self, watcher: &str) -> bool {
        self.needs.contains_key(watcher)
    }

    /// Keeps the names alone of what nobody needs.
    fn let_go(&mut self) {
        let is_needed = |name: &str| self.needs.values().any(|need| need.has_secret(name));
        let gone: Vec<String> =
            self.values.keys().chain(self.keys.keys()).filter(|name| !is_needed(name)).cloned().collect();
        for name in gone {
            self.values.remove(&name);
            Arc::make_mut(&mut self.keys).remove(&name);
            self.others.insert(name);
        }
        let is_needed = |name: &String| self.needs.values().any(|need| has(&need.config_maps, name));
        let gone: Vec<String> = self.config_maps.keys().filter(|name| !is_needed(name)).cloned().collect();
        for name in gone {
            self.config_maps.remove(&name);
            self.other_config_maps.insert(name);
        }
    }

    /// The namespaces that need a Secret.
    fn concerned(&self, needs: impl Fn(&Need) -> bool) -> Vec<String> {
        let all = self.needs.iter().filter(|(_, need)| needs(need));
        // A grant is needed by the namespace that is named first.
        all.map(|(watcher, _)| watcher.split(' ').next().unwrap_or_default().to_owned()).collect()
    }

    /// An event of a Secret. Returns the namespaces that it concerns: none, where nothing that is needed changed.
    pub(super) fn see_secret(&mut self, secret: Secret) -> Vec<String> {
        let name = secret.name_any();
        let is_late = self.read.get(&name).zip(version(&secret)).is_some_and(|(read, now)| now < *read);
        if is_late {
            return vec![];
        }
        if self.unread.contains(&name) {
            return self.concerned(|need| need.has_secret(&name));
        }
        self.read.remove(&name);
        if self.keep_secret(&name, secret) { self.concerned(|need| need.has_secret(&name)) } else { vec![] }
    }

    /// Returns whether anything changed that is needed.
    fn keep_secret(&mut self, name: &str, secret: Secret) -> bool {
        if self.needs.values().any(|need| need.needs_values(name)) {
            self.others.remove(name);
            let new = values(secret);
            let same = self.values.get(name).is_some_and(|old| same_values(old, &new));
            if self.keys.contains_key(name) {
                Arc::make_mut(&mut self.keys).remove(name);
            }
            self.values.insert(name.to_owned(), new);
            !same
        } else if self.needs.values().any(|need| need.has_secret(name)) {
            self.others.remove(name);
            self.values.remove(name);
            let new = KeySecret::of(&values(secret));
            if self.keys.get(name) == Some(&new) {
                return false;
            }
            Arc::make_mut(&mut self.keys).insert(name.to_owned(), new);
            true
        } else {
            self.others.insert(name.to_owned());
            false
        }
    }

    /// A Secret as it was read; `None`: it is not there.
    pub(super) fn read_secret(&mut self, name: &str, secret: Option<Secret>) {
        if !self.unread.remove(name) {
            return;
        }
        match secret {
            Some(secret) => {
                self.read.extend(version(&secret).map(|version| (name.to_owned(), version)));
                self.keep_secret(name, secret);
            }
            None => self.forget_secret(name),
        }
    }

    fn forget_secret(&mut self, name: &str) {
        self.values.remove(name);
        if self.keys.contains_key(name) {
            Arc::make_mut(&mut self.keys).remove(name);
        }
        self.others.remove(name);
        self.read.remove(name);
    }

    pub(super) fn secret_gone(&mut self, name: &str) -> Vec<String> {
        if !self.unread.contains(name) {
            self.forget_secret(name);
        }
        self.concerned(|need| need.has_secret(name))
    }

    /// After a complete listing: what was not in it was deleted.
    pub(super) fn prune_secrets(&mut self, listed: &BTreeSet<String>) -> Vec<String> {
        let all = self.values.keys().chain(self.keys.keys()).chain(&self.others);
        let gone: Vec<String> = all.filter(|name| !listed.contains(*name)).cloned().collect();
        gone.iter().flat_map(|name| self.secret_gone(name)).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The Secret is read before it counts again.
    pub(super) fn read_again(&mut self, name: &str) {
        if self.needs.values().any(|need| need.has_secret(name)) {
            self.unread.insert(name.to_owned());
        }
    }

    pub(super) fn read_all_secrets_again(&mut self) {
        let all = self.needs.values().flat_map(|need| need.keys.iter().chain(&need.values));
        self.unread = all.cloned().collect();
    }

    pub(super) fn read_all_config_maps_again(&mut self) {
        self.unread_config_maps = self.needs.values().flat_map(|need| &need.config_maps).cloned().collect();
    }

    /// The names of what is to be read: Secrets, and ConfigMaps.
    pub(super) fn unread(&self) -> (Vec<String>, Vec<String>) {
        (self.unread.iter().cloned().collect(), self.unread_config_maps.iter().cloned().collect())
    }

    /// Whether more is needed of a Secret than the hashes of its keys.
    pub(super) fn needs_values(&self, name: &str) -> bool {
        self.needs.values().any(|need| need.needs_values(name))
    }

    pub(super) fn key_secrets(&self) -> KeySecrets {
        self.keys.clone()
    }

    pub(super) fn values(&self, name: &str) -> Option<&SecretValues> {
        self.values.get(name)
    }

    pub(super) fn see_config_map(&mut self, map: ConfigMap) -> Vec<String> {
        let name = map.name_any();
        self.unread_config_maps.remove(&name);
        if !self.needs.values().any(|need| has(&need.config_maps, &name)) {
            self.other_config_maps.insert(name);
            return vec![];
        }
        self.other_config_maps.remove(&name);
        let new = map.data.unwrap_or_default();
        if self.config_maps.get(&name) == Some(&new) {
            return vec![];
        }
        self.config_maps.insert(name.clone(), new);
        self.concerned(|need| has(&need.config_maps, &name))
    }

    pub(super) fn read_config_map(&mut self, name: &str, map: Option<ConfigMap>) {
        if !self.unread_config_maps.contains(name) {
            return;
        }
        match map {
            Some(map) => drop(self.see_config_map(map)),
            None => drop(self.config_map_gone(name)),
        }
        self.unread_config_maps.remove(name);
    }

    pub(super) fn config_map_gone(&mut self, name: &str) -> Vec<String> {
        self.config_maps.remove(name);
        self.other_config_maps.remove(name);
        self.concerned(|need| has(&need.config_maps, name))
    }

    pub(super) fn prune_config_maps(&mut self, listed: &BTreeSet<String>) -> Vec<String> {
        let all = self.config_maps.keys().chain(&self.other_config_maps);
        let gone: Vec<String> = all.filter(|name| !listed.contains(*name)).cloned().collect();
        gone.iter().flat_map(|name| self.config_map_gone(name)).collect::<BTreeSet<_>>().into_iter().collect()
    }

    pub(super) fn config_map(&self, name: &str) -> Option<&ConfigData> {
        self.config_maps.get(name)
    }
}

/// Compares without showing: `Redacted` has no equality of its own.
fn same_values(a: &SecretValues, b: &SecretValues) -> bool {
    a.len() == b.len()
        && a.iter().all(|(name, value)| b.get(name).is_some_and(|other| other.reveal() == value.reveal()))
}

#[cfg(test)]
mod tests;
