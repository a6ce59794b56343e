//! The blocks in force: a value that requests read and that is replaced as a whole.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use idm_types::Uptime;

use super::block::{Block, MAX_BLOCKS, SharedBlock, Subject};

#[derive(Clone, Default)]
pub(super) struct Active {
    addresses: HashMap<IpAddr, Arc<Block>>,
    /// Those of single credentials, by address.
    credentials: HashMap<IpAddr, Vec<Arc<Block>>>,
}

impl Active {
    pub(super) fn len(&self) -> usize {
        self.addresses.len() + self.credentials.values().map(Vec::len).sum::<usize>()
    }

    pub(super) fn of_address(&self, network: IpAddr, now: Uptime) -> Option<Arc<Block>> {
        self.addresses.get(&network).filter(|block| block.is_in_force(now)).cloned()
    }

    pub(super) fn of_credential(
        &self,
        network: IpAddr,
        subject: impl FnOnce() -> Subject,
        now: Uptime,
    ) -> Option<Arc<Block>> {
        let blocks = self.credentials.get(&network)?;
        let subject = Some(subject());
        blocks.iter().find(|block| block.subject == subject && block.is_in_force(now)).cloned()
    }

    /// Whether a refusal is one that a block in force explains, or would have prevented.
    pub(super) fn covers(&self, network: IpAddr, subject: Subject, now: Uptime) -> bool {
        self.of_address(network, now).is_some() || self.of_credential(network, || subject, now).is_some()
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Block>> {
        self.addresses.values().chain(self.credentials.values().flatten())
    }

    fn find(&self, network: IpAddr, subject: Option<Subject>) -> Option<&Arc<Block>> {
        match subject {
            None => self.addresses.get(&network),
            Some(_) => self.credentials.get(&network)?.iter().find(|block| block.subject == subject),
        }
    }

    fn retain(&mut self, keep: impl Fn(&Block) -> bool) {
        self.addresses.retain(|_, block| keep(block));
        self.credentials.retain(|_, blocks| {
            blocks.retain(|block| keep(block));
            !blocks.is_empty()
        });
    }

    /// Adds a block in place of one of the same address and credential. A full list drops the one that ends first.
    pub(super) fn add(&mut self, block: Arc<Block>, now: Uptime) {
        let (network, subject) = (block.network, block.subject);
        self.retain(|other| other.is_in_force(now) && (other.network, other.subject) != (network, subject));
        if self.len() >= MAX_BLOCKS {
            let first = self.all().min_by_key(|block| block.until).map(|block| (block.network, block.subject));
            self.retain(|other| Some((other.network, other.subject)) != first);
        }
        match subject {
            None => drop(self.addresses.insert(network, block)),
            Some(_) => self.credentials.entry(network).or_default().push(block),
        }
    }

    pub(super) fn at(&self, network: IpAddr, now: Uptime) -> Vec<Arc<Block>> {
        self.all().filter(|block| block.network == network && block.is_in_force(now)).cloned().collect()
    }

    pub(super) fn remove(&mut self, network: IpAddr) {
        self.addresses.remove(&network);
        self.credentials.remove(&network);
    }

    pub(super) fn list(&self, now: Uptime) -> Vec<Arc<Block>> {
        let mut list: Vec<_> = self.all().filter(|block| block.is_in_force(now)).cloned().collect();
        list.sort_by_key(|block| (std::cmp::Reverse(block.began), block.network));
        list
    }

    pub(super) fn synchronise(&mut self, shared: Vec<SharedBlock>, now: Uptime) {
        let told: HashMap<_, _> = shared.into_iter().map(|told| ((told.network, told.subject), told)).collect();
        self.retain(|block| {
            block.is_in_force(now) && (!block.is_shared() || told.contains_key(&(block.network, block.subject)))
        });
        for (_, told) in told {
            if self.find(told.network, told.subject).is_none_or(|known| known.began < told.began) {
                self.add(Arc::new(Block::learnt(told, now)), now);
            }
        }
    }
}
