use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use idm_plan::Network;
use idm_request::{Client, client};
use idm_types::{Reason, Refusal};
use rustls::pki_types::CertificateDer;

/// The facts about the caller of a request and about the connection that it came on.
#[derive(Debug)]
pub struct Peer {
    /// The address of the caller: behind trusted proxies, of their client.
    pub address: IpAddr,
    /// The address that sent the request's head: the caller's, or that of the nearest proxy.
    pub sender: IpAddr,
    /// The caller's address, for `X-Forwarded-For`.
    pub forwarded_for: Option<HeaderValue>,
    /// The caller uses https, be it as far as a trusted proxy.
    pub https: bool,
    /// The facts that TLS proved; `None` on a connection without it.
    pub secured: Option<Arc<Secured>>,
}

/// The facts that TLS proved about one connection.
#[derive(Debug)]
pub struct Secured {
    /// The host the client asked for, in lower case.
    pub server_name: Option<String>,
    /// The client's certificate and what came with it.
    pub chain: Vec<CertificateDer<'static>>,
    /// SHA-256 of the certificate, in base64url.
    pub thumbprint: String,
}

impl Peer {
    /// The peer of a connection, with what TLS proved about it.
    pub fn new(address: IpAddr, secured: Option<Secured>) -> Self {
        let forwarded_for = HeaderValue::from_str(&address.to_string()).ok();
        Self { address, sender: address, forwarded_for, https: secured.is_some(), secured: secured.map(Arc::new) }
    }

    /// A connection without TLS.
    pub fn plain(address: IpAddr) -> Self {
        Self::new(address, None)
    }

    /// The peer of a request with these headers, whose sender is one of these trusted proxies.
    pub fn behind_proxies(&self, headers: &HeaderMap, trusted: &[Network]) -> Result<Self, Refusal> {
        let Client { address, https } =
            client(self.sender, headers, trusted).map_err(|why| Refusal::new(Reason::MalformedRequest, why))?;
        Ok(Self {
            address,
            sender: self.sender,
            forwarded_for: HeaderValue::from_str(&address.to_string()).ok(),
            https: https.unwrap_or(self.https),
            secured: self.secured.clone(),
        })
    }
}
