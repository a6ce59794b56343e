//! Liveness and readiness of the operator, which is alive when it answers, and its metrics.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::task::JoinHandle;

use crate::changes::ChangeCount;
use crate::sealing::SealedCount;

pub(crate) struct Health(JoinHandle<()>);

impl Drop for Health {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(crate) async fn serve(
    address: SocketAddr,
    counts: Arc<ChangeCount>,
    sealed: Arc<SealedCount>,
) -> anyhow::Result<Health> {
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(|error| anyhow::anyhow!("cannot listen on {address}: {error}"))?;
    Ok(Health(tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (counts, sealed) = (counts.clone(), sealed.clone());
            tokio::spawn(async move {
                let service = service_fn(|request: Request<hyper::body::Incoming>| {
                    let (status, text) = match request.uri().path() {
                        "/-/live" | "/-/ready" => (StatusCode::OK, Bytes::from_static(b"ok\n")),
                        "/metrics" => (StatusCode::OK, Bytes::from(counts.text() + &sealed.text())),
                        _ => (StatusCode::NOT_FOUND, Bytes::from_static(b"ok\n")),
                    };
                    let mut response = Response::new(Full::new(text));
                    *response.status_mut() = status;
                    std::future::ready(Ok::<_, Infallible>(response))
                });
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })))
}
