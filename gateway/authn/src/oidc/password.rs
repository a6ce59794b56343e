//! A provider that checks passwords which the gateway sends it: the resource owner password grant (RFC 6749 §4.3), for
//! programs that cannot be changed and a provider that still allows it. The id token is verified as after a sign-in.

use std::sync::Arc;

use idm_trust::{
    Asked, Directory, DirectoryError, DirectoryErrorKind, HashAnswer, Login, LoginAnswer, NameAsked, Password,
};
use idm_types::{Reason, Refusal, Timestamp};
use serde_json::Value;

use super::Provider;

/// A provider as a directory.
pub(crate) struct PasswordGrant(pub(crate) Arc<Provider>);

impl Directory for PasswordGrant {
    fn verify(&self, login: Login) -> Asked<LoginAnswer> {
        let provider = self.0.clone();
        Box::pin(async move {
            let Login { username, bare: _, password, caller, steps: _ } = login;
            let now = Timestamp::now();
            let found = provider.person_by_password(&username, &password, caller, now).await;
            match found.map_err(|refusal| unanswered(&provider, &refusal))? {
                // A provider says the same for a wrong password and for an unknown user.
                Err(why) => Ok(LoginAnswer::Refused(why)),
                Ok(found) => {
                    let name = found.claims.get("preferred_username").and_then(Value::as_str);
                    let username = name.unwrap_or(&found.subject).to_owned();
                    let person =
                        idm_trust::Person { id: found.subject, username, claims: found.claims, groups: Vec::new() };
                    Ok(LoginAnswer::Verified(Box::new(person)))
                }
            }
        })
    }

    fn change(&self, _: Login, _: Password) -> Asked<LoginAnswer> {
        unusable("passwords of a provider are changed at the provider")
    }

    fn hash(&self, _: NameAsked) -> Asked<HashAnswer> {
        unusable("a provider gives no hashes")
    }

    fn look_up(&self, _: String, _: String) -> Asked<LoginAnswer> {
        unusable("people of a provider are not looked up without their passwords")
    }
}

fn unusable<T: Send + 'static>(why: &str) -> Asked<T> {
    Box::pin(std::future::ready(Err(DirectoryError::new(DirectoryErrorKind::Unusable, why))))
}

/// The error for an answer that is none about the password.
fn unanswered(provider: &Provider, refusal: &Refusal) -> DirectoryError {
    let kind = match refusal.reason {
        Reason::ProviderUnavailable => match refusal.retry_after {
            Some(seconds) => DirectoryErrorKind::Busy(seconds),
            None => DirectoryErrorKind::Unavailable,
        },
        // The provider answers that our client may not do this.
        Reason::SignInRefused => DirectoryErrorKind::RefusesUs,
        Reason::UntrustedSignIn => DirectoryErrorKind::Untrusted,
        _ => DirectoryErrorKind::Unusable,
    };
    DirectoryError::new(kind, format!("{}: {}", provider.issuer(), refusal.detail))
}
