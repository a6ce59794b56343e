//! From a refusal to who made the version of the policy that refused.

use idm_audit::{RecordFilter, RecordKind, Records, StoredRecord};
use serde_json::Value;

use crate::audit::search::newest;

/// The changes of one policy that are looked at, the newest first.
const MOST: usize = 200;

/// Lines about the policy of a refusal: who made its version, as the same records have it. None for a request that was
/// let through, and where no change is on record.
pub(super) async fn lines(records: &Records, decision: &StoredRecord) -> Vec<String> {
    let decision = decision.value();
    if decision["reason"].is_null() {
        return Vec::new();
    }
    let text = |pointer: &str| decision.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let (Some(name), Some(generation)) = (text("/policy/name"), decision["policy"]["generation"].as_i64()) else {
        return Vec::new();
    };
    let filter = RecordFilter {
        kind: Some(RecordKind::Change),
        object_kind: Some("IdentityPolicy".into()),
        namespace: text("/namespace"),
        name: Some(name),
        ..RecordFilter::default()
    };
    // Records of changes may be elsewhere: then the explanation is whole without them.
    let Ok(found) = newest(records, &filter, None, MOST).await else { return Vec::new() };
    let is_it = |change: &&StoredRecord| change.value()["object"]["generation"].as_i64() == Some(generation);
    found.items.iter().find(is_it).map(|change| described(change, generation)).unwrap_or_default()
}

fn described(record: &StoredRecord, generation: i64) -> Vec<String> {
    let text = |pointer: &str| record.value().pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    let name = |pointer: &str| text(pointer).unwrap_or("-");
    let evidence = text("/by/evidence").map(|evidence| format!(" ({evidence})")).unwrap_or_default();
    let (namespace, policy) = (name("/object/namespace"), name("/object/name"));
    let (actor, time) = (name("/actor"), name("/@timestamp"));
    let mut lines = vec![format!(
        "made by: policy {namespace}/{policy} generation {generation} was changed by {actor}{evidence} at {time}"
    )];
    lines.extend(record.origin().map(|origin| format!("         {origin}")));
    if let Some(id) = text("/id") {
        lines.push(format!("         idm explain {id} shows what it changed"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_is_described_with_who_how_and_by_which_commit() {
        let change = json!({"id": "01J", "@timestamp": "2027-01-01T00:00:00.000Z", "actor": "ana",
            "by": {"evidence": "authenticated"}, "origin": {"tool": "argocd", "application": "shop", "revision": "3f2c"},
            "object": {"namespace": "shop", "name": "orders", "generation": 7}});
        let lines = described(&StoredRecord::of(change), 7);
        assert_eq!(
            lines[0],
            "made by: policy shop/orders generation 7 was changed by ana (authenticated) at 2027-01-01T00:00:00.000Z"
        );
        assert!(lines[1].contains("argocd, shop at 3f2c (asserted)"), "{lines:?}");
        assert!(lines[2].contains("idm explain 01J"), "{lines:?}");
        assert_eq!(described(&StoredRecord::of(json!({"object": {}})), 1).len(), 1);
    }
}
