//! `idm run` and `idm gateway`: serving until told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use idm_compile::Settings;
use idm_gateway::source::{Opener, bundle, dir::DirSource};
use idm_gateway::{AdminServer, Gateway, GatewayOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::manager::{ManagedFolder, ManagerArgs, RunningManager};
use crate::options::{AuditArgs, BlockArgs, BodyArgs, CallerArgs, EgressArgs, ProxyArgs, StoreArgs, TelemetryArgs};
use crate::seal::SealArgs;

/// Serve the policies of a folder, without a cluster
#[derive(Args)]
pub(crate) struct Run {
    /// Folder with the YAML files; read again when they change
    #[arg(long)]
    dir: PathBuf,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
    /// Address to listen on for HTTPS, with the certificates of the folder's Gateways [default: nowhere]
    #[arg(long)]
    listen_tls: Option<SocketAddr>,
    /// Address of health and metrics [default: nowhere]
    #[arg(long)]
    admin: Option<SocketAddr>,
    /// Address of the Manager: the web application and the management API [default: nowhere]
    #[arg(long, value_name = "ADDR")]
    manager: Option<SocketAddr>,
    #[command(flatten)]
    manager_names: ManagerArgs,
    /// Fetch issuer keys over plain http and from this machine. Anyone on the way can then make valid tokens: for tests
    /// only
    #[arg(long)]
    danger_insecure_issuers: bool,
    #[command(flatten)]
    callers: CallerArgs,
    #[command(flatten)]
    proxies: ProxyArgs,
    #[command(flatten)]
    blocks: BlockArgs,
    #[command(flatten)]
    egress: EgressArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    bodies: BodyArgs,
    #[command(flatten)]
    telemetry: TelemetryArgs,
    #[command(flatten)]
    audit: AuditArgs,
}

impl Run {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        if self.danger_insecure_issuers {
            tracing::warn!(
                "issuer keys may come over plain http and from this machine: tokens can be forged by whoever controls \
                 the way"
            );
        }
        let options = GatewayOptions {
            listen_tls: self.listen_tls,
            danger_insecure_issuers: self.danger_insecure_issuers,
            store: self.store.options("standalone")?,
            limits: self.callers.limits(),
            deadlines: self.callers.deadlines(),
            proxies: self.proxies.trusted(),
            blocks: self.blocks.options(&self.proxies)?,
            egress: self.egress.egress()?,
            bodies: self.bodies.limits(),
            consumers: self.telemetry.consumers(),
            access_log: self.telemetry.access_log(),
            traces: self.telemetry.traces(None)?,
            ..GatewayOptions::new("standalone", self.listen, self.audit.options()?)
        };
        let settings = Settings::of_a_folder(self.danger_insecure_issuers);
        let (source, first) = DirSource::load(&self.dir, settings).await?;
        let gateway = Gateway::start(&options, Some(&first)).await?;
        drop(first);
        let admin = match self.admin {
            Some(address) => Some(AdminServer::start(address, gateway.clone()).await?),
            None => None,
        };
        let manager = match self.manager {
            Some(address) => {
                let over =
                    ManagedFolder { dir: &self.dir, settings, gateway: gateway.clone(), audit: options.audit.clone() };
                Some(self.manager_names.start(address, over).await?)
            }
            None => None,
        };
        let http = Some(format!("idm serves {} on http://{}", self.dir.display(), gateway.address()));
        let https = gateway.tls_address().map(|address| format!("and on https://{address}"));
        let admin_at = admin.as_ref().map(|admin| format!("health and metrics on http://{}/-/", admin.address()));
        let manager_at = manager.as_ref().map(RunningManager::line);
        for line in [http, https, admin_at, manager_at].into_iter().flatten() {
            // Standard output is the access log's alone, where there is one.
            match options.access_log {
                None => say!("{line}"),
                Some(_) => complain!("{line}"),
            }
        }
        let (stop, watching) = watch::channel(false);
        let watcher = tokio::spawn(source.watch(gateway.clone(), watching));
        stopped().await;
        let _ = stop.send(true);
        let _ = watcher.await;
        if let Some(manager) = manager {
            manager.stop().await;
        }
        gateway.stop().await;
        Ok(())
    }
}

/// Serve as a gateway pod, configured by the operator
#[derive(Args)]
pub(crate) struct GatewayPod {
    /// The pod's name, for audit records
    #[arg(long, env = "POD_NAME", default_value = "gateway")]
    name: String,
    /// The pod's namespace
    #[arg(long, env = "POD_NAMESPACE")]
    namespace: String,
    /// The Secret with the configuration
    #[arg(long)]
    config_secret: String,
    /// The mounted file of that Secret, for a start without an API server
    #[arg(long)]
    config_file: PathBuf,
    /// The Secret that those with shards of Credentials are named after: one for all gateways of a namespace
    #[arg(long, default_value = "idm-gateway")]
    shards_secret: String,
    /// The folder with the mounted shards of Credentials, for the same
    #[arg(long, default_value = "/shards")]
    config_shards: PathBuf,
    /// Address to listen on
    #[arg(long, default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// Address to listen on for HTTPS
    #[arg(long, default_value = "0.0.0.0:8443")]
    listen_tls: SocketAddr,
    /// Address of health, metrics and the acknowledgement
    #[arg(long, default_value = "0.0.0.0:8081")]
    admin: SocketAddr,
    /// Seconds to keep serving after readiness was turned off, until everyone has stopped sending
    #[arg(long, default_value_t = 5)]
    drain_delay_seconds: u64,
    #[command(flatten)]
    sealing: SealArgs,
    #[command(flatten)]
    callers: CallerArgs,
    #[command(flatten)]
    proxies: ProxyArgs,
    #[command(flatten)]
    blocks: BlockArgs,
    #[command(flatten)]
    egress: EgressArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    bodies: BodyArgs,
    #[command(flatten)]
    telemetry: TelemetryArgs,
    #[command(flatten)]
    audit: AuditArgs,
}

impl GatewayPod {
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        let opener = Opener::new(&self.namespace, self.sealing.envelope()?);
        let files = self.store.secret_files().chain(self.audit.secret_files()).chain(self.telemetry.secret_files());
        for file in files {
            file.open(&opener, &self.config_secret).await?;
        }
        let options = GatewayOptions {
            listen_tls: Some(self.listen_tls),
            store: self.store.options(&self.namespace)?,
            limits: self.callers.limits(),
            deadlines: self.callers.deadlines(),
            proxies: self.proxies.trusted(),
            blocks: self.blocks.options(&self.proxies)?,
            egress: self.egress.egress()?,
            bodies: self.bodies.limits(),
            consumers: self.telemetry.consumers(),
            access_log: self.telemetry.access_log(),
            traces: self.telemetry.traces(Some(&self.namespace))?,
            ..GatewayOptions::new(&self.name, self.listen, self.audit.options()?)
        };
        let gateway = Gateway::start(&options, None).await?;
        let _admin = AdminServer::start(self.admin, gateway.clone()).await?;
        let (stop, stopping) = watch::channel(false);
        let config = bundle::Config { secret: self.config_secret, shards: self.shards_secret, opener };
        let file = tokio::spawn(bundle::follow_file(
            self.config_file,
            self.config_shards,
            config.clone(),
            gateway.clone(),
            stopping.clone(),
        ));
        let secret = tokio::spawn(bundle::follow_secret(self.namespace, config, gateway.clone(), stopping));
        stopped().await;
        gateway.unready();
        tokio::time::sleep(Duration::from_secs(self.drain_delay_seconds)).await;
        let _ = stop.send(true);
        let _ = tokio::join!(file, secret);
        gateway.stop().await;
        Ok(())
    }
}

/// Resolves on SIGTERM or SIGINT.
pub(crate) async fn stopped() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
