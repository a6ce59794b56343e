//! The kinds that the operator watches.

use idm_compile::RouteKind;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};

/// A watched kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    IdentityPolicy,
    Credential,
    Federation,
    RoleBinding,
    UsagePlan,
    CredentialRequest,
    HttpRoute,
    GrpcRoute,
    Gateway,
    GatewayClass,
    BackendTlsPolicy,
    ReferenceGrant,
    Service,
    Namespace,
    /// Pods of gateways.
    Pod,
    /// Deployments of gateways.
    Deployment,
}

impl Kind {
    pub(crate) const ALL: &[Kind] = &[
        Kind::IdentityPolicy,
        Kind::Credential,
        Kind::Federation,
        Kind::RoleBinding,
        Kind::UsagePlan,
        Kind::CredentialRequest,
        Kind::HttpRoute,
        Kind::GrpcRoute,
        Kind::Gateway,
        Kind::GatewayClass,
        Kind::BackendTlsPolicy,
        Kind::ReferenceGrant,
        Kind::Service,
        Kind::Namespace,
        Kind::Pod,
        Kind::Deployment,
    ];

    /// The kinds of routes.
    pub(crate) const ROUTES: &[Kind] = &[Kind::HttpRoute, Kind::GrpcRoute];

    /// The watched kind of a kind of routes.
    pub(crate) fn of_route(kind: RouteKind) -> Self {
        match kind {
            RouteKind::Http => Kind::HttpRoute,
            RouteKind::Grpc => Kind::GrpcRoute,
        }
    }

    /// Our own kinds, whose changes are audited.
    pub(crate) const OURS: &[Kind] = &[
        Kind::IdentityPolicy,
        Kind::Credential,
        Kind::Federation,
        Kind::RoleBinding,
        Kind::UsagePlan,
        Kind::CredentialRequest,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::IdentityPolicy => "IdentityPolicy",
            Kind::Credential => "Credential",
            Kind::Federation => "Federation",
            Kind::RoleBinding => "RoleBinding",
            Kind::UsagePlan => "UsagePlan",
            Kind::CredentialRequest => "CredentialRequest",
            Kind::HttpRoute => "HTTPRoute",
            Kind::GrpcRoute => "GRPCRoute",
            Kind::Gateway => "Gateway",
            Kind::GatewayClass => "GatewayClass",
            Kind::BackendTlsPolicy => "BackendTLSPolicy",
            Kind::ReferenceGrant => "ReferenceGrant",
            Kind::Service => "Service",
            Kind::Namespace => "Namespace",
            Kind::Pod => "Pod",
            Kind::Deployment => "Deployment",
        }
    }

    /// A reference to an object of this kind, as events have it.
    pub(crate) fn reference(self, namespace: Option<&str>, name: &str, uid: Option<String>) -> ObjectReference {
        ObjectReference {
            api_version: Some(self.resource().api_version),
            kind: Some(self.name().into()),
            name: Some(name.into()),
            namespace: namespace.map(Into::into),
            uid,
            ..ObjectReference::default()
        }
    }

    pub(crate) fn resource(self) -> ApiResource {
        let (group, version, plural) = match self {
            Kind::IdentityPolicy => (idm_api::GROUP, "v1alpha1", "identitypolicies"),
            Kind::Credential => (idm_api::GROUP, "v1alpha1", "credentials"),
            Kind::Federation => (idm_api::GROUP, "v1alpha1", "federations"),
            Kind::RoleBinding => (idm_api::GROUP, "v1alpha1", "rolebindings"),
            Kind::UsagePlan => (idm_api::GROUP, "v1alpha1", "usageplans"),
            Kind::CredentialRequest => (idm_api::GROUP, "v1alpha1", "credentialrequests"),
            Kind::HttpRoute => ("gateway.networking.k8s.io", "v1", "httproutes"),
            Kind::GrpcRoute => ("gateway.networking.k8s.io", "v1", "grpcroutes"),
            Kind::Gateway => ("gateway.networking.k8s.io", "v1", "gateways"),
            Kind::GatewayClass => ("gateway.networking.k8s.io", "v1", "gatewayclasses"),
            Kind::BackendTlsPolicy => ("gateway.networking.k8s.io", "v1", "backendtlspolicies"),
            Kind::ReferenceGrant => ("gateway.networking.k8s.io", "v1beta1", "referencegrants"),
            Kind::Service => ("", "v1", "services"),
            Kind::Namespace => ("", "v1", "namespaces"),
            Kind::Pod => ("", "v1", "pods"),
            Kind::Deployment => ("apps", "v1", "deployments"),
        };
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, self.name()), plural)
    }

    /// Only objects with this label are watched.
    pub(crate) fn selector(self) -> Option<&'static str> {
        matches!(self, Kind::Pod | Kind::Deployment)
            .then_some("app.kubernetes.io/component=gateway,app.kubernetes.io/managed-by=idm-operator")
    }

    /// Part of the Gateway API, which need not be installed.
    pub(crate) fn is_optional(self) -> bool {
        use Kind::{BackendTlsPolicy, Gateway, GatewayClass, GrpcRoute, HttpRoute, ReferenceGrant};
        matches!(self, HttpRoute | GrpcRoute | Gateway | GatewayClass | BackendTlsPolicy | ReferenceGrant)
    }

    pub(crate) fn all(self, client: &Client) -> Api<DynamicObject> {
        Api::all_with(client.clone(), &self.resource())
    }

    pub(crate) fn api(self, client: &Client, namespace: &str) -> Api<DynamicObject> {
        if namespace.is_empty() {
            self.all(client)
        } else {
            Api::namespaced_with(client.clone(), namespace, &self.resource())
        }
    }
}
