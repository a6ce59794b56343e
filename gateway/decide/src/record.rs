//! The audit record of a decision, made of its trace.

use std::net::IpAddr;
use std::time::Duration;

use http::Method;
use idm_audit::{
    Decision, DecisionBlock, DecisionIdentity, DecisionIssued, DecisionPolicy, DecisionRequest, DecisionShadow,
    DecisionTrace, DecisionUsage, Outcome, Record, SCHEMA,
};
use idm_plan::ShadowPart;
use idm_transform::Usage;
use idm_types::{DecisionId, MethodName, Reason, RuleName, Timestamp};

use crate::{Armed, Engine, Process, ShadowVerdict, Trace};

/// Longer paths and hosts are truncated in the record, in characters; other code limits the request itself.
pub const MAX_TEXT: usize = 2048;

/// The facts of a record that the decision's trace does not have.
#[derive(Clone, Copy, Debug)]
pub struct Conclusion<'c> {
    /// The id of the decision.
    pub id: DecisionId,
    /// The time when the request arrived.
    pub time: Timestamp,
    /// The time from there to the head of the answer.
    pub took: Duration,
    /// The request's method.
    pub method: &'c Method,
    /// The address of the caller.
    pub source: IpAddr,
    /// The reason of a refusal or failure; `None` for a success.
    pub reason: Option<Reason>,
    /// The status that the caller got; 0 when the caller had disconnected.
    pub status: u16,
    /// The values that were compared.
    pub detail: &'c str,
    /// `host:port` of the backend that was asked.
    pub upstream: Option<&'c str>,
    /// `host:port` of the mirrors that a copy was for.
    pub mirrors: &'c [&'c str],
    /// The tokens that a call to a language model used.
    pub usage: Option<&'c Usage>,
}

/// The record of one request. `armed` is the bundle that decided; `None` before there was one.
pub fn record<'r>(
    armed: Option<&'r Armed>,
    process: &'r Process,
    trace: &'r Trace,
    conclusion: Conclusion<'r>,
) -> Record<'r> {
    let Conclusion { id, time, took, method, source, reason, status, detail, upstream, mirrors, usage } = conclusion;
    let engine = armed.map(Armed::engine);
    let policy = engine.zip(trace.policy).and_then(|(engine, policy)| engine.policy(policy));
    Record::Decision(Decision {
        time,
        id,
        schema: SCHEMA,
        // That of the policy, which may be another than the gateway's.
        namespace: policy
            .map_or_else(|| engine.map_or("", |engine| engine.namespace()), |policy| &policy.key.namespace),
        gateway: &process.gateway,
        generation: armed.map_or(0, |armed| armed.version().0),
        outcome: outcome(reason),
        status,
        stage: trace.stage,
        reason,
        detail,
        duration_us: took.as_micros() as u64,
        request: DecisionRequest {
            method: method.as_str(),
            host: bounded(&trace.host),
            path: bounded(&trace.path),
            source,
        },
        trace: trace.distributed.map(|context| DecisionTrace { id: context.trace }),
        route: engine.zip(trace.rule).and_then(|(engine, rule)| engine.rule_name(rule)),
        policy: policy.map(|policy| DecisionPolicy {
            name: &policy.key.name,
            generation: policy.generation,
            method: trace.authentication.as_ref().map(MethodName::as_str),
            rule: trace.authorization.as_ref().map(RuleName::as_str),
            in_query: trace.in_query,
            baselines: engine.zip(trace.rule).map_or(&[], |(engine, rule)| engine.baseline_names(rule)),
        }),
        identity: identity(trace),
        block: trace.block.as_deref().map(|block| DecisionBlock {
            rule: block.rule.name(),
            ends: block.ends,
            observed: !block.refuses(),
        }),
        limit: trace.limit.as_deref(),
        upstream,
        mirrors,
        usage: usage.map(|usage| DecisionUsage {
            model: usage.model.as_deref(),
            prompt_tokens: usage.prompt,
            completion_tokens: usage.completion,
            estimated: usage.estimated,
        }),
        issued: trace.issued.as_ref().map(|issued| DecisionIssued {
            grant: issued.grant,
            subject: &issued.subject,
            token: &issued.id,
            scopes: &issued.scopes,
            audiences: &issued.audiences,
            lifetime_seconds: issued.lifetime_seconds,
        }),
        shadow: trace.shadows.iter().map(|verdict| shadow(engine, verdict)).collect(),
    })
}

fn shadow<'r>(engine: Option<&Engine>, verdict: &'r ShadowVerdict) -> DecisionShadow<'r> {
    DecisionShadow {
        policy: &verdict.name,
        generation: engine.and_then(|engine| engine.policy(verdict.policy)).map_or(0, |policy| policy.generation),
        baseline: verdict.part == ShadowPart::Baseline,
        outcome: verdict.outcome.name(),
        reason: verdict.outcome.reason(),
        rule: verdict.rule.as_ref().map(RuleName::as_str),
        detail: &verdict.detail,
    }
}

fn outcome(reason: Option<Reason>) -> Outcome {
    match reason {
        None => Outcome::Permitted,
        Some(reason) if reason.is_denial() => Outcome::Denied,
        Some(_) => Outcome::Failed,
    }
}

fn identity(trace: &Trace) -> Option<DecisionIdentity<'_>> {
    trace.identity.as_ref().map(|(identity, cached)| DecisionIdentity {
        kind: identity.kind,
        id: &identity.id,
        username: &identity.username,
        issuer: identity.issuer.as_deref(),
        roles: &identity.roles,
        roles_dropped: identity.roles_dropped.as_deref(),
        credential: identity.credential.as_deref(),
        owner: identity.owner.as_deref(),
        kid: identity.kid.as_deref(),
        cached: *cached,
    })
}

fn bounded(text: &str) -> &str {
    match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => text.get(..end).unwrap_or_default(),
        None => text,
    }
}
