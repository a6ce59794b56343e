//! SAML 2.0 for a service provider: messages in, a person out; and the messages that we send.
//!
//! In: bytes that a browser brought, the provider's keys, `now`. Out: an [`Assertion`], or the [`SamlError`] that says
//! why not. Pure: no IO and no clock. The only room that reads hostile XML. What was verified is what is read: after a
//! signature was checked, its canonical form is parsed anew and everything is taken from there ([`Response::accept`]).
//! Signatures are enveloped, with exclusive canonicalization, RSA or ECDSA, and SHA-2; everything else is refused by
//! its
//! name. Keys come from metadata or configuration, never from a message. Start at [`Response`]; `signature.rs` and
//! `c14n.rs` are what it stands on.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod binding;
mod c14n;
mod comments;
mod encryption;
mod key;
mod logout;
mod metadata;
mod request;
mod response;
mod signature;
#[cfg(test)]
mod vectors;
mod well_formed;
mod xml;

use idm_types::{Reason, Refusal};

pub use binding::{Carried, RedirectMessage, document_text, post_form_value, redirect_url};
use comments::without_comments;
pub use key::{OwnKey, VerifyingKey};
pub use logout::{LogoutRequest, logout_request, logout_response};
pub use metadata::{Endpoints, IdentityProvider, OwnMetadata, own_metadata};
pub use request::{AuthnRequest, authn_request};
pub use response::{Assertion, Expected, NameId, Response};

/// Why a message is not believed, or not made. Never holds what a message said, but names of algorithms.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SamlError {
    /// Larger than any message of an honest provider.
    #[error("the message is larger than 256 KiB")]
    TooLarge,
    /// Not a message.
    #[error("the message cannot be read: {0}")]
    Malformed(&'static str),
    /// XML that has no use here, and a history of attacks.
    #[error("the message contains {0}, which no SAML message needs")]
    Forbidden(&'static str),
    /// Something that must be there is not.
    #[error("the message has no `{0}`")]
    Missing(&'static str),
    /// An algorithm that is not taken.
    #[error("the algorithm `{0}` is not taken")]
    Algorithm(String),
    /// Neither the response nor the assertion is signed.
    #[error("the assertion is not signed, neither by itself nor with the response")]
    NotSigned,
    /// The policy wants the assertion itself signed.
    #[error("the assertion itself is not signed, and the Federation wants that")]
    AssertionNotSigned,
    /// A signature that does not hold.
    #[error("the signature does not hold: {0}")]
    Signature(&'static str),
    /// A signature of another key than the provider's known ones: its metadata may have a newer one.
    #[error("the signature does not hold: no known key of the provider made it")]
    UnknownSigner,
    /// Nothing more is said about it.
    #[error("the encrypted assertion cannot be opened")]
    CannotDecrypt,
    /// A key of ours or of the provider.
    #[error("{0}")]
    Key(&'static str),
    /// It is of another provider.
    #[error("the message is of another issuer")]
    WrongIssuer,
    /// It is for someone else.
    #[error("the message is not for us: {0}")]
    NotForUs(&'static str),
    /// It is too early or too late.
    #[error("the message is not valid now: {0}")]
    NotNow(&'static str),
    /// It answers another request, or none.
    #[error("the message does not answer a request of ours")]
    Unsolicited,
    /// The provider says no.
    #[error("the provider answered `{0}`")]
    Status(String),
    /// A condition that is not understood must not be passed over.
    #[error("the assertion has a condition that is not understood")]
    UnknownCondition,
}

impl SamlError {
    pub(crate) fn algorithm(uri: &str) -> Self {
        Self::Algorithm(uri.chars().filter(|c| c.is_ascii_graphic()).take(128).collect())
    }

    /// The reason of the catalogue.
    pub fn reason(&self) -> Reason {
        match self {
            SamlError::Status(_) => Reason::SignInRefused,
            SamlError::Unsolicited => Reason::UnknownSignIn,
            _ => Reason::UntrustedSignIn,
        }
    }
}

impl From<SamlError> for Refusal {
    fn from(error: SamlError) -> Self {
        Refusal::new(error.reason(), error.to_string())
    }
}

/// Every reader of bytes from outside, for the fuzzer: it must not panic.
#[doc(hidden)]
pub fn fuzz(text: &str) {
    let _ = IdentityProvider::read(text, "x", idm_types::Timestamp(0));
    let _ = binding::inflated(text.as_bytes());
    if let Ok(document) = xml::parse(text) {
        if let Ok(form) = c14n::canonical(document.root_element(), None, &["#default", "a"]) {
            // A canonical text is its own canonical form.
            let again = xml::parse(&form)
                .ok()
                .and_then(|document| c14n::canonical(document.root_element(), None, &["#default", "a"]).ok());
            assert!(again.is_none_or(|again| again == form), "canonical form is not stable");
        }
        let _ = signature::verified(document.root_element(), &[]);
    }
}
