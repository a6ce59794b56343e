//! The changes between two versions of an object of ours, in words that hold no secret.
//!
//! In: the [`Content`] of an object before and after. Out: one line for each field that changed ([`diff`]), and a
//! digest by which equal contents are known. Pure: no IO, no clock.
//! Never: a value that the schema lets be anything, unless the list of names in `lines.rs` has its field.
//! Start at [`diff`].

mod content;
mod lines;

pub use content::{Content, Digest, hash};
pub use lines::{diff, prepare};
