//! Proxies in front of the gateway that may say who their client is.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderMap;
use idm_decide::{Peer, Secured};
use idm_plan::Network;
use idm_types::Refusal;

/// Which proxies are believed about their clients, and how they tell.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies {
    /// Their networks.
    pub networks: Vec<Network>,
    /// Each connection begins with a header of the PROXY protocol, version 1 or 2.
    pub proxy_protocol: bool,
}

impl TrustedProxies {
    /// Whether an address is that of a trusted proxy.
    pub fn holds(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(address))
    }
}

/// The sender of the bytes of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    pub(crate) address: IpAddr,
    /// Present where the headers of this sender are believed.
    believed: Option<Arc<TrustedProxies>>,
}

impl Sender {
    /// The sender at an address, which is believed if it is a trusted proxy.
    pub(crate) fn at(address: IpAddr, proxies: &Arc<TrustedProxies>) -> Self {
        let address = address.to_canonical();
        Self { address, believed: proxies.holds(address).then(|| proxies.clone()) }
    }

    /// A proxy that opened the connection for a client that it does not tell, or for itself.
    pub(crate) fn unnamed(proxy: IpAddr) -> Self {
        Self { address: proxy.to_canonical(), believed: None }
    }

    /// The same, with what TLS proved.
    pub(crate) fn with(self, secured: Option<Secured>) -> Conversation {
        let Self { address, believed } = self;
        Conversation { peer: Rc::new(Peer::new(address, secured)), believed }
    }
}

/// The requests of one connection: who sends them, and whether for others.
#[derive(Clone, Debug)]
pub(crate) struct Conversation {
    pub(crate) peer: Rc<Peer>,
    believed: Option<Arc<TrustedProxies>>,
}

impl Conversation {
    /// The peer of a request with these headers.
    pub(crate) fn peer_of(&self, headers: &HeaderMap) -> Result<Rc<Peer>, Refusal> {
        let Some(proxies) = &self.believed else { return Ok(self.peer.clone()) };
        self.peer.behind_proxies(headers, &proxies.networks).map(Rc::new)
    }
}
