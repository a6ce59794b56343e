//! Accepting connections: one single-threaded runtime per core, each with its own listening socket.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use idm_audit::Spool;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

use crate::core::Core;
use crate::engine::Shared;
use crate::pipeline;
use crate::tls::Secured;

const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
const MAX_HEADER_BYTES: usize = 64 << 10;
const MAX_HEADERS: usize = 128;
/// The client connection preface of HTTP/2 (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// How to serve.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where to listen for HTTPS; port 0 takes a free one.
    pub listen_tls: Option<SocketAddr>,
    /// How many cores to use.
    pub cores: usize,
    /// How long connections may take to finish after a stop.
    pub drain: Duration,
}

/// Why the server does not listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

/// A running server.
pub struct Server {
    address: SocketAddr,
    tls_address: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Binds and serves until [`Self::stop`].
    pub fn start(config: &ServerConfig, shared: &Arc<Shared>, spool: &Spool, seed: u64) -> Result<Self, BindError> {
        let failed = |source| BindError { address: config.listen, source };
        let cores = config.cores.max(1);
        let (address, listeners) = bind(config.listen, cores)?;
        let (tls_address, tls_listeners) = match config.listen_tls {
            Some(wanted) => bind(wanted, cores)
                .map(|(address, listeners)| (Some(address), listeners.into_iter().map(Some).collect()))?,
            None => (None, (0..cores).map(|_| None).collect::<Vec<_>>()),
        };
        let stop = watch::Sender::new(false);
        let mut threads = Vec::new();
        for (number, (listener, tls)) in listeners.into_iter().zip(tls_listeners).enumerate() {
            let (shared, lane, stopped, drain) = (shared.clone(), spool.lane(), stop.subscribe(), config.drain);
            let seed = seed.wrapping_add((number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let run = move || run_core(listener, tls, shared, lane, seed, stopped, drain);
            threads.push(std::thread::Builder::new().name(format!("core-{number}")).spawn(run).map_err(failed)?);
        }
        Ok(Self { address, tls_address, stop, threads })
    }

    /// The address in use.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The HTTPS address in use.
    pub fn tls_address(&self) -> Option<SocketAddr> {
        self.tls_address
    }

    /// Stops accepting, lets requests under way finish within the drain time, and waits for that.
    pub fn stop(self) {
        let _ = self.stop.send(true);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// One listening socket for each core, on one address.
fn bind(wanted: SocketAddr, cores: usize) -> Result<(SocketAddr, Vec<std::net::TcpListener>), BindError> {
    let failed = |source| BindError { address: wanted, source };
    // SO_REUSEPORT would let a second process share the port unnoticed; a plain bind first finds out.
    let address = {
        let probe = socket(wanted, false).map_err(failed)?;
        probe.local_addr().map_err(failed)?
    };
    let listeners = (0..cores).map(|_| socket(address, true).map_err(failed)).collect::<Result<_, _>>()?;
    Ok((address, listeners))
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

fn run_core(
    listener: std::net::TcpListener,
    tls: Option<std::net::TcpListener>,
    shared: Arc<Shared>,
    lane: idm_audit::Lane,
    seed: u64,
    stopped: watch::Receiver<bool>,
    drain: Duration,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "a core could not start its runtime"),
    };
    let core = Core::new(shared, lane, seed);
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let flusher = tokio::task::spawn_local({
            let core = core.clone();
            async move { core.flush().await }
        });
        let secured = tls.map(|listener| accept(listener, true, core.clone(), stopped.clone(), drain));
        let plain = accept(listener, false, core, stopped, drain);
        match secured {
            Some(secured) => drop(tokio::join!(plain, secured)),
            None => plain.await,
        }
        flusher.abort();
    });
}

/// Who is at the other end of a connection, as address and as the header value made of it.
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    pub(crate) header: Option<http::HeaderValue>,
    /// What TLS proved; `None` on a plain connection.
    pub(crate) secured: Option<Secured>,
}

impl Peer {
    fn new(address: IpAddr, secured: Option<Secured>) -> Self {
        let address = address.to_canonical();
        Self { address, header: http::HeaderValue::from_str(&address.to_string()).ok(), secured }
    }
}

/// Counts the connections of a core and tells when the last one ended.
#[derive(Default)]
struct Connections {
    open: Cell<usize>,
    ended: Notify,
}

async fn accept(
    listener: std::net::TcpListener,
    secure: bool,
    core: Rc<Core>,
    mut stopped: watch::Receiver<bool>,
    drain: Duration,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "a core could not take its socket"),
    };
    let connections = Rc::new(Connections::default());
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stop| *stop) => break,
        };
        match stream {
            Ok((stream, peer)) => {
                connections.open.set(connections.open.get() + 1);
                core.shared.metrics.connections.fetch_add(1, Relaxed);
                let (core, stopped, connections) = (core.clone(), stopped.clone(), connections.clone());
                let _ = stream.set_nodelay(true);
                tokio::task::spawn_local(async move {
                    let _count = Counted { connections, core: core.clone() };
                    if secure {
                        serve_tls(stream, peer.ip(), core, stopped).await;
                    } else if let Ok(is_http2) = tokio::time::timeout(HEADER_TIMEOUT, speaks_http2(&stream)).await {
                        serve(stream, is_http2, Rc::new(Peer::new(peer.ip(), None)), core, stopped).await;
                    }
                });
            }
            // Out of file descriptors or the like: wait for some to be freed instead of spinning.
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    let finished = async {
        while connections.open.get() > 0 {
            connections.ended.notified().await;
        }
    };
    let _ = tokio::time::timeout(drain, finished).await;
}

struct Counted {
    connections: Rc<Connections>,
    core: Rc<Core>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.connections.open.set(self.connections.open.get().saturating_sub(1));
        self.core.shared.metrics.connections.fetch_sub(1, Relaxed);
        self.connections.ended.notify_one();
    }
}

/// Shakes hands under the configuration in force, and serves what was agreed on.
async fn serve_tls(stream: TcpStream, address: IpAddr, core: Rc<Core>, stopped: watch::Receiver<bool>) {
    // Without a certificate there is nothing to say: the connection is closed.
    let Some(config) = core.local().and_then(|local| local.engine.tls.clone()) else { return };
    let handshake = tokio_rustls::TlsAcceptor::from(config).accept(stream);
    match tokio::time::timeout(HEADER_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => {
            let connection = stream.get_ref().1;
            let (is_http2, secured) = (connection.alpn_protocol() == Some(b"h2"), Secured::of(connection));
            serve(stream, is_http2, Rc::new(Peer::new(address, Some(secured))), core, stopped).await;
        }
        Ok(Err(error)) => {
            core.shared.metrics.handshakes_failed.fetch_add(1, Relaxed);
            tracing::debug!(%address, %error, "a TLS handshake failed");
        }
        Err(_) => tracing::debug!(%address, "a TLS handshake took too long"),
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    stream: S,
    is_http2: bool,
    peer: Rc<Peer>,
    core: Rc<Core>,
    stopped: watch::Receiver<bool>,
) where
    TokioIo<S>: Send,
{
    let service = service_fn(move |request| pipeline::serve(core.clone(), peer.clone(), request));
    let io = TokioIo::new(stream);
    if is_http2 {
        let mut builder = http2::Builder::new(LocalExecutor);
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(128)
            .max_header_list_size(MAX_HEADER_BYTES as u32)
            .max_pending_accept_reset_streams(32)
            .max_local_error_reset_streams(64)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20));
        let connection = pin!(builder.serve_connection(io, service));
        until_stopped(connection, stopped, |connection| connection.graceful_shutdown()).await;
    } else {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(MAX_HEADER_BYTES)
            .max_headers(MAX_HEADERS)
            .writev(false);
        let connection = pin!(builder.serve_connection(io, service).with_upgrades());
        until_stopped(connection, stopped, |connection| connection.graceful_shutdown()).await;
    }
}

/// Drives a connection; when the server stops, tells it to finish what is under way and no more.
async fn until_stopped<C: Future>(
    mut connection: std::pin::Pin<&mut C>,
    mut stopped: watch::Receiver<bool>,
    finish: impl FnOnce(std::pin::Pin<&mut C>),
) {
    tokio::select! {
        biased;
        _ = connection.as_mut() => return,
        _ = stopped.wait_for(|stop| *stop) => {}
    }
    finish(connection.as_mut());
    connection.await;
}

/// Looks at the first bytes without taking them.
async fn speaks_http2(stream: &TcpStream) -> bool {
    let mut seen = [0; PREFACE.len()];
    loop {
        match stream.peek(&mut seen).await {
            Ok(n) if n > 0 && seen.get(..n) != PREFACE.get(..n) => return false,
            Ok(n) if n == PREFACE.len() => return true,
            Ok(0) | Err(_) => return false,
            // A part of the preface: the rest comes in its own time, bounded by the caller.
            Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Runs hyper's tasks on the core that made them.
#[derive(Clone, Copy)]
pub(crate) struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}
