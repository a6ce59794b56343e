//! What one core owns: nothing here is shared, so nothing here is locked.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use idm_audit::Lane;
use idm_decide::{Context, Peer, TokenCache, same_pool};
use idm_types::{DecisionId, Timestamp};
use tokio::sync::Notify;

use crate::connect::Pool;
use crate::give_way::Room;
use crate::shared::{Configuration, Shared};
use crate::turns::Turns;

/// Successes are handed to the writer within this time.
const FLUSH: Duration = Duration::from_millis(10);

pub(crate) struct Core {
    pub(crate) shared: Arc<Shared>,
    pub(crate) lane: Lane,
    pub(crate) room: Rc<Room>,
    pub(crate) turns: Turns,
    local: RefCell<Option<Rc<Local>>>,
    /// Kept verdicts; each says itself under what it stands, so that they outlive configurations.
    cache: RefCell<TokenCache>,
    random: Cell<u64>,
    unflushed: Notify,
}

/// One configuration as one core sees it, with the core's own connections.
pub(crate) struct Local {
    pub(crate) configuration: Arc<Configuration>,
    version: u64,
    pub(crate) pools: Vec<Rc<Pool>>,
}

impl Local {
    /// What decides about a request that came on this connection at this time.
    pub(crate) fn context<'c>(&'c self, core: &'c Core, peer: &'c Peer, now: Timestamp) -> Context<'c> {
        let armed = &self.configuration.armed;
        let (engine, credentials) = (armed.engine(), armed.credentials());
        Context { engine, credentials, cache: &core.cache, process: &core.shared.process, peer, now }
    }
}

impl Core {
    pub(crate) fn new(shared: Arc<Shared>, lane: Lane, room: Rc<Room>, seed: u64) -> Rc<Self> {
        Rc::new(Self {
            shared,
            lane,
            room,
            turns: Turns::default(),
            local: RefCell::default(),
            cache: RefCell::default(),
            random: Cell::new(seed | 1),
            unflushed: Notify::new(),
        })
    }

    /// The configuration in force. A swapped one inherits the verdicts that stand under it, and the connections to
    /// backends that stay.
    pub(crate) fn local(&self) -> Option<Rc<Local>> {
        let version = self.shared.version();
        if let Some(local) = self.local.borrow().as_ref().filter(|local| local.version == version) {
            return Some(local.clone());
        }
        let configuration = self.shared.configuration()?;
        let before = self.local.borrow_mut().take();
        let pools = configuration.engine().backends().iter().map(|backend| {
            let kept = before.iter().flat_map(|local| &local.pools).find(|pool| same_pool(pool.backend(), backend));
            kept.cloned().unwrap_or_else(|| Pool::new(backend.clone()))
        });
        configuration.armed.take_over(&mut self.cache.borrow_mut());
        let local = Rc::new(Local { pools: pools.collect(), configuration, version });
        *self.local.borrow_mut() = Some(local.clone());
        Some(local)
    }

    /// Takes up each configuration when it is put in force, for ever: without it a core that nobody calls would keep
    /// the secrets of the one before.
    pub(crate) async fn follow(&self) {
        let mut swapped = self.shared.swapped();
        while swapped.changed().await.is_ok() {
            self.local();
        }
    }

    /// xorshift64*: spreads load and makes ids unique; nothing secret depends on it.
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

    /// Says that a record waits in the lane.
    pub(crate) fn recorded(&self) {
        self.unflushed.notify_one();
    }

    /// Flushes the lane a few milliseconds after something was recorded, for ever.
    pub(crate) async fn flush(&self) {
        loop {
            self.unflushed.notified().await;
            tokio::time::sleep(FLUSH).await;
            self.lane.flush();
        }
    }
}
