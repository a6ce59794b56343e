//! One request on its way to its handler, and what the handler answers.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use hyper::body::Frame;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::Manager;
use crate::failure::{Code, Failure};
use crate::session::Person;

/// A request whose session, address and permission are checked.
pub(crate) struct Call {
    pub(crate) manager: Arc<Manager>,
    /// The person; without a name where the endpoint needs no session.
    pub(crate) person: Arc<Person>,
    /// The value of the session's cookie.
    pub(crate) cookie: Option<String>,
    /// The event that a stream's reader saw last.
    pub(crate) last_event: Option<String>,
    /// The variable parts of the path.
    pub(crate) path: BTreeMap<&'static str, String>,
    /// The parameters of the query.
    pub(crate) query: BTreeMap<String, String>,
}

impl Call {
    /// A variable part of the path.
    pub(crate) fn part(&self, name: &str) -> &str {
        self.path.get(name).map(String::as_str).unwrap_or_default()
    }

    /// A parameter of the query; an empty one is none.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The namespace that is asked about: this one, or the person's first.
    pub(crate) async fn namespace(&self, asked: Option<&str>) -> Result<String, Failure> {
        match asked {
            Some(namespace) => Ok(namespace.to_owned()),
            None => Ok(self.manager.place.namespaces(&self.person).await?.names.into_iter().next().unwrap_or_default()),
        }
    }

    /// A number of the query.
    pub(crate) fn number(&self, name: &str, usual: usize, most: usize) -> Result<usize, Failure> {
        let Some(text) = self.parameter(name) else { return Ok(usual) };
        let number = text.parse().ok().filter(|number| (1..=most).contains(number));
        number.ok_or_else(|| Failure::invalid(format!("`{name}` must be a number from 1 to {most}")))
    }
}

/// Does work that reads files or computes for long, away from the tasks that answer.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Failure::unavailable("the work was broken off"))
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Body,
}

impl Reply {
    /// JSON.
    pub(crate) fn json<A: Serialize + JsonSchema>(answer: &A) -> Result<Self, Failure> {
        let text = serde_json::to_vec(answer).map_err(|_| Failure::new(Code::Unavailable, "the answer has no form"))?;
        Ok(Self::bytes(200, "application/json", text.into()))
    }

    /// Nothing but success.
    pub(crate) fn done() -> Self {
        Self { status: 204, headers: Vec::new(), body: Body::Whole(None) }
    }

    /// Content of a media type.
    pub(crate) fn bytes(status: u16, media_type: &'static str, content: Bytes) -> Self {
        let headers = vec![(http::header::CONTENT_TYPE, HeaderValue::from_static(media_type))];
        Self { status, headers, body: Body::Whole(Some(content)) }
    }

    pub(crate) fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }
}

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Body {
    /// It is here.
    Whole(Option<Bytes>),
    /// It comes in pieces; who reads too slowly is waited for by the writer.
    Pieces(mpsc::Receiver<Bytes>),
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut *self {
            Body::Whole(content) => Poll::Ready(content.take().map(|content| Ok(Frame::data(content)))),
            Body::Pieces(pieces) => pieces.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece)))),
        }
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            Body::Whole(content) => {
                hyper::body::SizeHint::with_exact(content.as_ref().map_or(0, |content| content.len() as u64))
            }
            Body::Pieces(_) => hyper::body::SizeHint::default(),
        }
    }
}
