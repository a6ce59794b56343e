//! Policies in shadow: which of them judge a rule, and what their status says.

use idm_api::v1alpha1::{Enforcement, IdentityPolicySpec};
use idm_plan::{Handler, ObjectKey, Policy, Shadow, ShadowPart};

use super::Compiler;
use crate::attach::{Attachments, Placed};
use crate::{Cause, Condition, Object, ObjectId};

/// The traffic of a policy in shadow.
#[derive(Default)]
pub(super) struct Judged {
    /// The number of rules that it or its baseline judges.
    rules: usize,
    /// The rules that nothing enforced decides about.
    unprotected: Vec<String>,
    /// A rule that it would not decide about if it were enforced.
    given_way: Option<String>,
}

impl Compiler<'_> {
    /// The version of a policy that is in force.
    pub(super) fn in_force(&self, key: &ObjectKey) -> Option<&Policy> {
        self.policies.iter().find(|policy| policy.key == *key)
    }

    /// Whether a policy judges and decides nothing. The version in force counts: one that decides goes on with it when
    /// a change of it is not valid.
    pub(super) fn is_in_shadow(&self, namespace: &str, policy: &Object<IdentityPolicySpec>) -> bool {
        let in_force = self.in_force(&ObjectKey::new(namespace, &policy.meta.name));
        in_force.map_or(policy.spec.enforcement == Some(Enforcement::Shadow), |policy| policy.shadow)
    }

    /// The policies that judge the requests of a rule. A rule that nothing decides about is judged by nothing: its requests
    /// are refused, and the policy's status says so.
    pub(super) fn shadows(
        &mut self,
        title: &str,
        handler: &Handler,
        attachments: &Attachments,
        targets: &[Placed],
    ) -> Vec<Shadow> {
        let policy = attachments.shadow(targets).map(|key| (key, ShadowPart::Policy));
        let demanding = attachments.demanding_in_shadow(targets).into_iter().map(|key| (key, ShadowPart::Baseline));
        let is_decided = handler.route_policy().is_some() || !matches!(attachments.covering(targets), (None, _));
        let mut shadows = Vec::new();
        for (key, part) in policy.into_iter().chain(demanding) {
            let Some(position) = self.policies.iter().position(|policy| policy.key == *key && policy.shadow) else {
                continue;
            };
            let judged = self.judged.entry(key.clone()).or_default();
            if !is_decided {
                judged.unprotected.push(title.to_owned());
            } else if handler.route_policy().is_some() {
                judged.rules += 1;
                shadows.push(Shadow { policy: position, part });
            }
        }
        for key in attachments.shadows_given_way(targets) {
            self.judged.entry(key.clone()).or_default().given_way.get_or_insert_with(|| title.to_owned());
        }
        shadows.sort_unstable();
        shadows
    }

    /// Each policy in shadow says that it is not enforced, and where it judges nothing.
    pub(super) fn report_shadows(&mut self, attachments: &Attachments) {
        for (target, policy) in attachments.unprotected_services(&self.world.namespace) {
            self.judged.entry(policy.clone()).or_default().unprotected.push(target.to_string());
        }
        let in_force = self.policies.iter().filter(|policy| policy.shadow).map(|policy| policy.key.clone());
        for key in in_force.collect::<Vec<_>>() {
            let id = ObjectId::new("IdentityPolicy", &key.namespace, &key.name);
            let Judged { rules, mut unprotected, given_way } = self.judged.remove(&key).unwrap_or_default();
            unprotected.sort();
            unprotected.dedup();
            if let Some(first) = unprotected.first() {
                let more = unprotected.len() - 1;
                let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
                let message = format!(
                    "a policy in shadow protects nothing, and nothing else decides about {first}{more}: its requests \
                     are refused. Attach a policy with `enforcement: Enforce` there, or enforce this one"
                );
                let condition = if rules == 0 { Condition::Accepted } else { Condition::Programmed };
                self.report.push(&id, "spec.enforcement", condition, Cause::Unprotected, message);
            } else if let (0, Some(rule)) = (rules, given_way) {
                let message = format!("a more specific policy decides about {rule}: this one would not, if enforced");
                self.report.push(&id, "", Condition::Programmed, Cause::Overridden, message);
            } else {
                let message = "it is not enforced: it judges requests that others decide about, and changes nothing";
                self.report.push(&id, "spec.enforcement", Condition::Programmed, Cause::Shadow, message);
            }
        }
    }
}
