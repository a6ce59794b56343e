//! Forwards a request to the upstream and returns its answer.

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, Uri, Version, header};
use http_body_util::Empty;
use hyper::body::Incoming;
use idm_decide::{Forward, Limited, Payload, SizeLimit, is_grpc, remove_hop_by_hop};
use idm_types::{Reason, Refusal, Stage};

use crate::body::{RequestBody, ResponseBody, Room};
use crate::connect::{ConnectError, Pool};
use crate::core::{Core, Local};
use crate::exchange::{self, AnswerBody, SendError, Upgraded};
use crate::framing::Framing;
use crate::guard::Guard;
use crate::health::Tried;
use crate::mirror::Copies;
use crate::streams::Candidate;
use crate::upgrade;

/// The pause before the first further attempt, more or less.
const FIRST_PAUSE: Duration = Duration::from_millis(25);

/// A request that was permitted, with its head as the upstream gets it.
pub(crate) struct Outbound {
    pub(crate) forward: Forward,
    pub(crate) head: Parts,
}

/// Sends the request and returns the head of the answer with a body that streams. A tunnel takes what the limits gave
/// along.
pub(crate) async fn forward(
    core: &Rc<Core>,
    local: &Local,
    guard: &mut Guard,
    outbound: Outbound,
    body: Payload<Incoming>,
    limited: &mut Limited,
    caller: Option<&Candidate>,
) -> Result<Response<ResponseBody>, Refusal> {
    // This consumes the evidence: one permit, one forwarded request.
    let Outbound { forward, head: mut parts } = outbound;
    let position = forward.backend;
    let pool =
        position.and_then(|position| local.pools.get(position)).ok_or_else(|| Refusal::new(Reason::NoBackend, ""))?;
    guard.upstream = position;
    let copies = Copies::of(core, local, guard, &forward, &parts);
    let Forward { target, timeouts, websocket, own_host, trailers, .. } = forward;
    parts.version = Version::HTTP_11;
    if own_host {
        let host = HeaderValue::from_str(&pool.backend().authority())
            .map_err(|_| Refusal::new(Reason::NoBackend, "its name"))?;
        parts.headers.insert(header::HOST, host);
    }
    let size = limited.request_size.clone();
    let room = size.as_ref().map(|size| Room::new(size.max_bytes));
    let limit = Duration::from_millis(timeouts.response_head_ms);
    let tried = Tried::default();
    let answer = async {
        let place = pool.health.place(&pool.name).await?;
        if websocket {
            let opened = open_tunnel(pool, parts, target, body, limited, caller, &tried).await;
            note(core, pool, &tried, &opened);
            return opened;
        }
        let body = RequestBody::of(body, copies, room.clone());
        let mut sent = send_again(core, pool, parts, target, trailers, body, &tried).await;
        if let Ok(ResponseBody::Upstream(answer)) = sent.as_mut().map(Response::body_mut) {
            answer.keep(place);
        }
        // The upstream's failure is the consequence of a body that was cut.
        match size.filter(|_| sent.is_err() && room.is_some_and(|room| room.exceeded())) {
            Some(size) => Err(too_large(guard, &size)),
            None => sent,
        }
    };
    if timeouts.response_head_ms == 0 {
        return answer.await;
    }
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer,
        Err(_) => {
            let sent = Err(timed_out(pool, limit));
            note(core, pool, &tried, &sent);
            sent
        }
    }
}

/// Sends a request, and again where the policy wants it, it is safe, and the attempts before failed.
async fn send_again(
    core: &Rc<Core>,
    pool: &Rc<Pool>,
    parts: Parts,
    target: PathAndQuery,
    trailers: bool,
    body: RequestBody,
    tried: &Tried,
) -> Result<Response<ResponseBody>, Refusal> {
    let retry = pool.health.care().retry.as_ref();
    let Some((retry, held)) = retry.and_then(|retry| Some((retry, held(&parts.method, &body)?))) else {
        let sent = send(pool, parts, target, trailers, body, tried).await;
        note(core, pool, tried, &sent);
        return sent;
    };
    pool.health.earn(retry);
    let limit = Duration::from_millis(retry.per_try_ms);
    let mut left = retry.attempts;
    loop {
        let body = held.clone().map_or(RequestBody::Empty, |bytes| RequestBody::Held(Some(bytes)));
        let sending = send(pool, parts.clone(), target.clone(), trailers, body, tried);
        let sent = tokio::time::timeout(limit, sending).await.unwrap_or_else(|_| Err(timed_out(pool, limit)));
        note(core, pool, tried, &sent);
        let failed = match &sent {
            Ok(response) => retry.statuses.contains(&response.status().as_u16()),
            Err(refusal) => is_failure(refusal.reason),
        };
        if !failed || left == 0 || !pool.health.spend() {
            return sent;
        }
        // Its connection goes, and its place among the streams.
        drop(sent);
        left -= 1;
        core.shared.metrics.retried.fetch_add(1, Relaxed);
        let pause = FIRST_PAUSE * 2u32.saturating_pow(retry.attempts - left - 1);
        // The attempts of many requests that failed together come apart.
        tokio::time::sleep(pause.mul_f64(0.5 + (core.random() % 1000) as f64 / 1000.0)).await;
    }
}

/// The body of a request that may be sent twice: its method is idempotent (RFC 9110 §9.2.2), and its body is none
/// (`None`) or kept as a whole.
fn held(method: &Method, body: &RequestBody) -> Option<Option<Bytes>> {
    match body {
        _ if !method.is_idempotent() => None,
        RequestBody::Empty => Some(None),
        RequestBody::Held(bytes) => Some(bytes.clone()),
        RequestBody::Streaming { .. } => None,
    }
}

fn timed_out(pool: &Pool, limit: Duration) -> Refusal {
    Refusal::new(Reason::UpstreamTimeout, format!("no answer from {} within {limit:?}", pool.name))
}

/// Whether the upstream has failed, and not the request.
fn is_failure(reason: Reason) -> bool {
    matches!(reason, Reason::UpstreamUnreachable | Reason::UpstreamFailed | Reason::UpstreamTimeout)
}

/// Notes the outcome of an attempt in the backend's state.
fn note(core: &Core, pool: &Pool, tried: &Tried, sent: &Result<Response<ResponseBody>, Refusal>) {
    let failed = match sent {
        Ok(response) => matches!(response.status().as_u16(), 502..=504),
        Err(refusal) => is_failure(refusal.reason),
    };
    if let Some((address, pause)) = pool.health.note(tried, failed, Instant::now) {
        core.shared.metrics.ejected.fetch_add(1, Relaxed);
        tracing::warn!(backend = pool.name, %address, ?pause, "an address failed and is left alone");
    }
}

/// The refusal of a body that was cut when it became longer than a limit allows.
fn too_large(guard: &mut Guard, size: &SizeLimit) -> Refusal {
    guard.trace.stage = Stage::Limit;
    guard.trace.limit = Some(size.name.clone());
    size.refusal(Reason::RequestTooLarge)
}

/// Sends a request, and returns the head of its answer with a body that streams.
pub(crate) async fn send(
    pool: &Rc<Pool>,
    mut parts: Parts,
    target: PathAndQuery,
    trailers: bool,
    body: RequestBody,
    tried: &Tried,
) -> Result<Response<ResponseBody>, Refusal> {
    // gRPC needs HTTP/2.
    if !pool.speaks_http2(is_grpc(&parts.headers)) {
        return send_http1(pool, parts, target, body, tried).await;
    }
    if trailers {
        // The one value that HTTP/2 has (RFC 9113 §8.2.2), whatever else the caller listed.
        parts.headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    send_http2(pool, parts, target, body, tried).await
}

async fn send_http1(
    pool: &Rc<Pool>,
    mut parts: Parts,
    target: PathAndQuery,
    body: RequestBody,
    tried: &Tried,
) -> Result<Response<ResponseBody>, Refusal> {
    parts.uri = Uri::from(target);
    Framing::of(&body).announce(&parts.method, &mut parts.headers);
    let mut request = Request::from_parts(parts, body);
    // The upstream may just have closed an idle connection. A request of which no byte was sent is sent again on a new
    // one, and so is one without effects (RFC 9110 §9.2.2) that got no answer.
    if let Some(connection) = pool.idle(tried) {
        let again = repeatable(&request);
        match connection.send(pool, request).await {
            Ok(response) => return Ok(received(response)),
            Err(SendError::Unsent(unsent)) => request = *unsent,
            Err(error) => match again.filter(|_| error.is_closed_unanswered()) {
                Some(again) => request = again,
                None => return Err(broken(pool, error)),
            },
        }
    }
    let connection = pool.connect(tried).await.map_err(|error| unreachable(pool, error))?;
    connection.send(pool, request).await.map(received).map_err(|error| broken(pool, error))
}

/// A copy of a request that may be sent twice: its method is safe and it has no body.
fn repeatable(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    if !request.method().is_safe() || !matches!(request.body(), RequestBody::Empty) {
        return None;
    }
    let mut copy = Request::new(RequestBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

async fn send_http2(
    pool: &Rc<Pool>,
    mut parts: Parts,
    target: PathAndQuery,
    body: RequestBody,
    tried: &Tried,
) -> Result<Response<ResponseBody>, Refusal> {
    let (sender, stream) = pool.http2(tried).await.map_err(|error| unreachable(pool, error))?;
    let authority = parts.headers.remove(header::HOST);
    let authority = authority.as_ref().and_then(|host| host.to_str().ok()).unwrap_or(&pool.name);
    parts.uri = Uri::builder()
        .scheme(pool.scheme())
        .authority(authority)
        .path_and_query(target)
        .build()
        .map_err(|_| Refusal::new(Reason::MalformedRequest, "the host cannot be an authority"))?;
    parts.version = Version::HTTP_2;
    Framing::of(&body).announce_http2(&parts.method, &mut parts.headers);
    let mut sent = exchange::send_http2(sender, stream, Request::from_parts(parts, body)).await;
    if let Err(SendError::Unsent(unsent)) = sent {
        // The connection was just closed: the next one is new, or one of the others.
        let (sender, stream) = pool.http2(tried).await.map_err(|error| unreachable(pool, error))?;
        sent = exchange::send_http2(sender, stream, *unsent).await;
    }
    sent.map(received).map_err(|error| broken(pool, error))
}

/// A WebSocket gets a connection of its own, and becomes a tunnel if the upstream agrees.
async fn open_tunnel(
    pool: &Rc<Pool>,
    mut parts: Parts,
    target: PathAndQuery,
    body: Payload<Incoming>,
    limited: &mut Limited,
    caller_of: Option<&Candidate>,
    tried: &Tried,
) -> Result<Response<ResponseBody>, Refusal> {
    if pool.speaks_http2(false) {
        return Err(Refusal::new(Reason::UpstreamFailed, "a WebSocket needs an HTTP/1.1 backend"));
    }
    let caller = parts
        .extensions
        .remove::<hyper::upgrade::OnUpgrade>()
        .ok_or_else(|| Refusal::new(Reason::MalformedRequest, "the connection cannot be upgraded"))?;
    drop(body);
    upgrade::set_headers(&mut parts.headers);
    parts.uri = Uri::from(target);
    let tunnel = pool.tunnel(tried).await.map_err(|error| unreachable(pool, error))?;
    let request = Request::from_parts(parts, Empty::new());
    match tunnel.open(request).await.map_err(|error| broken(pool, error))? {
        Upgraded::Declined(response) => Ok(received(response)),
        Upgraded::Switched(response, upstream) => {
            upgrade::tunnel(caller, upstream, std::mem::take(limited), caller_of.and_then(Candidate::place));
            let (mut parts, ()) = response.into_parts();
            own_the_connection(&mut parts);
            upgrade::set_headers(&mut parts.headers);
            Ok(Response::from_parts(parts, ResponseBody::Text(None)))
        }
    }
}

/// The upstream's answer without the headers that concern only its connection.
fn received(response: Response<AnswerBody>) -> Response<ResponseBody> {
    let (mut parts, body) = response.into_parts();
    own_the_connection(&mut parts);
    Response::from_parts(parts, ResponseBody::Upstream(body))
}

fn own_the_connection(parts: &mut http::response::Parts) {
    remove_hop_by_hop(&mut parts.headers);
    parts.version = Version::default();
}

fn unreachable(pool: &Pool, error: ConnectError) -> Refusal {
    match error {
        ConnectError::TimedOut => {
            Refusal::new(Reason::UpstreamUnreachable, format!("{}: no connection within 5 s", pool.name))
        }
        ConnectError::Untrusted(why) => Refusal::new(Reason::UpstreamUntrusted, format!("{}: {why}", pool.name)),
        ConnectError::Ejected => {
            let detail = format!("{}: all its addresses failed and are left alone for a while", pool.name);
            Refusal::new(Reason::UpstreamEjected, detail)
        }
        ConnectError::NoAddress(why) | ConnectError::Failed(why) => {
            Refusal::new(Reason::UpstreamUnreachable, format!("{}: {why}", pool.name))
        }
    }
}

fn broken(pool: &Pool, error: SendError) -> Refusal {
    let name = &pool.name;
    let detail = match error {
        SendError::Broken(error) => format!("{name}: {error}"),
        SendError::Switched => format!("{name}: it switched to a protocol that it was not asked for"),
        SendError::Unsent(_) => format!("{name}: the connection was closed before the request was sent"),
    };
    Refusal::new(Reason::UpstreamFailed, detail)
}
