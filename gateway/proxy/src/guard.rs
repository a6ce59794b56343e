//! Exactly one record for each request, in every case.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::{Method, Version};
use idm_audit::{Record, Storing};
use idm_decide::{Conclusion, Trace};
use idm_transform::Usage;
use idm_types::{DecisionId, Reason, Timestamp};

use crate::core::{Core, Local};

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
    /// The mirrors that get a copy.
    pub(crate) mirrors: Vec<usize>,
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
            mirrors: Vec::new(),
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
        self.with_record(took, status, None, "", |core, record| {
            let stored = core.spool_handle.record_success(record);
            core.recorded();
            stored
        })
    }

    /// Records a refusal or failure; resolves when the record is on disk, or could not be stored now.
    pub(crate) fn refused(mut self, reason: Reason, status: u16, detail: &str) -> Storing {
        let took = self.count(Some(reason));
        self.with_record(took, status, Some(reason), detail, |core, record| {
            let stored = core.spool_handle.record_durably(record);
            core.recorded();
            stored
        })
    }

    /// Records a refusal that the HTTP library answered already; the record reaches the disk within milliseconds.
    pub(crate) fn answered(mut self, reason: Reason, status: u16, detail: &str) {
        let took = self.count(Some(reason));
        self.with_record(took, status, Some(reason), detail, |core, record| {
            core.spool_handle.record(record);
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
        keep(&self.core, &idm_decide::record(armed, &self.core.shared.process, &self.trace, conclusion))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.open {
            let reason = if std::thread::panicking() { Reason::InternalError } else { Reason::ClientGone };
            let took = self.count(Some(reason));
            self.with_record(took, 0, Some(reason), "", |core, record| {
                core.spool_handle.record(record);
                core.recorded();
            });
        }
    }
}
