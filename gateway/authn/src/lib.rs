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
mod basic;
mod beside;
mod binding;
mod bounded;
mod cache;
mod chain;
mod challenge;
mod client;
mod credential;
mod digest;
mod exchange;
mod facts;
mod federated;
mod forwarded_certificate;
mod grants;
mod headers;
mod identity;
mod introspection;
mod jwt;
mod kept;
mod keys;
mod lockout;
mod mapping;
mod memory;
mod mtls;
mod nonce;
mod oidc;
mod outside;
mod password;
mod percent;
mod present;
mod rate;
mod refresh;
mod refused;
mod revocation;
mod saml;
mod sign_in;

pub use beside::{Beside, Turn};
pub use cache::TokenCache;
pub use chain::{ArmedPolicy, Armory, KeyRing, PolicyError};
pub use client::{ArmedClients, ClientForm, KnownClient};
pub use credential::CredentialTable;
pub use facts::{Facts, SharedFacts};
pub use federated::Federated;
pub use forwarded_certificate::forwarded_certificate;
pub use grants::Grants;
pub use headers::{HeadersRead, PolicyHeaders};
use identity::Unusable;
pub use identity::{Authenticated, Identity};
pub use keys::IssuerKeys;
pub use memory::{Memory, NewPerson};
pub use mtls::{Signers, roots, thumbprint};
pub use oidc::{Asked, Expected, LogoutToken, Person, Provider, SignedIn};
pub use outside::{Answer, Authorization, Form, NoAnswer, Outside, Patience, Question, Work};
pub use password::PasswordChecker;
pub use present::{ClientCertificate, Presented, RequestView, cookie, remove_cookie, remove_query};
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
