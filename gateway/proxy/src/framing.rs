//! How a request's body is announced: read strictly from callers, written by the gateway alone.

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, header};
use http_body::Body;
use idm_types::{Reason, Refusal};

use crate::upgrade::wants_websocket;

/// Refuses a head whose framing has two readings or that announces a body which could not be passed on as such.
/// After it, a `Transfer-Encoding` is exactly `chunked`, and a WebSocket handshake has no body.
///
/// The HTTP library takes any list of codings that ends in `chunked` and forgets the others, so an upstream would get
/// a content that is still encoded without being told (RFC 9112 §6.1 asks for a refusal of unknown codings).
pub(crate) fn check(parts: &Parts, body: &impl Body) -> Result<(), Refusal> {
    let mut codings = parts.headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => {}
        (Some(coding), None) if coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") => {}
        _ => {
            return Err(Refusal::new(
                Reason::MalformedRequest,
                "the only transfer coding that is taken is `chunked`, once",
            ));
        }
    }
    // An upstream that does not upgrade would read the announced body from what follows on the connection.
    if wants_websocket(parts) && announces_body(&parts.headers, body) {
        return Err(Refusal::new(Reason::MalformedRequest, "a WebSocket handshake must not have a body"));
    }
    Ok(())
}

fn announces_body(headers: &HeaderMap, body: &impl Body) -> bool {
    let length = headers.get(header::CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0");
    length || headers.contains_key(header::TRANSFER_ENCODING) || !body.is_end_stream()
}

/// The announcement of one request's body (RFC 9112 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is no body.
    Absent,
    /// Its length in bytes is known.
    Length(u64),
    /// Its length is not known: it is sent in chunks.
    Chunked,
}

impl Framing {
    /// The framing of a body, taken from the body and from nothing else.
    pub(crate) fn of(body: &impl Body) -> Self {
        match body.size_hint().exact() {
            _ if body.is_end_stream() => Framing::Absent,
            Some(length) => Framing::Length(length),
            None => Framing::Chunked,
        }
    }

    /// Writes the announcement for an HTTP/1.1 upstream over whatever the caller announced.
    pub(crate) fn announce(self, method: &Method, headers: &mut HeaderMap) {
        self.announce_http2(method, headers);
        if self == Framing::Chunked {
            // The library would send a GET of unknown length without its body unless it is told.
            headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }

    /// The same for HTTP/2, which has frames instead of chunks.
    pub(crate) fn announce_http2(self, method: &Method, headers: &mut HeaderMap) {
        headers.remove(header::TRANSFER_ENCODING);
        match self {
            Framing::Length(length) => drop(headers.insert(header::CONTENT_LENGTH, length.into())),
            // RFC 9110 §8.6: a method that expects a body says that there is none.
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

    use super::*;

    fn head(headers: &[(&'static str, &'static str)]) -> Parts {
        let mut request = http::Request::new(());
        for (name, value) in headers {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        request.into_parts().0
    }

    #[test]
    fn a_transfer_coding_is_chunked_or_refused() {
        let body = Full::new(Bytes::from_static(b"x"));
        for codings in [&["chunked"][..], &["Chunked"], &[" chunked "]] {
            let headers: Vec<_> = codings.iter().map(|coding| ("transfer-encoding", *coding)).collect();
            assert_eq!(check(&head(&headers), &body), Ok(()), "{codings:?}");
        }
        for codings in [&["gzip, chunked"][..], &["chunked, chunked"], &["gzip", "chunked"], &["identity"], &[""]] {
            let headers: Vec<_> = codings.iter().map(|coding| ("transfer-encoding", *coding)).collect();
            assert!(check(&head(&headers), &body).is_err(), "{codings:?}");
        }
    }

    #[test]
    fn a_websocket_handshake_has_no_body() {
        let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];
        let none = Empty::<Bytes>::new();
        assert_eq!(check(&head(&upgrade), &none), Ok(()));
        assert_eq!(check(&head(&[&upgrade[..], &[("content-length", "0")]].concat()), &none), Ok(()));
        for announced in [("content-length", "5"), ("transfer-encoding", "chunked")] {
            assert!(check(&head(&[&upgrade[..], &[announced]].concat()), &none).is_err(), "{announced:?}");
        }
        assert!(check(&head(&upgrade), &Full::new(Bytes::from_static(b"x"))).is_err());
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
