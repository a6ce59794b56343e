//! BackendTLSPolicies of the Gateway API, and the TLS that a Service's port has without one.

use gateway_api::apis::standard::backendtlspolicies::{
    BackendTlsPolicy, BackendTlsPolicyTargetRefs, BackendTlsPolicyValidation,
    BackendTlsPolicyValidationCaCertificateRefs, BackendTlsPolicyValidationSubjectAltNames,
    BackendTlsPolicyValidationSubjectAltNamesType as NameType,
};
use idm_plan::{BackendName, BackendTls, Host, OutgoingTls};
use k8s_openapi::api::core::v1::{Service, ServicePort};
use kube::ResourceExt;
use x509_cert::Certificate;
use x509_cert::der::DecodePem as _;

use super::mtls::pem_blocks;
use super::{config_map, secret};
use crate::listeners::parse_host;
use crate::{Cause, Condition, ObjectId, Report, World};

/// The TLS towards one port of a Service.
pub(crate) enum Towards {
    /// None.
    Plain,
    /// This.
    Secured(BackendTls),
    /// A BackendTLSPolicy asks for it that cannot be used: nothing is sent.
    Unusable,
}

/// The TLS that the Service's port has by a BackendTLSPolicy; else, where its protocol is `secure`, with the system's
/// authorities under the Service's own name.
pub(crate) fn towards(world: &World, service: &Service, port: &ServicePort, host: &str, secure: bool) -> Towards {
    let foreign = service.namespace().filter(|namespace| *namespace != world.namespace);
    let policies = match &foreign {
        // ConfigMaps of another namespace are not read: only a policy with the system's authorities can be used there.
        Some(namespace) => in_namespace(&world.granted_backend_tls, namespace),
        None => world.backend_tls_policies.iter().collect(),
    };
    if let Some(policy) = settled(&policies, &service.name_any(), port.name.as_deref()) {
        let empty = World::new("", world.settings);
        let world = if foreign.is_some() { &empty } else { world };
        return lower(world, policy).0.map_or(Towards::Unusable, Towards::Secured);
    }
    if !secure {
        return Towards::Plain;
    }
    let mut names = vec![BackendName::Dns(host.to_owned())];
    if host.ends_with(".svc") {
        names.push(BackendName::Dns(format!("{host}.cluster.local")));
    }
    let settings = OutgoingTls { roots: None, certificate: None };
    Towards::Secured(BackendTls { server_name: host.to_owned(), names, settings })
}

/// The Services that a BackendTLSPolicy is about.
pub fn targeted_services(policy: &BackendTlsPolicy) -> impl Iterator<Item = &str> {
    policy.spec.target_refs.iter().filter(|target| is_service(target)).map(|target| target.name.as_str())
}

fn is_service(target: &BackendTlsPolicyTargetRefs) -> bool {
    target.group.is_empty() && target.kind == "Service"
}

fn in_namespace<'w>(policies: &'w [BackendTlsPolicy], namespace: &str) -> Vec<&'w BackendTlsPolicy> {
    policies.iter().filter(|policy| policy.namespace().as_deref() == Some(namespace)).collect()
}

/// The policy in force for a port: one that names the port before one for the whole Service, then the older one, then
/// the one whose name comes first.
fn settled<'w>(policies: &[&'w BackendTlsPolicy], service: &str, port: Option<&str>) -> Option<&'w BackendTlsPolicy> {
    let of_section = |section: Option<&str>| {
        let holders = policies.iter().copied().filter(|policy| {
            let mut targets = policy.spec.target_refs.iter().filter(|target| is_service(target));
            targets.any(|target| target.name == service && target.section_name.as_deref() == section)
        });
        holders.min_by_key(|policy| (policy.metadata.creation_timestamp.clone(), policy.name_any()))
    };
    port.and_then(|port| of_section(Some(port))).or_else(|| of_section(None))
}

/// Writes the findings about all BackendTLSPolicies.
pub(crate) fn report(world: &World, report: &mut Report) {
    for policy in &world.backend_tls_policies {
        let id = ObjectId::new("BackendTLSPolicy", &world.namespace, &policy.name_any());
        for Fault { path, cause, message } in lower(world, policy).1 {
            let condition = if is_about_a_reference(cause) { Condition::ResolvedRefs } else { Condition::Accepted };
            report.push(&id, path, condition, cause, message);
        }
        for (i, target) in policy.spec.target_refs.iter().enumerate() {
            if let Err((cause, message)) = check_target(world, policy, target) {
                report.push(&id, format!("spec.targetRefs[{i}]"), Condition::Accepted, cause, message);
            }
        }
    }
}

fn check_target(
    world: &World,
    policy: &BackendTlsPolicy,
    target: &BackendTlsPolicyTargetRefs,
) -> Result<(), (Cause, String)> {
    let BackendTlsPolicyTargetRefs { group: _, kind: _, name, section_name } = target;
    if !is_service(target) {
        return Err((Cause::TargetNotFound, "the target must be a Service of group ''".into()));
    }
    let Some(service) = world.services.iter().find(|service| service.name_any() == *name) else {
        return Err((Cause::TargetNotFound, format!("Service '{name}' must exist in this namespace")));
    };
    if let Some(section) = section_name {
        let mut ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        if !ports.any(|port| port.name.as_ref() == Some(section)) {
            return Err((Cause::TargetNotFound, format!("Service '{name}' must have a port named '{section}'")));
        }
    }
    // A policy for one port does not compete with one for the whole Service.
    let policies: Vec<_> = world.backend_tls_policies.iter().collect();
    let holder = settled(&policies, name, section_name.as_deref());
    match holder.filter(|holder| holder.name_any() != policy.name_any()) {
        Some(holder) => {
            let holder = holder.name_any();
            Err((Cause::Conflicted, format!("Service '{name}' is already held by BackendTLSPolicy '{holder}'")))
        }
        None => Ok(()),
    }
}

/// A fault of a policy.
struct Fault {
    path: String,
    cause: Cause,
    message: String,
}

/// A reference that cannot be used is passed over while there is another one.
fn is_about_a_reference(cause: Cause) -> bool {
    matches!(cause, Cause::InvalidKind | Cause::InvalidCaCertificateRef)
}

/// The TLS that a policy asks for, and its faults. `None` where it cannot be used.
fn lower(world: &World, policy: &BackendTlsPolicy) -> (Option<BackendTls>, Vec<Fault>) {
    let BackendTlsPolicyValidation {
        ca_certificate_refs: _,
        hostname,
        subject_alt_names,
        well_known_ca_certificates: _,
    } = &policy.spec.validation;
    let mut faults = Vec::new();
    let mut fail = |path: String, cause, message| faults.push(Fault { path, cause, message });
    if policy.spec.options.as_ref().is_some_and(|options| !options.is_empty()) {
        fail("spec.options".into(), Cause::UnsupportedValue, "this gateway has no options: remove them".into());
    }
    if !matches!(parse_host(hostname), Some(Host::Exact(_))) {
        fail("spec.validation.hostname".into(), Cause::Invalid, format!("'{hostname}' must be a DNS name"));
    }
    let mut names = Vec::new();
    for (i, name) in subject_alt_names.iter().flatten().enumerate() {
        match alternative_name(name) {
            Ok(name) => names.push(name),
            Err(why) => fail(format!("spec.validation.subjectAltNames[{i}]"), Cause::Invalid, why),
        }
    }
    if names.is_empty() {
        names.push(BackendName::Dns(hostname.to_ascii_lowercase()));
    }
    let roots = lower_authorities(world, &policy.spec.validation, &mut faults);
    let settings = OutgoingTls { roots, certificate: None };
    let tls = BackendTls { server_name: hostname.to_ascii_lowercase(), names, settings };
    let usable = faults.iter().all(|fault| is_about_a_reference(fault.cause));
    (usable.then_some(tls), faults)
}

/// The authorities in PEM; `None`: the system's.
fn lower_authorities(
    world: &World,
    validation: &BackendTlsPolicyValidation,
    faults: &mut Vec<Fault>,
) -> Option<String> {
    let references = validation.ca_certificate_refs.as_deref().unwrap_or_default();
    let mut fail = |path: String, cause, message: String| faults.push(Fault { path, cause, message });
    match (references, validation.well_known_ca_certificates.as_deref()) {
        ([], Some("System")) => return None,
        ([], Some(other)) => {
            let path = "spec.validation.wellKnownCACertificates".into();
            fail(path, Cause::Invalid, format!("'{other}' is not known: use System"));
        }
        ([], None) => {
            let message = "one of `caCertificateRefs` and `wellKnownCACertificates` must be given";
            fail("spec.validation".into(), Cause::Invalid, message.into());
        }
        (_, Some(_)) => {
            let message = "only one of `caCertificateRefs` and `wellKnownCACertificates` must be given";
            fail("spec.validation".into(), Cause::Invalid, message.into());
        }
        (references, None) => {
            let mut bundle = String::new();
            for (i, reference) in references.iter().enumerate() {
                match authority(world, reference) {
                    Ok(pem) => bundle.push_str(&pem),
                    Err((cause, why)) => fail(format!("spec.validation.caCertificateRefs[{i}]"), cause, why),
                }
            }
            if bundle.is_empty() {
                let message = "no reference leads to a certificate: nothing is sent to the Service";
                fail("spec.validation.caCertificateRefs".into(), Cause::NoValidCaCertificate, message.into());
            }
            return Some(bundle);
        }
    }
    None
}

fn authority(
    world: &World,
    reference: &BackendTlsPolicyValidationCaCertificateRefs,
) -> Result<String, (Cause, String)> {
    let BackendTlsPolicyValidationCaCertificateRefs { group, kind, name } = reference;
    let not_usable = |(_, message)| (Cause::InvalidCaCertificateRef, message);
    let text = match (group.as_str(), kind.as_str()) {
        ("", "ConfigMap") => config_map::value(world, name, "ca.crt").map_err(not_usable)?.to_owned(),
        ("", "Secret") => {
            let value = secret::value(world, name, "ca.crt").map_err(not_usable)?;
            String::from_utf8_lossy(value.reveal()).into_owned()
        }
        _ => return Err((Cause::InvalidKind, "authorities must be in a ConfigMap or Secret of group ''".into())),
    };
    let blocks = pem_blocks(&text, "CERTIFICATE");
    if blocks.is_empty() || blocks.iter().any(|block| Certificate::from_pem(block).is_err()) {
        let message = format!("{kind} '{name}', key 'ca.crt', must hold certificates in PEM");
        return Err((Cause::InvalidCaCertificateRef, message));
    }
    Ok(blocks.concat())
}

fn alternative_name(name: &BackendTlsPolicyValidationSubjectAltNames) -> Result<BackendName, String> {
    let BackendTlsPolicyValidationSubjectAltNames { hostname, r#type, uri } = name;
    match (r#type, hostname, uri) {
        (NameType::Hostname, Some(hostname), None) => match parse_host(hostname) {
            Some(Host::Exact(name)) => Ok(BackendName::Dns(name)),
            _ => Err(format!("'{hostname}' must be a DNS name without a wildcard")),
        },
        (NameType::Uri, None, Some(uri)) if url::Url::parse(uri).is_ok() => Ok(BackendName::Uri(uri.clone())),
        (NameType::Uri, None, Some(uri)) => Err(format!("'{uri}' must be a URI")),
        _ => Err("the name must have `hostname` with type Hostname, or `uri` with type URI".into()),
    }
}
