//! Sessions of people who signed in: what a browser's cookie opens.
//!
//! In: a [`Session`], or the text of a cookie. Out: a [`SessionId`] that only the browser keeps, or the session it
//! opens. The store has ciphertext under a hash; the key to it is made of the cookie, so that whoever reads the store
//! reads no session, and whoever restarts a gateway loses none. Never decides whether a session is good enough: that
//! is for `idm-authn`. Start at [`Sessions`]; `seal.rs` is the cryptography, `login.rs` what a browser carries while a
//! sign-in is under way.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod login;
mod seal;
mod session;

pub use login::{Browser, Login};
pub use session::{
    Ended, Found, Parked, Session, SessionError, SessionId, Sessions, Tokens, ending_keys, person_key, sid_key,
};
