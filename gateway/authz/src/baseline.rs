//! The demands of a Gateway on all of its requests, beside those of the policy of each route.

use idm_authn::{ArmedAccess, Use};
use idm_expr::{EvaluationError, Expression};
use idm_plan::{Baseline, ObjectKey};
use idm_request::{Facts, Identity, RequestView};
use idm_types::{Reason, Refusal, RuleName, Timestamp};

/// A baseline, ready to be asked.
pub struct ArmedBaseline {
    policy: ObjectKey,
    methods: Option<Vec<String>>,
    issuers: Option<Vec<String>>,
    access: ArmedAccess,
    conditions: Vec<(RuleName, Expression)>,
}

impl ArmedBaseline {
    /// Arms the baseline of a policy. The error names the part that cannot be used.
    pub fn arm(policy: &ObjectKey, baseline: &Baseline) -> Result<Self, String> {
        // The limits are armed beside those of policies.
        let Baseline { methods, issuers, access, conditions, limits: _ } = baseline;
        let arm = |(name, holds): &(RuleName, _)| Ok((name.clone(), Expression::arm(holds)?));
        Ok(Self {
            policy: policy.clone(),
            methods: methods.clone(),
            issuers: issuers.clone(),
            access: ArmedAccess::arm(access)?,
            conditions: conditions.iter().map(arm).collect::<Result<_, String>>()?,
        })
    }

    /// Whether the request, its address and its time are allowed: needs no caller.
    pub fn check_request(&self, view: RequestView<'_>, now: Timestamp) -> Result<(), Refusal> {
        if self.access.is_open() {
            return Ok(());
        }
        self.access.check(Use::Request(view), "", &|| format!("the baseline of IdentityPolicy {}", self.policy), now)
    }

    /// Whether the caller was let in by a method and an issuer that are allowed, and all conditions hold.
    pub fn check_caller(&self, facts: &Facts<'_>, identity: &Identity) -> Result<(), Refusal> {
        let refused = |what: String| {
            Err(Refusal::new(Reason::BaselineNotMet, format!("the baseline of IdentityPolicy {}: {what}", self.policy)))
        };
        if let Some(methods) = self.methods.as_ref().filter(|methods| !methods.iter().any(|of| of == identity.kind)) {
            let (name, kind) = (&identity.method, identity.kind);
            return refused(format!("method `{name}` is of kind `{kind}`; allowed are {}", methods.join(", ")));
        }
        if let (Some(issuers), Some(issuer)) = (&self.issuers, &identity.issuer)
            && !issuers.contains(issuer)
        {
            return refused(format!("issuer `{issuer}` may not vouch for callers here"));
        }
        let facts = Facts { identity: Some(identity), ..*facts };
        for (name, condition) in &self.conditions {
            let undecided = |error: EvaluationError| {
                let detail = format!("the baseline of IdentityPolicy {}, `{name}`: {error}", self.policy);
                Refusal::new(error.reason(Reason::RuleUndecided), detail)
            };
            if !condition.holds(&facts).map_err(undecided)? {
                return refused(format!("condition `{name}` does not hold"));
            }
        }
        Ok(())
    }
}
