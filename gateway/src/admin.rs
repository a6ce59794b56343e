//! The control port: health, metrics and the acknowledgement. It tells nothing about callers or policies and changes
//! nothing for anybody; only the operator, which proves itself, learns who signed in for the first time, what
//! directories answered, and where keys that are being replaced were used, and only who has the admin token sees and
//! ends blocks.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use idm_authn::NewPerson;
use idm_metrics::Format;
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinHandle};

use crate::Gateway;

/// Connections at once: probes, a scraper and the operator need a few.
const MAX_CONNECTIONS: usize = 64;
/// For a head, and between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// For a connection as a whole: who scrapes every minute connects anew.
const LIFETIME: Duration = Duration::from_secs(60);

/// A running control port; ends when dropped.
pub struct AdminServer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl AdminServer {
    /// Listens on `address`.
    pub async fn start(address: SocketAddr, gateway: Arc<Gateway>) -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind(address).await.map_err(|error| anyhow::anyhow!("cannot listen on {address}: {error}"))?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            // The oldest first: who comes new finds room, and the oldest had the longest time.
            let mut open: VecDeque<AbortHandle> = VecDeque::new();
            loop {
                let stream = match listener.accept().await {
                    Ok((stream, _)) => stream,
                    // Out of file descriptors or the like: wait for some to be freed. The port itself stays.
                    Err(error) => {
                        tracing::warn!(%error, "a connection to the control port could not be accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                };
                open.retain(|connection| !connection.is_finished());
                if open.len() >= MAX_CONNECTIONS {
                    open.pop_front().iter().for_each(AbortHandle::abort);
                }
                let gateway = gateway.clone();
                let connection = tokio::spawn(async move {
                    let service = service_fn(move |request| answer(gateway.clone(), request));
                    let mut builder = hyper::server::conn::http1::Builder::new();
                    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(16 << 10);
                    let connection = builder.serve_connection(TokioIo::new(stream), service);
                    let _ = tokio::time::timeout(LIFETIME, connection).await;
                });
                open.push_back(connection.abort_handle());
            }
        });
        Ok(Self { address, task })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(gateway: Arc<Gateway>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, kind, body) = match request.uri().path() {
        "/-/live" => (StatusCode::OK, "text/plain", "alive\n".to_owned()),
        "/-/ready" if gateway.is_ready() => (StatusCode::OK, "text/plain", "ready\n".to_owned()),
        "/-/ready" => (StatusCode::SERVICE_UNAVAILABLE, "text/plain", "not ready\n".to_owned()),
        "/-/metrics" => {
            let format = format(request.headers());
            (StatusCode::OK, format.content_type(), gateway.metrics(format))
        }
        "/-/bundle" => (StatusCode::OK, "application/json", bundle(&gateway)),
        "/-/people" => for_operator(people(&gateway, &request)),
        "/-/keys" => for_operator(keys(&gateway, &request)),
        "/-/directories" => for_operator(directories(&gateway, &request)),
        "/-/blocks" => blocks(&gateway, &request).await,
        _ => {
            (StatusCode::NOT_FOUND, "text/plain", "there are /-/live, /-/ready, /-/metrics and /-/bundle\n".to_owned())
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    Ok(response)
}

/// The format that a scraper asks for.
fn format(headers: &HeaderMap) -> Format {
    let accepts: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok()).collect();
    Format::accepted(&accepts.join(","))
}

/// An answer for whoever proves to be the operator.
fn for_operator(answer: Option<String>) -> (StatusCode, &'static str, String) {
    match answer {
        Some(answer) => (StatusCode::OK, "application/json", answer),
        None => (StatusCode::UNAUTHORIZED, "text/plain", "this is for the operator alone\n".to_owned()),
    }
}

fn token_of(request: &Request<Incoming>) -> Option<&str> {
    request.headers().get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// The blocks of addresses: GET tells them, and DELETE ends those at the address of the query.
async fn blocks(gateway: &Gateway, request: &Request<Incoming>) -> (StatusCode, &'static str, String) {
    let nobody = || {
        let told = "this is for whoever has the admin token: docs/limits.md says where it is\n".to_owned();
        (StatusCode::UNAUTHORIZED, "text/plain", told)
    };
    let Some(token) = token_of(request) else { return nobody() };
    if request.method() == Method::GET {
        let told = gateway.blocks_for(token);
        return told.map_or_else(nobody, |told| (StatusCode::OK, "application/json", told.to_string()));
    }
    if request.method() != Method::DELETE {
        let told = "GET tells the blocks, DELETE with `?address=` ends those of an address\n".to_owned();
        return (StatusCode::METHOD_NOT_ALLOWED, "text/plain", told);
    }
    let address = request.uri().query().and_then(|query| query.strip_prefix("address=")?.parse().ok());
    let Some(address) = address else {
        let told = "name an address: `?address=192.0.2.1`, of a /64 any address in it\n".to_owned();
        return (StatusCode::BAD_REQUEST, "text/plain", told);
    };
    match gateway.remove_blocks(token, address).await {
        None => nobody(),
        Some(Ok(removed)) => (StatusCode::OK, "application/json", removed.to_string()),
        Some(Err(error)) => {
            let told = format!("nothing was ended, because the other gateways cannot be told: {error}; try again\n");
            (StatusCode::SERVICE_UNAVAILABLE, "text/plain", told)
        }
    }
}

/// The outcome of the last question to each directory.
fn directories(gateway: &Gateway, request: &Request<Incoming>) -> Option<String> {
    let outcomes = gateway.directories_for(token_of(request)?)?;
    let told = outcomes.into_iter().map(|(federation, outcome)| {
        let error = outcome.err().map(|error| serde_json::json!({"reason": error.reason(), "detail": error.detail}));
        serde_json::json!({"namespace": federation.namespace, "federation": federation.name, "error": error})
    });
    Some(serde_json::json!({"directories": told.collect::<Vec<_>>()}).to_string())
}

/// The older of two keys of each Credential that has two.
fn keys(gateway: &Gateway, request: &Request<Incoming>) -> Option<String> {
    let told = gateway.retiring_for(token_of(request)?)?.into_iter().map(|of| {
        serde_json::json!({
            "namespace": of.credential.namespace, "credential": of.credential.name, "key": of.key, "newer": of.newer,
            "lastUse": of.last.map(|(at, address)| serde_json::json!({"at": at.0, "address": address})),
        })
    });
    Some(serde_json::json!({"keys": told.collect::<Vec<_>>()}).to_string())
}

fn people(gateway: &Gateway, request: &Request<Incoming>) -> Option<String> {
    let token = token_of(request)?;
    let seen = request.uri().query().and_then(|query| query.strip_prefix("seen=")?.parse().ok()).unwrap_or(0);
    let (people, last) = gateway.people_for(token, seen)?;
    let told = people.iter().map(|NewPerson { namespace, federation, issuer, username }| {
        serde_json::json!({"namespace": namespace, "federation": federation, "issuer": issuer, "username": username})
    });
    Some(serde_json::json!({"people": told.collect::<Vec<_>>(), "last": last}).to_string())
}

fn bundle(gateway: &Gateway) -> String {
    let (generation, digest) = gateway.version().unwrap_or_default();
    serde_json::json!({
        "generation": generation, "digest": digest, "error": gateway.error(), "reads": idm_plan::FORMAT,
        "missing_shards": gateway.missing_shards(),
    })
    .to_string()
}
