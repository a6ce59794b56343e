//! Where the configuration comes from.

pub mod bundle;
pub mod dir;
mod losses;
