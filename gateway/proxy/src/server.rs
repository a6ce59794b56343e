//! A running server: one single-threaded runtime per core, each with its own listening sockets (`accept.rs`).

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use idm_audit::Spool;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};

use crate::accept::{Listener, bind};
pub(crate) use crate::connection::LocalExecutor;
use crate::core::Core;
use crate::give_way::{Plea, Room, cores};
use crate::limits::{Limits, Table};
use crate::proxies::TrustedProxies;
use crate::shared::Shared;
use crate::watch::{Connections, Deadlines};

/// The settings of a server.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The address to listen on; port 0 takes a free port.
    pub listen: SocketAddr,
    /// The address to listen on for HTTPS; port 0 takes a free port.
    pub listen_tls: Option<SocketAddr>,
    /// The number of cores to use.
    pub cores: usize,
    /// The time for connections to finish after a stop.
    pub drain: Duration,
    /// The limits on the number of connections and requests.
    pub limits: Limits,
    /// The time limits for callers.
    pub deadlines: Deadlines,
    /// Which proxies are believed about their clients.
    pub proxies: Arc<TrustedProxies>,
}

/// The reason why the server does not listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    pub(crate) address: SocketAddr,
    pub(crate) source: io::Error,
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
        let count = config.cores.max(1);
        let (address, listeners) = bind(config.listen, count)?;
        let (tls_address, tls_listeners) = match config.listen_tls {
            Some(wanted) => bind(wanted, count)
                .map(|(address, listeners)| (Some(address), listeners.into_iter().map(Some).collect()))?,
            None => (None, (0..count).map(|_| None).collect::<Vec<_>>()),
        };
        let stop = watch::Sender::new(false);
        let table = Table::new(config.limits, shared.clone());
        let (cores, pleas) = cores(count);
        let mut threads = Vec::new();
        for (number, ((listener, tls), pleas)) in listeners.into_iter().zip(tls_listeners).zip(pleas).enumerate() {
            let seed = seed.wrapping_add((number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let (listeners, spool_handle) = ([(Some(listener), false), (tls, true)], spool.spool_handle());
            let (shared, table, config, stopped) = (shared.clone(), table.clone(), config.clone(), stop.subscribe());
            let cores = cores.clone();
            let run = move || {
                let connections = Connections::new(config.deadlines);
                let room = Room::new(number, cores, connections, shared.clone());
                run_core(listeners, Core::new(shared, spool_handle, room, seed), table, pleas, &config, stopped);
            };
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

fn run_core(
    listeners: [(Option<std::net::TcpListener>, bool); 2],
    core: Rc<Core>,
    table: Arc<Table>,
    pleas: mpsc::UnboundedReceiver<Plea>,
    config: &ServerConfig,
    stopped: watch::Receiver<bool>,
) {
    let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "a core could not start its runtime"),
    };
    runtime.block_on(async move {
        let flusher = tokio::task::spawn_local({
            let core = core.clone();
            async move { core.flush().await }
        });
        let follower = tokio::task::spawn_local({
            let core = core.clone();
            async move { core.follow().await }
        });
        let usher = tokio::task::spawn_local({
            let core = core.clone();
            async move { core.turns.give().await }
        });
        let giver = tokio::task::spawn_local({
            let room = core.room.clone();
            async move { room.answer(pleas).await }
        });
        let sweeper = tokio::task::spawn_local({
            let core = core.clone();
            async move {
                let ended = |cause, count| core.shared.metrics.connections_closed(cause, count);
                core.room.connections.sweep(ended).await;
            }
        });
        let [plain, tls] = listeners.map(|(socket, secure)| {
            let (core, table) = (core.clone(), table.clone());
            let (proxies, drain) = (config.proxies.clone(), config.drain);
            let listener = socket.map(|socket| Listener { socket, secure, core, table, proxies });
            let stopped = stopped.clone();
            async move {
                if let Some(listener) = listener {
                    listener.accept(stopped, drain).await;
                }
            }
        });
        // As tasks they are polled only when a connection comes.
        let accepting = [tokio::task::spawn_local(plain), tokio::task::spawn_local(tls)];
        for accepting in accepting {
            let _ = accepting.await;
        }
        giver.abort();
        usher.abort();
        sweeper.abort();
        follower.abort();
        flusher.abort();
    });
}
