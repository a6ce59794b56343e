//! Who is calling? Verifies the credential a request carries and makes an identity of it.
//!
//! In: headers and query of a request, the armed policy, `now`. Out: [`Authenticated`], or a
//! [`Refusal`](idm_types::Refusal) with its reason. The only mint of `Authenticated`. Never does IO: issuer keys arrive through
//! [`IssuerKeys`], which somebody else fills. Start at [`ArmedPolicy::authenticate`]; each method is a
//! module of one shape (`jwt.rs`, `api_key.rs`, `basic.rs`, `digest.rs`); a new one is a module, a variant of `Armed`
//! in
//! `chain.rs` and a variant of `idm_plan::MethodKind`.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod api_key;
mod authenticated;
mod basic;
mod binding;
mod cache;
mod chain;
mod challenge;
mod client;
mod credential;
mod digest;
mod exchange;
mod federated;
mod grants;
mod introspection;
mod jwt;
mod memory;
mod mtls;
mod nonce;
mod oidc;
mod password;
mod refresh;
mod refused;
mod revocation;
mod saml;
mod sign_in;

pub use authenticated::Authenticated;
pub use cache::TokenCache;
pub use chain::{ArmedPolicy, Armory, PolicyError};
pub use client::{ArmedClients, ClientForm, KnownClient};
pub use credential::CredentialTable;
pub use federated::Federated;
pub use grants::Grants;
pub use memory::{Memory, NewPerson};
pub use oidc::{Asked, Expected, LogoutToken, Person, Provider, SignedIn};
pub use password::PasswordChecker;
pub use refused::Refused;
pub use revocation::{family_key, is_revoked, token_key};
pub use saml::{Errand, OwnAddresses, SamlProvider};
pub use sign_in::{ArmedSignIn, COOKIES, Origin, navigates};

/// Every reader of credentials that takes text, for the fuzzer: it must not panic.
#[doc(hidden)]
pub fn fuzz_credential(text: &str) {
    basic::read_any(text);
    digest::read_any(text);
}
