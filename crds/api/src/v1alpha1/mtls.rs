use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{KeyReference, TrustBundleReference};

/// Client certificates as credentials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MtlsMethod {
    /// The Secret or ConfigMap with the trusted authorities in PEM; the key is `ca.crt` unless named.
    pub trust_bundle_ref: TrustBundleReference,
    /// The Secret with revocation lists in PEM, one for each authority; the key is `ca.crl` unless named. With it, a
    /// certificate whose status no list tells is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation_list_ref: Option<KeyReference>,
    /// The certificate needs one name that fits one of these. Unset takes every certificate of the authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub names: Option<Vec<CertificateNameRule>>,
    /// The name that becomes the user name. A certificate without it is refused.
    pub identity: CertificateName,
    /// Networks (for example `10.0.0.0/8`) of proxies in front of the gateway that end TLS and hand the certificate on
    /// in `X-Forwarded-Client-Cert` with `Cert=`. Whoever sends from there can be anyone: name your own proxies only.
    /// Unset believes nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 2, max = 43)), extend("x-kubernetes-list-type" = "set"))]
    pub trusted_proxies: Option<Vec<String>>,
}

/// Certificates that are trusted for one purpose, by their authorities and names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustedCertificates {
    /// The Secret or ConfigMap with the trusted authorities in PEM; the key is `ca.crt` unless named.
    pub trust_bundle_ref: TrustBundleReference,
    /// The Secret with revocation lists in PEM; the key is `ca.crl` unless named. With it, a certificate whose status
    /// no list tells is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation_list_ref: Option<KeyReference>,
    /// The certificate needs one name that fits one of these.
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub names: Vec<CertificateNameRule>,
}

/// Names in a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CertificateName {
    /// The URI in the subject alternative names, such as a SPIFFE id.
    #[serde(rename = "URI")]
    Uri,
    /// The DNS name in the subject alternative names.
    #[serde(rename = "DNS")]
    Dns,
    /// The e-mail address in the subject alternative names.
    Email,
    /// The common name of the subject.
    CommonName,
    /// The whole subject, as RFC 4514 writes it.
    Subject,
}

/// A name that a certificate may have: `is` or `startsWith`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.is) != has(self.startsWith)",
     "message": "a name must have exactly one of `is` and `startsWith`"}]))]
pub struct CertificateNameRule {
    /// Which name.
    pub name: CertificateName,
    /// The whole name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub is: Option<String>,
    /// The beginning of the name. End it with a separator: `spiffe://shop/` and not `spiffe://shop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub starts_with: Option<String>,
}
