//! The tool that takes an object from elsewhere, such as a repository: what is changed here it would change back.

use idm_permission::GROUP;
use serde_json::Value;

use super::text;
use crate::wire::ManagedBy;

/// The annotation of Argo CD with which it knows its objects.
const ARGO_MARK: &str = "argocd.argoproj.io/tracking-id";
/// Annotations of kustomize with the file of an object.
const PATH: &str = "config.kubernetes.io/path";
const ORIGIN: &str = "config.kubernetes.io/origin";

/// The owner of an object, if there is one.
pub(super) fn of(object: &Value, kind: &str) -> Option<ManagedBy> {
    let found = argocd(object, kind).or_else(|| flux(object)).or_else(|| helm(object))?;
    let (tool, owner) = found;
    Some(ManagedBy { tool: tool.to_owned(), owner: idm_types::visible(&owner).into_owned(), path: path(object) })
}

fn annotation<'o>(object: &'o Value, name: &str) -> Option<&'o str> {
    object["metadata"]["annotations"][name].as_str().filter(|value| !value.is_empty())
}

fn label<'o>(object: &'o Value, name: &str) -> Option<&'o str> {
    object["metadata"]["labels"][name].as_str().filter(|value| !value.is_empty())
}

/// Whether a writer of this name has fields of the object that are no status.
fn is_written_by(object: &Value, manager: &str) -> bool {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let mut own = entries.filter(|entry| entry["subresource"].is_null());
    own.any(|entry| text(entry, "/manager").starts_with(manager))
}

/// Its mark is of this object, not copied from another; or it is the writer, and a label names the application.
fn argocd(object: &Value, kind: &str) -> Option<(&'static str, String)> {
    let named = |application: &str| {
        let (namespace, name) = application.split_once('_').unwrap_or(("argocd", application));
        ("Argo CD", format!("Application {namespace}/{name}"))
    };
    if let Some((application, of)) = annotation(object, ARGO_MARK).and_then(|mark| mark.split_once(':')) {
        let (namespace, name) = (text(object, "/metadata/namespace"), text(object, "/metadata/name"));
        return (of == format!("{GROUP}/{kind}:{namespace}/{name}")).then(|| named(application));
    }
    let instance = label(object, "argocd.argoproj.io/instance");
    let instance = instance.or_else(|| label(object, "app.kubernetes.io/instance"));
    instance.filter(|_| is_written_by(object, "argocd")).map(named)
}

fn flux(object: &Value) -> Option<(&'static str, String)> {
    [("kustomize", "Kustomization"), ("helm", "HelmRelease")].into_iter().find_map(|(tool, kind)| {
        let of = |name: &str| label(object, &format!("{tool}.toolkit.fluxcd.io/{name}"));
        Some(("Flux", format!("{kind} {}/{}", of("namespace")?, of("name")?)))
    })
}

fn helm(object: &Value) -> Option<(&'static str, String)> {
    let is_helm = label(object, "app.kubernetes.io/managed-by") == Some("Helm");
    let of = |name: &str| annotation(object, &format!("meta.helm.sh/release-{name}"));
    let release = format!("release {}/{}", of("namespace").filter(|_| is_helm)?, of("name")?);
    Some(("Helm", release))
}

/// The file of the object in its source, where kustomize noted it.
fn path(object: &Value) -> Option<String> {
    let of_origin = || annotation(object, ORIGIN)?.lines().find_map(|line| line.trim().strip_prefix("path:"));
    let path = annotation(object, PATH).or_else(of_origin)?;
    Some(idm_types::visible(path.trim()).into_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn owner(metadata: Value) -> Option<(String, String, Option<String>)> {
        let mut object = json!({"metadata": {"name": "orders", "namespace": "shop"}});
        for (name, value) in metadata.as_object().expect("members") {
            object["metadata"][name] = value.clone();
        }
        of(&object, "Credential").map(|owner| (owner.tool, owner.owner, owner.path))
    }

    fn named(tool: &str, owner: &str, path: Option<&str>) -> Option<(String, String, Option<String>)> {
        Some((tool.to_owned(), owner.to_owned(), path.map(str::to_owned)))
    }

    #[test]
    fn tools_are_known_by_their_own_marks() {
        let argo = |id: &str| json!({"annotations": {ARGO_MARK: id}});
        let own = argo("team_web:identity-manager.io/Credential:shop/orders");
        assert_eq!(owner(own), named("Argo CD", "Application team/web", None));
        assert_eq!(owner(argo("web:identity-manager.io/Credential:shop/other")), None, "a copied mark");
        let fields = json!([{"manager": "argocd-controller", "operation": "Apply"}]);
        let labels = json!({"app.kubernetes.io/instance": "web"});
        let by_label = json!({"labels": labels, "managedFields": fields});
        assert_eq!(owner(by_label), named("Argo CD", "Application argocd/web", None));
        assert_eq!(owner(json!({"labels": labels})), None, "charts have this label too");
        let flux = json!({
            "labels": {"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux"},
            "annotations": {ORIGIN: "path: apps/orders.yaml\nrepo: https://git.example/x\n"},
        });
        assert_eq!(owner(flux), named("Flux", "Kustomization flux/apps", Some("apps/orders.yaml")));
        let helm = json!({
            "labels": {"app.kubernetes.io/managed-by": "Helm"},
            "annotations": {"meta.helm.sh/release-name": "r", "meta.helm.sh/release-namespace": "shop"},
        });
        assert_eq!(owner(helm), named("Helm", "release shop/r", None));
        assert_eq!(owner(json!({})), None);
    }
}
