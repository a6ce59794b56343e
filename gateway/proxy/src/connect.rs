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
}

/// An HTTP/2 connection with the number of its streams.
struct Shared {
    sender: Http2,
    streams: Rc<Cell<usize>>,
}

impl Pool {
    pub(crate) fn new(backend: Backend, tls: Option<Result<Arc<UpstreamTls>, String>>) -> Rc<Self> {
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
        match self.dial(Spoken::Http1).await? {
            Dialed::Plain(stream) => handshake(stream).await,
            Dialed::Secured(stream) => handshake(*stream).await,
        }
    }

    /// A stream on the HTTP/2 connection of this core that has the fewest, or on a new one while all have many: servers
    /// limit the streams of one connection (RFC 9113 §6.5.2 recommends to allow 100).
    pub(crate) async fn http2(&self) -> Result<(Http2, StreamPlace), ConnectError> {
        if let Some(found) = self.shared_http2() {
            return Ok(found);
        }
        let failed_before = self.failed.borrow().0;
        let _one_at_a_time = self.connecting.lock().await;
        if let Some(found) = self.shared_http2() {
            return Ok(found);
        }
        // Requests that waited for an attempt share its failure: else each would wait for one of its own in turn.
        if self.failed.borrow().0 != failed_before {
            return Err(self.failed.borrow().1.clone());
        }
        let sender = self.connect_http2().await.inspect_err(|error| {
            *self.failed.borrow_mut() = (failed_before.wrapping_add(1), error.clone());
        })?;
        let streams = Rc::default();
        let place = StreamPlace::take(&streams);
        self.shared.borrow_mut().push(Shared { sender: sender.clone(), streams });
        Ok((sender, place))
    }

    async fn connect_http2(&self) -> Result<Http2, ConnectError> {
        match self.dial(Spoken::Http2).await? {
            Dialed::Plain(stream) => handshake_http2(stream).await,
            Dialed::Secured(stream) => handshake_http2(*stream).await,
        }
    }

    fn shared_http2(&self) -> Option<(Http2, StreamPlace)> {
        let mut shared = self.shared.borrow_mut();
        shared.retain(|shared| !shared.sender.is_closed());
        let full = shared.len() >= MAX_SHARED;
        let least = shared.iter().min_by_key(|shared| shared.streams.get())?;
        let fits = full || least.streams.get() < MANY_STREAMS;
        fits.then(|| (least.sender.clone(), StreamPlace::take(&least.streams)))
    }

    /// Whether requests of this kind are sent over HTTP/2.
    pub(crate) fn speaks_http2(&self, is_grpc: bool) -> bool {
        match self.backend.protocol {
            BackendProtocol::Http2 => true,
            BackendProtocol::Http1 => is_grpc && self.tls.is_some(),
        }
    }

    /// A connection, with TLS where the backend has it.
    async fn dial(&self, protocol: Spoken) -> Result<Dialed, ConnectError> {
        let dialed = async {
            match &self.tls {
                None => self.dial_any().await.map(Dialed::Plain),
                Some(Ok(tls)) => {
                    let tcp = self.dial_any().await?;
                    tls.secure(tcp, protocol).await.map(|secured| Dialed::Secured(Box::new(secured)))
                }
                Some(Err(problem)) => Err(ConnectError::Untrusted(problem.clone())),
            }
        };
        tokio::time::timeout(CONNECT_TIMEOUT, dialed).await.unwrap_or(Err(ConnectError::TimedOut))
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
            let pool = Pool::new(backend(host), None);
            pool.spare(&spared);
            let refused = runtime.block_on(pool.dial_any());
            assert!(matches!(refused, Err(ConnectError::NoAddress(_))), "{host}: {refused:?}");
        }
    }
}
