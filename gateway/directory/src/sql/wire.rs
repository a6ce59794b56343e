//! Octets of a connection: read when they are whole, and bounded.

use bytes::BytesMut;
use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::failure::Failure;

/// The octets of one message.
pub(super) const LONGEST_MESSAGE: usize = 1 << 20;
/// The octets of all answers to one question.
const ALLOWANCE: usize = 8 << 20;

/// A stream in clear text or in TLS.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Io for T {}

/// A connection as octets.
pub(super) struct Wire {
    io: Box<dyn Io>,
    held: BytesMut,
    allowance: usize,
}

impl Wire {
    pub(super) fn new(io: impl Io + 'static) -> Self {
        Self { io: Box::new(io), held: BytesMut::new(), allowance: ALLOWANCE }
    }

    /// Begins a new question, whose answers may have their full size.
    pub(super) fn renew_allowance(&mut self) {
        self.allowance = ALLOWANCE;
    }

    /// Sends octets.
    pub(super) async fn send(&mut self, octets: &[u8]) -> Result<(), Failure> {
        let sent = async {
            self.io.write_all(octets).await?;
            self.io.flush().await
        };
        sent.await.map_err(|error| Failure::lost(format!("the connection ended: {error}")))
    }

    /// Waits for so many octets, which stay where they are.
    pub(super) async fn peek(&mut self, count: usize) -> Result<&[u8], Failure> {
        if count > LONGEST_MESSAGE {
            return Err(Failure::unusable(format!("the server sends more than {LONGEST_MESSAGE} octets in a message")));
        }
        while self.held.len() < count {
            let read = self.io.read_buf(&mut self.held).await;
            match read {
                Ok(0) => return Err(Failure::lost("the server closed the connection")),
                Ok(read) => {
                    self.allowance = self.allowance.checked_sub(read).ok_or_else(|| {
                        Failure::unusable(format!("the server answers with more than {ALLOWANCE} octets"))
                    })?;
                }
                Err(error) => return Err(Failure::lost(format!("the connection ended: {error}"))),
            }
        }
        self.held.get(..count).ok_or_else(|| Failure::broken("a message is too short"))
    }

    /// Waits for so many octets and takes them.
    pub(super) async fn take(&mut self, count: usize) -> Result<BytesMut, Failure> {
        self.peek(count).await?;
        Ok(self.held.split_to(count))
    }

    /// Whether the connection is open and the server has sent nothing that nobody asked for.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.held.is_empty() && self.io.read_u8().now_or_never().is_none()
    }
}

/// Reads a message field by field.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[octet]| octet)
    }

    /// The octets before a NUL, which is skipped.
    pub(super) fn until_nul(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|octet| *octet == 0)?;
        let taken = self.take(end)?;
        self.take(1)?;
        Some(taken)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
