//! Parts that several formats share: base64 without padding, and numbers without signs.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const BCRYPT: GeneralPurpose = GeneralPurpose::new(&alphabet::BCRYPT, LENIENT);

/// Decodes base64, with or without padding; passlib writes `.` for `+`.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text.replace('.', "+")).ok()
}

/// Decodes base64 of bcrypt's alphabet.
pub(super) fn base64_of_bcrypt(text: &str) -> Option<Vec<u8>> {
    BCRYPT.decode(text).ok()
}

/// Decodes hexadecimal digits.
pub(super) fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    digits.chunks_exact(2).map(|pair| Some(pair.first()? << 4 | pair.last()?)).collect()
}

/// A decimal number without sign or leading zeros.
pub(super) fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// The parameter of a name in `a=1,b=2`.
pub(super) fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    parameters.split(',').filter_map(|one| one.split_once('=')).find_map(|(key, value)| (key == name).then_some(value))
}

/// Writes octets in the base64 of crypt(3): six bits at a time from the lowest.
pub(super) fn base64_of_crypt(octets: impl IntoIterator<Item = u8>) -> String {
    const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let (mut out, mut bits, mut held) = (String::new(), 0u32, 0u32);
    let digit = |value: u32| ALPHABET.get((value & 63) as usize).copied().map_or('.', char::from);
    for octet in octets {
        held |= u32::from(octet) << bits;
        bits += 8;
        while bits >= 6 {
            out.push(digit(held));
            held >>= 6;
            bits -= 6;
        }
    }
    if bits > 0 {
        out.push(digit(held));
    }
    out
}

/// The value of a digit of crypt(3)'s base64.
pub(super) fn digit_of_crypt(digit: u8) -> Option<u32> {
    let value = match digit {
        b'.' => 0,
        b'/' => 1,
        b'0'..=b'9' => digit - b'0' + 2,
        b'A'..=b'Z' => digit - b'A' + 12,
        b'a'..=b'z' => digit - b'a' + 38,
        _ => return None,
    };
    Some(value.into())
}
