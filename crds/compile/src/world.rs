use std::collections::BTreeMap;

use gateway_api::apis::standard::gateways::Gateway;
use gateway_api::apis::standard::httproutes::HttpRoute;
use idm_api::v1alpha1::{
    Credential, CredentialSpec, Federation, FederationSpec, IdentityPolicy, IdentityPolicySpec, RoleBinding,
    RoleBindingSpec,
};
use idm_types::Redacted;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use kube::core::ObjectMeta;

use crate::{ObjectId, PasswordHashes};

/// How far the writers of the objects are trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Backends on this machine are allowed: true for a folder, whose author runs the gateway; never in a cluster.
    pub local_backends: bool,
    /// Key URLs without TLS or on this machine are allowed: only by an explicit, dangerous flag.
    pub danger_insecure_issuers: bool,
    /// All processes that serve the plan remember together what was used and revoked: true for a folder, which one
    /// process serves.
    pub remembers_together: bool,
}

impl Settings {
    /// A folder: whoever writes the policies runs the gateway, and one process serves them.
    pub fn of_a_folder(danger_insecure_issuers: bool) -> Self {
        Self { local_backends: true, danger_insecure_issuers, remembers_together: true }
    }
}

/// What compile needs of an object's metadata.
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
    /// When somebody asked for new keys: the annotation of [`idm_api::ROTATE_ANNOTATION`].
    pub rotate: Option<String>,
}

impl Meta {
    /// Takes what matters out of Kubernetes metadata.
    pub fn of(meta: &ObjectMeta, kind: &str) -> Self {
        let name = meta.name.clone().unwrap_or_default();
        Self {
            uid: meta.uid.clone().unwrap_or_else(|| format!("{kind}/{name}")),
            generation: meta.generation.unwrap_or(1),
            created: meta.creation_timestamp.as_ref().map(|t| t.0.to_string()).unwrap_or_default(),
            labels: meta.labels.clone().unwrap_or_default(),
            rotate: meta.annotations.as_ref().and_then(|all| all.get(idm_api::ROTATE_ANNOTATION).cloned()),
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

/// An object of ours that could not be read: it refuses what it covers instead of vanishing.
#[derive(Clone, Debug, PartialEq)]
pub struct Broken {
    /// The object.
    pub id: ObjectId,
    /// Its metadata.
    pub meta: Meta,
    /// Why it could not be read.
    pub message: String,
    /// For a policy, the targets that could still be read.
    pub targets: Vec<idm_api::v1alpha1::TargetReference>,
}

/// One consistent snapshot of a namespace.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The namespace.
    pub namespace: String,
    /// Trust in the writers.
    pub settings: Settings,
    /// IdentityPolicies.
    pub policies: Vec<Object<IdentityPolicySpec>>,
    /// Credentials.
    pub credentials: Vec<Object<CredentialSpec>>,
    /// Federations.
    pub federations: Vec<Object<FederationSpec>>,
    /// RoleBindings.
    pub role_bindings: Vec<Object<RoleBindingSpec>>,
    /// Objects of ours that could not be read.
    pub broken: Vec<Broken>,
    /// HTTPRoutes of the namespace.
    pub routes: Vec<HttpRoute>,
    /// Gateways of the namespace, of every class.
    pub gateways: Vec<Gateway>,
    /// Services of the namespace.
    pub services: Vec<Service>,
    /// Password hashes made by earlier compilations.
    pub hashes: PasswordHashes,
    /// The Secrets that the objects name, by name and key.
    pub secrets: BTreeMap<String, BTreeMap<String, Redacted<Vec<u8>>>>,
}

impl World {
    /// An empty namespace.
    pub fn new(namespace: &str, settings: Settings) -> Self {
        Self { namespace: namespace.to_owned(), settings, ..Self::default() }
    }

    /// Adds an object of ours from its JSON; what cannot be read becomes [`Broken`]. Returns false for other kinds.
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
                self.credentials.push(Object { meta, spec: o.spec })
            }),
            Some("Federation") => read::<Federation>(object, "Federation", vec![], &mut self.broken, |o, meta| {
                self.federations.push(Object { meta, spec: o.spec })
            }),
            Some("RoleBinding") => read::<RoleBinding>(object, "RoleBinding", vec![], &mut self.broken, |o, meta| {
                self.role_bindings.push(Object { meta, spec: o.spec })
            }),
            _ => return false,
        }
        true
    }

    /// The names of the Secrets that the objects refer to.
    pub fn secret_names(&self) -> Vec<String> {
        let of_policy = |policy: &Object<IdentityPolicySpec>| {
            let issuers =
                policy.spec.authentication.methods.iter().filter_map(|m| m.jwt.as_ref()).flat_map(|jwt| &jwt.issuers);
            let of_issuers = issuers.filter_map(|issuer| issuer.keys.as_ref()).flat_map(secrets_of_keys);
            let asked = policy
                .spec
                .authentication
                .methods
                .iter()
                .filter_map(|m| Some(m.introspection.as_ref()?.client_secret_ref.name.clone()));
            let mtls = policy.spec.authentication.methods.iter().filter_map(|m| m.mtls.as_ref());
            let bundles = mtls
                .flat_map(|m| [Some(&m.trust_bundle_ref), m.revocation_list_ref.as_ref()])
                .flatten()
                .map(|reference| reference.name.clone());
            let provider = policy.spec.llm.as_ref().map(|llm| llm.key_ref.name.clone());
            let exchange = policy
                .spec
                .upstream
                .as_ref()
                .and_then(|upstream| upstream.token_exchange.as_ref())
                .map(|exchange| exchange.client_secret_ref.name.clone());
            let signing = crate::signing_secret(policy).map(|(name, _)| name);
            of_issuers
                .chain(provider)
                .chain(signing)
                .chain(exchange)
                .chain(asked)
                .chain(bundles)
                .chain(policy.spec.jose.iter().flatten().flat_map(secrets_of_step))
                .collect::<Vec<_>>()
        };
        let mut names: Vec<String> = self.policies.iter().flat_map(of_policy).collect();
        names.extend(
            self.federations
                .iter()
                .filter_map(|federation| federation.spec.oidc.as_ref()?.keys.as_ref())
                .flat_map(secrets_of_keys),
        );
        names.extend(
            self.federations
                .iter()
                .filter_map(|federation| federation.spec.oidc.as_ref()?.client.as_ref())
                .flat_map(secrets_of_provider),
        );
        names.extend(
            self.federations.iter().filter_map(|federation| federation.spec.saml.as_ref()).flat_map(secrets_of_saml),
        );
        let listeners = self
            .gateways
            .iter()
            .filter(|g| g.spec.gateway_class_name == idm_api::GATEWAY_CLASS)
            .flat_map(|g| &g.spec.listeners);
        let certificates =
            listeners.filter_map(|l| l.tls.as_ref()).flat_map(|tls| tls.certificate_refs.iter().flatten());
        names.extend(certificates.map(|reference| reference.name.clone()));
        names.extend(self.credentials.iter().filter_map(|c| Some(c.spec.secret_ref.as_ref()?.name.clone())));
        names.extend(self.credentials.iter().filter_map(|c| c.spec.oauth_client.as_ref()).flat_map(secrets_of_client));
        names.sort();
        names.dedup();
        names
    }

    /// Puts everything in a fixed order, so that the same objects always give the same plan.
    pub fn sort(&mut self) {
        self.policies.sort_by(|a, b| a.meta.name.cmp(&b.meta.name));
        self.credentials.sort_by(|a, b| a.meta.name.cmp(&b.meta.name));
        self.federations.sort_by(|a, b| a.meta.name.cmp(&b.meta.name));
        self.role_bindings.sort_by(|a, b| a.meta.name.cmp(&b.meta.name));
        self.routes.sort_by_key(|r| (r.metadata.creation_timestamp.clone(), r.name_any()));
        self.gateways.sort_by_key(|g| g.name_any());
        self.services.sort_by_key(|s| s.name_any());
    }
}

fn secrets_of_client(client: &idm_api::v1alpha1::OauthClientCredential) -> Vec<String> {
    let tls = client.tls_client_auth.as_ref();
    let references = [tls.map(|tls| &tls.trust_bundle_ref), tls.and_then(|tls| tls.revocation_list_ref.as_ref())];
    let of_keys = client.private_key_jwt.iter().flat_map(|jwt| secrets_of_keys(&jwt.keys));
    references.into_iter().flatten().map(|reference| reference.name.clone()).chain(of_keys).collect()
}

fn secrets_of_keys(keys: &idm_api::v1alpha1::KeySources) -> Vec<String> {
    keys.secret_ref
        .iter()
        .map(|reference| reference.name.clone())
        .chain(keys.tls.iter().flat_map(secrets_of_tls))
        .collect()
}

fn secrets_of_tls(tls: &idm_api::v1alpha1::OutgoingTls) -> Vec<String> {
    let shown = tls.client_certificate_ref.iter().map(|reference| reference.name.clone());
    tls.trust_bundle_ref.iter().map(|reference| reference.name.clone()).chain(shown).collect()
}

fn secrets_of_provider(client: &idm_api::v1alpha1::OidcClient) -> Vec<String> {
    let authentication = client.authentication.as_ref();
    let references = [
        authentication.and_then(|authentication| authentication.client_secret_basic.as_ref()),
        authentication.and_then(|authentication| authentication.client_secret_post.as_ref()),
        authentication.and_then(|authentication| Some(&authentication.private_key_jwt.as_ref()?.key_ref)),
    ];
    references
        .into_iter()
        .flatten()
        .map(|reference| reference.name.clone())
        .chain(client.tls.iter().flat_map(secrets_of_tls))
        .collect()
}

fn secrets_of_saml(saml: &idm_api::v1alpha1::SamlProvider) -> Vec<String> {
    let metadata = &saml.metadata;
    let key = saml.service_provider.iter().filter_map(|own| Some(own.key_ref.as_ref()?.name.clone()));
    metadata
        .secret_ref
        .iter()
        .map(|reference| reference.name.clone())
        .chain(metadata.tls.iter().flat_map(secrets_of_tls))
        .chain(key)
        .collect()
}

fn secrets_of_step(step: &idm_api::v1alpha1::JoseStep) -> Vec<String> {
    let consume = step.consume.as_ref();
    let produce = step.produce.as_ref();
    let sign = produce.and_then(|produce| produce.sign.as_ref());
    let references = [
        consume.and_then(|consume| Some(&consume.decrypt.as_ref()?.secret_ref)),
        consume.and_then(|consume| Some(&consume.verify.as_ref()?.certificates.as_ref()?.trust_bundle_ref)),
        consume.and_then(|consume| consume.verify.as_ref()?.certificates.as_ref()?.revocation_list_ref.as_ref()),
        sign.and_then(|sign| sign.key_ref.as_ref()),
        produce.and_then(|produce| produce.encrypt.as_ref()?.key_ref.as_ref()),
    ];
    let chosen = sign.into_iter().flat_map(|sign| sign.keys.iter().flatten()).map(|key| &key.key_ref);
    let of_keys =
        consume.and_then(|consume| consume.verify.as_ref()?.keys.as_ref()).map(secrets_of_keys).unwrap_or_default();
    references.into_iter().flatten().chain(chosen).map(|reference| reference.name.clone()).chain(of_keys).collect()
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
