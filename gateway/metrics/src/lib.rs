//! Numbers about the gateway for whoever watches it: counters that one thread writes, and the formats they are read in.
//!
//! In: events of one core. Out: the text formats of Prometheus and OpenMetrics. Counting takes no lock, allocates
//! nothing and makes no system call: each core counts for itself, and a scrape adds the cores up. Labels are names of
//! objects and members of closed sets; a name that a caller chooses is never a label. Start at `counter.rs`;
//! `exposition.rs` writes the formats.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod counter;
mod exemplar;
mod exposition;
mod histogram;
mod sparse;

pub use counter::Counter;
pub use exemplar::Exemplar;
pub use exposition::{Exposition, Family, Format};
pub use histogram::{Histogram, Sums};
pub use sparse::Sparse;
