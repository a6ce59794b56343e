//! From what was compiled to what the gateways read: a bundle that has room in its Secret, and the shards of a large
//! namespace.
//!
//! Whatever has no room, the Credentials are those of now: a key that was revoked is refused although the policies are
//! too large for a Secret.

use std::sync::Arc;

use idm_compile::{Cause, Condition, ObjectId, Report};
use idm_plan::{
    Bundle, BundleError, Credentials, Divided, Made, ObjectKey, PackedShard, Plan, Secrets, divide, divide_again,
    needs_shards, shard_secret,
};

use super::NAME;

/// The name of the Secret with a shard.
pub(crate) fn shard_name(number: usize) -> String {
    shard_secret(NAME, number)
}

/// A bundle as its Secrets hold it; the shards are those of all gateways of the namespace.
pub(crate) struct Sealed {
    pub(crate) bundle: Bundle,
    pub(crate) packed: Vec<u8>,
    pub(crate) shards: Vec<Arc<PackedShard>>,
    /// Why the policies and routes of before are in force instead of those that were compiled.
    pub(crate) kept: Option<String>,
    /// Credentials that have room in no Secret: they are refused.
    pub(crate) too_large: Vec<ObjectKey>,
}

/// The configuration of one gateway before it is sealed.
pub(crate) struct ToSeal<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) secrets: &'a Secrets,
    /// The bundle in force.
    pub(crate) current: Option<&'a Bundle>,
}

/// Seals the configurations of a namespace's gateways, which have all Credentials, in the same shards where they are
/// divided. `reads_shards` says that every ready gateway reads them.
pub(crate) fn seal(
    parts: &[ToSeal<'_>],
    credentials: &Credentials,
    reads_shards: bool,
    made: &mut Made,
) -> Result<Vec<Sealed>, BundleError> {
    let count = parts.iter().filter_map(|part| part.current).map(|current| current.shards.len()).max().unwrap_or(0);
    // A namespace that had shards keeps them.
    let divided = (count > 0 || needs_shards(credentials)) && reads_shards;
    let first = match divided {
        true => divide_again(credentials, count, made)?,
        false => Divided { common: credentials.clone(), ..Divided::default() },
    };
    let mut sealed: Vec<_> = parts.iter().map(|part| try_to_seal(part, &first)).collect();
    let too_large = |outcome: &Result<Sealed, BundleError>| matches!(outcome, Err(BundleError::TooLarge(_)));
    if !divided && sealed.iter().any(too_large) {
        // Older gateways cannot be helped: their configuration would not have room.
        let second = divide_again(credentials, count, made)?;
        let again: Vec<_> = parts.iter().map(|part| try_to_seal(part, &second)).collect();
        if sealed.iter().zip(&again).any(|(before, after)| too_large(before) && !too_large(after)) {
            sealed = again;
        }
    }
    let all = parts.iter().zip(sealed).map(|(part, sealed)| match sealed {
        Err(BundleError::TooLarge(size)) => {
            let why = BundleError::TooLarge(size).to_string();
            // Without one in force there is nothing to keep: the empty plan refuses every request.
            let before = part.current.cloned().unwrap_or_else(|| {
                let plan = Plan { namespace: part.plan.namespace.clone(), ..Plan::default() };
                Bundle::seal(plan, Secrets::default(), Credentials::default(), 0)
            });
            let kept = with_plan_of(before, credentials, part.current, divided, count)?;
            Ok(Sealed { kept: Some(why), ..kept })
        }
        sealed => sealed,
    });
    all.collect()
}

fn try_to_seal(part: &ToSeal<'_>, divided: &Divided) -> Result<Sealed, BundleError> {
    let ToSeal { plan, secrets, current } = part;
    let Divided { common, shards, too_large } = divided;
    let lines = shards.iter().map(|shard| shard.line.clone()).collect();
    let bundle = Bundle::with_index((*plan).clone(), (*secrets).clone(), common.clone(), lines, 0);
    let bundle = numbered(bundle, *current);
    let (shards, too_large) = (shards.clone(), too_large.clone());
    Ok(Sealed { packed: bundle.pack()?, bundle, shards, kept: None, too_large })
}

/// The plan in force with the Credentials of now. The UsagePlans of before stay where the new ones have no room.
fn with_plan_of(
    before: Bundle,
    credentials: &Credentials,
    current: Option<&Bundle>,
    divided: bool,
    count: usize,
) -> Result<Sealed, BundleError> {
    let in_shards = || divide(credentials, count);
    let old = Credentials { usage_plans: before.credentials.usage_plans.clone(), ..Credentials::default() };
    let whole = || Divided { common: credentials.clone(), ..Divided::default() };
    let all =
        [(!divided).then(|| Ok(whole())), Some(in_shards()), Some(in_shards().map(|of| Divided { common: old, ..of }))];
    let mut last = BundleError::TooLarge(0);
    for Divided { common, shards, too_large } in all.into_iter().flatten().filter_map(Result::ok) {
        let lines = shards.iter().map(|shard| shard.line.clone()).collect();
        let bundle = Bundle::with_index(before.plan.clone(), before.secrets.clone(), common, lines, 0);
        let bundle = numbered(bundle, current);
        match bundle.pack_with_reserve() {
            Ok(packed) => return Ok(Sealed { bundle, packed, shards, kept: None, too_large }),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The same content keeps its generation, so that an unchanged configuration is not announced again.
fn numbered(bundle: Bundle, current: Option<&Bundle>) -> Bundle {
    let generation = match current {
        Some(current) if current.digest == bundle.digest => current.generation,
        Some(current) => current.generation + 1,
        None => 1,
    };
    Bundle { generation, ..bundle }
}

impl Sealed {
    /// Tells the objects concerned what is not in force, and why.
    pub(crate) fn report(&self, policies: impl Iterator<Item = ObjectKey>, report: &mut Report) {
        if let Some(why) = &self.kept {
            for policy in policies {
                let id = ObjectId::new("IdentityPolicy", &policy.namespace, &policy.name);
                report.push(&id, "", Condition::Programmed, Cause::InvalidKeptPrevious, why.clone());
            }
        }
        for key in &self.too_large {
            let id = ObjectId::new("Credential", &key.namespace, &key.name);
            let message = "it is too large for a Secret, so its caller is refused: give it fewer attributes and limits";
            if report.about(&id).any(|finding| finding.message == message) {
                continue;
            }
            report.push(&id, "spec", Condition::Accepted, Cause::Invalid, message);
        }
    }
}

#[cfg(test)]
mod tests;
