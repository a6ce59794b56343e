//! The frames of an HTTP/2 connection (RFC 9113 §4.1) are observed in both directions, and never held or changed.
//!
//! The frames show facts that hyper does not report: heads that have begun and do not end, heads that hyper refused by
//! itself, streams that have not ended although their answer was handed over, and the reason why hyper closed a
//! connection.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::progress::Progress;
use crate::stream::PREFACE;

use std::cell::{Cell, RefCell};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// RFC 9113 §7: the request was not processed and may be sent again.
const REFUSED_STREAM: u32 = 7;

/// The state of one connection, derived from its frames.
#[derive(Default)]
pub(crate) struct Seen {
    /// Request heads that were received completely.
    heads: Cell<u64>,
    /// Heads that hyper refused because too many streams were open: the caller may send them again.
    turned_away: Cell<u64>,
    /// The encoded size of the largest head.
    largest_head: Cell<usize>,
    /// Streams whose response has not ended.
    open: RefCell<Vec<u32>>,
    /// The time at which a byte of an answer was last written.
    data: Cell<u64>,
    /// The error code of a GOAWAY that we sent, other than NO_ERROR.
    error: Cell<u32>,
    bad_preface: Cell<bool>,
    /// The heads and bytes that may still be read in this turn.
    turn: Cell<Turn>,
}

/// One turn of a connection.
#[derive(Clone, Copy)]
struct Turn {
    /// The turn ends when the sum of heads reaches this.
    heads: u64,
    /// The turn also ends when none of these bytes are left.
    bytes: usize,
}

impl Default for Turn {
    fn default() -> Self {
        Self { heads: u64::MAX, bytes: usize::MAX }
    }
}

/// The heads and bytes that an unknown caller may send before others are served.
const HEADS_OF_STRANGER: u64 = 4;
const BYTES_OF_STRANGER: usize = 64 << 10;
/// The heads that a known caller may send: each head makes a task and takes memory.
const HEADS_OF_TURN: u64 = 16;
/// The bytes that are read at once: a few heads at most, or else the rest of a frame that has begun.
const SLICE: usize = 256;

impl Seen {
    /// A turn begins: a shorter one where the caller is not known.
    pub(crate) fn begin_turn(&self, known: bool) {
        let (heads, bytes) = if known { (HEADS_OF_TURN, usize::MAX) } else { (HEADS_OF_STRANGER, BYTES_OF_STRANGER) };
        self.turn.set(Turn { heads: self.heads.get() + heads, bytes });
    }

    /// The heads that were received and not refused by hyper.
    pub(crate) fn heads(&self) -> u64 {
        self.heads.get().saturating_sub(self.turned_away.get())
    }

    pub(crate) fn largest_head(&self) -> usize {
        self.largest_head.get()
    }

    /// The number of streams that have not ended.
    pub(crate) fn open(&self) -> usize {
        self.open.borrow().len()
    }

    pub(crate) fn data(&self) -> u64 {
        self.data.get()
    }

    /// The reason why the gateway closed the connection, if the caller violated the protocol.
    pub(crate) fn error(&self) -> Option<u32> {
        match (self.error.get(), self.bad_preface.get()) {
            (0, false) => None,
            // PROTOCOL_ERROR.
            (0, true) => Some(1),
            (code, _) => Some(code),
        }
    }

    fn ended(&self, stream: u32) {
        let mut open = self.open.borrow_mut();
        if let Some(position) = open.iter().position(|id| *id == stream) {
            open.swap_remove(position);
        }
    }
}

/// One frame, without its payload.
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    length: usize,
    /// The first bytes of the payload.
    begin: [u8; 8],
}

impl Frame {
    fn number_at(&self, position: usize) -> u32 {
        let bytes = self.begin.get(position..position + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_be_bytes)
    }
}

/// Finds the frames in a stream of bytes that arrives in pieces of any size.
#[derive(Default)]
struct Walker {
    header: [u8; 9],
    /// The bytes of the header that have arrived.
    have: usize,
    begin: [u8; 8],
    /// The bytes of the payload that have passed.
    passed: usize,
}

impl Walker {
    fn feed(&mut self, mut bytes: &[u8], mut seen: impl FnMut(&Frame)) {
        loop {
            if self.have < self.header.len() {
                let Some((byte, rest)) = bytes.split_first() else { return };
                if let Some(place) = self.header.get_mut(self.have) {
                    *place = *byte;
                }
                self.have += 1;
                bytes = rest;
                if self.have < self.header.len() {
                    continue;
                }
            }
            let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = self.header;
            let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
            let (part, rest) = bytes.split_at(self.rest().min(bytes.len()));
            for (place, byte) in self.begin.iter_mut().skip(self.passed).zip(part) {
                *place = *byte;
            }
            self.passed += part.len();
            bytes = rest;
            if self.passed < length {
                return;
            }
            let stream = u32::from_be_bytes([s0, s1, s2, s3]) & (u32::MAX >> 1);
            seen(&Frame { kind, flags, stream, length, begin: self.begin });
            *self = Self::default();
        }
    }

    /// The bytes of the payload of the current frame that have not arrived yet.
    fn rest(&self) -> usize {
        let [l0, l1, l2, ..] = self.header;
        let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        if self.have < self.header.len() { 0 } else { length - self.passed.min(length) }
    }

    /// Whether a frame has begun that is not a DATA frame.
    fn is_within_a_head(&self) -> bool {
        self.have > 0 && (self.have < self.header.len() || self.header.get(3) != Some(&DATA))
    }
}

/// A header block in one frame or several.
struct Block {
    /// The bytes so far.
    length: usize,
    /// It is the head of a request.
    begins: bool,
}

/// A connection whose frames are observed.
pub(crate) struct Framed<S> {
    inner: S,
    seen: Rc<Seen>,
    progress: Arc<Progress>,
    preface: usize,
    read: Walker,
    written: Walker,
    /// A header block has begun and not ended.
    block: Option<Block>,
    newest: u32,
}

impl<S> Framed<S> {
    pub(crate) fn new(inner: S, seen: Rc<Seen>, progress: Arc<Progress>) -> Self {
        progress.set_framed();
        Self {
            inner,
            seen,
            progress,
            preface: 0,
            read: Walker::default(),
            written: Walker::default(),
            block: None,
            newest: 0,
        }
    }

    fn came(&mut self, bytes: &[u8]) {
        let Self { seen, progress, preface, read, block, newest, .. } = self;
        let expected = PREFACE.get(*preface..).unwrap_or_default();
        let (begin, frames) = bytes.split_at(expected.len().min(bytes.len()));
        if !expected.starts_with(begin) {
            seen.bad_preface.set(true);
        }
        *preface += begin.len();
        read.feed(frames, |frame| {
            // A complete frame ends the wait for it; only a header block continues over several frames.
            match frame.kind {
                HEADERS => {
                    // Trailers come on a stream that has begun.
                    let begins = frame.stream > *newest;
                    if begins {
                        *newest = frame.stream;
                        seen.open.borrow_mut().push(frame.stream);
                    }
                    *block = Some(Block { length: frame.length, begins });
                }
                CONTINUATION => {
                    if let Some(block) = block {
                        block.length += frame.length;
                    }
                }
                RST_STREAM => seen.ended(frame.stream),
                _ => {}
            }
            let ends = frame.flags & END_HEADERS != 0 || frame.kind == RST_STREAM;
            if let Some(Block { length, begins }) = block.take_if(|_| ends) {
                seen.largest_head.set(seen.largest_head.get().max(length));
                seen.heads.set(seen.heads.get() + u64::from(begins));
            }
            if block.is_none() {
                progress.head_ended();
            }
        });
        if *preface < PREFACE.len() || block.is_some() || read.is_within_a_head() {
            progress.head_begins();
        }
    }

    fn went(&mut self, bytes: &[u8]) {
        let Self { seen, progress, written, .. } = self;
        written.feed(bytes, |frame| {
            match frame.kind {
                DATA => seen.data.set(progress.now()),
                RST_STREAM => {
                    if frame.number_at(0) == REFUSED_STREAM {
                        seen.turned_away.set(seen.turned_away.get() + 1);
                    }
                    seen.ended(frame.stream);
                }
                GOAWAY => seen.error.set(frame.number_at(4)),
                _ => {}
            }
            if matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0 {
                seen.ended(frame.stream);
            }
        });
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Framed<S> {
    /// Reads a part, unless the turn is over; then the rest waits for the next turn.
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Turn { heads, bytes } = self.seen.turn.get();
        if bytes == 0 || self.seen.heads.get() >= heads {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let wanted = self.read.rest().max(SLICE).min(bytes).min(buf.remaining());
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(wanted));
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut part))?;
        self.came(part.filled());
        let came = part.filled().len();
        buf.advance(came);
        self.seen.turn.set(Turn { heads, bytes: bytes.saturating_sub(came) });
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Framed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))?;
        self.went(bytes.get(..written).unwrap_or_default());
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, slices))?;
        let mut left = written;
        for slice in slices {
            let part = slice.get(..left).unwrap_or(slice);
            self.went(part);
            left -= part.len();
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::progress::Clock;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    fn framed(clock: &Clock) -> Framed<()> {
        Framed::new((), Rc::default(), Progress::new(clock.clone()))
    }

    #[test]
    fn frames_are_found_in_any_pieces() {
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(4, 0, 0, &[]));
        bytes.extend(frame(HEADERS, END_STREAM, 1, b"begin"));
        bytes.extend(frame(CONTINUATION, END_HEADERS, 1, b"rest"));
        bytes.extend(frame(HEADERS, END_HEADERS, 3, b"x"));
        bytes.extend(frame(DATA, END_STREAM, 3, &[7; 300]));
        bytes.extend(frame(RST_STREAM, 0, 3, &8u32.to_be_bytes()));
        for size in [1, 2, 7, 50, bytes.len()] {
            let mut framed = framed(&Clock::new(AtomicU64::new(1)));
            bytes.chunks(size).for_each(|piece| framed.came(piece));
            let seen = framed.seen.clone();
            assert_eq!((seen.heads(), seen.open(), seen.largest_head()), (2, 1, 9), "pieces of {size}");
            assert_eq!(framed.progress.head_for(), None);
            assert_eq!(seen.error(), None);
        }
    }

    #[test]
    fn a_block_that_goes_on_over_frames_is_one_head() {
        let clock = Clock::new(AtomicU64::new(1));
        let mut framed = framed(&clock);
        framed.came(PREFACE);
        framed.came(&frame(4, 0, 0, &[]));
        assert_eq!(framed.progress.head_for(), None, "the wait for the first request is an idle one");
        clock.store(10, Relaxed);
        framed.came(&frame(HEADERS, END_STREAM, 1, b"begin"));
        for now in 11..20 {
            clock.store(now, Relaxed);
            framed.came(&frame(CONTINUATION, 0, 1, b"x"));
        }
        assert_eq!(framed.progress.head_for(), Some(9));
        framed.came(&frame(CONTINUATION, END_HEADERS, 1, b"x"));
        assert_eq!(framed.progress.head_for(), None);
    }

    #[test]
    fn a_head_is_counted_when_it_is_complete() {
        let mut framed = framed(&Clock::new(AtomicU64::new(1)));
        framed.came(PREFACE);
        framed.came(&frame(HEADERS, END_STREAM, 1, b"begin"));
        assert_eq!(framed.seen.heads(), 0, "the rest may come in another packet");
        framed.came(&frame(CONTINUATION, END_HEADERS, 1, b"rest"));
        assert_eq!(framed.seen.heads(), 1);
        framed.came(&frame(HEADERS, END_HEADERS, 3, b"x"));
        framed.came(&frame(HEADERS, END_HEADERS | END_STREAM, 3, b"trailers"));
        assert_eq!(framed.seen.heads(), 2);
    }

    #[tokio::test]
    async fn a_turn_ends_after_some_heads_and_the_next_one_goes_on() {
        use tokio::io::AsyncReadExt;
        let head = |number: u32| frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &[b'x'; 200]);
        let bytes = [PREFACE.to_vec(), (0..50).flat_map(head).collect()].concat();
        let seen = Rc::new(Seen::default());
        let mut framed = Framed::new(&bytes[..], seen.clone(), Progress::new(Clock::new(AtomicU64::new(1))));
        let mut buffer = vec![0; bytes.len()];
        let mut have = 0;
        for (known, total) in [(false, 4), (false, 8), (true, 24), (true, 40), (false, 44)] {
            seen.begin_turn(known);
            while let Poll::Ready(n) = futures_now(framed.read(&mut buffer[have..])) {
                have += n;
                if n == 0 {
                    break;
                }
            }
            assert!((total..=total + 1).contains(&seen.heads()), "{} heads instead of {total}", seen.heads());
        }
        seen.begin_turn(true);
        while let Poll::Ready(n @ 1..) = futures_now(framed.read(&mut buffer[have..])) {
            have += n;
        }
        assert_eq!((buffer, seen.heads()), (bytes, 50));
    }

    #[tokio::test]
    async fn a_body_is_read_a_frame_at_a_time() {
        use tokio::io::AsyncReadExt;
        let bytes =
            [PREFACE.to_vec(), frame(HEADERS, END_HEADERS, 1, b"x"), frame(DATA, 0, 1, &[b'x'; 16_000])].concat();
        let seen = Rc::new(Seen::default());
        let mut framed = Framed::new(&bytes[..], seen.clone(), Progress::new(Clock::new(AtomicU64::new(1))));
        let mut buffer = vec![0; bytes.len()];
        let (mut have, mut reads) = (0, 0);
        seen.begin_turn(true);
        while let Poll::Ready(n @ 1..) = futures_now(framed.read(&mut buffer[have..])) {
            (have, reads) = (have + n, reads + 1);
        }
        assert_eq!((buffer, reads), (bytes, 2));
    }

    /// One poll.
    fn futures_now(future: impl Future<Output = io::Result<usize>>) -> Poll<usize> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        std::pin::pin!(future).poll(&mut context).map(|read| read.expect("read"))
    }

    #[test]
    fn a_body_that_drips_is_no_head() {
        let mut framed = framed(&Clock::new(AtomicU64::new(1)));
        framed.came(PREFACE);
        framed.came(&frame(HEADERS, END_HEADERS, 1, b"x"));
        framed.came(&frame(DATA, 0, 1, &[0; 100])[..50]);
        assert_eq!(framed.progress.head_for(), None);
    }

    #[test]
    fn what_was_sent_ends_streams_and_tells_errors() {
        let mut framed = framed(&Clock::new(AtomicU64::new(3)));
        framed.came(PREFACE);
        for stream in [1, 3, 5] {
            framed.came(&frame(HEADERS, END_HEADERS | END_STREAM, stream, b"x"));
        }
        framed.went(&frame(HEADERS, END_HEADERS, 1, b"x"));
        framed.went(&frame(DATA, 0, 1, b"x"));
        assert_eq!((framed.seen.open(), framed.seen.data()), (3, 3));
        framed.went(&frame(DATA, END_STREAM, 1, b""));
        framed.went(&frame(RST_STREAM, 0, 3, &REFUSED_STREAM.to_be_bytes()));
        assert_eq!((framed.seen.open(), framed.seen.heads()), (1, 2));
        framed.went(&frame(GOAWAY, 0, 0, &[0, 0, 0, 5, 0, 0, 0, 9]));
        assert_eq!(framed.seen.error(), Some(9));
    }

    #[test]
    fn another_preface_is_an_error() {
        let mut framed = framed(&Clock::new(AtomicU64::new(1)));
        framed.came(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n");
        assert_eq!(framed.seen.error(), Some(1));
    }
}
