//! The answer to a permitted request whose route redirects.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use idm_plan::{Redirect, Scheme};
use idm_types::{Reason, Refusal};

use crate::Peer;

/// Answers with the redirect. `host`, `path` and `query` are canonical and have no credential in them: the place may be
/// one of others.
pub(crate) fn answer(
    redirect: &Redirect,
    peer: &Peer,
    host: &str,
    path: &str,
    query: Option<&str>,
) -> Result<Response<Bytes>, Refusal> {
    let place = location(redirect, peer.https, peer.secured.is_some(), host, path, query);
    let place = HeaderValue::from_str(&place);
    let place = place.map_err(|_| Refusal::new(Reason::InternalError, "the place of a redirect cannot travel"))?;
    let status = StatusCode::from_u16(redirect.status);
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status.map_err(|_| Refusal::new(Reason::InternalError, "no status of a redirect"))?;
    response.headers_mut().insert(header::LOCATION, place);
    // The policy decides about each request: no cache may answer in its place.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// `https`: the caller speaks TLS, to the gateway or to a proxy before it; `secured`: to the gateway.
fn location(redirect: &Redirect, https: bool, secured: bool, host: &str, path: &str, query: Option<&str>) -> String {
    let scheme = redirect.scheme.unwrap_or(if https { Scheme::Https } else { Scheme::Http });
    // The listener's port is not the one that callers of a proxy know where the proxy ends their TLS.
    let of_listener = redirect.scheme.is_none() && https == secured;
    let port =
        redirect.port.or(of_listener.then_some(redirect.listener_port)).filter(|port| *port != scheme.default_port());
    let host = redirect.host.as_deref().unwrap_or(host);
    let mut place = format!("{}://{host}", scheme.name());
    if let Some(port) = port {
        place.push_str(&format!(":{port}"));
    }
    match &redirect.path {
        None => place.push_str(path),
        Some(change) => place.push_str(&change.of(path)),
    }
    if let Some(query) = query {
        place.push('?');
        place.push_str(query);
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAME: Redirect =
        Redirect { status: 302, scheme: None, host: None, port: None, listener_port: 80, path: None };

    #[test]
    fn ports_are_left_out_where_the_scheme_has_them_by_default() {
        let https = Some(Scheme::Https);
        for (redirect, tls, secured, place) in [
            (SAME, false, false, "http://a/x?q=1"),
            (Redirect { host: Some("b.example".into()), ..SAME }, false, false, "http://b.example/x?q=1"),
            (Redirect { listener_port: 8080, ..SAME }, false, false, "http://a:8080/x?q=1"),
            (Redirect { listener_port: 443, ..SAME }, true, true, "https://a/x?q=1"),
            (Redirect { listener_port: 8443, ..SAME }, true, true, "https://a:8443/x?q=1"),
            (Redirect { listener_port: 8080, ..SAME }, true, false, "https://a/x?q=1"),
            (Redirect { scheme: https, listener_port: 8080, ..SAME }, false, false, "https://a/x?q=1"),
            (Redirect { scheme: https, port: Some(443), ..SAME }, false, false, "https://a/x?q=1"),
            (Redirect { scheme: https, port: Some(80), ..SAME }, false, false, "https://a:80/x?q=1"),
            (Redirect { scheme: Some(Scheme::Http), port: Some(80), ..SAME }, true, true, "http://a/x?q=1"),
        ] {
            assert_eq!(location(&redirect, tls, secured, "a", "/x", Some("q=1")), place, "{redirect:?}");
        }
    }
}
