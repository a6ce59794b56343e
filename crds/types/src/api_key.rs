use crate::Redacted;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const PREFIX: &str = "idm_";
/// 62^43 is the first power of 62 above 2^256.
const BODY: usize = 43;
/// 62^6 is the first power of 62 above 2^32.
const CHECK: usize = 6;

/// An API key in its written form: `idm_`, 256 random bits in base 62, and a CRC-32 of what precedes it.
///
/// The checksum tells a typing error from an unknown key without a look-up, and lets secret scanners
/// avoid false alarms. It is no protection: the 256 random bits are.
#[derive(Clone, Debug)]
pub struct ApiKey(Redacted<String>);

impl ApiKey {
    /// The key with these random bits.
    pub fn from_random(random: [u8; 32]) -> Self {
        let mut text = PREFIX.to_owned();
        base62(&random, BODY, &mut text);
        let check = crc32fast::hash(text.as_bytes());
        base62(&check.to_be_bytes(), CHECK, &mut text);
        Self(Redacted::new(text))
    }

    /// Reads a written key; `None` when its form or checksum is wrong.
    pub fn parse(text: &str) -> Option<Self> {
        Self::is_well_formed(text).then(|| Self(Redacted::new(text.to_owned())))
    }

    /// Whether form and checksum are right.
    pub fn is_well_formed(text: &str) -> bool {
        if text.len() != PREFIX.len() + BODY + CHECK
            || !text.starts_with(PREFIX)
            || !text.bytes().skip(PREFIX.len()).all(|b| b.is_ascii_alphanumeric())
        {
            return false;
        }
        let (body, check) = text.split_at(PREFIX.len() + BODY);
        let mut expected = String::with_capacity(CHECK);
        base62(&crc32fast::hash(body.as_bytes()).to_be_bytes(), CHECK, &mut expected);
        expected == check
    }

    /// The key itself.
    pub fn reveal(&self) -> &str {
        self.0.reveal()
    }

    /// The random bits alone, without prefix and checksum.
    pub fn body(&self) -> &str {
        self.reveal().get(PREFIX.len()..PREFIX.len() + BODY).unwrap_or_default()
    }

    /// The first 8 characters (`idm_` and 24 of the 256 bits), to tell keys apart in status and audit.
    pub fn prefix(&self) -> String {
        self.reveal().chars().take(PREFIX.len() + 4).collect()
    }
}

/// Appends the big-endian number `bytes` in base 62 with exactly `width` digits.
fn base62(bytes: &[u8], width: usize, out: &mut String) {
    let mut number = bytes.to_vec();
    let mut digits = Vec::with_capacity(width);
    for _ in 0..width {
        let mut remainder = 0u32;
        for byte in &mut number {
            let value = remainder << 8 | u32::from(*byte);
            *byte = (value / 62) as u8;
            remainder = value % 62;
        }
        digits.push(ALPHABET.get(remainder as usize).copied().unwrap_or(b'0'));
    }
    out.extend(digits.iter().rev().map(|digit| char::from(*digit)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_and_a_typing_error_does_not() {
        let key = ApiKey::from_random([0xff; 32]);
        assert!(ApiKey::parse(key.reveal()).is_some());
        assert_eq!(key.reveal().len(), 53);
        assert_eq!(key.prefix().len(), 8);
        for position in 4..53 {
            let mut wrong = key.reveal().as_bytes().to_vec();
            wrong[position] = if wrong[position] == b'a' { b'b' } else { b'a' };
            assert!(!ApiKey::is_well_formed(std::str::from_utf8(&wrong).unwrap()), "position {position}");
        }
        assert!(!ApiKey::is_well_formed(""));
        assert!(!ApiKey::is_well_formed(&"é".repeat(30)));
    }

    #[test]
    fn different_bits_make_different_keys() {
        assert_ne!(ApiKey::from_random([0; 32]).reveal(), ApiKey::from_random([1; 32]).reveal());
        assert_eq!(format!("{:?}", ApiKey::from_random([0; 32])), "ApiKey([redacted])");
    }
}
