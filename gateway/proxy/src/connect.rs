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
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::body::RequestBody;
use crate::exchange::{Connection, StreamPlace, Tunnel};
use crate::health::{Health, Tried};
use crate::server::LocalExecutor;
use crate::stream::Spoken;
use crate::upstream_tls::UpstreamTls;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_IDLE: usize = 256;
/// Shorter than the 60 to 75 seconds after which servers close idle connections.
const MAX_IDLE_TIME: Duration = Duration::from_secs(50);

/// The streams from which on another HTTP/2 connection is made.
const MANY_STREAMS: usize = 100;
/// The most HTTP/2 connections of one core to one backend; further streams wait on these.
const MAX_SHARED: usize = 16;
/// The most header fields of an answer.
const MAX_HEADERS: usize = 256;

pub(crate) type Http2 = http2::SendRequest<RequestBody>;

/// The reason why there is no connection.
#[derive(Clone, Debug)]
pub(crate) enum ConnectError {
    /// The name has no address, or none that may be used.
    NoAddress(String),
    Failed(String),
    /// The backend's certificate was refused.
    Untrusted(String),
    TimedOut,
    /// All addresses that it may use are left alone.
    Ejected,
}

pub(crate) struct Pool {
    backend: Backend,
    /// An error: it cannot be armed, so no connection is made.
    tls: Option<Result<Arc<UpstreamTls>, String>>,
    /// `host:port`, for the audit.
    pub(crate) name: String,
    idle: RefCell<VecDeque<(Connection, Instant)>>,
    shared: RefCell<Vec<Shared>>,
    /// Held while a connection for HTTP/2 is made, so that requests that come together share it.
    connecting: tokio::sync::Mutex<()>,
    /// The number of failed attempts at such a connection, and the last error.
    failed: RefCell<(u64, ConnectError)>,
    /// The addresses of the API server.
    api_server: RefCell<Arc<[IpAddr]>>,
    /// The number of lookups until now.
    turn: Cell<usize>,
    /// The copies of requests that are on their way to it as a mirror.
    pub(crate) copies: Cell<usize>,
    /// The known state of the backend.
    pub(crate) health: Health,
}

/// An HTTP/2 connection with the number of its streams.
struct Shared {
    sender: Http2,
    peer: SocketAddr,
    streams: Rc<Cell<usize>>,
}

impl Pool {
    pub(crate) fn new(backend: Backend, tls: Option<Result<Arc<UpstreamTls>, String>>, health: Health) -> Rc<Self> {
        let name = format!("{}:{}", backend.host, backend.port);
        Rc::new(Self {
            backend,
            tls,
            name,
            idle: RefCell::default(),
            shared: RefCell::default(),
            connecting: tokio::sync::Mutex::default(),
            failed: RefCell::new((0, ConnectError::TimedOut)),
            api_server: RefCell::new([].into()),
            turn: Cell::new(0),
            copies: Cell::new(0),
            health,
        })
    }

    /// Sets the addresses of the API server: new connections spare them.
    pub(crate) fn spare(&self, api_server: &Arc<[IpAddr]>) {
        self.api_server.replace(api_server.clone());
    }

    /// The scheme of its URIs.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.backend
    }

    /// An idle connection that is still open, the most recently used first.
    pub(crate) fn idle(&self, tried: &Tried) -> Option<Connection> {
        let now = Instant::now();
        let mut idle = self.idle.borrow_mut();
        let mut busy = None;
        let mut found = None;
        while let Some((connection, since)) = idle.pop_back() {
            if connection.is_closed()
                || now.saturating_duration_since(since) > MAX_IDLE_TIME
                || self.health.is_ejected(connection.peer(), now)
            {
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
        tried.set(found.as_ref().map(Connection::peer));
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
    pub(crate) async fn connect(&self, tried: &Tried) -> Result<Connection, ConnectError> {
        let (sender, peer) = self.handshake(tried).await?;
        Ok(Connection::new(sender, peer))
    }

    /// A new HTTP/1.1 connection for one upgrade.
    pub(crate) async fn tunnel(&self, tried: &Tried) -> Result<Tunnel, ConnectError> {
        self.handshake(tried).await.map(|(sender, _)| Tunnel::new(sender))
    }

    async fn handshake<B>(&self, tried: &Tried) -> Result<(http1::SendRequest<B>, SocketAddr), ConnectError>
    where
        B: http_body::Body<Data = bytes::Bytes> + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (dialed, peer) = self.dial(Spoken::Http1, tried).await?;
        let sender = match dialed {
            Dialed::Plain(stream) => handshake(stream).await,
            Dialed::Secured(stream) => handshake(*stream).await,
        };
        Ok((sender?, peer))
    }

    /// A stream on the HTTP/2 connection of this core that has the fewest, or on a new one while all have many: servers
    /// limit the streams of one connection (RFC 9113 §6.5.2 recommends to allow 100).
    pub(crate) async fn http2(&self, tried: &Tried) -> Result<(Http2, StreamPlace), ConnectError> {
        if let Some(found) = self.shared_http2(tried) {
            return Ok(found);
        }
        let failed_before = self.failed.borrow().0;
        let _one_at_a_time = self.connecting.lock().await;
        if let Some(found) = self.shared_http2(tried) {
            return Ok(found);
        }
        // Requests that waited for an attempt share its failure: else each would wait for one of its own in turn.
        if self.failed.borrow().0 != failed_before {
            return Err(self.failed.borrow().1.clone());
        }
        let (sender, peer) = self.connect_http2(tried).await.inspect_err(|error| {
            *self.failed.borrow_mut() = (failed_before.wrapping_add(1), error.clone());
        })?;
        let streams = Rc::default();
        let place = StreamPlace::take(&streams);
        self.shared.borrow_mut().push(Shared { sender: sender.clone(), peer, streams });
        Ok((sender, place))
    }

    async fn connect_http2(&self, tried: &Tried) -> Result<(Http2, SocketAddr), ConnectError> {
        let (dialed, peer) = self.dial(Spoken::Http2, tried).await?;
        let sender = match dialed {
            Dialed::Plain(stream) => handshake_http2(stream).await,
            Dialed::Secured(stream) => handshake_http2(*stream).await,
        };
        Ok((sender?, peer))
    }

    fn shared_http2(&self, tried: &Tried) -> Option<(Http2, StreamPlace)> {
        let now = Instant::now();
        let mut shared = self.shared.borrow_mut();
        // Streams under way on a connection that is not offered any more go on.
        shared.retain(|shared| !shared.sender.is_closed() && !self.health.is_ejected(shared.peer, now));
        let full = shared.len() >= MAX_SHARED;
        let least = shared.iter().min_by_key(|shared| shared.streams.get())?;
        let fits = full || least.streams.get() < MANY_STREAMS;
        fits.then(|| {
            tried.set(Some(least.peer));
            (least.sender.clone(), StreamPlace::take(&least.streams))
        })
    }

    /// Whether requests of this kind are sent over HTTP/2.
    pub(crate) fn speaks_http2(&self, is_grpc: bool) -> bool {
        match self.backend.protocol {
            BackendProtocol::Http2 => true,
            BackendProtocol::Http1 => is_grpc && self.tls.is_some(),
        }
    }

    /// A connection, with TLS where the backend has it.
    async fn dial(&self, protocol: Spoken, tried: &Tried) -> Result<(Dialed, SocketAddr), ConnectError> {
        let dialed = async {
            match &self.tls {
                None => self.dial_any(tried).await.map(|(tcp, peer)| (Dialed::Plain(tcp), peer)),
                Some(Ok(tls)) => {
                    let (tcp, peer) = self.dial_any(tried).await?;
                    let secured = tls.secure(tcp, protocol).await;
                    secured.map(|secured| (Dialed::Secured(Box::new(secured)), peer))
                }
                Some(Err(problem)) => Err(ConnectError::Untrusted(problem.clone())),
            }
        };
        tokio::time::timeout(CONNECT_TIMEOUT, dialed).await.unwrap_or(Err(ConnectError::TimedOut))
    }

    /// Tries the addresses of the name in turn. Addresses are checked after resolution, so that a name cannot lead to
    /// an address that would be refused as such.
    async fn dial_any(&self, tried: &Tried) -> Result<(TcpStream, SocketAddr), ConnectError> {
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
        let mut addresses = in_turn(addresses, turn, may_have);
        self.health.found(&addresses);
        let (now, some) = (Instant::now(), !addresses.is_empty());
        addresses.retain(|address| !self.health.is_ejected(*address, now));
        if some && addresses.is_empty() {
            return Err(ConnectError::Ejected);
        }
        for address in addresses {
            tried.set(Some(address));
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    let _ = stream.set_nodelay(true);
                    return Ok((stream, address));
                }
                // The failure of the last one is that of the attempt.
                Err(error) => last = ConnectError::Failed(format!("{address}: {error}")),
            }
        }
        Err(last)
    }
}

/// An open connection, on which no byte of HTTP was sent.
enum Dialed {
    Plain(TcpStream),
    Secured(Box<TlsStream<TcpStream>>),
}

/// Begins HTTP/1.1 on a connection, which a task of this core drives.
async fn handshake<S, B>(stream: S) -> Result<http1::SendRequest<B>, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: http_body::Body<Data = bytes::Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    // The gateway holds one read of a fast upstream for a slow caller.
    let mut builder = http1::Builder::new();
    let handshake =
        builder.writev(false).max_buf_size(64 << 10).max_headers(MAX_HEADERS).handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(|error| ConnectError::Failed(error.to_string()))?;
    tokio::task::spawn_local(async move {
        // An error here is the error of the request that used the connection; idle ones just end.
        let _ = connection.with_upgrades().await;
    });
    Ok(sender)
}

/// Begins HTTP/2 on a connection, which a task of this core drives.
async fn handshake_http2<S: AsyncRead + AsyncWrite + Unpin + 'static>(stream: S) -> Result<Http2, ConnectError> {
    let mut builder = http2::Builder::new(LocalExecutor);
    builder.timer(hyper_util::rt::TokioTimer::new()).keep_alive_interval(Duration::from_secs(30)).adaptive_window(true);
    let (sender, connection) =
        builder.handshake(TokioIo::new(stream)).await.map_err(|e| ConnectError::Failed(e.to_string()))?;
    tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

/// The addresses that may be dialled, in the order of trying. A headless Service has one for each of its pods, which
/// take turns; addresses of another family than the first stay behind, as the resolver has them.
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
            tls: None,
            weight: 1,
            headers: vec![],
            local: false,
        };
        let spared: Arc<[IpAddr]> = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()].into();
        for host in ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "127.0.0.1"] {
            let pool = Pool::new(backend(host), None, Health::new(Default::default(), 1));
            pool.spare(&spared);
            let refused = runtime.block_on(pool.dial_any(&Tried::default()));
            assert!(matches!(refused, Err(ConnectError::NoAddress(_))), "{host}: {refused:?}");
        }
    }
}
