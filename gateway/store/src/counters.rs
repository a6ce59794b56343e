//! Counters of limits: in this process, or shared by all gateways of a namespace in one script (`counters.lua`).
//!
//! A gateway with a shared store holds a part of each counter ([`Leases`]), so it asks for few of its requests. A store
//! that does not answer within [`PATIENCE`] is lost for a moment: then each limit says whether requests are refused, or
//! counted by this gateway alone.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use idm_limit::{Answer, Ask, Begun, Counter, Leases, Ledger, Left, Need, Standing, Told};
use idm_types::Timestamp;

use crate::shared::Shared;
use crate::{Key, Kind, Store, StoreError};

/// A request waits for the store no longer than this.
pub const PATIENCE: Duration = Duration::from_millis(40);
/// A store that did not answer is not asked again by requests within this time, in microseconds.
const AWAY_US: u64 = 250_000;
/// Times that a request asks, because other cores were faster.
const ATTEMPTS: usize = 8;
/// The interval at which a pod tells what it holds.
const FLUSH: Duration = Duration::from_secs(1);
/// Slots that came back are told of after this time.
const FLUSH_SOON: Duration = Duration::from_millis(20);

/// The first line of the script: the time by which it counts is the server's.
const NOW_OF_SERVER: &str = "local t = redis.call('TIME') local now = t[1] * 1000000 + t[2]\n";
const SCRIPT: &str = include_str!("counters.lua");

/// The outcomes of requests with limits, and the questions to the store, since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitCounts {
    /// Requests that all their limits let pass.
    pub taken: u64,
    /// Requests that a limit refused.
    pub refused: u64,
    /// Requests that were refused because the store was away.
    pub lost_denied: u64,
    /// Requests that this gateway counted by itself because the store was away.
    pub lost_local: u64,
    /// Questions to the store.
    pub questions: u64,
}

#[derive(Default)]
struct Counts {
    taken: AtomicU64,
    refused: AtomicU64,
    lost_denied: AtomicU64,
    lost_local: AtomicU64,
    questions: AtomicU64,
}

/// The behaviour while the shared store does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLoss {
    /// The request is refused.
    Deny,
    /// This gateway counts by itself, so that each one may let the whole limit pass.
    Local,
}

/// Counters of limits; one for each gateway process, kept across configurations.
pub struct Counters {
    store: Store,
    ledger: Mutex<Ledger>,
    leases: Mutex<Leases>,
    /// This process among the pods.
    pod: u64,
    /// Wall time less uptime, in milliseconds, when the first limit was asked: from then on the calendar follows a
    /// clock that does not jump.
    ahead_ms: OnceLock<u64>,
    /// The store's time less uptime, in microseconds; 0 before the first answer.
    store_ahead_us: AtomicU64,
    /// The uptime in microseconds until which the store is taken for lost.
    away_until: AtomicU64,
    flushing: AtomicBool,
    patience: Duration,
    counts: Counts,
}

/// The outcome of a request.
pub struct Taking {
    /// The counts that were taken; `None`: a limit refused, and nothing was taken.
    pub taken: Option<Taken>,
    /// The standing of each counter, in the order of the needs.
    pub standings: Vec<Standing>,
}

/// The unit of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Tokens of a language model.
    Tokens,
    /// Millionths of a currency's unit.
    Micros,
}

/// The use of a call to a language model, in each unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Its tokens.
    pub tokens: u64,
    /// Its cost, in millionths.
    pub micros: u64,
}

impl Used {
    fn of(&self, unit: Unit) -> u64 {
        match unit {
            Unit::Tokens => self.tokens,
            Unit::Micros => self.micros,
        }
    }
}

/// The counts that a request has taken. Slots come back when it is dropped, and so do
/// reservations that were never settled.
pub struct Taken {
    counters: Arc<Counters>,
    on_loss: OnLoss,
    items: Vec<Item>,
}

/// A count that was taken.
struct Item {
    need: Need,
    /// The end of the span in which it was taken.
    end: u64,
    /// The unit in which it was reserved; `None`: it is not settled.
    reserved: Option<Unit>,
    /// It was counted by this process alone.
    here: bool,
}

impl std::fmt::Debug for Taken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Taken").field("items", &self.items.len()).finish_non_exhaustive()
    }
}

impl Taken {
    /// Marks the counter at this position as reserved: what is not settled comes back.
    pub fn reserve(&mut self, position: usize, unit: Unit) {
        if let Some(item) = self.items.get_mut(position) {
            item.reserved = Some(unit);
        }
    }

    /// Counts `used` for every counter that was reserved, in place of what was taken.
    pub fn settle(mut self, used: Used) {
        self.settle_all(used);
    }

    /// The same, and reserves as much again from all of these counters, or nothing from any. Returns the position and
    /// unit of a counter that has not enough left. The error is a store that is away, where a limit denies then. What
    /// was not reserved stays taken.
    pub async fn renew(&mut self, used: Used, now: Timestamp) -> Result<Option<(usize, Unit)>, StoreError> {
        let settled = self.settle_all(used);
        let need = |(position, _): &(usize, Unit)| self.items.get(*position).map(|item| item.need.clone());
        let needs: Vec<Need> = settled.iter().filter_map(need).collect();
        if needs.is_empty() {
            return Ok(None);
        }
        let counters = self.counters.clone();
        let Taking { taken, standings } = counters.take(needs, self.on_loss, now).await?;
        let Some(mut taken) = taken else {
            let refusing = settled.iter().zip(&standings).find(|(_, standing)| !standing.sufficed);
            return Ok(refusing.or(settled.iter().zip(&standings).next()).map(|(settled, _)| *settled));
        };
        for ((position, unit), item) in settled.into_iter().zip(taken.items.drain(..)) {
            if let Some(place) = self.items.get_mut(position) {
                *place = Item { reserved: Some(unit), ..item };
            }
        }
        Ok(None)
    }

    /// Gives back the rest of what was reserved. Returns the positions and units of these counters.
    fn settle_all(&mut self, used: Used) -> Vec<(usize, Unit)> {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let mut settled = Vec::new();
        for (position, item) in self.items.iter_mut().enumerate() {
            let Some(unit) = item.reserved.take() else { continue };
            let back = signed(item.need.number).saturating_sub(signed(used.of(unit)));
            self.counters.give_back(&item.need, back, item.end, item.here);
            settled.push((position, unit));
        }
        settled
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        for Item { need, end, reserved, here } in &self.items {
            if reserved.is_some() || matches!(need.counter, Counter::Slots { .. }) {
                let back = i64::try_from(need.number).unwrap_or(i64::MAX);
                self.counters.give_back(need, back, *end, *here);
            }
        }
    }
}

impl Counters {
    /// Counters of this store. With a shared one, must be called on a runtime.
    pub fn new(store: Store) -> Arc<Self> {
        Self::with_patience(store, PATIENCE)
    }

    /// The same with another [`PATIENCE`], for tests on machines that are busy.
    pub fn with_patience(store: Store, patience: Duration) -> Arc<Self> {
        use std::hash::{BuildHasher, RandomState};
        let counters = Arc::new(Self {
            pod: RandomState::new().hash_one(std::process::id()),
            store,
            ledger: Mutex::default(),
            leases: Mutex::default(),
            ahead_ms: OnceLock::new(),
            store_ahead_us: AtomicU64::new(0),
            away_until: AtomicU64::new(0),
            flushing: AtomicBool::new(false),
            patience,
            counts: Counts::default(),
        });
        if let Kind::Shared(shared) = &counters.store.kind {
            shared.runtime().spawn(flush_always(Arc::downgrade(&counters), shared.clone()));
        }
        counters
    }

    /// Forgets what this process has counted by itself: for decisions that are not about real requests.
    pub fn forget(&self) {
        *lock(&self.ledger) = Ledger::default();
    }

    /// The outcomes so far.
    pub fn counts(&self) -> LimitCounts {
        let Counts { taken, refused, lost_denied, lost_local, questions } = &self.counts;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LimitCounts {
            taken: read(taken),
            refused: read(refused),
            lost_denied: read(lost_denied),
            lost_local: read(lost_local),
            questions: read(questions),
        }
    }

    /// Takes what a request needs from all counters, or nothing from any. The error is a store that is away, where
    /// `on_loss` denies.
    pub async fn take(
        self: &Arc<Self>,
        needs: Vec<Need>,
        on_loss: OnLoss,
        now: Timestamp,
    ) -> Result<Taking, StoreError> {
        let Kind::Shared(shared) = &self.store.kind else { return Ok(self.take_here(needs, on_loss, now)) };
        for _ in 0..ATTEMPTS {
            let local = self.uptime_us();
            let begun = lock(&self.leases).begin(&needs, local);
            let asks = match begun {
                Begun::Taken(standings) => return Ok(self.taken(needs, standings, (on_loss, false))),
                Begun::Refused(standings) => return Ok(self.refused(standings)),
                Begun::Ask(asks) => asks,
            };
            match self.ask(shared, asks, now).await {
                Ok(()) => {}
                Err(error) if on_loss == OnLoss::Deny => {
                    self.counts.lost_denied.fetch_add(1, Ordering::Relaxed);
                    return Err(error);
                }
                Err(_) => {
                    self.counts.lost_local.fetch_add(1, Ordering::Relaxed);
                    return Ok(self.take_here(needs, on_loss, now));
                }
            }
        }
        let wait = Standing { sufficed: false, wait_us: 1, ..Standing::default() };
        Ok(self.refused(vec![wait; needs.len()]))
    }

    fn take_here(self: &Arc<Self>, needs: Vec<Need>, on_loss: OnLoss, now: Timestamp) -> Taking {
        let (all, standings) = lock(&self.ledger).take(&needs, self.calendar_us(now));
        if all { self.taken(needs, standings, (on_loss, true)) } else { self.refused(standings) }
    }

    fn taken(self: &Arc<Self>, needs: Vec<Need>, standings: Vec<Standing>, (on_loss, here): (OnLoss, bool)) -> Taking {
        self.counts.taken.fetch_add(1, Ordering::Relaxed);
        let item = |(need, standing): (Need, &Standing)| Item { need, end: standing.end, reserved: None, here };
        let items = needs.into_iter().zip(&standings).map(item).collect();
        Taking { taken: Some(Taken { counters: self.clone(), on_loss, items }), standings }
    }

    fn refused(&self, standings: Vec<Standing>) -> Taking {
        self.counts.refused.fetch_add(1, Ordering::Relaxed);
        Taking { taken: None, standings }
    }

    /// Asks the store, and hears what it says. The error: it is away.
    async fn ask(&self, shared: &Arc<Shared>, mut asks: Vec<Ask>, now: Timestamp) -> Result<(), StoreError> {
        let local = self.uptime_us();
        let away = self.away_until.load(Ordering::Relaxed);
        if away > 0 {
            // One request at a time tries whether the store is back.
            let next = local.saturating_add(AWAY_US);
            let is_mine = local >= away
                && self.away_until.compare_exchange(away, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
            if !is_mine {
                lock(&self.leases).unanswered(&asks);
                return Err(StoreError("the store did not answer a moment ago".into()));
            }
        }
        // A pod whose clock is wrong learns the time from the first answer.
        for _ in 0..2 {
            let asked = self.tell(shared, &asks, now);
            let answer = match tokio::time::timeout(self.patience, asked).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) => return Err(self.lost(&asks, error)),
                Err(_) => return Err(self.lost(&asks, StoreError("no answer from the store in time".into()))),
            };
            self.away_until.store(0, Ordering::Relaxed);
            if self.hear(&asks, &answer) {
                return Ok(());
            }
            // The debts were put back.
            asks.iter_mut().filter(|ask| !matches!(ask.counter, Counter::Slots { .. })).for_each(|ask| ask.back = 0);
        }
        Err(StoreError("the store counts by another calendar".into()))
    }

    fn hear(&self, asks: &[Ask], answer: &Answer) -> bool {
        let local = self.uptime_us();
        self.store_ahead_us.store(answer.now.saturating_sub(local), Ordering::Relaxed);
        lock(&self.leases).hear(asks, answer, local)
    }

    fn lost(&self, asks: &[Ask], error: StoreError) -> StoreError {
        lock(&self.leases).unanswered(asks);
        self.away_until.store(self.uptime_us().saturating_add(AWAY_US), Ordering::Relaxed);
        error
    }

    async fn tell(&self, shared: &Arc<Shared>, asks: &[Ask], now: Timestamp) -> Result<Answer, StoreError> {
        self.counts.questions.fetch_add(1, Ordering::Relaxed);
        let command = command(
            NOW_OF_SERVER,
            |name| shared.name(&Key(*name)),
            shared.pods(),
            self.pod,
            asks,
            || self.store_us(now),
        );
        let words: Vec<i64> = shared.clone().ask(command).await?;
        read(&words, asks.len()).ok_or_else(|| StoreError("the store answered something else".into()))
    }

    fn give_back(&self, need: &Need, back: i64, end: u64, here: bool) {
        if here {
            let now = self.calendar_us(Timestamp::now());
            return lock(&self.ledger).settle(&need.name, (back, end), now);
        }
        lock(&self.leases).settle(need, back, end, self.uptime_us());
        if matches!(need.counter, Counter::Slots { .. }) {
            self.flush_soon();
        }
    }

    /// Tells of slots that came back, together with others that come back in the same moment.
    fn flush_soon(&self) {
        let Kind::Shared(shared) = &self.store.kind else { return };
        if self.flushing.swap(true, Ordering::Relaxed) {
            return;
        }
        shared.wake_flush();
    }

    async fn flush(&self, shared: &Arc<Shared>) {
        self.flushing.store(false, Ordering::Relaxed);
        let asks = lock(&self.leases).flush(self.uptime_us());
        for asks in asks.chunks(64) {
            match self.tell(shared, asks, Timestamp::now()).await {
                Ok(answer) => drop(self.hear(asks, &answer)),
                Err(_) => lock(&self.leases).unanswered(asks),
            }
        }
    }

    fn uptime_us(&self) -> u64 {
        self.store.clock().uptime().0.saturating_mul(1000)
    }

    /// The time by which this process counts.
    fn calendar_us(&self, now: Timestamp) -> u64 {
        let moment = self.store.moment(now);
        let ahead = self.ahead_ms.get_or_init(|| moment.wall.0.saturating_sub(moment.uptime.0));
        moment.uptime.after(*ahead).0.saturating_mul(1000)
    }

    /// The time of the store, as far as it is known.
    fn store_us(&self, now: Timestamp) -> u64 {
        match self.store_ahead_us.load(Ordering::Relaxed) {
            0 => self.calendar_us(now),
            ahead => self.uptime_us().saturating_add(ahead),
        }
    }
}

async fn flush_always(counters: Weak<Counters>, shared: Arc<Shared>) {
    loop {
        if tokio::time::timeout(FLUSH, shared.woken_flush()).await.is_ok() {
            tokio::time::sleep(FLUSH_SOON).await;
        }
        let Some(counters) = counters.upgrade() else { return };
        counters.flush(&shared).await;
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The script with its words.
fn command(
    now: &str,
    name: impl Fn(&[u8; 32]) -> String,
    pods: String,
    pod: u64,
    asks: &[Ask],
    time: impl Fn() -> u64,
) -> redis::Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(format!("{now}{SCRIPT}")).arg(asks.len() + 1).arg(pods);
    for ask in asks {
        command.arg(name(&ask.name));
    }
    command.arg(pod);
    for Ask { name: _, counter, need, want, back, of_end } in asks {
        let (kind, [a, b, c], ends) = match counter {
            Counter::Rate { requests, per_us, burst } => ("r", [*requests, *per_us, *burst], [0; 4]),
            Counter::Quota { limit, span } => ("q", [*limit, 0, 0], span.ends(time())),
            Counter::Slots { limit } => ("s", [*limit, 0, 0], [0; 4]),
        };
        command.arg(kind).arg(need).arg(want).arg(back).arg(of_end).arg(&[a, b, c]).arg(&ends);
    }
    command
}

fn read(words: &[i64], counters: usize) -> Option<Answer> {
    let number = |word: &i64| u64::try_from(*word).ok();
    let [now, pods, readable, told @ ..] = words else { return None };
    let (now, pods) = (number(now)?, number(pods)?);
    if *readable == 0 {
        return Some(Answer { now, pods, told: None });
    }
    let read = |words: &[i64]| {
        let [granted, sufficed, available, reset, end, wait, ahead] = words else { return None };
        let left = Left { available: number(available)?, reset_us: number(reset)?, end: number(end)? };
        let (granted, wait_us, ahead) = (number(granted)?, number(wait)?, number(ahead)?);
        Some(Told { granted, sufficed: *sufficed == 1, left, wait_us, ahead })
    };
    let told: Option<Vec<Told>> = told.chunks(7).map(read).collect();
    Some(Answer { now, pods, told: Some(told.filter(|told| told.len() == counters)?) })
}

#[cfg(test)]
mod tests;
