//! Flags that several verbs share.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use idm_audit::ship::Elasticsearch;
use idm_audit::{ChainKey, OnFull, Retention, Successes};
use idm_gateway::{
    AuditOptions, BlockMode, BlockOptions, BlockRules, BodyLimits, Callers, Deadlines, Egress, Limits, LineFormat,
    Ratio, TraceOptions, TrustedProxies, USUAL_CONSUMERS, memory_limit,
};
use idm_plan::Network;
use idm_store::SharedOptions;

use crate::secret_file::SecretFile;

/// Destination of audit records
#[derive(Args, Clone, Debug)]
pub(crate) struct AuditArgs {
    /// Folder for audit records [default: audit in the idm state folder]
    #[arg(long, env = "IDM_AUDIT_DIR")]
    audit_dir: Option<PathBuf>,
    /// Whether requests are served while records cannot be stored
    #[arg(long, value_enum, default_value = "refuse", env = "IDM_AUDIT_ON_FULL")]
    audit_on_full: OnFullArg,
    /// Time by which the record of a success is on disk; that of a refusal always is before the answer
    #[arg(long, value_enum, default_value = "within-moments", env = "IDM_AUDIT_SUCCESSES")]
    audit_successes: SuccessesArg,
    /// Most disk space for records, in MiB
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=1_048_576),
        env = "IDM_AUDIT_MAX_MIB")]
    audit_max_mib: u64,
    #[command(flatten)]
    chain: ChainArgs,
    #[command(flatten)]
    elasticsearch: ElasticsearchArgs,
    #[command(flatten)]
    kept: RetentionArgs,
}

/// The key of the hashes in the chain of audit records
#[derive(Args, Clone, Debug)]
pub(crate) struct ChainArgs {
    /// File with a key of at least 32 bytes for the hashes that chain audit records: without it nobody makes them anew
    /// [default: none, so that everybody can verify them]
    #[arg(long, env = "IDM_AUDIT_CHAIN_KEY_FILE")]
    audit_chain_key_file: Option<SecretFile>,
}

impl ChainArgs {
    pub(crate) fn key(&self) -> anyhow::Result<ChainKey> {
        let Some(file) = &self.audit_chain_key_file else { return Ok(ChainKey::none()) };
        ChainKey::new(file.trimmed_end()?.reveal().clone()).with_context(|| file.to_string())
    }
}

/// Which Elasticsearch
#[derive(Args, Clone, Debug)]
pub(crate) struct ElasticsearchArgs {
    /// Elasticsearch or OpenSearch for the records, for example https://es:9200
    #[arg(long, env = "IDM_ELASTICSEARCH")]
    elasticsearch: Option<String>,
    /// File with the value of the Authorization header, for example `ApiKey …`
    #[arg(long, env = "IDM_ELASTICSEARCH_AUTHORIZATION_FILE")]
    elasticsearch_authorization_file: Option<SecretFile>,
    /// PEM file with certificates to trust besides the system's
    #[arg(long, env = "IDM_ELASTICSEARCH_CA_FILE")]
    elasticsearch_ca_file: Option<PathBuf>,
}

/// How long Elasticsearch keeps records
#[derive(Args, Clone, Debug)]
pub(crate) struct RetentionArgs {
    /// Days after which Elasticsearch (ILM) or OpenSearch (ISM) deletes decisions [default: never]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=36_500),
        env = "IDM_ELASTICSEARCH_KEEP_DECISIONS_DAYS")]
    elasticsearch_keep_decisions_days: Option<u32>,
    /// Days after which it deletes records of changes [default: never]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=36_500),
        env = "IDM_ELASTICSEARCH_KEEP_CHANGES_DAYS")]
    elasticsearch_keep_changes_days: Option<u32>,
}

impl RetentionArgs {
    fn retention(&self) -> Retention {
        let Self { elasticsearch_keep_decisions_days, elasticsearch_keep_changes_days } = self;
        Retention { decisions_days: *elasticsearch_keep_decisions_days, changes_days: *elasticsearch_keep_changes_days }
    }
}

/// The store that gateways share
#[derive(Args, Clone, Debug)]
pub(crate) struct StoreArgs {
    /// Redis or Valkey that gateways share, for example redis://valkey:6379 or rediss:// for TLS [default: each
    /// remembers for itself]
    #[arg(long, env = "IDM_STORE")]
    store: Option<String>,
    /// The user, where the store has users
    #[arg(long, env = "IDM_STORE_USERNAME")]
    store_username: Option<String>,
    /// File with the password for the store
    #[arg(long, env = "IDM_STORE_PASSWORD_FILE")]
    store_password_file: Option<SecretFile>,
    /// PEM file with certificates to trust besides the system's
    #[arg(long, env = "IDM_STORE_CA_FILE")]
    store_ca_file: Option<PathBuf>,
}

impl StoreArgs {
    /// The files with secrets.
    pub(crate) fn secret_files(&mut self) -> impl Iterator<Item = &mut SecretFile> {
        self.store_password_file.iter_mut()
    }

    pub(crate) fn options(&self, namespace: &str) -> anyhow::Result<Option<SharedOptions>> {
        let Some(url) = self.store.clone().filter(|url| !url.is_empty()) else { return Ok(None) };
        let read = |path: &Option<PathBuf>| {
            path.as_ref()
                .map(|path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display())))
                .transpose()
        };
        let password = self.store_password_file.as_ref().map(SecretFile::text).transpose()?;
        Ok(Some(SharedOptions {
            url,
            username: self.store_username.clone(),
            password,
            ca_pem: read(&self.store_ca_file)?,
            namespace: namespace.to_owned(),
        }))
    }
}

/// Limits of the number of callers and of the time that they take
#[derive(Args, Clone, Debug)]
pub(crate) struct CallerArgs {
    /// Most connections of callers in sum [default: one for each 128 KiB of the memory limit, and no more than half the
    /// file descriptors]
    #[arg(long, env = "IDM_MAX_CONNECTIONS", value_parser = positive)]
    max_connections: Option<usize>,
    /// Most connections of one address (IPv6: one /64), for example of a balancer that speaks for all callers [default:
    /// three quarters of what others have left]
    #[arg(long, env = "IDM_MAX_CONNECTIONS_PER_ADDRESS", value_parser = positive)]
    max_connections_per_address: Option<usize>,
    /// Most requests under way in sum [default: one for each 170 KiB of the memory limit]
    #[arg(long, env = "IDM_MAX_REQUESTS", value_parser = positive)]
    max_requests: Option<usize>,
    /// Most requests under way of one address (IPv6: one /64) [default: three quarters of what others have left]
    #[arg(long, env = "IDM_MAX_REQUESTS_PER_ADDRESS", value_parser = positive)]
    max_requests_per_address: Option<usize>,
    /// Milliseconds for a whole head, and for the handshake before the first
    #[arg(long, env = "IDM_HEAD_TIMEOUT_MS", default_value_t = 15_000, value_parser = milliseconds())]
    head_timeout_ms: u64,
    /// Milliseconds that a connection may wait for its next request
    #[arg(long, env = "IDM_IDLE_TIMEOUT_MS", default_value_t = 75_000, value_parser = milliseconds())]
    idle_timeout_ms: u64,
    /// Milliseconds that an answer may wait for its caller to take any of it
    #[arg(long, env = "IDM_WRITE_TIMEOUT_MS", default_value_t = 30_000, value_parser = milliseconds())]
    write_timeout_ms: u64,
}

fn milliseconds() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(100..=86_400_000)
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "give a number from 1 up".to_owned())
}

impl CallerArgs {
    pub(crate) fn limits(&self) -> Limits {
        let usual = Limits::of_this_process();
        Limits {
            connections: self.max_connections.unwrap_or(usual.connections),
            connections_per_address: self.max_connections_per_address,
            requests: self.max_requests.unwrap_or(usual.requests),
            requests_per_address: self.max_requests_per_address,
        }
    }

    pub(crate) fn deadlines(&self) -> Deadlines {
        Deadlines {
            head: Duration::from_millis(self.head_timeout_ms),
            idle: Duration::from_millis(self.idle_timeout_ms),
            write: Duration::from_millis(self.write_timeout_ms),
        }
    }
}

/// Proxies in front of the gateway
#[derive(Args, Clone, Debug)]
pub(crate) struct ProxyArgs {
    /// Networks of proxies whose X-Forwarded-For, Forwarded and X-Forwarded-Proto are believed, for example
    /// 10.0.0.0/8,fd00::/8. Whoever sends from there can be any client: name your own proxies only [default: none]
    #[arg(long, env = "IDM_TRUSTED_PROXIES", value_delimiter = ',', value_parser = network)]
    trusted_proxies: Vec<Network>,
    /// Each connection must come from a trusted proxy and begin with a header of the PROXY protocol, version 1 or 2
    #[arg(long, env = "IDM_PROXY_PROTOCOL", requires = "trusted_proxies")]
    proxy_protocol: bool,
}

fn network(text: &str) -> Result<Network, String> {
    Network::parse(text).ok_or_else(|| "give a network such as 10.0.0.0/8, without bits behind the prefix".to_owned())
}

impl ProxyArgs {
    pub(crate) fn trusted(&self) -> TrustedProxies {
        TrustedProxies { networks: self.trusted_proxies.clone(), proxy_protocol: self.proxy_protocol }
    }
}

/// Automatic blocks of addresses that guess at credentials
#[derive(Args, Clone, Debug)]
pub(crate) struct BlockArgs {
    /// Whether addresses are blocked after many refused credentials: observe records what would have been blocked
    #[arg(long, value_enum, default_value = "off", env = "IDM_BLOCKS")]
    blocks: BlocksArg,
    /// Callers reach the gateway directly, and not through a proxy or balancer that hides their addresses: needed to
    /// enforce blocks without --trusted-proxies
    #[arg(long, env = "IDM_BLOCKS_CALLERS_CONNECT_DIRECTLY")]
    blocks_callers_connect_directly: bool,
    /// Different credentials of one address (IPv6: one /64) that are refused before it is blocked
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=100),
        env = "IDM_BLOCKS_CREDENTIALS")]
    blocks_credentials: u32,
    /// Refusals of one credential at one address before this credential is blocked there
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=10_000),
        env = "IDM_BLOCKS_FAILURES")]
    blocks_failures: u32,
    /// Seconds in which refusals count together
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(10..=86_400),
        env = "IDM_BLOCKS_WINDOW_SECONDS")]
    blocks_window_seconds: u64,
    /// Seconds that a block is in force
    #[arg(long, default_value_t = 900, value_parser = clap::value_parser!(u64).range(10..=86_400),
        env = "IDM_BLOCKS_SECONDS")]
    blocks_seconds: u64,
    /// An address from which so many different callers were let in during the last day is reported and not blocked; 0
    /// spares nobody
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=100),
        env = "IDM_BLOCKS_SPARED_BY")]
    blocks_spared_by: u32,
    /// Networks that are never blocked, for example those of an office: 192.0.2.0/24,2001:db8::/32 [default: those of
    /// trusted proxies]
    #[arg(long, env = "IDM_BLOCKS_NEVER", value_delimiter = ',', value_parser = network)]
    blocks_never: Vec<Network>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BlocksArg {
    /// Nobody is blocked and nothing is counted
    Off,
    /// Blocks are recorded, and refuse nothing
    Observe,
    /// Blocks refuse
    Enforce,
}

impl BlockArgs {
    pub(crate) fn options(&self, proxies: &ProxyArgs) -> anyhow::Result<Option<BlockOptions>> {
        let mode = match self.blocks {
            BlocksArg::Off => return Ok(None),
            BlocksArg::Observe => BlockMode::Observe,
            BlocksArg::Enforce => BlockMode::Enforce,
        };
        let knows_addresses = self.blocks_callers_connect_directly || !proxies.trusted_proxies.is_empty();
        anyhow::ensure!(
            mode == BlockMode::Observe || knows_addresses,
            "--blocks=enforce would block everybody behind a proxy that hides addresses: name your proxies with \
             --trusted-proxies, or say with --blocks-callers-connect-directly that there are none"
        );
        let rules = BlockRules {
            mode,
            window_ms: self.blocks_window_seconds * 1000,
            lasts_ms: self.blocks_seconds * 1000,
            credentials: self.blocks_credentials,
            failures: self.blocks_failures,
            spared_by: self.blocks_spared_by,
        };
        Ok(Some(BlockOptions { rules, never: self.blocks_never.clone() }))
    }
}

/// The way to issuers and other outside servers
#[derive(Args, Clone)]
pub(crate) struct EgressArgs {
    /// Proxy that takes CONNECT, for keys, discovery, metadata, introspection and tokens over https, for example
    /// http://proxy.corp:3128 [default: none]
    #[arg(long, env = "HTTPS_PROXY", hide_env_values = true)]
    egress_proxy: Option<String>,
    /// Servers that are reached without it, beside those of the cluster: names, which stand for all below them, too,
    /// addresses and networks, separated by commas [default: none]
    #[arg(long, env = "NO_PROXY")]
    no_proxy: Option<String>,
}

impl EgressArgs {
    pub(crate) fn egress(&self) -> anyhow::Result<Egress> {
        // The names that most programs read, too.
        let or = |given: &Option<String>, name| given.clone().or_else(|| std::env::var(name).ok()).unwrap_or_default();
        let (proxy, no_proxy) = (or(&self.egress_proxy, "https_proxy"), or(&self.no_proxy, "no_proxy"));
        Egress::new(&proxy, &no_proxy).map_err(|problem| anyhow::anyhow!("--egress-proxy: {problem}"))
    }
}

/// Limits on bodies that are buffered in whole: forms, JOSE objects, calls to language models
#[derive(Args, Clone, Debug)]
pub(crate) struct BodyArgs {
    /// Memory for all of them, in MiB; a quarter of it for callers who are not known yet [default: a quarter of the
    /// memory that the process may have]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_048_576), env = "IDM_BODIES_MAX_MIB")]
    bodies_max_mib: Option<u32>,
    /// Seconds that one may take
    #[arg(
        long,
        default_value_t = 60,
        value_parser = clap::value_parser!(u32).range(1..=3600),
        env = "IDM_BODY_DEADLINE_SECONDS"
    )]
    body_deadline_seconds: u32,
    /// Seconds that a request's body may fall behind the least rate
    #[arg(
        long,
        default_value_t = 5,
        value_parser = clap::value_parser!(u32).range(1..=3600),
        env = "IDM_BODY_PAUSE_SECONDS"
    )]
    body_pause_seconds: u32,
    /// The least rate of a request's body, in KiB a second
    #[arg(
        long,
        default_value_t = 16,
        value_parser = clap::value_parser!(u32).range(1..=1_048_576),
        env = "IDM_BODY_LEAST_KIB"
    )]
    body_least_kib: u32,
}

impl BodyArgs {
    pub(crate) fn limits(&self) -> BodyLimits {
        let memory = self.bodies_max_mib.map_or_else(|| memory_limit() / 4, |mib| u64::from(mib) << 20);
        BodyLimits {
            memory: usize::try_from(memory).unwrap_or(usize::MAX),
            deadline: Duration::from_secs(self.body_deadline_seconds.into()),
            pause: Duration::from_secs(self.body_pause_seconds.into()),
            least_rate: self.body_least_kib << 10,
        }
    }
}

/// Output of the gateway about its traffic
#[derive(Args, Clone, Debug)]
pub(crate) struct TelemetryArgs {
    /// Most consumers (Credentials, issuers) that have metrics of their own; the others are counted together
    #[arg(
        long,
        default_value_t = USUAL_CONSUMERS as u32,
        value_parser = clap::value_parser!(u32).range(0..=10_000),
        env = "IDM_METRICS_CONSUMERS"
    )]
    metrics_consumers: u32,
    /// A line on standard output for each request
    #[arg(long, value_enum, default_value = "off", env = "IDM_ACCESS_LOG")]
    access_log: AccessLogArg,
    #[command(flatten)]
    traces: TraceArgs,
}

/// Destination of spans
#[derive(Args, Clone, Debug)]
pub(crate) struct TraceArgs {
    /// Collector that spans are sent to with OTLP over HTTP, for example http://collector:4318 [default: none, and
    /// nothing is traced]
    #[arg(long, env = "IDM_TRACES")]
    traces: Option<String>,
    /// File with the value of the Authorization header for the collector
    #[arg(long, env = "IDM_TRACES_AUTHORIZATION_FILE")]
    traces_authorization_file: Option<SecretFile>,
    /// PEM file with certificates to trust besides the system's
    #[arg(long, env = "IDM_TRACES_CA_FILE")]
    traces_ca_file: Option<PathBuf>,
    /// The share of traces that are recorded of those that begin here, from 0 to 1
    #[arg(long, default_value = "0.01", value_parser = share, env = "IDM_TRACES_RATIO")]
    traces_ratio: Ratio,
    /// How far the traceparent of callers decides
    #[arg(long, value_enum, default_value = "bounded", env = "IDM_TRACES_CALLERS")]
    traces_callers: CallersArg,
    /// Most requests in a second that are recorded because their callers record them, where these are bounded
    #[arg(long, default_value_t = 10, env = "IDM_TRACES_CALLERS_PER_SECOND")]
    traces_callers_per_second: u32,
}

fn share(text: &str) -> Result<Ratio, String> {
    text.parse().ok().and_then(Ratio::new).ok_or_else(|| "give a share from 0 to 1, for example 0.01".to_owned())
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CallersArg {
    /// Their traces are continued, and recorded up to a number a second
    Bounded,
    /// Their traces are continued, and recorded where they record them
    Trusted,
    /// Each request begins a trace of its own
    Ignored,
}

impl TraceArgs {
    fn options(&self, namespace: Option<&str>) -> anyhow::Result<Option<TraceOptions>> {
        let Some(url) = self.traces.as_ref().filter(|url| !url.is_empty()) else { return Ok(None) };
        let read = |path: &Option<PathBuf>| {
            path.as_ref()
                .map(|path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display())))
                .transpose()
        };
        Ok(Some(TraceOptions {
            endpoint: TraceOptions::endpoint(url).map_err(|problem| anyhow::anyhow!("--traces: {problem}"))?,
            authorization: self.traces_authorization_file.as_ref().map(SecretFile::text).transpose()?,
            ca_pem: read(&self.traces_ca_file)?,
            ratio: self.traces_ratio,
            callers: match self.traces_callers {
                CallersArg::Bounded => Callers::Bounded(self.traces_callers_per_second),
                CallersArg::Trusted => Callers::Trusted,
                CallersArg::Ignored => Callers::Ignored,
            },
            namespace: namespace.map(str::to_owned),
        }))
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AccessLogArg {
    /// None
    Off,
    /// An object of JSON
    Json,
    /// The combined format of web servers, with decision id and trace id behind it
    Combined,
}

impl TelemetryArgs {
    /// The files with secrets.
    pub(crate) fn secret_files(&mut self) -> impl Iterator<Item = &mut SecretFile> {
        self.traces.traces_authorization_file.iter_mut()
    }

    pub(crate) fn consumers(&self) -> usize {
        self.metrics_consumers as usize
    }

    /// Spans of a process; of a pod in this namespace.
    pub(crate) fn traces(&self, namespace: Option<&str>) -> anyhow::Result<Option<TraceOptions>> {
        self.traces.options(namespace)
    }

    pub(crate) fn access_log(&self) -> Option<LineFormat> {
        match self.access_log {
            AccessLogArg::Off => None,
            AccessLogArg::Json => Some(LineFormat::Json),
            AccessLogArg::Combined => Some(LineFormat::Combined),
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnFullArg {
    /// Requests are refused: nothing happens unrecorded
    Refuse,
    /// Requests are served and the loss is counted
    Shed,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SuccessesArg {
    /// Moments after the answer: what a killed process answered last may have no record
    WithinMoments,
    /// Before the answer: every success waits for the disk
    BeforeAnswer,
}

impl AuditArgs {
    pub(crate) fn dir(&self) -> PathBuf {
        self.audit_dir.clone().unwrap_or_else(crate::state::audit_dir)
    }

    /// The files with secrets that the operator may have sealed.
    pub(crate) fn secret_files(&mut self) -> impl Iterator<Item = &mut SecretFile> {
        self.elasticsearch.elasticsearch_authorization_file.iter_mut().chain(&mut self.chain.audit_chain_key_file)
    }

    pub(crate) fn options(&self) -> anyhow::Result<AuditOptions> {
        let on_full = match self.audit_on_full {
            OnFullArg::Refuse => OnFull::Refuse,
            OnFullArg::Shed => OnFull::Shed,
        };
        Ok(AuditOptions {
            dir: self.dir(),
            on_full,
            successes: match self.audit_successes {
                SuccessesArg::WithinMoments => Successes::WithinMoments,
                SuccessesArg::BeforeAnswer => Successes::BeforeAnswer,
            },
            max_bytes: self.audit_max_mib << 20,
            chain_key: self.chain.key()?,
            elasticsearch: self
                .elasticsearch
                .options()?
                .map(|server| Elasticsearch { kept: self.kept.retention(), ..server }),
        })
    }
}

impl ElasticsearchArgs {
    pub(crate) fn options(&self) -> anyhow::Result<Option<Elasticsearch>> {
        let Some(url) = self.elasticsearch.clone().filter(|url| !url.is_empty()) else { return Ok(None) };
        let read = |path: &Option<PathBuf>| {
            path.as_ref()
                .map(|path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display())))
                .transpose()
        };
        let authorization = self.elasticsearch_authorization_file.as_ref().map(SecretFile::text).transpose()?;
        let (ca_pem, kept) = (read(&self.elasticsearch_ca_file)?, Retention::default());
        Ok(Some(Elasticsearch { url, authorization, ca_pem, kept }))
    }
}
