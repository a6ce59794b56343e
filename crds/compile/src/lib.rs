//! Compiles the objects that users wrote into the configuration that a gateway enforces.
//!
//! In: a [`World`], one consistent snapshot of a namespace's objects and the Secrets they name, with those of the
//! namespaces whose routes its Gateways take. Out: a [`Plan`], its
//! secrets, the Credentials, and a [`Report`] of findings. Pure: no IO, no clock, no client; the operator and the
//! folder reader share all of it. A part that cannot be compiled stays in the plan and refuses its requests. Start at
//! [`compile`]; then `attach.rs` (attachment of policies to targets), `lower/` (one file per kind).

mod attach;
mod attached;
mod class;
mod compile;
mod coverage;
mod effective;
mod grants;
mod key_secrets;
mod listeners;
mod lower;
mod lowered;
mod parameters;
mod part;
mod passwords;
pub mod permissions;
mod register;
mod report;
mod request;
mod routes;
mod signing;
mod supply;
mod tenants;
mod topology;
mod world;
pub mod yaml;

pub use class::{Classes, Uncovered, is_our_class};
pub use compile::{Compiled, NotTaken, RouteStatus, compile, compile_credentials};
pub use coverage::{Coverage, Covered};
pub use effective::{EffectivePolicy, Holding, Overriding, Setting, SettingSource, effective};
pub use key_secrets::{KeySecret, KnownKey};
pub use listeners::{ListenerPorts, RouteKinds, route_kinds};
pub use lower::backend_tls::targeted_services;
pub use lower::directory::{NAMED_BY, PROVISIONED_BY, user_name_attributes};
pub use lower::held_keys::held as held_keys;
pub use lower::rotation::{Due, due};
pub use lowered::LoweredCredentials;
pub use parameters::{
    Autoscaling, ExternalTrafficPolicy, Parameters, Quantity, ResourceName, Resources, ServiceParameters, ServiceType,
    TaintEffect, Toleration, TolerationOperator, TopologySpread,
};
pub use part::{CompiledPart, Layout, Part, in_force};
pub use passwords::PasswordHashes;
pub use permissions::PermissionSettings;
pub use register::{KeyRecord, REGISTER_FIELD, REGISTER_SECRET, Register, RegisterFull, parse_long_span, parse_span};
pub use report::{Cause, Condition, Finding, ObjectId, Report};
pub use request::{
    APPROVED_BY_ANNOTATION, REQUEST_HASH_ANNOTATION, REQUESTED_BY_ANNOTATION, RecipientError, RequestFault,
    check_request, encrypted_to, hash_secret_name, key_hash, made_credential, request_hash,
};
pub use routes::{Route, RouteKind};
pub use signing::{SIGNING_SECRET, new_signing_keys, rotated, signing_secret};
pub use supply::{Supply, missing_secrets};
pub use tenants::attached_elsewhere;
pub use topology::{Edge, Node, Relation, State, Topology, topology};
pub use world::{Broken, Meta, Object, SecretValues, Settings, World};

use idm_plan::Plan;

/// The names by which in-cluster clients call a Service.
pub(crate) fn service_names(name: &str, namespace: &str) -> [String; 4] {
    [
        name.to_owned(),
        format!("{name}.{namespace}"),
        format!("{name}.{namespace}.svc"),
        format!("{name}.{namespace}.svc.cluster.local"),
    ]
}

/// The policy of the last plan with this uid, if it was in force.
pub(crate) fn previous_policy<'a>(previous: Option<&'a Plan>, uid: &str) -> Option<&'a idm_plan::Policy> {
    previous?.policies.iter().find(|policy| policy.uid == uid)
}
