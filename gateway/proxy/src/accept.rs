//! Listening and accepting: each core has its own sockets, and the kernel distributes callers over them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::connection;
use crate::core::Core;
use crate::give_way::Need;
use crate::limits::{Place, Table};
use crate::server::BindError;
use crate::stream::Stream;
use crate::watch::Cause;

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
}

impl Listener {
    /// Accepts until the server stops, and then gives the requests under way the time `drain` to finish.
    pub(crate) async fn accept(self, mut stopped: watch::Receiver<bool>, drain: Duration) {
        let Self { socket, secure, core, table } = self;
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
                    if open(stream, peer, secure, &core, &table) {
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

/// Serves a connection, or closes it where there is no room and none can be made. Returns whether a limit was reached.
fn open(stream: TcpStream, peer: SocketAddr, secure: bool, core: &Rc<Core>, table: &Arc<Table>) -> bool {
    let (place, full) = table.open(peer.ip());
    let _ = stream.set_nodelay(true);
    let newcomer = Newcomer { stream, address: peer.ip(), secure, place };
    let Some(full) = full else {
        newcomer.serve(core);
        return false;
    };
    let (core, address) = (core.clone(), newcomer.place.address());
    if core.room.give(Need::Stranger, full, address) {
        newcomer.serve(&core);
        return true;
    }
    tokio::task::spawn_local(async move {
        if core.room.for_connection(full, address).await {
            newcomer.serve(&core);
        } else {
            core.shared.metrics.connections_closed(Cause::NoRoom, 1);
            tracing::debug!(address = %newcomer.address, ?full, "a connection was closed: there is no room for it");
        }
    });
    true
}

/// A connection that was accepted and is not served yet.
struct Newcomer {
    stream: TcpStream,
    address: IpAddr,
    secure: bool,
    place: Place,
}

impl Newcomer {
    fn serve(self, core: &Rc<Core>) {
        let Self { stream, address, secure, place } = self;
        let member = core.room.connections.add(&place);
        let stream = Stream::new(stream, member.connection.progress.clone(), place);
        let core = core.clone();
        tokio::task::spawn_local(async move {
            let connection = member.connection.clone();
            if secure {
                let work = connection::serve_tls(stream, address, core.clone(), connection);
                member.connection.live(&core.turns, work).await;
            } else {
                let work = connection::serve(stream, address, core.clone(), connection);
                member.connection.live(&core.turns, work).await;
            }
        });
    }
}
