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
use idm_types::{Reason, Refusal};

use crate::body::{RequestBody, ResponseBody};
use crate::connect::Pool;
use crate::core::{Core, Local};
use crate::forward::send;
use crate::guard::Guard;
use crate::health::Tried;
use crate::metrics::Mirrored;

/// The most bytes of a body that is copied.
const MAX_BODY: usize = 64 << 10;
/// The most copies of one core under way at once, so that the memory of their bodies is bounded.
const MAX_COPIES: usize = 128;
/// The same to one mirror: one that hangs takes no places from others.
const MAX_COPIES_TO_ONE: usize = 16;
/// The longest time from the complete request to the end of the answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// The pauses before a copy for which there is no connection is tried again: a name server or a mirror may be busy, or
/// its pod just be replaced.
const PAUSES: [Duration; 3] = [Duration::from_millis(100), Duration::from_millis(400), Duration::from_millis(1600)];
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
        if places.is_empty() {
            return None;
        }
        let Parts { method, headers, .. } = head;
        let (method, headers, target) = (method.clone(), headers.clone(), forward.target.clone());
        Some(Self { head: Head { method, headers, target, trailers: forward.trailers }, places })
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

/// Sends one copy. While there is no connection, nothing of it was sent, so it is tried again.
async fn deliver(pool: &Rc<Pool>, head: Head, body: Bytes) -> Option<Response<ResponseBody>> {
    for pause in PAUSES {
        match attempt(pool, head.clone(), body.clone()).await {
            Err(refusal) if refusal.reason == Reason::UpstreamUnreachable => tokio::time::sleep(pause).await,
            outcome => return outcome.ok(),
        }
    }
    attempt(pool, head, body).await.ok()
}

async fn attempt(pool: &Rc<Pool>, head: Head, body: Bytes) -> Result<Response<ResponseBody>, Refusal> {
    let Head { method, headers, target, trailers } = head;
    let mut parts = Request::new(()).into_parts().0;
    (parts.method, parts.headers) = (method, headers);
    let body = if body.is_empty() { RequestBody::Empty } else { RequestBody::Held(Some(body)) };
    send(pool, parts, target, trailers, body, &Tried::default()).await
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

#[cfg(test)]
mod tests {
    use idm_plan::{Backend, BackendProtocol};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpSocket;

    use super::*;

    #[test]
    fn a_copy_waits_for_a_mirror_that_takes_no_connection_yet() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            // Its port is taken, and refuses connections until it listens.
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let backend = Backend {
                host: "127.0.0.1".into(),
                port: socket.local_addr().unwrap().port(),
                protocol: BackendProtocol::Http1,
                tls: None,
                weight: 1,
                headers: vec![],
                local: true,
            };
            let pool = Pool::new(backend, None, crate::health::Health::new(Default::default(), 1));
            let head = Head {
                method: Method::POST,
                headers: HeaderMap::new(),
                target: PathAndQuery::from_static("/x"),
                trailers: false,
            };
            let refused = attempt(&pool, head.clone(), Bytes::from_static(b"hi")).await.err().map(|error| error.reason);
            assert_eq!(refused, Some(Reason::UpstreamUnreachable));
            let mirror = async {
                // Both timers are of one thread, so this one ends before the copy's first pause.
                tokio::time::sleep(PAUSES[0] / 2).await;
                let (mut stream, _) = socket.listen(8).unwrap().accept().await.unwrap();
                let mut received = Vec::new();
                while !received.ends_with(b"hi") {
                    assert_ne!(stream.read_buf(&mut received).await.unwrap(), 0, "{received:?}");
                }
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                received
            };
            let (answer, received) = tokio::join!(deliver(&pool, head, Bytes::from_static(b"hi")), mirror);
            assert_eq!(answer.unwrap().status(), 204);
            assert!(received.starts_with(b"POST /x HTTP/1.1\r\n"), "{received:?}");
        });
    }
}
