//! Bodies stream through; neither side's is ever collected.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::connect::{Http1, Pool};

/// A request's body on its way to the upstream, without trailers: a trailer can carry any header name
/// past every check that was made on the head.
pub(crate) struct RequestBody(pub(crate) Option<Incoming>);

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(incoming) = self.0.as_mut() else { return Poll::Ready(None) };
        loop {
            match Pin::new(&mut *incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => {}
                other => return other,
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// What the caller gets.
pub(crate) enum ResponseBody {
    /// Our own words.
    Text(Option<Bytes>),
    /// The upstream's, with the connection that goes back to its pool when the body has ended.
    Upstream { body: Incoming, lease: Option<Lease> },
}

/// A connection in use by one response.
pub(crate) struct Lease {
    pub(crate) sender: Http1,
    pub(crate) pool: Rc<Pool>,
}

impl Lease {
    fn end(self) {
        self.pool.give_back(self.sender);
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            ResponseBody::Text(text) => Poll::Ready(text.take().map(|bytes| Ok(Frame::data(bytes)))),
            ResponseBody::Upstream { body, lease } => {
                let polled = Pin::new(body).poll_frame(cx);
                if let Poll::Ready(None) = polled {
                    lease.take().into_iter().for_each(Lease::end);
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ResponseBody::Text(text) => text.is_none(),
            ResponseBody::Upstream { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ResponseBody::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            ResponseBody::Upstream { body, .. } => body.size_hint(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // hyper stops polling at the announced length; a body dropped before its end takes its connection along.
        if let ResponseBody::Upstream { body, lease } = self {
            if body.is_end_stream() {
                lease.take().into_iter().for_each(Lease::end);
            }
        }
    }
}
