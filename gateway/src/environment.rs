use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use idm_authn::{Memory, PasswordChecker};
use idm_decide::{Armed, Blocks, EngineError};
use idm_directory::{Pool, Reach};
use idm_plan::{Bundle, KeySource};
use idm_store::Store;
use idm_trust::{IssuerKeys, KeyRing, Outside};

use crate::ask::{Asker, Servers};
use crate::egress::Egress;
use crate::fetch::Fetcher;

/// The longest time that a change waits for the keys of issuers that are new in it. A healthy issuer answers within it,
/// so its tokens are never refused; an issuer that does not answer delays no change by more.
const KEYS_WAIT: Duration = Duration::from_millis(300);

/// The state of a process with which it arms bundles: what authentication remembers, and how outside servers are asked.
/// It outlives every bundle.
pub struct Environment {
    pub(crate) memory: Arc<Memory>,
    pub(crate) servers: Arc<Servers>,
    pub(crate) outside: Outside,
    pub(crate) directories: Arc<Pool>,
    fetcher: Fetcher,
}

impl Environment {
    /// As [`Self::blocking`], where nobody is ever blocked.
    pub fn new(
        store: Store,
        password_threads: usize,
        danger_insecure_issuers: bool,
        egress: &Egress,
    ) -> anyhow::Result<Self> {
        Self::blocking(store, Blocks::off(), password_threads, danger_insecure_issuers, egress)
    }

    /// Nothing is remembered yet; refused credentials count towards `blocks`. `password_threads` check passwords. With `danger_insecure_issuers`, outside servers
    /// may be reached over plain http and on this machine; `egress` is the way to them. Must be called on the runtime
    /// that shall ask them.
    pub fn blocking(
        store: Store,
        blocks: Arc<Blocks>,
        password_threads: usize,
        danger_insecure_issuers: bool,
        egress: &Egress,
    ) -> anyhow::Result<Self> {
        let passwords =
            PasswordChecker::start(password_threads).context("the system gives no threads for password checks")?;
        let memory = Memory::blocking(passwords, store, blocks).context("the system gives no random bits")?;
        let fetcher = Fetcher::new(danger_insecure_issuers, egress)?;
        let servers = Arc::new(Servers::default());
        let directories = Arc::new(Pool::new(Reach::of_this_process(danger_insecure_issuers)));
        let http = Arc::new(Asker::new(&fetcher, &servers));
        let outside = Outside { http, directories: directories.clone() };
        Ok(Self { memory, servers, outside, directories, fetcher })
    }

    /// Arms a bundle; `before` is in force until now. Starts a fetcher for all keys that `before` does not have, and
    /// waits for them a moment. An issuer that did not answer before delays nothing.
    pub async fn arm(&self, bundle: &Bundle, before: Option<&Armed>) -> Result<Armed, EngineError> {
        let armed = Armed::arm(bundle, before, &self.memory, &self.outside)?;
        let known = before.map(Armed::keys).unwrap_or_default();
        let new = self.fetch_new(&known, &armed, bundle);
        let deadline = tokio::time::Instant::now() + KEYS_WAIT;
        while !new.iter().all(|keys| keys.is_loaded()) && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(armed)
    }

    /// Starts a fetcher for all keys that are not `known`, and returns them. Fetchers of keys that nothing uses any
    /// more end by themselves.
    fn fetch_new(&self, known: &KeyRing, armed: &Armed, bundle: &Bundle) -> Vec<Arc<IssuerKeys>> {
        let of_engine = armed.engine().keys().iter().map(|(id, keys)| (id, keys, &bundle.secrets));
        let of_clients = armed.credentials().keys().iter().filter(|(id, _)| !armed.engine().keys().contains_key(*id));
        let of_clients = of_clients.map(|(id, keys)| (id, keys, &bundle.credentials.secrets));
        let new = of_engine.chain(of_clients).filter(|(id, ..)| !known.contains_key(*id));
        let started = new.map(|((source, algorithms), keys, secrets)| {
            if !matches!(source, KeySource::Inline { .. }) {
                match self.fetcher.for_source(source, secrets) {
                    Ok(fetcher) => {
                        drop(tokio::spawn(fetcher.keep_fresh(source.clone(), algorithms.clone(), Arc::downgrade(keys))))
                    }
                    // Without keys every token of the issuer is refused, and the log says why.
                    Err(problem) => tracing::error!("issuer keys cannot be fetched: {problem}"),
                }
            }
            keys.clone()
        });
        started.collect()
    }
}
