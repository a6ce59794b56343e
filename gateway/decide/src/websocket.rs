use http::request::Parts;
use http::{HeaderMap, Method, Version, header};

/// Whether the caller asks for a WebSocket (RFC 6455 §4.1) in the one well-formed way. Other upgrades (h2c above all,
/// which would carry requests past the gateway) are stripped like any hop-by-hop header.
pub(crate) fn wants_websocket(parts: &Parts) -> bool {
    let mut upgrades = parts.headers.get_all(header::UPGRADE).iter();
    let websocket = match (upgrades.next(), upgrades.next()) {
        (Some(value), None) => value.as_bytes().eq_ignore_ascii_case(b"websocket"),
        _ => false,
    };
    websocket && parts.version == Version::HTTP_11 && parts.method == Method::GET && lists_upgrade(&parts.headers)
}

fn lists_upgrade(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
}
