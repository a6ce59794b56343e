//! The demands of a policy on all routes of its Gateways.

use std::collections::BTreeSet;

use idm_api::v1alpha1 as wire;
use idm_expr::{Expression, HeadersRead};
use idm_plan::{Access, Baseline, Expr, Limit, LimitKey, LimitKind, Policy, Variable};

use super::Notes;
use super::limits::lower_policy_limits;
use super::policy::expr;
use super::restrictions::lower_access;
use crate::{Cause, World};

/// The baseline; what cannot be lowered is a finding, and then the policy is not in force.
pub(crate) fn lower_baseline(
    baseline: &wire::Baseline,
    targets: &[wire::TargetReference],
    notes: &mut Notes<'_>,
) -> Baseline {
    let wire::Baseline { methods, issuers, access, conditions, limits } = baseline;
    for (i, target) in targets.iter().enumerate().filter(|(_, of)| of.kind != "Gateway" && of.kind != CLASS) {
        let message = format!(
            "{} '{}' is no Gateway: a policy with `baseline` must target Gateways or GatewayClasses only, since it is \
             for all of their routes",
            target.kind, target.name
        );
        notes.fail::<()>(format!("spec.targetRefs[{i}].kind"), Cause::Invalid, message);
    }
    let lists = [("methods", methods.as_deref()), ("issuers", issuers.as_deref())];
    for (name, _) in lists.into_iter().filter(|(_, list)| list.is_some_and(<[String]>::is_empty)) {
        let message = "the list must not be empty: leave it out to allow all";
        notes.fail::<()>(format!("spec.baseline.{name}"), Cause::Invalid, message);
    }
    for (i, method) in methods.iter().flatten().enumerate() {
        if !wire::Method::KINDS.contains(&method.as_str()) {
            let message = format!("'{method}' must be one of {}", wire::Method::KINDS.join(", "));
            notes.fail::<()>(format!("spec.baseline.methods[{i}]"), Cause::Invalid, message);
        }
    }
    access.iter().for_each(|access| check_access(access, notes));
    let mut names = BTreeSet::new();
    let mut lowered = Vec::new();
    for (i, wire::BaselineCondition { name, holds }) in conditions.iter().flatten().enumerate() {
        let path = format!("spec.baseline.conditions[{i}]");
        if !names.insert(name) {
            let message = format!("condition name '{name}' must be used once");
            notes.fail::<()>(format!("{path}.name"), Cause::Invalid, message);
        }
        let path = format!("{path}.holds");
        let Some(holds) = expr(&path, holds, Variable::ALL, notes) else { continue };
        if reads_headers(&holds) {
            let message = "a condition of a baseline must not read `request.headers`: callers write them, and routes \
                           decide which of them reach anyone";
            notes.fail::<()>(path, Cause::Invalid, message);
        }
        lowered.push((name.clone(), holds));
    }
    let baseline = Baseline {
        methods: methods.clone(),
        issuers: issuers.clone(),
        access: access
            .as_ref()
            .map_or_else(Access::default, |access| lower_access("spec.baseline.access", access, notes)),
        conditions: lowered,
        limits: lower_policy_limits("spec.baseline.limits", limits.as_deref(), &[], true, notes),
    };
    let names_callers = methods.as_ref().is_some_and(|methods| methods.iter().all(|method| method != "anonymous"));
    let by_caller = |limit: &Limit| {
        let is_size = matches!(limit.kind, LimitKind::RequestSize { .. } | LimitKind::ResponseSize { .. });
        limit.key == LimitKey::Caller && !is_size
    };
    if let Some(i) = baseline.limits.iter().position(by_caller).filter(|_| !names_callers) {
        let message = "callers without a credential cannot be told apart, so all of them would share one count: set \
                       `key` to 'Address' or 'AllCallers', or `methods` without 'anonymous'";
        notes.fail::<()>(format!("spec.baseline.limits[{i}].key"), Cause::Invalid, message);
    }
    let of_models = |limit: &Limit| match limit.kind {
        LimitKind::Tokens { .. } => Some("tokens"),
        LimitKind::Cost { .. } => Some("cost"),
        _ => None,
    };
    let mut numbered = baseline.limits.iter().enumerate();
    if let Some((i, field)) = numbered.find_map(|(i, limit)| of_models(limit).map(|field| (i, field))) {
        let message = format!("`{field}` must be set in the policy with `llm`: other routes use none");
        notes.fail::<()>(format!("spec.baseline.limits[{i}].{field}"), Cause::Invalid, message);
    }
    let is_empty = methods.is_none() && issuers.is_none() && baseline.access.is_open();
    if is_empty && conditions.is_none() && limits.is_none() {
        let message = "baseline must demand something: set a member or leave `baseline` out";
        notes.fail::<()>("spec.baseline", Cause::Invalid, message);
    }
    baseline
}

/// A baseline is for all policies, and most of them have no models.
fn check_access(access: &wire::Access, notes: &mut Notes<'_>) {
    let mut refuse = |message: &str| notes.fail::<()>("spec.baseline.access", Cause::Invalid, message);
    if access.policies.is_some() || access.except_policies.is_some() {
        refuse("`access` of a baseline must not name policies: it is for all of them");
    }
    if access.models.is_some() || access.except_models.is_some() {
        refuse("`access` of a baseline must not name models: list them in `llm` of the policy: other routes have none");
    }
}

const CLASS: &str = "GatewayClass";

/// A policy on a GatewayClass is one of the operator's namespace, and has a baseline and nothing else; any other has
/// `authentication`.
pub(crate) fn check_class_targets(world: &World, spec: &wire::IdentityPolicySpec, notes: &mut Notes<'_>) {
    let wire::IdentityPolicySpec {
        target_refs,
        enforcement: _,
        authentication,
        authorization,
        limits,
        jose,
        llm,
        token_service,
        upstream,
        disclosure,
        cors,
        paths,
        resource,
        open_streams,
        baseline,
    } = spec;
    let Some(first) = target_refs.iter().position(|target| target.kind == CLASS) else {
        if authentication.is_none() {
            let message = "`authentication` must be set, except in a baseline of a GatewayClass";
            notes.fail::<()>("spec.authentication", Cause::Invalid, message);
        }
        return;
    };
    if world.platform_namespace() != world.namespace {
        let message = format!(
            "a GatewayClass is of the cluster: only policies of the operator's namespace, '{}', may target one",
            world.platform_namespace()
        );
        notes.fail::<()>(format!("spec.targetRefs[{first}]"), Cause::RefNotPermitted, message);
    }
    let others = [
        ("authentication", authentication.is_some()),
        ("authorization", authorization.is_some()),
        ("limits", limits.is_some()),
        ("jose", jose.is_some()),
        ("llm", llm.is_some()),
        ("tokenService", token_service.is_some()),
        ("upstream", upstream.is_some()),
        ("disclosure", disclosure.is_some()),
        ("cors", cors.is_some()),
        ("paths", paths.is_some()),
        ("resource", resource.is_some()),
        ("openStreams", open_streams.is_some()),
    ];
    for (name, _) in others.iter().filter(|(_, is_set)| *is_set) {
        let message = "a policy on a GatewayClass must have a `baseline` and nothing besides but `enforcement`: it \
                       decides about no route";
        notes.fail::<()>(format!("spec.{name}"), Cause::Invalid, message);
    }
    if target_refs.iter().any(|target| target.kind != CLASS) {
        let message = "a policy on a GatewayClass must target nothing else: write another for Gateways";
        notes.fail::<()>("spec.targetRefs", Cause::Invalid, message);
    }
    if baseline.is_none() {
        let message = "a policy on a GatewayClass must have a `baseline`: it decides about no route";
        notes.fail::<()>("spec.baseline", Cause::Invalid, message);
    }
}

fn reads_headers(condition: &Expr) -> bool {
    let mut read = HeadersRead::default();
    // A condition that cannot be read is a finding of its own.
    read.add(condition).is_ok() && (read.any || !read.names.is_empty())
}

/// Whether a condition reads claims of a token.
pub(crate) fn asks_for_claims(baseline: &Baseline) -> bool {
    baseline.conditions.iter().any(|(_, condition)| reads_token(condition))
}

/// The same of a policy's rules.
pub(crate) fn rules_ask_for_claims(policy: &Policy) -> bool {
    policy.rules.iter().filter_map(|rule| rule.when.as_ref()).any(reads_token)
}

fn reads_token(condition: &Expr) -> bool {
    Expression::arm(condition).map_or(true, |armed| armed.uses(Variable::Token))
}
