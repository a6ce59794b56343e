//! Listening and accepting: each core has its own sockets, and the kernel distributes callers over them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::connection;
use crate::core::Core;
use crate::give_way::Need;
use crate::limits::{Place, Table};
use crate::proxies::{Sender, TrustedProxies};
use crate::proxy_protocol;
use crate::server::BindError;
use crate::stream::Stream;
use crate::watch::{Cause, Spare};

/// One listening socket for each core, on one address.
pub(crate) fn bind(wanted: SocketAddr, cores: usize) -> Result<(SocketAddr, Vec<std::net::TcpListener>), BindError> {
    let failed = |source| BindError { address: wanted, source };
    // SO_REUSEPORT would let a second process share the port unnoticed; a plain bind detects that first.
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

/// One listener of a core, and the counters of its connections.
pub(crate) struct Listener {
    pub(crate) socket: std::net::TcpListener,
    pub(crate) secure: bool,
    pub(crate) core: Rc<Core>,
    pub(crate) table: Arc<Table>,
    pub(crate) proxies: Arc<TrustedProxies>,
}

impl Listener {
    /// Accepts until the server stops, and then gives the requests under way the time `drain` to finish.
    pub(crate) async fn accept(self, mut stopped: watch::Receiver<bool>, drain: Duration) {
        let Self { socket, secure, core, table, proxies } = self;
        let introductions = Arc::new(Semaphore::new(INTRODUCTIONS));
        let socket = match TcpListener::from_std(socket) {
            Ok(socket) => socket,
            Err(error) => return tracing::error!(%error, "a core could not take its socket"),
        };
        loop {
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                _ = stopped.wait_for(|stop| *stop) => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let _ = stream.set_nodelay(true);
                    if proxies.proxy_protocol {
                        let (core, table, proxies) = (core.clone(), table.clone(), proxies.clone());
                        let place = introductions.clone().try_acquire_owned();
                        tokio::task::spawn_local(introduced(
                            stream,
                            peer.ip(),
                            secure,
                            core,
                            table,
                            proxies,
                            place.ok(),
                        ));
                    } else if open(stream, Sender::at(peer.ip(), &proxies), secure, &core, &table) {
                        // This connection gets a turn to read its head before the next one may displace it.
                        tokio::task::yield_now().await;
                    }
                }
                // The process is out of file descriptors or the like: wait until some are freed instead of retrying at
                // once.
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(socket);
        core.room.connections.finish();
        let _ = tokio::time::timeout(drain, core.room.connections.none()).await;
    }
}

/// Connections of a core whose PROXY header is not read yet; their client is counted when it is known.
const INTRODUCTIONS: usize = 1024;
/// The time that such a header may take. A proxy writes it at once.
const INTRODUCTION: Duration = Duration::from_secs(5);

/// Reads the PROXY header of a connection and serves it for the client that it names. Anyone else than a trusted proxy
/// who introduces its client is turned away.
async fn introduced(
    mut stream: TcpStream,
    proxy: IpAddr,
    secure: bool,
    core: Rc<Core>,
    table: Arc<Table>,
    proxies: Arc<TrustedProxies>,
    place: Option<OwnedSemaphorePermit>,
) {
    let closed = |cause, why: &dyn std::fmt::Display| {
        core.shared.metrics.connections_closed(cause, 1);
        tracing::debug!(address = %proxy, %why, "a connection was closed before its first request");
    };
    if !proxies.holds(proxy) {
        return closed(Cause::NotProxied, &"its sender is not a trusted proxy");
    }
    let Some(place) = place else { return closed(Cause::NoRoom, &"too many wait for their PROXY header") };
    let client = match tokio::time::timeout(INTRODUCTION, proxy_protocol::read(&mut stream)).await {
        Ok(Ok(client)) => client,
        Ok(Err(error)) => return closed(Cause::NotProxied, &error),
        Err(elapsed) => return closed(Cause::NotProxied, &elapsed),
    };
    drop(place);
    let sender = client.map_or_else(|| Sender::unnamed(proxy), |client| Sender::at(client, &proxies));
    open(stream, sender, secure, &core, &table);
}

/// Serves a connection, or closes it where there is no room and none can be made. Whether a limit was reached.
fn open(stream: TcpStream, sender: Sender, secure: bool, core: &Rc<Core>, table: &Arc<Table>) -> bool {
    let (place, full) = table.open(sender.address);
    let newcomer = Newcomer { stream, sender, secure, place };
    let Some(full) = full else {
        newcomer.serve(core);
        return false;
    };
    let (core, address) = (core.clone(), newcomer.place.address());
    if core.room.give(Need::Place(Spare::Waiting), full, address) {
        newcomer.serve(&core);
        return true;
    }
    tokio::task::spawn_local(async move {
        if core.room.for_connection(full, address).await {
            newcomer.serve(&core);
        } else {
            core.shared.metrics.connections_closed(Cause::NoRoom, 1);
            let address = newcomer.sender.address;
            tracing::debug!(%address, ?full, "a connection was closed: there is no room for it");
        }
    });
    true
}

/// A connection that was accepted and is not served yet.
struct Newcomer {
    stream: TcpStream,
    sender: Sender,
    secure: bool,
    place: Place,
}

impl Newcomer {
    fn serve(self, core: &Rc<Core>) {
        let Self { stream, sender, secure, place } = self;
        let member = core.room.connections.add(&place);
        let stream = Stream::new(stream, member.connection.progress.clone(), place);
        let core = core.clone();
        tokio::task::spawn_local(async move {
            let connection = member.connection.clone();
            if secure {
                let work = connection::serve_tls(stream, sender, core.clone(), connection);
                member.connection.live(&core.turns, work).await;
            } else {
                let work = connection::serve(stream, sender, core.clone(), connection);
                member.connection.live(&core.turns, work).await;
            }
        });
    }
}
