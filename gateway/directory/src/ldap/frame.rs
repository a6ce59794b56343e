//! The frames of messages: where each one ends, and whether its octets nest as BER does (RFC 4511 §5.1). Everything
//! here is checked before memory is taken for what a message says of itself.

/// The longest message that is read.
const MAX_MESSAGE: usize = 4 << 20;
/// The deepest nesting of elements. An entry has six levels.
pub(super) const MAX_DEPTH: usize = 64;
/// The most elements of one message: each takes memory, however short it is.
const MAX_ELEMENTS: usize = 100_000;

/// The octets that an element takes in memory, besides its own: an empty one is two octets on the wire.
pub(super) const OF_ELEMENT: usize = 32;

/// Octets that are no message, and why. Never shows an octet of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken(pub(super) &'static str);

/// Tag and length of an element.
struct Header {
    tag: u8,
    /// The octets of both.
    octets: usize,
    /// The octets behind them that belong to the element.
    content: usize,
}

/// The length of the first message with its header; `None`: more octets are needed to know it.
pub(super) fn length(octets: &[u8]) -> Result<Option<usize>, Broken> {
    if octets.first().is_some_and(|tag| *tag != 0x30) {
        return Err(Broken("it does not speak LDAP"));
    }
    match header(octets)? {
        None => Ok(None),
        Some(Header { octets, content, .. }) if octets + content <= MAX_MESSAGE => Ok(Some(octets + content)),
        Some(_) => Err(Broken("a message is longer than 4 MiB")),
    }
}

/// Checks that one message is whole: every element ends where the one around it has room, and there are not too many.
/// Returns their number.
pub(super) fn check(message: &[u8]) -> Result<usize, Broken> {
    let truncated = Broken("an element is longer than what is around it");
    // The octets that are left in each open element.
    let mut open: Vec<usize> = vec![message.len()];
    let mut rest = message;
    let mut elements = 0;
    while !rest.is_empty() {
        while open.last() == Some(&0) {
            open.pop();
        }
        let Header { tag, octets, content } = header(rest)?.ok_or(truncated)?;
        let left = open.last_mut().ok_or(truncated)?;
        *left = left.checked_sub(octets + content).ok_or(truncated)?;
        elements += 1;
        if elements > MAX_ELEMENTS {
            return Err(Broken("a message has more than 100,000 elements"));
        }
        let constructed = tag & 0x20 != 0;
        if constructed {
            open.push(content);
            if open.len() > MAX_DEPTH {
                return Err(Broken("a message is nested more than 64 deep"));
            }
        }
        rest = rest.get(octets + if constructed { 0 } else { content }..).ok_or(truncated)?;
    }
    if open.iter().all(|left| *left == 0) { Ok(elements) } else { Err(truncated) }
}

/// The header at the beginning of `octets`; `None`: it is not there yet as a whole.
fn header(octets: &[u8]) -> Result<Option<Header>, Broken> {
    let [tag, first, rest @ ..] = octets else { return Ok(None) };
    if tag & 0x1f == 0x1f {
        return Err(Broken("a tag has a form that LDAP does not use"));
    }
    let count = usize::from(first & 0x7f);
    if first & 0x80 == 0 {
        return Ok(Some(Header { tag: *tag, octets: 2, content: count }));
    }
    // RFC 4511 §5.1 forbids the indefinite form, which is 0 octets.
    if !(1..=8).contains(&count) {
        return Err(Broken("a length has a form that LDAP does not use"));
    }
    let Some(length) = rest.get(..count) else { return Ok(None) };
    let content = length.iter().try_fold(0_usize, |sum, octet| {
        let sum = (sum << 8) | usize::from(*octet);
        (sum <= MAX_MESSAGE).then_some(sum)
    });
    match content {
        Some(content) => Ok(Some(Header { tag: *tag, octets: 2 + count, content })),
        None => Err(Broken("a message is longer than 4 MiB")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_known_as_soon_as_its_octets_are_there() {
        assert_eq!(length(b""), Ok(None));
        assert_eq!(length(b"\x30"), Ok(None));
        assert_eq!(length(b"\x30\x05"), Ok(Some(7)));
        assert_eq!(length(b"\x30\x84\0\0\x01"), Ok(None));
        // Active Directory writes every length in four octets.
        assert_eq!(length(b"\x30\x84\0\0\x01\x02rest"), Ok(Some(6 + 0x102)));
        assert_eq!(length(b"\x30\x83\x3f\xff\xfb"), Ok(Some(4 << 20)));
    }

    #[test]
    fn r15_lengths_and_tags_that_no_message_has_are_refused_before_they_take_memory() {
        for octets in [
            &b"\x30\x84\xff\xff\xff\xff"[..],
            b"\x30\x88\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x30\x83\x3f\xff\xfc",
            b"\x30\x80",
            b"\x30\xff",
            b"\x30\x89\0\0\0\0\0\0\0\0\0",
            b"HTTP/1.1 400",
            b"\x16\x03\x01",
        ] {
            assert!(length(octets).is_err(), "{octets:?}");
        }
    }

    #[test]
    fn r15_a_message_that_does_not_nest_is_refused() {
        assert_eq!(check(b"\x30\x05\x02\x01\x01\x42\x00"), Ok(3));
        for message in [
            &b"\x30\x05\x02\x01\x01\x42\x01"[..], // The last element is cut.
            b"\x30\x05\x02\x01\x01\x42",
            b"\x30\x05\x02\x04\x01\x42\x00", // An element reaches beyond the one around it.
            b"\x30\x03\x02\x01\x01\x42\x00\x00", // Octets are left over, which are no element.
            b"\x30\x06\x02\x01\x01\x1f\x81\x00", // A tag in the long form.
        ] {
            assert!(check(message).is_err(), "{message:?}");
        }
        let deep = |depth: usize| -> Vec<u8> {
            (0..depth).fold(Vec::new(), |inner, _| {
                let length = (inner.len() as u32).to_be_bytes();
                [&[0x30, 0x84][..], &length, &inner].concat()
            })
        };
        assert_eq!(check(&deep(60)), Ok(60));
        assert_eq!(check(&deep(10_000)), Err(Broken("a message is nested more than 64 deep")));
        let wide = [&[0x30, 0x83, 0x04, 0x93, 0xe0][..], &[0x04, 0x00].repeat(150_000)].concat();
        assert_eq!(check(&wide), Err(Broken("a message has more than 100,000 elements")));
    }
}
