//! A table of counters in this process: those of a gateway without a shared store, and those that it counts by itself
//! while the shared one is away. The same operations are what the shared store does, so simulations use it in its
//! place.

use std::collections::HashMap;

use crate::bounded::keep_upper_half;
use crate::counter::{Counter, Left, State};

/// The name of a counter: a hash, so that nothing of a caller can be read from it.
pub type Name = [u8; 32];

/// Counters that are remembered. Beyond this number those are removed that are least used, so that no flood of callers
/// gives a busy one its limits anew.
const MAX_COUNTERS: usize = 200_000;
/// The pod that this process is to its own table.
const SELF: u64 = 0;
/// A pod that has not asked for this time shares no counter any more, in microseconds.
pub const POD_LIVES_US: u64 = 10_000_000;

/// The need of a request for a counter.
#[derive(Clone, Debug)]
pub struct Need {
    /// The counter's name.
    pub name: Name,
    /// The counter.
    pub counter: Counter,
    /// The number.
    pub number: u64,
}

/// A question about one counter.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The counter's name.
    pub name: Name,
    /// The counter.
    pub counter: Counter,
    /// The number without which nothing is taken from any of them.
    pub need: u64,
    /// The number that the pod would like to have, to ask less often.
    pub want: u64,
    /// The amount that the pod gives back; see [`State::settle`].
    pub back: i64,
    /// The end of the span in which that was taken.
    pub of_end: u64,
}

/// The answer about one counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The number that was taken: 0, or what was needed at least.
    pub granted: u64,
    /// Whether it had what was needed.
    pub sufficed: bool,
    /// The rest after that.
    pub left: Left,
    /// Microseconds until it has what was needed; 0 if it had.
    pub wait_us: u64,
    /// The number that the pod may hold ahead of its needs.
    pub ahead: u64,
}

/// The answer about all counters of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The time by which it was decided, in microseconds since 1970.
    pub now: u64,
    /// The number of pods that share the counters.
    pub pods: u64,
    /// About each counter, in the order of the question. `None`: the pod's idea of the calendar is not that of this
    /// time; nothing was taken.
    pub told: Option<Vec<Told>>,
}

/// The amount that a request has taken of a counter, or would have to wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether the counter had what was needed.
    pub sufficed: bool,
    /// The number that is left.
    pub remaining: u64,
    /// Microseconds until all of it is available again.
    pub reset_us: u64,
    /// Microseconds until it has what was needed; 0 if it had.
    pub wait_us: u64,
    /// The end of the quota's span; 0 for others.
    pub end: u64,
}

/// The table.
#[derive(Default)]
pub struct Ledger {
    counters: HashMap<Name, (Counter, State)>,
    pods: HashMap<u64, u64>,
}

impl Ledger {
    /// Takes what is needed from all counters, or nothing from any. The standings are in the order of the needs.
    pub fn take(&mut self, needs: &[Need], now: u64) -> (bool, Vec<Standing>) {
        let mut standings = Vec::with_capacity(needs.len());
        for Need { name, counter, number } in needs {
            let state = self.state(*name, counter, now);
            let held = held_by(state, SELF);
            let readable = state.settle(counter, SELF, (held, 0), &|| ends_of(counter, now), now).is_some();
            keep_alive(state);
            let left = state.left(counter, now);
            let sufficed = readable && left.available >= *number;
            let wait_us = if sufficed { 0 } else { state.wait_us(counter, *number, now).max(1) };
            let Left { available, reset_us, end } = left;
            standings.push(Standing { sufficed, remaining: available, reset_us, wait_us, end });
        }
        let all = standings.iter().all(|standing| standing.sufficed);
        if all {
            for (Need { name, counter, number }, standing) in needs.iter().zip(&mut standings) {
                if let Some((_, state)) = self.counters.get_mut(name) {
                    state.take(counter, SELF, *number);
                    let left = state.left(counter, now);
                    (standing.remaining, standing.reset_us) = (left.available, left.reset_us);
                }
            }
        }
        (all, standings)
    }

    /// Gives back what was taken and not used (`back` > 0), or takes more without a question. `of_end` is the end of
    /// the quota's span in which it was taken.
    pub fn settle(&mut self, name: &Name, (back, of_end): (i64, u64), now: u64) {
        let Some((counter, state)) = self.counters.get_mut(name) else { return };
        let counter = counter.clone();
        let held = held_by(state, SELF);
        let back = if matches!(state, State::Slots(_)) { held.saturating_sub(back).max(0) } else { back };
        let _ = state.settle(&counter, SELF, (back, of_end), &|| ends_of(&counter, now), now);
        keep_alive(state);
    }

    /// Answers a pod as the shared store does.
    pub fn ask(&mut self, pod: u64, asks: &[Ask], now: u64) -> Answer {
        self.pods.insert(pod, now);
        self.pods.retain(|_, seen| now.saturating_sub(*seen) < POD_LIVES_US);
        let pods = self.pods.len() as u64;
        let mut told = Vec::with_capacity(asks.len());
        let mut readable = true;
        for Ask { name, counter, need, back, of_end, .. } in asks {
            let state = self.state(*name, counter, now);
            readable &= state.settle(counter, pod, (*back, *of_end), &|| ends_of(counter, now), now).is_some();
            let left = state.left(counter, now);
            let sufficed = left.available >= *need;
            let wait_us = if sufficed { 0 } else { state.wait_us(counter, *need, now).max(1) };
            told.push(Told { granted: 0, sufficed, left, wait_us, ahead: counter.ahead(left.available, pods) });
        }
        if !readable {
            return Answer { now, pods, told: None };
        }
        if told.iter().all(|told| told.sufficed) {
            for (Ask { name, counter, need, want, .. }, told) in asks.iter().zip(&mut told) {
                let Some((_, state)) = self.counters.get_mut(name) else { continue };
                told.granted = (*want).min(told.left.available).min((*need).max(told.ahead));
                state.take(counter, pod, told.granted);
                told.left = state.left(counter, now);
            }
        }
        Answer { now, pods, told: Some(told) }
    }

    /// A pod that ends takes its slots along after a while; this tells of it at once.
    pub fn forget_pod(&mut self, pod: u64) {
        self.pods.remove(&pod);
    }

    fn state(&mut self, name: Name, counter: &Counter, now: u64) -> &mut State {
        if self.counters.len() >= MAX_COUNTERS && !self.counters.contains_key(&name) {
            self.make_room(now);
        }
        let entry = self.counters.entry(name).or_insert_with(|| (counter.clone(), State::new(counter, now)));
        if entry.0 != *counter {
            entry.0 = counter.clone();
        }
        &mut entry.1
    }

    fn make_room(&mut self, now: u64) {
        self.counters.retain(|_, (_, state)| !state.is_forgettable(now));
        if self.counters.len() >= MAX_COUNTERS / 2 {
            keep_upper_half(&mut self.counters, |(counter, state)| {
                let left = state.left(counter, now);
                // In thousandths of what it may take: the most used stay.
                1000 - (left.available.saturating_mul(1000) / counter.most().max(1)).min(1000)
            });
        }
    }

    /// The number of counters that are remembered.
    pub fn len(&self) -> usize {
        self.counters.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty()
    }
}

fn ends_of(counter: &Counter, now: u64) -> [u64; 4] {
    match counter {
        Counter::Quota { span, .. } => span.ends(now),
        Counter::Rate { .. } | Counter::Slots { .. } => [0; 4],
    }
}

/// The slots of a pod; 0 for other counters, which have nothing to give back.
fn held_by(state: &State, pod: u64) -> i64 {
    match state {
        State::Slots(pods) => pods.get(&pod).map_or(0, |(held, _)| i64::try_from(*held).unwrap_or(i64::MAX)),
        State::Rate { .. } | State::Quota { .. } => 0,
    }
}

/// The slots of this process are given back by it, and end with it.
fn keep_alive(state: &mut State) {
    if let State::Slots(pods) = state {
        if let Some((_, until)) = pods.get_mut(&SELF) {
            *until = u64::MAX;
        }
    }
}

#[cfg(test)]
mod tests;
