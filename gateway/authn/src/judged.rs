//! Callers as a policy in shadow would know them: for a request that another policy has let in already.
//!
//! The methods verify as they do elsewhere, with two differences. Nothing is asked or waited for, and nothing is
//! written: no guess is counted, no nonce or proof used up, no session read, no use of a key noted. A verdict that
//! cannot be had so is none, and says why. What comes out is an identity and no
//! [`Authenticated`](crate::Authenticated): nothing can be forwarded with it.

use std::cell::RefCell;
use std::rc::Rc;

use idm_plan::{MethodKind, Policy};
use idm_request::{Identity, RequestView};
use idm_types::{MethodName, Reason, Refusal, Timestamp};

use crate::cache::Scope;
use crate::method::{Attempt, Caching, Method, MethodContext, NewVerdict, Proven};
use crate::restrictions::Use;
use crate::{ArmedPolicy, CredentialTable, TokenCache};

/// Why a policy in shadow has no verdict on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Unjudged {
    /// An introspection endpoint, a directory or a provider would have to be asked.
    OutsideServer,
    /// The keys of the issuer are not known yet.
    KeysUnknown,
    /// The password was not verified lately, and checking it is slow and counts as a guess.
    PasswordUnverified,
    /// The credential can be used once.
    SingleUse,
    /// The session would have to be read, which prolongs it.
    SessionUnread,
    /// Clients were not asked for the certificate that the policy looks for.
    CertificateNotAsked,
    /// The body would have to be read: for JOSE steps, or for rules about a prompt.
    BodyUnread,
    /// Something that the verdict rests on is not available.
    Unavailable,
}

impl Unjudged {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::OutsideServer,
        Self::KeysUnknown,
        Self::PasswordUnverified,
        Self::SingleUse,
        Self::SessionUnread,
        Self::CertificateNotAsked,
        Self::BodyUnread,
        Self::Unavailable,
    ];

    /// Its name in records and metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::OutsideServer => "OutsideServer",
            Self::KeysUnknown => "KeysUnknown",
            Self::PasswordUnverified => "PasswordUnverified",
            Self::SingleUse => "SingleUse",
            Self::SessionUnread => "SessionUnread",
            Self::CertificateNotAsked => "CertificateNotAsked",
            Self::BodyUnread => "BodyUnread",
            Self::Unavailable => "Unavailable",
        }
    }

    /// For people.
    pub const fn plain(self) -> &'static str {
        match self {
            Self::OutsideServer => "an outside server would have to be asked, which a policy in shadow never does",
            Self::KeysUnknown => "the keys of the issuer are not known yet",
            Self::PasswordUnverified => "the password was not verified a moment ago, and a check would be a guess",
            Self::SingleUse => "the credential can be used once, and a policy in shadow uses none up",
            Self::SessionUnread => "the session would have to be read, which prolongs it",
            Self::CertificateNotAsked => "the client showed no certificate; one is asked for by enforced policies only",
            Self::BodyUnread => "the body would have to be read",
            Self::Unavailable => "something that the verdict rests on is not available",
        }
    }
}

/// The caller is not known in shadow.
#[derive(Debug)]
pub enum NoCaller {
    /// The policy would refuse.
    Refused(Refusal),
    /// There is no verdict.
    Unjudged(Unjudged),
}

impl From<Refusal> for NoCaller {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Unjudged> for NoCaller {
    fn from(why: Unjudged) -> Self {
        Self::Unjudged(why)
    }
}

/// The methods of two policies that verify alike and make the same identity: the name in `enforced`, and the name in
/// `shadow`. A caller whom the one let in needs no further verdict of the other.
pub fn alike(enforced: &Policy, shadow: &Policy) -> Vec<(MethodName, MethodName)> {
    if enforced.key.namespace != shadow.key.namespace || enforced.identity != shadow.identity {
        return Vec::new();
    }
    let same = |of: &idm_plan::Method| shadow.methods.iter().find(|other| other.kind == of.kind);
    let named = enforced.methods.iter().filter(|of| !matches!(of.kind, MethodKind::Anonymous));
    named.filter_map(|of| Some((of.name.clone(), same(of)?.name.clone()))).collect()
}

impl ArmedPolicy {
    /// The caller of a request that another policy let in. `known` is the identity that a method made which is
    /// [alike](alike) the one of this name.
    pub fn judge(
        &self,
        view: RequestView<'_>,
        table: &CredentialTable,
        cache: &RefCell<TokenCache>,
        now: Timestamp,
        known: Option<(&MethodName, &Rc<Identity>)>,
    ) -> Result<Rc<Identity>, NoCaller> {
        if let Some(assumption) = self.memory().assumed() {
            return Ok(self.assume(assumption, view, table, now)?.identity().clone());
        }
        let mut not_mine: Option<Refusal> = None;
        for (position, (name, method)) in self.methods().enumerate() {
            let context = MethodContext { shadow: true, ..self.context(name, method.kind(), table, view, now) };
            if let Some((_, who)) = known.filter(|(of, _)| *of == name) {
                self.admits_in_shadow(context, who)?;
                return Ok(who.clone());
            }
            let found = method.find(view).map_err(|reason| Refusal::new(reason, "").by_method(name))?;
            let Some(presented) = found else { continue };
            let scope = Scope { basis: self.basis().id(), method: position };
            let who = match judge_credential(&**method, context, presented.value, scope, cache)? {
                Ok(who) => who,
                Err((refusal, true)) => return Err(refusal.into()),
                Err((refusal, false)) => {
                    not_mine.get_or_insert(refusal);
                    continue;
                }
            };
            self.admits_in_shadow(context, &who)?;
            let source = method.sources().get(presented.source);
            let proven = Proven { credential: presented.value, source, identity: &who };
            method.judge_again(context, proven).map_err(|refusal| refusal.by_method(name))?;
            return Ok(who);
        }
        let is_mtls = |method: &idm_plan::Method| matches!(method.kind, MethodKind::Mtls(_));
        match (not_mine, self.anonymous()) {
            (Some(refusal), _) => Err(refusal.into()),
            _ if view.certificate.is_none() && self.plan().methods.iter().any(is_mtls) => {
                Err(Unjudged::CertificateNotAsked.into())
            }
            (None, Some(name)) => Ok(Rc::new(Identity::nobody(name, "anonymous"))),
            (None, None) => Err(Refusal::new(Reason::NoCredentials, self.expectation()).into()),
        }
    }

    /// Whether the caller's Credential and its key may be used here and now. No use is noted.
    fn admits_in_shadow(&self, context: MethodContext<'_>, who: &Identity) -> Result<(), Refusal> {
        let refused = |refusal: Refusal| refusal.by_method(context.name);
        if let Some(credential) = &who.credential {
            let ended = context.table.standing(credential, who.kid.as_deref(), context.now);
            ended.map_err(|reason| refused(Refusal::new(reason, format!("Credential {credential}"))))?;
        }
        let used = Use::Request(context.view);
        context.table.allows(who, used, &self.plan().key.name, context.now).map_err(refused)
    }
}

type Verdict = Result<Rc<Identity>, (Refusal, bool)>;

/// One method's verdict, kept or new; the flag tells whether a refusal is final. Verdicts of this policy are kept under
/// its own basis, so none is taken for that of another one.
fn judge_credential(
    method: &dyn Method,
    context: MethodContext<'_>,
    credential: &str,
    scope: Scope,
    cache: &RefCell<TokenCache>,
) -> Result<Verdict, Unjudged> {
    let keeps = method.caching() == Caching::ByCredential;
    let now = context.now.0;
    let hash = cache.borrow().hash(scope, credential);
    let epoch = |identity: &Identity| method.epoch(identity, context.table);
    if let Some(who) = keeps.then(|| cache.borrow_mut().get(hash, scope, credential, now, epoch)).flatten() {
        return Ok(Ok(who));
    }
    let attempt = method.judge(context, credential)?;
    if let Attempt::NeedsKeys(..) = attempt {
        return Err(Unjudged::KeysUnknown);
    }
    Ok(attempt.verdict().map(|NewVerdict { identity, until, epoch }| {
        if keeps {
            cache.borrow_mut().put(hash, scope, credential, epoch, now..until, identity.clone());
        }
        identity
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_number_and_a_name_of_its_own() {
        let mut codes: Vec<_> = Unjudged::ALL.iter().map(|why| why.code()).collect();
        assert!(Unjudged::ALL.iter().enumerate().all(|(position, why)| *why as usize == position));
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Unjudged::ALL.len());
    }
}
