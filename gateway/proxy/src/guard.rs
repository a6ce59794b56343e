//! Exactly one record for each request, in every case.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::{Method, Version};
use idm_audit::{
    Decision, DecisionIdentity, DecisionIssued, DecisionPolicy, DecisionRequest, DecisionUsage, Outcome, Record,
    SCHEMA, Storing,
};
use idm_decide::Trace;
use idm_transform::Usage;
use idm_types::{DecisionId, MethodName, Reason, RuleName, Timestamp};

use crate::core::{Core, Local};

/// Longer paths and hosts are truncated in the record; other code limits the request itself.
pub(crate) const MAX_TEXT: usize = 2048;

/// Opened when a request arrives; closed by a verdict, or when it is dropped (the caller disconnected, or a panic).
pub(crate) struct Guard {
    core: Rc<Core>,
    pub(crate) local: Option<Rc<Local>>,
    pub(crate) id: DecisionId,
    pub(crate) now: Timestamp,
    started: Instant,
    pub(crate) source: IpAddr,
    method: Method,
    pub(crate) version: Version,
    /// The stage that the request reached, and the facts about it.
    pub(crate) trace: Trace,
    pub(crate) upstream: Option<usize>,
    /// The tokens that a call to a language model used.
    pub(crate) usage: Option<Usage>,
    open: bool,
}

impl Guard {
    pub(crate) fn open(core: Rc<Core>, source: IpAddr, method: &Method, now: Timestamp) -> Self {
        let (id, local) = (core.decision_id(now), core.local());
        Self {
            core,
            local,
            id,
            now,
            started: Instant::now(),
            source,
            method: method.clone(),
            version: Version::HTTP_11,
            trace: Trace::default(),
            upstream: None,
            usage: None,
            open: true,
        }
    }

    pub(crate) fn core(&self) -> &Rc<Core> {
        &self.core
    }

    /// Records a success. The returned future resolves at once, or, if so configured, when the record is on disk.
    pub(crate) fn permitted(mut self, status: u16) -> Storing {
        let took = self.count(None);
        self.with_record(took, Outcome::Permitted, status, None, "", |core, record| {
            let stored = core.lane.record_success(record);
            core.recorded();
            stored
        })
    }

    /// Records a refusal or failure; resolves when the record is on disk, or could not be stored now.
    pub(crate) fn refused(mut self, reason: Reason, status: u16, detail: &str) -> Storing {
        let took = self.count(Some(reason));
        let outcome = if reason.is_denial() { Outcome::Denied } else { Outcome::Failed };
        self.with_record(took, outcome, status, Some(reason), detail, |core, record| {
            let stored = core.lane.record_durably(record);
            core.recorded();
            stored
        })
    }

    /// Records a refusal that the HTTP library answered already; the record reaches the disk within milliseconds.
    pub(crate) fn answered(mut self, reason: Reason, status: u16, detail: &str) {
        let took = self.count(Some(reason));
        self.with_record(took, Outcome::Denied, status, Some(reason), detail, |core, record| {
            core.lane.record(record);
            core.recorded();
        });
    }

    /// Counts the decision and returns the time that it took.
    fn count(&mut self, reason: Option<Reason>) -> Duration {
        self.open = false;
        let took = self.started.elapsed();
        let metrics = &self.core.shared.metrics;
        metrics.observe(took);
        let policy = self.local.as_ref().zip(self.trace.policy);
        let counters = policy.and_then(|(local, policy)| local.configuration.counters.get(policy));
        counters.unwrap_or(&metrics.nobody).count(reason);
        took
    }

    fn with_record<T>(
        &self,
        took: Duration,
        outcome: Outcome,
        status: u16,
        reason: Option<Reason>,
        detail: &str,
        record: impl FnOnce(&Core, &Record<'_>) -> T,
    ) -> T {
        let armed = self.local.as_ref().map(|local| &local.configuration.armed);
        let engine = armed.map(|armed| armed.engine());
        let trace = &self.trace;
        let policy = engine.zip(trace.policy).and_then(|(engine, policy)| engine.policy(policy));
        let pool = self.local.as_ref().zip(self.upstream).and_then(|(local, upstream)| local.pools.get(upstream));
        let decision = Decision {
            time: self.now,
            id: self.id,
            schema: SCHEMA,
            // That of the policy, which may be another than the gateway's.
            namespace: policy
                .map_or_else(|| engine.map_or("", |engine| engine.namespace()), |policy| &policy.key.namespace),
            gateway: &self.core.shared.process.gateway,
            generation: armed.map_or(0, |armed| armed.version().0),
            outcome,
            status,
            stage: trace.stage,
            reason,
            detail,
            duration_us: took.as_micros() as u64,
            request: DecisionRequest {
                method: self.method.as_str(),
                host: bounded(&trace.host),
                path: bounded(&trace.path),
                source: self.source,
            },
            route: engine.zip(trace.rule).and_then(|(engine, rule)| engine.rule_name(rule)),
            policy: policy.map(|policy| DecisionPolicy {
                name: &policy.key.name,
                generation: policy.generation,
                method: trace.authentication.as_ref().map(MethodName::as_str),
                rule: trace.authorization.as_ref().map(RuleName::as_str),
                in_query: trace.in_query,
            }),
            identity: trace.identity.as_ref().map(|(identity, cached)| DecisionIdentity {
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
            }),
            upstream: pool.map(|pool| pool.name.as_str()),
            usage: self.usage.as_ref().map(|usage| DecisionUsage {
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
        };
        record(&self.core, &Record::Decision(decision))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.open {
            let reason = if std::thread::panicking() { Reason::InternalError } else { Reason::ClientGone };
            let took = self.count(Some(reason));
            self.with_record(took, Outcome::Failed, 0, Some(reason), "", |core, record| {
                core.lane.record(record);
                core.recorded();
            });
        }
    }
}

fn bounded(text: &str) -> &str {
    match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => text.get(..end).unwrap_or_default(),
        None => text,
    }
}
