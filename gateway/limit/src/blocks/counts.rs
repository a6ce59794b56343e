//! The counts that lead to blocks: refusals by address and credential, and the callers who were let in. Both tables are
//! bounded, and a full one forgets its least suspicious half.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use idm_types::Uptime;

use super::{Block, BlockRules, Subject};
use crate::bounded::keep_upper_half;

/// Addresses with refusals; each has no more credentials than the rule for them asks for.
const MAX_SUSPECTS: usize = 8_192;
/// Addresses with callers who were let in.
const MAX_ADDRESSES: usize = 32_768;
/// The time after the last of them for which these callers are remembered.
const CALLERS_KEPT_MS: u64 = 24 * 3_600_000;

#[derive(Default)]
pub(super) struct Counts {
    suspects: HashMap<IpAddr, Suspect>,
    callers: HashMap<IpAddr, Callers>,
    /// Blocks whose beginning was not told yet.
    pub(super) untold: Vec<Arc<Block>>,
}

/// The refusals of an address since the first one in this window.
struct Suspect {
    began: Uptime,
    failures: u32,
    subjects: Vec<(Subject, u32)>,
}

#[derive(Default)]
struct Callers {
    hashes: Vec<u64>,
    last: Uptime,
}

/// The rule that a refusal fulfilled.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// So many different credentials of the address.
    Credentials { number: u32, spared: bool },
    /// So many refusals of one credential.
    Failures { number: u32 },
}

impl Counts {
    /// Counts a refusal. Where it fulfils a rule, its count begins anew.
    pub(super) fn failed(
        &mut self,
        network: IpAddr,
        subject: Subject,
        rules: &BlockRules,
        now: Uptime,
    ) -> Option<Counted> {
        if self.suspects.len() >= MAX_SUSPECTS && !self.suspects.contains_key(&network) {
            self.suspects.retain(|_, suspect| now.since(suspect.began) < rules.window_ms);
            if self.suspects.len() >= MAX_SUSPECTS / 2 {
                keep_upper_half(&mut self.suspects, |suspect| (suspect.subjects.len(), suspect.failures));
            }
        }
        let anew = || Suspect { began: now, failures: 0, subjects: Vec::new() };
        let suspect = self.suspects.entry(network).or_insert_with(anew);
        if now.since(suspect.began) >= rules.window_ms {
            *suspect = anew();
        }
        suspect.failures = suspect.failures.saturating_add(1);
        let count = match suspect.subjects.iter_mut().find(|(known, _)| *known == subject) {
            Some((_, count)) => {
                *count = count.saturating_add(1);
                *count
            }
            None => {
                suspect.subjects.push((subject, 1));
                1
            }
        };
        let different = u32::try_from(suspect.subjects.len()).unwrap_or(u32::MAX);
        if different >= rules.credentials {
            self.suspects.remove(&network);
            return Some(Counted::Credentials { number: different, spared: self.is_spared(network, rules, now) });
        }
        if count >= rules.failures {
            // Still one of the different credentials, but not on its way to another block.
            suspect.subjects.iter_mut().filter(|(known, _)| *known == subject).for_each(|(_, count)| *count = 0);
            return Some(Counted::Failures { number: count });
        }
        None
    }

    pub(super) fn succeeded(&mut self, network: IpAddr, caller: u64, enough: u32, now: Uptime) {
        if self.callers.len() >= MAX_ADDRESSES && !self.callers.contains_key(&network) {
            self.callers.retain(|_, callers| now.since(callers.last) < CALLERS_KEPT_MS);
            if self.callers.len() >= MAX_ADDRESSES / 2 {
                keep_upper_half(&mut self.callers, |callers| (callers.hashes.len(), callers.last));
            }
        }
        let callers = self.callers.entry(network).or_default();
        if now.since(callers.last) >= CALLERS_KEPT_MS {
            callers.hashes.clear();
        }
        callers.last = now;
        if callers.hashes.len() < enough as usize && !callers.hashes.contains(&caller) {
            callers.hashes.push(caller);
        }
    }

    fn is_spared(&self, network: IpAddr, rules: &BlockRules, now: Uptime) -> bool {
        let recent = self.callers.get(&network).filter(|callers| now.since(callers.last) < CALLERS_KEPT_MS);
        rules.spared_by > 0 && recent.is_some_and(|callers| callers.hashes.len() >= rules.spared_by as usize)
    }

    pub(super) fn forget(&mut self, network: IpAddr) {
        self.suspects.remove(&network);
    }
}
