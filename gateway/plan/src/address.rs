use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses that a URL or backend written by a tenant must never reach: this machine, its link, the cloud's metadata
/// service, and addresses that belong to no host.
pub fn is_local_address(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(ip) => {
            ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_broadcast()
                || ip.is_multicast()
                || ip.octets()[0] == 0
        }
        IpAddr::V6(ip) => {
            let first = ip.segments()[0];
            // fd00:ec2::254 is a metadata service; fe80::/10 is link-local.
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_multicast()
                || first & 0xffc0 == 0xfe80
                || ip.segments()[..2] == [0xfd00, 0x0ec2]
                || embedded(ip).is_some_and(|ip| is_local_address(IpAddr::V4(ip)))
        }
    }
}

/// The address that a translator or a tunnel sends to: IPv4-compatible addresses (RFC 4291 §2.5.5.1), NAT64 (RFC 6052
/// §2.1) and 6to4 (RFC 3056 §2).
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let (high, low) = match ip.segments() {
        [0, 0, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => (high, low),
        _ => return None,
    };
    Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_are_known_in_every_form() {
        for local in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "169.254.169.254",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "fe80::1",
            "fd00:ec2::254",
            "255.255.255.255",
            "::127.0.0.1",
            "64:ff9b::169.254.169.254",
            "2002:7f00:1::",
        ] {
            assert!(is_local_address(local.parse().unwrap()), "{local}");
        }
        for other in ["10.0.0.1", "192.0.2.1", "2001:db8::1", "fd12::1"] {
            assert!(!is_local_address(other.parse().unwrap()), "{other}");
        }
    }
}
