//! Copies of permitted requests for the mirrors of a rule. Nothing waits for them, and what they answer is dropped.
//!
//! A copy is made of what the upstream gets, and sent when the request's body is complete: it is kept meanwhile, up to
//! [`MAX_BODY`]. A copy that finds no place, or whose body is longer or breaks off, is given up.

use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response};
use http_body::SizeHint;
use http_body_util::BodyExt;
use idm_decide::Forward;

use crate::body::{RequestBody, ResponseBody};
use crate::connect::Pool;
use crate::core::{Core, Local};
use crate::forward::send;
use crate::guard::Guard;
use crate::metrics::Mirrored;

/// The most bytes of a body that is copied.
const MAX_BODY: usize = 64 << 10;
/// The most copies of one core under way at once, so that the memory of their bodies is bounded.
const MAX_COPIES: usize = 128;
/// The same to one mirror: one that hangs takes no places from others.
const MAX_COPIES_TO_ONE: usize = 16;
/// The longest time from the complete request to the end of the answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// The most bytes of an answer that are read, so that its connection can be used again.
const MAX_ANSWER: usize = 64 << 10;

/// The copies of one request.
pub(crate) struct Copies {
    head: Head,
    places: Vec<Place>,
}

/// The head of a request, as its upstream gets it.
#[derive(Clone)]
struct Head {
    method: Method,
    headers: HeaderMap,
    target: PathAndQuery,
    trailers: bool,
}

/// A place among the copies under way. It is counted, with its outcome, when it is given back.
struct Place {
    core: Rc<Core>,
    pool: Rc<Pool>,
    outcome: Mirrored,
}

impl Place {
    fn take(core: &Rc<Core>, pool: &Rc<Pool>) -> Option<Self> {
        if core.copies.get() >= MAX_COPIES || pool.copies.get() >= MAX_COPIES_TO_ONE {
            core.shared.metrics.mirrored(Mirrored::Dropped);
            return None;
        }
        core.copies.set(core.copies.get() + 1);
        pool.copies.set(pool.copies.get() + 1);
        Some(Self { core: core.clone(), pool: pool.clone(), outcome: Mirrored::Dropped })
    }

    async fn fill(mut self, head: Head, body: Bytes) {
        self.outcome = Mirrored::Failed;
        let pool = self.pool.clone();
        let delivered = async {
            if let Some(answer) = deliver(&pool, head, body).await {
                self.outcome = Mirrored::Answered;
                discard(answer).await;
            }
        };
        // An answer that does not end in time is an answer.
        let _ = tokio::time::timeout(DEADLINE, delivered).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.core.copies.set(self.core.copies.get().saturating_sub(1));
        self.pool.copies.set(self.pool.copies.get().saturating_sub(1));
        self.core.shared.metrics.mirrored(self.outcome);
    }
}

impl Copies {
    /// The copies that a permitted request has, each with a place; the record names their mirrors.
    pub(crate) fn of(
        core: &Rc<Core>,
        local: &Local,
        guard: &mut Guard,
        forward: &Forward,
        head: &Parts,
    ) -> Option<Self> {
        let mut places = Vec::new();
        for position in &forward.mirrors {
            let place = local.pools.get(*position).and_then(|pool| Place::take(core, pool));
            guard.mirrors.extend(place.is_some().then_some(*position));
            places.extend(place);
        }
        let Parts { method, headers, .. } = head;
        let (method, headers, target) = (method.clone(), headers.clone(), forward.target.clone());
        let head = Head { method, headers, target, trailers: forward.trailers };
        (!places.is_empty()).then_some(Self { head, places })
    }

    /// Sends them with a body that is complete.
    fn send(self, body: &Bytes) {
        let Self { head, places } = self;
        if body.len() > MAX_BODY {
            return;
        }
        for place in places {
            tokio::task::spawn_local(place.fill(head.clone(), body.clone()));
        }
    }
}

/// Sends one copy.
async fn deliver(pool: &Rc<Pool>, head: Head, body: Bytes) -> Option<Response<ResponseBody>> {
    let Head { method, headers, target, trailers } = head;
    let mut parts = Request::new(()).into_parts().0;
    (parts.method, parts.headers) = (method, headers);
    let body = if body.is_empty() { RequestBody::Empty } else { RequestBody::Held(Some(body)) };
    send(pool, parts, target, trailers, body).await.ok()
}

async fn discard(answer: Response<ResponseBody>) {
    let (mut body, mut left) = (answer.into_body(), MAX_ANSWER);
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        let Some(rest) = left.checked_sub(bytes) else { break };
        left = rest;
    }
}

/// A streamed body that is kept for copies while the upstream gets it.
pub(crate) struct Kept {
    copies: Copies,
    bytes: BytesMut,
}

impl Kept {
    /// `None`: the body is too long. Bodies that need not be kept are sent at once.
    pub(crate) fn of(copies: Option<Copies>, body: &RequestBody, hint: &SizeHint) -> Option<Self> {
        let copies = copies?;
        match body {
            RequestBody::Empty => copies.send(&Bytes::new()),
            RequestBody::Held(bytes) => copies.send(bytes.as_ref().unwrap_or(&Bytes::new())),
            RequestBody::Streaming { .. } if hint.lower() > MAX_BODY as u64 => {}
            RequestBody::Streaming { .. } => return Some(Self { copies, bytes: BytesMut::new() }),
        }
        None
    }

    /// Keeps a part. Returns whether there was room for it.
    pub(crate) fn keep(&mut self, part: &[u8]) -> bool {
        let has_room = self.bytes.len() + part.len() <= MAX_BODY;
        if has_room {
            self.bytes.extend_from_slice(part);
        }
        has_room
    }

    /// The body is complete.
    pub(crate) fn complete(self) {
        self.copies.send(&self.bytes.freeze());
    }
}
