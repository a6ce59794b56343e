//! Automatic blocks of addresses, and of one credential at one address, after many refused credentials.
//!
//! A block never concerns a user or a key alone: whoever guesses at somebody's password would then lock that person
//! out everywhere. Every block ends by itself, its refusals are not counted again, and an address from which several
//! callers were let in is reported and not blocked.

mod active;
mod block;
mod counts;

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use idm_types::{Moment, Uptime, network};
use tokio::sync::Notify;

use active::Active;
pub use block::{Block, BlockMode, BlockRule, MAX_BLOCKS, SharedBlock, Subject};
use counts::{Counted, Counts};

/// The most blocks whose beginning waits to be told; later ones are in force all the same.
const MAX_UNTOLD: usize = 1_000;

/// The rules of automatic blocks. All numbers are at least 1, except that `spared_by` 0 spares nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRules {
    /// Whether blocks refuse, or are only recorded.
    pub mode: BlockMode,
    /// The time in which refusals of an address count together.
    pub window_ms: u64,
    /// The time for which a block is in force.
    pub lasts_ms: u64,
    /// An address is blocked after so many different credentials of it were refused.
    pub credentials: u32,
    /// A credential is blocked at an address after so many refusals of it there.
    pub failures: u32,
    /// An address from which so many different callers were let in during the last day is not blocked.
    pub spared_by: u32,
}

/// The blocks in force, and what was counted towards new ones. Shared by all cores and kept across configurations.
pub struct Blocks {
    rules: Option<BlockRules>,
    exempt: Box<dyn Fn(IpAddr) -> bool + Send + Sync>,
    active: ArcSwap<Active>,
    /// The number of entries of `active`: while it is 0, a request costs one comparison.
    number: AtomicUsize,
    counts: Mutex<Counts>,
    began: Notify,
}

impl Blocks {
    /// Nothing is counted, and nobody is ever blocked.
    pub fn off() -> Arc<Self> {
        Self::made(None, |_| false)
    }

    /// Blocks by these rules, and never an address that is `exempt`.
    pub fn new(rules: BlockRules, exempt: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Arc<Self> {
        Self::made(Some(rules), exempt)
    }

    fn made(rules: Option<BlockRules>, exempt: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            rules,
            exempt: Box::new(exempt),
            active: ArcSwap::default(),
            number: AtomicUsize::new(0),
            counts: Mutex::default(),
            began: Notify::new(),
        })
    }

    /// The rules; `None` where nobody is ever blocked.
    pub fn rules(&self) -> Option<&BlockRules> {
        self.rules.as_ref()
    }

    /// Whether there is no block: nothing else need be asked then, not even the time.
    pub fn is_empty(&self) -> bool {
        self.number.load(Ordering::Relaxed) == 0
    }

    /// The block of the whole address that is in force, be it only observed. Counts the request to it.
    pub fn of_address(&self, address: IpAddr, now: Uptime) -> Option<Arc<Block>> {
        self.active.load().of_address(network(address), now).inspect(|block| block.hit())
    }

    /// The block of one credential at this address that is in force, be it only observed. Counts the attempt to it.
    /// The subject is made only where the address has such blocks.
    pub fn of_credential(&self, address: IpAddr, subject: impl FnOnce() -> Subject, now: Uptime) -> Option<Arc<Block>> {
        self.active.load().of_credential(network(address), subject, now).inspect(|block| block.hit())
    }

    /// Counts a refused credential, of which `about` is a description for people, without any secret.
    pub fn failed(&self, address: IpAddr, subject: Subject, about: &str, now: Moment) {
        let Some(rules) = self.rules.as_ref().filter(|_| !(self.exempt)(address)) else { return };
        let network = network(address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if self.active.load().covers(network, subject, now.uptime) {
            return;
        }
        let Some(counted) = counts.failed(network, subject, rules, now.uptime) else { return };
        let block = match counted {
            Counted::Credentials { number, spared } => Block::of_address(network, number, spared, rules, now),
            Counted::Failures { number } => Block::of_credential((network, subject), about, number, rules, now),
        };
        self.begin(&mut counts, block, now.uptime);
    }

    fn begin(&self, counts: &mut Counts, block: Block, now: Uptime) {
        let block = Arc::new(block);
        self.change(|active| active.add(block.clone(), now));
        if counts.untold.len() < MAX_UNTOLD {
            counts.untold.push(block);
        }
        self.began.notify_one();
    }

    /// Replaces the blocks in force. The caller holds the lock of the counts, so no change is lost.
    fn change(&self, changed: impl FnOnce(&mut Active)) {
        let mut active = Active::clone(&self.active.load());
        changed(&mut active);
        self.number.store(active.len(), Ordering::Relaxed);
        self.active.store(Arc::new(active));
    }

    /// Notes that a caller, of whom `caller` is a hash, was let in from this address.
    pub fn succeeded(&self, address: IpAddr, caller: u64, now: Uptime) {
        let Some(rules) = self.rules.as_ref().filter(|rules| rules.spared_by > 0) else { return };
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.succeeded(network(address), caller, rules.spared_by, now);
    }

    /// Waits for blocks that began and were not told yet, and returns them.
    pub async fn untold(&self) -> Vec<Arc<Block>> {
        loop {
            let waiting = self.began.notified();
            let untold = std::mem::take(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner).untold);
            if !untold.is_empty() {
                return untold;
            }
            waiting.await;
        }
    }

    /// The blocks that are in force, those that began last first.
    pub fn list(&self, now: Uptime) -> Vec<Arc<Block>> {
        self.active.load().list(now)
    }

    /// Ends every block at this address and forgets what was counted there. Returns the blocks that were in force.
    pub fn remove(&self, address: IpAddr, now: Uptime) -> Vec<Arc<Block>> {
        let network = network(address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.forget(network);
        let removed = self.active.load().at(network, now);
        self.change(|active| active.remove(network));
        removed
    }

    /// Takes over the blocks that gateways share, which are all of them: a shared one that is not among them was
    /// removed by another gateway. Blocks that others do not know yet stay.
    pub fn synchronise(&self, shared: Vec<SharedBlock>, now: Uptime) {
        let _counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        self.change(|active| active.synchronise(shared, now));
    }
}

#[cfg(test)]
mod tests;
