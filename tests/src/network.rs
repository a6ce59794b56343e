//! The network inside this process: addresses that are served without a socket.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};

use crate::raw::Reply;
use crate::upstream::Kept;

/// Answers one request.
pub(crate) type Answering = Arc<dyn Fn(&[u8]) -> Reply + Send + Sync>;

/// Everything that is reached without a socket.
#[derive(Default)]
struct Network {
    gateways: Mutex<HashMap<SocketAddr, Answering>>,
    upstreams: Mutex<HashMap<SocketAddr, Arc<Kept>>>,
}

fn network() -> &'static Network {
    static NETWORK: OnceLock<Network> = OnceLock::new();
    NETWORK.get_or_init(Network::default)
}

/// The gateway in this process at an address.
pub(crate) fn gateway(address: SocketAddr) -> Option<Answering> {
    network().gateways.lock().expect("no panic inside").get(&address).cloned()
}

/// Lets `raw` and browsers reach a gateway in this process.
#[cfg(feature = "in-process")]
pub(crate) fn open(address: SocketAddr, door: Answering) {
    network().gateways.lock().expect("no panic inside").insert(address, door);
}

/// Ends that.
#[cfg(feature = "in-process")]
pub(crate) fn close(address: SocketAddr) {
    network().gateways.lock().expect("no panic inside").remove(&address);
}

/// The upstream at an address.
#[cfg(feature = "in-process")]
pub(crate) fn upstream(address: SocketAddr) -> Option<Arc<Kept>> {
    network().upstreams.lock().expect("no panic inside").get(&address).cloned()
}

/// Lets gateways in this process reach an upstream.
pub(crate) fn serve(address: SocketAddr, upstream: Arc<Kept>) {
    network().upstreams.lock().expect("no panic inside").insert(address, upstream);
}
