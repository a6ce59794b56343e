//! The framing of a request's body towards the upstream: the gateway alone announces it, whatever the caller announced.

use http::{HeaderMap, HeaderValue, Method, header};
use http_body::Body;

/// The announcement of one request's body (RFC 9112 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    Absent,
    /// Its length in bytes is known.
    Length(u64),
    /// Its length is not known: it is sent in chunks.
    Chunked,
}

impl Framing {
    /// The framing of a body, taken from the body and from nothing else.
    pub fn of(body: &impl Body) -> Self {
        match body.size_hint().exact() {
            _ if body.is_end_stream() => Framing::Absent,
            Some(length) => Framing::Length(length),
            None => Framing::Chunked,
        }
    }

    /// Writes the announcement for an HTTP/1.1 upstream over whatever the caller announced.
    pub fn announce(self, method: &Method, headers: &mut HeaderMap) {
        self.announce_http2(method, headers);
        if self == Framing::Chunked {
            // The library would send a GET of unknown length without its body unless the framing is explicit.
            headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }

    /// The same for HTTP/2, which has frames instead of chunks.
    pub fn announce_http2(self, method: &Method, headers: &mut HeaderMap) {
        headers.remove(header::TRANSFER_ENCODING);
        match self {
            Framing::Length(length) => drop(headers.insert(header::CONTENT_LENGTH, length.into())),
            // RFC 9110 §8.6: for a method that expects a body, an absent body is announced as length 0.
            Framing::Absent if [Method::POST, Method::PUT, Method::PATCH].contains(method) => {
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
            }
            Framing::Absent | Framing::Chunked => drop(headers.remove(header::CONTENT_LENGTH)),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{Empty, Full};

    use http::request::Parts;

    use super::*;

    fn head(headers: &[(&'static str, &'static str)]) -> Parts {
        let mut request = http::Request::new(());
        for (name, value) in headers {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        request.into_parts().0
    }

    #[test]
    fn what_is_announced_is_what_the_body_is() {
        let announced = |method: Method, body: Framing| {
            let mut headers = head(&[("content-length", "9"), ("transfer-encoding", "chunked")]).headers;
            body.announce(&method, &mut headers);
            let text = |name| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            (text("content-length"), text("transfer-encoding"))
        };
        assert_eq!(announced(Method::GET, Framing::of(&Empty::<Bytes>::new())), (None, None));
        assert_eq!(announced(Method::POST, Framing::Absent), (Some("0".into()), None));
        assert_eq!(
            announced(Method::GET, Framing::of(&Full::new(Bytes::from_static(b"ab")))),
            (Some("2".into()), None)
        );
        assert_eq!(announced(Method::GET, Framing::Chunked), (None, Some("chunked".into())));
    }
}
