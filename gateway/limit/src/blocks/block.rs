//! One block: its subject, its reason, its end.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use idm_types::{Moment, Timestamp, Uptime, visible};

use super::BlockRules;

/// The most blocks at the same time. A further one replaces the one that ends first.
pub const MAX_BLOCKS: usize = 10_000;

/// The user or credential that refusals are about: a hash of its name, or of the credential itself. It is shown nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subject(pub [u8; 16]);

/// Whether blocks refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockMode {
    /// They are recorded, and refuse nothing.
    Observe,
    /// They refuse.
    Enforce,
}

impl BlockMode {
    /// Its name in settings and records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Enforce => "enforce",
        }
    }

    /// The mode of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Observe, Self::Enforce].into_iter().find(|mode| mode.name() == name)
    }
}

/// The rule by which a block began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockRule {
    /// Many different credentials of one address were refused.
    ManyCredentials,
    /// One credential was refused many times at one address.
    OneCredential,
}

impl BlockRule {
    /// Its name in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ManyCredentials => "manyCredentials",
            Self::OneCredential => "oneCredential",
        }
    }

    /// The rule of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::ManyCredentials, Self::OneCredential].into_iter().find(|rule| rule.name() == name)
    }
}

/// A block. Its clock is the one that never jumps; the times of day in it are for people.
#[derive(Debug)]
pub struct Block {
    /// The address, or the first of a /64.
    pub network: IpAddr,
    /// The credential, where the block is of one alone.
    pub subject: Option<Subject>,
    /// The credential in words, with control characters made visible; empty for a block of the whole address.
    pub about: String,
    /// The rule by which it began.
    pub rule: BlockRule,
    /// Whether it refuses.
    pub mode: BlockMode,
    /// It does not refuse because several callers were let in from the address.
    pub spared: bool,
    /// The refusals or different credentials that were counted.
    pub number: u32,
    /// The time in which they were counted.
    pub window_ms: u64,
    /// The time when it began.
    pub began: Timestamp,
    /// The time when it ends.
    pub ends: Timestamp,
    pub(super) until: Uptime,
    /// Other gateways know it.
    pub(super) shared: AtomicBool,
    hits: AtomicU64,
}

/// A block as gateways tell each other: with the time that is left instead of a time on a clock of one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedBlock {
    /// See [`Block::network`].
    pub network: IpAddr,
    /// See [`Block::subject`].
    pub subject: Option<Subject>,
    /// See [`Block::about`].
    pub about: String,
    /// See [`Block::rule`].
    pub rule: BlockRule,
    /// See [`Block::mode`].
    pub mode: BlockMode,
    /// See [`Block::spared`].
    pub spared: bool,
    /// See [`Block::number`].
    pub number: u32,
    /// See [`Block::window_ms`].
    pub window_ms: u64,
    /// See [`Block::began`].
    pub began: Timestamp,
    /// See [`Block::ends`].
    pub ends: Timestamp,
    /// The milliseconds until it ends.
    pub left_ms: u64,
}

impl Block {
    pub(super) fn of_address(network: IpAddr, number: u32, spared: bool, rules: &BlockRules, now: Moment) -> Self {
        let mode = if spared { BlockMode::Observe } else { rules.mode };
        Self { mode, spared, ..Self::new(network, BlockRule::ManyCredentials, number, rules, now) }
    }

    pub(super) fn of_credential(
        (network, subject): (IpAddr, Subject),
        about: &str,
        number: u32,
        rules: &BlockRules,
        now: Moment,
    ) -> Self {
        let block = Self::new(network, BlockRule::OneCredential, number, rules, now);
        Self { subject: Some(subject), about: visible(about).into_owned(), ..block }
    }

    fn new(network: IpAddr, rule: BlockRule, number: u32, rules: &BlockRules, now: Moment) -> Self {
        Self {
            network,
            subject: None,
            about: String::new(),
            rule,
            mode: rules.mode,
            spared: false,
            number,
            window_ms: rules.window_ms,
            began: now.wall,
            ends: Timestamp(now.wall.0.saturating_add(rules.lasts_ms)),
            until: now.uptime.after(rules.lasts_ms),
            shared: AtomicBool::new(false),
            hits: AtomicU64::new(0),
        }
    }

    pub(super) fn learnt(told: SharedBlock, now: Uptime) -> Self {
        let SharedBlock { network, subject, about, rule, mode, spared, number, window_ms, began, ends, left_ms } = told;
        Self {
            network,
            subject,
            about: visible(&about).into_owned(),
            rule,
            mode,
            spared,
            number,
            window_ms,
            began,
            ends,
            until: now.after(left_ms),
            shared: AtomicBool::new(true),
            hits: AtomicU64::new(0),
        }
    }

    /// As other gateways are told.
    pub fn told(&self, now: Uptime) -> SharedBlock {
        let Self { network, subject, rule, mode, spared, number, window_ms, began, ends, .. } = *self;
        let (about, left_ms) = (self.about.clone(), self.until.since(now));
        SharedBlock { network, subject, about, rule, mode, spared, number, window_ms, began, ends, left_ms }
    }

    /// Notes that other gateways know it: from now on they can end it, too.
    pub fn note_shared(&self) {
        self.shared.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_shared(&self) -> bool {
        self.shared.load(Ordering::Relaxed)
    }

    /// Whether it refuses requests.
    pub fn refuses(&self) -> bool {
        self.mode == BlockMode::Enforce
    }

    /// Whether it is in force.
    pub fn is_in_force(&self, now: Uptime) -> bool {
        now < self.until
    }

    /// The seconds until it ends, at least 1.
    pub fn seconds_left(&self, now: Uptime) -> u64 {
        self.until.since(now).div_ceil(1000).max(1)
    }

    pub(super) fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    /// The requests that it refused here, or would have.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// The address as people write it: of an IPv6 caller, its /64.
    pub fn place(&self) -> String {
        if self.network.is_ipv6() { format!("{}/64", self.network) } else { self.network.to_string() }
    }
}

/// The rule, what was counted, and the end, in one line.
impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (place, rule, number, seconds) = (self.place(), self.rule.name(), self.number, self.window_ms / 1000);
        match self.rule {
            BlockRule::ManyCredentials => {
                write!(f, "rule {rule}: {number} different credentials of {place} were refused within {seconds} s")?;
            }
            BlockRule::OneCredential => {
                let about = &self.about;
                write!(f, "rule {rule}: {about} was refused {number} times at {place} within {seconds} s")?;
            }
        }
        write!(f, "; the block ends at {}", self.ends.rfc3339())
    }
}
