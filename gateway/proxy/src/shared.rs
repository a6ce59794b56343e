//! The configuration in force, swapped as one pointer, and the state that all cores share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use idm_decide::{Armed, Blocks, BodyLimits, Engine, EngineError, Process};
use idm_plan::Bundle;
use idm_types::{Clock, Timestamp};
use tokio::sync::watch;

use crate::Metrics;
use crate::access_log::AccessLog;
use crate::traced::Traces;
use crate::upstream_tls::UpstreamTls;

/// An armed bundle with the TLS state that the sockets need. Immutable; shared by all cores.
pub struct Configuration {
    pub(crate) armed: Armed,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    /// The TLS of each backend, in the order of the engine's backends.
    pub(crate) upstream_tls: Vec<Option<Result<Arc<UpstreamTls>, String>>>,
    /// The authorities of clients that `tls` trusts beside those of the policies.
    authorities: Vec<String>,
    ends: BTreeMap<String, Timestamp>,
}

impl Configuration {
    /// Adds TLS to an armed bundle. If neither the plan nor an authority changed, the TLS state
    /// of `before` stays: callers can resume their sessions although some Credential has changed.
    pub fn new(armed: Armed, bundle: &Bundle, before: Option<&Self>) -> Result<Self, EngineError> {
        let authorities = crate::tls::authorities_of_clients(&bundle.credentials);
        let same = before.filter(|before| before.armed.has_engine_of(&armed) && before.authorities == authorities);
        let tls = match same {
            Some(before) => before.tls.clone(),
            None => crate::tls::arm(&bundle.plan, &bundle.secrets, &authorities).map_err(EngineError::Plan)?,
        };
        let backends = armed.engine().backends();
        let upstream_tls = match same {
            Some(before) => before.upstream_tls.clone(),
            None => UpstreamTls::arm(backends, &bundle.secrets),
        };
        let ends = crate::tls::ends(&bundle.plan.certificates);
        Ok(Self { armed, tls, upstream_tls, authorities, ends })
    }

    /// The hosts with certificates of their own, each with the time when it ends; `*` stands for all other names.
    pub fn certificates(&self) -> &BTreeMap<String, Timestamp> {
        &self.ends
    }

    /// The armed bundle.
    pub fn armed(&self) -> &Armed {
        &self.armed
    }

    /// Its engine.
    pub fn engine(&self) -> &Engine {
        self.armed.engine()
    }
}

/// The output of the gateway about its traffic, beside its records.
#[derive(Default)]
pub struct Telemetry {
    /// The most consumers that have metrics of their own.
    pub consumers: usize,
    /// A line for each request.
    pub access_log: Option<AccessLog>,
    /// Spans of requests.
    pub traces: Option<Traces>,
}

/// The state that all cores share: the configuration in force and the counters.
pub struct Shared {
    current: ArcSwapOption<Configuration>,
    version: AtomicU64,
    swapped: watch::Sender<()>,
    pub(crate) metrics: Metrics,
    pub(crate) process: Process,
    pub(crate) access_log: Option<AccessLog>,
    pub(crate) traces: Option<Traces>,
}

impl Shared {
    /// No configuration yet: every request is refused as `NotConfigured`.
    pub fn new(gateway: impl Into<String>, bodies: BodyLimits, telemetry: Telemetry) -> Arc<Self> {
        Self::blocking(gateway, bodies, telemetry, Blocks::off())
    }

    /// The same with blocks of addresses.
    pub fn blocking(
        gateway: impl Into<String>,
        bodies: BodyLimits,
        telemetry: Telemetry,
        blocks: Arc<Blocks>,
    ) -> Arc<Self> {
        let Telemetry { consumers, access_log, traces } = telemetry;
        Arc::new(Self {
            current: ArcSwapOption::empty(),
            version: AtomicU64::new(0),
            swapped: watch::Sender::new(()),
            metrics: Metrics::new(consumers),
            process: Process::blocking(gateway, bodies, blocks, Clock::of_process()),
            access_log,
            traces,
        })
    }

    /// Puts a new configuration in force on every core; requests under way finish under the old one.
    pub fn swap(&self, configuration: Configuration) {
        self.current.store(Some(Arc::new(configuration)));
        self.version.fetch_add(1, Ordering::Release);
        self.swapped.send_replace(());
    }

    /// Notifies of each configuration that is put in force.
    pub(crate) fn swapped(&self) -> watch::Receiver<()> {
        self.swapped.subscribe()
    }

    /// The configuration in force.
    pub fn configuration(&self) -> Option<Arc<Configuration>> {
        self.current.load_full()
    }

    /// The counters.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The bytes of bodies that are held for authenticated callers, and for all others.
    pub fn bodies_held(&self) -> (usize, usize) {
        self.process.holding.held()
    }

    /// The access log.
    pub fn access_log(&self) -> Option<&AccessLog> {
        self.access_log.as_ref()
    }

    /// The outcomes of the spans of requests.
    pub fn traces(&self) -> Option<&idm_traces::Counts> {
        self.traces.as_ref().map(|traces| traces.sink.counts())
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
}
