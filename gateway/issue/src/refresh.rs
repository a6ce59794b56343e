//! Refresh tokens: each works once and is replaced by the next; the use of an old one revokes the whole family (RFC
//! 6749 §6, RFC 9700 §4.14.2).

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use idm_authn::{Authenticated, KnownClient, family_key};
use idm_plan::TokenGrant;
use idm_request::{Identity, OfDirectory};
use idm_store::Key;
use idm_types::{Reason, Refusal, Timestamp, hex};
use serde::{Deserialize, Serialize};

use crate::form::Form;
use crate::grant::{Granted, of_user};
use crate::mint::random;
use crate::{Answered, Ask, Refused, TokenIssuer};

/// The longest time that access tokens of a family stay valid after the family ended.
const MAX_LIFETIME_MS: u64 = 86_400_000;

/// All tokens of one sign-in, as stored: no value in it can be used as a token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Family {
    /// The client that it was issued to.
    pub(crate) client: String,
    /// The user.
    #[serde(flatten)]
    pub(crate) user: FamilyUser,
    pub(crate) scopes: Vec<String>,
    audiences: Vec<String>,
    /// The DPoP key that it is bound to.
    dpop: Option<String>,
    /// The end of the family, in milliseconds.
    pub(crate) until: u64,
    /// The number of times that it was used.
    uses: u64,
    /// SHA-256 of the secret of the only token that is valid next.
    next: String,
}

/// The user of a family.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FamilyUser {
    /// By Credential.
    Credential(String),
    /// A person of a directory.
    Person {
        /// The Federation, by uid.
        federation: String,
        /// The id that stays.
        id: String,
        /// The user name in the directory's spelling.
        username: String,
    },
}

impl FamilyUser {
    pub(crate) fn of(subject: &Identity) -> Self {
        match &subject.directory {
            Some(person) => {
                let OfDirectory { federation, id, username } = (**person).clone();
                Self::Person { federation, id, username }
            }
            None => Self::Credential(subject.credential.clone().unwrap_or_default()),
        }
    }
}

impl fmt::Display for FamilyUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credential(name) => write!(f, "Credential {name}"),
            Self::Person { federation, id, .. } => write!(f, "`{id}` of the Federation with the uid {federation}"),
        }
    }
}

impl Family {
    pub(crate) fn new(
        client: &KnownClient<'_>,
        user: FamilyUser,
        scopes: &[String],
        audiences: &[String],
        dpop: Option<String>,
    ) -> Self {
        let (client, scopes, audiences) = (client.plan.client_id.clone(), scopes.to_vec(), audiences.to_vec());
        Self { client, user, scopes, audiences, dpop, until: 0, uses: 0, next: String::new() }
    }

    fn bytes(&self) -> Result<Vec<u8>, Refused> {
        serde_json::to_vec(self).map_err(|_| Refused::new(Reason::InternalError, "a family cannot be written"))
    }
}

fn hashed(secret: &str) -> String {
    hex(digest(&SHA256, secret.as_bytes()).as_ref())
}

/// The family and the secret from the text of a refresh token.
pub(crate) fn split(token: &str) -> Option<(&str, &str)> {
    let usable = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    token.split_once('.').filter(|(family, secret)| token.len() <= 128 && usable(family) && usable(secret))
}

impl TokenIssuer {
    fn family_at(&self, family: &str, ask: Ask<'_>) -> Key {
        Key::of(&["refresh", &ask.policy.plan().uid, family])
    }

    /// Begins a family; returns its name and its first token.
    pub(crate) async fn begin(&self, family: Family, ask: Ask<'_>) -> Result<(String, String), Refused> {
        let (name, secret) = (random::<16>()?, random::<32>()?);
        let for_ms = self.plan.refresh_seconds.saturating_mul(1000);
        let family = Family { until: ask.now.0.saturating_add(for_ms), next: hashed(&secret), ..family };
        ask.policy.store().put(&self.family_at(&name, ask), family.bytes()?, for_ms, ask.now).await?;
        let token = format!("{name}.{secret}");
        Ok((name, token))
    }

    /// Reads a family, as a value and as the stored bytes.
    pub(crate) async fn family(&self, name: &str, ask: Ask<'_>) -> Result<Option<(Family, Vec<u8>)>, Refused> {
        let Some(bytes) = ask.policy.store().get(&self.family_at(name, ask), ask.now).await? else { return Ok(None) };
        let family: Family = serde_json::from_slice(&bytes)
            .map_err(|_| Refused::new(Reason::InternalError, "a family in the store cannot be read"))?;
        Ok(Some((family, bytes)).filter(|(family, _)| ask.now.0 < family.until))
    }

    /// Ends a family: its refresh token, and its access tokens at all gateways.
    pub(crate) async fn end(&self, name: &str, ask: Ask<'_>) -> Result<(), Refused> {
        let store = ask.policy.store();
        // Revoked first: if the second step fails, no issued token works any more nevertheless.
        store
            .revoke(&family_key(&self.plan.issuer, name), Timestamp(ask.now.0.saturating_add(MAX_LIFETIME_MS)), ask.now)
            .await?;
        store.remove(&self.family_at(name, ask)).await?;
        Ok(())
    }

    /// The user of a family, as far as they are still admitted.
    pub(crate) async fn user_again(&self, user: &FamilyUser, ask: Ask<'_>) -> Result<Authenticated, Refusal> {
        match user.clone() {
            FamilyUser::Credential(name) => self.clients.user_again(ask.for_clients(), &name),
            FamilyUser::Person { federation, id, username } => {
                let person = OfDirectory { federation, id, username };
                self.clients.person_again(ask.for_clients(), &person).await
            }
        }
    }

    /// The grant of RFC 6749 §6.
    pub(crate) async fn refresh(
        &self,
        form: &Form,
        client: &KnownClient<'_>,
        dpop: Option<String>,
        ask: Ask<'_>,
    ) -> Result<Answered, Refused> {
        let invalid = |why: &str| Refused::new(Reason::InvalidGrant, why);
        let token = form.wanted("refresh_token")?.reveal();
        let (name, secret) = split(token).ok_or_else(|| invalid("it is not written as a refresh token"))?;
        let found = self
            .family(name, ask)
            .await?
            .ok_or_else(|| invalid("the refresh token is not known, has ended or was revoked"))?;
        let (family, written) = found;
        if family.client != client.plan.client_id {
            return Err(invalid("the refresh token was issued to another client"));
        }
        if verify_slices_are_equal(hashed(secret).as_bytes(), family.next.as_bytes()).is_err() {
            // Only a party that had one of its tokens knows the name of a family.
            self.end(name, ask).await?;
            return Err(Refused::new(Reason::RefreshTokenReused, format!("the sign-in of {}", family.user)));
        }
        if family.uses >= self.plan.refresh_uses {
            self.end(name, ask).await?;
            return Err(invalid("the refresh token was used as often as the policy allows"));
        }
        if family.dpop.is_some() && family.dpop != dpop {
            return Err(Refused::new(Reason::InvalidProof, "the refresh token is bound to another DPoP key"));
        }
        let subject = self.user_again(&family.user, ask).await.map_err(|denied| of_user(denied.into()))?;
        let still: Vec<String> =
            family.scopes.iter().filter(|scope| client.plan.scopes.contains(scope)).cloned().collect();
        let scopes = self.scopes(form, &still)?;
        let audiences = self.audiences(form, client, Some(&family.audiences))?;
        let secret = random::<32>()?;
        let next = Family { uses: family.uses + 1, next: hashed(&secret), ..family.clone() };
        if !ask.policy.store().replace(&self.family_at(name, ask), &written, next.bytes()?, ask.now).await? {
            // Another request used the same token at the same moment.
            self.end(name, ask).await?;
            return Err(Refused::new(Reason::RefreshTokenReused, format!("the sign-in of {}", family.user)));
        }
        let (subject, refresh) = (subject.identity().clone(), Some(format!("{name}.{secret}")));
        self.issue(
            TokenGrant::RefreshToken,
            Granted { client, subject, scopes, audiences, dpop, family: Some(name.to_owned()), refresh },
            ask,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refresh_token_has_two_parts() {
        assert_eq!(split("abc.d-_9"), Some(("abc", "d-_9")));
        for wrong in ["", ".", "abc", "a.", ".a", "a.b.c", "a b.c", &format!("a.{}", "x".repeat(127))] {
            assert_eq!(split(wrong), None, "{wrong}");
        }
    }
}
