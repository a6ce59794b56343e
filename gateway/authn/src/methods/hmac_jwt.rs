//! JWTs that callers sign themselves with secrets of their Credentials.

use idm_jose::{OwnExpectations, TokenError, Unverified};
use idm_plan::{Confirmation, HmacJwtMethod, Proof, Source};
use idm_request::{Binding, Identity, Presented, RequestView};
use idm_types::{Reason, Refusal, Timestamp};

use super::bearer;
use crate::CredentialTable;
use crate::caller_keys::is_live;
use crate::credential::{ProvenBy, admit_key};
use crate::judged::Unjudged;
use crate::method::{Attempt, Caching, Challenged, Method, MethodContext, Proven, Recheck, Verifying, at_once};

/// The method. A token that is bound to a key is refused without it; none has to be.
pub(super) struct ArmedHmacJwt {
    plan: HmacJwtMethod,
}

impl Method for ArmedHmacJwt {
    fn kind(&self) -> &'static str {
        "hmacJwt"
    }

    fn sources(&self) -> &[Source] {
        &self.plan.sources
    }

    fn find<'r>(&self, view: RequestView<'r>) -> Result<Option<Presented<'r>>, Reason> {
        idm_request::find(view, self.sources())
    }

    fn verify<'a>(&'a self, context: MethodContext<'a>, credential: &'a str) -> Verifying<'a> {
        at_once(self.attempt(context, credential))
    }

    fn judge(&self, context: MethodContext<'_>, credential: &str) -> Result<Attempt, Unjudged> {
        Ok(self.attempt(context, credential))
    }

    fn judge_again(&self, context: MethodContext<'_>, proven: Proven<'_>) -> Result<(), Refusal> {
        bearer::judge_again(Confirmation::default(), context, proven)
    }

    fn caching(&self) -> Caching {
        Caching::ByCredential
    }

    /// That of the Credential, which changes with the secrets of its keys.
    fn epoch(&self, identity: &Identity, table: &CredentialTable) -> u64 {
        table.epoch_of(identity)
    }

    fn recheck<'a>(&'a self, context: MethodContext<'a>, proven: Proven<'a>) -> Recheck<'a> {
        bearer::recheck(Confirmation::default(), context, proven)
    }

    fn challenge(&self, asked: &Challenged<'_>) -> Vec<String> {
        bearer::takes_bearer(self.sources(), asked).into_iter().collect()
    }
}

impl ArmedHmacJwt {
    pub(super) fn new(plan: &HmacJwtMethod) -> Self {
        Self { plan: plan.clone() }
    }

    /// Verifies a token. The method knows those whose `kid` or `iss` is that of a Credential; another one may know the
    /// rest.
    fn attempt(&self, context: MethodContext<'_>, token: &str) -> Attempt {
        let MethodContext { table, now, .. } = context;
        let refused = |error: &TokenError| context.denied(error.reason(), error.to_string());
        let unverified = match Unverified::parse(token) {
            Ok(unverified) => unverified,
            Err(error) => return Attempt::NotMine(refused(&error)),
        };
        let (kid, issuer) = (unverified.jws().kid(), unverified.claimed_issuer());
        let (credential, keys) = match table.own_token(kid, issuer, &self.plan.only) {
            Ok(Some(found)) => found,
            Ok(None) => {
                let named = |name: Option<&str>| name.map_or_else(|| "none".to_owned(), |name| format!("`{name}`"));
                let detail = format!("no Credential has the kid {} or the iss {}", named(kid), named(issuer));
                return Attempt::NotMine(context.denied(Reason::UnknownIssuer, detail));
            }
            Err(()) => {
                let detail = "its `kid` and its `iss` are those of two Credentials";
                return Attempt::Rejected(context.denied(Reason::AmbiguousCredential, detail));
            }
        };
        let Some(key) = keys.iter().find(|key| unverified.is_signed_by(key.key())).or(keys.first()) else {
            return Attempt::Rejected(context.denied(Reason::UnknownKey, "the Credential has no key"));
        };
        let plan = key.plan();
        let expected = OwnExpectations {
            issuer: match &credential.proof {
                Proof::HmacJwt { issuer, .. } => issuer.as_deref(),
                _ => None,
            },
            audiences: &self.plan.audiences,
            skew: self.plan.skew,
        };
        let verified = match unverified.verify_own(key.key(), &expected, now) {
            Ok(verified) => verified,
            Err(error) => return Attempt::Rejected(refused(&error)),
        };
        if let Err(refusal) = is_live(&credential.key, plan, now) {
            return Attempt::Rejected(refusal.by_method(context.name));
        }
        let expires = verified.expires();
        if let Some(most) = self.plan.max_lifetime_seconds.filter(|most| self.lives_longer(expires, *most, now)) {
            let detail = format!("its `exp` is more than {most} s from now");
            return Attempt::Rejected(context.denied(Reason::UnusableClaim, detail));
        }
        let until = Timestamp(expires.0.saturating_add(self.plan.skew.seconds().saturating_mul(1000)));
        let end = plan.expires.into_iter().chain([until]).min();
        let binding = Binding::of(verified.claims());
        admit_key(context, credential, ProvenBy { key: Some(plan.id.clone()), end, content: None, binding })
    }

    fn lives_longer(&self, expires: Timestamp, most: u64, now: Timestamp) -> bool {
        let latest = now.seconds().saturating_add(most).saturating_add(self.plan.skew.seconds());
        expires.seconds() > latest
    }
}
