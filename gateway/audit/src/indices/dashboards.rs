//! The saved objects in `config/`: their shape, and that they ask for fields and reasons that records have.

use std::collections::BTreeSet;

use idm_types::Reason;
use serde_json::Value;

use super::fields;

const SETS: [&str; 2] = ["kibana", "opensearch-dashboards"];

fn objects(set: &str) -> Vec<Value> {
    let path = format!("{}/../../config/{set}/idm.ndjson", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert!(text.ends_with('\n'), "each object is a line");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// JSON that is a text within an object, as these products keep it.
fn inner(object: &Value, pointer: &str) -> Value {
    serde_json::from_str(object.pointer(pointer).and_then(Value::as_str).expect(pointer)).expect(pointer)
}

/// Whether the mapping has a field that can be aggregated.
fn has_field(path: &str) -> bool {
    let root = serde_json::json!({"properties": fields()});
    let found = path.split('.').try_fold(&root, |at, name| at.get("properties")?.get(name));
    found.is_some_and(|field| matches!(field["type"].as_str(), Some("keyword" | "ip" | "date" | "boolean" | "long")))
}

/// The fields and the values that a query names.
fn asked(query: &str) -> (Vec<String>, Vec<String>) {
    let mut fields = Vec::new();
    let words: Vec<&str> = query.split_whitespace().collect();
    fields.extend(words.windows(2).filter(|pair| pair[1] == ":").map(|pair| pair[0].trim_matches('(').to_owned()));
    let values = query.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    (fields, values)
}

#[test]
fn every_object_is_whole_and_every_reference_is_to_one_of_the_set() {
    for set in SETS {
        let objects = objects(set);
        let name = |object: &Value| format!("{}/{}", object["type"], object["id"]);
        let names: BTreeSet<String> = objects.iter().map(name).collect();
        assert_eq!(names.len(), objects.len(), "{set}: no id twice");
        for object in &objects {
            let members: BTreeSet<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
            let expected = BTreeSet::from(["attributes", "id", "migrationVersion", "references", "type"]);
            assert_eq!(members, expected, "{set}: nothing that only one of the two products takes");
            assert!(object["id"].as_str().unwrap().starts_with("idm-"), "{set}: nobody else's object is replaced");
            for reference in object["references"].as_array().unwrap() {
                assert!(names.contains(&name(reference)), "{set}: {reference}");
            }
        }
        let dashboard = objects.iter().find(|object| object["type"] == "dashboard").unwrap();
        let panels = inner(dashboard, "/attributes/panelsJSON");
        let shown: BTreeSet<&str> =
            panels.as_array().unwrap().iter().map(|panel| panel["panelRefName"].as_str().unwrap()).collect();
        let referred: BTreeSet<&str> =
            dashboard["references"].as_array().unwrap().iter().map(|to| to["name"].as_str().unwrap()).collect();
        assert_eq!(shown, referred, "{set}");
        let visualizations = objects.iter().filter(|object| object["type"] == "visualization").count();
        assert_eq!((shown.len(), visualizations), (8, 8), "{set}: each is shown once");
    }
}

#[test]
fn every_panel_asks_for_what_records_have() {
    for set in SETS {
        for object in objects(set).iter().filter(|object| object["type"] == "visualization") {
            let title = object["attributes"]["title"].as_str().unwrap();
            let state = inner(object, "/attributes/visState");
            let source = inner(object, "/attributes/kibanaSavedObjectMeta/searchSourceJSON");
            let referred = &object["references"][0];
            assert_eq!((&referred["name"], &referred["type"]), (&source["indexRefName"], &"index-pattern".into()));
            let aggs = state["aggs"].as_array().unwrap();
            assert_eq!((&aggs[0]["id"], &aggs[0]["type"]), (&"1".into(), &"count".into()), "{title}: ordered by count");
            for field in aggs.iter().filter_map(|agg| agg["params"]["field"].as_str()) {
                assert!(has_field(field), "{set}: {title}: {field}");
            }
            let (fields, values) = asked(source["query"]["query"].as_str().unwrap());
            assert!(fields.len() >= 2, "{title}: {fields:?}");
            for field in &fields {
                assert!(has_field(field), "{set}: {title}: {field}");
            }
            if fields.iter().any(|field| field == "reason") {
                for reason in values.iter().filter(|value| *value != "Decision") {
                    assert!(Reason::from_code(reason).is_some(), "{set}: {title}: {reason}");
                }
            }
        }
    }
}

#[test]
fn both_products_are_shown_the_same() {
    let told = |set: &str| -> Vec<Value> {
        let alike = |object: Value| {
            let text = object.to_string().replace("useNormalizedOpenSearchInterval", "useNormalizedEsInterval");
            serde_json::from_str(&text).unwrap()
        };
        objects(set).into_iter().map(alike).collect()
    };
    assert_eq!(told(SETS[0]), told(SETS[1]));
}
