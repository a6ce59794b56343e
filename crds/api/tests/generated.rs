//! The manifests in `crds/generated` and in the chart are what the types say.
//! `IDM_UPDATE=1 cargo test -p idm-api` writes them anew.

use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};

fn check(path: &Path, expected: &str) {
    if std::env::var_os("IDM_UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, expected).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == expected, "{} is out of date: run `IDM_UPDATE=1 cargo test -p idm-api`", path.display());
}

#[test]
fn the_generated_manifests_are_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for crd in idm_api::crds() {
        let name = crd.spec.names.plural.clone();
        let yaml = serde_yaml_ng::to_string(&crd).unwrap();
        check(&root.join(format!("crds/generated/{name}.yaml")), &yaml);
        // Uninstalling the chart must not delete every policy of the cluster with the kind.
        let mut kept = crd;
        kept.metadata.annotations = Some([("helm.sh/resource-policy".to_owned(), "keep".to_owned())].into());
        let yaml = serde_yaml_ng::to_string(&kept).unwrap();
        check(
            &root.join(format!("charts/idm/templates/crd-{name}.yaml")),
            &format!("{{{{- if .Values.crds.install }}}}\n{yaml}{{{{- end }}}}\n"),
        );
    }
}

fn walk(path: &str, schema: &JSONSchemaProps, visit: &mut impl FnMut(&str, &JSONSchemaProps)) {
    visit(path, schema);
    for (name, property) in schema.properties.iter().flatten() {
        walk(&format!("{path}.{name}"), property, visit);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        walk(&format!("{path}[]"), items, visit);
    }
}

fn spec(crd: &CustomResourceDefinition) -> JSONSchemaProps {
    let schema = crd.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
    schema.properties.unwrap()["spec"].clone()
}

#[test]
fn every_field_is_described_and_bounded() {
    let mut problems = Vec::new();
    for crd in idm_api::crds() {
        walk(&format!("{}.spec", crd.spec.names.kind), &spec(&crd), &mut |path, schema| {
            let kind = schema.type_.as_deref().unwrap_or("");
            if !path.ends_with("[]") && schema.description.as_deref().unwrap_or("").is_empty() {
                problems.push(format!("{path} has no description"));
            }
            let has_values = schema.enum_.is_some();
            if kind == "string" && !has_values && schema.max_length.is_none() {
                problems.push(format!("{path} has no maximal length"));
            }
            if kind == "array" && (schema.max_items.is_none() || schema.x_kubernetes_list_type.is_none()) {
                problems.push(format!("{path} has no maximal size or no list type"));
            }
            if matches!(kind, "integer" | "number") && (schema.minimum.is_none() || schema.maximum.is_none()) {
                problems.push(format!("{path} has no bounds"));
            }
            if path.contains("[]") && schema.default.is_some() {
                problems.push(format!("{path} has a default inside a list item"));
            }
        });
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn every_kind_shows_its_state_and_its_category() {
    for crd in idm_api::crds() {
        let names = &crd.spec.names;
        assert_eq!(names.categories.as_deref(), Some(&["idm".to_owned()][..]), "{}", names.kind);
        assert!(
            names.short_names.as_ref().is_some_and(|short| short.iter().all(|name| name.starts_with("id"))),
            "{}",
            names.kind
        );
        let version = &crd.spec.versions[0];
        let columns = version.additional_printer_columns.as_deref().unwrap_or_default();
        assert!(
            columns.iter().any(|column| column.name == "Ready" && column.priority.unwrap_or(0) == 0),
            "{}",
            names.kind
        );
        assert_eq!(columns.last().map(|column| column.name.as_str()), Some("Age"), "{}", names.kind);
        assert!(version.subresources.as_ref().is_some_and(|s| s.status.is_some()), "{}", names.kind);
    }
}
