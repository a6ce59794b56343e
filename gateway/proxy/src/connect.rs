//! Connections to one backend, kept by one core.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use idm_plan::{Backend, BackendProtocol, is_local_address};
use tokio::net::TcpStream;

use crate::body::RequestBody;
use crate::exchange::{Connection, Tunnel};
use crate::server::LocalExecutor;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_IDLE: usize = 256;
/// Shorter than the 60 to 75 seconds after which servers close idle connections.
const MAX_IDLE_TIME: Duration = Duration::from_secs(50);

pub(crate) type Http2 = http2::SendRequest<RequestBody>;

/// The reason why there is no connection.
#[derive(Debug)]
pub(crate) enum ConnectError {
    /// The name has no address, or none that may be used.
    NoAddress(String),
    Failed(String),
    TimedOut,
}

pub(crate) struct Pool {
    backend: Backend,
    /// `host:port`, for the audit.
    pub(crate) name: String,
    idle: RefCell<VecDeque<(Connection, Instant)>>,
    shared: RefCell<Option<Http2>>,
    /// The addresses of the API server.
    api_server: RefCell<Arc<[IpAddr]>>,
    /// The number of lookups until now.
    turn: Cell<usize>,
}

impl Pool {
    pub(crate) fn new(backend: Backend) -> Rc<Self> {
        let name = format!("{}:{}", backend.host, backend.port);
        Rc::new(Self {
            backend,
            name,
            idle: RefCell::default(),
            shared: RefCell::default(),
            api_server: RefCell::new([].into()),
            turn: Cell::new(0),
        })
    }

    /// Sets the addresses of the API server: new connections spare them.
    pub(crate) fn spare(&self, api_server: &Arc<[IpAddr]>) {
        self.api_server.replace(api_server.clone());
    }

    /// The backend's value of `Host`. It omits the default port of `http` (RFC 9110 §7.2).
    pub(crate) fn authority(&self) -> String {
        let Backend { host, port, .. } = &self.backend;
        let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.clone() };
        if *port == 80 { host } else { format!("{host}:{port}") }
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.backend
    }

    /// An idle connection that is still open, the most recently used first.
    pub(crate) fn idle(&self) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        let mut busy = None;
        let mut found = None;
        while let Some((connection, since)) = idle.pop_back() {
            if connection.is_closed() || since.elapsed() > MAX_IDLE_TIME {
                continue;
            }
            if connection.is_ready() {
                found = Some(connection);
                break;
            }
            // Its last response has just ended and the connection was not polled since.
            if busy.replace((connection, since)).is_some() {
                break;
            }
        }
        if let Some(busy) = busy {
            idle.push_front(busy);
        }
        found
    }

    /// Takes back a connection whose exchange was complete.
    pub(crate) fn give_back(&self, connection: Connection) {
        let mut idle = self.idle.borrow_mut();
        if !connection.is_closed() && idle.len() < MAX_IDLE {
            idle.push_back((connection, Instant::now()));
        }
    }

    /// A new HTTP/1.1 connection, driven by a task of this core.
    pub(crate) async fn connect(&self) -> Result<Connection, ConnectError> {
        self.handshake().await.map(Connection::new)
    }

    /// A new HTTP/1.1 connection for one upgrade.
    pub(crate) async fn tunnel(&self) -> Result<Tunnel, ConnectError> {
        self.handshake().await.map(Tunnel::new)
    }

    async fn handshake<B>(&self) -> Result<http1::SendRequest<B>, ConnectError>
    where
        B: http_body::Body<Data = bytes::Bytes> + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let stream = self.dial().await?;
        // The gateway holds one read of a fast upstream for a slow caller.
        let mut builder = http1::Builder::new();
        let handshake = builder.writev(false).max_buf_size(64 << 10).handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| ConnectError::Failed(error.to_string()))?;
        tokio::task::spawn_local(async move {
            // An error here is the error of the request that used the connection; idle ones just end.
            let _ = connection.with_upgrades().await;
        });
        Ok(sender)
    }

    /// The one HTTP/2 connection of this core, made when there is none.
    pub(crate) async fn http2(&self) -> Result<Http2, ConnectError> {
        if let Some(sender) = self.shared.borrow().as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let stream = self.dial().await?;
        let mut builder = http2::Builder::new(LocalExecutor);
        builder
            .timer(hyper_util::rt::TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(30))
            .adaptive_window(true);
        let (sender, connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(|e| ConnectError::Failed(e.to_string()))?;
        tokio::task::spawn_local(async move {
            let _ = connection.await;
        });
        *self.shared.borrow_mut() = Some(sender.clone());
        Ok(sender)
    }

    pub(crate) fn speaks_http2(&self) -> bool {
        self.backend.protocol == BackendProtocol::H2c
    }

    async fn dial(&self) -> Result<TcpStream, ConnectError> {
        tokio::time::timeout(CONNECT_TIMEOUT, self.dial_any()).await.unwrap_or(Err(ConnectError::TimedOut))
    }

    /// Tries the addresses of the name in turn. Addresses are checked after resolution, so that a name cannot lead to
    /// an address that would be refused as such.
    async fn dial_any(&self) -> Result<TcpStream, ConnectError> {
        let Backend { host, port, local, .. } = &self.backend;
        let addresses: Vec<SocketAddr> = match host.parse::<IpAddr>() {
            Ok(ip) => vec![(ip, *port).into()],
            Err(_) => tokio::net::lookup_host((host.as_str(), *port))
                .await
                .map_err(|e| ConnectError::NoAddress(e.to_string()))?
                .collect(),
        };
        let mut last = ConnectError::NoAddress("the name has no address that a backend may have".into());
        let turn = self.turn.replace(self.turn.get().wrapping_add(1));
        let api_server = self.api_server.borrow().clone();
        let may_have = |ip: IpAddr| *local || !is_local_address(ip) && !api_server.contains(&ip.to_canonical());
        for address in in_turn(addresses, turn, may_have) {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Err(error) => last = ConnectError::Failed(format!("{address}: {error}")),
            }
        }
        Err(last)
    }
}

/// The addresses that may be dialled, in the order of trying. A headless Service has one for each of its pods, which take
/// turns; addresses of another family than the first stay behind, as the resolver has them.
fn in_turn(found: Vec<SocketAddr>, turn: usize, may_have: impl Fn(IpAddr) -> bool) -> Vec<SocketAddr> {
    let allowed: Vec<_> = found.into_iter().filter(|address| may_have(address.ip())).collect();
    let preferred = allowed.first().is_some_and(SocketAddr::is_ipv4);
    let (mut first, others): (Vec<_>, Vec<_>) = allowed.into_iter().partition(|found| found.is_ipv4() == preferred);
    let turn = turn.checked_rem(first.len()).unwrap_or_default();
    first.rotate_left(turn);
    first.extend(others);
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(found: &[&str], turn: usize, forbidden: &str) -> Vec<String> {
        let found = found.iter().map(|text| text.parse().unwrap()).collect();
        let dialled = in_turn(found, turn, |ip| ip.to_string() != forbidden);
        dialled.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn pods_take_turns_and_other_families_wait() {
        let found = ["10.0.0.1:80", "[fd12::1]:80", "10.0.0.2:80", "10.0.0.3:80"];
        assert_eq!(shown(&found, 0, ""), ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "[fd12::1]:80"]);
        assert_eq!(shown(&found, 4, ""), ["10.0.0.2:80", "10.0.0.3:80", "10.0.0.1:80", "[fd12::1]:80"]);
        assert_eq!(shown(&found, 1, "10.0.0.2"), ["10.0.0.3:80", "10.0.0.1:80", "[fd12::1]:80"]);
        assert!(shown(&["10.0.0.1:80"], 3, "10.0.0.1").is_empty() && shown(&[], 3, "").is_empty());
    }

    #[test]
    fn a_backend_of_a_tenant_never_is_the_api_server() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let backend = |host: &str| Backend {
            host: host.into(),
            port: 9,
            protocol: BackendProtocol::Http1,
            weight: 1,
            local: false,
        };
        let spared: Arc<[IpAddr]> = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()].into();
        for host in ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "127.0.0.1"] {
            let pool = Pool::new(backend(host));
            pool.spare(&spared);
            let refused = runtime.block_on(pool.dial_any());
            assert!(matches!(refused, Err(ConnectError::NoAddress(_))), "{host}: {refused:?}");
        }
    }
}
