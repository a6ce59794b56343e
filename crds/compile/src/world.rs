use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gateway_api::apis::standard::backendtlspolicies::BackendTlsPolicy;
use gateway_api::apis::standard::gateways::Gateway;
use gateway_api::apis::standard::referencegrants::ReferenceGrant;
use idm_api::v1alpha1::{
    Credential, CredentialRequest, CredentialRequestSpec, CredentialSpec, Federation, FederationSpec, IdentityPolicy,
    IdentityPolicySpec, References, ReferredNames, RoleBinding, RoleBindingSpec, UsagePlan, UsagePlanSpec,
};
use idm_types::Redacted;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use kube::core::ObjectMeta;

use crate::key_secrets::{KeySecret, hashes_suffice};
use crate::lowered::LoweredCredentials;
use crate::parameters::config_map;
use crate::{Classes, Layout, ObjectId, PasswordHashes, Register, Route};

/// The trust in the writers of the objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Backends on this machine are allowed: true for a folder, whose author runs the gateway; never in a cluster.
    pub local_backends: bool,
    /// Key URLs without TLS or on this machine are allowed: only by an explicit, dangerous flag.
    pub danger_insecure_issuers: bool,
    /// All processes that serve the plan share the record of used and revoked values: true for a folder, which one
    /// process serves.
    pub remembers_together: bool,
    /// The gateways that serve the namespace.
    pub layout: Layout,
}

impl Settings {
    /// A folder: its author runs the gateway, and one process serves it.
    pub fn of_a_folder(danger_insecure_issuers: bool) -> Self {
        Self { local_backends: true, danger_insecure_issuers, remembers_together: true, layout: Layout::OneProcess }
    }
}

/// The parts of an object's metadata that compile needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// The name.
    pub name: String,
    /// The uid; for a folder, the object's kind and name.
    pub uid: String,
    /// The generation.
    pub generation: i64,
    /// Creation time in RFC 3339: older policies win conflicts.
    pub created: String,
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// The time when a user asked for new keys: the annotation of [`idm_api::ROTATE_ANNOTATION`].
    pub rotate: Option<String>,
    /// Ids of keys to revoke: the annotation of [`idm_api::REVOKE_ANNOTATION`].
    pub revoke: Option<String>,
}

impl Meta {
    /// Reads the needed parts from Kubernetes metadata.
    pub fn of(meta: &ObjectMeta, kind: &str) -> Self {
        let name = meta.name.clone().unwrap_or_default();
        let annotation = |name: &str| meta.annotations.as_ref().and_then(|all| all.get(name).cloned());
        Self {
            uid: meta.uid.clone().unwrap_or_else(|| format!("{kind}/{name}")),
            generation: meta.generation.unwrap_or(1),
            created: meta.creation_timestamp.as_ref().map(|t| t.0.to_string()).unwrap_or_default(),
            labels: meta.labels.clone().unwrap_or_default(),
            rotate: annotation(idm_api::ROTATE_ANNOTATION),
            revoke: annotation(idm_api::REVOKE_ANNOTATION),
            name,
        }
    }
}

/// An object of one of our kinds.
#[derive(Clone, Debug, PartialEq)]
pub struct Object<S> {
    /// Its metadata.
    pub meta: Meta,
    /// Its spec.
    pub spec: S,
}

/// An object of ours that could not be read: the requests that it covers are refused, as if it were in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Broken {
    /// The object.
    pub id: ObjectId,
    /// Its metadata.
    pub meta: Meta,
    /// The reason why it could not be read.
    pub message: String,
    /// For a policy, the targets that could still be read.
    pub targets: Vec<idm_api::v1alpha1::TargetReference>,
}

/// The values of a Secret by key.
pub type SecretValues = BTreeMap<String, Redacted<Vec<u8>>>;

/// One consistent snapshot of a namespace.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The namespace.
    pub namespace: String,
    /// The GatewayClasses that are ours.
    pub classes: Classes,
    /// Trust in the writers.
    pub settings: Settings,
    /// IdentityPolicies.
    pub policies: Vec<Object<IdentityPolicySpec>>,
    /// Credentials.
    pub credentials: Vec<Arc<Object<CredentialSpec>>>,
    /// Federations.
    pub federations: Vec<Object<FederationSpec>>,
    /// RoleBindings.
    pub role_bindings: Vec<Object<RoleBindingSpec>>,
    /// UsagePlans.
    pub usage_plans: Vec<Object<UsagePlanSpec>>,
    /// CredentialRequests of a folder, which are checked and not answered: a cluster's operator has them elsewhere.
    pub requests: Vec<Object<CredentialRequestSpec>>,
    /// Objects of ours that could not be read.
    pub broken: Vec<Broken>,
    /// HTTPRoutes and GRPCRoutes of the namespace.
    pub routes: Vec<Route>,
    /// Gateways of the namespace, of every class.
    pub gateways: Vec<Gateway>,
    /// The names of Gateways that the namespace's gateway serves: one that does not ask for a gateway of its own stays
    /// there, so that nothing moves to another address because a new version of the operator was installed.
    pub shared_gateways: BTreeSet<String>,
    /// Services of the namespace.
    pub services: Vec<Service>,
    /// BackendTLSPolicies of the namespace.
    pub backend_tls_policies: Vec<BackendTlsPolicy>,
    /// BackendTLSPolicies of the namespaces of [`World::granted_services`].
    pub granted_backend_tls: Vec<BackendTlsPolicy>,
    /// ReferenceGrants of other namespaces for references from this one.
    pub grants: Vec<ReferenceGrant>,
    /// Services of other namespaces, of [`World::granted_services`].
    pub granted: Vec<Service>,
    /// Secrets of other namespaces, of [`World::granted_secret_names`], by namespace and name.
    pub granted_secrets: BTreeMap<(String, String), SecretValues>,
    /// The labels of namespaces, by which listeners select those whose routes they take.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// See [`World::tenants`].
    pub(crate) tenants: Vec<World>,
    /// Whether it is one of the tenants of another world.
    pub(crate) is_tenant: bool,
    /// See [`World::platform`].
    pub(crate) platform: Option<Box<World>>,
    /// The addresses of the API server, which no backend may have; none for a folder.
    pub api_server: Vec<std::net::IpAddr>,
    /// The facts that RoleBindings with permissions rest on.
    pub permissions: crate::PermissionSettings,
    /// Hashes of passwords that were computed before.
    pub hashes: PasswordHashes,
    /// API keys that were compiled before.
    pub lowered: LoweredCredentials,
    /// The hashes of passwords that Secrets hold in clear text, by the name of their Credential.
    pub(crate) password_hashes: BTreeMap<String, String>,
    /// The Secrets that the objects name, by name and key.
    pub secrets: BTreeMap<String, SecretValues>,
    /// Those of which only the hashes of API keys are known, by name; what is in `secrets` too counts there.
    pub key_secrets: Arc<BTreeMap<String, KeySecret>>,
    /// The register of keys of Credentials, beside their Secrets.
    pub register: Register,
    /// The ConfigMaps that the objects name, by name and key.
    pub config_maps: BTreeMap<String, BTreeMap<String, String>>,
}

impl World {
    /// An empty namespace.
    pub fn new(namespace: &str, settings: Settings) -> Self {
        Self { namespace: namespace.to_owned(), settings, ..Self::default() }
    }

    /// Adds an object of ours from its JSON; an object that cannot be read becomes [`Broken`]. Returns false for other
    /// kinds.
    pub fn insert(&mut self, object: serde_json::Value) -> bool {
        match object.get("kind").and_then(|kind| kind.as_str()) {
            Some("IdentityPolicy") => {
                let targets =
                    object.pointer("/spec/targetRefs").cloned().and_then(|refs| serde_json::from_value(refs).ok());
                read::<IdentityPolicy>(
                    object,
                    "IdentityPolicy",
                    targets.unwrap_or_default(),
                    &mut self.broken,
                    |o, meta| self.policies.push(Object { meta, spec: o.spec }),
                )
            }
            Some("Credential") => read::<Credential>(object, "Credential", vec![], &mut self.broken, |o, meta| {
                self.credentials.push(Arc::new(Object { meta, spec: o.spec }))
            }),
            Some("Federation") => read::<Federation>(object, "Federation", vec![], &mut self.broken, |o, meta| {
                self.federations.push(Object { meta, spec: o.spec })
            }),
            Some("RoleBinding") => read::<RoleBinding>(object, "RoleBinding", vec![], &mut self.broken, |o, meta| {
                self.role_bindings.push(Object { meta, spec: o.spec })
            }),
            Some("UsagePlan") => read::<UsagePlan>(object, "UsagePlan", vec![], &mut self.broken, |o, meta| {
                self.usage_plans.push(Object { meta, spec: o.spec })
            }),
            Some("CredentialRequest") => {
                read::<CredentialRequest>(object, "CredentialRequest", vec![], &mut self.broken, |o, meta| {
                    self.requests.push(Object { meta, spec: o.spec })
                })
            }
            _ => return false,
        }
        true
    }

    /// The baselines of the cluster, which are in another namespace, the operator's.
    pub fn platform(&self) -> Option<&World> {
        self.platform.as_deref()
    }

    /// The namespace whose policies may be for a GatewayClass: the operator's, or that of a folder.
    pub(crate) fn platform_namespace(&self) -> &str {
        self.permissions.system_namespace.as_deref().unwrap_or(&self.namespace)
    }

    /// Takes the baselines of the cluster from the operator's namespace. Nothing else of it is kept.
    pub fn set_platform(&mut self, mut of: World) {
        let is_for_class =
            |targets: &[idm_api::v1alpha1::TargetReference]| targets.iter().any(|target| target.kind == "GatewayClass");
        of.policies.retain(|policy| is_for_class(&policy.spec.target_refs));
        of.broken.retain(|broken| broken.id.kind == "IdentityPolicy" && is_for_class(&broken.targets));
        let is_any = of.namespace != self.namespace && !(of.policies.is_empty() && of.broken.is_empty());
        self.platform = is_any.then(|| {
            let World { namespace, settings, policies, broken, .. } = of;
            let (classes, permissions) = (self.classes.clone(), self.permissions.clone());
            let mut kept = World { policies, broken, classes, permissions, ..World::new(&namespace, settings) };
            kept.is_tenant = true;
            kept.sort();
            Box::new(kept)
        });
    }

    /// The Gateways that are ours to serve.
    pub fn our_gateways(&self) -> impl Iterator<Item = &Gateway> {
        self.gateways.iter().filter(|gateway| self.classes.holds(gateway))
    }

    /// The names of the Secrets that the objects refer to.
    pub fn secret_names(&self) -> Vec<String> {
        let (mut names, values) = self.key_secret_names();
        names.extend(values);
        names.sort();
        names
    }

    /// The names of those of which more than the hashes of API keys is needed.
    pub(crate) fn value_secret_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.referred().secrets.into_iter().map(str::to_owned).collect();
        // A token service that names no Secret has its keys in the operator's.
        names.extend(self.policies.iter().filter_map(|policy| Some(crate::signing_secret(policy)?.0)));
        let is_here = |namespace: &Option<String>| namespace.as_ref().is_none_or(|of| *of == self.namespace);
        let listeners = self.our_gateways().flat_map(|g| &g.spec.listeners);
        let certificates =
            listeners.filter_map(|l| l.tls.as_ref()).flat_map(|tls| tls.certificate_refs.iter().flatten());
        names.extend(certificates.filter(|of| is_here(&of.namespace)).map(|reference| reference.name.clone()));
        let tls = self.our_gateways().filter_map(|gateway| gateway.spec.tls.as_ref()?.backend.as_ref());
        let shown = tls.filter_map(|backend| backend.client_certificate_ref.as_ref());
        names.extend(shown.filter(|of| is_here(&of.namespace)).map(|reference| reference.name.clone()));
        names.extend(self.authorities_of_backends("Secret"));
        names.sort();
        names.dedup();
        names
    }

    /// The names of the ConfigMaps that the objects refer to.
    pub fn config_map_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.referred().config_maps.into_iter().map(str::to_owned).collect();
        names.extend(self.authorities_of_backends("ConfigMap"));
        let parameters = self.our_gateways().filter_map(|gateway| config_map(gateway).ok().flatten());
        names.extend(parameters.map(str::to_owned));
        names.sort();
        names.dedup();
        names
    }

    /// The names of the objects of a kind that BackendTLSPolicies refer to.
    fn authorities_of_backends(&self, kind: &'static str) -> impl Iterator<Item = String> {
        let validations = self.backend_tls_policies.iter().map(|policy| &policy.spec.validation);
        let references = validations.flat_map(|validation| validation.ca_certificate_refs.iter().flatten());
        references.filter(move |reference| reference.kind == kind).map(|reference| reference.name.clone())
    }

    fn referred(&self) -> ReferredNames<'_> {
        let mut names = ReferredNames::default();
        self.policies.iter().for_each(|policy| policy.spec.refer(&mut names));
        self.federations.iter().for_each(|federation| federation.spec.refer(&mut names));
        let credentials = self.credentials.iter().filter(|object| !hashes_suffice(&object.spec));
        credentials.for_each(|credential| credential.spec.refer(&mut names));
        names
    }

    /// Puts everything in a fixed order, so that the same objects always give the same plan.
    pub fn sort(&mut self) {
        self.policies.sort_by(|a, b| a.meta.name.cmp(&b.meta.name));
        self.credentials.sort_by(|a, b| a.meta.name.cmp(&b.meta.name));
        self.federations.sort_by(|a, b| a.meta.name.cmp(&b.meta.name));
        self.role_bindings.sort_by(|a, b| a.meta.name.cmp(&b.meta.name));
        self.usage_plans.sort_by(|a, b| a.meta.name.cmp(&b.meta.name));
        self.requests.sort_by(|a, b| a.meta.name.cmp(&b.meta.name));
        self.routes.sort_by_cached_key(|route| (route.created(), route.name(), route.kind()));
        self.gateways.sort_by_key(|g| g.name_any());
        self.services.sort_by_key(|s| s.name_any());
        self.backend_tls_policies.sort_by_key(|policy| policy.name_any());
    }
}

fn read<K>(
    object: serde_json::Value,
    kind: &str,
    targets: Vec<idm_api::v1alpha1::TargetReference>,
    broken: &mut Vec<Broken>,
    keep: impl FnOnce(K, Meta),
) where
    K: serde::de::DeserializeOwned + kube::Resource<DynamicType = ()>,
{
    let metadata = object.get("metadata").cloned().unwrap_or_default();
    match serde_json::from_value::<K>(object) {
        Ok(object) => {
            let meta = Meta::of(object.meta(), kind);
            keep(object, meta);
        }
        Err(error) => {
            let meta: ObjectMeta = serde_json::from_value(metadata).unwrap_or_default();
            let id = ObjectId::new(
                kind,
                meta.namespace.as_deref().unwrap_or_default(),
                meta.name.as_deref().unwrap_or_default(),
            );
            broken.push(Broken { id, meta: Meta::of(&meta, kind), message: error.to_string(), targets });
        }
    }
}
