//! The tool that made a change, and what that tool works from: an Application of Argo CD, a Kustomization or
//! HelmRelease of Flux, and the revision that it says it applied. All of it is asserted: clients choose their field
//! managers, and whoever writes an object can copy another one's marks. So none of it ever names the author.

use k8s_openapi::jiff;
use kube::ResourceExt;
use kube::core::DynamicObject;

/// The last writer of an object, as its managed fields say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Writer {
    pub(crate) manager: String,
    /// In milliseconds since the epoch, with the precision of a second.
    pub(crate) time: Option<u64>,
}

impl Writer {
    /// Of everything but the status. An entry without a time is older than all others.
    pub(crate) fn last_of(object: &DynamicObject) -> Option<Self> {
        let millis = |time: &jiff::Timestamp| u64::try_from(time.as_millisecond()).unwrap_or(0);
        let writers = object.managed_fields().iter().filter(|entry| entry.subresource.is_none());
        let last = writers.max_by_key(|entry| entry.time.as_ref().map(|time| time.0))?;
        let time = last.time.as_ref().map(|time| millis(&time.0));
        Some(Self { manager: last.manager.clone()?, time })
    }
}

/// An object of a GitOps tool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Source {
    pub(crate) kind: SourceKind,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// The kinds of GitOps tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SourceKind {
    Application,
    Kustomization,
    HelmRelease,
}

/// The way a change came, as it is asserted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Origin {
    pub(crate) tool: &'static str,
    pub(crate) source: Option<Source>,
    /// The object's mark is of another object.
    pub(crate) mismatched: bool,
}

/// The origin of a change of this object by this field manager.
pub(crate) fn of(object: &DynamicObject, kind: &str, manager: &str) -> Option<Origin> {
    let tool = tool(manager)?;
    let (source, mismatched) = match tool {
        "argocd" => argocd(object, kind),
        "flux" => (flux(object), false),
        _ => (None, false),
    };
    Some(Origin { tool, source, mismatched })
}

/// Field managers are what clients say, or the first word of their User-Agent.
fn tool(manager: &str) -> Option<&'static str> {
    let starts = |names: &[&str]| names.iter().any(|name| manager.starts_with(name));
    match manager {
        "" => None,
        "idm-operator" => Some("idm-operator"),
        "idm" => Some("idm"),
        "kustomize-controller" | "helm-controller" => Some("flux"),
        _ if starts(&["kubectl"]) => Some("kubectl"),
        _ if starts(&["argocd"]) => Some("argocd"),
        _ if starts(&["helm"]) => Some("helm"),
        _ => Some("api"),
    }
}

/// `application:group/kind:namespace/name`, where an application outside of Argo CD's namespace is `namespace_name`.
fn argocd(object: &DynamicObject, kind: &str) -> (Option<Source>, bool) {
    let source = |application: &str| {
        let (namespace, name) = application.split_once('_').unwrap_or(("argocd", application));
        Some(Source { kind: SourceKind::Application, namespace: namespace.into(), name: name.into() })
    };
    let Some(mark) = object.annotations().get("argocd.argoproj.io/tracking-id") else {
        return (object.labels().get("app.kubernetes.io/instance").and_then(|name| source(name)), false);
    };
    let own = format!("{}/{kind}:{}/{}", idm_api::GROUP, object.namespace().unwrap_or_default(), object.name_any());
    match mark.split_once(':') {
        Some((application, of)) if of == own => (source(application), false),
        _ => (None, true),
    }
}

fn flux(object: &DynamicObject) -> Option<Source> {
    let labels = object.labels();
    [("kustomize", SourceKind::Kustomization), ("helm", SourceKind::HelmRelease)].into_iter().find_map(
        |(tool, kind)| {
            let label = |name: &str| labels.get(&format!("{tool}.toolkit.fluxcd.io/{name}")).cloned();
            Some(Source { kind, namespace: label("namespace")?, name: label("name")? })
        },
    )
}

impl SourceKind {
    /// API group, version, kind and plural.
    pub(crate) fn resource(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            SourceKind::Application => ("argoproj.io", "v1alpha1", "Application", "applications"),
            SourceKind::Kustomization => ("kustomize.toolkit.fluxcd.io", "v1", "Kustomization", "kustomizations"),
            SourceKind::HelmRelease => ("helm.toolkit.fluxcd.io", "v2", "HelmRelease", "helmreleases"),
        }
    }

    /// The revision of the sync that is under way, or of the last one.
    pub(crate) fn revision(self, object: &serde_json::Value) -> Option<String> {
        let places: &[&str] = match self {
            SourceKind::Application => &["/status/operationState/syncResult/revision", "/status/sync/revision"],
            _ => &["/status/lastAttemptedRevision", "/status/lastAppliedRevision"],
        };
        let found = places.iter().find_map(|place| object.pointer(place)?.as_str())?;
        Some(found.chars().filter(|c| !c.is_control()).take(200).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(metadata: serde_json::Value) -> DynamicObject {
        let mut all = json!({"name": "orders", "namespace": "shop"});
        metadata.as_object().unwrap().iter().for_each(|(name, value)| all[name] = value.clone());
        serde_json::from_value(json!({"metadata": all})).unwrap()
    }

    #[test]
    fn a_tool_is_known_by_its_field_manager() {
        let plain = object(json!({}));
        for (manager, tool) in [
            ("kubectl-client-side-apply", "kubectl"),
            ("argocd-controller", "argocd"),
            ("kustomize-controller", "flux"),
            ("helm", "helm"),
            ("curl", "api"),
            ("idm-operator", "idm-operator"),
        ] {
            assert_eq!(of(&plain, "Credential", manager).unwrap().tool, tool);
        }
        assert_eq!(of(&plain, "Credential", ""), None);
    }

    #[test]
    fn a_mark_names_its_application_only_on_the_object_that_it_is_of() {
        let marked = |id: &str| {
            let object = object(json!({"annotations": {"argocd.argoproj.io/tracking-id": id}}));
            of(&object, "Credential", "argocd-controller").unwrap()
        };
        let own = marked("team_web:identity-manager.io/Credential:shop/orders");
        assert_eq!(own.source.map(|source| (source.namespace, source.name)), Some(("team".into(), "web".into())));
        assert!(!own.mismatched);
        for copied in ["web:identity-manager.io/Credential:shop/other", "web:apps/Deployment:shop/orders", "web", ":"] {
            let origin = marked(copied);
            assert!(origin.mismatched && origin.source.is_none(), "{copied}");
        }
        // Marks stay on an object that somebody edits by hand: then they say nothing about the change.
        let by_hand = object(json!({"annotations": {"argocd.argoproj.io/tracking-id": "x"}}));
        assert_eq!(of(&by_hand, "Credential", "kubectl-edit").unwrap().source, None);
    }

    #[test]
    fn flux_is_known_by_its_labels() {
        let labels = json!({"labels": {"kustomize.toolkit.fluxcd.io/name": "apps",
            "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}});
        let source = of(&object(labels), "Credential", "kustomize-controller").unwrap().source.unwrap();
        assert_eq!(
            (source.kind, &*source.namespace, &*source.name),
            (SourceKind::Kustomization, "flux-system", "apps")
        );
        let status =
            json!({"status": {"lastAttemptedRevision": "main@sha1:abc\n", "lastAppliedRevision": "main@sha1:old"}});
        assert_eq!(source.kind.revision(&status).as_deref(), Some("main@sha1:abc"));
    }
}
