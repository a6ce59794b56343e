//! One connection, on which one operation at a time is under way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures::FutureExt;
use idm_plan::{DirectoryServer, Protection};
use idm_trust::{DirectoryError, DirectoryErrorKind, Password};
use ldap3_proto::proto::LdapResultCode;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::entry::Entry;
use super::frame::{self, Broken};
use super::message::{self, Answer, Message, NewPassword, Outcome, PasswordPolicy, Request, Search};
use crate::Reach;
use crate::connect::{begin_tls, connect};

/// The time for words of goodbye, which nobody waits for.
const FAREWELL: Duration = Duration::from_millis(20);
/// The memory that is kept for the next answer.
const KEPT_BUFFER: usize = 64 << 10;

/// The failure of a connection, which is not used again.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    pub(super) detail: String,
}

/// The kinds of [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FaultKind {
    /// The connection ended, or time ran out, before any octet of the answer.
    Silent,
    /// The same, within the answer.
    Cut,
    /// The answer cannot be read.
    Broken,
}

impl Fault {
    fn new(kind: FaultKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }
}

impl From<Broken> for Fault {
    fn from(Broken(why): Broken) -> Self {
        Self::new(FaultKind::Broken, why)
    }
}

/// The octets of a connection.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// Messages over a socket.
struct Wire<S> {
    socket: S,
    received: BytesMut,
    last_id: i32,
    /// Octets have arrived since the last request.
    heard: bool,
}

impl<S: Socket> Wire<S> {
    fn over(socket: S) -> Self {
        Self { socket, received: BytesMut::new(), last_id: 0, heard: false }
    }

    /// Refuses to go on where something arrived that nothing asked for: it could be taken for the answer to what is
    /// sent next.
    fn expect_silence(&mut self) -> Result<(), Fault> {
        let ended = match self.socket.read_buf(&mut self.received).now_or_never() {
            Some(Ok(0) | Err(_)) => true,
            Some(Ok(_)) | None => false,
        };
        match self.next_message()? {
            Some(Message { id: 0, .. }) => Err(Fault::new(FaultKind::Silent, "the server has ended the connection")),
            Some(_) => Err(Fault::new(FaultKind::Broken, "the server answers what nobody asked")),
            None if ended => Err(Fault::new(FaultKind::Silent, "the connection has ended")),
            None if self.received.is_empty() => Ok(()),
            None => Err(Fault::new(FaultKind::Broken, "octets arrived that nobody asked for")),
        }
    }

    /// Sends a request; its id.
    async fn send(&mut self, request: Request<'_>, deadline: Instant) -> Result<i32, Fault> {
        self.expect_silence()?;
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        let encoded = request.encode(self.last_id)?;
        self.heard = false;
        let write = async {
            self.socket.write_all(encoded.octets()).await?;
            self.socket.flush().await
        };
        match tokio::time::timeout_at(deadline.into(), write).await {
            Ok(Ok(())) => Ok(self.last_id),
            Ok(Err(error)) => Err(Fault::new(FaultKind::Silent, format!("nothing can be sent: {error}"))),
            Err(_) => Err(Fault::new(FaultKind::Silent, "nothing could be sent in time")),
        }
    }

    fn next_message(&mut self) -> Result<Option<Message>, Fault> {
        match frame::length(&self.received)? {
            Some(length) if self.received.len() >= length => {
                Ok(Some(message::decode(&self.received.split_to(length))?))
            }
            _ => Ok(None),
        }
    }

    /// The next message that answers the request with this id; answers to others are dropped. Before the first octet
    /// there is less time perhaps.
    async fn answer(&mut self, id: i32, first: Instant, deadline: Instant) -> Result<Message, Fault> {
        loop {
            match self.next_message()? {
                Some(message) if message.id == id => return Ok(message),
                // RFC 4511 §4.4.1.
                Some(Message { id: 0, answer, .. }) => {
                    let Answer::Extended(Outcome { diagnostic, .. }) = answer else {
                        return Err(Fault::new(FaultKind::Broken, "a message that answers nothing is no notice"));
                    };
                    let detail = format!("the server ends the connection: {diagnostic}");
                    return Err(Fault::new(FaultKind::Silent, detail));
                }
                Some(_) => continue,
                None => {}
            }
            let lost = if self.heard { FaultKind::Cut } else { FaultKind::Silent };
            let until = if self.heard { deadline } else { first.min(deadline) };
            self.received.reserve(16 << 10);
            match tokio::time::timeout_at(until.into(), self.socket.read_buf(&mut self.received)).await {
                Ok(Ok(0)) => return Err(Fault::new(lost, "the connection ended before the answer")),
                Ok(Ok(_)) => self.heard = true,
                Ok(Err(error)) => return Err(Fault::new(lost, format!("the connection ended: {error}"))),
                Err(_) => return Err(Fault::new(lost, "no answer in time")),
            }
        }
    }

    /// The answer to a bind, or to another request with one answer.
    async fn ask(&mut self, request: Request<'_>, deadline: Instant) -> Result<Message, Fault> {
        let id = self.send(request, deadline).await?;
        loop {
            let message = self.answer(id, deadline, deadline).await?;
            if !matches!(message.answer, Answer::Intermediate) {
                return Ok(message);
            }
        }
    }

    /// Sends what has no answer, for a moment only.
    async fn farewell(&mut self, request: Request<'_>) {
        let Some(id) = self.last_id.checked_add(1) else { return };
        let Ok(encoded) = request.encode(id) else { return };
        let write = async {
            self.socket.write_all(encoded.octets()).await?;
            self.socket.flush().await
        };
        let _ = tokio::time::timeout(FAREWELL, write).await;
    }
}

/// A connection to a server, protected as its settings say.
pub(super) struct Connection {
    /// The position of the server in the settings.
    pub(super) server: usize,
    /// The host and port.
    pub(super) label: String,
    pub(super) opened: Instant,
    wire: Wire<Box<dyn Socket>>,
}

/// The answers to a search.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) entries: Vec<Entry>,
    /// References to other servers: each is a place by its URIs.
    pub(super) references: Vec<Vec<String>>,
    pub(super) outcome: Outcome,
    /// The cookie of the next page.
    pub(super) cookie: Option<Vec<u8>>,
    /// There were more entries than are taken, and the connection is of no use any more.
    pub(super) too_many: bool,
}

impl Connection {
    /// Connects, and verifies the server before anything of the protocol is said.
    pub(super) async fn open(
        position: usize,
        server: &DirectoryServer,
        tls: &Arc<ClientConfig>,
        reach: &Reach,
        deadline: Instant,
    ) -> Result<Self, DirectoryError> {
        let stream = connect(server, reach, deadline).await?;
        let label = format!("{}:{}", server.host, server.port);
        let socket: Box<dyn Socket> = match server.protection {
            Protection::Loopback => Box::new(stream),
            Protection::Tls => Box::new(begin_tls(stream, server, tls, deadline).await?),
            Protection::StartTls => {
                let stream = start_tls(stream, &label, deadline).await?;
                Box::new(begin_tls(stream, server, tls, deadline).await?)
            }
        };
        Ok(Self { server: position, label, opened: Instant::now(), wire: Wire::over(socket) })
    }

    /// Whether the connection stands, as far as is known here, and nothing arrived on it.
    pub(super) fn is_quiet(&mut self) -> bool {
        if self.wire.received.capacity() > KEPT_BUFFER {
            self.wire.received = BytesMut::from(self.wire.received.as_ref());
        }
        self.wire.expect_silence().is_ok()
    }

    /// Binds; without a password anonymously.
    pub(super) async fn bind(
        &mut self,
        name: &str,
        password: Option<&Password>,
        deadline: Instant,
    ) -> Result<(Outcome, PasswordPolicy), Fault> {
        let policy = password.is_some();
        let Message { answer, policy, .. } = self.wire.ask(Request::Bind { name, password, policy }, deadline).await?;
        match answer {
            Answer::Bind(outcome) => Ok((outcome, policy)),
            _ => Err(Fault::new(FaultKind::Broken, "a bind is answered by something else")),
        }
    }

    /// Changes a password by RFC 3062, or with `unicodePwd` as Active Directory wants it.
    pub(super) async fn change_password(
        &mut self,
        change: NewPassword<'_>,
        unicode_pwd: bool,
        deadline: Instant,
    ) -> Result<(Outcome, PasswordPolicy), Fault> {
        let request = if unicode_pwd { Request::UnicodePwd(change) } else { Request::PasswordModify(change) };
        let Message { answer, policy, .. } = self.wire.ask(request, deadline).await?;
        match (answer, unicode_pwd) {
            (Answer::Modified(outcome), true) | (Answer::Extended(outcome), false) => Ok((outcome, policy)),
            _ => Err(Fault::new(FaultKind::Broken, "a change of a password is answered by something else")),
        }
    }

    /// Searches, or reads one page. `budget` is the octets of memory that entries may still take.
    pub(super) async fn search(
        &mut self,
        search: &Search<'_>,
        cookie: Option<Vec<u8>>,
        budget: &mut usize,
        first: Instant,
        deadline: Instant,
    ) -> Result<Found, Fault> {
        let seconds = deadline.saturating_duration_since(Instant::now()).as_secs() as i32 + 1;
        let id = self.wire.send(Request::Search { search, cookie, seconds }, deadline).await?;
        let found = self.collect(id, search, budget, first, deadline).await;
        if !matches!(found, Ok(Found { too_many: false, .. })) {
            self.wire.farewell(Request::Abandon(id)).await;
        }
        found
    }

    async fn collect(
        &mut self,
        id: i32,
        search: &Search<'_>,
        budget: &mut usize,
        first: Instant,
        deadline: Instant,
    ) -> Result<Found, Fault> {
        let (mut entries, mut references) = (Vec::new(), Vec::new());
        loop {
            let Message { answer, cookie, memory, .. } = self.wire.answer(id, first, deadline).await?;
            let (outcome, too_many) = match answer {
                Answer::Entry(entry) => {
                    let left = budget.checked_sub(memory);
                    let too_long = || Fault::new(FaultKind::Broken, "the entries of one login take more than 16 MiB");
                    *budget = left.ok_or_else(too_long)?;
                    entries.push(Entry::from(entry));
                    if entries.len() <= search.most {
                        continue;
                    }
                    let diagnostic = "more entries came than are taken".to_owned();
                    (Outcome { code: LdapResultCode::SizeLimitExceeded, diagnostic, referral: Vec::new() }, true)
                }
                Answer::Reference(uris) => {
                    let left = budget.checked_sub(memory);
                    let too_long =
                        || Fault::new(FaultKind::Broken, "the references of one login take more than 16 MiB");
                    *budget = left.ok_or_else(too_long)?;
                    references.push(uris);
                    continue;
                }
                Answer::Intermediate => continue,
                Answer::Done(outcome) => (outcome, false),
                Answer::Bind(_) | Answer::Extended(_) | Answer::Modified(_) => {
                    return Err(Fault::new(FaultKind::Broken, "a search is answered by something else"));
                }
            };
            return Ok(Found { entries, references, outcome, cookie, too_many });
        }
    }

    /// Ends the connection as the protocol wants it (RFC 4511 §4.3).
    pub(super) async fn close(mut self) {
        self.wire.farewell(Request::Unbind).await;
    }

    /// The error for a fault on this connection.
    pub(super) fn error(&self, fault: &Fault) -> DirectoryError {
        let kind = match fault.kind {
            FaultKind::Silent | FaultKind::Cut => DirectoryErrorKind::Unavailable,
            FaultKind::Broken => DirectoryErrorKind::Unusable,
        };
        DirectoryError::new(kind, format!("{}: {}", self.label, fault.detail))
    }
}

/// Asks for TLS in the protocol (RFC 4511 §4.14). The socket comes back without an octet in between: what arrives
/// before the handshake could come from anybody.
async fn start_tls(stream: TcpStream, label: &str, deadline: Instant) -> Result<TcpStream, DirectoryError> {
    let untrusted =
        |why: String| DirectoryError::new(DirectoryErrorKind::Untrusted, format!("{label}: StartTLS: {why}"));
    let mut wire = Wire::over(stream);
    match wire.ask(Request::StartTls, deadline).await {
        Ok(Message { answer: Answer::Extended(Outcome { code: LdapResultCode::Success, .. }), .. }) => {}
        Ok(Message { answer: Answer::Extended(Outcome { code, diagnostic, referral: _ }), .. }) => {
            return Err(untrusted(format!("the server refuses it: {code:?} {diagnostic}")));
        }
        Ok(_) => return Err(untrusted("it is answered by something else".into())),
        Err(Fault { kind: FaultKind::Broken, detail }) => return Err(untrusted(detail)),
        Err(Fault { detail, .. }) => {
            return Err(DirectoryError::new(DirectoryErrorKind::Unavailable, format!("{label}: StartTLS: {detail}")));
        }
    }
    if !wire.received.is_empty() {
        return Err(untrusted("octets arrived before TLS began".into()));
    }
    Ok(wire.socket)
}
