//! Policies that judge requests which others decide about, and change nothing about them.
//!
//! They are asked after the enforced policy permitted the request, with its own view of it. What they may do is bounded
//! by what they are given: they have no body, no trace to write to, and no way to wait; their expressions have a budget
//! of their own, and their methods leave no trace ([`idm_authn::Unjudged`] says what they leave out).

use std::rc::Rc;

use idm_authn::{NoCaller, Unjudged, alike};
use idm_plan::{Llm, ObjectKey, PathForms, Policy, ReadPath, RouteRule, Shadow, ShadowPart};
use idm_request::{Facts, Identity, RequestView, SharedFacts};
use idm_types::{Decider, MethodName, Reason, Refusal, RuleName};

use crate::engine::{ArmedRule, EngineError, PolicyInForce};
use crate::{Context, forms};

/// The outcome of a request in shadow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShadowOutcome {
    /// It would have been permitted.
    Permitted,
    /// It would have been refused.
    Denied(Reason),
    /// There is no verdict.
    NotJudged(Unjudged),
}

impl ShadowOutcome {
    /// Its name in records and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Permitted => "Permitted",
            Self::Denied(_) => "Denied",
            Self::NotJudged(_) => "NotJudged",
        }
    }

    /// The code of its reason; empty where it needs none.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Permitted => "",
            Self::Denied(reason) => reason.code(),
            Self::NotJudged(why) => why.code(),
        }
    }
}

/// The verdict of a policy, or of its baseline, that is in shadow.
#[derive(Clone, Debug)]
pub struct ShadowVerdict {
    /// The position of the policy.
    pub policy: usize,
    /// The part that judged.
    pub part: ShadowPart,
    /// Its name and the namespace before it.
    pub name: String,
    /// The outcome.
    pub outcome: ShadowOutcome,
    /// The rule that would have granted or refused.
    pub rule: Option<RuleName>,
    /// For the audit: what was compared.
    pub detail: String,
}

/// The policies that judge the requests of a rule.
pub(crate) struct ArmedShadow {
    policy: usize,
    part: ShadowPart,
    /// Methods of the policy that decides, with those of this one that need no verdict of their own.
    alike: Vec<(MethodName, MethodName)>,
}

impl ArmedShadow {
    /// Those of a rule of a plan with these policies.
    pub(crate) fn arm(rule: &RouteRule, policies: &[Policy]) -> Result<Box<[Self]>, EngineError> {
        let wrong = || EngineError::Plan(format!("{} points at a policy that is not in shadow", rule.name));
        let enforced = rule.handler.route_policy().and_then(|position| policies.get(position));
        let arm = |&Shadow { policy, part }: &Shadow| {
            let shadow = policies.get(policy).filter(|policy| policy.shadow).ok_or_else(wrong)?;
            let alike = enforced.map(|enforced| alike(enforced, shadow)).unwrap_or_default();
            Ok(Self { policy, part, alike })
        };
        rule.shadows.iter().map(arm).collect()
    }
}

/// The verdicts of what judges a rule in shadow on a request of `who`, which is permitted.
pub(crate) fn judge(
    context: Context<'_>,
    rule: &ArmedRule,
    view: RequestView<'_>,
    path: &ReadPath<'_>,
    who: &Rc<Identity>,
) -> Vec<ShadowVerdict> {
    let shadows = rule.shadows.iter().filter_map(|shadow| Some((shadow, context.engine.policies.get(shadow.policy)?)));
    let judge = |(shadow, policy): (&ArmedShadow, &PolicyInForce)| {
        let judging = Judging { context, policy, view };
        let result = match shadow.part {
            ShadowPart::Policy => judging.as_policy(path, who, &shadow.alike),
            ShadowPart::Baseline => judging.as_baseline(who),
        };
        let (outcome, rule, detail) = told(result);
        let key: &ObjectKey = &policy.armed.plan().key;
        ShadowVerdict { policy: shadow.policy, part: shadow.part, name: key.to_string(), outcome, rule, detail }
    };
    shadows.map(judge).collect()
}

/// A request that one policy judges.
struct Judging<'c> {
    context: Context<'c>,
    policy: &'c PolicyInForce,
    view: RequestView<'c>,
}

impl Judging<'_> {
    fn as_policy(
        &self,
        path: &ReadPath<'_>,
        who: &Rc<Identity>,
        alike: &[(MethodName, MethodName)],
    ) -> Result<Option<RuleName>, NoCaller> {
        let Self { context, policy, view } = self;
        let plan = policy.armed.plan();
        if !path.forms.is_empty() {
            // Which rule another reading is of was asked for the enforced policy.
            forms::check(path, plan.paths.iter().copied().collect::<PathForms>(), |_| true)?;
        }
        let known = alike.iter().find(|(name, _)| *name == who.method).map(|(_, name)| (name, who));
        let who = policy.armed.judge(*view, context.table(policy), context.cache, context.now, known)?;
        if policy.steps.opens() || plan.llm.as_ref().is_some_and(Llm::reads_bodies) {
            return Err(Unjudged::BodyUnread.into());
        }
        let shared = SharedFacts::of(*view);
        let facts = self.facts(&shared, &who);
        Ok(policy.rules.judge(view.method, &facts, &who)?.cloned())
    }

    fn as_baseline(&self, who: &Rc<Identity>) -> Result<Option<RuleName>, NoCaller> {
        let Some((baseline, _)) = &self.policy.baseline else { return Err(Unjudged::Unavailable.into()) };
        baseline.check_request(self.view, self.context.now)?;
        let shared = SharedFacts::of(self.view);
        baseline.check_caller(&self.facts(&shared, who), who)?;
        Ok(None)
    }

    fn facts<'f>(&'f self, shared: &'f SharedFacts<'f>, who: &'f Identity) -> Facts<'f> {
        Facts {
            shared: Some(shared),
            identity: Some(who),
            policy: Some(&self.policy.armed.plan().key),
            gateway: &self.context.process.gateway,
            now: Some(self.context.now),
            ..Facts::default()
        }
    }
}

fn told(result: Result<Option<RuleName>, NoCaller>) -> (ShadowOutcome, Option<RuleName>, String) {
    match result {
        Ok(rule) => (ShadowOutcome::Permitted, rule, String::new()),
        Err(NoCaller::Unjudged(why)) => (ShadowOutcome::NotJudged(why), None, why.plain().to_owned()),
        // A store or keys that are away say nothing about the caller.
        Err(NoCaller::Refused(Refusal { reason, detail, .. })) if !reason.is_denial() => {
            (ShadowOutcome::NotJudged(Unjudged::Unavailable), None, detail)
        }
        Err(NoCaller::Refused(Refusal { reason, detail, by, .. })) => {
            let rule = by.and_then(|by| if let Decider::Rule(rule) = by { Some(rule) } else { None });
            (ShadowOutcome::Denied(reason), rule, detail)
        }
    }
}
