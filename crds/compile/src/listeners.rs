//! Listeners of our Gateways: what they take, and on which ports.

use std::collections::BTreeMap;

use gateway_api::apis::standard::gateways::{
    Gateway, GatewayListeners, GatewayListenersAllowedRoutesNamespacesFrom as From,
    GatewayListenersAllowedRoutesNamespacesSelector as Selector,
};
use gateway_api::apis::standard::httproutes::HttpRouteParentRefs;
use idm_plan::Host;
use kube::ResourceExt;

use crate::parameters::{config_map, parameters};
use crate::part::wish;
use crate::{Cause, Condition, Layout, NotTaken, ObjectId, Part, Report, Route, RouteKind, World};

/// A listener that routes can be attached to.
#[derive(Clone, Copy)]
pub(crate) struct Listener<'w> {
    pub(crate) gateway: &'w Gateway,
    pub(crate) spec: &'w GatewayListeners,
    /// Its position in the Gateway.
    pub(crate) position: usize,
    /// Whether it can take traffic. Routes are attached to a listener without a usable certificate too.
    pub(crate) serves: bool,
    /// The kinds of routes that it allows.
    pub(crate) kinds: RouteKinds,
}

/// The one port that all listeners of a protocol share, where there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenerPorts {
    /// Of listeners for HTTP.
    pub http: Option<i32>,
    /// Of listeners for HTTPS.
    pub https: Option<i32>,
}

impl ListenerPorts {
    /// Takes the listener's port for its protocol in a part, or says why the listener cannot be used.
    pub(crate) fn take(&mut self, part: &Part, listener: &GatewayListeners) -> Result<(), (Cause, String)> {
        let protocol = listener.protocol.as_str();
        let port = match protocol {
            "HTTP" => &mut self.http,
            "HTTPS" => &mut self.https,
            _ => {
                let message = format!("protocol {protocol} is not supported: use HTTP or HTTPS");
                return Err((Cause::UnsupportedProtocol, message));
            }
        };
        let taken = *port.get_or_insert(listener.port);
        if taken == listener.port {
            return Ok(());
        }
        let whose = match part {
            Part::Shared => "that share a gateway",
            Part::Gateway(_) => "of a Gateway",
        };
        let message = format!("all {protocol} listeners {whose} must share one port, and {taken} is taken already");
        Err((Cause::PortUnavailable, message))
    }
}

/// The kinds of routes that a listener allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteKinds {
    /// HTTPRoutes.
    pub http: bool,
    /// GRPCRoutes.
    pub grpc: bool,
    /// No kind is named that is not served.
    pub all_known: bool,
}

impl RouteKinds {
    /// Whether a kind is allowed.
    pub const fn hold(self, kind: RouteKind) -> bool {
        match kind {
            RouteKind::Http => self.http,
            RouteKind::Grpc => self.grpc,
        }
    }
}

/// Which kinds of routes a listener allows; without a list, those that its protocol can carry.
pub fn route_kinds(listener: &GatewayListeners) -> RouteKinds {
    if !["HTTP", "HTTPS"].contains(&listener.protocol.as_str()) {
        return RouteKinds { http: false, grpc: false, all_known: true };
    }
    let named = listener.allowed_routes.as_ref().and_then(|allowed| allowed.kinds.as_deref()).unwrap_or_default();
    if named.is_empty() {
        return RouteKinds { http: true, grpc: true, all_known: true };
    }
    let kinds: Vec<Option<RouteKind>> = named
        .iter()
        .map(|kind| {
            let ours = kind.group.as_deref().is_none_or(|group| group == "gateway.networking.k8s.io");
            RouteKind::of_name(&kind.kind).filter(|_| ours)
        })
        .collect();
    let holds = |kind| kinds.contains(&Some(kind));
    RouteKinds { http: holds(RouteKind::Http), grpc: holds(RouteKind::Grpc), all_known: !kinds.contains(&None) }
}

pub(crate) fn is_secure(listener: &GatewayListeners) -> bool {
    listener.protocol == "HTTPS"
}

/// The listeners of our Gateways that routes can be attached to, and their ports; findings say why others are not among
/// them. All of one protocol must share one port in each part: a gateway has one for each, and a route that was
/// attached to a private port only must not become reachable on a public one. The port of the oldest Gateway counts.
/// Certificates are not looked at: HTTPS listeners do not serve yet.
pub(crate) fn accepted<'w>(
    world: &'w World,
    report: &mut Report,
) -> (Vec<Listener<'w>>, BTreeMap<Part, ListenerPorts>) {
    let mut all_ports: BTreeMap<Part, ListenerPorts> = BTreeMap::new();
    let mut listeners = Vec::new();
    let mut gateways: Vec<_> = world.our_gateways().collect();
    gateways.sort_by_key(|gateway| (gateway.metadata.creation_timestamp.clone(), gateway.name_any()));
    for gateway in gateways {
        let id = ObjectId::new("Gateway", &world.namespace, &gateway.name_any());
        if world.classes.forwards_uncovered(gateway) {
            let message = "routes that no IdentityPolicy covers are open to everyone: the GatewayClass asks for it";
            report.push(&id, "spec.gatewayClassName", Condition::Accepted, Cause::DangerousOption, message);
        }
        let part = world.part_of(gateway);
        if !has_infrastructure(world, gateway, &part, &id, report) {
            continue;
        }
        if gateway.spec.tls.as_ref().is_some_and(|tls| tls.frontend.is_some()) {
            let message = "certificates of callers are the `mtls` method of an IdentityPolicy: remove `frontend`";
            report.push(&id, "spec.tls.frontend", Condition::Accepted, Cause::InvalidParameters, message);
            continue;
        }
        let known = [None, Some("IPAddress"), Some("Hostname")];
        let addresses = gateway.spec.addresses.iter().flatten();
        if let Some(i) = addresses.clone().position(|address| !known.contains(&address.r#type.as_deref())) {
            let message = "an address must be of type IPAddress or Hostname";
            let path = format!("spec.addresses[{i}].type");
            report.push(&id, path, Condition::Accepted, Cause::UnsupportedAddress, message);
            continue;
        }
        let ports = all_ports.entry(part.clone()).or_default();
        for (position, spec) in gateway.spec.listeners.iter().enumerate() {
            let path = format!("spec.listeners[{position}]");
            let kinds = route_kinds(spec);
            if let Err((cause, message)) = ports.take(&part, spec) {
                report.push(&id, path, Condition::Accepted, cause, message);
                continue;
            }
            if !kinds.all_known {
                let message = "allowedRoutes.kinds must name HTTPRoute and GRPCRoute only: no other kind is served";
                let at = format!("{path}.allowedRoutes.kinds");
                report.push(&id, at, Condition::ResolvedRefs, Cause::InvalidRouteKinds, message);
            }
            let serves = !is_secure(spec);
            listeners.push(Listener { gateway, spec, position, serves, kinds });
        }
    }
    (listeners, all_ports)
}

/// Whether a Gateway may take routes, as far as its place and its parameters go. Parameters that cannot be used leave
/// its gateway as it was, so that a mistake in them stops no traffic: the Gateway is not accepted, and goes on.
fn has_infrastructure(world: &World, gateway: &Gateway, part: &Part, id: &ObjectId, report: &mut Report) -> bool {
    let path = "spec.infrastructure.parametersRef";
    let mut refuse = |path: &str, message: String| {
        report.push(id, path, Condition::Accepted, Cause::InvalidParameters, message);
    };
    if let Err(why) = wish(gateway) {
        refuse(&format!("metadata.annotations[{}]", idm_api::LAYOUT_ANNOTATION), why);
    }
    let has_parameters = !matches!(config_map(gateway), Ok(None));
    if *part == Part::Shared && has_parameters && world.settings.layout != Layout::OneProcess {
        let message = format!(
            "a Gateway that shares the namespace's gateway has no parameters: annotate it with `{}: own`",
            idm_api::LAYOUT_ANNOTATION
        );
        refuse(path, message);
        return false;
    }
    if let Err(why) = parameters(world, gateway) {
        refuse(path, why);
    }
    true
}

/// Whether a parent of a route of this namespace is a Gateway of ours in the world's.
pub(crate) fn is_ours(world: &World, parent: &HttpRouteParentRefs, namespace: &str) -> bool {
    let kind = parent.kind.as_deref().unwrap_or("Gateway") == "Gateway"
        && parent.group.as_deref().unwrap_or("gateway.networking.k8s.io") == "gateway.networking.k8s.io";
    kind && parent.namespace.as_deref().unwrap_or(namespace) == world.namespace
        && world.our_gateways().any(|gateway| gateway.name_any() == parent.name)
}

/// The listeners that take a route of a namespace under one of its parents, with the hosts that they have in common.
/// Never empty.
pub(crate) fn taking<'w>(
    world: &World,
    listeners: &[Listener<'w>],
    parent: &HttpRouteParentRefs,
    route: &Route,
    namespace: &str,
) -> Result<Vec<(Listener<'w>, Host)>, NotTaken> {
    let mut matching = listeners
        .iter()
        .filter(|Listener { gateway, spec, .. }| {
            is_ours(world, parent, namespace)
                && parent.name == gateway.name_any()
                && parent.section_name.as_deref().is_none_or(|section| section == spec.name)
                && parent.port.is_none_or(|port| port == spec.port)
        })
        .peekable();
    matching.peek().ok_or(NotTaken::NoMatchingParent)?;
    let allows = |listener: &&Listener<'_>| {
        listener.kinds.hold(route.kind()) && allows_namespace(world, listener.spec, namespace)
    };
    let mut allowing = matching.filter(allows).peekable();
    allowing.peek().ok_or(NotTaken::NotAllowedByListeners)?;
    let taken = allowing.flat_map(|listener| {
        intersect(listener.spec.hostname.as_deref(), route).into_iter().map(|host| (*listener, host))
    });
    let taken: Vec<_> = taken.collect();
    if taken.is_empty() { Err(NotTaken::NoMatchingListenerHostname) } else { Ok(taken) }
}

/// Whether requests for a host, which a listener has in common with a route, are for a listener of the same Gateway
/// that has a narrower hostname (GatewayHTTPListenerIsolation): each request is for one listener only.
pub(crate) fn is_isolated(listeners: &[Listener<'_>], of: &Listener<'_>, host: &Host) -> bool {
    let Some(wide) = host_of(of.spec) else { return false };
    narrower_listeners(listeners, of, &wide).iter().any(|narrow| covers(narrow, host))
}

/// The hosts of listeners for which another listener of the same Gateway must not serve, though it has a hostname that
/// covers theirs.
pub(crate) fn isolated_hosts<'w>(listeners: &[Listener<'w>]) -> Vec<(Listener<'w>, Host)> {
    let wide = listeners.iter().filter_map(|of| Some((of, host_of(of.spec)?)));
    let narrow = wide.flat_map(|(of, host)| {
        let narrow = narrower_listeners(listeners, of, &host);
        narrow.into_iter().map(|narrow| (*of, narrow))
    });
    narrow.collect()
}

fn narrower_listeners(listeners: &[Listener<'_>], of: &Listener<'_>, wide: &Host) -> Vec<Host> {
    let beside = listeners.iter().filter(|other| {
        other.gateway.metadata.name == of.gateway.metadata.name
            && (&other.spec.protocol, other.spec.port) == (&of.spec.protocol, of.spec.port)
    });
    beside.filter_map(|other| host_of(other.spec)).filter(|host| host != wide && covers(wide, host)).collect()
}

/// The hosts that a listener is for; `None`: the hostname is none.
pub(crate) fn host_of(listener: &GatewayListeners) -> Option<Host> {
    listener.hostname.as_deref().map_or(Some(Host::Any), parse_host)
}

/// Whether some name is of both hosts.
pub(crate) fn overlap(a: &Host, b: &Host) -> bool {
    narrower(a, b).is_some()
}

fn covers(wide: &Host, host: &Host) -> bool {
    narrower(wide, host).as_ref() == Some(host)
}

/// Whether a listener allows routes of a namespace.
fn allows_namespace(world: &World, listener: &GatewayListeners, namespace: &str) -> bool {
    let namespaces = listener.allowed_routes.as_ref().and_then(|allowed| allowed.namespaces.as_ref());
    match namespaces.and_then(|namespaces| namespaces.from.as_ref()).unwrap_or(&From::Same) {
        From::Same => namespace == world.namespace,
        From::All => true,
        From::Selector => {
            let selector = namespaces.and_then(|namespaces| namespaces.selector.as_ref());
            selector.zip(world.namespaces.get(namespace)).is_some_and(|(selector, labels)| selects(selector, labels))
        }
    }
}

/// Whether a selector takes these labels. An operator that is not known takes none.
fn selects(selector: &Selector, labels: &BTreeMap<String, String>) -> bool {
    let Selector { match_expressions, match_labels } = selector;
    let fits = match_labels.iter().flatten().all(|(name, value)| labels.get(name) == Some(value));
    fits && match_expressions.iter().flatten().all(|expression| {
        let value = labels.get(&expression.key);
        let listed = value.is_some_and(|value| expression.values.iter().flatten().any(|of| of == value));
        match expression.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    })
}

/// The hosts that listener and route have in common.
fn intersect(listener: Option<&str>, route: &Route) -> Vec<Host> {
    let listener = listener.map_or(Some(Host::Any), parse_host);
    let Some(listener) = listener else { return vec![] };
    let hostnames = route.hostnames();
    if hostnames.is_empty() {
        return vec![listener];
    }
    hostnames.iter().filter_map(|h| parse_host(h)).filter_map(|host| narrower(&listener, &host)).collect()
}

fn narrower(a: &Host, b: &Host) -> Option<Host> {
    let below = |name: &str, domain: &str| name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    match (a, b) {
        (Host::Any, other) | (other, Host::Any) => Some(other.clone()),
        (Host::Exact(a), Host::Exact(b)) => (a == b).then(|| Host::Exact(a.clone())),
        (Host::Exact(name), Host::Below(domain)) | (Host::Below(domain), Host::Exact(name)) => {
            below(name, domain).then(|| Host::Exact(name.clone()))
        }
        (Host::Below(a), Host::Below(b)) if a == b || below(a, b) => Some(Host::Below(a.clone())),
        (Host::Below(a), Host::Below(b)) => below(b, a).then(|| Host::Below(b.clone())),
    }
}

pub(crate) fn parse_host(text: &str) -> Option<Host> {
    if text == "*" {
        return Some(Host::Any);
    }
    let text = text.to_ascii_lowercase();
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let valid = |name: &str| name.len() <= 253 && name.split('.').all(label);
    match text.strip_prefix("*.") {
        Some(domain) => valid(domain).then(|| Host::Below(domain.to_owned())),
        None => valid(&text).then_some(Host::Exact(text)),
    }
}
