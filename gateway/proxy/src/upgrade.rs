//! WebSocket (RFC 6455): the one upgrade that is let through.

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Version, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

/// Whether the caller asks for a WebSocket in the one well-formed way. Other upgrades (h2c above all,
/// which would carry requests past the gateway) are stripped like any hop-by-hop header.
pub(crate) fn wants_websocket(parts: &Parts) -> bool {
    let mut upgrades = parts.headers.get_all(header::UPGRADE).iter();
    let websocket = matches!((upgrades.next(), upgrades.next()), (Some(value), None) if value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    websocket && parts.version == Version::HTTP_11 && parts.method == Method::GET && lists_upgrade(&parts.headers)
}

fn lists_upgrade(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
}

/// Puts the upgrade headers on, towards either side.
pub(crate) fn set_headers(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Copies bytes both ways until either side ends. Nothing the caller sent early reaches the upstream
/// before it agreed to the upgrade: hyper holds it until then.
pub(crate) fn tunnel(caller: OnUpgrade, upstream: OnUpgrade) {
    tokio::task::spawn_local(async move {
        if let (Ok(caller), Ok(upstream)) = tokio::join!(caller, upstream) {
            let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(caller), &mut TokioIo::new(upstream)).await;
        }
    });
}
