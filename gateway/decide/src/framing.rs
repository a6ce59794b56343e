//! The framing of a request's body: checked strictly, because the bytes that follow cannot be trusted otherwise.

use http::request::Parts;
use http::{HeaderMap, header};
use http_body::Body;
use idm_types::{Reason, Refusal};

use crate::websocket::wants_websocket;

/// Refuses a head whose framing is ambiguous, or that announces a body which could not be forwarded as announced. After
/// this check, a `Transfer-Encoding` is exactly `chunked`, and a WebSocket handshake has no body.
///
/// The HTTP library accepts any list of codings that ends in `chunked` and drops the others, so an upstream would get
/// content that is still encoded without knowing it (RFC 9112 §6.1 asks for a refusal of unknown codings).
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
    // An upstream that does not upgrade would read the announced body from the next bytes on the connection.
    if wants_websocket(parts) && announces_body(&parts.headers, body) {
        return Err(Refusal::new(Reason::MalformedRequest, "a WebSocket handshake must not have a body"));
    }
    Ok(())
}

fn announces_body(headers: &HeaderMap, body: &impl Body) -> bool {
    let length = headers.get(header::CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0");
    length || headers.contains_key(header::TRANSFER_ENCODING) || !body.is_end_stream()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderValue;
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
}
