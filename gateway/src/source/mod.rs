//! The sources of the configuration.

pub mod bundle;
pub mod dir;
mod losses;
mod opener;
mod shards;

pub use opener::{OpenError, Opener};
