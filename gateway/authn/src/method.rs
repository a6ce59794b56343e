//! The trait of a method of authentication. Each method is one file in `methods/`.
//!
//! The functions that decide about security have no default: a new method does not compile until it defines how its
//! verdicts may be kept, what is checked on every request, and which challenges a refused caller gets.

use std::collections::HashSet;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use idm_plan::{ObjectKey, Policy, Source};
use idm_request::{ArmedMapping, Facts, Identity, Presented, RequestView, SharedFacts, Unusable};
use idm_trust::IssuerKeys;
use idm_types::{MethodName, Reason, Refusal, Timestamp};

use crate::examined::Examined;
use crate::guessed::GuessedUser;
use crate::judged::Unjudged;
use crate::{CredentialTable, Grants, Memory};

/// One way of authenticating callers, armed with the keys and settings of its policy.
pub(crate) trait Method: Send + Sync {
    /// The name of its kind in records and expressions.
    fn kind(&self) -> &'static str;

    /// The places where it looks for credentials. No credential reaches the upstream from there, unless the policy
    /// forwards the verified one.
    fn sources(&self) -> &[Source];

    /// The credential that a request carries for this method; a request with two of them is refused.
    fn find<'r>(&self, view: RequestView<'r>) -> Result<Option<Presented<'r>>, Reason>;

    /// Verifies a credential. The future is made only if no verdict is kept.
    fn verify<'a>(&'a self, context: MethodContext<'a>, credential: &'a str) -> Verifying<'a>;

    /// Whether a verdict may be used again for the same credential.
    fn caching(&self) -> Caching;

    /// The epoch of the keys or Credentials behind an identity: a verdict is void when it changes. 0 where it depends
    /// on neither.
    fn epoch(&self, identity: &Identity, table: &CredentialTable) -> u64;

    /// Checks every request, whether the verdict is new or kept: proof of possession, revocation, single use. That the
    /// Credential of an identity is still valid is checked before, for all methods.
    fn recheck<'a>(&'a self, context: MethodContext<'a>, proven: Proven<'a>) -> Recheck<'a>;

    /// Verifies a credential for a policy in shadow: at once, without asking anybody and without a trace.
    fn judge(&self, context: MethodContext<'_>, credential: &str) -> Result<Attempt, Unjudged>;

    /// The checks of every request, as far as a policy in shadow can make them.
    fn judge_again(&self, context: MethodContext<'_>, proven: Proven<'_>) -> Result<(), Refusal>;

    /// The `WWW-Authenticate` values for a refusal with status 401; none where the method has no scheme.
    fn challenge(&self, asked: &Challenged<'_>) -> Vec<String>;

    /// What a signature of the request must cover, as `Accept-Signature` says it (RFC 9421 §5.1); `None` where the
    /// method takes none.
    fn accept_signature(&self, _has_body: bool) -> Option<String> {
        None
    }

    /// Whether this method needs the whole body before it can verify this request's credential, and everything about
    /// the credential that can be checked without the body is right.
    fn wants_body(&self, _view: RequestView<'_>, _now: Timestamp) -> bool {
        false
    }

    /// Verifies a signed token as for a request, and says how far it came; `None` where it knows no such tokens.
    fn examine(&self, _context: MethodContext<'_>, _token: &str) -> Option<Examined> {
        None
    }

    /// Whether forwarded client certificates of the proxy at this address are trusted.
    fn believes_proxy(&self, _address: IpAddr) -> bool {
        false
    }
}

/// The future of a verdict.
pub(crate) type Verifying<'a> = Pin<Box<dyn Future<Output = Attempt> + 'a>>;

/// A verdict that is ready at once.
pub(crate) fn at_once<'a>(attempt: Attempt) -> Verifying<'a> {
    Box::pin(std::future::ready(attempt))
}

/// Whether a verdict may be used again for the same credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caching {
    /// Every request needs its own verdict.
    Never,
    /// The verdict is kept under the credential.
    ByCredential,
    /// The verdict is kept under a keyed hash of the credential, so that no password stays in memory.
    ByFingerprint,
}

/// The result of the checks of every request.
pub(crate) enum Recheck<'a> {
    /// The checks are finished: the usual case, which allocates no memory.
    Done(Result<(), Refusal>),
    /// A check has to wait, for example for the store.
    Wait(Pin<Box<dyn Future<Output = Result<(), Refusal>> + 'a>>),
}

/// A credential with the identity that it was verified to have.
#[derive(Clone, Copy)]
pub(crate) struct Proven<'a> {
    pub(crate) credential: &'a str,
    /// The place where it was found; `None` where the method does not read it from a place of its own.
    pub(crate) source: Option<&'a Source>,
    pub(crate) identity: &'a Identity,
}

/// A refusal that is answered with challenges.
pub(crate) struct Challenged<'a> {
    pub(crate) realm: &'a ObjectKey,
    pub(crate) reason: Reason,
    pub(crate) now: Timestamp,
}

/// The verdict of one method. `NotMine` differs from `Rejected`: another method may still be asked.
pub(crate) enum Attempt {
    /// The credential was found where this method looks, but is not of its kind: another method may know it.
    NotMine(Refusal),
    /// The credential is verified.
    Verified(NewVerdict),
    /// The credential is of this method's kind, and refused. No other method is asked.
    Rejected(Refusal),
    /// The keys of this epoch contain none for the credential; after a fetch the same attempt may succeed.
    NeedsKeys(Arc<IssuerKeys>, u64, Refusal),
}

impl Attempt {
    /// The final verdict: verified, or the refusal with a flag that tells whether it is final.
    pub(crate) fn verdict(self) -> Result<NewVerdict, (Refusal, bool)> {
        match self {
            Attempt::Verified(fresh) => Ok(fresh),
            Attempt::Rejected(refusal) | Attempt::NeedsKeys(_, _, refusal) => Err((refusal, true)),
            Attempt::NotMine(refusal) => Err((refusal, false)),
        }
    }

    /// The final verdict where no other method is asked.
    pub(crate) fn accepted(self) -> Result<NewVerdict, Refusal> {
        self.verdict().map_err(|(refusal, _)| refusal)
    }
}

/// A verified identity, with the time until which, and the epoch of the keys or Credentials under which, the verdict
/// may be reused.
pub(crate) struct NewVerdict {
    pub(crate) identity: Rc<Identity>,
    pub(crate) until: u64,
    pub(crate) epoch: u64,
}

/// The context in which a method verifies: its name, its policy, and the request.
#[derive(Clone, Copy)]
pub(crate) struct MethodContext<'a> {
    pub(crate) name: &'a MethodName,
    pub(crate) kind: &'static str,
    pub(crate) policy: &'a Policy,
    pub(crate) mapping: &'a ArmedMapping,
    pub(crate) grants: &'a Grants,
    /// The directories of the namespace that are not suspended, as issuers.
    pub(crate) vouch: &'a HashSet<String>,
    pub(crate) table: &'a CredentialTable,
    pub(crate) memory: &'a Memory,
    pub(crate) view: RequestView<'a>,
    pub(crate) now: Timestamp,
    /// The policy only judges: nothing may be noted.
    pub(crate) shadow: bool,
}

impl MethodContext<'_> {
    /// The upstream's headers that depend on the caller alone, for a caller without a token.
    pub(crate) fn headers(&self, identity: &Identity) -> Result<Vec<(HeaderName, HeaderValue)>, Unusable> {
        let shared = SharedFacts::default();
        let policy = Some(&self.policy.key);
        self.mapping
            .headers(true, &Facts { identity: Some(identity), policy, shared: Some(&shared), ..Facts::default() })
    }

    /// The user of a Credential, as wrong guesses are counted.
    pub(crate) fn guessed(&self, username: &str) -> GuessedUser {
        GuessedUser::of_credential(&self.policy.key.namespace, username)
    }

    pub(crate) fn denied(&self, reason: Reason, detail: impl Into<String>) -> Refusal {
        Refusal::new(reason, detail).by_method(self.name)
    }
}
