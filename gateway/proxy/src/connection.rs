//! One connection of a caller: its protocol, its requests, and the records of malformed heads.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use idm_decide::Peer;
use idm_types::{Reason, Refusal, Timestamp};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::body::{BodyError, ResponseBody};
use crate::caller::{Arrived, Connection, UnderWay};
use crate::core::Core;
use crate::frames::Framed;
use crate::guard::Guard;
use crate::pipeline::{self, Answer};
use crate::proxies::{Conversation, Sender};
use crate::stream::{Spoken, Stream};
use crate::telling::Ending;
use crate::tls::secured;

/// The largest head, on either protocol.
const MAX_HEADER_BYTES: usize = 64 << 10;
/// The most header fields of a request. hyper reads 100, whose places are on the stack: with more, it would allocate and
/// release 16 KiB for each head.
const MAX_HEADERS: usize = 96;
/// The overhead that HTTP/2 counts for each header field beside its bytes (RFC 9113 §6.5.2).
const HEADER_OVERHEAD: usize = 32;
/// The flow-control windows of one stream and of a connection: bytes that a caller may send before they are read, and
/// that are held in memory until then. With a round trip of 50 ms this is 1.3 MB/s for a body.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 128 << 10;
/// Bytes held of a response that the caller does not read: two frames, so that one is written while the next is read.
const SEND_BUFFER: usize = 32 << 10;
/// Browsers open about a hundred streams.
const MAX_STREAMS: u32 = 128;

/// Detects the protocol of a plain connection, and serves it. Each protocol allocates its own memory: a connection that
/// waits for its first byte holds none of it.
pub(crate) async fn serve(mut stream: Stream, sender: Sender, core: Rc<Core>, connection: Rc<Connection>) {
    let Some(spoken) = stream.spoken().await else { return };
    serve_as(spoken, stream, sender.with(None), core, connection).await;
}

/// Performs the handshake under the configuration in force, and serves the protocol that was negotiated.
pub(crate) async fn serve_tls(stream: Stream, sender: Sender, core: Rc<Core>, connection: Rc<Connection>) {
    // Without a certificate there is no answer to the handshake: the connection is closed.
    let Some(config) = core.local().and_then(|local| local.configuration.tls.clone()) else { return };
    match Box::pin(tokio_rustls::TlsAcceptor::from(config).accept(stream)).await {
        Ok(stream) => {
            let tls = stream.get_ref().1;
            let spoken = if tls.alpn_protocol() == Some(b"h2") { Spoken::Http2 } else { Spoken::Http1 };
            let conversation = sender.with(Some(secured(tls)));
            serve_as(spoken, stream, conversation, core, connection).await;
        }
        Err(error) => {
            core.shared.metrics.handshakes_failed.fetch_add(1, Relaxed);
            tracing::debug!(address = %sender.address, %error, "a TLS handshake failed");
        }
    }
}

async fn serve_as<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    spoken: Spoken,
    stream: S,
    conversation: Conversation,
    core: Rc<Core>,
    connection: Rc<Connection>,
) {
    match spoken {
        Spoken::Http1 => Box::pin(serve_http1(stream, conversation, core, connection)).await,
        Spoken::Http2 => Box::pin(serve_http2(stream, conversation, core, connection)).await,
    }
}

async fn serve_http1<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    conversation: Conversation,
    core: Rc<Core>,
    connection: Rc<Connection>,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let arrived = if has_too_many(request.headers()) {
            Err(Refusal::new(Reason::HeadTooLarge, ""))
        } else {
            conversation.peer_of(request.headers()).map(|peer| (peer, connection.arrived()))
        };
        answer(core.clone(), conversation.peer.clone(), connection.clone(), arrived, request, pipeline::serve)
    });
    // The gateway enforces the deadlines of heads and of idle connections: one sweep checks all connections of a core.
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(MAX_HEADER_BYTES).writev(false);
    let mut http = pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let mut finishing = false;
    let served = poll_fn(|cx| {
        if connection.is_finishing() && !std::mem::replace(&mut finishing, true) {
            http.as_mut().graceful_shutdown();
        }
        http.as_mut().poll(cx)
    });
    let Err(error) = served.await else { return };
    // hyper has answered by itself: 431 where the head is too large, otherwise 400.
    if error.is_parse_too_large() {
        malformed(&core, &conversation.peer, Reason::HeadTooLarge, 431, &error.to_string());
    } else if error.is_parse() {
        let status = if error.is_parse_version_h2() { 0 } else { 400 };
        malformed(&core, &conversation.peer, Reason::MalformedRequest, status, &what_is_malformed(&error));
    }
}

/// hyper does not say which part of a target it could not read.
fn what_is_malformed(error: &hyper::Error) -> String {
    let said = error.to_string();
    if said.contains("URI") {
        return format!(
            "{said}: spaces, `\"`, `<`, `>`, a backquote and characters beyond ASCII must be escaped in a target"
        );
    }
    said
}

async fn serve_http2<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    stream: S,
    conversation: Conversation,
    core: Rc<Core>,
    connection: Rc<Connection>,
) {
    let seen = connection.seen.clone();
    let stream = Framed::new(stream, seen.clone(), connection.progress.clone());
    let calls = Cell::new(0);
    let service = service_fn(|request: Request<Incoming>| {
        calls.set(calls.get() + 1);
        let arrived = if is_too_large(request.headers()) {
            Err(Refusal::new(Reason::HeadTooLarge, ""))
        } else {
            conversation.peer_of(request.headers()).map(|peer| (peer, connection.arrived_on_stream()))
        };
        answer(core.clone(), conversation.peer.clone(), connection.clone(), arrived, request, serve_boxed)
    });
    let mut builder = http2::Builder::new(StreamExecutor { core: core.clone(), connection: connection.clone() });
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        // A head larger than our limit and within this one is refused by us, with a record and a decision id.
        .max_header_list_size(2 * MAX_HEADER_BYTES as u32)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(32)
        .max_local_error_reset_streams(64)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    let mut http = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let (mut finishing, mut told) = (false, false);
    let tell = |told: &mut bool, detail: &str| {
        if !std::mem::replace(told, true) {
            let too_large = seen.largest_head() > MAX_HEADER_BYTES;
            let reason = if too_large { Reason::HeadTooLarge } else { Reason::MalformedRequest };
            malformed(&core, &conversation.peer, reason, 0, detail);
        }
    };
    poll_fn(|cx| {
        if connection.is_finishing() && !std::mem::replace(&mut finishing, true) {
            http.as_mut().graceful_shutdown();
        }
        let polled = http.as_mut().poll(cx);
        connection.settle();
        match &polled {
            Poll::Pending => {
                // Every head that arrived has been handed to the service by now, except the heads that hyper refused.
                if !finishing && seen.heads() > calls.get() {
                    tell(&mut told, "HTTP/2: the head of a stream is malformed");
                    connection.finish();
                }
            }
            Poll::Ready(_) => {
                if let Some(code) = seen.error() {
                    tell(
                        &mut told,
                        &format!("HTTP/2: the connection was ended with error {code} (RFC 9113 section 7)"),
                    );
                }
            }
        }
        polled.map(drop)
    })
    .await;
}

fn has_too_many(headers: &HeaderMap) -> bool {
    headers.len() > MAX_HEADERS
}

/// The size as RFC 9113 §6.5.2 counts it; the names of pseudo headers are not counted.
fn is_too_large(headers: &HeaderMap) -> bool {
    let bytes =
        |(name, value): (&http::HeaderName, &http::HeaderValue)| name.as_str().len() + value.len() + HEADER_OVERHEAD;
    has_too_many(headers) || headers.iter().map(bytes).sum::<usize>() > MAX_HEADER_BYTES
}

/// Serves a request when its turn comes, or refuses a request that may not begin; both leave one record.
async fn answer<F: Future<Output = Result<Answer, Infallible>>>(
    core: Rc<Core>,
    sender: Rc<Peer>,
    connection: Rc<Connection>,
    arrived: Result<(Rc<Peer>, Arrived), Refusal>,
    request: Request<Incoming>,
    serve: fn(Rc<Core>, Rc<Peer>, Request<Incoming>) -> F,
) -> Result<Response<Served>, Infallible> {
    let begun = match arrived {
        Ok((peer, arrived)) => match arrived.begin(&core).await {
            Ok(under_way) => Ok((peer, under_way)),
            Err(_) => Err((peer, Refusal::new(Reason::TooManyRequestsAtOnce, ""))),
        },
        Err(refusal) => Err((sender, refusal)),
    };
    let ((response, ending), under_way) = match begun {
        Ok((peer, under_way)) => {
            connection.turn().await;
            let mut used = Duration::ZERO;
            let mut serving = pin!(serve(core.clone(), peer, request));
            let (response, ending) = poll_fn(|cx| {
                let started = Instant::now();
                let polled = serving.as_mut().poll(cx);
                used += started.elapsed();
                polled
            })
            .await?;
            under_way.decided(used, response.status().as_u16() < 400);
            ((response, ending), Some(under_way))
        }
        Err((peer, refusal)) => {
            (pipeline::turn_away(core.clone(), &peer, request, refusal, connection.turn()).await, None)
        }
    };
    Ok(response.map(|body| Served { body, rest: Bytes::new(), under_way, ending }))
}

/// Serves in memory that is allocated when the request's turn comes: hyper makes a task for each stream at once, and
/// most of the memory of such a task is for serving.
fn serve_boxed(core: Rc<Core>, peer: Rc<Peer>, request: Request<Incoming>) -> Pin<Box<Serving>> {
    Box::pin(pipeline::serve(core, peer, request))
}

/// Records a head that hyper refused: it has answered already, so the answer carries no decision id.
fn malformed(core: &Rc<Core>, peer: &Peer, reason: Reason, status: u16, detail: &str) {
    // Neither method nor path is known; `-` stands for the method.
    let method = http::Method::from_bytes(b"-").unwrap_or_default();
    Guard::open(core.clone(), peer.address, &method, Timestamp::now()).answered(reason, status, detail);
}

type Serving = dyn Future<Output = Result<Answer, Infallible>>;

/// A response that is being sent.
pub(crate) struct Served {
    body: ResponseBody,
    /// The rest of a part of the body that was not handed over yet.
    rest: Bytes,
    under_way: Option<UnderWay>,
    ending: Ending,
}

impl Body for Served {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { body, rest, under_way, ending } = &mut *self;
        if rest.is_empty() {
            let polled = Pin::new(body).poll_frame(cx);
            match polled {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => *rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                other => {
                    under_way.iter().for_each(|under_way| under_way.handed(false));
                    return other;
                }
            }
        }
        under_way.iter().for_each(|under_way| under_way.handed(true));
        let part = under_way.as_ref().map_or(usize::MAX, UnderWay::part);
        let part = rest.split_to(rest.len().min(part));
        ending.sent(part.len());
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let rest = self.rest.len() as u64;
        if rest > 0 {
            let (lower, upper) = (hint.lower(), hint.upper());
            hint = SizeHint::new();
            hint.set_lower(lower.saturating_add(rest));
            upper.into_iter().for_each(|upper| hint.set_upper(upper.saturating_add(rest)));
        }
        hint
    }
}

/// Runs the tasks of an HTTP/2 connection on its core, each part when it is its turn. hyper starts the task of a
/// request right after it handed the request to the service: so the one that began last is the one that is started.
/// Should that ever change, an answer that nobody takes ends with its connection instead of alone.
#[derive(Clone)]
struct StreamExecutor {
    core: Rc<Core>,
    connection: Rc<Connection>,
}

impl<F: Future + 'static> hyper::rt::Executor<F> for StreamExecutor {
    fn execute(&self, future: F) {
        let Self { core, connection } = self.clone();
        let task = tokio::task::spawn_local(connection.stream_work(core, future));
        self.connection.runs(task.abort_handle());
    }
}

/// Runs hyper's tasks on the core that made them.
#[derive(Clone, Copy)]
pub(crate) struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}
