//! The frames of a WebSocket (RFC 6455 §5.2) in bytes that arrive in pieces of any size. Nothing of them is kept.

/// The frames in one direction of a connection.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    header: [u8; 14],
    /// The bytes of the header that have arrived.
    have: usize,
    /// The bytes of the payload that have not arrived.
    left: u64,
    /// The bytes of the payload that have passed: the position in the mask.
    passed: u64,
    /// A text message has begun and not ended.
    in_text: bool,
}

/// A part of the stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part<'b> {
    /// Bytes of a header, or of the payload of a frame that is not one of a text message.
    Other(usize),
    /// Bytes of a text message; whether they are masked.
    Text(&'b [u8], Option<Mask>),
    /// The last frame of a text message ends here.
    TextEnds,
}

/// The key that the payload of a frame is masked with, and the position of the first byte in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mask {
    key: [u8; 4],
    at: u64,
}

impl Mask {
    /// The byte at this position of the part, unmasked.
    pub(crate) fn unmasked(&self, position: usize, byte: u8) -> u8 {
        let at = self.at.wrapping_add(position as u64) % 4;
        byte ^ self.key.get(at as usize).copied().unwrap_or_default()
    }
}

/// A frame with an extension that was not agreed on: what it says is not known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

const FIN: u8 = 0x80;
const EXTENSIONS: u8 = 0x70;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;

impl Frames {
    /// The first part of these bytes, which are not empty. [`Part::TextEnds`] takes none of them, and is told after the
    /// last byte of its message, before anything else.
    pub(crate) fn next<'b>(&mut self, bytes: &'b [u8]) -> Result<Part<'b>, Unreadable> {
        if self.have > 0 && self.have == self.header_length() {
            if self.left > 0 {
                return Ok(self.payload(bytes));
            }
            let ends_text = self.is_data() && self.has(FIN) && self.in_text;
            self.have = 0;
            if ends_text {
                self.in_text = false;
                return Ok(Part::TextEnds);
            }
        }
        self.read_header(bytes)
    }

    /// Whether the bytes so far end with a complete frame, of which [`Part::TextEnds`] may still have to be told.
    pub(crate) fn ends_frame(&self) -> bool {
        self.have == 0 || self.have == self.header_length() && self.left == 0
    }

    /// Whether [`Part::TextEnds`] comes next, with whatever bytes.
    pub(crate) fn ends_text(&self) -> bool {
        self.have > 0 && self.ends_frame() && self.is_data() && self.has(FIN) && self.in_text
    }

    fn byte(&self, position: usize) -> u8 {
        self.header.get(position).copied().unwrap_or_default()
    }

    fn has(&self, bits: u8) -> bool {
        self.byte(0) & bits != 0
    }

    fn opcode(&self) -> u8 {
        self.byte(0) & 0xf
    }

    fn is_data(&self) -> bool {
        matches!(self.opcode(), CONTINUATION | TEXT | BINARY)
    }

    fn is_masked(&self) -> bool {
        self.byte(1) & 0x80 != 0
    }

    /// The bytes of the header, as far as it is known.
    fn header_length(&self) -> usize {
        if self.have < 2 {
            return 2;
        }
        let length = match self.byte(1) & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + if self.is_masked() { 4 } else { 0 }
    }

    fn read_header<'b>(&mut self, bytes: &[u8]) -> Result<Part<'b>, Unreadable> {
        let mut taken = 0;
        for &byte in bytes {
            if let Some(place) = self.header.get_mut(self.have) {
                *place = byte;
            }
            (self.have, taken) = (self.have + 1, taken + 1);
            if self.have == self.header_length() {
                self.begin()?;
                break;
            }
        }
        Ok(Part::Other(taken))
    }

    /// The header is complete.
    fn begin(&mut self) -> Result<(), Unreadable> {
        if self.has(EXTENSIONS) {
            return Err(Unreadable);
        }
        let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        self.left = match self.byte(1) & 0x7f {
            126 => number(self.header.get(2..4).unwrap_or_default()),
            127 => number(self.header.get(2..10).unwrap_or_default()),
            short => u64::from(short),
        };
        self.passed = 0;
        match self.opcode() {
            TEXT => self.in_text = true,
            BINARY => self.in_text = false,
            _ => {}
        }
        Ok(())
    }

    fn payload<'b>(&mut self, bytes: &'b [u8]) -> Part<'b> {
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        let part = bytes.get(..length).unwrap_or_default();
        let at = self.passed;
        self.passed = self.passed.wrapping_add(length as u64);
        self.left -= length as u64;
        if !self.is_data() || !self.in_text {
            return Part::Other(length);
        }
        let mask = self.is_masked().then(|| {
            let begin = self.header_length() - 4;
            let key = self.header.get(begin..begin + 4).and_then(|key| key.try_into().ok()).unwrap_or_default();
            Mask { key, at }
        });
        Part::Text(part, mask)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A frame with this first byte, masked where a key is given.
    pub(crate) fn frame(first: u8, payload: &[u8], key: Option<[u8; 4]>) -> Vec<u8> {
        let mask = if key.is_some() { 0x80 } else { 0 };
        let mut bytes = vec![first];
        match payload.len() {
            length @ 0..126 => bytes.push(mask | length as u8),
            length @ 126..65_536 => {
                bytes.push(mask | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            length => {
                bytes.push(mask | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend(key.unwrap_or_default().iter().take(if key.is_some() { 4 } else { 0 }));
        let key = key.unwrap_or_default();
        bytes.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]));
        bytes
    }

    /// The text messages in a stream that comes in pieces of this size.
    fn messages(stream: &[u8], size: usize) -> Result<Vec<Vec<u8>>, Unreadable> {
        let (mut frames, mut all, mut current, mut passed) = (Frames::default(), Vec::new(), Vec::new(), 0);
        for mut piece in stream.chunks(size) {
            while !piece.is_empty() || frames.ends_text() {
                match frames.next(piece)? {
                    Part::Other(length) => {
                        passed += length;
                        piece = &piece[length..];
                    }
                    Part::Text(part, mask) => {
                        let plain = part.iter().enumerate().map(|(i, b)| mask.map_or(*b, |mask| mask.unmasked(i, *b)));
                        current.extend(plain);
                        passed += part.len();
                        piece = &piece[part.len()..];
                    }
                    Part::TextEnds => all.push(std::mem::take(&mut current)),
                }
            }
        }
        assert_eq!(passed, stream.len(), "each byte passes once");
        Ok(all)
    }

    #[test]
    fn messages_are_found_in_any_pieces_and_between_other_frames() {
        let (long, longer) = (vec![b'x'; 300], vec![b'y'; 70_000]);
        let stream = [
            frame(0x81, b"one", None),
            frame(0x89, b"ping", None),
            frame(0x01, b"be", None),
            frame(0x8a, b"", None),
            frame(0x00, b"", None),
            frame(0x80, b"gun", Some([1, 2, 3, 250])),
            frame(0x82, b"binary", None),
            frame(0x02, b"bin", None),
            frame(0x80, b"ary", None),
            frame(0x81, b"", None),
            frame(0x81, &long, Some([9, 8, 7, 6])),
            frame(0x81, &longer, None),
            frame(0x88, b"\x03\xe8", None),
        ]
        .concat();
        let expected: Vec<Vec<u8>> = vec![b"one".to_vec(), b"begun".to_vec(), Vec::new(), long.clone(), longer.clone()];
        for size in [1, 2, 3, 7, 126, 4096, stream.len()] {
            assert_eq!(messages(&stream, size).as_ref(), Ok(&expected), "pieces of {size}");
        }
    }

    #[test]
    fn a_frame_with_an_extension_is_not_readable() {
        assert_eq!(messages(&frame(0xc1, b"compressed", None), 3), Err(Unreadable));
    }

    proptest::proptest! {
        /// No bytes are a panic, and each passes once.
        #[test]
        fn any_bytes_pass(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), size in 1_usize..20) {
            let _ = messages(&bytes, size);
        }
    }
}
