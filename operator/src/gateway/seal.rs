//! From what was compiled to what the gateways read: a bundle that has room in its Secret, and the shards of a large
//! namespace.
//!
//! Whatever has no room, the Credentials are those of now: a key that was revoked is refused although the policies are
//! too large for a Secret.

use std::sync::Arc;

use idm_compile::{Cause, Compiled, Condition, ObjectId, Report};
use idm_plan::{
    Bundle, BundleError, Credentials, Divided, Made, ObjectKey, PackedShard, Plan, Secrets, divide, divide_again,
    needs_shards, shard_secret,
};

use super::NAME;

/// The name of the Secret with a shard.
pub(crate) fn shard_name(number: usize) -> String {
    shard_secret(NAME, number)
}

/// A bundle as its Secrets hold it.
pub(crate) struct Sealed {
    pub(crate) bundle: Bundle,
    pub(crate) packed: Vec<u8>,
    pub(crate) shards: Vec<Arc<PackedShard>>,
    /// Why the policies and routes of before are in force instead of those that were compiled.
    pub(crate) kept: Option<String>,
    /// Credentials that have room in no Secret: they are refused.
    pub(crate) too_large: Vec<ObjectKey>,
}

/// Seals what was compiled. `current` is in force; `reads_shards` says that every ready gateway reads them.
pub(crate) fn seal(
    compiled: &Compiled,
    current: Option<Bundle>,
    reads_shards: bool,
    made: &mut Made,
) -> Result<Sealed, BundleError> {
    let Compiled { plan, secrets, credentials, report: _, routes: _, ports: _, coverage: _ } = compiled;
    let divided = in_shards(credentials, current.as_ref()) && reads_shards;
    let mut attempt = |divided| try_to_seal(plan, secrets, credentials, current.as_ref(), divided, made);
    let sealed = match attempt(divided) {
        // Older gateways cannot be helped: their configuration would not have room.
        Err(BundleError::TooLarge(_)) if !divided => attempt(true),
        sealed => sealed,
    };
    match sealed {
        Ok(sealed) => Ok(sealed),
        Err(BundleError::TooLarge(size)) => {
            let why = BundleError::TooLarge(size).to_string();
            // Without one in force there is nothing to keep: the empty plan refuses every request.
            let before = current.clone().unwrap_or_else(|| {
                let plan = Plan { namespace: plan.namespace.clone(), ..Plan::default() };
                Bundle::seal(plan, Secrets::default(), Credentials::default(), 0)
            });
            let kept = with_plan_of(before, credentials, current.as_ref(), divided)?;
            Ok(Sealed { kept: Some(why), ..kept })
        }
        Err(error) => Err(error),
    }
}

/// Whether a namespace has shards: one that had them keeps them.
fn in_shards(credentials: &Credentials, current: Option<&Bundle>) -> bool {
    current.is_some_and(|current| !current.shards.is_empty()) || needs_shards(credentials)
}

fn try_to_seal(
    plan: &Plan,
    secrets: &Secrets,
    credentials: &Credentials,
    current: Option<&Bundle>,
    divided: bool,
    made: &mut Made,
) -> Result<Sealed, BundleError> {
    let Divided { common, shards, too_large } = match divided {
        true => divide_again(credentials, current.map_or(0, |current| current.shards.len()), made)?,
        false => Divided { common: credentials.clone(), ..Divided::default() },
    };
    let lines = shards.iter().map(|shard| shard.line.clone()).collect();
    let bundle = Bundle::with_index(plan.clone(), secrets.clone(), common, lines, 0);
    let bundle = numbered(bundle, current);
    Ok(Sealed { packed: bundle.pack()?, bundle, shards, kept: None, too_large })
}

/// The plan in force with the Credentials of now. The UsagePlans of before stay where the new ones have no room.
fn with_plan_of(
    before: Bundle,
    credentials: &Credentials,
    current: Option<&Bundle>,
    divided: bool,
) -> Result<Sealed, BundleError> {
    let in_shards = || divide(credentials, before.shards.len());
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
            report.push(&id, "spec", Condition::Accepted, Cause::Invalid, message);
        }
    }
}

#[cfg(test)]
mod tests;
