//! Keys and certificates of others: the current keys of issuers, authorities, signers, and the servers that are asked.
//!
//! In: the plan's sources of keys, bundles of authorities, and documents that somebody else fetched. Out: key sets that
//! all cores share ([`IssuerKeys`]) and checks of certificates. Never does IO: [`Outside`] is implemented where IO is
//! allowed. Start at [`Trust`].
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod certificate;
mod kept;
mod keys;
mod outside;
mod ring;

pub use certificate::{Accepted, CertificateCheck, Signers, roots, thumbprint};
pub use kept::Kept;
pub use keys::{EarlyFetches, IssuerKeys, RECENT};
pub use outside::{
    Answer, Authorization, Form, NoAnswer, Outside, OutsideClient, Patience, Question, Work, secret_text,
};
pub use ring::{KeyRing, Trust};
