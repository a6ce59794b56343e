//! Bindings of messages (SAML Bindings §3.4, §3.5).

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

use crate::SamlError;
use crate::key::{Algorithm, OwnKey, VerifyingKey, from_base64, to_base64};
use crate::xml::MAX_BYTES;

/// The kind of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// A request.
    Request,
    /// An answer.
    Response,
}

impl Carried {
    /// The name of its parameter.
    pub const fn parameter(self) -> &'static str {
        match self {
            Carried::Request => "SAMLRequest",
            Carried::Response => "SAMLResponse",
        }
    }
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// The address that carries a message in its query, signed where there is a key.
pub fn redirect_url(
    endpoint: &str,
    carried: Carried,
    message: &str,
    relay_state: Option<&str>,
    key: Option<&OwnKey>,
) -> Result<String, SamlError> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    let deflated = encoder
        .write_all(message.as_bytes())
        .and_then(|()| encoder.finish())
        .map_err(|_| SamlError::Malformed("it cannot be compressed"))?;
    let mut query = format!("{}={}", carried.parameter(), encoded(&to_base64(&deflated)));
    if let Some(state) = relay_state {
        query.push_str(&format!("&RelayState={}", encoded(state)));
    }
    if let Some(key) = key {
        query.push_str(&format!("&SigAlg={}", encoded(key.algorithm().uri())));
        let signature = to_base64(&key.sign(query.as_bytes())?);
        query.push_str(&format!("&Signature={}", encoded(&signature)));
    }
    let joint = if endpoint.contains('?') { '&' } else { '?' };
    Ok(format!("{endpoint}{joint}{query}"))
}

/// The value of a form field that carries a message.
pub fn post_form_value(message: &str) -> String {
    to_base64(message.as_bytes())
}

/// The text of a document. UTF-8 and nothing else: with several encodings there are several readings.
pub fn document_text(bytes: Vec<u8>) -> Result<String, SamlError> {
    let utf16 = matches!(bytes.get(..2), Some([0xff, 0xfe] | [0xfe, 0xff] | [0, b'<'] | [b'<', 0]));
    if utf16 {
        return Err(SamlError::Malformed("it is written in UTF-16: let the provider send UTF-8"));
    }
    String::from_utf8(bytes).map_err(|_| SamlError::Malformed("it is not UTF-8"))
}

/// The text of a posted message.
pub(crate) fn posted(value: &str) -> Result<String, SamlError> {
    if value.len() > MAX_BYTES * 2 {
        return Err(SamlError::TooLarge);
    }
    document_text(from_base64(value)?)
}

/// The text of a compressed message; what grows beyond all measure is cut off while it grows.
pub(crate) fn inflated(bytes: &[u8]) -> Result<String, SamlError> {
    let mut text = Vec::new();
    DeflateDecoder::new(bytes)
        .take(MAX_BYTES as u64 + 1)
        .read_to_end(&mut text)
        .map_err(|_| SamlError::Malformed("it is not compressed as it should be"))?;
    if text.len() > MAX_BYTES {
        return Err(SamlError::TooLarge);
    }
    document_text(text)
}

/// A message that came in a query.
#[derive(Debug)]
pub struct RedirectMessage<'q> {
    query: &'q str,
    carried: Carried,
}

impl<'q> RedirectMessage<'q> {
    /// The message in a raw query, if there is one.
    pub fn of(query: &'q str) -> Option<Self> {
        let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
        let carried = [Carried::Request, Carried::Response].into_iter().find(|carried| has(carried.parameter()))?;
        Some(Self { query, carried })
    }

    /// Its kind.
    pub fn carried(&self) -> Carried {
        self.carried
    }

    /// The raw value of a parameter that is there once.
    fn raw(&self, name: &str) -> Result<Option<&'q str>, SamlError> {
        let mut found = self
            .query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .filter(|(n, _)| *n == name)
            .map(|(_, value)| value);
        match (found.next(), found.next()) {
            (found, None) => Ok(found),
            _ => Err(SamlError::Malformed("a parameter is there twice")),
        }
    }

    fn value(&self, name: &'static str) -> Result<String, SamlError> {
        let raw = self.raw(name)?.ok_or(SamlError::Missing(name))?;
        Ok(form_urlencoded::parse(format!("v={raw}").as_bytes())
            .next()
            .map(|(_, value)| value.into_owned())
            .unwrap_or_default())
    }

    /// Its text, if one of the keys signed the query. The signature covers the parameters as they were written.
    pub fn verified(&self, keys: &[VerifyingKey]) -> Result<String, SamlError> {
        let name = self.carried.parameter();
        let algorithm = Algorithm::from_uri(&self.value("SigAlg").map_err(|_| SamlError::NotSigned)?)?;
        let signature = from_base64(&self.value("Signature").map_err(|_| SamlError::NotSigned)?)?;
        let mut covered = format!("{name}={}", self.raw(name)?.unwrap_or_default());
        for name in ["RelayState", "SigAlg"] {
            if let Some(raw) = self.raw(name)? {
                covered.push_str(&format!("&{name}={raw}"));
            }
        }
        if !keys.iter().any(|key| key.verifies(algorithm, covered.as_bytes(), &signature)) {
            return Err(SamlError::UnknownSigner);
        }
        inflated(&from_base64(&self.value(name)?)?)
    }

    /// `RelayState`.
    pub fn relay_state(&self) -> Option<String> {
        self.value("RelayState").ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_carried_in_a_query_reads_back_and_does_not_grow_for_ever() {
        let url = redirect_url("https://idp/sso?x=1", Carried::Request, "<a>é&amp;</a>", Some("/orders?x=1&y"), None)
            .unwrap();
        assert!(
            url.starts_with("https://idp/sso?x=1&SAMLRequest=") && url.ends_with("&RelayState=%2Forders%3Fx%3D1%26y"),
            "{url}"
        );
        let message = RedirectMessage::of(url.split_once('?').unwrap().1).unwrap();
        assert_eq!(inflated(&from_base64(&message.value("SAMLRequest").unwrap()).unwrap()).unwrap(), "<a>é&amp;</a>");
        assert_eq!(message.verified(&[]), Err(SamlError::NotSigned));
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&vec![b'a'; 50 << 20]).unwrap();
        assert_eq!(inflated(&encoder.finish().unwrap()), Err(SamlError::TooLarge));
        assert!(RedirectMessage::of("SAMLResponse=a&SAMLResponse=b").unwrap().verified(&[]).is_err());
    }
}
