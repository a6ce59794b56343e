//! Sessions of people who signed in, each opened by a browser's cookie.
//!
//! In: a [`Session`], or the text of a cookie. Out: a [`SessionId`] that only the browser keeps, or the session it
//! opens. The store has ciphertext under a hash; the key to it is derived from the cookie, so that a reader of the
//! store cannot read a session, and a restart of a gateway loses none. Never decides whether a session is sufficient:
//! `idm-authn` does. Start at [`Sessions`]; `seal.rs` is the cryptography, `login.rs` the state that a browser carries
//! during a sign-in.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod login;
mod seal;
mod session;

pub use login::{Browser, Login};
pub use session::{
    Ended, Found, Parked, Session, SessionError, SessionId, Sessions, Tokens, ending_keys, person_key, sid_key,
};
