//! Whether a caller who was let in may go on: for streams that stay open after their request was decided.

use idm_request::Identity;
use idm_types::{Reason, Timestamp};

use crate::revocation::{is_any_revoked, is_revoked};
use crate::{ArmedPolicy, CredentialTable};

/// The state of a caller's right, some time after the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It holds until this time, if nothing is changed before; `None`: for ever.
    Until(Option<Timestamp>),
    /// It has ended.
    Over(Reason),
}

impl CredentialTable {
    /// The state of the right of a caller by the Credential alone.
    pub fn standing_of(&self, who: &Identity, now: Timestamp) -> Standing {
        let Some(name) = &who.credential else { return Standing::Until(None) };
        match self.standing(name, who.kid.as_deref(), now) {
            Ok(end) => Standing::Until(end),
            Err(reason) => Standing::Over(reason),
        }
    }
}

impl ArmedPolicy {
    /// Whether anything that is revoked could end this caller's right: streams of others need not be watched.
    pub fn can_end(who: &Identity) -> bool {
        who.credential.is_some() || who.session.is_some() || who.token_id.is_some() || who.issued_to.is_some()
    }

    /// Whether a caller of this policy may go on. What cannot be known while the store is away ends nothing: whoever
    /// was let in rightly is not cut off because of that.
    pub fn standing(&self, who: &Identity, table: &CredentialTable, now: Timestamp) -> Standing {
        let until = match table.standing_of(who, now) {
            Standing::Until(end) => end,
            over => return over,
        };
        if let Some(to) = &who.issued_to {
            if let Err(refusal) = table.token_stands(to, &self.plan().key.name, self.vouch(), now) {
                return Standing::Over(refusal.reason);
            }
        }
        let store = self.store();
        if who.session.as_ref().is_some_and(|session| is_any_revoked(store, &session.keys, now) == Ok(true)) {
            return Standing::Over(Reason::SessionEnded);
        }
        let token = who.token_id.as_ref().zip(who.issuer.as_ref());
        if token.is_some_and(|(jti, issuer)| is_revoked(store, issuer, jti, now) == Ok(true)) {
            return Standing::Over(Reason::TokenRevoked);
        }
        Standing::Until(until)
    }
}
