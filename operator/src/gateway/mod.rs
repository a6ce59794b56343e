//! The gateways of one namespace: their objects, how they are written, and their observed state.

mod apply;
mod ask;
mod audit;
mod backend_tls;
mod blocks;
mod build;
mod deployment;
mod gateway_api;
mod limits;
mod observe;
mod part;
mod scale;
mod seal;
mod shards;
mod status;
mod telemetry;

use idm_compile::{Layout, Meta};
use idm_types::Redacted;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

pub(crate) use apply::{Cluster, Write, apply, current_bundle, remove, write_keys};
pub(crate) use ask::{ask, control_token};
pub use audit::AuditSettings;
pub(crate) use audit::key_of;
pub(crate) use build::{BUNDLE_LABEL, Built, build, shared_metadata};
pub(crate) use gateway_api::{accept_classes, has_parents_elsewhere};
pub use limits::CallerLimits;
pub(crate) use observe::{Observed, Running, observe, pods, reads_shards};
pub(crate) use part::{is_name, is_of, name};
pub(crate) use seal::{Sealed, ToSeal, seal};
pub(crate) use shards::{Stored, empty as empty_shards, write as write_shards};
pub(crate) use status::{conditions, note, publish};
pub use telemetry::Telemetry;

use crate::sealing::GatewaySealing;

/// The name of every object of a namespace's own gateway. Those of its Gateways begin with it.
pub(crate) const NAME: &str = "idm-gateway";

/// The settings of gateways, from the operator's options.
#[derive(Clone, Debug)]
pub struct GatewaySettings {
    /// The operator's namespace: it may reach the control port, where metrics are too.
    pub operator_namespace: String,
    /// Other namespaces that may reach it, for their metrics.
    pub metrics_namespaces: Vec<String>,
    /// The image.
    pub image: String,
    /// Its pull policy.
    pub pull_policy: String,
    /// The gateways that serve a namespace.
    pub layout: Layout,
    /// The number of pods.
    pub replicas: i32,
    /// CPU request.
    pub cpu_request: String,
    /// Memory limit.
    pub memory_limit: String,
    /// The limits of callers.
    pub limits: CallerLimits,
    /// Their output about their traffic.
    pub telemetry: Telemetry,
    /// The value of the `Authorization` header for the collector of traces.
    pub traces_authorization: Option<Redacted<String>>,
    /// `refuse` or `shed`.
    pub audit_on_full: String,
    /// `within-moments` or `before-answer`.
    pub audit_successes: String,
    /// The settings of sealing for them; `None`: nothing is sealed.
    pub sealing: Option<GatewaySealing>,
    /// The store that the gateways share.
    pub store: Option<String>,
    /// The password for it.
    pub store_password: Option<Redacted<String>>,
    /// The address where records are shipped.
    pub elasticsearch: Option<String>,
    /// The `Authorization` header for it.
    pub elasticsearch_authorization: Option<Redacted<String>>,
    /// How long records are kept there.
    pub kept: idm_audit::Retention,
    /// The key of the hashes that chain records, in the operator and in gateways.
    pub chain_key: Option<Redacted<String>>,
}

/// An owner reference: Kubernetes deletes the object with its owner.
pub(crate) fn owner(kind: &str, meta: &Meta) -> OwnerReference {
    OwnerReference {
        api_version: "identity-manager.io/v1alpha1".into(),
        kind: kind.into(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        ..OwnerReference::default()
    }
}
