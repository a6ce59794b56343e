//! Envelope encryption of what must be readable again: a value is sealed under a **data key**, and the data key is
//! wrapped by a **key-encryption key** that lies elsewhere.
//!
//! In: bytes with the [`Place`] where they are stored, and a [`KeyService`] that wraps and unwraps data keys: a set of
//! keys ([`KeySet`], [`KeyFolder`]) or a command ([`KeyCommand`]). Out: bytes that name their key, and open in their
//! own place only. Never: a key or a value in an error, a network connection, a value that is opened in part. A value
//! that is not sealed is told apart and never taken for an opened one.
//! Start at [`Envelope`]; the format is in `sealed.rs`.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod command;
mod data_key;
mod envelope;
mod key_set;
mod sealed;
mod service;

pub use command::KeyCommand;
pub use data_key::DataKey;
pub use envelope::{Envelope, SealError};
pub use key_set::{KeyFolder, KeySet, SharedKeys};
pub use sealed::{Place, Sealed, is_sealed};
pub use service::{KeyError, KeyFuture, KeyService};
