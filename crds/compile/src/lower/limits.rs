//! Limits of policies, Credentials and UsagePlans, and the UsagePlans themselves.

use std::collections::{BTreeMap, BTreeSet};

use idm_api::v1alpha1 as wire;
use idm_plan::{Access, Calendar, Limit, LimitKey, LimitKind, Method, MethodKind, ObjectKey, Selector, UsagePlan};
use idm_types::{CalendarSpan, RoleName};

use super::Notes;
use super::llm::{lower_amount, lower_currency};
use super::restrictions::{lower_access, zone_name};
use super::source::lower_selector;
use crate::{Cause, Condition, Object, ObjectId, Report, World};

/// The completion tokens that are reserved for a call that does not say how many it takes.
const DEFAULT_OUTPUT_TOKENS: i64 = 4096;

/// The limits of a policy. Those that count by caller need callers that can be told apart.
pub(crate) fn lower_policy_limits(
    at: &str,
    limits: Option<&[wire::PolicyLimit]>,
    methods: &[Method],
    has_llm: bool,
    notes: &mut Notes<'_>,
) -> Vec<Limit> {
    let all: Vec<wire::Limit> = limits.iter().copied().flatten().map(wire::PolicyLimit::limit).collect();
    let mut lowered = lower_limits(at, limits.map(|_| &all[..]), notes);
    for (i, (of, limit)) in limits.iter().copied().flatten().zip(&mut lowered).enumerate() {
        limit.key = match of.key {
            None | Some(wire::LimitKey::Caller) => LimitKey::Caller,
            Some(wire::LimitKey::Address) => LimitKey::Address,
            Some(wire::LimitKey::AllCallers) => LimitKey::AllCallers,
        };
        let is_size = matches!(limit.kind, LimitKind::RequestSize { .. } | LimitKind::ResponseSize { .. });
        if is_size && (of.key.is_some() || of.on_store_loss.is_some()) {
            let message = "`key` and `onStoreLoss` must not be set for a size: nothing is counted";
            notes.fail::<()>(format!("{at}[{i}]"), Cause::Invalid, message);
        }
        if matches!(limit.kind, LimitKind::Tokens { .. }) && !has_llm {
            let message = "`tokens` must be set only with `llm`: no other upstream uses tokens";
            notes.fail::<()>(format!("{at}[{i}].tokens"), Cause::Invalid, message);
        }
        let open = methods.iter().find(|method| matches!(method.kind, MethodKind::Anonymous));
        if let Some(method) = open.filter(|_| limit.key == LimitKey::Caller && !is_size) {
            let message = format!(
                "the callers of method '{}' cannot be told apart, so all of them would share one count: set `key` to \
                 'Address' or 'AllCallers'",
                method.name
            );
            notes.fail::<()>(format!("{at}[{i}].key"), Cause::Invalid, message);
        }
    }
    lowered
}

/// Limits of one caller. All of them are in the result as long as none is a finding.
pub(crate) fn lower_limits(path: &str, limits: Option<&[wire::Limit]>, notes: &mut Notes<'_>) -> Vec<Limit> {
    let Some(limits) = limits else { return Vec::new() };
    if limits.is_empty() {
        notes.fail::<()>(path, Cause::Invalid, "at least one limit must be given; leave `limits` out for none");
    }
    let mut names = BTreeSet::new();
    let mut lowered = Vec::new();
    for (i, limit) in limits.iter().enumerate() {
        let path = format!("{path}[{i}]");
        if !names.insert(&limit.name) {
            let message = format!("limit name '{}' must be used once", limit.name);
            notes.fail::<()>(format!("{path}.name"), Cause::Invalid, message);
        }
        lowered.extend(lower_limit(&path, limit, notes));
    }
    check_quotas(path, &lowered, notes);
    lowered
}

fn lower_limit(path: &str, limit: &wire::Limit, notes: &mut Notes<'_>) -> Option<Limit> {
    let wire::Limit { name, rate, quota, concurrency, request_size, response_size, tokens, cost, on_store_loss } =
        limit;
    let is_name = name.len() <= 63 && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if name.is_empty() || !is_name || name.starts_with('-') || name.ends_with('-') {
        let message = "a name must be at most 63 lower-case letters, digits and dashes, with none at its ends";
        return notes.fail(format!("{path}.name"), Cause::Invalid, message);
    }
    let kind = match (rate, quota, concurrency, request_size, response_size, tokens, cost) {
        (Some(rate), None, None, None, None, None, None) => lower_rate(path, rate, notes)?,
        (None, Some(wire::RequestQuota { requests, per, time_zone }), None, None, None, None, None) => {
            LimitKind::Quota {
                requests: positive(&format!("{path}.quota.requests"), *requests, notes)?,
                calendar: lower_calendar(&format!("{path}.quota.timeZone"), *per, time_zone.as_deref(), notes)?,
            }
        }
        (None, None, Some(wire::ConcurrencyLimit { requests }), None, None, None, None) => {
            LimitKind::Concurrency { requests: positive(&format!("{path}.concurrency.requests"), *requests, notes)? }
        }
        (None, None, None, Some(size), None, None, None) => {
            LimitKind::RequestSize { max_bytes: lower_size(&format!("{path}.requestSize"), size, notes)? }
        }
        (None, None, None, None, Some(size), None, None) => {
            LimitKind::ResponseSize { max_bytes: lower_size(&format!("{path}.responseSize"), size, notes)? }
        }
        (None, None, None, None, None, Some(budget), None) => lower_budget(&format!("{path}.tokens"), budget, notes)?,
        (None, None, None, None, None, None, Some(budget)) => lower_cost(&format!("{path}.cost"), budget, notes)?,
        _ => {
            let message = "limit must have exactly one of `rate`, `quota`, `concurrency`, `requestSize`, \
                           `responseSize`, `tokens`, `cost`";
            return notes.fail(path, Cause::Invalid, message);
        }
    };
    let is_size = matches!(kind, LimitKind::RequestSize { .. } | LimitKind::ResponseSize { .. });
    if is_size && on_store_loss.is_some() {
        let message = "`onStoreLoss` must not be set for a size: nothing is counted";
        return notes.fail(format!("{path}.onStoreLoss"), Cause::Invalid, message);
    }
    let local_on_loss = *on_store_loss == Some(wire::OnStoreLoss::Local);
    Some(Limit { name: name.clone(), key: LimitKey::Caller, kind, local_on_loss })
}

fn lower_rate(path: &str, rate: &wire::RateLimit, notes: &mut Notes<'_>) -> Option<LimitKind> {
    let wire::RateLimit { requests, per_seconds, burst } = rate;
    let requests = positive(&format!("{path}.rate.requests"), *requests, notes)?;
    let per_seconds = positive(&format!("{path}.rate.perSeconds"), *per_seconds, notes)?;
    let burst = match burst {
        Some(burst) => positive(&format!("{path}.rate.burst"), *burst, notes)?,
        None => (requests / 10).max(1),
    };
    Some(LimitKind::Rate { requests, per_seconds, burst })
}

fn lower_budget(path: &str, budget: &wire::TokenBudget, notes: &mut Notes<'_>) -> Option<LimitKind> {
    let wire::TokenBudget { tokens, per, time_zone, default_output_tokens } = budget;
    let tokens = positive(&format!("{path}.tokens"), *tokens, notes)?;
    let default_output = default_output_tokens.unwrap_or(DEFAULT_OUTPUT_TOKENS);
    let default_output = positive(&format!("{path}.defaultOutputTokens"), default_output, notes)?;
    if default_output >= tokens {
        let message = format!(
            "`defaultOutputTokens` ({default_output}) must be less than `tokens`, or calls that do not say how many \
             tokens they take never pass"
        );
        return notes.fail(format!("{path}.defaultOutputTokens"), Cause::Invalid, message);
    }
    let calendar = lower_calendar(&format!("{path}.timeZone"), *per, time_zone.as_deref(), notes)?;
    Some(LimitKind::Tokens { tokens, calendar, default_output })
}

fn lower_cost(path: &str, budget: &wire::CostBudget, notes: &mut Notes<'_>) -> Option<LimitKind> {
    let wire::CostBudget { amount, currency, per, time_zone, default_output_tokens } = budget;
    let amount = lower_amount(&format!("{path}.amount"), amount, notes)?;
    if amount.0 == 0 {
        return notes.fail(format!("{path}.amount"), Cause::Invalid, "the amount must be greater than 0");
    }
    let currency = lower_currency(&format!("{path}.currency"), currency, notes)?;
    let default_output = default_output_tokens.unwrap_or(DEFAULT_OUTPUT_TOKENS);
    let default_output = positive(&format!("{path}.defaultOutputTokens"), default_output, notes)?;
    let calendar = lower_calendar(&format!("{path}.timeZone"), *per, time_zone.as_deref(), notes)?;
    Some(LimitKind::Cost { amount, currency, calendar, default_output })
}

fn lower_size(path: &str, size: &wire::SizeLimit, notes: &mut Notes<'_>) -> Option<u64> {
    let wire::SizeLimit { max_bytes } = size;
    match u64::try_from(*max_bytes) {
        Ok(bytes) => Some(bytes),
        Err(_) => notes.fail(format!("{path}.maxBytes"), Cause::Invalid, "`maxBytes` must not be negative"),
    }
}

fn positive(path: &str, number: i64, notes: &mut Notes<'_>) -> Option<u64> {
    match u64::try_from(number) {
        Ok(number @ 1..) => Some(number),
        _ => notes.fail(path, Cause::Invalid, "the number must be greater than 0"),
    }
}

fn lower_calendar(path: &str, per: CalendarSpan, zone: Option<&str>, notes: &mut Notes<'_>) -> Option<Calendar> {
    Some(Calendar { per, zone: zone_name(path, zone.unwrap_or("Etc/UTC"), notes)? })
}

/// A quota of a shorter span that the quota of a longer one makes useless is a mistake.
fn check_quotas(path: &str, limits: &[Limit], notes: &mut Notes<'_>) {
    let quotas = limits.iter().enumerate().filter_map(|(i, limit)| match &limit.kind {
        LimitKind::Quota { requests, calendar } => Some((i, limit, *requests, calendar.per)),
        _ => None,
    });
    let quotas: Vec<_> = quotas.collect();
    for (i, limit, requests, per) in &quotas {
        let longer = quotas.iter().find(|(_, _, of_longer, longer)| longer > per && of_longer <= requests);
        if let Some((_, other, ..)) = longer {
            let message = format!(
                "limit '{}' is never reached: '{}' allows no more in a longer span; remove one or raise the other",
                limit.name, other.name
            );
            notes.fail::<()>(format!("{path}[{i}].quota"), Cause::Invalid, message);
        }
    }
}

/// The UsagePlans of a namespace, ordered by name. One that is not valid keeps its version in `previous`; one that
/// never was refuses its callers, because they would have no limits without it.
pub(crate) fn lower_usage_plans(world: &World, previous: &[UsagePlan], report: &mut Report) -> Vec<UsagePlan> {
    let names: BTreeSet<&str> = world.usage_plans.iter().map(|plan| plan.meta.name.as_str()).collect();
    let mut replaced: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for plan in &world.usage_plans {
        let of = plan.spec.replaces.iter().flatten().map(String::as_str).collect();
        replaced.insert(&plan.meta.name, of);
    }
    let mut plans = Vec::new();
    for object in &world.usage_plans {
        let mut notes = Notes::new(report, ObjectId::new("UsagePlan", &world.namespace, &object.meta.name));
        for (i, name) in object.spec.replaces.iter().flatten().enumerate() {
            let path = format!("spec.replaces[{i}]");
            if !names.contains(name.as_str()) {
                let message = format!("UsagePlan '{name}' must exist in this namespace");
                notes.fail::<()>(path, Cause::RefNotFound, message);
            } else if reaches(&replaced, name, &object.meta.name) {
                let message = format!("UsagePlan '{name}' replaces this one, too: remove one of the two");
                notes.fail::<()>(path, Cause::Invalid, message);
            }
        }
        let plan = lower_usage_plan(world, object, &mut notes).filter(|_| !notes.failed);
        let wire::PlanSelector { credentials, roles } = &object.spec.selects;
        let selects = (credentials.as_ref().map(|of| lower_selector(Some(of))), roles.clone().unwrap_or_default());
        plans.push(plan.unwrap_or_else(|| kept(world, &object.meta.name, selects, previous, report)));
    }
    for broken in world.broken.iter().filter(|broken| broken.id.kind == "UsagePlan") {
        plans.push(kept(world, &broken.meta.name, (Some(Selector::ANY), Vec::new()), previous, report));
    }
    plans.sort_by(|a, b| a.key.cmp(&b.key));
    plans
}

/// The plan that counts in place of one that is not valid.
fn kept(
    world: &World,
    name: &str,
    (credentials, roles): (Option<Selector>, Vec<RoleName>),
    previous: &[UsagePlan],
    report: &mut Report,
) -> UsagePlan {
    let (key, id) = (ObjectKey::new(&world.namespace, name), ObjectId::new("UsagePlan", &world.namespace, name));
    if let Some(last_good) = previous.iter().find(|plan| plan.key == key && plan.refused.is_none()) {
        let message = "the last valid version stays in force until the plan is valid again";
        report.push(&id, "", Condition::Programmed, Cause::InvalidKeptPrevious, message);
        return last_good.clone();
    }
    let message = "the callers that the plan selects are refused until it is valid: without it they had no limits";
    report.push(&id, "", Condition::Programmed, Cause::Invalid, message);
    let credentials = if credentials.is_none() && roles.is_empty() { Some(Selector::ANY) } else { credentials };
    let refused = Some("it is not valid".to_owned());
    UsagePlan { key, credentials, roles, replaces: vec![], limits: vec![], access: Access::default(), refused }
}

/// Whether a plan replaces another, possibly by way of others.
fn reaches(replaced: &BTreeMap<&str, Vec<&str>>, from: &str, to: &str) -> bool {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(name) = open.pop() {
        if name == to {
            return true;
        }
        if seen.insert(name) {
            open.extend(replaced.get(name).into_iter().flatten());
        }
    }
    false
}

fn lower_usage_plan(world: &World, object: &Object<wire::UsagePlanSpec>, notes: &mut Notes<'_>) -> Option<UsagePlan> {
    let wire::UsagePlanSpec { selects, replaces, limits, access } = &object.spec;
    let wire::PlanSelector { credentials, roles } = selects;
    if credentials.is_none() && roles.is_none() {
        notes.fail::<()>("spec.selects", Cause::Invalid, "selects must have `credentials`, `roles` or both");
    }
    if credentials.as_ref().is_some_and(|selector| selector.match_labels.is_empty()) {
        let message = "at least one label must be given: an empty list would select every Credential";
        notes.fail::<()>("spec.selects.credentials.matchLabels", Cause::Invalid, message);
    }
    if limits.is_none() && access.is_none() {
        notes.fail::<()>("spec", Cause::Invalid, "plan must have `limits`, `access` or both");
    }
    let limits = lower_limits("spec.limits", limits.as_deref(), notes);
    let access = access.as_ref().map_or_else(Access::default, |access| lower_access("spec.access", access, notes));
    if notes.failed {
        return None;
    }
    Some(UsagePlan {
        key: ObjectKey::new(&world.namespace, &object.meta.name),
        credentials: credentials.as_ref().map(|selector| lower_selector(Some(selector))),
        roles: roles.clone().unwrap_or_default(),
        replaces: replaces.clone().unwrap_or_default(),
        limits,
        access,
        refused: None,
    })
}
