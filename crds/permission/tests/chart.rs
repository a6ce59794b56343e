//! The chart's guard and blocks are what the code says. `IDM_UPDATE=1 cargo test -p idm-permission` writes them anew.

use std::path::Path;

use serde_json::Value;

fn check(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/idm/templates").join(name);
    if std::env::var_os("IDM_UPDATE").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert!(
        std::fs::read_to_string(path).unwrap_or_default() == text,
        "run `IDM_UPDATE=1 cargo test -p idm-permission`"
    );
}

/// A manifest with the labels of the chart.
fn manifest(object: &Value) -> String {
    let yaml = serde_yaml_ng::to_string(object).unwrap();
    let name = format!("metadata:\n  name: {}\n", object["metadata"]["name"].as_str().unwrap());
    assert!(yaml.contains(&name), "{yaml}");
    let labelled =
        yaml.replacen(&name, &format!("{name}  labels: {{{{- include \"idm.labels\" . | nindent 4 }}}}\n"), 1);
    format!("---\n{labelled}")
}

#[test]
fn the_chart_has_the_guard_and_the_blocks() {
    let namespace = "{{ .Release.Namespace }}";
    let mut objects = vec![idm_permission::guard::policy(namespace), idm_permission::guard::binding()];
    objects.extend(idm_permission::rbac::blocks());
    let head = "# Written from crds/permission: IDM_UPDATE=1 cargo test -p idm-permission.\n";
    let text = objects.iter().fold(head.to_owned(), |text, object| text + &manifest(object));
    let actions = text.replace(namespace, "").replace("{{- include \"idm.labels\" . | nindent 4 }}", "");
    assert!(!actions.contains("{{") && !actions.contains("}}"), "helm would read it as an action");
    check("permissions.yaml", &text);
}

/// The rules that the operator must hold to give them to others, and the ClusterRoles that it may bind.
#[test]
fn the_charts_operator_holds_what_it_gives() {
    let list = |values: &Value| {
        let all: Vec<_> = values.as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
        format!("[{}]", all.join(", "))
    };
    let mut text = String::from(
        "{{- /* Written from crds/permission: IDM_UPDATE=1 cargo test -p idm-permission. */}}\n\
         {{- define \"idm.permissions\" }}\n",
    );
    for rule in idm_permission::rbac::virtual_rules() {
        let [groups, resources, verbs] = ["apiGroups", "resources", "verbs"].map(|field| list(&rule[field]));
        text += &format!("- apiGroups: {groups}\n  resources: {resources}\n  verbs: {verbs}\n");
    }
    text += "{{- end }}\n{{- define \"idm.blocks\" }}\n";
    for block in idm_permission::rbac::blocks() {
        text += &format!("  - {}\n", block["metadata"]["name"]);
    }
    text += "{{- end }}\n";
    check("_permissions.tpl", &text);
}
