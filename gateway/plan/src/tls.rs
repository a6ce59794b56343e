use serde::{Deserialize, Serialize};

use crate::{Host, SecretHandle};

/// A server certificate of the gateway's HTTPS listeners.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerCertificate {
    /// The hosts for which it is shown.
    pub host: Host,
    /// The chain in PEM, the server's own certificate first.
    pub chain: String,
    /// The private key in PEM.
    pub key: SecretHandle,
}

/// TLS settings of connections to an outside server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutgoingTls {
    /// The authorities in PEM; `None`: the system's.
    pub roots: Option<String>,
    /// The client certificate: its chain in PEM, and its key.
    pub certificate: Option<(String, SecretHandle)>,
}

/// TLS settings of connections to a directory. The server is always verified.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryTls {
    /// The servers that are trusted.
    pub trust: ServerTrust,
    /// The client certificate: its chain in PEM, and its key.
    pub certificate: Option<(String, SecretHandle)>,
}

/// The servers that are trusted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum ServerTrust {
    /// Those whose certificate is of an authority of the system and has the name that is connected to.
    System,
    /// The same with these authorities, in PEM.
    Roots(String),
    /// Those that have one of these public keys: the SHA-256 digest of `SubjectPublicKeyInfo`. Never empty.
    Keys(Vec<[u8; 32]>),
}

/// TLS of connections to a backend. The backend's certificate is always verified.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendTls {
    /// The name that is sent to the backend (RFC 6066 §3), a DNS name.
    pub server_name: String,
    /// The names of which the backend's certificate must have one. Never empty.
    pub names: Vec<BackendName>,
    /// The authorities of its certificate, and the certificate that the gateway shows.
    pub settings: OutgoingTls,
}

/// A name that the certificate of a backend may have.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum BackendName {
    /// A DNS name, which a wildcard of the certificate may cover (RFC 9525 §6.3).
    Dns(String),
    /// A URI, such as a SPIFFE id, compared as a whole.
    Uri(String),
}

/// Client certificates as credentials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MtlsMethod {
    /// The trusted authorities in PEM. Never empty.
    pub roots: String,
    /// Revocation lists in PEM. If there are any, a certificate whose status they do not tell is refused.
    pub revocation_lists: Option<String>,
    /// The certificate needs one name that matches one of these; empty: any certificate of the authorities is accepted.
    pub names: Vec<NameRule>,
    /// The name in the certificate that becomes the user name.
    pub identity: CertificateName,
    /// Proxies in front of the gateway whose `X-Forwarded-Client-Cert` is believed.
    pub trusted_proxies: Vec<Network>,
}

/// A kind of name in a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CertificateName {
    /// A URI in the subject alternative names, such as a SPIFFE id.
    Uri,
    /// A DNS name in the subject alternative names.
    Dns,
    /// An e-mail address in the subject alternative names.
    Email,
    /// The common name of the subject.
    CommonName,
    /// The whole subject.
    Subject,
}

/// A name that a certificate may have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NameRule {
    /// The kind of the name.
    pub kind: CertificateName,
    /// The whole name, or with `prefix` its beginning.
    pub value: String,
    /// Only the beginning is compared.
    pub prefix: bool,
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Its first address.
    pub address: std::net::IpAddr,
    /// The number of leading bits that are compared.
    pub bits: u8,
}

impl Network {
    /// Reads `10.0.0.0/8` or a single address. The bits behind the prefix must be zero.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address.parse().ok()?, bits.parse().ok()?),
            None => {
                let address: std::net::IpAddr = text.parse().ok()?;
                (address, if address.is_ipv4() { 32 } else { 128 })
            }
        };
        let network = Self { address, bits };
        (bits <= width(address) && network.masked(address) == network.masked_full(address)).then_some(network)
    }

    /// Whether an address lies in the range.
    pub fn contains(&self, address: std::net::IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && self.masked(address) == self.masked(self.address)
    }

    fn masked(&self, address: std::net::IpAddr) -> u128 {
        let shift = u32::from(width(address) - self.bits);
        self.masked_full(address).checked_shr(shift).unwrap_or(0).checked_shl(shift).unwrap_or(0)
    }

    fn masked_full(&self, address: std::net::IpAddr) -> u128 {
        match address {
            std::net::IpAddr::V4(ip) => u128::from(u32::from(ip)),
            std::net::IpAddr::V6(ip) => ip.into(),
        }
    }
}

fn width(address: std::net::IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        let holds = |network: &str, address: &str| Network::parse(network).unwrap().contains(address.parse().unwrap());
        assert!(
            holds("10.0.0.0/8", "10.255.0.1")
                && holds("10.0.0.0/8", "::ffff:10.1.2.3")
                && !holds("10.0.0.0/8", "11.0.0.1")
        );
        assert!(holds("192.0.2.7", "192.0.2.7") && !holds("192.0.2.7", "192.0.2.8"));
        assert!(
            holds("2001:db8::/32", "2001:db8:1::1")
                && !holds("2001:db8::/32", "2001:db9::1")
                && !holds("0.0.0.0/0", "::1")
        );
        for wrong in ["", "10.0.0.1/8", "10.0.0.0/33", "x/8", "10.0.0.0/"] {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
    }
}
