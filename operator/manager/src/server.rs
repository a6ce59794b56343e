//! Brings a request to its endpoint: connections, limits, the checks of `guard.rs`, session, permission, handler.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use idm_permission::Kind;
use idm_types::Timestamp;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use crate::Manager;
use crate::assets;
use crate::call::{Body, Call, Reply};
use crate::failure::{Code, Failure};
use crate::guard::cookie;
use crate::kind::ObjectKind;
use crate::manager::new_id;
use crate::session::Person;
use crate::table::{Endpoint, Needs};
use crate::tls::ServerTls;

/// Connections at once. A browser has six.
const MAX_CONNECTIONS: usize = 256;
/// For a head, and between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// For a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// For the work that leads to an answer.
const WORK_TIMEOUT: Duration = Duration::from_secs(90);
/// The largest body: no object of the API server is larger.
const MAX_BODY: usize = 1 << 20;

/// The address for probes.
const LIVE: &str = "/-/live";

/// A running server; ends when dropped.
pub struct ManagerServer {
    address: SocketAddr,
    task: JoinHandle<()>,
    manager: Arc<Manager>,
}

/// Requests that are under way at a stop have so long.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

impl ManagerServer {
    /// Listens and serves, over TLS where there is a certificate.
    ///
    /// # Errors
    /// The address is taken.
    pub async fn start(listen: SocketAddr, manager: Arc<Manager>, tls: Option<ServerTls>) -> std::io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let serving = manager.clone();
        let tls = tls.map(Arc::new);
        let warmed = manager.clone();
        // A folder that cannot be read is told to whoever asks.
        tokio::spawn(async move { drop(warmed.place.warm().await) });
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                while connections.try_join_next().is_some() {}
                let Ok(place) = room.clone().acquire_owned().await else { return };
                let stream = match listener.accept().await {
                    Ok((stream, _)) => stream,
                    // Out of file descriptors or the like: wait for some to be freed. The port itself stays.
                    Err(error) => {
                        tracing::warn!(%error, "a connection to the manager could not be accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                };
                let (manager, tls) = (serving.clone(), tls.clone());
                connections.spawn(async move {
                    let _place = place;
                    let Some(tls) = tls else { return serve_connection(stream, manager).await };
                    if let Ok(Some(stream)) = tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream)).await {
                        serve_connection(stream, manager).await;
                    }
                });
            }
        });
        Ok(Self { address, task, manager })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no request any more, and waits a moment for changes that are under way, so that their records are stored.
    pub async fn stop(self) {
        self.task.abort();
        let _ = tokio::time::timeout(STOP_TIMEOUT, self.manager.changes_are_done()).await;
    }
}

impl Drop for ManagerServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve_connection(stream: impl AsyncRead + AsyncWrite + Unpin, manager: Arc<Manager>) {
    let service = service_fn(move |request| answer(manager.clone(), request));
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(64 << 10);
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(manager: Arc<Manager>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let is_api = path.starts_with("/api/");
    // Probes come to an address, not to a name, and learn nothing but that somebody answers.
    if path == LIVE {
        let mut response = Response::new(Body::Whole(None));
        *response.status_mut() = StatusCode::NO_CONTENT;
        return Ok(response);
    }
    let reply = match manager.names.check_host(request.headers(), request.uri()) {
        Err(failure) => Err(failure),
        Ok(()) if is_api => serve(&manager, request).await,
        Ok(()) => page(&method, &path),
    };
    let (reply, is_immutable) = match reply {
        Ok((reply, is_immutable)) => (reply, is_immutable),
        Err(failure) => (refusal(&failure), false),
    };
    let mut response = Response::new(reply.body);
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in reply.headers {
        response.headers_mut().append(name, value);
    }
    manager.names.protect(response.headers_mut(), is_immutable);
    Ok(response)
}

fn page(method: &Method, path: &str) -> Result<(Reply, bool), Failure> {
    if method != Method::GET {
        return Err(Failure::new(Code::MethodNotAllowed, "pages are read with GET"));
    }
    let asset = assets::find(path).ok_or_else(|| Failure::new(Code::NotFound, "there is no such file"))?;
    let reply = Reply::bytes(200, asset.media_type, bytes::Bytes::from_static(asset.content));
    Ok((reply, asset.is_immutable))
}

/// The answer that says no, and a line in the log under the same id. The log has no text that a caller wrote.
fn refusal(failure: &Failure) -> Reply {
    let id = new_id(Timestamp::now());
    tracing::info!(id, code = ?failure.code, "a request to the manager was not done");
    let body = serde_json::to_vec(&failure.body(id)).unwrap_or_default();
    Reply::bytes(failure.code.status(), "application/json", body.into())
}

async fn serve(manager: &Arc<Manager>, request: Request<Incoming>) -> Result<(Reply, bool), Failure> {
    let (head, body) = request.into_parts();
    let (endpoint, path) = route(manager, &head.method, head.uri.path())?;
    manager.names.check_origin(&head.method, &head.headers)?;
    let cookie = cookie(&head.headers).map(str::to_owned);
    let person = match endpoint.needs {
        Needs::Nobody => nobody(),
        _ => manager.person(cookie.as_deref()).ok_or_else(Failure::no_session)?,
    };
    let query = query(endpoint, head.uri.query().unwrap_or_default())?;
    let body = if head.method == Method::GET { Value::Null } else { read(body).await? };
    let kind = match path.get("kind") {
        Some(kind) => kind.parse::<ObjectKind>()?.ours(),
        None => None,
    };
    let last_event = head.headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let ended = cookie.clone().filter(|_| endpoint.needs != Needs::Nobody);
    let call = Call { manager: manager.clone(), person: Arc::new(person), cookie, last_event, path, query };
    let done = perform(manager, endpoint, kind, call, body).await;
    // A token that is over ends the session that was opened with it.
    if let (Err(Failure { code: Code::NoSession, .. }), Some(cookie)) = (&done, &ended) {
        manager.end_session(cookie);
    }
    done.map(|reply| (reply, false))
}

/// Calls the handler, if the person may.
async fn perform(
    manager: &Arc<Manager>,
    endpoint: &Endpoint,
    kind: Option<Kind>,
    call: Call,
    body: Value,
) -> Result<Reply, Failure> {
    if let Some(permission) = endpoint.needs.permission(kind, &body) {
        let namespace = [call.part("namespace"), call.parameter("namespace").unwrap_or_default()].concat();
        manager.place.permit(&call.person, permission, &namespace, call.part("name")).await?;
    }
    // A change that has begun is finished, also when its caller leaves: it is a task of its own.
    let work = tokio::spawn(manager.counted((endpoint.handler)(call, body)));
    let work = tokio::time::timeout(WORK_TIMEOUT, work).await;
    let late = |_| Failure::unavailable("it takes too long: look later whether it was done");
    work.map_err(late)?.map_err(|_| Failure::unavailable("the work was broken off"))?
}

/// The endpoint of a path, with the variable parts of it.
fn route<'m>(
    manager: &'m Manager,
    method: &Method,
    path: &str,
) -> Result<(&'m Endpoint, BTreeMap<&'static str, String>), Failure> {
    let mut is_known = false;
    for endpoint in manager.endpoints.iter() {
        let Some(parts) = matched(endpoint.path, path) else { continue };
        if endpoint.method == *method {
            return Ok((endpoint, parts));
        }
        is_known = true;
    }
    Err(match is_known {
        true => Failure::new(Code::MethodNotAllowed, "this address knows other methods: see /api/v1/openapi.json"),
        false => Failure::new(Code::NotFound, "there is no such address: see /api/v1/openapi.json"),
    })
}

fn matched(pattern: &'static str, path: &str) -> Option<BTreeMap<&'static str, String>> {
    let mut given = path.split('/');
    let mut parts = BTreeMap::new();
    for wanted in pattern.split('/') {
        let part = given.next()?;
        match wanted.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            // Names of Kubernetes need no escapes, and neither do ids.
            Some(name) if is_name(part) => drop(parts.insert(name, part.to_owned())),
            Some(_) => return None,
            None if wanted == part => {}
            None => return None,
        }
    }
    given.next().is_none().then_some(parts)
}

fn is_name(text: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
    (1..=253).contains(&text.len()) && text.bytes().all(is_plain) && !text.starts_with('.')
}

fn query(endpoint: &Endpoint, text: &str) -> Result<BTreeMap<String, String>, Failure> {
    let mut query = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(text.as_bytes()) {
        if !endpoint.query.contains(&&*name) {
            let known = endpoint.query.join(", ");
            return Err(Failure::invalid(format!("`{name}` is no parameter here; there are: {known}")));
        }
        if query.insert(name.clone().into_owned(), value.into_owned()).is_some() {
            return Err(Failure::invalid(format!("`{name}` is there twice")));
        }
    }
    Ok(query)
}

async fn read(body: Incoming) -> Result<Value, Failure> {
    let whole = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await;
    let whole = whole.map_err(|_| Failure::invalid("the body took too long"))?;
    let bytes = whole.map_err(|_| Failure::new(Code::TooLarge, "the body must be no larger than 1 MiB"))?.to_bytes();
    if bytes.is_empty() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    serde_json::from_slice(&bytes).map_err(|error| Failure::invalid(format!("the body is no JSON: {error}")))
}

fn nobody() -> Person {
    Person { name: String::new(), uid: String::new(), groups: Vec::new(), access: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_parts_are_names_and_nothing_else() {
        let pattern = "/api/v1/objects/{kind}/{namespace}/{name}";
        let parts = matched(pattern, "/api/v1/objects/Credential/shop/a.b").expect("it matches");
        assert_eq!(
            (parts["kind"].as_str(), parts["namespace"].as_str(), parts["name"].as_str()),
            ("Credential", "shop", "a.b")
        );
        for other in [
            "/api/v1/objects/Credential/shop",
            "/api/v1/objects/Credential/shop/",
            "/api/v1/objects/Credential/shop/a/b",
            "/api/v1/objects/Credential/../a",
            "/api/v1/objects/Credential/shop/a%2fb",
            "/api/v1/objects//shop/a",
        ] {
            assert!(matched(pattern, other).is_none(), "{other}");
        }
    }
}
