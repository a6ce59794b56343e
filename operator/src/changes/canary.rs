//! Keeps the webhook working, and tries it: a webhook whose failures are ignored can be dead for months.
//!
//! Every minute the operator's own dry run must come through the door. When it does not, writes go on, records say less
//! about their authors, and an error, an event and a metric say so.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use idm_types::{Redacted, Timestamp, hex};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    ServiceReference, ValidatingWebhook, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::api::core::v1::{ObjectReference, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::runtime::events::{Event, EventType};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::certificate::Certificate;
use super::door::{CANARY, Door, Key};
use crate::objects::Kind;
use crate::{Context, MANAGER};

/// The webhook in the configuration.
const WEBHOOK: &str = "changes.identity-manager.io";
const PERIOD: Duration = Duration::from_secs(60);
/// While it does not work.
const AGAIN: Duration = Duration::from_secs(5);
/// A look that hangs is a look that failed.
const LOOK: Duration = Duration::from_secs(20);
/// Looks in a row that must fail before it is said: the API server takes a changed configuration within a moment.
const ALARM: u32 = 3;

/// Keeps and tries the webhook for ever.
pub(crate) async fn keep(context: Arc<Context>, door: Arc<Door>) {
    let mut keeper = Keeper { context, door, key: None, failures: 0, alarmed: false };
    loop {
        let looked = tokio::time::timeout(LOOK, keeper.look()).await;
        let works =
            keeper.note(looked.unwrap_or_else(|_| Err(anyhow::anyhow!("the API server does not answer")))).await;
        tokio::time::sleep(if works { PERIOD } else { AGAIN }).await;
    }
}

struct Keeper {
    context: Arc<Context>,
    door: Arc<Door>,
    key: Option<Key>,
    failures: u32,
    alarmed: bool,
}

impl Keeper {
    /// Puts everything right, and then tries it.
    async fn look(&mut self) -> anyhow::Result<()> {
        let api: Api<ValidatingWebhookConfiguration> = Api::all(self.context.client.clone());
        let name = self.context.changes.webhook.clone();
        let configuration = api.get_opt(&name).await?;
        let configuration =
            configuration.with_context(|| format!("ValidatingWebhookConfiguration `{name}` is missing"))?;
        let webhook = configuration.webhooks.as_deref().unwrap_or_default().iter().find(|one| one.name == WEBHOOK);
        let webhook = webhook.with_context(|| format!("`{name}` has no webhook `{WEBHOOK}`"))?;
        if let Some(service) = &webhook.client_config.service {
            self.lead_here(service).await?;
        }
        self.present(&api, webhook).await?;
        if let Some(why) = narrowness(webhook) {
            anyhow::bail!("`{name}` was changed, {why}: apply the chart of this version again");
        }
        self.try_it().await
    }

    /// Makes the configuration name this process's certificate and path.
    async fn present(
        &mut self,
        api: &Api<ValidatingWebhookConfiguration>,
        webhook: &ValidatingWebhook,
    ) -> anyhow::Result<()> {
        let now = Timestamp::now();
        let host = host_of(&webhook.client_config).context("the webhook has neither a Service nor a URL")?;
        let due = self.key.as_ref().is_none_or(|key| key.certificate.is_due(&host, now));
        if due {
            let new = Key { path: path()?, certificate: Arc::new(Certificate::make(&host, now)?) };
            if let Some(old) = &self.key {
                // Both are trusted before the new one is presented.
                let both = format!("{}{}", old.certificate.pem, new.certificate.pem);
                self.write(api, &webhook.client_config, &both, &old.path).await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            self.door.renew(new.clone());
            self.key = Some(new);
        }
        let Some(key) = &self.key else { return Ok(()) };
        let wanted = with(&webhook.client_config, &key.certificate.pem, key.path.reveal());
        if due || wanted != webhook.client_config {
            self.write(api, &webhook.client_config, &key.certificate.pem, &key.path).await?;
        }
        Ok(())
    }

    async fn write(
        &self,
        api: &Api<ValidatingWebhookConfiguration>,
        client: &WebhookClientConfig,
        bundle: &str,
        path: &Redacted<String>,
    ) -> Result<(), kube::Error> {
        let client = with(client, bundle, path.reveal());
        let patch = json!({"webhooks": [{"name": WEBHOOK, "clientConfig": client}]});
        let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        api.patch(&self.context.changes.webhook, &params, &Patch::Strategic(patch)).await.map(drop)
    }

    /// Makes the webhook's Service lead to this pod: the one that leads is the one that watches.
    async fn lead_here(&self, service: &ServiceReference) -> anyhow::Result<()> {
        let Some(address) = self.context.changes.address else { return Ok(()) };
        let services: Api<Service> = Api::namespaced(self.context.client.clone(), &service.namespace);
        let found = services.get_opt(&service.name).await?;
        let found = found.with_context(|| format!("Service {}/{} is missing", service.namespace, service.name))?;
        let port = found.spec.as_ref().and_then(|spec| spec.ports.as_ref()?.first()).and_then(|port| port.name.clone());
        // Its address type cannot be changed, so each has a name of its own.
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        let name = format!("{}-{}", service.name, family.to_lowercase());
        let slice: EndpointSlice = serde_json::from_value(json!({
            "metadata": {
                "name": name,
                "labels": {
                    "kubernetes.io/service-name": service.name,
                    "endpointslice.kubernetes.io/managed-by": MANAGER,
                    "app.kubernetes.io/part-of": "idm",
                },
                // It goes with the Service when the chart is uninstalled.
                "ownerReferences": [{
                    "apiVersion": "v1", "kind": "Service", "name": service.name, "uid": found.uid(),
                }],
            },
            "addressType": family,
            "endpoints": [{"addresses": [address.to_string()], "conditions": {"ready": true}}],
            "ports": [{"name": port.unwrap_or_default(), "port": self.context.changes.port, "protocol": "TCP"}],
        }))?;
        let api: Api<EndpointSlice> = Api::namespaced(self.context.client.clone(), &service.namespace);
        match api.get_opt(&name).await? {
            Some(known) if known.endpoints == slice.endpoints && known.ports == slice.ports => {}
            Some(known) => {
                let mut slice = slice;
                slice.metadata.resource_version = known.resource_version();
                api.replace(&name, &PostParams::default(), &slice).await?;
            }
            None => drop(api.create(&PostParams::default(), &slice).await?),
        }
        Ok(())
    }

    /// A dry run, which must come through the door.
    async fn try_it(&self) -> anyhow::Result<()> {
        let mut canaries = self.door.canaries();
        let namespace = &self.context.settings.operator_namespace;
        let name = format!("{CANARY}{}", path()?.reveal().get(..12).unwrap_or_default());
        let mut object = DynamicObject::new(&name, &Kind::RoleBinding.resource());
        object.data = json!({"spec": {"role": "canary", "subjects": [{"user": "canary"}], "scope": {"project": {}}}});
        let params = PostParams { dry_run: true, ..PostParams::default() };
        let api = Kind::RoleBinding.api(&self.context.client, namespace);
        api.create(&params, &object).await.context("the canary was refused before the webhook is called")?;
        let came = canaries.wait_for(|last| *last == name);
        // The API server calls before it answers.
        let came = tokio::time::timeout(Duration::from_millis(200), came).await;
        anyhow::ensure!(matches!(came, Ok(Ok(_))), "the API server does not call it, or cannot reach it");
        Ok(())
    }

    /// Says what a look found; returns whether it works.
    async fn note(&mut self, looked: anyhow::Result<()>) -> bool {
        let count = &self.context.change_count;
        let Err(error) = looked else {
            count.set_webhook(true);
            if std::mem::take(&mut self.alarmed) {
                tracing::info!("the webhook of changes is called again");
                self.event(EventType::Normal, "Called", "the API server tells who changes objects").await;
            }
            self.failures = 0;
            return true;
        };
        self.failures += 1;
        if self.failures >= ALARM {
            count.set_webhook(false);
        }
        if self.failures == ALARM {
            self.alarmed = true;
            let why = format!("{error:#}");
            tracing::error!(
                why,
                "the webhook of changes does not work: records do not say for certain who changes objects"
            );
            self.event(EventType::Warning, "NotCalled", &format!("nobody tells who changes objects: {why}")).await;
        }
        false
    }

    async fn event(&self, type_: EventType, reason: &str, note: &str) {
        let note = note.chars().take(1000).collect();
        let event = Event { type_, reason: reason.into(), note: Some(note), action: "Probe".into(), secondary: None };
        let reference = ObjectReference {
            api_version: Some("admissionregistration.k8s.io/v1".into()),
            kind: Some("ValidatingWebhookConfiguration".into()),
            name: Some(self.context.changes.webhook.clone()),
            ..ObjectReference::default()
        };
        if let Err(error) = self.context.recorder.publish(&event, &reference).await {
            tracing::debug!(%error, "an event could not be written");
        }
    }
}

/// Sixteen random bytes as text.
fn path() -> anyhow::Result<Redacted<String>> {
    let mut random = [0; 16];
    SystemRandom::new().fill(&mut random).map_err(|_| anyhow::anyhow!("the system gave no random bits"))?;
    Ok(Redacted::new(hex(&random)))
}

/// The name that the API server expects in the certificate.
fn host_of(client: &WebhookClientConfig) -> Option<String> {
    if let Some(service) = &client.service {
        return Some(format!("{}.{}.svc", service.name, service.namespace));
    }
    let url: hyper::Uri = client.url.as_ref()?.parse().ok()?;
    Some(url.host()?.trim_matches(['[', ']']).to_owned())
}

/// The same address with this certificate and path.
fn with(client: &WebhookClientConfig, bundle: &str, path: &str) -> WebhookClientConfig {
    let mut client = client.clone();
    client.ca_bundle = Some(ByteString(bundle.as_bytes().to_vec()));
    if let Some(service) = &mut client.service {
        service.path = Some(format!("/{path}"));
    }
    let origin = client.url.as_ref().and_then(|url| {
        let url: hyper::Uri = url.parse().ok()?;
        Some(format!("{}://{}/{path}", url.scheme_str()?, url.authority()?))
    });
    if origin.is_some() {
        client.url = origin;
    }
    client
}

/// Why the webhook is not asked about everything, or may hold writes up.
fn narrowness(webhook: &ValidatingWebhook) -> Option<&'static str> {
    let has = |all: &Option<Vec<String>>, wanted: &str| all.iter().flatten().any(|one| one == wanted || one == "*");
    let covers = webhook.rules.iter().flatten().any(|rule| {
        has(&rule.api_groups, idm_api::GROUP)
            && has(&rule.api_versions, "*")
            && has(&rule.resources, "*")
            && rule.scope.as_deref().is_none_or(|scope| scope == "*")
            && ["CREATE", "UPDATE", "DELETE"].iter().all(|operation| has(&rule.operations, operation))
    });
    let selects = [&webhook.namespace_selector, &webhook.object_selector]
        .into_iter()
        .flatten()
        .any(|selector| selector.match_labels.is_some() || selector.match_expressions.is_some());
    if !covers {
        Some("its rules leave changes out")
    } else if selects || webhook.match_conditions.as_ref().is_some_and(|all| !all.is_empty()) {
        Some("a selector or a condition leaves changes out")
    } else if webhook.failure_policy.as_deref() != Some("Ignore") {
        Some("its failurePolicy is not Ignore")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webhook(change: impl FnOnce(&mut serde_json::Value)) -> ValidatingWebhook {
        let mut value = json!({
            "name": WEBHOOK, "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Ignore",
            "clientConfig": {"service": {"name": "idm-changes", "namespace": "idm-system"}},
            "namespaceSelector": {}, "objectSelector": {},
            "rules": [{"apiGroups": [idm_api::GROUP], "apiVersions": ["*"], "resources": ["*"], "scope": "*",
                "operations": ["CREATE", "UPDATE", "DELETE"]}],
        });
        change(&mut value);
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_webhook_that_leaves_something_out_is_found() {
        assert_eq!(narrowness(&webhook(|_| {})), None);
        let changes: [fn(&mut serde_json::Value); 6] = [
            |v| v["rules"][0]["resources"] = json!(["identitypolicies"]),
            |v| v["rules"][0]["operations"] = json!(["CREATE", "UPDATE"]),
            |v| v["rules"] = json!([]),
            |v| v["namespaceSelector"] = json!({"matchLabels": {"a": "b"}}),
            |v| v["matchConditions"] = json!([{"name": "a", "expression": "false"}]),
            |v| v["failurePolicy"] = json!("Fail"),
        ];
        for change in changes {
            assert!(narrowness(&webhook(change)).is_some());
        }
    }

    #[test]
    fn the_certificate_is_for_the_name_that_the_api_server_asks_for() {
        let service = webhook(|_| {}).client_config;
        assert_eq!(host_of(&service).as_deref(), Some("idm-changes.idm-system.svc"));
        assert_eq!(with(&service, "PEM", "secret").service.unwrap().path.as_deref(), Some("/secret"));
        let url = webhook(|v| v["clientConfig"] = json!({"url": "https://127.0.0.1:9443/old"})).client_config;
        assert_eq!(host_of(&url).as_deref(), Some("127.0.0.1"));
        assert_eq!(with(&url, "PEM", "secret").url.as_deref(), Some("https://127.0.0.1:9443/secret"));
    }
}
