use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use idm_audit::ship::{self, Elasticsearch};
use idm_audit::{OnFull, Spool, SpoolConfig, SpoolHealth, Successes};
use idm_authn::{NewPerson, RetiringReport};
use idm_decide::{BodyLimits, EngineError};
use idm_plan::{Bundle, CONTROL_TOKEN, ObjectKey, SecretHandle};
use idm_proxy::{Configuration, Deadlines, Limits, Server, ServerConfig, Shared, TrustedProxies};
use idm_store::{SharedOptions, Store};
use idm_trust::DirectoryError;
use idm_types::Redacted;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::environment::Environment;

/// Credentials with two keys that the operator is told about.
const MAX_REPORTED: usize = 10_000;

/// Where records go.
#[derive(Clone, Debug)]
pub struct AuditOptions {
    /// The spool's folder.
    pub dir: PathBuf,
    /// The treatment of requests when it is full.
    pub on_full: OnFull,
    /// When the record of a success is on disk.
    pub successes: Successes,
    /// Its size limit.
    pub max_bytes: u64,
    /// Ship to this server; `None` keeps files only.
    pub elasticsearch: Option<Elasticsearch>,
}

impl AuditOptions {
    /// In this folder alone, up to this many bytes. Unrecorded requests are not served.
    pub fn in_folder(dir: PathBuf, max_bytes: u64) -> Self {
        let (on_full, successes) = (OnFull::default(), Successes::default());
        Self { dir, on_full, successes, max_bytes, elasticsearch: None }
    }
}

/// The settings of a gateway process.
#[derive(Clone, Debug)]
pub struct GatewayOptions {
    /// The name in audit records: the pod's name in a cluster.
    pub name: String,
    /// Where traffic arrives.
    pub listen: SocketAddr,
    /// Where HTTPS traffic arrives.
    pub listen_tls: Option<SocketAddr>,
    /// The number of cores that serve.
    pub cores: usize,
    /// The time that connections have to finish after a stop.
    pub drain: Duration,
    /// The most connections and requests at the same time.
    pub limits: Limits,
    /// The time that callers have.
    pub deadlines: Deadlines,
    /// Which proxies are believed about their clients.
    pub proxies: TrustedProxies,
    /// Limits on bodies that are buffered in whole.
    pub bodies: BodyLimits,
    /// Records.
    pub audit: AuditOptions,
    /// The store that this gateway shares with others; `None`: it keeps its state in its own memory.
    pub store: Option<SharedOptions>,
    /// Issuers may be reached over plain http and on this machine.
    pub danger_insecure_issuers: bool,
}

impl GatewayOptions {
    /// On all cores of the machine, over plain HTTP, remembering for itself, with the limits of this process.
    pub fn new(name: &str, listen: SocketAddr, audit: AuditOptions) -> Self {
        Self {
            name: name.to_owned(),
            listen,
            listen_tls: None,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            drain: Duration::from_secs(25),
            limits: Limits::of_this_process(),
            deadlines: Deadlines::default(),
            proxies: TrustedProxies::default(),
            bodies: BodyLimits::default(),
            audit,
            store: None,
            danger_insecure_issuers: false,
        }
    }
}

/// A serving gateway.
pub struct Gateway {
    shared: Arc<Shared>,
    environment: Environment,
    /// Held while a bundle is put in force: each is compared with the one before.
    turn: tokio::sync::Mutex<()>,
    ready: AtomicBool,
    error: Mutex<Option<String>>,
    /// With what the operator proves itself.
    control: Mutex<Option<Redacted<Vec<u8>>>>,
    health: Arc<SpoolHealth>,
    running: Mutex<Option<Running>>,
    address: SocketAddr,
    tls_address: Option<SocketAddr>,
}

struct Running {
    server: Server,
    spool: Spool,
    shipper: Option<JoinHandle<()>>,
    stop_shipper: watch::Sender<bool>,
}

impl Gateway {
    /// Opens the spool, binds the port and serves; every request is refused until the first [`Self::apply`].
    pub fn start(options: &GatewayOptions) -> anyhow::Result<Arc<Self>> {
        let AuditOptions { dir, on_full, successes, max_bytes, elasticsearch } = options.audit.clone();
        let spool = Spool::open(SpoolConfig { dir, on_full, successes, max_bytes, shipped: elasticsearch.is_some() })?;
        let shared = Shared::new(options.name.clone(), options.bodies);
        let config = ServerConfig {
            listen: options.listen,
            listen_tls: options.listen_tls,
            cores: options.cores,
            drain: options.drain,
            limits: options.limits,
            deadlines: options.deadlines,
            proxies: Arc::new(options.proxies.clone()),
        };
        let server = Server::start(&config, &shared, &spool, random_seed())?;
        let store = match options.store.clone() {
            Some(shared) => Store::shared(shared)?,
            None => Store::in_process(),
        };
        let password_threads = (options.cores / 2).max(1);
        let environment = Environment::new(store, password_threads, options.danger_insecure_issuers)?;
        let (stop_shipper, stopped) = watch::channel(false);
        let shipper = elasticsearch
            .map(|server| tokio::spawn(ship::run(spool.dir().to_owned(), server, spool.health(), stopped)));
        Ok(Arc::new(Self {
            shared,
            environment,
            turn: tokio::sync::Mutex::default(),
            ready: AtomicBool::new(true),
            error: Mutex::default(),
            control: Mutex::default(),
            health: spool.health(),
            address: server.address(),
            tls_address: server.tls_address(),
            running: Mutex::new(Some(Running { server, spool, shipper, stop_shipper })),
        }))
    }

    /// Where traffic arrives.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where HTTPS traffic arrives.
    pub fn tls_address(&self) -> Option<SocketAddr> {
        self.tls_address
    }

    /// Arms a bundle and puts it in force on every core. On error the one before keeps serving.
    pub async fn apply(&self, bundle: &Bundle) -> Result<(), EngineError> {
        self.apply_if(bundle, || true).await.map(drop)
    }

    /// The same, if the bundle still is `wanted` when it is its turn. Returns whether it was.
    pub async fn apply_if(&self, bundle: &Bundle, wanted: impl FnOnce() -> bool) -> Result<bool, EngineError> {
        let _turn = self.turn.lock().await;
        if !wanted() {
            return Ok(false);
        }
        let before = self.shared.configuration();
        let before = before.as_deref();
        let armed = self.environment.arm(bundle, before.map(Configuration::armed)).await?;
        let configuration = Configuration::new(armed, bundle, self.shared.metrics(), before)?;
        let control = bundle.secrets.get(&SecretHandle(CONTROL_TOKEN.into())).cloned();
        *self.control.lock().unwrap_or_else(PoisonError::into_inner) = control;
        self.shared.swap(configuration);
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(true)
    }

    /// Notes that a configuration could not be put in force; shown by `/-/bundle`.
    pub fn refused(&self, error: &str) {
        tracing::error!("{error}; the last good configuration keeps serving");
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_owned());
    }

    /// Why the newest configuration is not in force.
    pub fn error(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Generation and digest in force.
    pub fn version(&self) -> Option<(u64, String)> {
        self.shared.configuration().map(|configuration| {
            let (generation, digest) = configuration.armed().version();
            (generation, digest.to_owned())
        })
    }

    /// Generation in force.
    pub fn generation(&self) -> Option<u64> {
        self.version().map(|(generation, _)| generation)
    }

    /// Whether a token is the one with which the operator proves itself.
    fn is_operator(&self, token: &str) -> bool {
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner).clone();
        control.is_some_and(|control| verify_slices_are_equal(control.reveal(), token.as_bytes()).is_ok())
    }

    /// The people who signed in where the operator makes memberships, for the operator alone; `None` for everyone else.
    pub fn people_for(&self, token: &str, seen: u64) -> Option<(Vec<NewPerson>, u64)> {
        self.is_operator(token).then(|| self.environment.memory.people_after(seen))
    }

    /// What came of the last question to each directory, for the operator alone; `None` for everyone else.
    pub fn directories_for(&self, token: &str) -> Option<Vec<(ObjectKey, Result<(), DirectoryError>)>> {
        self.is_operator(token).then(|| self.environment.directories.outcomes())
    }

    /// The older of two keys of each Credential that has two, and where it was used last, for the operator alone; `None`
    /// for everyone else.
    pub fn retiring_for(&self, token: &str) -> Option<Vec<RetiringReport>> {
        let retiring = || self.shared.configuration().map(|of| of.armed().credentials().retiring(MAX_REPORTED));
        self.is_operator(token).then(|| retiring().unwrap_or_default())
    }

    /// Whether traffic should be sent here.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed) && self.shared.configuration().is_some() && !self.health.is_failing()
    }

    /// Turns readiness off, so that nobody sends new traffic while the old is finished.
    pub fn unready(&self) {
        self.ready.store(false, Ordering::Relaxed);
    }

    /// Metrics in the Prometheus text format.
    pub fn metrics(&self) -> String {
        let mut out = String::new();
        self.shared.metrics().render(&mut out);
        self.environment.servers.render(&mut out);
        self.environment.directories.render(&mut out);
        self.environment.memory.ended_uses().render(&mut out);
        let health = &self.health;
        let generation = self.generation().unwrap_or(0);
        let keys = self.shared.configuration().map(|configuration| configuration.armed().keys()).unwrap_or_default();
        let ages = keys.values().filter_map(|keys| keys.fetched_at()).map(|t| t.0).min();
        let sets = keys.values().filter_map(|keys| keys.load());
        let left_out = sets.map(|set| set.left_out().len() as u64).sum();
        let age = ages.map_or(0, |oldest| idm_types::Timestamp::now().0.saturating_sub(oldest) / 1000);
        for (name, kind, help, value) in [
            ("idm_config_generation", "gauge", "Generation of the configuration in force.", generation),
            (
                "idm_config_refused",
                "gauge",
                "1 while the newest configuration could not be put in force.",
                u64::from(self.error().is_some()),
            ),
            ("idm_issuer_keys_age_seconds", "gauge", "Age of the issuer keys that were confirmed longest ago.", age),
            (
                "idm_issuer_keys_left_out",
                "gauge",
                "Published keys that cannot be used and were left out; the log names them.",
                left_out,
            ),
            ("idm_audit_recorded_total", "counter", "Audit records on disk.", health.recorded.load(Ordering::Relaxed)),
            (
                "idm_audit_lost_total",
                "counter",
                "Audit records that could not be stored.",
                health.lost.load(Ordering::Relaxed),
            ),
            (
                "idm_audit_shipped_total",
                "counter",
                "Audit records confirmed by Elasticsearch.",
                health.shipped.load(Ordering::Relaxed),
            ),
            (
                "idm_audit_dead_total",
                "counter",
                "Audit records that Elasticsearch refused for good.",
                health.dead.load(Ordering::Relaxed),
            ),
            ("idm_audit_failing", "gauge", "1 while audit records cannot be stored.", u64::from(health.is_failing())),
        ] {
            out.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"));
        }
        if let Some(store) = self.environment.memory.store().health() {
            out.push_str(&store_metrics(&store));
        }
        let (known, strangers) = self.shared.bodies_held();
        out.push_str(
            "# HELP idm_bodies_held_bytes Memory of the bodies that are held.\n# TYPE idm_bodies_held_bytes gauge\n",
        );
        for (callers, bytes) in [("known", known), ("strangers", strangers)] {
            out.push_str(&format!("idm_bodies_held_bytes{{callers=\"{callers}\"}} {bytes}\n"));
        }
        out
    }

    /// Finishes what is under way, writes and ships what is left, and ends.
    pub async fn stop(&self) {
        self.unready();
        let Some(Running { server, spool, shipper, stop_shipper }) =
            self.running.lock().unwrap_or_else(PoisonError::into_inner).take()
        else {
            return;
        };
        let _ = tokio::task::spawn_blocking(move || {
            server.stop();
            spool.close();
        })
        .await;
        let _ = stop_shipper.send(true);
        if let Some(shipper) = shipper {
            let _ = shipper.await;
        }
    }
}

fn store_metrics(store: &idm_store::Health) -> String {
    let mut out = "# HELP idm_store_circuit_open 1 while the shared store is not asked because it did not answer.\n\
                   # TYPE idm_store_circuit_open gauge\n"
        .to_owned();
    out.push_str(&format!("idm_store_circuit_open {}\n", u8::from(store.circuit_is_open)));
    out.push_str(
        "# HELP idm_store_questions_total Questions to the shared store by their outcome.\n\
         # TYPE idm_store_questions_total counter\n",
    );
    let asked = store.questions;
    for (outcome, count) in [("answered", asked.answered), ("failed", asked.failed), ("not_asked", asked.not_asked)] {
        out.push_str(&format!("idm_store_questions_total{{outcome=\"{outcome}\"}} {count}\n"));
    }
    out
}

/// A seed for what must differ between processes but need not be secret.
pub fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}
