//! One exchange on one connection to an upstream. The types say whether the connection may be used again.
//!
//! A [`Connection`] has no exchange under way and no unread bytes. Sending a request consumes it and yields an
//! [`Answer`]; the connection goes back into the pool only if the answer was read to its end and the request was
//! written to its end. A [`Tunnel`] is a connection of another type, which no pool accepts.

use std::cell::Cell;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::upgrade::OnUpgrade;
use tokio::sync::OwnedSemaphorePermit;

use crate::body::RequestBody;
use crate::connect::Pool;

/// Whether a request's body was handed to the connection to its end.
#[derive(Clone, Debug)]
pub(crate) struct Written(Rc<Cell<bool>>);

impl Written {
    /// For a body that is still being sent.
    pub(crate) fn not_yet() -> Self {
        Self(Rc::new(Cell::new(false)))
    }

    /// The last byte was handed over.
    pub(crate) fn complete(&self) {
        self.0.set(true);
    }
}

/// An HTTP/1.1 connection on which nothing is under way: a new one, or one whose exchanges were all complete.
pub(crate) struct Connection {
    sender: http1::SendRequest<RequestBody>,
    peer: SocketAddr,
}

/// The reason why there is no answer.
pub(crate) enum SendError {
    /// No byte was sent: the connection was closed before. The request is returned unchanged.
    Unsent(Box<Request<RequestBody>>),
    /// The connection failed while the request was under way; the upstream may have received any part of it.
    Broken(hyper::Error),
    /// The upstream switched protocols, which the request did not ask for.
    Switched,
}

impl SendError {
    /// Whether the upstream closed the connection before any byte of its answer was read, as it does with a connection
    /// that was idle for too long.
    pub(crate) fn is_closed_unanswered(&self) -> bool {
        let SendError::Broken(error) = self else { return false };
        let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
        error.is_incomplete_message()
            || cause.is_some_and(|cause| matches!(cause.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe))
    }
}

impl Connection {
    /// A connection on which no byte was sent yet.
    pub(crate) fn new(sender: http1::SendRequest<RequestBody>, peer: SocketAddr) -> Self {
        Self { sender, peer }
    }

    /// The address that it leads to.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Whether the upstream has closed it.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Whether its last exchange was complete, and no unexpected bytes arrived since.
    pub(crate) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Sends a request, whose framing must have been announced, and waits for the head of the answer.
    pub(crate) async fn send(
        mut self,
        pool: &Rc<Pool>,
        request: Request<RequestBody>,
    ) -> Result<Response<AnswerBody>, SendError> {
        let written = request.body().written().cloned();
        match self.sender.try_send_request(request).await {
            // The bytes that follow are not HTTP. The connection closes when its sender is dropped.
            Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => Err(SendError::Switched),
            Ok(response) => Ok(response.map(|incoming| {
                let lease = Lease { connection: self, pool: pool.clone(), written };
                AnswerBody { incoming, lease: Some(lease), _stream: None, _place: None }
            })),
            Err(mut error) => match error.take_message() {
                Some(unsent) => Err(SendError::Unsent(Box::new(unsent))),
                None => Err(SendError::Broken(error.into_error())),
            },
        }
    }
}

/// A connection in use by one exchange. Dropping it closes the connection.
struct Lease {
    connection: Connection,
    pool: Rc<Pool>,
    /// `None` for a body that went out in one piece with its head.
    written: Option<Written>,
}

/// The body of an upstream's answer, with the connection that it comes on.
pub(crate) struct AnswerBody {
    incoming: Incoming,
    lease: Option<Lease>,
    /// HTTP/2: its place among the streams of the connection.
    _stream: Option<StreamPlace>,
    /// Its place at the backend, where those are counted.
    _place: Option<OwnedSemaphorePermit>,
}

/// One stream of an HTTP/2 connection, counted until this is dropped.
pub(crate) struct StreamPlace(Rc<Cell<usize>>);

impl StreamPlace {
    /// Counts one more.
    pub(crate) fn take(streams: &Rc<Cell<usize>>) -> Self {
        streams.set(streams.get() + 1);
        Self(streams.clone())
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

impl AnswerBody {
    /// Keeps the request's place at the backend until the answer has ended.
    pub(crate) fn keep(&mut self, place: Option<OwnedSemaphorePermit>) {
        self._place = place;
    }

    /// The answer was read to its end. Its connection goes back to the pool unless a part of the request is still
    /// unwritten: the upstream answered early, and would read the rest as the beginning of the next request.
    fn ended(&mut self) {
        if let Some(Lease { connection, pool, written }) = self.lease.take() {
            if written.is_none_or(|written| written.0.get()) {
                pool.give_back(connection);
            }
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.incoming).poll_frame(cx);
        match &polled {
            Poll::Ready(None) => this.ended(),
            Poll::Ready(Some(Err(_))) => this.lease = None,
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        // The server stops polling at the announced length. A body that is dropped before its end takes its
        // connection along.
        if self.incoming.is_end_stream() {
            self.ended();
        }
    }
}

/// Sends a request on a stream of an HTTP/2 connection, where streams need no lease.
pub(crate) async fn send_http2(
    mut sender: http2::SendRequest<RequestBody>,
    stream: StreamPlace,
    request: Request<RequestBody>,
) -> Result<Response<AnswerBody>, SendError> {
    match sender.try_send_request(request).await {
        Ok(response) => {
            Ok(response.map(|incoming| AnswerBody { incoming, lease: None, _stream: Some(stream), _place: None }))
        }
        Err(mut error) => match error.take_message() {
            Some(unsent) => Err(SendError::Unsent(Box::new(unsent))),
            None => Err(SendError::Broken(error.into_error())),
        },
    }
}

/// A connection of its own for one upgrade. It carries no body and is never used again.
pub(crate) struct Tunnel(http1::SendRequest<Empty<Bytes>>);

/// The answer to an upgrade.
pub(crate) enum Upgraded {
    /// The upstream agreed: the bytes that follow on the connection belong to the other protocol.
    Switched(Response<()>, OnUpgrade),
    /// It answered as it answers other requests; the connection closes after the answer.
    Declined(Response<AnswerBody>),
}

impl Tunnel {
    /// Takes a connection on which no byte was sent yet.
    pub(crate) fn new(sender: http1::SendRequest<Empty<Bytes>>) -> Self {
        Self(sender)
    }

    /// Asks for a WebSocket. The request is sent without a body and without any announcement of one.
    pub(crate) async fn open(mut self, mut request: Request<Empty<Bytes>>) -> Result<Upgraded, SendError> {
        request.headers_mut().remove(header::CONTENT_LENGTH);
        request.headers_mut().remove(header::TRANSFER_ENCODING);
        let mut response = self.0.send_request(request).await.map_err(SendError::Broken)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Upgraded::Declined(response.map(|incoming| AnswerBody {
                incoming,
                lease: None,
                _stream: None,
                _place: None,
            })));
        }
        let mut protocols = response.headers().get_all(header::UPGRADE).iter();
        let is_websocket = matches!((protocols.next(), protocols.next()),
            (Some(protocol), None) if protocol.as_bytes().eq_ignore_ascii_case(b"websocket"));
        if !is_websocket {
            return Err(SendError::Switched);
        }
        let upgrade = hyper::upgrade::on(&mut response);
        Ok(Upgraded::Switched(response.map(drop), upgrade))
    }
}
