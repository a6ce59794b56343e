//! The objects of a cluster, read with the rights of the person who asks. What they may not read is said.

use idm_compile::{Layout, Settings, World, compile, yaml};
use idm_manager::{leave_out_sealed, supply_secrets};
use idm_permission::Kind;
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use super::source::Prepared;
use crate::credential::not_connected;

const GATEWAY_API: &str = "gateway.networking.k8s.io";
/// Group, version, kind and resource of what routes and their targets are.
const OTHERS: [(&str, &str, &str, &str); 5] = [
    (GATEWAY_API, "v1", "Gateway", "gateways"),
    (GATEWAY_API, "v1", "HTTPRoute", "httproutes"),
    (GATEWAY_API, "v1", "GRPCRoute", "grpcroutes"),
    (GATEWAY_API, "v1", "BackendTLSPolicy", "backendtlspolicies"),
    ("", "v1", "Service", "services"),
];

struct Reader {
    client: Client,
    namespace: String,
    world: World,
    notes: Vec<String>,
    unread: Vec<String>,
}

/// Compiles the objects of a namespace, with the baselines of the operator's, `system`.
pub(super) async fn prepare(namespace: Option<&str>, system: &str) -> anyhow::Result<Prepared> {
    let client = Client::try_default().await.map_err(not_connected)?;
    let namespace = namespace.unwrap_or(client.default_namespace()).to_owned();
    let settings = Settings { remembers_together: true, layout: Layout::Own, ..Settings::default() };
    let world = World::new(&namespace, settings);
    let mut reader = Reader { client, namespace, world, notes: Vec::new(), unread: Vec::new() };
    reader.objects().await?;
    reader.named().await?;
    reader.platform(system).await?;
    let Reader { mut world, mut notes, mut unread, .. } = reader;
    if leave_out_sealed(&mut world) {
        notes.push("signing keys are sealed: others stand in for them, so no token of theirs verifies here".into());
    }
    unread.extend(supply_secrets(&mut world)?);
    unread.sort();
    unread.dedup();
    world.sort();
    world.hash_passwords();
    let compiled = compile(&world, None);
    Ok(Prepared { world, compiled, unread, notes })
}

impl Reader {
    async fn objects(&mut self) -> anyhow::Result<()> {
        let mut documents = self.list(GATEWAY_API, "v1", "GatewayClass", "gatewayclasses", true).await?;
        for (group, version, kind, resource) in OTHERS {
            documents.extend(self.list(group, version, kind, resource, false).await?);
        }
        self.read(documents);
        for kind in Kind::ALL {
            for object in self.list(idm_permission::GROUP, "v1alpha1", kind.name(), kind.resource(), false).await? {
                self.world.insert(object);
            }
        }
        Ok(())
    }

    /// The baselines of the cluster.
    async fn platform(&mut self, system: &str) -> anyhow::Result<()> {
        let mut of = World::new(system, self.world.settings);
        self.world.permissions.system_namespace = Some(system.to_owned());
        if system != self.namespace {
            let own = std::mem::replace(&mut self.namespace, system.to_owned());
            let (kind, group) = (Kind::IdentityPolicy, idm_permission::GROUP);
            let policies = self.list(group, "v1alpha1", kind.name(), kind.resource(), false).await;
            self.namespace = own;
            for policy in policies? {
                of.insert(policy);
            }
        }
        self.world.set_platform(of);
        Ok(())
    }

    /// Adds objects that a folder may hold. One that cannot be read is left out, and said.
    fn read(&mut self, documents: Vec<Value>) {
        let mut files = Vec::new();
        for document in documents {
            let name = document.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            let file = (format!("{} {name}", document["kind"].as_str().unwrap_or_default()), document.to_string());
            match yaml::read_files(std::slice::from_ref(&file), self.world.settings) {
                Ok(_) => files.push(file),
                Err(errors) => self.notes.extend(errors.iter().map(|error| format!("left out: {error}"))),
            }
        }
        let Ok((mut read, _)) = yaml::read_files(&files, self.world.settings) else { return };
        read.namespace = std::mem::take(&mut self.world.namespace);
        self.world = read;
    }

    /// The objects of a kind, as JSON. A kind that the cluster does not have, or that may not be read, has none.
    async fn list(
        &mut self,
        group: &str,
        version: &str,
        kind: &str,
        resource: &str,
        of_cluster: bool,
    ) -> anyhow::Result<Vec<Value>> {
        let api = self.api(group, version, kind, resource, of_cluster);
        match api.list(&ListParams::default()).await {
            Ok(list) => list.items.into_iter().map(|object| plain(object, group, version, kind)).collect(),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
            Err(kube::Error::Api(status)) if status.code == 403 => {
                self.notes.push(format!("{resource} may not be read, so they are unknown here: {}", status.message));
                Ok(Vec::new())
            }
            Err(kube::Error::Api(status)) => anyhow::bail!("{resource}: {}", status.message),
            Err(other) => Err(not_connected(other)),
        }
    }

    fn api(&self, group: &str, version: &str, kind: &str, resource: &str, of_cluster: bool) -> Api<DynamicObject> {
        let gvk = GroupVersionKind::gvk(group, version, kind);
        let resource = ApiResource::from_gvk_with_plural(&gvk, resource);
        if of_cluster {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
        }
    }

    /// The Secrets and ConfigMaps that the objects name.
    async fn named(&mut self) -> anyhow::Result<()> {
        let (secrets, config_maps) = (self.world.secret_names(), self.world.config_map_names());
        let mut documents = Vec::new();
        for (kind, resource, names) in [("Secret", "secrets", secrets), ("ConfigMap", "configmaps", config_maps)] {
            let api = self.api("", "v1", kind, resource, false);
            for name in names {
                match api.get(&name).await {
                    Ok(object) => documents.push(plain(object, "", "v1", kind)?),
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    Err(kube::Error::Api(status)) if status.code == 403 => {
                        let what = format!("{kind} {name} may not be read: what rests on it is unknown here");
                        self.notes.push(what);
                        self.unread.push(name);
                    }
                    Err(kube::Error::Api(status)) => anyhow::bail!("{kind} {name}: {}", status.message),
                    Err(other) => return Err(not_connected(other)),
                }
            }
        }
        let mut values = World::new(&self.namespace, self.world.settings);
        std::mem::swap(&mut values, &mut self.world);
        self.read(documents);
        values.secrets = std::mem::take(&mut self.world.secrets);
        values.config_maps = std::mem::take(&mut self.world.config_maps);
        self.world = values;
        Ok(())
    }
}

/// The object without what only the API server has a use for.
fn plain(mut object: DynamicObject, group: &str, version: &str, kind: &str) -> anyhow::Result<Value> {
    object.managed_fields_mut().clear();
    let mut value = serde_json::to_value(object)?;
    let api = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    value["apiVersion"] = api.into();
    value["kind"] = kind.into();
    if let Some(members) = value.as_object_mut() {
        members.remove("status");
    }
    Ok(value)
}
