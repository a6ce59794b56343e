//! Every Secret and ConfigMap that an object names is asked for: the name under a field that ends with `Ref` is either
//! one of another kind, or among `World::secret_names` and `World::config_map_names`. `references.yaml` has every such
//! field.

use std::collections::BTreeSet;
use std::path::Path;

use idm_compile::{Settings, yaml::read_files};
use serde::Deserialize;
use serde_json::Value;

/// These fields name an object that is not a Secret.
const OTHER_KINDS: &[&str] = &["federationRef", "tokenServiceRef"];

/// These fields name a Secret although they do not end with `Ref`.
const SECRETS: &[&str] = &["clientSecretBasic", "clientSecretPost"];

/// The names of the Secrets.
fn named(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let names_secret = field.ends_with("Ref") || SECRETS.contains(&field.as_str());
                if names_secret && !OTHER_KINDS.contains(&field.as_str()) {
                    names.insert(value["name"].as_str().expect("a name").to_owned());
                }
                named(value, names);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| named(item, names)),
        _ => {}
    }
}

#[test]
fn every_secret_that_is_named_is_asked_for() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = [root.join("tests"), root.join("tests/golden"), root.join("../../config/samples")];
    let files =
        folders.iter().flat_map(|folder| std::fs::read_dir(folder).expect("a folder")).map(|file| file.unwrap());
    let mut seen = 0;
    for path in files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|end| end == "yaml")) {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut written = BTreeSet::new();
        for document in serde_yaml_ng::Deserializer::from_str(&text) {
            let object = Value::deserialize(document).unwrap();
            if object["apiVersion"].as_str().is_some_and(|version| version.starts_with("identity-manager.io/")) {
                named(&object["spec"], &mut written);
            }
        }
        let (world, read) = read_files(&[("all.yaml".into(), text)], Settings::default()).unwrap();
        assert!(world.broken.is_empty(), "{}: {:?}", path.display(), read);
        let asked: BTreeSet<String> = world.secret_names().into_iter().chain(world.config_map_names()).collect();
        let missing: Vec<_> = written.difference(&asked).collect();
        assert!(missing.is_empty(), "{}: nobody asks for {missing:?}", path.display());
        seen += written.len();
    }
    assert!(seen > 30, "only {seen} were seen");
}

#[test]
fn a_bundle_in_a_config_map_is_asked_for_as_such() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/references.yaml")).unwrap();
    let bundles = text.matches("trustBundleRef: {").count();
    let text = text.replace("trustBundleRef: {", "trustBundleRef: {kind: ConfigMap, ");
    let (world, _) = read_files(&[("all.yaml".into(), text)], Settings::default()).unwrap();
    let (maps, secrets) = (world.config_map_names(), world.secret_names());
    assert_eq!(maps.len(), bundles);
    assert!(maps.iter().all(|map| map.ends_with("-roots") && !secrets.contains(map)), "{maps:?} {secrets:?}");
}
