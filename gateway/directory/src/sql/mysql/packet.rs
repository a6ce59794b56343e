//! Packets: a length of three octets, a number, and the payload.

use bytes::{Buf, BytesMut};

use super::super::failure::Failure;
use super::super::wire::{Fields, Wire};

/// The payload of one packet.
pub(super) struct Packet(BytesMut);

/// A connection as packets.
pub(super) struct Packets {
    pub(super) wire: Wire,
    /// The number of the next packet, whoever sends it.
    next: u8,
}

impl Packets {
    pub(super) fn new(wire: Wire, next: u8) -> Self {
        Self { wire, next }
    }

    /// Reads a packet. None is longer than the wire takes, so none is split.
    pub(super) async fn next(&mut self) -> Result<Packet, Failure> {
        let mut head = Fields(self.wire.peek(4).await?);
        let length = head.array::<3>().map(|[a, b, c]| u32::from_le_bytes([a, b, c, 0])).unwrap_or_default();
        if head.u8() != Some(self.next) {
            return Err(Failure::broken("the number of a packet"));
        }
        self.next = self.next.wrapping_add(1);
        let mut payload = self.wire.take(usize::try_from(length).unwrap_or(usize::MAX).saturating_add(4)).await?;
        payload.advance(4);
        Ok(Packet(payload))
    }

    /// Sends a packet.
    pub(super) async fn send(&mut self, payload: &[u8]) -> Result<(), Failure> {
        let packet = numbered(payload, self.next)?;
        self.next = self.next.wrapping_add(1);
        self.wire.send(&packet).await
    }

    /// Sends the first packet of a command.
    pub(super) async fn command(&mut self, payload: &[u8]) -> Result<(), Failure> {
        self.next = 0;
        self.send(payload).await
    }
}

/// A packet with this number as octets.
pub(super) fn numbered(payload: &[u8], number: u8) -> Result<Vec<u8>, Failure> {
    let too_long = || Failure::unusable("a statement is too long");
    let length = u32::try_from(payload.len()).ok().filter(|length| *length < 0xff_ffff).ok_or_else(too_long)?;
    let [a, b, c, _] = length.to_le_bytes();
    Ok([&[a, b, c, number], payload].concat())
}

impl Packet {
    pub(super) fn of(payload: &[u8]) -> Self {
        Self(payload.into())
    }

    pub(super) fn fields(&self) -> Fields<'_> {
        Fields(&self.0)
    }

    pub(super) fn head(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The end of a list.
    pub(super) fn is_eof(&self) -> bool {
        self.head() == Some(0xfe) && self.0.len() < 9
    }

    /// The number at the beginning of the packet.
    pub(super) fn count(&self) -> Option<u64> {
        length(&mut self.fields())
    }

    /// The rows that a command changed.
    pub(super) fn changed(&self) -> Option<u64> {
        let mut fields = self.fields();
        fields.u8()?;
        length(&mut fields)
    }

    /// Number and message of an error.
    pub(super) fn error(&self) -> Option<(u16, String)> {
        let mut fields = self.fields();
        fields.u8()?;
        let code = u16::from_le_bytes(fields.array()?);
        // Before the login is complete there may be no SQLSTATE.
        if fields.0.first() == Some(&b'#') {
            fields.take(6)?;
        }
        Some((code, String::from_utf8_lossy(fields.0).into_owned()))
    }
}

/// A length-encoded number.
pub(super) fn length(fields: &mut Fields<'_>) -> Option<u64> {
    match fields.u8()? {
        short @ ..=0xfa => Some(short.into()),
        0xfc => fields.array().map(|octets| u16::from_le_bytes(octets).into()),
        0xfd => fields.array().map(|[a, b, c]| u32::from_le_bytes([a, b, c, 0]).into()),
        0xfe => fields.array().map(u64::from_le_bytes),
        _ => None,
    }
}

/// A text behind its length.
pub(super) fn text<'a>(fields: &mut Fields<'a>) -> Option<&'a [u8]> {
    let length = length(fields)?;
    fields.take(usize::try_from(length).ok()?)
}

/// Writes a text behind its length.
pub(super) fn put_text(text: &[u8], out: &mut Vec<u8>) {
    let length = text.len();
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ ..=0xfa), _) => out.push(short),
        (_, Ok(length)) => {
            out.push(0xfc);
            out.extend(length.to_le_bytes());
        }
        _ => {
            out.push(0xfe);
            out.extend(u64::try_from(length).unwrap_or(u64::MAX).to_le_bytes());
        }
    }
    out.extend(text);
}
