//! Audit records in Elasticsearch, read back with the client of the server's makers.
//!
//! `e2e/run` runs this after the end-to-end suite, on the records that the suite's gateways and operator shipped. It
//! names the server in `E2E_ELASTICSEARCH`. The records stay as they are.

use std::collections::HashMap;
use std::net::IpAddr;

use elasticsearch::http::Url;
use elasticsearch::http::transport::{SingleNodeConnectionPool, TransportBuilder};
use elasticsearch::indices::{IndicesGetIndexTemplateParts, IndicesGetMappingParts, IndicesRefreshParts};
use elasticsearch::{BulkOperation, BulkParts, Elasticsearch, SearchParts};
use serde_json::{Value, json};

/// The pattern of all indices, and the template of the dated ones.
const INDEX: &str = "analytic-auth-record*";
const TEMPLATE: &str = "analytic-auth-record-dated";
/// The most hits that the server returns at once.
const PAGE: usize = 10_000;

/// A client of the server, which has made every record visible that it took.
async fn connect() -> Elasticsearch {
    let url = std::env::var("E2E_ELASTICSEARCH").expect("E2E_ELASTICSEARCH names the server: use e2e/run");
    let pool = SingleNodeConnectionPool::new(Url::parse(&url).expect("a URL"));
    let client = Elasticsearch::new(TransportBuilder::new(pool).disable_proxy().build().expect("a transport"));
    let answer = client.indices().refresh(IndicesRefreshParts::Index(&[INDEX])).send().await.expect("an answer");
    assert!(answer.status_code().is_success(), "{answer:?}");
    client
}

/// The server's answer to a search.
async fn search(client: &Elasticsearch, body: Value) -> Value {
    let answer = client.search(SearchParts::Index(&[INDEX])).body(body).send().await.expect("an answer");
    let status = answer.status_code();
    let answer: Value = answer.json().await.expect("JSON");
    assert!(status.is_success(), "{status} {answer}");
    answer
}

/// Every record, in pages that follow one another by id.
async fn all(client: &Elasticsearch) -> Vec<Value> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let mut body = json!({"size": PAGE, "version": true, "sort": [{"id": "asc"}], "query": {"match_all": {}}});
        if let Some(after) = after {
            body["search_after"] = after;
        }
        let mut answer = search(client, body).await;
        let Value::Array(page) = answer["hits"]["hits"].take() else { panic!("no hits: {answer}") };
        after = page.last().map(|hit| hit["sort"].clone());
        let is_last = page.len() < PAGE;
        all.extend(page);
        if is_last {
            assert!(!all.is_empty(), "no records");
            return all;
        }
    }
}

/// The records that fit every one of these terms, at most a page of them.
async fn found(client: &Elasticsearch, terms: &[(&str, &str)]) -> Vec<Value> {
    let terms: Vec<_> = terms.iter().map(|(field, value)| json!({"term": {*field: *value}})).collect();
    let answer = search(client, json!({"size": PAGE, "query": {"bool": {"filter": terms}}})).await;
    let hits = answer["hits"]["hits"].as_array().expect("hits");
    hits.iter().map(|hit| hit["_source"].clone()).collect()
}

/// Fails unless each leaf of a record has a field in the mapping, and a value of that field's type.
fn assert_mapped(path: &str, value: &Value, mapping: &Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let field = &mapping["properties"][name];
                assert!(field.is_object(), "`{path}{name}` has no field in the mapping, so no query finds it: {value}");
                assert_mapped(&format!("{path}{name}."), member, field);
            }
        }
        Value::Array(elements) => elements.iter().for_each(|element| assert_mapped(path, element, mapping)),
        _ => {
            let is_typed = match mapping["type"].as_str() {
                Some("keyword" | "text") => value.is_string(),
                Some("integer") => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
                Some("long") => value.is_i64(),
                Some("boolean") => value.is_boolean(),
                Some("ip") => value.as_str().is_some_and(|text| text.parse::<IpAddr>().is_ok()),
                Some("date") => value.as_str().is_some_and(|text| chrono::DateTime::parse_from_rfc3339(text).is_ok()),
                other => panic!("`{path}` has the type {other:?}"),
            };
            assert!(is_typed, "`{path}` is {value}, and its field is {mapping}");
        }
    }
}

#[tokio::test]
async fn ids_and_types_are_those_of_the_mapping() {
    let client = connect().await;
    let indices = client.indices();
    let request = indices.get_index_template(IndicesGetIndexTemplateParts::Name(TEMPLATE));
    let template: Value = request.send().await.expect("an answer").json().await.expect("JSON");
    let wanted = &template["index_templates"][0]["index_template"]["template"]["mappings"];
    let request = indices.get_mapping(IndicesGetMappingParts::Index(&[INDEX]));
    let mapping: Value = request.send().await.expect("an answer").json().await.expect("JSON");
    assert!(wanted["properties"].is_object(), "{template}");
    let indices = mapping.as_object().expect("indices");
    assert!(indices.keys().any(|name| name.starts_with("analytic-auth-record-decisions-")), "{:?}", indices.keys());
    for (name, index) in indices {
        let mapping = &index["mappings"];
        assert_eq!(mapping["properties"], wanted["properties"], "{name} has the fields of its template");
        assert_eq!(mapping["dynamic"], "false", "{name}: text of a caller must not make a field");
    }
    let mapping = wanted;

    for hit in all(&client).await {
        let record = &hit["_source"];
        assert!(record["id"].is_string() && record["id"] == hit["_id"], "{hit}");
        assert_mapped("", record, mapping);
    }
}

#[tokio::test]
async fn a_repeated_bulk_stores_no_record_twice() {
    let client = connect().await;
    let twice =
        search(&client, json!({"size": 0, "aggs": {"ids": {"terms": {"field": "id", "min_doc_count": 2}}}})).await;
    assert_eq!(twice["aggregations"]["ids"]["buckets"], json!([]), "ids of more than one record");
    let before = all(&client).await;
    assert!(before.iter().all(|hit| hit["_version"] == 1), "a record was written over");

    // As the shipper repeats a bulk whose answer it did not get.
    for part in before.chunks(1000) {
        let operations: Vec<_> = part
            .iter()
            .map(|hit| {
                let text = |name: &str| hit[name].as_str().expect("text");
                BulkOperation::create(&hit["_source"]).id(text("_id")).index(text("_index")).into()
            })
            .collect::<Vec<BulkOperation<&Value>>>();
        let answer = client.bulk(BulkParts::None).body(operations).send().await.expect("an answer");
        let answer: Value = answer.json().await.expect("JSON");
        let items = answer["items"].as_array().expect("items");
        assert_eq!(items.len(), part.len());
        assert!(items.iter().all(|item| item["create"]["status"] == 409), "{items:?}");
    }
    // Namespaces that end meanwhile add records of their own.
    let after = all(&connect().await).await;
    let mut by_id: HashMap<&str, Vec<&Value>> = HashMap::new();
    for hit in &after {
        by_id.entry(hit["_source"]["id"].as_str().expect("an id")).or_default().push(hit);
    }
    for hit in &before {
        let same = &by_id[hit["_source"]["id"].as_str().expect("an id")];
        assert!(same.len() == 1 && same[0]["_source"] == hit["_source"] && same[0]["_version"] == 1, "{same:?}");
    }
}

#[tokio::test]
async fn decisions_are_found_by_reason_policy_and_identity() {
    let client = connect().await;
    // The callers whose tokens did not verify, at one policy.
    let refused = found(&client, &[("reason", "BadSignature"), ("policy.name", "orders")]).await;
    assert!(!refused.is_empty(), "no refusal");
    for record in &refused {
        assert_eq!((&record["outcome"], &record["status"]), (&json!("Denied"), &json!(401)), "{record}");
        assert!(record["identity"].is_null(), "a caller who was not authenticated has no identity: {record}");
    }
    // The requests of one caller that reached the upstream.
    let caller = [("identity.username", "service-account-writer"), ("outcome", "Permitted")];
    let permitted = found(&client, &caller).await;
    assert!(!permitted.is_empty(), "no permitted request");
    for record in &permitted {
        assert!(record["status"] == 200 && record["reason"].is_null(), "{record}");
        assert!(record["upstream"].is_string() && record["identity"]["id"].is_string(), "{record}");
    }
    // Each value that a person may pick from a list finds all the records that the list counts, and no other ones.
    for field in ["reason", "policy.name", "identity.username", "outcome", "namespace"] {
        let body = json!({"size": 0, "aggs": {"values": {"terms": {"field": field, "size": 1000}}}});
        let answer = search(&client, body).await;
        let values = answer["aggregations"]["values"]["buckets"].as_array().expect("buckets").clone();
        assert!(!values.is_empty(), "no values of {field}");
        for value in values {
            let name = value["key"].as_str().expect("a keyword");
            let records = found(&client, &[(field, name)]).await;
            let listed = value["doc_count"].as_u64().expect("a count");
            assert!(records.len() as u64 >= listed.min(PAGE as u64), "{field} {name}: {} of {listed}", records.len());
            let pointer = format!("/{}", field.replace('.', "/"));
            assert!(records.iter().all(|record| record.pointer(&pointer) == Some(&json!(name))), "{field} {name}");
        }
    }
}
