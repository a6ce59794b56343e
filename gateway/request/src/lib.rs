//! A request and its caller, as authentication, authorization and expressions see them.
//!
//! In: the head of a request ([`RequestView`]), and the [`Identity`] that a method derived from its credential. Out:
//! the credentials in a request ([`find`]), the [`Facts`] that expressions read, and the headers that describe the
//! caller to the upstream. Never verifies anything and never does IO: an [`Identity`] is a description, and the
//! evidence that it was verified is made elsewhere. Start at [`RequestView`].
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod client_address;
mod facts;
mod forwarded_certificate;
mod forwarded_elements;
mod headers;
mod identity;
pub mod mapping;
mod view;

pub use client_address::{Client, client};
pub use facts::{Facts, SharedFacts};
pub use forwarded_certificate::forwarded_certificate;
pub use headers::{HeadersRead, PolicyHeaders};
pub use identity::{Binding, Identity, IssuedTo, OfDirectory, OfSession, Unusable};
pub use mapping::ArmedMapping;
pub use view::{
    AsForwarded, ClientCertificate, Presented, RequestView, cookie, find, in_headers, remove_cookie, remove_query,
};
