//! TLS of connections to backends.

use std::sync::Arc;

use idm_plan::{Backend, BackendTls, Secrets};
use idm_trust::backend_config;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::connect::ConnectError;
use crate::stream::Spoken;

/// The armed TLS of one backend. All cores share it, so that each can resume the sessions of the others.
pub(crate) struct UpstreamTls {
    name: ServerName<'static>,
    /// One for each protocol, which the handshake agrees on (RFC 7301).
    http1: TlsConnector,
    http2: TlsConnector,
}

impl UpstreamTls {
    /// Arms the TLS of each backend, in their order; `None` where it has none. Where an authority cannot be used, the
    /// backend is not trusted, and the others are served.
    pub(crate) fn arm(backends: &[Backend], secrets: &Secrets) -> Vec<Option<Result<Arc<Self>, String>>> {
        let armed = backends.iter().map(|backend| Some(Self::new(backend.tls.as_ref()?, secrets).map(Arc::new)));
        armed.collect()
    }

    fn new(tls: &BackendTls, secrets: &Secrets) -> Result<Self, String> {
        let name = ServerName::try_from(tls.server_name.clone())
            .map_err(|_| format!("`{}` is not a DNS name", tls.server_name))?;
        let config = backend_config(tls, secrets)?;
        let connector = |protocol: &[u8]| {
            let mut config = config.clone();
            config.alpn_protocols = vec![protocol.to_vec()];
            TlsConnector::from(Arc::new(config))
        };
        Ok(Self { name, http1: connector(b"http/1.1"), http2: connector(b"h2") })
    }

    /// Performs the handshake. HTTP/1.1 is also spoken to a backend that agrees on nothing.
    pub(crate) async fn secure(&self, tcp: TcpStream, protocol: Spoken) -> Result<TlsStream<TcpStream>, ConnectError> {
        let connector = match protocol {
            Spoken::Http1 => &self.http1,
            Spoken::Http2 => &self.http2,
        };
        let stream = connector.connect(self.name.clone(), tcp).await.map_err(failed)?;
        let agreed = stream.get_ref().1.alpn_protocol();
        match protocol {
            Spoken::Http2 if agreed != Some(b"h2") => {
                Err(ConnectError::Failed("it does not speak HTTP/2 over TLS".into()))
            }
            Spoken::Http1 | Spoken::Http2 => Ok(stream),
        }
    }
}

/// A certificate that is refused is another error than a handshake that fails: the backend may be an impostor.
fn failed(error: std::io::Error) -> ConnectError {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(problem)) => ConnectError::Untrusted(problem.to_string()),
        _ => ConnectError::Failed(format!("TLS: {error}")),
    }
}
