//! Connections to servers of directories, and only to where a tenant's Federation may lead.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use idm_plan::{DirectoryServer, is_local_address};
use idm_trust::{DirectoryError, DirectoryErrorKind};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The longest time that one address may take to answer.
const CONNECT: Duration = Duration::from_secs(1);
/// Keep-alive probes of an idle connection, so that a firewall's limit is noticed before a login pays for it.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// The addresses that may be reached.
#[derive(Clone, Debug)]
pub struct Reach {
    /// Also this machine and its link, whatever name leads there.
    pub local: bool,
    /// The API server, which never is a directory.
    pub api_server: Option<IpAddr>,
}

impl Reach {
    /// Of this process: the API server is the one that Kubernetes tells pods about.
    pub fn of_this_process(local: bool) -> Self {
        let api_server = std::env::var("KUBERNETES_SERVICE_HOST").ok().and_then(|host| host.parse().ok());
        Self { local, api_server }
    }

    /// Whether an address may be reached for a host as it is written. A host that is written as this machine was
    /// allowed when the Federation was compiled; a name that leads here was not.
    fn allows(&self, host: &str, address: IpAddr) -> bool {
        let written = host == "localhost" || host.parse() == Ok(address);
        self.api_server != Some(address.to_canonical())
            && (self.local || (written && address.is_loopback()) || !is_local_address(address))
    }
}

/// Connects to a server, whichever of its addresses answers first in their order.
pub(crate) async fn connect(
    server: &DirectoryServer,
    reach: &Reach,
    deadline: Instant,
) -> Result<TcpStream, DirectoryError> {
    let DirectoryServer { host, port, .. } = server;
    let unavailable =
        |why: String| DirectoryError::new(DirectoryErrorKind::Unavailable, format!("{host}:{port}: {why}"));
    let found = tokio::time::timeout_at(deadline.into(), tokio::net::lookup_host((host.as_str(), *port))).await;
    let found: Vec<SocketAddr> = match found {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(error)) => return Err(unavailable(format!("its name is not resolved: {error}"))),
        Err(_) => return Err(unavailable("its name is not resolved in time".into())),
    };
    let allowed: Vec<_> = found.into_iter().filter(|address| reach.allows(host, address.ip())).collect();
    let mut last = "its name leads to this machine, its link or the API server, and is not connected to".to_owned();
    for address in allowed {
        let until = deadline.min(Instant::now() + CONNECT);
        last = match tokio::time::timeout_at(until.into(), TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                let keep_alive = socket2::TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE);
                let socket = socket2::SockRef::from(&stream);
                // Both are for speed and early notice alone.
                let _ = (socket.set_tcp_keepalive(&keep_alive), stream.set_nodelay(true));
                return Ok(stream);
            }
            Ok(Err(error)) => format!("{address}: {error}"),
            Err(_) => format!("{address} does not answer"),
        };
    }
    Err(unavailable(last))
}

/// Begins TLS on a connection and verifies the certificate against the host as it is written.
pub(crate) async fn begin_tls(
    stream: TcpStream,
    server: &DirectoryServer,
    config: &Arc<ClientConfig>,
    deadline: Instant,
) -> Result<TlsStream<TcpStream>, DirectoryError> {
    let DirectoryServer { host, port, .. } = server;
    let untrusted = |why: String| DirectoryError::new(DirectoryErrorKind::Untrusted, format!("{host}:{port}: {why}"));
    let name = ServerName::try_from(host.clone()).map_err(|_| untrusted("its name is no DNS name".into()))?;
    let handshake = TlsConnector::from(config.clone()).connect(name, stream);
    match tokio::time::timeout_at(deadline.into(), handshake).await {
        Ok(Ok(stream)) => Ok(stream),
        // An error of TLS says what is wrong with the certificate; any other one is of the connection.
        Ok(Err(error)) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
            Err(untrusted(format!("TLS: {error}")))
        }
        Ok(Err(error)) => Err(DirectoryError::new(
            DirectoryErrorKind::Unavailable,
            format!("{host}:{port}: the connection ended during TLS: {error}"),
        )),
        Err(_) => Err(DirectoryError::new(
            DirectoryErrorKind::Unavailable,
            format!("{host}:{port}: TLS did not begin in time"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_written_as_this_machine_may_lead_here() {
        let api_server = "10.0.0.1".parse().unwrap();
        let reach = Reach { local: false, api_server: Some(api_server) };
        let allows = |host: &str, address: &str| reach.allows(host, address.parse().unwrap());
        assert!(allows("dc1.corp.test", "10.1.2.3") && allows("127.0.0.1", "127.0.0.1"));
        assert!(allows("localhost", "::1") && allows("localhost", "127.0.0.1"));
        for address in ["127.0.0.1", "::1", "169.254.169.254", "fe80::1", "10.0.0.1", "::ffff:10.0.0.1", "0.0.0.0"] {
            assert!(!allows("dc1.corp.test", address), "{address}");
        }
        assert!(!allows("localhost", "169.254.169.254") && !allows("169.254.169.254", "169.254.169.254"));
        let open = Reach { local: true, ..reach.clone() };
        assert!(open.allows("dc1.corp.test", "127.0.0.1".parse().unwrap()) && !open.allows("x", api_server));
    }
}
