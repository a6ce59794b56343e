//! The settings of Argo CD say the same as the code: every kind, and the annotations that ask for something.

use std::path::Path;

#[test]
fn every_kind_has_its_health_and_the_annotations_are_ours() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/argocd");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let map: serde_json::Value = serde_yaml_ng::from_str(&read("argocd-cm.yaml")).unwrap();
    for definition in idm_api::crds() {
        let (group, kind) = (definition.spec.group, definition.spec.names.kind);
        let health = map["data"][format!("resource.customizations.health.{group}_{kind}")].as_str();
        assert_eq!(health, Some(read("health.lua").as_str()), "{kind}");
    }
    assert!(read("actions/rotate.lua").contains(&format!("[\"{}\"]", idm_api::ROTATE_ANNOTATION)));
    assert!(read("actions/revoke.lua").contains(&format!("[\"{}\"]", idm_api::REVOKE_ANNOTATION)));
}
