//! Limits on callers: counters, hours of the week, growing delays after wrong guesses, and slow work off the serving
//! cores.
//!
//! In: an address or a name, and a time. Out: permission to continue, or the time to wait. Every table is bounded, and
//! a full one removes its least suspicious entries, so that no number of strangers locks out another caller. Never does
//! IO and owns no clock. Start at [`Counter`] (the arithmetic of a limit), [`Ledger`] (a table of them), [`Leases`]
//! (what a pod holds of shared ones), [`WeekHours`], [`Lockouts`], [`Blocks`], [`Rates`] and [`WorkerPool`].
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod blocks;
mod bounded;
mod calendar;
mod counter;
mod leases;
mod ledger;
pub mod lockout;
mod rate;
mod worker_pool;

pub use blocks::{Block, BlockMode, BlockRule, BlockRules, Blocks, MAX_BLOCKS, SharedBlock, Subject};
pub use bounded::{keep_upper_half, median};
pub use calendar::{Span, WeekHours, Zone};
pub use counter::{Counter, Left, SLOTS_LIVE_US, State};
pub use leases::{Begun, Leases};
pub use ledger::{Answer, Ask, Ledger, Name, Need, POD_LIVES_US, Standing, Told};
pub use lockout::{Guess, Lockouts, User};
pub use rate::Rates;
pub use worker_pool::{Bounds, Priority, WorkerPool};
