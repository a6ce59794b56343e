use std::net::IpAddr;

use http::HeaderValue;
use rustls::pki_types::CertificateDer;

/// The facts about the connection that a request came on.
#[derive(Debug)]
pub struct Peer {
    /// The address of the caller.
    pub address: IpAddr,
    /// The same, for `X-Forwarded-For`.
    pub forwarded_for: Option<HeaderValue>,
    /// The facts that TLS proved; `None` on a connection without it.
    pub secured: Option<Secured>,
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
    /// A connection without TLS.
    pub fn plain(address: IpAddr) -> Self {
        Self { address, forwarded_for: HeaderValue::from_str(&address.to_string()).ok(), secured: None }
    }
}
