//! Authenticates callers: verifies the credential that a request carries and makes an identity of it.
//!
//! In: headers and query of a request, the armed policy, `now`. Out: [`Authenticated`], or a
//! [`Refusal`](idm_types::Refusal) with its reason. No other crate makes an `Authenticated`. Never does IO: keys of
//! issuers are in `idm-trust`, and `idm-gateway` fetches them. Start at [`ArmedPolicy::authenticate`] in `chain.rs`,
//! which asks the methods of a policy in order. `method.rs` has the trait of a method, and `methods/` a file for each;
//! a new one is a file there and a line in `methods/mod.rs`.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod assumed;
mod authenticated;
mod basis;
mod binding;
mod blocked;
mod cache;
mod caller_keys;
mod chain;
mod challenge;
mod client;
mod credential;
mod directory;
mod ended_uses;
mod examined;
mod exchange;
mod federated;
mod grants;
mod guessed;
mod guesses;
mod judged;
mod keys;
mod limits;
mod logins;
mod memory;
mod method;
mod methods;
mod nonce;
mod oidc;
mod password;
mod refresh;
mod refused;
mod restrictions;
mod revocation;
mod saml;
mod standing;
mod usage;
mod validators;

pub use assumed::Assumption;
pub use authenticated::Authenticated;
pub use basis::Basis;
pub use blocked::address_blocked;
pub use cache::TokenCache;
pub use chain::{ArmedPolicy, PolicyError, Resources};
pub use challenge::ChallengeFor;
pub use client::{Asking, ClientForm, Clients, KnownClient};
pub use credential::{CredentialTable, CredentialTables};
pub use directory::ArmedDirectory;
pub use ended_uses::EndedUses;
pub use examined::{Check, TokenChecks};
pub use federated::Federated;
pub use grants::Grants;
pub use judged::{NoCaller, Unjudged, alike};
pub use keys::RetiringReport;
pub use limits::{ArmedLimit, ArmedLimitKind};
pub use memory::{Memory, NewPerson};
pub use methods::sign_in::{ArmedSignIn, COOKIES, Origin, navigates, sends_form};
pub use oidc::{Asked, Expected, LogoutToken, Person, Provider, SignedIn};
pub use password::PasswordChecker;
pub use refused::{LoginForm, Refused};
pub use restrictions::{ArmedAccess, Use};
pub use revocation::{family_key, is_revoked, token_key};
pub use saml::{BrowserMessage, OwnAddresses, SamlProvider};
pub use standing::Standing;

/// Calls every parser of credentials that takes text, for the fuzzer: none of them may panic.
#[doc(hidden)]
pub fn fuzz_credential(text: &str) {
    methods::basic::read_any(text);
    methods::read_digest(text);
}
