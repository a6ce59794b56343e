//! Lowers HTTPRoute rules and Services to backends, matches and timeouts.

use gateway_api::apis::standard::httproutes as hr;
use idm_plan::{
    Backend, BackendProtocol, Cors, HeaderEdit, HeaderMatch, PathMatch, QueryMatch, Redirect, Rewrite, Timeouts,
    canonical_path, is_local_address,
};
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::Notes;
use super::backend_tls::{Towards, towards};
use super::cors::lower_filter;
use super::policy::header_name;
use super::redirect::{lower_redirect, lower_rewrite};
use crate::grants::Foreign;
use crate::{Cause, World};

/// A rule with its references resolved.
#[derive(Clone)]
pub(crate) struct LoweredRule {
    pub(crate) backends: Vec<Backend>,
    /// The share of backends that do not exist or may not be used: its requests are refused.
    pub(crate) unresolved_weight: u64,
    pub(crate) timeouts: Timeouts,
    pub(crate) headers: Vec<HeaderEdit>,
    /// The requests are answered with it instead of forwarded.
    pub(crate) redirect: Option<Redirect>,
    pub(crate) rewrite: Option<Rewrite>,
    /// Edits of the backend's answer.
    pub(crate) answer: Vec<HeaderEdit>,
    /// The pages of other origins whose scripts may call.
    pub(crate) cors: Option<Cors>,
}

pub(crate) struct LoweredMatch {
    pub(crate) path: PathMatch,
    pub(crate) method: Option<String>,
    pub(crate) headers: Vec<HeaderMatch>,
    pub(crate) query: Vec<QueryMatch>,
}

impl LoweredMatch {
    /// A match that asks for a path only.
    pub(crate) fn of_path(path: PathMatch) -> Self {
        Self { path, method: None, headers: vec![], query: vec![] }
    }
}

/// The matches are lowered even if the rest fails, so that a broken rule still refuses the requests that it matches.
pub(crate) fn lower_rule(
    world: &World,
    path: &str,
    rule: &hr::HttpRouteRules,
    notes: &mut Notes<'_>,
) -> (Vec<LoweredMatch>, Option<LoweredRule>) {
    let hr::HttpRouteRules { backend_refs, filters, matches, name: _, timeouts } = rule;
    let before = std::mem::take(&mut notes.failed);
    let lowered = lower_matches(path, matches.as_deref().unwrap_or_default(), notes);
    let backends = lower_backends(world, path, backend_refs.as_deref().unwrap_or_default(), notes);
    let Filters { headers, redirect, rewrite, answer, cors } =
        lower_filters(path, filters.as_deref().unwrap_or_default(), &lowered, notes);
    if redirect.is_some() && backend_refs.as_ref().is_some_and(|refs| !refs.is_empty()) {
        let why = "a rule that redirects forwards nothing: it must not have backendRefs";
        notes.fail::<()>(format!("{path}.backendRefs"), Cause::Invalid, why);
    }
    if redirect.is_some() && (!headers.is_empty() || !answer.is_empty() || rewrite.is_some()) {
        let why = "a rule that redirects forwards nothing: there is no request or answer that could be changed";
        notes.fail::<()>(format!("{path}.filters"), Cause::Invalid, why);
    }
    let timeouts = lower_timeouts(path, timeouts.as_ref(), notes);
    let failed = std::mem::replace(&mut notes.failed, before);
    notes.failed |= failed;
    let (backends, unresolved_weight) = backends;
    (
        lowered,
        (!failed).then_some(LoweredRule {
            backends,
            unresolved_weight,
            timeouts,
            headers,
            redirect,
            rewrite,
            answer,
            cors,
        }),
    )
}

fn lower_matches(path: &str, matches: &[hr::HttpRouteRulesMatches], notes: &mut Notes<'_>) -> Vec<LoweredMatch> {
    if matches.is_empty() {
        return vec![LoweredMatch::of_path(PathMatch::Prefix(String::new()))];
    }
    let lowered = matches.iter().enumerate().map(|(i, m)| {
        let path = format!("{path}.matches[{i}]");
        let hr::HttpRouteRulesMatches { headers, method, path: path_match, query_params } = m;
        LoweredMatch {
            path: lower_path(&path, path_match.as_ref(), notes),
            method: method.as_ref().map(|m| format!("{m:?}").to_ascii_uppercase()),
            headers: lower_header_matches(&path, headers.as_deref().unwrap_or_default(), notes),
            query: lower_query_matches(&path, query_params.as_deref().unwrap_or_default(), notes),
        }
    });
    lowered.collect()
}

fn lower_path(path: &str, given: Option<&hr::HttpRouteRulesMatchesPath>, notes: &mut Notes<'_>) -> PathMatch {
    use hr::HttpRouteRulesMatchesPathType::*;
    let everything = PathMatch::Prefix(String::new());
    let Some(hr::HttpRouteRulesMatchesPath { r#type, value }) = given else { return everything };
    let value = value.as_deref().unwrap_or("/");
    let canonical = match canonical_path(value) {
        Ok(canonical) => canonical.into_owned(),
        Err(error) => {
            // The whole host is refused if the path cannot be determined.
            notes.fail::<()>(format!("{path}.path.value"), Cause::Invalid, format!("'{value}': {error}"));
            return everything;
        }
    };
    match r#type.as_ref().unwrap_or(&PathPrefix) {
        Exact => PathMatch::Exact(canonical),
        PathPrefix => PathMatch::Prefix(canonical.trim_end_matches('/').to_owned()),
        RegularExpression => {
            notes.fail::<()>(
                format!("{path}.path.type"),
                Cause::UnsupportedValue,
                "regular expressions are not supported: use Exact or PathPrefix",
            );
            everything
        }
    }
}

fn lower_header_matches(
    path: &str,
    headers: &[hr::HttpRouteRulesMatchesHeaders],
    notes: &mut Notes<'_>,
) -> Vec<HeaderMatch> {
    let mut lowered: Vec<HeaderMatch> = Vec::new();
    for (i, hr::HttpRouteRulesMatchesHeaders { name, r#type, value }) in headers.iter().enumerate() {
        let path = format!("{path}.headers[{i}]");
        if matches!(r#type, Some(hr::HttpRouteRulesMatchesHeadersType::RegularExpression)) {
            notes.fail::<()>(
                format!("{path}.type"),
                Cause::UnsupportedValue,
                "regular expressions are not supported: use Exact",
            );
        }
        let name = name.to_ascii_lowercase();
        // Gateway API: of several entries with one name only the first is used.
        if !lowered.iter().any(|h| h.name == name) {
            lowered.push(HeaderMatch { name, value: value.clone() });
        }
    }
    lowered
}

fn lower_query_matches(
    path: &str,
    parameters: &[hr::HttpRouteRulesMatchesQueryParams],
    notes: &mut Notes<'_>,
) -> Vec<QueryMatch> {
    let mut lowered: Vec<QueryMatch> = Vec::new();
    for (i, hr::HttpRouteRulesMatchesQueryParams { name, r#type, value }) in parameters.iter().enumerate() {
        let path = format!("{path}.queryParams[{i}]");
        if matches!(r#type, Some(hr::HttpRouteRulesMatchesQueryParamsType::RegularExpression)) {
            notes.fail::<()>(
                format!("{path}.type"),
                Cause::UnsupportedValue,
                "regular expressions are not supported: use Exact",
            );
        }
        if name.is_empty() || value.is_empty() {
            notes.fail::<()>(path, Cause::Invalid, "name and value must not be empty");
        }
        // Gateway API: of several entries with one name only the first is used. Names are not alike in another case.
        if !lowered.iter().any(|q| q.name == *name) {
            lowered.push(QueryMatch { name: name.clone(), value: value.clone() });
        }
    }
    lowered
}

/// The backends, and the weight of those that cannot be resolved: the others keep their share of the traffic.
fn lower_backends(
    world: &World,
    path: &str,
    refs: &[hr::HttpRouteRulesBackendRefs],
    notes: &mut Notes<'_>,
) -> (Vec<Backend>, u64) {
    let mut backends = Vec::new();
    let mut unresolved = 0;
    for (i, reference) in refs.iter().enumerate() {
        let failed = std::mem::take(&mut notes.failed);
        let weight = u32::try_from(reference.weight.unwrap_or(1)).unwrap_or(0);
        let backend = lower_backend(world, &format!("{path}.backendRefs[{i}]"), reference, weight, notes);
        if backend.is_none() && notes.ends_unresolved() {
            unresolved += u64::from(weight);
            notes.failed = failed;
        }
        notes.failed |= failed;
        backends.extend(backend);
    }
    (backends, unresolved)
}

fn lower_backend(
    world: &World,
    path: &str,
    reference: &hr::HttpRouteRulesBackendRefs,
    weight: u32,
    notes: &mut Notes<'_>,
) -> Option<Backend> {
    let hr::HttpRouteRulesBackendRefs { filters, group, kind, name, namespace, port, weight: _ } = reference;
    if filters.as_ref().is_some_and(|f| !f.is_empty()) {
        notes.fail::<()>(
            format!("{path}.filters"),
            Cause::UnsupportedValue,
            "filters of a backend are not supported: put them on the rule",
        );
    }
    if group.as_deref().unwrap_or_default() != "" || kind.as_deref().unwrap_or("Service") != "Service" {
        return notes.fail(path, Cause::InvalidKind, "a backend must be a Service");
    }
    let service = match find_service(world, namespace.as_deref(), name) {
        Ok(service) => service,
        Err((cause, message)) => return notes.fail(path, cause, message),
    };
    let Some(wanted) = port else {
        return notes.fail(format!("{path}.port"), Cause::Invalid, "a backend must name a port of its Service");
    };
    service_backend(world, path, service, |p| p.port == *wanted, weight, notes)
}

/// A Service of the namespace, or of another one whose ReferenceGrant permits it.
fn find_service<'w>(world: &'w World, namespace: Option<&str>, name: &str) -> Result<&'w Service, (Cause, String)> {
    let Some(namespace) = namespace.filter(|namespace| *namespace != world.namespace) else {
        let found = world.services.iter().find(|service| service.name_any() == name);
        return found.ok_or_else(|| (Cause::RefNotFound, format!("Service '{name}' must exist in this namespace")));
    };
    if !world.is_granted(Foreign { from: "HTTPRoute", kind: "Service", namespace, name }) {
        let message =
            format!("a ReferenceGrant in namespace '{namespace}' must permit HTTPRoutes of this one the Service");
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
    weight: u32,
    notes: &mut Notes<'_>,
) -> Option<Backend> {
    let name = service.name_any();
    let spec = service.spec.clone().unwrap_or_default();
    let Some(port) = spec.ports.unwrap_or_default().into_iter().find(|port| wanted(port)) else {
        return notes.fail(path, Cause::RefNotFound, format!("Service '{name}' must have the port that is named here"));
    };
    // Names of the IANA registry, which some write in upper case; a prefixed name is one name.
    let named = port.app_protocol.as_deref().map(str::to_ascii_lowercase);
    let (protocol, secure) = match named.as_deref() {
        None | Some("http" | "kubernetes.io/ws") => (BackendProtocol::Http1, false),
        Some("kubernetes.io/h2c") => (BackendProtocol::Http2, false),
        Some("https" | "kubernetes.io/wss") => (BackendProtocol::Http1, true),
        Some(other) => {
            return notes.fail(
                path,
                Cause::UnsupportedValue,
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
    Some(Backend { host, port: number, protocol, tls, weight, local })
}

/// The changes that the filters of a rule ask for.
#[derive(Default)]
struct Filters {
    headers: Vec<HeaderEdit>,
    redirect: Option<Redirect>,
    rewrite: Option<Rewrite>,
    answer: Vec<HeaderEdit>,
    cors: Option<Cors>,
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

fn lower_filters(
    path: &str,
    filters: &[hr::HttpRouteRulesFilters],
    matches: &[LoweredMatch],
    notes: &mut Notes<'_>,
) -> Filters {
    let mut found = Filters::default();
    for (i, filter) in filters.iter().enumerate() {
        let path = format!("{path}.filters[{i}]");
        let once = |taken: bool, name: &str, notes: &mut Notes<'_>| {
            let why = format!("a rule must have one filter {name} at most");
            !taken || notes.fail::<()>(path.clone(), Cause::Invalid, why).is_some()
        };
        if let Some(given) = &filter.request_redirect {
            if once(found.redirect.is_some(), "RequestRedirect", notes) {
                found.redirect = lower_redirect(&format!("{path}.requestRedirect"), given, matches, notes);
            }
        } else if let Some(given) = &filter.url_rewrite {
            if once(found.rewrite.is_some(), "URLRewrite", notes) {
                found.rewrite = lower_rewrite(&format!("{path}.urlRewrite"), given, matches, notes);
            }
        } else if let Some(given) = &filter.cors {
            if once(found.cors.is_some(), "CORS", notes) {
                found.cors = lower_filter(&format!("{path}.cors"), given, notes);
            }
        } else if let Some(modifier) = &filter.request_header_modifier {
            let hr::HttpRouteRulesFiltersRequestHeaderModifier { add, remove, set } = modifier;
            let set = set.iter().flatten().map(|h| (&h.name, &h.value));
            let add = add.iter().flatten().map(|h| (&h.name, &h.value));
            found.headers.extend(lower_edits(set, add, remove, |name| request_header(&path, name, notes)));
        } else if let Some(modifier) = &filter.response_header_modifier {
            let hr::HttpRouteRulesFiltersResponseHeaderModifier { add, remove, set } = modifier;
            let set = set.iter().flatten().map(|h| (&h.name, &h.value));
            let add = add.iter().flatten().map(|h| (&h.name, &h.value));
            found.answer.extend(lower_edits(set, add, remove, |name| answer_header(&path, name, notes)));
        } else {
            notes.fail::<()>(path, Cause::UnsupportedValue, unsupported(&filter.r#type));
        }
    }
    found
}

fn lower_edits<'f>(
    set: impl Iterator<Item = (&'f String, &'f String)>,
    add: impl Iterator<Item = (&'f String, &'f String)>,
    remove: &Option<Vec<String>>,
    mut named: impl FnMut(&str) -> Option<String>,
) -> Vec<HeaderEdit> {
    let mut edits = Vec::new();
    edits.extend(set.filter_map(|(name, value)| Some(HeaderEdit::Set(named(name)?, value.clone()))));
    edits.extend(add.filter_map(|(name, value)| Some(HeaderEdit::Add(named(name)?, value.clone()))));
    edits.extend(remove.iter().flatten().filter_map(|name| Some(HeaderEdit::Remove(named(name)?))));
    edits
}

fn request_header(path: &str, name: &str, notes: &mut Notes<'_>) -> Option<String> {
    let name = header_name(path, name, notes)?;
    if name.starts_with("x-authenticated-") {
        let why = format!("header '{name}' must be made by the policy's `upstream.headers`");
        return notes.fail(path, Cause::Invalid, why);
    }
    Some(name)
}

fn answer_header(path: &str, name: &str, notes: &mut Notes<'_>) -> Option<String> {
    let name = header_name(path, name, notes)?;
    if name.starts_with("access-control-") {
        return notes.fail(path, Cause::Invalid, format!("header '{name}' must be made by the filter CORS"));
    }
    Some(name)
}

/// The filter by its name in the Gateway API, and what is there instead of it.
fn unsupported(filter: &hr::HttpRouteRulesFiltersType) -> String {
    use hr::HttpRouteRulesFiltersType::*;
    let supported = "supported are CORS, RequestHeaderModifier, RequestRedirect, ResponseHeaderModifier and URLRewrite";
    let (name, instead) = match filter {
        Cors => return "a filter CORS must have its settings in `cors`".to_owned(),
        RequestHeaderModifier => {
            return "a filter RequestHeaderModifier must have its settings in `requestHeaderModifier`".to_owned();
        }
        RequestRedirect => return "a filter RequestRedirect must have its settings in `requestRedirect`".to_owned(),
        UrlRewrite => return "a filter URLRewrite must have its settings in `urlRewrite`".to_owned(),
        ResponseHeaderModifier => {
            return "a filter ResponseHeaderModifier must have its settings in `responseHeaderModifier`".to_owned();
        }
        RequestMirror => ("RequestMirror", ""),
        ExtensionRef => ("ExtensionRef", "; what a policy does is attached by its `targetRefs`"),
    };
    format!("filter {name} is not supported: {supported}{instead}")
}

fn lower_timeouts(path: &str, timeouts: Option<&hr::HttpRouteRulesTimeouts>, notes: &mut Notes<'_>) -> Timeouts {
    let Some(hr::HttpRouteRulesTimeouts { backend_request, request }) = timeouts else { return Timeouts::DEFAULT };
    let mut given = Vec::new();
    for (field, text) in [("request", request), ("backendRequest", backend_request)] {
        let Some(text) = text else { continue };
        match duration_ms(text) {
            Some(ms) => given.push(ms),
            None => {
                notes.fail::<()>(
                    format!("{path}.timeouts.{field}"),
                    Cause::Invalid,
                    format!("'{text}' must be a duration such as 500ms, 10s or 1m30s"),
                );
            }
        }
    }
    match given.iter().copied().filter(|ms| *ms > 0).min() {
        Some(ms) => Timeouts { response_head_ms: ms },
        None if given.is_empty() => Timeouts::DEFAULT,
        // "0s" disables the limit (GEP-1742).
        None => Timeouts { response_head_ms: 0 },
    }
}

/// A Gateway API duration (GEP-2257): up to four numbers with `h`, `m`, `s` or `ms`.
fn duration_ms(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|n| (1..=5).contains(n))?;
        let (number, after) = rest.split_at(digits);
        let number: u64 = number.parse().ok()?;
        let (factor, after) = if let Some(after) = after.strip_prefix("ms") {
            (1, after)
        } else if let Some(after) = after.strip_prefix('s') {
            (1000, after)
        } else if let Some(after) = after.strip_prefix('m') {
            (60_000, after)
        } else {
            (3_600_000, after.strip_prefix('h')?)
        };
        total += number * factor;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::duration_ms;

    #[test]
    fn durations_are_read_as_the_gateway_api_writes_them() {
        for (text, ms) in [
            ("0s", Some(0)),
            ("500ms", Some(500)),
            ("1m30s", Some(90_000)),
            ("1h", Some(3_600_000)),
            ("", None),
            ("10", None),
            ("-1s", None),
            ("1.5s", None),
        ] {
            assert_eq!(duration_ms(text), ms, "{text}");
        }
    }
}
