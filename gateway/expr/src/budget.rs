//! The work that expressions may do, counted while they run.
//!
//! Work is counted and not timed, so that a request gets the same answer on every machine: one unit for each
//! operation, each element that is looked at and each eight bytes that are read or made. The limits aim at
//! ten nanoseconds for a unit in a release build, a millisecond for one expression. That figure is an estimate until
//! `a_whole_budget_takes_no_more_than_a_millisecond` in `tests/budget.rs` was run.

use std::cell::Cell;

use crate::value::Stop;

/// The units that one expression may use: about a millisecond, by the estimate above.
pub const UNITS_OF_AN_EXPRESSION: u64 = 100_000;
/// The units that all expressions together may use for one request.
pub const UNITS_OF_A_REQUEST: u64 = 200_000;

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
    pub(crate) fn spend(&self, units: usize) -> Result<(), Stop> {
        match self.left.get().checked_sub(units as u64) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => {
                self.left.set(0);
                Err(Stop::Costly)
            }
        }
    }

    /// Pays for reading or making this many bytes.
    pub(crate) fn bytes(&self, bytes: usize) -> Result<(), Stop> {
        self.spend(bytes / 8 + 1)
    }
}
