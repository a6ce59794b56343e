use std::net::IpAddr;

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
        }
    }
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
        ] {
            assert!(is_local_address(local.parse().unwrap()), "{local}");
        }
        for other in ["10.0.0.1", "192.0.2.1", "2001:db8::1", "fd12::1"] {
            assert!(!is_local_address(other.parse().unwrap()), "{other}");
        }
    }
}
