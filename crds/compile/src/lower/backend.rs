//! Lowers references to Services to backends.

use gateway_api::apis::standard::httproutes as hr;
use idm_plan::{Backend, BackendProtocol, is_local_address};
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::Notes;
use super::backend_tls::{Towards, towards};
use super::filters::lower_filters_of_backend;
use crate::grants::Foreign;
use crate::{Cause, RouteKind, World};

/// A reference to a port of a Service, as all filters and rules write it.
pub(super) struct BackendReference<'r> {
    pub(super) group: &'r Option<String>,
    pub(super) kind: &'r Option<String>,
    pub(super) name: &'r str,
    pub(super) namespace: &'r Option<String>,
    pub(super) port: &'r Option<i32>,
    /// The kind of the route that has it.
    pub(super) from: RouteKind,
}

/// The backends, and the weight of those that cannot be resolved: the others keep their share of the traffic.
pub(super) fn lower_backends(
    world: &World,
    path: &str,
    refs: &[hr::HttpRouteRulesBackendRefs],
    from: RouteKind,
    notes: &mut Notes<'_>,
) -> (Vec<Backend>, u64) {
    let mut backends = Vec::new();
    let mut unresolved = 0;
    for (i, reference) in refs.iter().enumerate() {
        let failed = std::mem::take(&mut notes.failed);
        let hr::HttpRouteRulesBackendRefs { filters, group, kind, name, namespace, port, weight } = reference;
        let path = format!("{path}.backendRefs[{i}]");
        let weight = u32::try_from(weight.unwrap_or(1)).unwrap_or(0);
        let reference = BackendReference { group, kind, name, namespace, port, from };
        let headers = lower_filters_of_backend(&path, filters.as_deref().unwrap_or_default(), notes);
        let of_filters = std::mem::take(&mut notes.failed);
        let backend = lower_backend(world, &path, reference, weight, notes);
        let backend = backend.map(|backend| Backend { headers, ..backend });
        if backend.is_none() && notes.ends_unresolved() {
            unresolved += u64::from(weight);
            notes.failed = false;
        }
        notes.failed |= failed || of_filters;
        backends.extend(backend);
    }
    (backends, unresolved)
}

pub(super) fn lower_backend(
    world: &World,
    path: &str,
    reference: BackendReference<'_>,
    weight: u32,
    notes: &mut Notes<'_>,
) -> Option<Backend> {
    let BackendReference { group, kind, name, namespace, port, from } = reference;
    if group.as_deref().unwrap_or_default() != "" || kind.as_deref().unwrap_or("Service") != "Service" {
        return notes.fail(path, Cause::InvalidKind, "a backend must be a Service");
    }
    let service = match find_service(world, namespace.as_deref(), name, from) {
        Ok(service) => service,
        Err((cause, message)) => return notes.fail(path, cause, message),
    };
    let Some(wanted) = port else {
        return notes.fail(format!("{path}.port"), Cause::Invalid, "a backend must name a port of its Service");
    };
    let backend = service_backend(world, path, service, |p| p.port == *wanted, from, notes);
    backend.map(|backend| Backend { weight, ..backend })
}

/// A Service of the namespace, or of another one whose ReferenceGrant permits it.
fn find_service<'w>(
    world: &'w World,
    namespace: Option<&str>,
    name: &str,
    from: RouteKind,
) -> Result<&'w Service, (Cause, String)> {
    let Some(namespace) = namespace.filter(|namespace| *namespace != world.namespace) else {
        let found = world.services.iter().find(|service| service.name_any() == name);
        return found.ok_or_else(|| (Cause::RefNotFound, format!("Service '{name}' must exist in this namespace")));
    };
    if !world.is_granted(Foreign { from: from.name(), kind: "Service", namespace, name }) {
        let from = from.name();
        let message =
            format!("a ReferenceGrant in namespace '{namespace}' must permit {from}s of this one the Service");
        return Err((Cause::RefNotPermitted, message));
    }
    let is_it = |service: &&Service| service.name_any() == name && service.namespace().as_deref() == Some(namespace);
    let found = world.granted.iter().find(is_it);
    found.ok_or_else(|| (Cause::RefNotFound, format!("Service '{name}' must exist in namespace '{namespace}'")))
}

/// The backend for a Service's port.
pub(crate) fn service_backend(
    world: &World,
    path: &str,
    service: &Service,
    wanted: impl Fn(&ServicePort) -> bool,
    from: RouteKind,
    notes: &mut Notes<'_>,
) -> Option<Backend> {
    let name = service.name_any();
    let spec = service.spec.clone().unwrap_or_default();
    let Some(port) = spec.ports.unwrap_or_default().into_iter().find(|port| wanted(port)) else {
        return notes.fail(path, Cause::RefNotFound, format!("Service '{name}' must have the port that is named here"));
    };
    // Names of the IANA registry, which some write in upper case; a prefixed name is one name.
    let named = port.app_protocol.as_deref().map(str::to_ascii_lowercase);
    let (protocol, secure) = match (named.as_deref(), from) {
        // gRPC is always HTTP/2. Over TLS that is agreed on.
        (None | Some("kubernetes.io/h2c" | "grpc"), RouteKind::Grpc) | (Some("kubernetes.io/h2c"), RouteKind::Http) => {
            (BackendProtocol::Http2, false)
        }
        (None | Some("http" | "kubernetes.io/ws"), RouteKind::Http) => (BackendProtocol::Http1, false),
        (Some("https"), _) | (Some("kubernetes.io/wss"), RouteKind::Http) => (BackendProtocol::Http1, true),
        (Some(other), RouteKind::Grpc) => {
            let message = format!(
                "appProtocol '{other}' of Service '{name}' does not carry gRPC: use kubernetes.io/h2c or https"
            );
            return notes.fail(path, Cause::UnsupportedProtocol, message);
        }
        (Some(other), RouteKind::Http) => {
            return notes.fail(
                path,
                Cause::UnsupportedProtocol,
                format!(
                    "appProtocol '{other}' of Service '{name}' is not supported: use http, https, kubernetes.io/h2c, \
                     kubernetes.io/ws or kubernetes.io/wss"
                ),
            );
        }
    };
    let number = match dialled_port(&name, &spec.cluster_ip, &port) {
        Ok(number) => number,
        Err(message) => return notes.fail(path, Cause::InvalidRef, message),
    };
    let local = world.settings.local_backends;
    let namespace = service.namespace().unwrap_or_else(|| world.namespace.clone());
    if spec.type_.as_deref() == Some("ExternalName") && (world.is_tenant || namespace != world.namespace) {
        // It could name the Service of a third namespace, which nobody permitted to either.
        let message =
            format!("Service '{name}' must not be an ExternalName where another namespace's Gateway or route uses it");
        return notes.fail(path, Cause::RefNotPermitted, message);
    }
    let host = match (spec.type_.as_deref(), spec.external_name) {
        (Some("ExternalName"), Some(host)) => {
            let literal =
                host.parse().is_ok_and(is_local_address) || host == "localhost" || host.ends_with(".localhost");
            if literal && !local {
                return notes.fail(
                    path,
                    Cause::RefNotPermitted,
                    format!("Service '{name}' must not point at the gateway's own machine"),
                );
            }
            host
        }
        (Some("ExternalName"), None) => {
            return notes.fail(path, Cause::InvalidRef, format!("Service '{name}' must have an externalName"));
        }
        _ => format!("{name}.{namespace}.svc"),
    };
    let tls = match towards(world, service, &port, &host, secure) {
        Towards::Plain => None,
        Towards::Secured(tls) => Some(tls),
        Towards::Unusable => {
            let message = format!("the BackendTLSPolicy of Service '{name}' cannot be used: read its status");
            return notes.fail(path, Cause::InvalidRef, message);
        }
    };
    Some(Backend { host, port: number, protocol, tls, weight: 1, headers: vec![], local })
}

/// The port that the gateway connects to. The address of a Service has the Service's port; the name of a headless
/// Service stands for the addresses of its pods, which have the target port.
fn dialled_port(name: &str, cluster_ip: &Option<String>, port: &ServicePort) -> Result<u16, String> {
    let number = match (cluster_ip.as_deref(), &port.target_port) {
        (Some("None"), Some(IntOrString::Int(target))) => *target,
        (Some("None"), Some(IntOrString::String(target))) => {
            return Err(format!(
                "targetPort '{target}' of Service '{name}', which is headless, must be a number: a name may stand for \
                 another port in every pod"
            ));
        }
        _ => port.port,
    };
    u16::try_from(number)
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("port {number} of Service '{name}' must be between 1 and 65535"))
}
