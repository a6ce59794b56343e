//! The state of one core: no other core uses it, so it needs no locks.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use idm_audit::SpoolHandle;
use idm_decide::{Context, Peer, TokenCache, same_pool};
use idm_types::{DecisionId, Timestamp};
use tokio::sync::{Notify, watch};

use crate::access_log::{AccessLog, Lines};
use crate::connect::Pool;
use crate::give_way::Room;
use crate::health::Health;
use crate::metrics::{CoreMetrics, InUse};
use crate::shared::{Configuration, Shared};
use crate::streams::Streams;
use crate::turns::Turns;

/// Successes are handed to the writer within this time.
const FLUSH: Duration = Duration::from_millis(10);

/// Revocations of this time are looked at together: one sign-out after the other costs no more than one.
const TOGETHER: Duration = Duration::from_millis(200);

/// Resolves when something is revoked.
async fn news(revoked: &mut Option<watch::Receiver<()>>) {
    if let Some(revoked) = revoked {
        if revoked.changed().await.is_ok() {
            return;
        }
    }
    std::future::pending().await
}

pub(crate) struct Core {
    pub(crate) shared: Arc<Shared>,
    pub(crate) spool_handle: SpoolHandle,
    pub(crate) room: Rc<Room>,
    pub(crate) turns: Turns,
    pub(crate) metrics: CoreMetrics,
    pub(crate) access_log: Option<Lines>,
    local: RefCell<Option<Rc<Local>>>,
    /// Cached verdicts; each holds the conditions under which it is valid, so that it can outlive a configuration.
    cache: RefCell<TokenCache>,
    random: Cell<u64>,
    /// The copies for mirrors that are under way.
    pub(crate) copies: Cell<usize>,
    unflushed: Notify,
    /// The work that goes on after its request was decided.
    pub(crate) streams: Streams,
}

/// One configuration as one core sees it, with the core's own connections.
pub(crate) struct Local {
    pub(crate) configuration: Arc<Configuration>,
    version: u64,
    pub(crate) pools: Vec<Rc<Pool>>,
    pub(crate) metrics: Rc<InUse>,
}

impl Local {
    /// The context of a decision about a request on this connection at this time.
    pub(crate) fn context<'c>(&'c self, core: &'c Core, peer: &'c Peer, now: Timestamp) -> Context<'c> {
        let armed = &self.configuration.armed;
        let (engine, credentials) = (armed.engine(), armed.credentials());
        let (process, random) = (&core.shared.process, core.random());
        Context { engine, credentials, cache: &core.cache, process, peer, now, random }
    }
}

impl Core {
    pub(crate) fn new(shared: Arc<Shared>, spool_handle: SpoolHandle, room: Rc<Room>, seed: u64) -> Rc<Self> {
        let metrics = CoreMetrics::new(&shared.metrics);
        let access_log = shared.access_log.as_ref().and_then(AccessLog::lines);
        Rc::new(Self {
            shared,
            spool_handle,
            room,
            turns: Turns::default(),
            metrics,
            access_log,
            local: RefCell::default(),
            cache: RefCell::default(),
            random: Cell::new(seed | 1),
            copies: Cell::new(0),
            unflushed: Notify::new(),
            streams: Streams::default(),
        })
    }

    /// The configuration in force. A new configuration takes over the verdicts that are valid under it, and the
    /// connections to backends that it still has.
    pub(crate) fn local(&self) -> Option<Rc<Local>> {
        let version = self.shared.version();
        if let Some(local) = self.local.borrow().as_ref().filter(|local| local.version == version) {
            return Some(local.clone());
        }
        let configuration = self.shared.configuration()?;
        let before = self.local.borrow_mut().take();
        let engine = configuration.engine();
        let backends = engine.backends().iter().zip(&configuration.upstream_tls).zip(engine.cares());
        let pools = backends.map(|((backend, tls), care)| {
            let mut pools = before.iter().flat_map(|local| &local.pools);
            let kept = pools.find(|pool| same_pool(pool.backend(), backend) && pool.health.care() == care);
            let health = || Health::new(care.clone(), self.room.cores());
            let pool = kept.cloned().unwrap_or_else(|| Pool::new(backend.clone(), tls.clone(), health()));
            pool.spare(configuration.engine().api_server());
            pool
        });
        let same = before.as_ref().filter(|local| local.configuration.armed.has_engine_of(&configuration.armed));
        let metrics = match same {
            Some(local) => local.metrics.clone(),
            None => Rc::new(self.metrics.of(configuration.engine(), &self.shared.metrics)),
        };
        configuration.armed.take_over(&mut self.cache.borrow_mut());
        let local = Rc::new(Local { pools: pools.collect(), configuration, version, metrics });
        *self.local.borrow_mut() = Some(local.clone());
        Some(local)
    }

    /// Adopts each configuration when it is put in force, in an endless loop: without it a core without requests would
    /// keep the secrets of the previous configuration. The streams of callers whose right has ended are ended.
    pub(crate) async fn follow(&self) {
        let mut swapped = self.shared.swapped();
        let mut revoked: Option<watch::Receiver<()>> = None;
        loop {
            // The store is that of the process: any configuration tells of its revocations. One may be in force before
            // this begins to follow.
            revoked = revoked.or_else(|| self.local().map(|local| local.configuration.armed().revoked()));
            let wait = self.streams.wait(Timestamp::now());
            tokio::select! {
                changed = swapped.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = news(&mut revoked) => tokio::time::sleep(TOGETHER).await,
                () = self.streams.sooner.notified() => continue,
                () = tokio::time::sleep(wait) => {}
            }
            if let Some(local) = self.local() {
                self.streams.check(local.configuration.armed(), self.shared.metrics(), Timestamp::now());
            }
        }
    }

    /// xorshift64*: distributes load and makes ids unique; no secret depends on it.
    pub(crate) fn random(&self) -> u64 {
        let mut x = self.random.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.random.set(x);
        x.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn decision_id(&self, now: Timestamp) -> DecisionId {
        DecisionId::from_parts(now.0, u128::from(self.random()) << 64 | u128::from(self.random()))
    }

    /// Signals that a record or a line waits to be handed over.
    pub(crate) fn recorded(&self) {
        self.unflushed.notify_one();
    }

    /// Hands over a few milliseconds after a record or a line was added, in an endless loop.
    pub(crate) async fn flush(&self) {
        loop {
            self.unflushed.notified().await;
            tokio::time::sleep(FLUSH).await;
            self.spool_handle.flush();
            if self.access_log.as_ref().is_some_and(|lines| !lines.flush()) {
                self.recorded();
            }
        }
    }
}
