//! The client behind trusted proxies: `X-Forwarded-For`, `Forwarded` (RFC 7239) and `X-Forwarded-Proto`.
//!
//! Each proxy writes the address of its own client behind the addresses that it was given. So the list is read from the
//! right, past the addresses of trusted proxies, and the first other address is the client. Nothing to the left of it
//! counts: the client may have written it.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, header};
use idm_plan::Network;

use crate::forwarded_elements::{Element, elements};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// More trusted proxies in a row are not passed: the last of them counts as the client.
const MAX_HOPS: usize = 32;

/// The client that trusted proxies tell of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its address, or that of the last trusted proxy where no further one is told.
    pub address: IpAddr,
    /// Whether it uses https; `None` where no proxy tells.
    pub https: Option<bool>,
}

/// The client that the headers of a request tell of, which came from the trusted proxy at `sender`. Where both
/// `X-Forwarded-For` and `Forwarded` are present they must tell of the same address, and the scheme is that of
/// `X-Forwarded-Proto`. The error says what is wrong, and nothing of what stands in the headers.
pub fn client(sender: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> Result<Client, &'static str> {
    let listed = headers.contains_key(FORWARDED_FOR).then(|| {
        let lines = headers.get_all(FORWARDED_FOR).iter().rev();
        let nodes = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
        last_untrusted(sender, nodes.map(|node| node_address(node.trim_ascii())), trusted)
    });
    let mut https = scheme_of(headers)?;
    let mut address = listed;
    if headers.contains_key(header::FORWARDED) {
        let mut read: Vec<Element<'_>> = Vec::new();
        for line in headers.get_all(header::FORWARDED) {
            read.extend(elements(line.as_bytes())?);
        }
        let nodes = read.iter().rev().map(|element| element.node.as_deref().and_then(node_address));
        let told = last_untrusted(sender, nodes, trusted);
        if listed.is_some_and(|listed| listed != told) {
            return Err("`Forwarded` and `X-Forwarded-For` tell of different clients");
        }
        address = Some(told);
        // Beside `X-Forwarded-For` it may be the client's own, which the proxy passed on.
        if listed.is_none() && https.is_none() {
            https = read.last().and_then(|element| element.proto.as_deref()).map(is_https).transpose()?;
        }
    }
    Ok(Client { address: address.unwrap_or(sender), https })
}

/// The first address that is not of a trusted proxy. A node that is no address ends the search at the proxy before it.
fn last_untrusted(sender: IpAddr, nodes: impl Iterator<Item = Option<IpAddr>>, trusted: &[Network]) -> IpAddr {
    let mut last = sender;
    for node in nodes.take(MAX_HOPS) {
        let Some(address) = node else { return last };
        last = address;
        if !trusted.iter().any(|network| network.contains(address)) {
            return last;
        }
    }
    last
}

/// The address of a node (RFC 7239 §6): with or without a port, IPv6 with or without brackets. `unknown` and obfuscated
/// identifiers have none.
fn node_address(node: &[u8]) -> Option<IpAddr> {
    let node = std::str::from_utf8(node).ok()?;
    let address = if let Some(rest) = node.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let port = if port.is_empty() { None } else { Some(port.strip_prefix(':')?) };
        port.is_none_or(is_port).then(|| address.parse::<std::net::Ipv6Addr>().ok())?.map(IpAddr::from)
    } else {
        match node.rsplit_once(':') {
            Some((address, port)) if !address.contains(':') => {
                is_port(port).then(|| address.parse::<std::net::Ipv4Addr>().ok())?.map(IpAddr::from)
            }
            _ => node.parse().ok(),
        }
    };
    address.map(|address| address.to_canonical())
}

/// A port, or an obfuscated one.
fn is_port(port: &str) -> bool {
    let obfuscated = |rest: &str| rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    match port.strip_prefix('_') {
        Some(rest) => !rest.is_empty() && obfuscated(rest),
        None => port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok(),
    }
}

/// The scheme in `X-Forwarded-Proto`: the last one, which the nearest proxy wrote.
fn scheme_of(headers: &HeaderMap) -> Result<Option<bool>, &'static str> {
    let last = headers.get_all(FORWARDED_PROTO).iter().next_back();
    let last = last.and_then(|line| line.as_bytes().rsplit(|byte| *byte == b',').next());
    last.map(|scheme| is_https(scheme.trim_ascii())).transpose()
}

fn is_https(scheme: &[u8]) -> Result<bool, &'static str> {
    match scheme {
        scheme if scheme.eq_ignore_ascii_case(b"https") => Ok(true),
        scheme if scheme.eq_ignore_ascii_case(b"http") => Ok(false),
        _ => Err("the scheme that the proxy tells is neither http nor https"),
    }
}

#[cfg(test)]
mod tests;
