//! Client certificates, and the server certificates of HTTPS listeners.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gateway_api::apis::standard::gateways::{GatewayListeners, GatewayTlsBackendClientCertificateRef};
use idm_api::v1alpha1 as wire;
use idm_jose::private_key;
use idm_plan::{
    CertificateName, DirectoryTls, Host, MtlsMethod, NameRule, Network, OutgoingTls, SecretHandle, Secrets,
    ServerCertificate, ServerTrust,
};

use super::keys::secret_text;
use super::{Notes, config_map};
use crate::grants::Foreign;
use crate::{Cause, World};

pub(crate) fn lower_mtls(
    world: &World,
    path: &str,
    method: &wire::MtlsMethod,
    notes: &mut Notes<'_>,
) -> Option<MtlsMethod> {
    let wire::MtlsMethod { trust_bundle_ref, revocation_list_ref, names, identity, trusted_proxies } = method;
    let roots = trust_bundle(world, &format!("{path}.trustBundleRef"), trust_bundle_ref, notes)?;
    let revocation_lists = match revocation_list_ref {
        Some(reference) => {
            Some(public_text(world, &format!("{path}.revocationListRef"), reference, "ca.crl", "X509 CRL", notes)?)
        }
        None => None,
    };
    let mut rules = Vec::new();
    for (i, wire::CertificateNameRule { name, is, starts_with }) in names.iter().flatten().enumerate() {
        let (value, prefix) = match (is, starts_with) {
            (Some(value), None) => (value.clone(), false),
            (None, Some(value)) => (value.clone(), true),
            _ => {
                return notes.fail(
                    format!("{path}.names[{i}]"),
                    Cause::Invalid,
                    "a name must have exactly one of `is` and `startsWith`",
                );
            }
        };
        rules.push(NameRule { kind: kind(*name), value, prefix });
    }
    let mut networks = Vec::new();
    for (i, text) in trusted_proxies.iter().flatten().enumerate() {
        match Network::parse(text) {
            Some(network) => networks.push(network),
            None => {
                return notes.fail(
                    format!("{path}.trustedProxies[{i}]"),
                    Cause::Invalid,
                    format!("'{text}' must be a network such as 10.0.0.0/8"),
                );
            }
        }
    }
    Some(MtlsMethod { roots, revocation_lists, names: rules, identity: kind(*identity), trusted_proxies: networks })
}

/// Certificates that are trusted for one purpose: each must have a name.
pub(crate) fn lower_trusted(
    world: &World,
    path: &str,
    trusted: &wire::TrustedCertificates,
    notes: &mut Notes<'_>,
) -> Option<MtlsMethod> {
    let wire::TrustedCertificates { trust_bundle_ref, revocation_list_ref, names } = trusted;
    if names.is_empty() {
        return notes.fail(
            format!("{path}.names"),
            Cause::Invalid,
            "at least one name must be given: without it every certificate would do",
        );
    }
    let method = wire::MtlsMethod {
        trust_bundle_ref: trust_bundle_ref.clone(),
        revocation_list_ref: revocation_list_ref.clone(),
        names: Some(names.clone()),
        identity: wire::CertificateName::Subject,
        trusted_proxies: None,
    };
    lower_mtls(world, path, &method, notes)
}

fn kind(name: wire::CertificateName) -> CertificateName {
    match name {
        wire::CertificateName::Uri => CertificateName::Uri,
        wire::CertificateName::Dns => CertificateName::Dns,
        wire::CertificateName::Email => CertificateName::Email,
        wire::CertificateName::CommonName => CertificateName::CommonName,
        wire::CertificateName::Subject => CertificateName::Subject,
    }
}

/// The certificates of authorities that a reference names, in PEM.
fn trust_bundle(
    world: &World,
    path: &str,
    reference: &wire::TrustBundleReference,
    notes: &mut Notes<'_>,
) -> Option<String> {
    let wire::TrustBundleReference { kind, name, key } = reference;
    if kind.unwrap_or_default() == wire::TrustBundleKind::Secret {
        let reference = wire::KeyReference { name: name.clone(), key: key.clone() };
        return public_text(world, path, &reference, "ca.crt", "CERTIFICATE", notes);
    }
    let text = match config_map::value(world, name, key.as_deref().unwrap_or("ca.crt")) {
        Ok(text) => text,
        Err((cause, why)) => return notes.fail(path, cause, why),
    };
    let blocks = pem_blocks(text, "CERTIFICATE");
    if blocks.is_empty() {
        let message = format!("ConfigMap '{name}' must hold at least one `CERTIFICATE` in PEM");
        return notes.fail(path, Cause::InvalidRef, message);
    }
    Some(blocks.concat())
}

/// PEM that is public and may stand in the plan. A private key beside it does not get there.
fn public_text(
    world: &World,
    path: &str,
    reference: &wire::KeyReference,
    usual: &str,
    label: &str,
    notes: &mut Notes<'_>,
) -> Option<String> {
    let (_, text) = secret_text(world, path, reference, usual, &mut Secrets::default(), notes)?;
    let blocks: Vec<String> = pem_blocks(&text, label);
    if blocks.is_empty() {
        return notes.fail(
            path,
            Cause::InvalidRef,
            format!("Secret '{}' must hold at least one `{label}` in PEM", reference.name),
        );
    }
    Some(blocks.concat())
}

pub(crate) fn pem_blocks(text: &str, label: &str) -> Vec<String> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let blocks =
        text.split(&begin).skip(1).filter_map(|rest| Some(format!("{begin}{}{end}\n", rest.split_once(&end)?.0)));
    blocks.collect()
}

/// The certificate of an HTTPS listener.
pub(crate) fn lower_listener(
    world: &World,
    path: &str,
    listener: &GatewayListeners,
    host: Host,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<ServerCertificate> {
    let tls = listener.tls.as_ref();
    let references = tls.and_then(|tls| tls.certificate_refs.as_deref()).unwrap_or_default();
    let [reference] = references else {
        return notes.fail(
            format!("{path}.tls"),
            Cause::UnsupportedListener,
            "an HTTPS listener must have exactly one certificateRef",
        );
    };
    if tls.and_then(|tls| tls.mode.as_ref()).is_some_and(|mode| format!("{mode:?}") != "Terminate") {
        return notes.fail(format!("{path}.tls.mode"), Cause::UnsupportedListener, "the TLS mode must be Terminate");
    }
    if reference.group.as_deref().unwrap_or_default() != "" || reference.kind.as_deref().unwrap_or("Secret") != "Secret"
    {
        return notes.fail(format!("{path}.tls"), Cause::InvalidRef, "a certificateRef must name a Secret");
    }
    let at = format!("{path}.tls.certificateRefs[0]");
    let elsewhere = reference.namespace.as_deref().filter(|namespace| *namespace != world.namespace);
    let (chain, key) = match elsewhere {
        None => certificate(world, &at, &reference.name, secrets, notes)?,
        Some(namespace) => {
            let wanted = Foreign { from: "Gateway", kind: "Secret", namespace, name: &reference.name };
            if !world.is_granted(wanted) {
                let message =
                    format!("a ReferenceGrant in namespace '{namespace}' must permit this Gateway the Secret");
                return notes.fail(at, Cause::RefNotPermitted, message);
            }
            certificate(&world.granted_secret(namespace, &reference.name), &at, &reference.name, secrets, notes)?
        }
    };
    Some(ServerCertificate { host, chain, key })
}

/// The certificate that a Gateway shows to backends.
pub(crate) fn lower_shown(
    world: &World,
    reference: &GatewayTlsBackendClientCertificateRef,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<(String, SecretHandle)> {
    let GatewayTlsBackendClientCertificateRef { group, kind, name, namespace } = reference;
    let path = "spec.tls.backend.clientCertificateRef";
    if group.as_deref().unwrap_or_default() != "" || kind.as_deref().unwrap_or("Secret") != "Secret" {
        return notes.fail(path, Cause::InvalidClientCertificateRef, "the certificate must be in a Secret");
    }
    if namespace.as_ref().is_some_and(|namespace| *namespace != world.namespace) {
        let message = "the certificate must be in the namespace of its Gateway";
        return notes.fail(path, Cause::RefNotPermitted, message);
    }
    certificate(world, path, name, secrets, notes)
}

/// A certificate with its key, from a Secret of type `kubernetes.io/tls`: the chain, and the handle of the key.
pub(crate) fn certificate(
    world: &World,
    path: &str,
    name: &str,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<(String, SecretHandle)> {
    let of = |key: &str| wire::KeyReference { name: name.to_owned(), key: Some(key.into()) };
    let (_, chain) = secret_text(world, path, &of("tls.crt"), "tls.crt", &mut Secrets::default(), notes)?;
    let chain = pem_blocks(&chain, "CERTIFICATE").concat();
    let (key, text) = secret_text(world, path, &of("tls.key"), "tls.key", secrets, notes)?;
    if chain.is_empty() || private_key(text.trim()).is_none() {
        let message = format!(
            "Secret '{name}' must hold certificates (`tls.crt`) and their private key (`tls.key`), both in PEM"
        );
        return notes.fail(path, Cause::InvalidRef, message);
    }
    Some((chain, key))
}

/// The TLS settings for a server with authorities of its own.
pub(crate) fn lower_outgoing(
    world: &World,
    path: &str,
    tls: &wire::OutgoingTls,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<OutgoingTls> {
    let wire::OutgoingTls { trust_bundle_ref, client_certificate_ref } = tls;
    if trust_bundle_ref.is_none() && client_certificate_ref.is_none() {
        return notes.fail(path, Cause::Invalid, "tls must have `trustBundleRef`, `clientCertificateRef` or both");
    }
    let roots = match trust_bundle_ref {
        Some(reference) => Some(trust_bundle(world, &format!("{path}.trustBundleRef"), reference, notes)?),
        None => None,
    };
    let certificate = match client_certificate_ref {
        Some(reference) => {
            Some(certificate(world, &format!("{path}.clientCertificateRef"), &reference.name, secrets, notes)?)
        }
        None => None,
    };
    Some(OutgoingTls { roots, certificate })
}

/// TLS towards a directory.
pub(crate) fn lower_directory_tls(
    world: &World,
    path: &str,
    tls: &wire::DirectoryTls,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<DirectoryTls> {
    let wire::DirectoryTls { trust_bundle_ref, pinned_keys, client_certificate_ref } = tls;
    let trust = match (trust_bundle_ref, pinned_keys) {
        (None, None) if client_certificate_ref.is_none() => {
            let message = "tls must have `trustBundleRef`, `pinnedKeys` or `clientCertificateRef`";
            return notes.fail(path, Cause::Invalid, message);
        }
        (Some(_), Some(_)) => {
            let message =
                "tls must have at most one of `trustBundleRef`, `pinnedKeys`: a pinned key needs no authority";
            return notes.fail(path, Cause::Invalid, message);
        }
        (None, None) => ServerTrust::System,
        (Some(reference), None) => {
            ServerTrust::Roots(trust_bundle(world, &format!("{path}.trustBundleRef"), reference, notes)?)
        }
        (None, Some(keys)) => ServerTrust::Keys(lower_pins(&format!("{path}.pinnedKeys"), keys, notes)?),
    };
    let certificate = match client_certificate_ref {
        Some(reference) => {
            Some(certificate(world, &format!("{path}.clientCertificateRef"), &reference.name, secrets, notes)?)
        }
        None => None,
    };
    Some(DirectoryTls { trust, certificate })
}

fn lower_pins(path: &str, keys: &[String], notes: &mut Notes<'_>) -> Option<Vec<[u8; 32]>> {
    let read = |text: &String| STANDARD.decode(text).ok().and_then(|octets| <[u8; 32]>::try_from(octets).ok());
    let mut pins = Vec::new();
    for (i, text) in keys.iter().enumerate() {
        let Some(pin) = read(text) else {
            let message = format!(
                "'{text}' must be the SHA-256 digest of a public key in base64 (44 characters), as `idm idp probe` \
                 prints it"
            );
            return notes.fail(format!("{path}[{i}]"), Cause::Invalid, message);
        };
        pins.push(pin);
    }
    if pins.is_empty() {
        return notes.fail(path, Cause::Invalid, "at least one key must be given");
    }
    Some(pins)
}
