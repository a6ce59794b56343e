//! Exactly one record for each request, in every case.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::request::Parts;
use http::{HeaderMap, Method, Version};
use idm_audit::{Record, Storing};
use idm_decide::{Conclusion, Forward, Peer, Trace};
use idm_traces::{Open, Scope};
use idm_transform::Usage;
use idm_types::{DecisionId, Reason, Timestamp, TraceContext, TraceId};

use crate::connect::Pool;
use crate::core::{Core, Local};
use crate::metrics::{Flight, RuleInUse};
use crate::telling::{Ending, Telling};
use crate::traced::Traced;
use crate::upgrade::Pending;

/// Opened when a request arrives; closed by a verdict, or when it is dropped (the caller disconnected, or a panic). It
/// goes through every step of a request, so it stays in one place and its address is handed on.
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
    /// The mirrors that get a copy.
    pub(crate) mirrors: Vec<usize>,
    /// The tokens that a call to a language model used.
    pub(crate) usage: Option<Usage>,
    /// A realtime connection that the upstream agreed to.
    pub(crate) realtime: Option<Box<Pending>>,
    /// The state that lasts until its answer has been sent; taken for the answer.
    ending: Ending,
    telling: Option<Rc<Telling>>,
    traced: Option<Rc<Traced>>,
    open: bool,
}

impl Guard {
    pub(crate) fn open(core: Rc<Core>, source: IpAddr, method: &Method, now: Timestamp) -> Box<Self> {
        let (id, local) = (core.decision_id(now), core.local());
        let started = Instant::now();
        let flight = Some(Flight::of(&core.metrics.no_rule));
        let ending = Ending { flight, telling: Telling::begin(&core, started) };
        Box::new(Self {
            core,
            local,
            id,
            now,
            started,
            source,
            method: method.clone(),
            version: Version::HTTP_11,
            trace: Trace::default(),
            upstream: None,
            mirrors: Vec::new(),
            usage: None,
            realtime: None,
            telling: ending.telling.clone(),
            ending,
            traced: None,
            open: true,
        })
    }

    pub(crate) fn core(&self) -> &Rc<Core> {
        &self.core
    }

    /// Records a success. The returned future resolves at once, or, if so configured, when the record is on disk.
    pub(crate) fn permitted(mut self: Box<Self>, status: u16) -> Storing {
        let took = self.count(None, status);
        self.with_record(took, status, None, "", |core, record| {
            let stored = core.spool_handle.record_success(record);
            core.recorded();
            stored
        })
    }

    /// Records a refusal or failure; resolves when the record is on disk, or could not be stored now.
    pub(crate) fn refused(mut self: Box<Self>, reason: Reason, status: u16, detail: &str) -> Storing {
        let took = self.count(Some(reason), status);
        self.with_record(took, status, Some(reason), detail, |core, record| {
            let stored = core.spool_handle.record_durably(record);
            core.recorded();
            stored
        })
    }

    /// Records a refusal that the HTTP library answered already; the record reaches the disk within milliseconds.
    pub(crate) fn answered(mut self: Box<Self>, reason: Reason, status: u16, detail: &str) {
        let took = self.count(Some(reason), status);
        self.with_record(took, status, Some(reason), detail, |core, record| {
            core.spool_handle.record(record);
            core.recorded();
        });
    }

    /// Counts the decision and returns the time that it took.
    fn count(&mut self, reason: Option<Reason>, status: u16) -> Duration {
        self.open = false;
        self.trace.distributed = self.distributed();
        let took = self.started.elapsed();
        let in_use = self.local.as_ref().map(|local| &*local.metrics);
        self.core.metrics.count(in_use, &self.trace, took, status, reason, self.exemplar(took));
        if let Some((in_use, usage)) = in_use.zip(self.usage.as_ref()) {
            in_use.count_usage(&self.trace, usage);
        }
        took
    }

    /// The trace that the request is part of, and the time at which the request has taken this long.
    fn exemplar(&self, took: Duration) -> Option<(TraceId, Timestamp)> {
        let context = self.distributed().filter(|context| context.sampled)?;
        Some((context.trace, Timestamp(self.now.0.saturating_add(took.as_millis() as u64))))
    }

    /// The place of the request in a distributed trace: the gateway's own, or what the caller says where nothing is
    /// traced here.
    fn distributed(&self) -> Option<TraceContext> {
        self.traced.as_ref().map_or(self.trace.distributed, |traced| Some(traced.context()))
    }

    fn rule(&self) -> &Rc<RuleInUse> {
        self.core.metrics.rule(self.local.as_ref().map(|local| &*local.metrics), &self.trace)
    }

    /// The request's route is known, or it has none: from here on it is under way there.
    pub(crate) fn routed(&mut self) {
        self.ending.flight = Some(Flight::of(self.rule()));
    }

    /// Its head is about to be decided on.
    pub(crate) fn arrived(&mut self, peer: &Peer, headers: &HeaderMap) {
        self.traced = Traced::of(&self.core, peer, headers, self.started);
        if let Some(telling) = &self.telling {
            telling.arrived(headers);
        }
    }

    /// The span that the operations within the request are a part of; `None` where it is not recorded.
    pub(crate) fn scope(&self) -> Option<Scope> {
        self.traced.as_ref()?.scope().cloned()
    }

    /// The request leaves for its upstream, which is told the trace. The exchange is told when it is let go.
    pub(crate) fn leave(&self, local: &Local, forward: &Forward, head: &mut Parts) -> Option<Open> {
        let pool = forward.backend.and_then(|position| local.pools.get(position));
        self.traced.as_ref()?.leave(pool, forward, head)
    }

    /// The state that lasts until its answer has been sent.
    pub(crate) fn ending(&mut self) -> Ending {
        std::mem::take(&mut self.ending)
    }

    /// Counts the exchange with the upstream, which began at this time.
    pub(crate) fn count_upstream(&self, began: Instant, answer: Result<u16, Reason>) {
        let Some((position, pool)) = self.upstream.zip(self.pool()) else { return };
        let took = began.elapsed();
        if let Some(telling) = &self.telling {
            telling.upstream(took);
        }
        let exemplar = self.exemplar(began.saturating_duration_since(self.started) + took);
        self.rule().count_upstream((position, &pool.name), took, answer, exemplar);
    }

    fn pool(&self) -> Option<&Rc<Pool>> {
        self.local.as_ref()?.pools.get(self.upstream?)
    }

    fn with_record<T>(
        &self,
        took: Duration,
        status: u16,
        reason: Option<Reason>,
        detail: &str,
        keep: impl FnOnce(&Core, &Record<'_>) -> T,
    ) -> T {
        let local = self.local.as_ref();
        let name = |position: usize| Some(local?.pools.get(position)?.name.as_str());
        let mirrors: Vec<&str> = self.mirrors.iter().filter_map(|position| name(*position)).collect();
        let conclusion = Conclusion {
            id: self.id,
            time: self.now,
            took,
            method: &self.method,
            source: self.source,
            reason,
            status,
            detail,
            upstream: self.upstream.and_then(name),
            mirrors: &mirrors,
            usage: self.usage.as_ref(),
        };
        let armed = local.map(|local| &local.configuration.armed);
        let record = idm_decide::record(armed, &self.core.shared.process, &self.trace, conclusion);
        if let (Some(telling), Record::Decision(decision)) = (&self.telling, &record) {
            telling.decided(decision, self.version, self.traced.as_deref());
        }
        keep(&self.core, &record)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.open {
            let reason = if std::thread::panicking() { Reason::InternalError } else { Reason::ClientGone };
            let took = self.count(Some(reason), 0);
            self.with_record(took, 0, Some(reason), "", |core, record| {
                core.spool_handle.record(record);
                core.recorded();
            });
        }
    }
}
