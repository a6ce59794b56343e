//! The leases of a pod on counters that it shares with others, so that it asks for few of its requests.
//!
//! A pod takes ahead of its needs, and the counter says how much: all pods together hold a hundredth of a limit at most
//! ([`Counter::ahead`]). What is in hand counts as used, so no quota is ever exceeded, and a rate by what is in hand at
//! most; what a pod takes along when it ends is lost until the span ends. Times are microseconds of a clock that does
//! not jump; where it began means nothing.

use std::collections::HashMap;

use crate::counter::{Counter, Left, SLOTS_LIVE_US};
use crate::ledger::{Answer, Ask, Name, Need, Standing, Told};

/// A part of a rate that was taken and not used in this time is given back.
const RATE_LIVES_US: u64 = 5_000_000;
/// A counter that refused is not asked again within this time at most, where many requests come.
const LONGEST_PAUSE_US: u64 = 1_000_000;
/// The same for slots, which are given back at any time.
const SLOTS_PAUSE_US: u64 = 20_000;
/// The time after which slots are told of again.
const RENEW_US: u64 = SLOTS_LIVE_US / 3;
/// Counters in hand; beyond this number those that hold nothing are let go.
const MAX_LEASES: usize = 100_000;

/// The lease on one counter.
#[derive(Clone, Debug)]
struct Lease {
    counter: Counter,
    /// The amount that may be used without asking.
    left: u64,
    /// Slots in use by requests.
    in_use: u64,
    /// Until when `left` may be used.
    until: u64,
    /// The end of the quota's span, in the counter's time.
    end: u64,
    /// The amount that was taken without asking (< 0), or is to be given back (> 0).
    owed: i64,
    /// The next number to ask for.
    want: u64,
    /// Not asked again before this time, because it refused.
    ask_at: u64,
    /// The time at which it has the needed amount, after a refusal.
    ready_at: u64,
    /// The rest of the counter itself at the last answer, and when all of it is available again.
    elsewhere: u64,
    reset_at: u64,
    /// The number that may be held ahead.
    ahead: u64,
    asked: u64,
}

impl Lease {
    fn new(counter: &Counter) -> Self {
        Self {
            counter: counter.clone(),
            left: 0,
            in_use: 0,
            until: 0,
            end: 0,
            owed: 0,
            want: 1,
            ask_at: 0,
            ready_at: 0,
            elsewhere: 0,
            reset_at: 0,
            ahead: 0,
            asked: 0,
        }
    }

    /// Lets go of what is too old to be used.
    fn expire(&mut self, now: u64) {
        if now < self.until {
            return;
        }
        match self.counter {
            Counter::Rate { .. } => self.owed = self.owed.saturating_add(signed(self.left)),
            // The span is over, and what was taken of it with it.
            Counter::Quota { .. } => self.owed = 0,
            Counter::Slots { .. } => return,
        }
        self.left = 0;
    }

    fn ask(&mut self, name: Name, need: u64, now: u64) -> Ask {
        let back = match self.counter {
            Counter::Slots { .. } => signed(self.in_use.saturating_add(self.left)),
            _ => std::mem::take(&mut self.owed),
        };
        self.asked = now;
        // A lease that does not suffice is kept: only the rest is asked for.
        let need = need.saturating_sub(self.left);
        Ask { name, counter: self.counter.clone(), need, want: self.want.max(need), back, of_end: self.end }
    }

    /// Whether the counter refused lately, and need not be asked again.
    fn refuses(&self, now: u64) -> bool {
        now < self.ask_at
    }

    fn standing(&self, need: u64, now: u64) -> Standing {
        let sufficed = self.left >= need || !self.refuses(now);
        let wait_us = if sufficed { 0 } else { self.ready_at.saturating_sub(now).max(1) };
        let remaining = self.left.saturating_add(self.elsewhere);
        let remaining = if sufficed { remaining } else { 0 };
        Standing { sufficed, remaining, reset_us: self.reset_at.saturating_sub(now), wait_us, end: self.end }
    }

    fn hear(&mut self, told: &Told, (need, want): (u64, u64), pods: u64, now: u64) {
        let Told { granted, sufficed, left, wait_us, ahead } = *told;
        let Left { available, reset_us, end } = left;
        if end != self.end {
            // Another span began: what is in hand was of the one before.
            self.left = 0;
        }
        self.left = self.left.saturating_add(granted);
        self.end = end;
        self.elsewhere = available;
        self.reset_at = now.saturating_add(reset_us);
        self.ahead = ahead;
        self.until = match self.counter {
            Counter::Rate { .. } => now.saturating_add(RATE_LIVES_US),
            Counter::Quota { .. } => self.reset_at,
            Counter::Slots { .. } => u64::MAX,
        };
        // It grows while all of it is used.
        self.want = (self.want.saturating_mul(2)).min(ahead).max(1);
        self.ask_at = 0;
        // Under many requests, a pod that did not get all it may have waits until there is as much for all again,
        // so that it does not ask for each one. Otherwise the counter is asked as soon as it has what is needed.
        let round = ahead as f64 * pods as f64 * self.counter.interval_us();
        let share = if ahead >= 2 { round as u64 } else { 0 };
        let is_scarce = granted < want.min(ahead) && granted >= need;
        if !sufficed || is_scarce && share > 0 {
            let pause = wait_us.max(share).min(LONGEST_PAUSE_US);
            let pause = if matches!(self.counter, Counter::Slots { .. }) { pause.min(SLOTS_PAUSE_US) } else { pause };
            self.ask_at = now.saturating_add(pause);
            self.ready_at = now.saturating_add(wait_us).max(self.ask_at);
        }
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The next step for a request.
#[derive(Debug)]
pub enum Begun {
    /// Everything was in hand and is taken.
    Taken(Vec<Standing>),
    /// A counter refused lately: nothing is taken.
    Refused(Vec<Standing>),
    /// The shared counters must be asked first, all at once.
    Ask(Vec<Ask>),
}

/// The leases of a pod.
#[derive(Default)]
pub struct Leases(HashMap<Name, Lease>);

impl Leases {
    /// Takes what a request needs from what is in hand, or says what must be asked for it.
    pub fn begin(&mut self, needs: &[Need], now: u64) -> Begun {
        let (mut all_here, mut refused) = (true, false);
        for Need { name, counter, number } in needs {
            if self.0.len() >= MAX_LEASES && !self.0.contains_key(name) {
                self.0.retain(|_, lease| lease.in_use > 0 || lease.owed < 0 || lease.left > 0 && now < lease.until);
            }
            let lease = self.0.entry(*name).or_insert_with(|| Lease::new(counter));
            if lease.counter != *counter {
                lease.counter = counter.clone();
                lease.ask_at = 0;
            }
            lease.expire(now);
            if lease.left < *number {
                all_here = false;
                refused |= lease.refuses(now);
            }
        }
        if refused {
            return Begun::Refused(self.standings(needs, now));
        }
        if all_here {
            self.take(needs);
            return Begun::Taken(self.standings_taken(needs, now));
        }
        let lacking = needs.iter().filter_map(|Need { name, number, .. }| {
            let lease = self.0.get_mut(name)?;
            (lease.left < *number).then(|| lease.ask(*name, *number, now))
        });
        Begun::Ask(lacking.collect())
    }

    fn take(&mut self, needs: &[Need]) {
        for Need { name, number, .. } in needs {
            if let Some(lease) = self.0.get_mut(name) {
                lease.left = lease.left.saturating_sub(*number);
                if matches!(lease.counter, Counter::Slots { .. }) {
                    lease.in_use = lease.in_use.saturating_add(*number);
                }
            }
        }
    }

    fn standings(&self, needs: &[Need], now: u64) -> Vec<Standing> {
        let of = |need: &Need| self.0.get(&need.name).map(|lease| lease.standing(need.number, now));
        needs.iter().map(|need| of(need).unwrap_or_default()).collect()
    }

    fn standings_taken(&self, needs: &[Need], now: u64) -> Vec<Standing> {
        let of = |need: &Need| self.0.get(&need.name).map(|lease| lease.standing(0, now));
        needs.iter().map(|need| of(need).unwrap_or_default()).collect()
    }

    /// Hears the answer to a question; [`Leases::begin`] then says how it ends. False: nothing was decided.
    pub fn hear(&mut self, asks: &[Ask], answer: &Answer, now: u64) -> bool {
        let Some(told) = &answer.told else {
            self.unanswered(asks);
            return false;
        };
        for (ask, told) in asks.iter().zip(told) {
            if let Some(lease) = self.0.get_mut(&ask.name) {
                lease.hear(told, (ask.need, ask.want), answer.pods, now);
            }
        }
        true
    }

    /// There was no answer, or nothing was decided: what was used without asking is still to be told. What was to be
    /// given back is lost, because the counter may have got it.
    pub fn unanswered(&mut self, asks: &[Ask]) {
        for ask in asks.iter().filter(|ask| ask.back < 0) {
            if let Some(lease) = self.0.get_mut(&ask.name).filter(|lease| lease.end == ask.of_end) {
                lease.owed = lease.owed.saturating_add(ask.back);
            }
        }
    }

    /// Gives back what a request took and did not use (`back` > 0), or what it used beyond that (`back` < 0). `end` is
    /// the end of the span in which it was taken.
    pub fn settle(&mut self, need: &Need, back: i64, end: u64, now: u64) {
        let lease = self.0.entry(need.name).or_insert_with(|| {
            let until = now.saturating_add(RENEW_US);
            Lease { end, until, ..Lease::new(&need.counter) }
        });
        if let Counter::Slots { .. } = lease.counter {
            let back = u64::try_from(back).unwrap_or(0).min(lease.in_use);
            lease.in_use -= back;
            lease.left = lease.left.saturating_add(back);
            return;
        }
        lease.expire(now);
        if lease.end != end {
            return;
        }
        if back >= 0 && now < lease.until {
            lease.left = lease.left.saturating_add(back.unsigned_abs());
        } else {
            lease.owed = lease.owed.saturating_add(back);
        }
        // There is something again.
        lease.ask_at = if back > 0 { 0 } else { lease.ask_at };
    }

    /// The messages that are due without a request: slots that are not needed, those that must be told of again, and
    /// use without asking.
    pub fn flush(&mut self, now: u64) -> Vec<Ask> {
        let mut asks = Vec::new();
        self.0.retain(|name, lease| {
            let (idle, old) = (lease.left, now.saturating_sub(lease.asked) >= RENEW_US);
            let tells = match lease.counter {
                Counter::Slots { .. } => {
                    let keep = if old && lease.in_use == 0 { 0 } else { lease.ahead };
                    lease.left = lease.left.min(keep);
                    lease.left < idle || old && lease.in_use > 0
                }
                Counter::Quota { .. } | Counter::Rate { .. } => {
                    lease.expire(now);
                    // A quota in hand that nobody used for a while goes back.
                    if old && lease.left > 0 {
                        lease.owed = lease.owed.saturating_add(signed(lease.left));
                        lease.left = 0;
                    }
                    lease.owed != 0
                }
            };
            if tells {
                let mut ask = lease.ask(*name, 0, now);
                (ask.need, ask.want) = (0, 0);
                asks.push(ask);
            }
            lease.in_use > 0 || lease.left > 0 || tells || !old || lease.refuses(now)
        });
        asks
    }
}

#[cfg(test)]
mod tests;
