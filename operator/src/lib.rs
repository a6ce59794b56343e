//! Reconciles policies into gateways.
//!
//! In: our kinds, Gateways, HTTPRoutes, ReferenceGrants and Services of every namespace, and the Secrets that they
//! name. Out: a gateway (Deployment, Service, ServiceAccount, Role, PDB, NetworkPolicy) and its bundle Secret for each
//! Gateway, and one for the Services of each namespace; status, events, and an audit record per change. It never
//! serves traffic, and gateways keep serving without it. Start at `reconcile.rs`, which reads like a
//! recipe; `watch.rs` says when it runs.

pub mod access;
mod changes;
mod compiled;
mod credentials;
mod directories;
mod gateway;
mod health;
mod key_status;
mod key_uses;
mod keys;
mod leader;
mod members;
mod named;
mod objects;
mod permissions;
mod queue;
mod reconcile;
mod requests;
pub mod sealing;
mod served;
mod watch;
mod world;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use idm_audit::ship::{self, Elasticsearch};
use idm_audit::{Spool, SpoolConfig};
use idm_compile::Layout;
use idm_permission::Issuers;
use idm_types::{Redacted, Timestamp};
use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use tokio::signal::unix::{SignalKind, signal};

pub use gateway::{AuditSettings, CallerLimits, GatewaySettings, Telemetry};
use sealing::Sealing;

/// The field manager and event reporter.
pub(crate) const MANAGER: &str = "idm-operator";

/// Run the operator
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// The operator's own namespace
    #[arg(long, env = "POD_NAMESPACE", default_value = "idm-system")]
    namespace: String,
    /// The pod's name: the identity in leader election
    #[arg(long, env = "POD_NAME", default_value = "idm-operator")]
    name: String,
    /// Image of the gateway pods
    #[arg(long, env = "IDM_GATEWAY_IMAGE")]
    gateway_image: String,
    /// Pull policy of that image
    #[arg(long, default_value = "IfNotPresent", value_parser = ["Always", "IfNotPresent", "Never"])]
    gateway_image_pull_policy: String,
    /// Whether a Gateway has a gateway of its own where it does not say; one that is served already stays where it is
    #[arg(long, default_value = "own", value_parser = ["own", "shared"])]
    gateway_layout: String,
    /// Pods of a gateway
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    gateway_replicas: u32,
    /// CPU request of a gateway pod
    #[arg(long, default_value = "100m")]
    gateway_cpu_request: String,
    /// Memory limit of a gateway pod
    #[arg(long, default_value = "256Mi")]
    gateway_memory_limit: String,
    /// Namespaces whose pods may read the metrics of gateways, beside the operator's own
    #[arg(long, value_delimiter = ',')]
    gateway_metrics_namespaces: Vec<String>,
    #[command(flatten)]
    limits: CallerLimits,
    #[command(flatten)]
    telemetry: Telemetry,
    /// File with the value of the Authorization header for the collector of traces
    #[arg(long)]
    gateway_traces_authorization_file: Option<PathBuf>,
    /// Whether gateways serve requests while records cannot be stored
    #[arg(long, default_value = "refuse", value_parser = ["refuse", "shed"])]
    gateway_audit_on_full: String,
    /// Time by which gateways have the record of a success on disk
    #[arg(long, default_value = "within-moments", value_parser = ["within-moments", "before-answer"])]
    gateway_audit_successes: String,
    /// Issuers that the API server trusts, as a JSON list of {issuer, usernamePrefix, groupsPrefix}
    #[arg(long, env = "IDM_PERMISSION_ISSUERS", default_value = "[]", value_parser = issuers)]
    permission_issuers: Issuers,
    /// Redis or Valkey that gateways share, for example redis://valkey.idm-system:6379
    #[arg(long, env = "IDM_GATEWAY_STORE")]
    gateway_store: Option<String>,
    /// File with the password for the store
    #[arg(long, env = "IDM_GATEWAY_STORE_PASSWORD_FILE")]
    gateway_store_password_file: Option<PathBuf>,
    /// Elasticsearch to ship records to, for operator and gateways
    #[arg(long, env = "IDM_ELASTICSEARCH")]
    elasticsearch: Option<String>,
    /// File with the value of the Authorization header for Elasticsearch
    #[arg(long, env = "IDM_ELASTICSEARCH_AUTHORIZATION_FILE")]
    elasticsearch_authorization_file: Option<PathBuf>,
    /// Folder for the operator's own audit records
    #[arg(long, env = "IDM_AUDIT_DIR", default_value = "/var/lib/idm/audit")]
    audit_dir: PathBuf,
    /// Address of health and metrics
    #[arg(long, default_value = "0.0.0.0:8081")]
    admin: SocketAddr,
    #[command(flatten)]
    audit: AuditSettings,
    #[command(flatten)]
    sealing: sealing::SealingOptions,
    #[command(flatten)]
    changes: changes::ChangesOptions,
}

fn issuers(text: &str) -> Result<Issuers, serde_json::Error> {
    serde_json::from_str(text)
}

/// The dependencies of every reconcile.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) store: watch::Store,
    pub(crate) recorder: Recorder,
    pub(crate) settings: GatewaySettings,
    pub(crate) http: reqwest::Client,
    pub(crate) hashes: idm_compile::PasswordHashes,
    /// The issuers that the API server trusts.
    pub(crate) permission_issuers: Issuers,
    /// The state of the guard of permissions.
    pub(crate) permissions: permissions::Board,
    /// The work of gateways for the namespaces whose routes they take, by the gateway's namespace.
    pub(crate) served: served::Board,
    /// The last compilations.
    pub(crate) compiled: compiled::Compilations,
    /// The Secrets and ConfigMaps that objects name.
    pub(crate) named: named::Named,
    /// The shards of Credentials that are stored.
    pub(crate) stored: gateway::Stored,
    /// Seals and opens what is stored; `None`: everything is in the clear.
    pub(crate) sealing: Option<Sealing>,
    /// The registers of keys.
    pub(crate) registers: keys::Registers,
    /// The last use of the older of two keys, as gateways told it.
    pub(crate) key_uses: key_uses::KeyUses,
    /// Up to which number each gateway pod's people were heard of, by the pod's uid.
    pub(crate) heard: tokio::sync::Mutex<std::collections::HashMap<String, u64>>,
    /// The work on requests for Credentials.
    pub(crate) requests: requests::Board,
    /// The settings of the record of changes.
    pub(crate) changes: changes::Settings,
    /// The numbers of records of changes.
    pub(crate) change_count: Arc<changes::ChangeCount>,
    /// Until this time another operator held the lease.
    pub(crate) watched_until: Option<Timestamp>,
}

impl Context {
    /// The place where gateways are written.
    pub(crate) fn cluster(&self) -> gateway::Cluster<'_> {
        gateway::Cluster { client: &self.client, stored: &self.stored, sealing: self.sealing.as_ref() }
    }

    /// The work on keys, at this time.
    pub(crate) fn key_work(&self, now: Timestamp) -> keys::KeyWork<'_> {
        let home = &self.settings.operator_namespace;
        keys::KeyWork { client: &self.client, registers: &self.registers, home, now }
    }
}

/// Runs until SIGTERM or until leadership is lost.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let client = Client::try_default()
        .await
        .context("no cluster: set KUBECONFIG, or run inside a cluster (exit and retry are safe)")?;
    client.apiserver_version().await.context("the API server does not answer")?;
    let settings = gateway_settings(&options)?;
    let sealing = options.sealing.sealing(&client, &options.namespace).await?;
    let elasticsearch = settings.elasticsearch.clone();
    let shipped = elasticsearch.is_some();
    let chain_key = gateway::key_of(settings.chain_key.as_ref())?;
    let spool = SpoolConfig { shipped, chain_key, ..SpoolConfig::in_folder(&options.audit_dir, 1 << 30) };
    let spool = Spool::open(spool)?;
    let (stop_shipper, stopped) = tokio::sync::watch::channel(false);
    let shipper = elasticsearch.map(|url| {
        let authorization = settings.elasticsearch_authorization.clone();
        let server = Elasticsearch { url, authorization, ca_pem: None, kept: settings.kept };
        tokio::spawn(ship::run(spool.dir().to_owned(), server, spool.health(), stopped))
    });
    let change_count = Arc::new(changes::ChangeCount::default());
    let sealed_count = Arc::new(sealing::SealedCount::default());
    let health = health::serve(options.admin, change_count.clone(), sealed_count.clone()).await?;
    let mut term = signal(SignalKind::terminate())?;
    let leader = tokio::select! {
        leader = leader::acquire(client.clone(), &options.namespace, &options.name) => leader?,
        _ = term.recv() => return Ok(()),
    };
    let reporter = Reporter { controller: MANAGER.into(), instance: Some(options.name.clone()) };
    let http = reqwest::Client::builder()
        .timeout(Duration::from_secs(1))
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    let context = Arc::new(Context {
        recorder: Recorder::new(client.clone(), reporter),
        store: watch::Store::default(),
        settings,
        http,
        client,
        hashes: idm_compile::PasswordHashes::default(),
        permissions: permissions::Board::default(),
        permission_issuers: options.permission_issuers.clone(),
        served: served::Board::default(),
        compiled: compiled::Compilations::default(),
        named: named::Named::default(),
        stored: gateway::Stored::default(),
        sealing,
        registers: keys::Registers::default(),
        key_uses: key_uses::KeyUses::default(),
        heard: tokio::sync::Mutex::default(),
        requests: requests::Board::new(Some(spool.spool_handle())),
        changes: changes::Settings {
            webhook: options.changes.changes_webhook.clone(),
            address: options.changes.changes_address,
            port: options.changes.changes_listen.port(),
            gitops: options.changes.changes_gitops,
        },
        change_count,
        watched_until: leader.watched_until,
    });
    let (door, notes) = changes::Door::new();
    let webhook = webhook(context.clone(), door, options.changes.changes_listen);
    let (changed, recorder) = changes::Recorder::start(context.clone(), notes, spool.spool_handle());
    let counting = context.clone();
    let (outcome, is_leader) = tokio::select! {
        outcome = leader.keep() => (outcome, false),
        outcome = reconcile::run(context, changed) => (outcome, true),
        outcome = webhook => (outcome, true),
        () = sealed_count.keep(&counting) => (Ok(()), true),
        _ = term.recv() => (Ok(()), true),
        _ = tokio::signal::ctrl_c() => (Ok(()), true),
    };
    // The ledger is the leader's: whoever leads next begins with what this process recorded last.
    if is_leader {
        recorder.finish().await;
    } else {
        recorder.abort().await;
    }
    drop(health);
    counting.requests.finish();
    spool.close();
    leader.release().await;
    let _ = stop_shipper.send(true);
    if let Some(shipper) = shipper {
        let _ = shipper.await;
    }
    outcome
}

/// The settings of gateways, with the secrets that files hold.
fn gateway_settings(options: &Options) -> anyhow::Result<GatewaySettings> {
    Ok(GatewaySettings {
        operator_namespace: options.namespace.clone(),
        metrics_namespaces: options.gateway_metrics_namespaces.clone(),
        image: options.gateway_image.clone(),
        pull_policy: options.gateway_image_pull_policy.clone(),
        layout: if options.gateway_layout == "own" { Layout::Own } else { Layout::Shared },
        replicas: options.gateway_replicas as i32,
        cpu_request: options.gateway_cpu_request.clone(),
        memory_limit: options.gateway_memory_limit.clone(),
        limits: options.limits.clone(),
        telemetry: options.telemetry.clone(),
        traces_authorization: secret_of(options.gateway_traces_authorization_file.as_deref())?,
        audit_on_full: options.gateway_audit_on_full.clone(),
        audit_successes: options.gateway_audit_successes.clone(),
        sealing: options.sealing.of_gateways(),
        store: options.gateway_store.clone().filter(|url| !url.is_empty()),
        store_password: secret_of(options.gateway_store_password_file.as_deref())?,
        elasticsearch: options.elasticsearch.clone().filter(|url| !url.is_empty()),
        elasticsearch_authorization: secret_of(options.elasticsearch_authorization_file.as_deref())?,
        kept: options.audit.kept(),
        chain_key: options.audit.key_text()?,
    })
}

/// The secret in a file, without the space around it.
pub(crate) fn secret_of(path: Option<&Path>) -> anyhow::Result<Option<Redacted<String>>> {
    let Some(path) = path else { return Ok(None) };
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Some(Redacted::new(text.trim().to_owned())))
}

/// Serves and keeps the webhook of changes, where there is one.
async fn webhook(context: Arc<Context>, door: Arc<changes::Door>, address: SocketAddr) -> anyhow::Result<()> {
    if context.changes.webhook.is_empty() {
        return std::future::pending().await;
    }
    let listener =
        tokio::net::TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    tokio::join!(changes::serve(door.clone(), listener), changes::keep_webhook(context, door));
    Ok(())
}
