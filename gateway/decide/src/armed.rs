//! A bundle that is armed: an engine, and the Credentials in force.

use std::sync::Arc;
use std::time::Duration;

use idm_authn::{CredentialTables, Memory, Standing, TokenCache};
use idm_plan::{Bundle, ObjectKey};
use idm_request::Identity;
use idm_trust::{KeyRing, Outside};
use idm_types::Timestamp;
use tokio::sync::watch;

use crate::{Engine, EngineError};

/// An engine with the Credentials in force. Immutable and swapped as one value, so that a decision never sees one
/// without the other. Where only Credentials changed, the engine is that of the bundle before.
#[derive(Clone)]
pub struct Armed {
    generation: u64,
    digest: String,
    engine: Arc<Engine>,
    credentials: Arc<CredentialTables>,
    revoked: watch::Receiver<()>,
}

impl Armed {
    /// Arms a bundle. `before` is in force until now: keys that were fetched, and verdicts that still stand, are taken
    /// over from it. `memory` keeps what authentication remembers.
    pub fn arm(
        bundle: &Bundle,
        before: Option<&Self>,
        memory: &Arc<Memory>,
        outside: &Outside,
    ) -> Result<Self, EngineError> {
        let mut known = before.map(Self::keys).unwrap_or_default();
        let same = before.map(|before| &before.engine).filter(|engine| engine.is_of(bundle));
        let engine = match same {
            Some(engine) => engine.clone(),
            None => Arc::new(Engine::arm(bundle, before.map(Self::engine), &known, memory, outside)?),
        };
        // A source of keys that plan and Credentials name is fetched once.
        known.extend(engine.keys().iter().map(|(id, keys)| (id.clone(), keys.clone())));
        let Bundle { generation, digest, credentials, .. } = bundle;
        let table = CredentialTables::arm(credentials, &known, before.map(Self::credentials));
        let credentials = Arc::new(table.map_err(EngineError::Credentials)?);
        Ok(Self {
            generation: *generation,
            digest: digest.clone(),
            engine,
            credentials,
            revoked: memory.store().revoked(),
        })
    }

    /// Generation and digest of the bundle, for the acknowledgement.
    pub fn version(&self) -> (u64, &str) {
        (self.generation, &self.digest)
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Whether the caller of a policy may go on. A policy that is gone ends no stream; what
    /// ends its callers' Credentials does.
    pub fn standing(&self, policy: &ObjectKey, who: &Identity, now: Timestamp) -> Standing {
        let found = self.engine.armed_policies().find(|armed| armed.plan().key == *policy);
        match found {
            Some(armed) => armed.standing(who, self.credentials.of(&policy.namespace), now),
            None => self.credentials.of(&policy.namespace).standing_of(who, now),
        }
    }

    /// The time for which streams of a policy may go on when their caller's right ends.
    pub fn drain(&self, policy: &ObjectKey) -> Duration {
        let found = self.engine.armed_policies().find(|armed| armed.plan().key == *policy);
        Duration::from_millis(found.map_or(0, |armed| armed.plan().drain_streams_ms))
    }

    /// Tells of revocations of sessions and tokens.
    pub fn revoked(&self) -> watch::Receiver<()> {
        self.revoked.clone()
    }

    /// The Credentials.
    pub fn credentials(&self) -> &CredentialTables {
        &self.credentials
    }

    /// Whether both have the same engine: then they differ in their Credentials at most.
    pub fn has_engine_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.engine, &other.engine)
    }

    /// Lets a core's kept verdicts go that do not stand any more.
    pub fn take_over(&self, cache: &mut TokenCache) {
        cache.follow(self.engine.armed_policies(), &self.credentials);
    }

    /// The keys of issuers and of clients.
    pub fn keys(&self) -> KeyRing {
        let (of_engine, of_clients) = (self.engine.keys(), self.credentials.keys());
        of_engine.iter().chain(of_clients).map(|(id, keys)| (id.clone(), keys.clone())).collect()
    }
}
