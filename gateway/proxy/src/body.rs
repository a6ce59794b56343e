//! Bodies are streamed; a body is buffered only where it must be checked before it may pass.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use idm_decide::{Holding, Limited, MAX_HELD, Pace, Payload, Share, Unheld};
use idm_transform::{HiddenUsage, Meter, Usage};
use idm_types::{Reason, Refusal};

use crate::exchange::{AnswerBody, Written};
use crate::mirror::{Copies, Kept};
use crate::streams::{Candidate, LONG_ANSWER, Place};

/// The most bytes of a body that are read and discarded after its request was answered.
const LINGER_BYTES: u64 = 1 << 20;
/// The longest time for reading and discarding them.
const LINGER: Duration = Duration::from_secs(2);

/// Discards a body after its request was answered. If a connection is closed while its client still sends, the client
/// can lose the answer; therefore the bytes that arrive within a short time are read and discarded. Returns whether
/// more bytes were announced than that; the connection must then be closed.
pub(crate) fn let_go(body: Payload<Incoming>) -> bool {
    let Payload::Streaming(mut incoming) = body else { return false };
    if incoming.is_end_stream() {
        return false;
    }
    let ends = incoming.size_hint().lower() > LINGER_BYTES;
    tokio::task::spawn_local(async move {
        let mut left = LINGER_BYTES;
        let discard = async {
            while let Some(Ok(frame)) = incoming.frame().await {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                let Some(rest) = left.checked_sub(bytes) else { break };
                left = rest;
            }
        };
        let _ = tokio::time::timeout(LINGER, discard).await;
    });
    ends
}

/// Why a body ended before its end. It must not look as if it were whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The connection that it comes from failed.
    #[error(transparent)]
    Connection(#[from] hyper::Error),
    /// The body is longer than a limit allows.
    #[error("the body is longer than a limit allows")]
    TooLong,
    /// The right of the caller ended.
    #[error("the right of the caller has ended: {0}")]
    RightEnded(Reason),
}

/// The rest of a size; the body that exceeds it is cut.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    left: u64,
    exceeded: Rc<Cell<bool>>,
}

impl Room {
    pub(crate) fn new(bytes: u64) -> Self {
        Self { left: bytes, exceeded: Rc::default() }
    }

    /// Whether a body did not fit.
    pub(crate) fn exceeded(&self) -> bool {
        self.exceeded.get()
    }

    fn take(&mut self, frame: &Frame<Bytes>) -> Result<(), BodyError> {
        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            self.exceeded.set(true);
            BodyError::TooLong
        })?;
        Ok(())
    }
}

/// A request's body on its way to the upstream, without trailers: a trailer can carry any header name
/// past every check that was made on the head.
pub(crate) enum RequestBody {
    Empty,
    Streaming { incoming: Incoming, written: Written, kept: Option<Box<Kept>>, room: Option<Room> },
    Held(Option<Bytes>),
}

impl RequestBody {
    /// Signals that a streamed body was written to its end; `None` for a body that is sent in one piece.
    pub(crate) fn written(&self) -> Option<&Written> {
        match self {
            RequestBody::Empty | RequestBody::Held(_) => None,
            RequestBody::Streaming { written, .. } => Some(written),
        }
    }
}

impl RequestBody {
    /// A request's body, and the copies that get it, too.
    pub(crate) fn of(payload: Payload<Incoming>, copies: Option<Copies>, room: Option<Room>) -> Self {
        let mut body = match payload {
            Payload::Streaming(incoming) if incoming.is_end_stream() => RequestBody::Empty,
            Payload::Streaming(incoming) => {
                RequestBody::Streaming { incoming, written: Written::not_yet(), kept: None, room }
            }
            Payload::Held(held) if held.bytes().is_empty() => RequestBody::Empty,
            Payload::Held(held) => RequestBody::Held(Some(held.bytes().clone())),
        };
        let keeper = Kept::of(copies, &body, &body.size_hint());
        if let RequestBody::Streaming { kept, .. } = &mut body {
            *kept = keeper.map(Box::new);
        }
        body
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let (incoming, written, kept, room) = match &mut *self {
            RequestBody::Empty => return Poll::Ready(None),
            RequestBody::Held(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            RequestBody::Streaming { incoming, written, kept, room } => (incoming, written, kept, room),
        };
        loop {
            let polled = Pin::new(&mut *incoming).poll_frame(cx);
            if let (Poll::Ready(Some(Ok(frame))), Some(room)) = (&polled, room.as_mut()) {
                if let Err(error) = room.take(frame) {
                    return Poll::Ready(Some(Err(error)));
                }
            }
            let part = if let Poll::Ready(Some(Ok(frame))) = &polled { frame.data_ref() } else { None };
            if part.zip(kept.as_mut()).is_some_and(|(part, kept)| !kept.keep(part)) {
                *kept = None;
            }
            // The library stops polling when the announced length was read.
            if matches!(polled, Poll::Ready(None)) || incoming.is_end_stream() {
                written.complete();
                if let Some(kept) = kept.take() {
                    kept.complete();
                }
            }
            match polled {
                Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => {}
                other => return other.map_err(BodyError::from),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Empty => true,
            RequestBody::Held(bytes) => bytes.is_none(),
            RequestBody::Streaming { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Empty => SizeHint::with_exact(0),
            RequestBody::Held(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            RequestBody::Streaming { incoming, .. } => incoming.size_hint(),
        }
    }
}

/// The body of the answer to the caller.
pub(crate) enum ResponseBody {
    /// The gateway's own answer.
    Text(Option<Bytes>),
    /// The upstream's answer, with the connection that goes back to its pool when the body has ended.
    Upstream(AnswerBody),
    /// The answer of a language model, counted as it is streamed.
    Metered(Box<Metered>),
    /// An answer with limits, which have its counters back when it has ended.
    Limited(Box<LimitedBody>),
    /// An answer that ends when the right of its caller ends.
    Watched(Box<Watched>),
}

/// An answer that must not be longer than a limit allows, and that gives back what its request took when it has ended.
pub(crate) struct LimitedBody {
    body: ResponseBody,
    room: Option<Room>,
    /// Taken at the end.
    ended: Option<Cut>,
    _limited: Limited,
}

/// Hears whether an answer was cut.
type Cut = Box<dyn FnOnce(bool)>;

impl LimitedBody {
    /// `ended` hears at the end whether the body was cut.
    pub(crate) fn around(body: ResponseBody, limited: Limited, room: Option<Room>, ended: Option<Cut>) -> ResponseBody {
        ResponseBody::Limited(Box::new(Self { body, room, ended, _limited: limited }))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let (Some(Ok(frame)), Some(room)) = (&polled, &mut self.room) {
            if let Err(error) = room.take(frame) {
                self.end();
                return Poll::Ready(Some(Err(error)));
            }
        }
        if matches!(polled, None | Some(Err(_))) {
            self.end();
        }
        Poll::Ready(polled)
    }

    fn end(&mut self) {
        if let Some(ended) = self.ended.take() {
            ended(self.room.as_ref().is_some_and(Room::exceeded));
        }
    }
}

impl Drop for LimitedBody {
    fn drop(&mut self) {
        self.end();
    }
}

/// An answer that ends when the right of its caller ends.
pub(crate) struct Watched {
    body: ResponseBody,
    place: Place,
}

/// An answer whose use is counted; the record of its request is written when it has ended.
pub(crate) struct Metered {
    body: ResponseBody,
    /// Taken at the end: the meter, and the function that receives its result.
    open: Option<(Meter, Ended)>,
    /// Takes the event with the usage out, where the caller did not ask for it.
    hidden: Option<HiddenUsage>,
}

type Ended = Box<dyn FnOnce(Usage)>;

impl Metered {
    pub(crate) fn around(
        body: ResponseBody,
        meter: Meter,
        hidden: Option<HiddenUsage>,
        ended: impl FnOnce(Usage) + 'static,
    ) -> ResponseBody {
        ResponseBody::Metered(Box::new(Self { body, open: Some((meter, Box::new(ended))), hidden }))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let polled = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
            let frame = match polled {
                Some(Ok(frame)) => frame,
                None => {
                    self.end();
                    // The rest is the beginning of an event that never ended.
                    let rest = self.hidden.take().map(|mut hidden| hidden.rest()).filter(|rest| !rest.is_empty());
                    return Poll::Ready(rest.map(|rest| Ok(Frame::data(rest))));
                }
                Some(Err(error)) => {
                    self.end();
                    return Poll::Ready(Some(Err(error)));
                }
            };
            let Some(data) = frame.data_ref() else { return Poll::Ready(Some(Ok(frame))) };
            if let Some((meter, _)) = &mut self.open {
                meter.see(data);
            }
            let Some(hidden) = &mut self.hidden else { return Poll::Ready(Some(Ok(frame))) };
            let passed = hidden.pass(data);
            if !passed.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(passed))));
            }
        }
    }

    fn end(&mut self) {
        if let Some((meter, ended)) = self.open.take() {
            ended(meter.usage());
        }
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        self.end();
    }
}

impl ResponseBody {
    /// The same body; one that may go on for long ends with the right of its caller.
    pub(crate) fn watched(self, caller: Option<&Candidate>) -> Self {
        let is_long = self.size_hint().exact().is_none_or(|length| length > LONG_ANSWER) && !self.is_end_stream();
        match caller.filter(|_| is_long).and_then(Candidate::place) {
            Some(place) => Self::Watched(Box::new(Watched { body: self, place })),
            None => self,
        }
    }

    /// The whole body, up to [`MAX_HELD`]: for a body that must be signed before the caller gets it.
    pub(crate) async fn whole(mut self, holding: &Holding, share: Share) -> Result<Bytes, Refusal> {
        let held = holding.read(&mut self, MAX_HELD, Pace::Any, share).await;
        held.map(|held| held.bytes().clone()).map_err(Unheld::of_response)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            ResponseBody::Text(text) => Poll::Ready(text.take().map(|bytes| Ok(Frame::data(bytes)))),
            ResponseBody::Upstream(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::from),
            ResponseBody::Metered(metered) => metered.poll(cx),
            ResponseBody::Limited(limited) => limited.poll(cx),
            ResponseBody::Watched(watched) => {
                let Watched { body, place } = &mut **watched;
                if let Poll::Ready(reason) = place.poll_cut(cx) {
                    return Poll::Ready(Some(Err(BodyError::RightEnded(reason))));
                }
                Pin::new(body).poll_frame(cx)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ResponseBody::Text(text) => text.is_none(),
            ResponseBody::Upstream(body) => body.is_end_stream(),
            ResponseBody::Metered(metered) => metered.hidden.is_none() && metered.body.is_end_stream(),
            ResponseBody::Limited(limited) => limited.body.is_end_stream(),
            ResponseBody::Watched(watched) => watched.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ResponseBody::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            ResponseBody::Upstream(body) => body.size_hint(),
            ResponseBody::Metered(metered) if metered.hidden.is_some() => SizeHint::default(),
            ResponseBody::Metered(metered) => metered.body.size_hint(),
            ResponseBody::Limited(limited) => limited.body.size_hint(),
            ResponseBody::Watched(watched) => watched.body.size_hint(),
        }
    }
}
