//! HTTPRoutes and GRPCRoutes under one form.
//!
//! All that a GRPCRoute says beside its matches has the fields and the meaning of an HTTPRoute's, so it is read as one.

use gateway_api::apis::standard::grpcroutes::{GrpcRoute, GrpcRouteRulesMatches};
use gateway_api::apis::standard::httproutes::{HttpRoute, HttpRouteParentRefs, HttpRouteRules};
use kube::ResourceExt;
use serde_json::Value;

/// A kind of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteKind {
    /// HTTPRoutes.
    Http,
    /// GRPCRoutes.
    Grpc,
}

impl RouteKind {
    /// All of them.
    pub const ALL: [Self; 2] = [RouteKind::Http, RouteKind::Grpc];

    /// The kind in the Gateway API.
    pub const fn name(self) -> &'static str {
        match self {
            RouteKind::Http => "HTTPRoute",
            RouteKind::Grpc => "GRPCRoute",
        }
    }

    /// The kind of this name in the Gateway API.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A route of either kind.
#[derive(Clone, Debug)]
pub struct Route {
    kind: RouteKind,
    /// The route, without its matches where it is a GRPCRoute.
    object: HttpRoute,
    /// The matches of each rule of a GRPCRoute.
    calls: Vec<Vec<GrpcRouteRulesMatches>>,
}

impl From<HttpRoute> for Route {
    fn from(object: HttpRoute) -> Self {
        Self { kind: RouteKind::Http, object, calls: vec![] }
    }
}

impl TryFrom<GrpcRoute> for Route {
    type Error = serde_json::Error;

    fn try_from(mut route: GrpcRoute) -> Result<Self, Self::Error> {
        let rules = route.spec.rules.iter_mut().flatten();
        let calls = rules.map(|rule| rule.matches.take().unwrap_or_default()).collect();
        route.status = None;
        let mut value = serde_json::to_value(route)?;
        value["kind"] = Value::from(RouteKind::Http.name());
        Ok(Self { kind: RouteKind::Grpc, object: serde_json::from_value(value)?, calls })
    }
}

impl Route {
    /// Its kind.
    pub fn kind(&self) -> RouteKind {
        self.kind
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.object.name_any()
    }

    /// The time of its creation, in RFC 3339.
    pub(crate) fn created(&self) -> String {
        self.object.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string()).unwrap_or_default()
    }

    /// The Gateways that it asks for.
    pub fn parents(&self) -> impl Iterator<Item = &HttpRouteParentRefs> {
        self.object.spec.parent_refs.iter().flatten()
    }

    /// The hostnames that it asks for.
    pub(crate) fn hostnames(&self) -> &[String] {
        self.object.spec.hostnames.as_deref().unwrap_or_default()
    }

    /// Its rules.
    pub(crate) fn rules(&self) -> impl Iterator<Item = Rule<'_>> {
        let rules = self.object.spec.rules.iter().flatten().enumerate();
        rules.map(|(i, rule)| {
            let calls = self.calls.get(i).map(Vec::as_slice).filter(|_| self.kind == RouteKind::Grpc);
            Rule { kind: self.kind, rule, calls: calls.unwrap_or_default() }
        })
    }

    /// The namespace, where it is named, and the name of each Service that it refers to.
    pub fn referred_services(&self) -> impl Iterator<Item = (Option<&str>, &str)> {
        self.object.spec.rules.iter().flatten().flat_map(|rule| {
            let backends = rule.backend_refs.iter().flatten().map(|of| (of.namespace.as_deref(), of.name.as_str()));
            let mirrors = rule.filters.iter().flatten().filter_map(|filter| filter.request_mirror.as_ref());
            let mirrors = mirrors.map(|mirror| &mirror.backend_ref);
            backends.chain(mirrors.map(|of| (of.namespace.as_deref(), of.name.as_str())))
        })
    }
}

/// A rule of a route of either kind.
#[derive(Clone, Copy)]
pub(crate) struct Rule<'r> {
    pub(crate) kind: RouteKind,
    /// Without its matches where it is one of a GRPCRoute.
    pub(crate) rule: &'r HttpRouteRules,
    /// The matches of a rule of a GRPCRoute.
    pub(crate) calls: &'r [GrpcRouteRulesMatches],
}
