//! WebSocket (RFC 6455): the only upgrade that is forwarded.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use idm_decide::Limited;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::streams::Place;

/// Adds the upgrade headers, in both directions.
pub(crate) fn set_headers(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// The longest silence in both directions before a tunnel is closed; both ends of a WebSocket can send pings (RFC 6455
/// §5.5.2).
pub(crate) const MAX_SILENCE: Duration = Duration::from_secs(15 * 60);

/// Copies bytes in both directions until either side ends or both are silent for too long. Bytes that the caller sent
/// early do not reach the upstream before it agreed to the upgrade: hyper holds them until then.
/// The limits get back what they gave when the tunnel ends.
///
/// The end of the caller's right ends the tunnel: both connections close, and no byte is added to what was sent.
pub(crate) fn tunnel(pending: Pending, limited: Limited) {
    tokio::task::spawn_local(async move {
        let Pending { caller, upstream, place } = pending;
        let _until_the_end = limited;
        if let (Ok(caller), Ok(upstream)) = tokio::join!(caller, upstream) {
            let heard = Rc::new(Cell::new(Instant::now()));
            let mut caller = Heard::new(TokioIo::new(caller), &heard);
            let mut upstream = Heard::new(TokioIo::new(upstream), &heard);
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut caller, &mut upstream) => {}
                () = silence(&heard, MAX_SILENCE) => {}
                () = right_ended(place) => {}
            }
        }
    });
}

/// Resolves when the right of the caller ends.
pub(crate) async fn right_ended(place: Option<Place>) {
    match place {
        Some(place) => {
            let _ = place.cut().await;
        }
        None => std::future::pending().await,
    }
}

/// Resolves after a silence of this length.
pub(crate) async fn silence(heard: &Cell<Instant>, limit: Duration) {
    loop {
        let end = heard.get() + limit;
        if Instant::now() >= end {
            return;
        }
        tokio::time::sleep_until(end).await;
    }
}

/// Notes when bytes were last read.
pub(crate) struct Heard<S> {
    io: S,
    heard: Rc<Cell<Instant>>,
}

impl<S> Heard<S> {
    pub(crate) fn new(io: S, heard: &Rc<Cell<Instant>>) -> Self {
        Self { io, heard: heard.clone() }
    }
}

/// Both sides of an upgrade that the upstream agreed to.
pub(crate) struct Pending {
    pub(crate) caller: OnUpgrade,
    pub(crate) upstream: OnUpgrade,
    pub(crate) place: Option<Place>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_read(cx, into);
        if polled.is_ready() {
            self.heard.set(Instant::now());
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_ends_only_after_silence() {
        let heard = Rc::new(Cell::new(Instant::now()));
        let started = Instant::now();
        let speaker = async {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(50)).await;
                heard.set(Instant::now());
            }
        };
        tokio::join!(speaker, silence(&heard, Duration::from_secs(60)));
        assert_eq!(started.elapsed().as_secs(), 210);
    }
}
