//! Keys and certificates of other parties: the current keys of issuers, authorities, signers, and the client for
//! outside servers.
//!
//! In: the plan's sources of keys, bundles of authorities, and documents that were fetched elsewhere. Out: key sets
//! that all cores share ([`IssuerKeys`]), checks of certificates, and the TLS of connections to backends. Never talks
//! to anyone: [`HttpClient`] is implemented where that is allowed. Start at [`Trust`].
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod backend;
mod certificate;
mod directory;
mod http_client;
mod kept;
mod keys;
mod pinned;
mod ring;
mod verifier;

pub use backend::{backend_config, client_config};
pub use certificate::{Accepted, CertificateCheck, Signers, end_of, roots, thumbprint};
pub use directory::{
    AccountState, Asked, Directories, Directory, DirectoryError, DirectoryErrorKind, Group, HashAnswer, Login,
    LoginAnswer, LoginRefused, NameAsked, NoDirectories, Password, Person, Steps,
};
pub use http_client::{
    Answer, Authorization, Deadline, Form, HttpClient, NoAnswer, OutboundClient, OutboundRequest, Work, secret_text,
};
pub use kept::Kept;
pub use keys::{EarlyFetches, IssuerKeys, RECENT};
pub use pinned::{ServerCertificateFacts, ShownCertificates, key_digest};
pub use ring::{KeyRing, Keys, Outside, Trust};
