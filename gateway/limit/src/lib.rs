//! Limits on callers: rates, growing delays after wrong guesses, and slow work off the serving cores.
//!
//! In: an address or a name, and a time. Out: permission to continue, or the time to wait. Every table is bounded, and
//! a full one removes its least suspicious entries, so that no number of strangers locks out another caller. Never does
//! IO and owns no clock. Start at [`Lockouts`], [`Rates`] and [`WorkerPool`].
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod bounded;
pub mod lockout;
mod rate;
mod worker_pool;

pub use bounded::{keep_upper_half, median};
pub use lockout::{Guess, Lockouts, User};
pub use rate::Rates;
pub use worker_pool::{Bounds, Priority, WorkerPool};
