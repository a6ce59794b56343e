//! Percent escapes (RFC 3986 §2.1), as headers and queries use them.

/// The bytes that a text encodes; `None` when an escape is invalid. A `+` is decoded as itself.
pub fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut source = text.bytes();
    while let Some(byte) = source.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                (digit(source.next())? << 4 | digit(source.next())?) as u8
            }
            plain => plain,
        });
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_read_once_and_whole() {
        assert_eq!(percent_decoded("a%2fb%C3%A9+"), Some("a/bé+".as_bytes().to_vec()));
        assert_eq!(percent_decoded("%252f"), Some(b"%2f".to_vec()));
        for broken in ["%", "%2", "%zz", "%+1"] {
            assert_eq!(percent_decoded(broken), None, "{broken}");
        }
    }
}
