use std::collections::HashMap;
use std::sync::Arc;

use idm_jose::{KeySet, KeySetError};
use idm_plan::{KeySource, Secrets};
use idm_types::Algorithm;

use crate::{Directories, HttpClient, IssuerKeys};

/// The keys of armed issuers, so that a reload finds the keys that were fetched before it.
pub type KeyRing = HashMap<(KeySource, Vec<Algorithm>), Arc<IssuerKeys>>;

/// The means to arm the trust of a policy in other parties.
pub struct Trust<'a> {
    /// Keys of issuers.
    pub keys: Keys<'a>,
    /// The secrets that the plan refers to.
    pub secrets: &'a Secrets,
    /// The client for outside servers.
    pub http: Arc<dyn HttpClient>,
    /// The directories of the process.
    pub directories: Arc<dyn Directories>,
}

/// How a process reaches outside servers.
#[derive(Clone)]
pub struct Outside {
    /// The client for HTTP.
    pub http: Arc<dyn HttpClient>,
    /// The directories.
    pub directories: Arc<dyn Directories>,
}

/// The keys of a configuration while it is armed.
pub struct Keys<'a> {
    /// Keys of the previous configuration.
    known: &'a KeyRing,
    /// Keys that this configuration uses.
    ring: KeyRing,
}

impl<'a> Keys<'a> {
    /// No keys in use yet; `known` keys are used again.
    pub fn new(known: &'a KeyRing) -> Self {
        Self { known, ring: KeyRing::new() }
    }

    /// The live keys of a source, bound to these algorithms: those of the previous configuration, if it had them.
    pub fn of(&mut self, source: &KeySource, algorithms: &[Algorithm]) -> Result<Arc<IssuerKeys>, KeySetError> {
        let id = (source.clone(), algorithms.to_vec());
        if let Some(keys) = self.ring.get(&id).or_else(|| self.known.get(&id)).cloned() {
            self.ring.insert(id, keys.clone());
            return Ok(keys);
        }
        let keys = match source {
            KeySource::Inline { jwks } => IssuerKeys::fixed(KeySet::parse(jwks.as_bytes(), algorithms)?),
            KeySource::Discovery { .. } | KeySource::Url { .. } => IssuerKeys::remote(),
        };
        self.ring.insert(id, keys.clone());
        Ok(keys)
    }

    /// All keys that were requested.
    pub fn used(self) -> KeyRing {
        self.ring
    }
}
