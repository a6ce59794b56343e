//! HTTP/1.1 to one server, over kept connections. No redirect is followed, and no proxy of the environment is used.

use std::error::Error as _;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use idm_plan::{DirectoryServer, Protection};
use idm_trust::{DirectoryError, DirectoryErrorKind};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::AbortHandle;
use url::Url;

use crate::Reach;
use crate::connect::{begin_tls, connect};

/// Larger answers are refused.
const MAX_ANSWER: usize = 256 << 10;
/// Larger heads of answers are refused.
const MAX_HEAD: usize = 64 << 10;
const MAX_HEADERS: usize = 100;
/// A connection that was idle for longer is not used again: servers close theirs at such times.
const MAX_IDLE_TIME: Duration = Duration::from_secs(60);
/// Idle connections beyond these are closed.
const MAX_IDLE: usize = 16;

/// An answer with its whole body.
pub(super) struct Answer {
    pub(super) status: u16,
    /// The media type says that the body is JSON.
    pub(super) is_json: bool,
    pub(super) body: Vec<u8>,
    /// The server to which it redirects.
    pub(super) redirects_to: Option<String>,
}

/// Why there is no answer.
pub(super) struct NoAnswer {
    pub(super) error: DirectoryError,
    pub(super) progress: Progress,
}

/// How far a request without an answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing was sent.
    NotSent,
    /// The connection ended before a byte of the answer. The server may have read the request.
    Sent,
    /// A byte of the answer had come, or the time is over.
    Heard,
}

impl From<DirectoryError> for NoAnswer {
    fn from(error: DirectoryError) -> Self {
        Self { error, progress: Progress::NotSent }
    }
}

/// The connections to a server.
pub(super) struct Client {
    server: DirectoryServer,
    tls: Arc<ClientConfig>,
    reach: Reach,
    idle: Mutex<Vec<(Connection, Instant)>>,
}

/// A connection, which ends when it is dropped.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    heard: Arc<AtomicBool>,
    task: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    pub(super) fn new(server: DirectoryServer, tls: Arc<ClientConfig>, reach: Reach) -> Self {
        Self { server, tls, reach, idle: Mutex::default() }
    }

    /// Sends a request once. A kept connection that turns out to be closed before a byte of the answer came is replaced
    /// by a new one.
    pub(super) async fn ask(&self, request: &Request<Full<Bytes>>, deadline: Instant) -> Result<Answer, NoAnswer> {
        if let Some(kept) = self.kept() {
            match self.exchange(kept, request.clone()).await {
                Err(NoAnswer { progress: Progress::NotSent | Progress::Sent, .. }) => {}
                other => return other,
            }
        }
        let connection = self.connect(deadline).await?;
        self.exchange(connection, request.clone()).await
    }

    fn kept(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(connection, since)| !connection.sender.is_closed() && since.elapsed() < MAX_IDLE_TIME);
        idle.pop().map(|(connection, _)| connection)
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !connection.sender.is_closed() && idle.len() < MAX_IDLE {
            idle.push((connection, Instant::now()));
        }
    }

    async fn connect(&self, deadline: Instant) -> Result<Connection, DirectoryError> {
        let stream = connect(&self.server, &self.reach, deadline).await?;
        match self.server.protection {
            Protection::Tls | Protection::StartTls => {
                self.speak(begin_tls(stream, &self.server, &self.tls, deadline).await?).await
            }
            Protection::Loopback => self.speak(stream).await,
        }
    }

    /// Begins HTTP/1.1 on a connection.
    async fn speak<S>(&self, stream: S) -> Result<Connection, DirectoryError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let heard = Arc::<AtomicBool>::default();
        let stream = TokioIo::new(Heard { stream, heard: heard.clone() });
        let handshake = Builder::new().max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS).handshake(stream).await;
        let (sender, connection) = handshake.map_err(|error| self.error(&error))?;
        let task = tokio::spawn(async move {
            // An error here is the error of the request that used the connection; idle ones just end.
            let _ = connection.await;
        });
        Ok(Connection { sender, heard, task: task.abort_handle() })
    }

    async fn exchange(&self, mut connection: Connection, request: Request<Full<Bytes>>) -> Result<Answer, NoAnswer> {
        connection.heard.store(false, Ordering::Relaxed);
        connection.sender.ready().await.map_err(|error| self.error(&error))?;
        let answer = self.answer(&mut connection.sender, request).await;
        match answer {
            Ok(answer) => {
                self.keep(connection);
                Ok(answer)
            }
            Err(error) => {
                let heard = connection.heard.load(Ordering::Relaxed);
                Err(NoAnswer { error, progress: if heard { Progress::Heard } else { Progress::Sent } })
            }
        }
    }

    async fn answer(
        &self,
        sender: &mut SendRequest<Full<Bytes>>,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, DirectoryError> {
        let response = sender.send_request(request).await.map_err(|error| self.error(&error))?;
        let (head, mut body) = response.into_parts();
        let text = |name| head.headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
        if let Some(coding) = text(CONTENT_ENCODING).filter(|coding| !coding.eq_ignore_ascii_case("identity")) {
            return Err(self.unusable(&format!("its answer is coded as `{coding}`, which was not asked for")));
        }
        let mut octets = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|error| self.error(&error))?.into_data() else { continue };
            if octets.len() + data.len() > MAX_ANSWER {
                return Err(self.unusable("its answer has more than 256 KiB"));
            }
            octets.extend_from_slice(&data);
        }
        Ok(Answer {
            status: head.status.as_u16(),
            is_json: is_json(&head.headers),
            body: octets,
            redirects_to: text(LOCATION).filter(|_| head.status.is_redirection()).map(server_of),
        })
    }

    fn unusable(&self, why: &str) -> DirectoryError {
        let DirectoryServer { host, port, .. } = &self.server;
        DirectoryError::new(DirectoryErrorKind::Unusable, format!("{host}:{port}: {why}"))
    }

    /// An error of a connection that was made, by what the sources of it are. A server that ends a connection is there:
    /// it, or what stands before it, may dislike this one request, and the next one must be asked all the same.
    fn error(&self, error: &hyper::Error) -> DirectoryError {
        let DirectoryServer { host, port, .. } = &self.server;
        let mut source = error.source();
        while let Some(inner) = source {
            let tls = inner.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            match tls.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(alert @ rustls::Error::AlertReceived(_)) => {
                    let why = format!("{host}:{port}: the server ends TLS after the handshake: {alert}");
                    return DirectoryError::new(DirectoryErrorKind::RefusesUs, why);
                }
                Some(other) => {
                    return self.unusable(&format!("TLS: {other}"));
                }
                None => source = inner.source(),
            }
        }
        if error.is_parse() {
            return self.unusable(&format!("its answer is not HTTP/1.1: {error}"));
        }
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        self.unusable(&format!("the connection ended before the answer: {error}{cause}"))
    }
}

/// `application/json` or a type that is written in it (RFC 6839 §3.1).
fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type == "application/json" || media_type.ends_with("+json")
}

/// Scheme and host of a redirect; its path and query may hold what was asked.
fn server_of(location: &str) -> String {
    match Url::parse(location) {
        Ok(url) => format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default()),
        Err(_) => "another path".to_owned(),
    }
}

/// A stream that notes whether anything was read from it.
struct Heard<S> {
    stream: S,
    heard: Arc<AtomicBool>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.heard.store(true, Ordering::Relaxed);
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
