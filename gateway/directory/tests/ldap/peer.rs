//! Peers of the tests' own: a valve in front of a server, and a server that follows a script.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use idm_plan::{DirectoryServer, Protection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::world::server;

/// A way to a server, on which connections can be cut off without a word, as a firewall does.
pub(crate) struct Valve {
    port: u16,
    /// Connections before this one are cut off.
    first: Arc<AtomicU64>,
    count: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Valve {
    pub(crate) async fn open(target: (&'static str, u16)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (first, count) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (oldest, number) = (first.clone(), count.clone());
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(target).await.expect("the server answers");
                let (own, oldest) = (number.fetch_add(1, Ordering::SeqCst), oldest.clone());
                let (near_in, near_out) = near.into_split();
                let (far_in, far_out) = far.into_split();
                for (mut from, mut to) in [(near_in, far_out), (far_in, near_out)] {
                    let oldest = oldest.clone();
                    connections.spawn(async move {
                        let mut octets = vec![0; 4096];
                        while let Ok(length @ 1..) = from.read(&mut octets).await {
                            // The octets are read and lost, and neither side is told.
                            if own >= oldest.load(Ordering::SeqCst) && to.write_all(&octets[..length]).await.is_err() {
                                break;
                            }
                        }
                        if own < oldest.load(Ordering::SeqCst) {
                            std::future::pending::<()>().await;
                        }
                    });
                }
            }
        });
        Self { port, first, count, task }
    }

    pub(crate) fn server(&self) -> DirectoryServer {
        server("127.0.0.1", self.port, Protection::Loopback)
    }

    /// Cuts off every connection that there is. New ones work.
    pub(crate) fn swallow(&self) {
        self.first.store(self.count.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

impl Drop for Valve {
    fn drop(&mut self) {
        self.task.abort();
    }
}
