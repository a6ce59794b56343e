//! HTTP/1.1 messages as text. Only well-formed ones: what a gateway makes of others is a matter of its sockets.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode};

use crate::raw::Reply;

/// A caller's request, whose body is complete.
pub(super) fn request(bytes: &[u8]) -> Request<Bytes> {
    let (line, headers, body) = parts(bytes);
    let fields: Vec<&str> = line.split(' ').collect();
    let [method, target, "HTTP/1.1"] = fields[..] else { panic!("not a request line: {line}") };
    let mut request = Request::new(body);
    *request.method_mut() = method.parse().expect("a method");
    *request.uri_mut() = target.parse().unwrap_or_else(|_| panic!("not a target: {target}"));
    *request.headers_mut() = headers;
    request
}

/// The scripted answer of an upstream.
pub(super) fn answer(text: &str) -> Response<Bytes> {
    let (line, headers, body) = parts(text.as_bytes());
    let status = line.split(' ').nth(1).and_then(|code| code.parse::<StatusCode>().ok());
    let mut response = Response::new(body);
    *response.status_mut() = status.unwrap_or_else(|| panic!("not a status line: {line}"));
    *response.headers_mut() = headers;
    response
}

/// First line, headers and body.
fn parts(bytes: &[u8]) -> (String, HeaderMap, Bytes) {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    let mut lines = bytes[..end - 4].split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = String::from_utf8(lines.next().expect("a line").to_vec()).expect("a first line is text");
    let mut headers = HeaderMap::new();
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':').expect("a header has a name");
        let name = HeaderName::from_bytes(&line[..colon]).expect("a header name");
        headers.append(name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).expect("a header value"));
    }
    assert!(!headers.contains_key(TRANSFER_ENCODING), "codings are a matter of sockets: {first}");
    let body = Bytes::copy_from_slice(&bytes[end..]);
    let length = headers.get(CONTENT_LENGTH).map_or(0, |length| length.to_str().unwrap().parse().expect("a length"));
    assert_eq!(body.len(), length, "the body is as long as announced: {first}");
    (first, headers, body)
}

/// A request as the upstream gets it.
pub(super) fn written(head: &Parts, target: &PathAndQuery, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{} {target} HTTP/1.1\r\n", head.method).into_bytes();
    for (name, value) in &head.headers {
        bytes.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// A response as the caller reads it: as the HTTP library does, it announces the body of an answer without a length.
pub(super) fn reply(method: &Method, mut response: Response<Bytes>) -> Reply {
    if !response.headers().contains_key(CONTENT_LENGTH) {
        let length = response.body().len();
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = response.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    let body = if *method == Method::HEAD { String::new() } else { String::from_utf8_lossy(response.body()).into() };
    Reply { status: response.status().as_u16(), headers, body }
}
