//! The tiers of callers, and everything that limits or restricts one of them.

use idm_plan::{Access, Credential, ModelList, ObjectKey, Selector, UsagePlan};
use idm_request::{Identity, IssuedTo};
use idm_types::{Reason, Refusal, Timestamp};

use crate::credential::CredentialTable;
use crate::limits::ArmedLimit;
use crate::restrictions::{ArmedAccess, Use};

/// A tier with its live parts.
pub(crate) struct ArmedPlan {
    plan: UsagePlan,
    access: ArmedAccess,
    limits: Vec<ArmedLimit>,
}

/// The limits and restrictions of a Credential itself, and the tiers that select it by its labels, by position.
pub(crate) struct Usage {
    access: ArmedAccess,
    limits: Vec<ArmedLimit>,
    plans: Vec<usize>,
}

impl ArmedPlan {
    /// Arms a tier. The error names it.
    pub(crate) fn arm(plan: &UsagePlan) -> Result<Self, String> {
        let broken = |problem: String| format!("usage plan {}: {problem}", plan.key);
        Ok(Self {
            access: ArmedAccess::arm(&plan.access).map_err(broken)?,
            limits: ArmedLimit::arm(&plan.limits, &format!("plan {}", plan.key), &format!("{}/", plan.key.name))
                .map_err(broken)?,
            plan: plan.clone(),
        })
    }

    /// The tier.
    pub(crate) fn plan(&self) -> &UsagePlan {
        &self.plan
    }

    fn selects_role(&self, roles: &[String]) -> bool {
        self.plan.roles.iter().any(|role| roles.iter().any(|held| held == role.as_str()))
    }

    fn replaces(&self, other: &Self) -> bool {
        self.plan.replaces.contains(&other.plan.key.name)
    }
}

impl Usage {
    /// Whether nothing limits or restricts the Credential.
    pub(crate) fn is_open(&self) -> bool {
        self.access.is_open() && self.limits.is_empty() && self.plans.is_empty()
    }

    /// The usage of a Credential among these tiers. The error names no secret.
    pub(crate) fn arm(credential: &Credential, plans: &[ArmedPlan]) -> Result<Self, String> {
        let is_selected = |plan: &ArmedPlan| {
            plan.plan.credentials.as_ref().is_some_and(|selector: &Selector| selector.accepts(&credential.labels))
        };
        Ok(Self {
            access: ArmedAccess::arm(credential.access.as_deref().unwrap_or(&Access::default()))?,
            limits: ArmedLimit::arm(&credential.limits, &format!("credential {}", credential.key), "credential/")?,
            plans: (0..).zip(plans).filter(|(_, plan)| is_selected(plan)).map(|(position, _)| position).collect(),
        })
    }
}

impl CredentialTable {
    /// The Credentials behind an identity: its own, or those that its token was issued to.
    fn behind<'i>(&'i self, identity: &'i Identity) -> impl Iterator<Item = (&'i Credential, Option<&'i Usage>)> {
        let own = identity.credential.as_deref().and_then(|name| self.with_usage(name));
        let issued = identity.issued_to.as_ref().map(|to| self.issued(to)).unwrap_or_default();
        own.into_iter().chain(issued.into_iter().flatten())
    }

    fn issued(&self, to: &IssuedTo) -> [Option<(&Credential, Option<&Usage>)>; 2] {
        let IssuedTo { client, subject, directory } = to;
        let of_client = self.client(client, &Selector::ANY).map(|(credential, _)| credential);
        let of_user = self.by_username(subject, &Selector::ANY).map(|(credential, _)| credential);
        let of_user = of_user.filter(|_| directory.is_none());
        [of_client, of_user].map(|credential| self.with_usage(&credential?.key.name))
    }

    /// The tiers of a caller, without those that others of them replace.
    fn plans_of(&self, identity: &Identity) -> Vec<&ArmedPlan> {
        if self.plans().is_empty() {
            return Vec::new();
        }
        let by_label: Vec<usize> = self
            .behind(identity)
            .filter_map(|(_, usage)| usage)
            .flat_map(|usage| usage.plans.iter().copied())
            .collect();
        let is_one =
            |(position, plan): &(usize, &ArmedPlan)| by_label.contains(position) || plan.selects_role(&identity.roles);
        let all: Vec<&ArmedPlan> = (0..).zip(self.plans()).filter(is_one).map(|(_, plan)| plan).collect();
        let stays = |plan: &&ArmedPlan| !all.iter().any(|other| other.replaces(plan));
        all.iter().copied().filter(stays).collect()
    }

    /// Checks that a caller may use its credential so: by its Credentials and by its tiers.
    pub(crate) fn allows(&self, identity: &Identity, of: Use<'_>, policy: &str, now: Timestamp) -> Result<(), Refusal> {
        let restricted = self.behind(identity).filter_map(|(credential, usage)| Some((credential, &usage?.access)));
        for (credential, access) in restricted.filter(|(_, access)| !access.is_open()) {
            access.check(of, policy, &|| format!("Credential {}", credential.key), now)?;
        }
        for ArmedPlan { plan, access, .. } in self.plans_of(identity) {
            if let Some(problem) = &plan.refused {
                let detail = format!("UsagePlan {}, which counts for the caller: {problem}", plan.key);
                return Err(Refusal::new(Reason::UsagePlanInvalid, detail));
            }
            if !access.is_open() {
                access.check(of, policy, &|| format!("UsagePlan {}", plan.key), now)?;
            }
        }
        Ok(())
    }

    /// The lists of language models that count for a caller, each with the kind and name of the object that has it.
    pub fn models_of<'t>(&'t self, identity: &'t Identity) -> Vec<(&'static str, &'t ObjectKey, &'t ModelList)> {
        let own = self.behind(identity).filter_map(|(credential, usage)| {
            usage.map(|usage| ("Credential", &credential.key, usage.access.models()))
        });
        let tiers = self.plans_of(identity).into_iter().map(|of| ("UsagePlan", &of.plan.key, of.access.models()));
        own.chain(tiers).filter(|(_, _, list)| !list.is_open()).collect()
    }

    /// The limits of a caller, each with the name under which its requests count there.
    pub fn limits_of<'t>(&'t self, identity: &'t Identity) -> Vec<(&'t ArmedLimit, &'t str)> {
        let mut limits = Vec::new();
        // The requests of a Credential count together, with whichever of its proofs or tokens they come.
        let mut caller = identity.id.as_str();
        for (credential, usage) in self.behind(identity) {
            caller = &credential.key.name;
            limits.extend(usage.into_iter().flat_map(|usage| &usage.limits).map(|limit| (limit, "")));
        }
        for plan in self.plans_of(identity) {
            limits.extend(plan.limits.iter().map(|limit| (limit, caller)));
        }
        limits
    }
}
