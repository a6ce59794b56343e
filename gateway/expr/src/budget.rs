//! The work that expressions may do, counted while they run.
//!
//! Work is counted and not timed, so that a request gets the same answer on every machine: one unit for each
//! operation, each element that is looked at, each halving of a map that is searched and each eight bytes that are read
//! or made, and some more for memory that is taken.
//!
//! A unit is at most about ten nanoseconds in a release build. `a_whole_budget_takes_no_more_than_a_millisecond` in
//! `tests/budget.rs` measures some sixty kinds of work, each until the budget is used up. On one core of an AMD EPYC
//! the costliest kinds (comparing texts in two loops, searching for a text that almost matches
//! everywhere, comparing lists of maps) take 10.5 ns for a unit, and so 0.42 ms for the budget of an expression; half
//! of the kinds take less than 7 ns.

use std::cell::Cell;

use crate::value::Abort;

/// The units that one expression may use: less than half a millisecond, as measured above. Another caller may have to
/// wait for as long.
pub const UNITS_OF_AN_EXPRESSION: u64 = 40_000;
/// The units that all expressions together may use for one request: less than a millisecond.
pub const UNITS_OF_A_REQUEST: u64 = 80_000;

/// The units that the expressions of one request may still use. Begins full, and is never refilled.
#[derive(Debug)]
pub struct Budget {
    left: Cell<u64>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { left: Cell::new(UNITS_OF_A_REQUEST) }
    }
}

impl Budget {
    /// The units that are left.
    pub fn left(&self) -> u64 {
        self.left.get()
    }

    pub(crate) fn take(&self, units: u64) {
        self.left.set(self.left.get().saturating_sub(units));
    }
}

/// Counts the work of one evaluation.
pub(crate) struct Meter {
    limit: u64,
    left: Cell<u64>,
}

impl Meter {
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, left: Cell::new(limit) }
    }

    /// The units used so far.
    pub(crate) fn used(&self) -> u64 {
        self.limit - self.left.get()
    }

    /// Pays for work before it is done.
    pub(crate) fn spend(&self, units: usize) -> Result<(), Abort> {
        match self.left.get().checked_sub(units as u64) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => {
                self.left.set(0);
                Err(Abort::Costly)
            }
        }
    }

    /// Pays for reading or making this many bytes.
    pub(crate) fn bytes(&self, bytes: usize) -> Result<(), Abort> {
        self.spend(bytes / 8 + 1)
    }

    /// Pays for this many values that are put into a list or map: each takes some thirty bytes there.
    pub(crate) fn made(&self, values: usize) -> Result<(), Abort> {
        self.spend(values.saturating_mul(3))
    }

    /// Pays for memory that is taken and given back, beside the bytes that are put there.
    pub(crate) fn allocated(&self) -> Result<(), Abort> {
        self.spend(4)
    }
}
