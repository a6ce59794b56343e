//! `idm manager`: the Manager of a cluster, where people sign in with tokens of the API server.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use idm_manager::{ClusterOptions, Manager, ManagerServer, Scheme, ServerTls};

use super::ManagerArgs;
use crate::options::ElasticsearchArgs;
use crate::serve::stopped;

/// Serve the web application and the management API over the objects of a cluster
#[derive(Args)]
pub(crate) struct ClusterManager {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:8003")]
    listen: SocketAddr,
    /// PEM file with the certificate of the server and its chain; it is read again when it is replaced
    #[arg(long, requires = "tls_key_file")]
    tls_cert_file: Option<PathBuf>,
    /// PEM file with the key of the certificate
    #[arg(long, requires = "tls_cert_file")]
    tls_key_file: Option<PathBuf>,
    /// TLS ends at a proxy in front, which alone reaches this address: browsers come over https
    #[arg(long, conflicts_with_all = ["tls_cert_file", "danger_plain_http"])]
    behind_proxy: bool,
    #[command(flatten)]
    names: ManagerArgs,
    /// The API server, which gets the tokens of people [default: that of the cluster that this runs in]
    #[arg(long, env = "IDM_API_SERVER", value_name = "URL")]
    api_server: Option<String>,
    /// PEM file with the certificate authority of the API server [default: the system's authorities]
    #[arg(long, env = "IDM_API_SERVER_CA_FILE")]
    api_server_ca_file: Option<PathBuf>,
    /// A namespace to show to people who may not list namespaces, as far as they may read it; may be repeated
    #[arg(long = "namespace", value_name = "NAME", value_delimiter = ',')]
    namespaces: Vec<String>,
    #[command(flatten)]
    elasticsearch: ElasticsearchArgs,
}

impl ClusterManager {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let tls = match (&self.tls_cert_file, &self.tls_key_file) {
            (Some(certificate), Some(key)) => Some(ServerTls::open(certificate, key)?),
            _ => None,
        };
        let scheme = if tls.is_some() || self.behind_proxy { Scheme::Https } else { Scheme::Http };
        if scheme == Scheme::Http && !self.listen.ip().is_loopback() && !self.names.danger_plain_http {
            bail!(
                "people would send their tokens in the clear: give --tls-cert-file and --tls-key-file, or \
                 --behind-proxy where a proxy in front speaks TLS"
            );
        }
        let options = ClusterOptions {
            api_server: self.api_server.or_else(in_cluster).context(
                "no API server: give --api-server, or run inside a cluster, where KUBERNETES_SERVICE_HOST is set",
            )?,
            api_server_ca_file: self.api_server_ca_file,
            namespaces: self.namespaces,
            elasticsearch: self.elasticsearch.options()?,
        };
        let manager = Manager::of_cluster(options, &self.names.allowed_hosts, scheme)?;
        let server = ManagerServer::start(self.listen, manager, tls).await;
        let server = server.with_context(|| format!("cannot listen on {}", self.listen))?;
        let shown = if self.tls_cert_file.is_some() { "https" } else { "http" };
        say!("Manager  {shown}://{}", server.address());
        stopped().await;
        server.stop().await;
        Ok(())
    }
}

/// The API server of the cluster that this process runs in.
fn in_cluster() -> Option<String> {
    let host = std::env::var("KUBERNETES_SERVICE_HOST").ok().filter(|host| !host.is_empty())?;
    let port = std::env::var("KUBERNETES_SERVICE_PORT").ok().filter(|port| !port.is_empty())?;
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    Some(format!("https://{host}:{port}"))
}
