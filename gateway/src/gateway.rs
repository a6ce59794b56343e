use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use idm_audit::ship::{self, Elasticsearch};
use idm_audit::{ChainKey, OnFull, Spool, SpoolConfig, SpoolHandle, SpoolHealth, Successes};
use idm_authn::{NewPerson, RetiringReport};
use idm_decide::{BlockRules, Blocks, BodyLimits, EngineError};
use idm_metrics::{Exposition, Format};
use idm_plan::{Bundle, CONTROL_TOKEN, Held, Network, ObjectKey, SecretHandle};
use idm_proxy::{
    AccessLog, Configuration, Deadlines, Limits, LineFormat, Server, ServerConfig, Shared, Telemetry, Traces,
    TrustedProxies, USUAL_CONSUMERS,
};
use idm_store::{SharedOptions, Store};
use idm_traces::{CAPACITY, Sampler, queue};
use idm_trust::DirectoryError;
use idm_types::Redacted;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::blocks::{self, Teller};
use crate::egress::Egress;
use crate::environment::Environment;
use crate::traces::{ExportError, Exporter, TraceOptions};

/// Credentials with two keys that the operator is told about.
const MAX_REPORTED: usize = 10_000;
/// The longest time that a stop waits for the last spans to be taken.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// The destination of records.
#[derive(Clone, Debug)]
pub struct AuditOptions {
    /// The spool's folder.
    pub dir: PathBuf,
    /// The treatment of requests when it is full.
    pub on_full: OnFull,
    /// The time by which the record of a success is on disk.
    pub successes: Successes,
    /// Its size limit.
    pub max_bytes: u64,
    /// The key of the hashes in the chain of records.
    pub chain_key: ChainKey,
    /// Ship to this server; `None` keeps files only.
    pub elasticsearch: Option<Elasticsearch>,
}

impl AuditOptions {
    /// In this folder alone, up to this many bytes. Unrecorded requests are not served.
    pub fn in_folder(dir: PathBuf, max_bytes: u64) -> Self {
        let (on_full, successes) = (OnFull::default(), Successes::default());
        Self { dir, on_full, successes, max_bytes, chain_key: ChainKey::none(), elasticsearch: None }
    }
}

/// Automatic blocks of addresses.
#[derive(Clone, Debug)]
pub struct BlockOptions {
    /// Their rules.
    pub rules: BlockRules,
    /// Networks that are never blocked, beside those of trusted proxies.
    pub never: Vec<Network>,
}

impl BlockOptions {
    fn blocks(&self, proxies: &TrustedProxies) -> Arc<Blocks> {
        let networks: Vec<Network> = self.never.iter().chain(&proxies.networks).copied().collect();
        Blocks::new(self.rules, move |address| networks.iter().any(|network| network.contains(address)))
    }
}

/// The settings of a gateway process.
#[derive(Clone, Debug)]
pub struct GatewayOptions {
    /// The name in audit records: the pod's name in a cluster.
    pub name: String,
    /// The address on which traffic arrives.
    pub listen: SocketAddr,
    /// The address on which HTTPS traffic arrives.
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
    /// Automatic blocks; `None` blocks nobody and counts nothing.
    pub blocks: Option<BlockOptions>,
    /// Limits on bodies that are buffered in whole.
    pub bodies: BodyLimits,
    /// The most consumers that have metrics of their own.
    pub consumers: usize,
    /// The form of a line for each request on standard output; `None` writes none.
    pub access_log: Option<LineFormat>,
    /// The destination of spans; `None` traces nothing.
    pub traces: Option<TraceOptions>,
    /// Records.
    pub audit: AuditOptions,
    /// The store that this gateway shares with others; `None`: it keeps its state in its own memory.
    pub store: Option<SharedOptions>,
    /// Issuers may be reached over plain http and on this machine.
    pub danger_insecure_issuers: bool,
    /// The way to issuers and other outside servers.
    pub egress: Egress,
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
            blocks: None,
            bodies: BodyLimits::default(),
            consumers: USUAL_CONSUMERS,
            access_log: None,
            traces: None,
            audit,
            store: None,
            danger_insecure_issuers: false,
            egress: Egress::default(),
        }
    }
}

/// The reason why the newest configuration is not in force, or not wholly.
#[derive(Default)]
struct Problem {
    error: Option<String>,
    missing_shards: Vec<usize>,
}

/// A serving gateway.
pub struct Gateway {
    pub(crate) shared: Arc<Shared>,
    pub(crate) environment: Environment,
    /// Held while a bundle is put in force: each is compared with the one before.
    turn: tokio::sync::Mutex<()>,
    ready: AtomicBool,
    problem: Mutex<Problem>,
    /// The shards of Credentials that are here, from whichever source.
    shards: Mutex<Held>,
    /// With what the operator proves itself.
    control: Mutex<Option<Redacted<Vec<u8>>>>,
    /// With what administrators on this machine prove themselves; `None` where there are no blocks to end.
    pub(crate) admin_token: Option<Redacted<String>>,
    pub(crate) health: Arc<SpoolHealth>,
    running: Mutex<Option<Running>>,
    name: String,
    address: SocketAddr,
    tls_address: Option<SocketAddr>,
}

struct Running {
    server: Server,
    spool: Spool,
    shipper: Option<JoinHandle<()>>,
    stop_shipper: watch::Sender<bool>,
    exporter: Option<JoinHandle<()>>,
    stop_exporter: watch::Sender<bool>,
    /// Tells of blocks; has a handle of the spool.
    teller: Option<JoinHandle<()>>,
}

impl Gateway {
    /// Opens the spool, puts the `first` bundle in force, binds the port and serves. Without a bundle every request is
    /// refused until the first [`Self::apply`].
    pub async fn start(options: &GatewayOptions, first: Option<&Bundle>) -> anyhow::Result<Arc<Self>> {
        let AuditOptions { dir, on_full, successes, max_bytes, chain_key, elasticsearch } = options.audit.clone();
        let shipped = elasticsearch.is_some();
        let spool = Spool::open(SpoolConfig { dir, on_full, successes, max_bytes, shipped, chain_key })?;
        let access_log = options.access_log.map(|format| AccessLog::start(format, std::io::stdout())).transpose()?;
        let (stop_exporter, exporter_stopped) = watch::channel(false);
        let traced = options.traces.as_ref().map(|to| traces(to, &options.name, exporter_stopped)).transpose()?;
        let (traces, exporter) = traced.unzip();
        let telemetry = Telemetry { consumers: options.consumers, access_log, traces };
        let blocks = options.blocks.as_ref().map_or_else(Blocks::off, |blocks| blocks.blocks(&options.proxies));
        let admin_token = options.blocks.as_ref().map(|_| blocks::new_token(spool.dir())).transpose()?;
        let shared = Shared::blocking(options.name.clone(), options.bodies, telemetry, blocks.clone());
        let config = ServerConfig {
            listen: options.listen,
            listen_tls: options.listen_tls,
            cores: options.cores,
            drain: options.drain,
            limits: options.limits,
            deadlines: options.deadlines,
            proxies: Arc::new(options.proxies.clone()),
        };
        let store = match options.store.clone() {
            Some(shared) => Store::shared(shared)?,
            None => Store::in_process(),
        };
        let password_threads = (options.cores / 2).max(1);
        let insecure = options.danger_insecure_issuers;
        let environment =
            Environment::blocking(store.clone(), blocks.clone(), password_threads, insecure, &options.egress)?;
        let control = Mutex::default();
        if let Some(bundle) = first {
            put_in_force(bundle, &shared, &environment, &control).await?;
        }
        let server = Server::start(&config, &shared, &spool, random_seed())?;
        let teller = options.blocks.is_some().then(|| {
            let (shared, name) = (shared.clone(), options.name.clone());
            let spool = Mutex::new(spool.spool_handle());
            tokio::spawn(Teller { blocks, store, shared, spool, name }.run())
        });
        let (stop_shipper, stopped) = watch::channel(false);
        let shipper = elasticsearch
            .map(|server| tokio::spawn(ship::run(spool.dir().to_owned(), server, spool.health(), stopped)));
        Ok(Arc::new(Self {
            shared,
            environment,
            turn: tokio::sync::Mutex::default(),
            ready: AtomicBool::new(true),
            problem: Mutex::default(),
            shards: Mutex::default(),
            control,
            admin_token,
            health: spool.health(),
            name: options.name.clone(),
            address: server.address(),
            tls_address: server.tls_address(),
            running: Mutex::new(Some(Running {
                server,
                spool,
                shipper,
                stop_shipper,
                exporter,
                stop_exporter,
                teller,
            })),
        }))
    }

    /// Its name in audit records.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A way to its spool, for records of changes; `None` after a stop. Drop it before the stop, which waits for all.
    pub fn spool_handle(&self) -> Option<SpoolHandle> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.as_ref().map(|running| running.spool.spool_handle())
    }

    /// The address on which traffic arrives.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address on which HTTPS traffic arrives.
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
        put_in_force(bundle, &self.shared, &self.environment, &self.control).await?;
        self.note(Problem::default());
        Ok(true)
    }

    /// Notes that a configuration could not be put in force; shown by `/-/bundle`.
    pub fn refused(&self, error: &str) {
        tracing::error!("{error}; the last good configuration keeps serving");
        self.note(Problem { error: Some(error.to_owned()), missing_shards: Vec::new() });
    }

    /// Notes that the newest configuration is in force without the shards of these numbers; shown by `/-/bundle`.
    pub(crate) fn lacks(&self, told: &str, missing_shards: Vec<usize>) {
        tracing::error!("{told}");
        self.note(Problem { error: Some(told.to_owned()), missing_shards });
    }

    /// Notes that nothing is wrong with the newest configuration any more.
    pub(crate) fn is_well(&self) {
        self.note(Problem::default());
    }

    fn note(&self, problem: Problem) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    /// Reads or changes the shards that are here.
    pub(crate) fn with_shards<T>(&self, done: impl FnOnce(&mut Held) -> T) -> T {
        done(&mut self.shards.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Why the newest configuration is not in force, or not wholly.
    pub fn error(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).error.clone()
    }

    /// The shards without which the newest configuration is in force.
    pub fn missing_shards(&self) -> Vec<usize> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).missing_shards.clone()
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
    pub(crate) fn is_operator(&self, token: &str) -> bool {
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner).clone();
        control.is_some_and(|control| verify_slices_are_equal(control.reveal(), token.as_bytes()).is_ok())
    }

    /// The people who signed in where the operator makes memberships, for the operator alone; `None` for everyone else.
    pub fn people_for(&self, token: &str, seen: u64) -> Option<(Vec<NewPerson>, u64)> {
        self.is_operator(token).then(|| self.environment.memory.people_after(seen))
    }

    /// The outcome of the last question to each directory, for the operator alone; `None` for everyone else.
    pub fn directories_for(&self, token: &str) -> Option<Vec<(ObjectKey, Result<(), DirectoryError>)>> {
        self.is_operator(token).then(|| self.environment.directories.outcomes())
    }

    /// The older of two keys of each Credential that has two, and where it was used last, for the operator alone;
    /// `None` for everyone else.
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

    /// Metrics in a format.
    pub fn metrics(&self, format: Format) -> String {
        let mut out = Exposition::new(format);
        self.shared.metrics().render(&mut out);
        self.environment.servers.render(&mut out);
        self.environment.directories.render(&mut out);
        self.render(&mut out);
        out.finish()
    }

    /// Finishes what is under way, writes and ships what is left, and ends.
    pub async fn stop(&self) {
        self.unready();
        let Some(Running { server, spool, shipper, stop_shipper, exporter, stop_exporter, teller }) =
            self.running.lock().unwrap_or_else(PoisonError::into_inner).take()
        else {
            return;
        };
        if let Some(teller) = teller {
            teller.abort();
            let _ = teller.await;
        }
        let shared = self.shared.clone();
        let _ = tokio::task::spawn_blocking(move || {
            server.stop();
            shared.access_log().into_iter().for_each(AccessLog::close);
            spool.close();
        })
        .await;
        let _ = stop_exporter.send(true);
        if let Some(exporter) = exporter {
            let abort = exporter.abort_handle();
            if tokio::time::timeout(LAST_SPANS, exporter).await.is_err() {
                abort.abort();
            }
        }
        let _ = stop_shipper.send(true);
        if let Some(shipper) = shipper {
            let _ = shipper.await;
        }
    }
}

/// Begins to send spans to a collector.
fn traces(
    to: &TraceOptions,
    name: &str,
    stopped: watch::Receiver<bool>,
) -> Result<(Traces, JoinHandle<()>), ExportError> {
    let (sink, waiting) = queue(CAPACITY);
    let sampler = Sampler::new(to.ratio, to.callers);
    let exporter = Exporter::new(to, name)?;
    Ok((Traces { sampler, sink }, tokio::spawn(exporter.run(waiting, stopped))))
}

/// Arms a bundle, and swaps it for the one in force.
async fn put_in_force(
    bundle: &Bundle,
    shared: &Shared,
    environment: &Environment,
    control: &Mutex<Option<Redacted<Vec<u8>>>>,
) -> Result<(), EngineError> {
    let before = shared.configuration();
    let before = before.as_deref();
    let armed = environment.arm(bundle, before.map(Configuration::armed)).await?;
    let configuration = Configuration::new(armed, bundle, before)?;
    let token = bundle.secrets.get(&SecretHandle(CONTROL_TOKEN.into())).cloned();
    *control.lock().unwrap_or_else(PoisonError::into_inner) = token;
    shared.swap(configuration);
    Ok(())
}

/// A seed for what must differ between processes but need not be secret.
pub fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}
