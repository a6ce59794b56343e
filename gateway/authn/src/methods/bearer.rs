//! The parts that all methods for tokens share: revocation, binding, and challenges.

use idm_jose::PROOF_ALGORITHMS;
use idm_plan::{Confirmation, Source};
use idm_request::Identity;
use idm_types::{Reason, Refusal};

use crate::binding;
use crate::method::{Challenged, MethodContext, Proven, Recheck};
use crate::revocation::is_revoked;

/// The checks of a token on every request: whether it was revoked, whether the Credentials that it was issued to still
/// stand, and whether the caller holds the key that it is bound to.
pub(super) fn recheck<'a>(confirmation: Confirmation, context: MethodContext<'a>, proven: Proven<'a>) -> Recheck<'a> {
    let Proven { credential, source, identity } = proven;
    if let Err(refusal) = stands(context, identity) {
        return Recheck::Done(Err(refusal));
    }
    let dpop = source.is_some_and(|source| has_scheme(source, "dpop"));
    binding::check(confirmation, identity, credential, dpop, context)
}

/// The same for a policy in shadow: a proof is checked, and not used up.
pub(super) fn judge_again(
    confirmation: Confirmation,
    context: MethodContext<'_>,
    proven: Proven<'_>,
) -> Result<(), Refusal> {
    let Proven { credential, source, identity } = proven;
    stands(context, identity)?;
    let dpop = source.is_some_and(|source| has_scheme(source, "dpop"));
    binding::judge(confirmation, identity, credential, dpop, context)
}

/// Whether neither the token nor a Credential that it was issued to has ended.
pub(crate) fn stands(context: MethodContext<'_>, identity: &Identity) -> Result<(), Refusal> {
    let MethodContext { table, memory, policy, vouch, now, .. } = context;
    if let (Some(jti), Some(issuer)) = (&identity.token_id, &identity.issuer) {
        match is_revoked(&memory.store, issuer, jti, now) {
            Ok(false) => {}
            Ok(true) => return Err(Refusal::new(Reason::TokenRevoked, "")),
            Err(stale) => return Err(Refusal::new(Reason::StoreUnavailable, stale.to_string())),
        }
    }
    match &identity.issued_to {
        Some(to) => table.token_stands(to, &policy.key.name, vouch, now),
        None => Ok(()),
    }
}

fn has_scheme(source: &Source, wanted: &str) -> bool {
    matches!(source, Source::Header { scheme: Some(scheme), .. } if scheme.eq_ignore_ascii_case(wanted))
}

/// The challenges of a method that takes tokens at these places (RFC 6750 §3, RFC 9449 §7.1).
pub(super) fn challenge(sources: &[Source], confirmation: Confirmation, asked: &Challenged<'_>) -> Vec<String> {
    let Challenged { realm, reason, .. } = asked;
    let mut texts: Vec<String> = takes_bearer(sources, asked).into_iter().collect();
    let takes_dpop = sources.iter().any(|source| has_scheme(source, "dpop"));
    if takes_dpop && [Reason::InvalidProof, Reason::TokenNotBound].contains(reason) || confirmation.dpop {
        let algorithms: Vec<_> = PROOF_ALGORITHMS.iter().map(|algorithm| algorithm.name()).collect();
        let error = if *reason == Reason::InvalidProof { ", error=\"invalid_dpop_proof\"" } else { "" };
        texts.push(format!("DPoP realm=\"{realm}\", algs=\"{}\"{error}", algorithms.join(" ")));
    }
    texts
}

/// The challenge of the scheme `Bearer`, where one of the places takes it.
pub(super) fn takes_bearer(sources: &[Source], asked: &Challenged<'_>) -> Option<String> {
    let Challenged { realm, reason, .. } = asked;
    let error = if *reason == Reason::NoCredentials { "" } else { ", error=\"invalid_token\"" };
    let takes = sources.iter().any(|source| has_scheme(source, "bearer"));
    takes.then(|| format!("Bearer realm=\"{realm}\"{error}"))
}
