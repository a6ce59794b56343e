//! Directories: LDAP, databases and services that know people and their passwords.
//!
//! In: the plan of a Federation's directory, its secrets, and logins. Out: [`idm_trust::LoginAnswer`]: a whole
//! [`idm_trust::Person`], a refusal, or an error from which nothing follows about anybody. All drivers of outside
//! protocols are here and nowhere else. Never decides who may do what, and keeps no password: what is cached, and for
//! how long, is decided in `idm-authn`. Start at [`Pool`], which makes the directories of a process; each of them runs
//! in a [`guarded`] bulkhead over one [`Driver`]: `ldap/`, `sql/` or `rest/`.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod connect;
mod driver;
mod fold;
mod guarded;
mod ldap;
mod pool;
pub mod probe;
mod rest;
mod sql;

pub use connect::Reach;
pub use pool::Pool;

use driver::Driver;

/// Reads octets as what an LDAP server sends, for the fuzzer.
#[doc(hidden)]
pub fn fuzz_ldap(octets: &[u8]) {
    ldap::read_stream(octets);
}
