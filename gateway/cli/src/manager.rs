//! The Manager of `idm run` and `idm demo`: its address, its code, its end. That of a cluster is in `cluster.rs`.

mod cluster;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use idm_compile::Settings;
use idm_gateway::{AuditOptions, Gateway};
use idm_manager::{FolderOptions, Manager, ManagerServer};

pub(crate) use cluster::ClusterManager;

/// Names of the Manager
#[derive(Args, Clone, Debug)]
pub(crate) struct ManagerArgs {
    /// A name under which the Manager may be asked, beside localhost, 127.0.0.1 and [::1]; may be repeated
    #[arg(long = "allowed-host", value_name = "NAME")]
    allowed_hosts: Vec<String>,
    /// Serve the Manager over plain http on an address that other machines reach. Anyone on the way can then read and
    /// change everything: for tests only
    #[arg(long)]
    danger_plain_http: bool,
}

/// The folder that is managed, and the gateway that serves it.
pub(crate) struct ManagedFolder<'d> {
    pub(crate) dir: &'d Path,
    pub(crate) settings: Settings,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) audit: AuditOptions,
}

/// A Manager that serves.
pub(crate) struct RunningManager {
    server: ManagerServer,
    code: String,
}

impl ManagerArgs {
    pub(crate) async fn start(&self, address: SocketAddr, over: ManagedFolder<'_>) -> anyhow::Result<RunningManager> {
        if !address.ip().is_loopback() && !self.danger_plain_http {
            bail!("the Manager speaks plain http: give it an address of this machine such as 127.0.0.1:8003");
        }
        let ManagedFolder { dir, settings, gateway, audit } = over;
        let options = FolderOptions {
            dir: dir.to_owned(),
            settings,
            gateway,
            audit_dir: audit.dir,
            elasticsearch: audit.elasticsearch,
        };
        let (manager, code) = Manager::of_folder(options, &self.allowed_hosts)?;
        let server = ManagerServer::start(address, manager, None).await;
        Ok(RunningManager { server: server.with_context(|| format!("cannot listen on {address}"))?, code })
    }
}

impl RunningManager {
    /// Its address, with the code that opens the one session.
    pub(crate) fn line(&self) -> String {
        format!("Manager  http://{}   code {}", self.server.address(), self.code)
    }

    /// Ends it. Waits for changes that are under way, so that their records are stored.
    pub(crate) async fn stop(self) {
        self.server.stop().await;
    }
}
