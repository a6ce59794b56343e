//! A caller's socket: it returns the bytes that were read ahead, and notes the facts that its deadlines depend on.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::limits::Place;
use crate::progress::Progress;

/// The client connection preface of HTTP/2 (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The prefix of it that distinguishes HTTP/2 from HTTP/1.1: no other version allows a request `PRI *`.
const TELLING: usize = 14;

/// The protocol that a connection uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    Http1,
    Http2,
}

/// A socket with its place in the table: the place is free when the socket is closed, also as a tunnel.
pub(crate) struct Stream {
    tcp: TcpStream,
    /// Bytes that were read to detect the protocol; the reader has got the first `given` of them.
    ahead: [u8; PREFACE.len()],
    given: usize,
    filled: usize,
    progress: Arc<Progress>,
    _place: Place,
}

impl Stream {
    pub(crate) fn new(tcp: TcpStream, progress: Arc<Progress>, place: Place) -> Self {
        Self { tcp, ahead: [0; PREFACE.len()], given: 0, filled: 0, progress, _place: place }
    }

    /// Reads until the first bytes show the protocol; the reader gets these bytes, too. `None` when the caller closed
    /// the connection before. After a part of a preface, the rest is awaited until the deadline of heads.
    pub(crate) async fn spoken(&mut self) -> Option<Spoken> {
        loop {
            let room = self.ahead.get_mut(self.filled..)?;
            match self.tcp.read(room).await {
                Ok(n) if n > 0 => self.filled += n,
                _ => return None,
            }
            let told = self.filled.min(TELLING);
            if self.ahead.get(..told) != PREFACE.get(..told) {
                return Some(Spoken::Http1);
            }
            if told == TELLING {
                return Some(Spoken::Http2);
            }
        }
    }

    /// Notes whether a write made progress.
    fn written(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Pending => self.progress.blocked(),
            Poll::Ready(_) => self.progress.unblocked(),
        }
        polled
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.given < self.filled {
            let Self { ahead, given, filled, .. } = &mut *self;
            let rest = ahead.get(*given..*filled).unwrap_or_default();
            let part = rest.get(..buf.remaining()).unwrap_or(rest);
            buf.put_slice(part);
            *given += part.len();
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.tcp).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.progress.read();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.tcp).poll_write(cx, bytes);
        self.written(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.tcp).poll_write_vectored(cx, slices);
        self.written(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
