//! Realtime connections to language models: WebSockets whose use is counted while they are open.
//!
//! Bytes pass unchanged in both directions. What the provider sends is read on the way: after each answer its use is
//! charged, and the share of the next one is reserved. Where nothing is left, the connection is closed at the end of
//! the frame that told it (RFC 6455 §7.4.1, 1008). One record tells the use of the whole connection.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use idm_decide::{Account, Limited, Metering, Renewal};
use idm_transform::{RealtimeMeter, Usage};
use idm_types::{Reason, Refusal, Stage, Timestamp};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use crate::guard::Guard;
use crate::pipeline::used;
use crate::upgrade::{Heard, MAX_SILENCE, Pending, right_ended, silence};

/// The bytes that are read at once.
const PIECE: usize = 16 << 10;
/// The time in which a caller may take the close frame; until then its bytes are read and discarded.
const CLOSING: Duration = Duration::from_secs(2);
/// The status of an answer that switches protocols.
const SWITCHED: u16 = 101;
/// The codes of close frames: the budget is used up, and the gateway cannot go on.
const POLICY_VIOLATION: u16 = 1008;
const INTERNAL_ERROR: u16 = 1011;

/// A connection that is open, or about to be.
struct Realtime {
    guard: Box<Guard>,
    account: Account,
    limited: Limited,
    metering: Metering,
    meter: RealtimeMeter,
    total: Usage,
}

/// Serves a connection that both sides agreed to. The record is written at its end.
pub(crate) fn serve(pending: Pending, guard: Box<Guard>, account: Account, limited: Limited, metering: Metering) {
    let (meter, total) = (RealtimeMeter::default(), Usage::default());
    let realtime = Realtime { guard, account, limited, metering, meter, total };
    tokio::task::spawn_local(async move {
        let Pending { caller, upstream, place } = pending;
        // A connection that never came about is one whose caller is gone, and so the guard records it.
        let (Ok(caller), Ok(upstream)) = tokio::join!(caller, upstream) else { return };
        let heard = Rc::new(Cell::new(Instant::now()));
        let mut caller = Heard::new(TokioIo::new(caller), &heard);
        let mut upstream = Heard::new(TokioIo::new(upstream), &heard);
        let mut realtime = realtime;
        let end = tokio::select! {
            end = realtime.pass(&mut caller, &mut upstream) => end,
            () = silence(&heard, MAX_SILENCE) => Ok(()),
            () = right_ended(place) => Ok(()),
        };
        drop(upstream);
        if let Err(refusal) = &end {
            close(&mut caller, refusal.reason).await;
        }
        realtime.ended(end);
    });
}

impl Realtime {
    /// Passes bytes until either side ends. The error: the connection must be closed, and why.
    async fn pass<C, U>(&mut self, caller: &mut C, upstream: &mut U) -> Result<(), Refusal>
    where
        C: AsyncRead + AsyncWrite + Unpin,
        U: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut from_caller, mut to_caller) = tokio::io::split(caller);
        let (mut from_upstream, mut to_upstream) = tokio::io::split(upstream);
        let asked = async {
            let copied = tokio::io::copy(&mut from_caller, &mut to_upstream).await;
            let shut = to_upstream.shutdown().await;
            if copied.is_err() || shut.is_err() {
                return;
            }
            // The provider may still answer.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            end = self.answers(&mut from_upstream, &mut to_caller) => end,
            () = asked => Ok(()),
        }
    }

    /// Passes what the provider sends, and counts it.
    async fn answers<R, W>(&mut self, from: &mut R, to: &mut W) -> Result<(), Refusal>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut buffer = vec![0; PIECE];
        loop {
            let Ok(read @ 1..) = from.read(&mut buffer).await else { return Ok(()) };
            let mut piece = buffer.get(..read).unwrap_or_default();
            while !piece.is_empty() {
                let seen = self.meter.see(piece);
                let (length, usage) = seen.map_err(|_| {
                    let why =
                        "the provider sent a frame with an extension that was not agreed on, which cannot be counted";
                    Refusal::new(Reason::UpstreamFailed, why)
                })?;
                let (now, later) = piece.split_at(length.min(piece.len()));
                if write(to, now).await.is_err() {
                    self.count(usage);
                    return Ok(());
                }
                piece = later;
                if let Some(usage) = usage {
                    self.charge(usage).await?;
                }
            }
        }
    }

    /// Counts the use of an answer, and reserves the share of the next one.
    async fn charge(&mut self, usage: Usage) -> Result<(), Refusal> {
        let used = used(&self.count(Some(usage)));
        let now = Timestamp::now();
        let core = self.guard.core().clone();
        let process = &core.shared.process;
        self.account.charge(process, used.tokens, now);
        self.guard.trace.stage = Stage::Limit;
        self.account.check(process, now).await?;
        match self.limited.renew(used, now).await {
            Renewal::Reserved => {}
            Renewal::Refused { limit, refusal } => {
                self.guard.trace.limit = limit;
                return Err(refusal);
            }
        }
        self.guard.trace.stage = Stage::Answer;
        Ok(())
    }

    /// Adds to the use of the connection. Returns the use with its cost.
    fn count(&mut self, usage: Option<Usage>) -> Usage {
        let usage = usage.unwrap_or_default().priced(self.metering.price);
        self.total.add(&usage);
        usage
    }

    /// Records the connection, with an answer that had begun and whose use was not told.
    fn ended(mut self, end: Result<(), Refusal>) {
        if let Some(rest) = self.meter.rest() {
            let rest = used(&self.count(Some(rest)));
            self.account.charge(&self.guard.core().shared.process, rest.tokens, Timestamp::now());
            self.limited.settle(rest);
        }
        let Self { mut guard, total, .. } = self;
        guard.usage = Some(total);
        // The answer was sent long ago: nothing is left to wait for.
        match end {
            Ok(()) => drop(guard.permitted(SWITCHED)),
            Err(refusal) => drop(guard.refused(refusal.reason, SWITCHED, &refusal.detail)),
        }
    }
}

async fn write<W: AsyncWrite + Unpin>(to: &mut W, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// Tells the caller that the connection is closed, and why. A socket that is closed while its caller still sends would
/// lose that, so what comes is discarded for a while.
async fn close<C: AsyncRead + AsyncWrite + Unpin>(caller: &mut C, reason: Reason) {
    let code = if reason.is_denial() { POLICY_VIOLATION } else { INTERNAL_ERROR };
    let words = if reason.status() == 429 { "the budget is used up" } else { "the gateway cannot go on" }.as_bytes();
    let mut frame = vec![0x88, words.len() as u8 + 2];
    frame.extend(code.to_be_bytes());
    frame.extend(words);
    let closing = async {
        write(caller, &frame).await?;
        caller.shutdown().await?;
        let mut discarded = [0; 1024];
        while caller.read(&mut discarded).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = timeout(CLOSING, closing).await;
}
