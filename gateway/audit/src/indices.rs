//! The indices on the server: which record is in which, and what they are made of.
//!
//! Decisions have an index for each day, changes and seals one for each month, so that old ones can be deleted whole
//! and each kind kept for its own time. A record's index follows from its own time: a repeated record meets itself
//! there, whatever day it is.

use serde_json::{Map, Value, json};

use crate::ecs;

/// The alias of all indices, and the beginning of their names. Earlier versions had one index of this name.
pub const INDEX: &str = "analytic-auth-record";

/// The template of the dated indices. That of earlier versions was named as the index, and an earlier version that
/// still runs writes it.
pub(crate) const TEMPLATE: &str = "analytic-auth-record-dated";

/// The index of a record. Where an earlier version's index is there, what that version wrote goes into it: the record
/// may be there already.
pub(crate) fn index_of(record: &Value, has_earlier: bool) -> String {
    if has_earlier && record.get("chain").is_none() {
        return INDEX.to_owned();
    }
    let day = record["@timestamp"].as_str().and_then(|time| time.get(..10)).filter(|day| is_day(day));
    let day = day.unwrap_or("1970-01-01").replace('-', ".");
    if record["kind"] == "Decision" {
        format!("{INDEX}-decisions-{day}")
    } else {
        format!("{INDEX}-changes-{}.01", day.get(..7).unwrap_or_default())
    }
}

fn is_day(text: &str) -> bool {
    text.bytes().enumerate().all(|(at, byte)| if matches!(at, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() })
}

/// Known fields typed, everything unknown kept but not indexed: no text of a caller makes a field.
pub(crate) fn mapping() -> Value {
    json!({"dynamic": false, "properties": fields()})
}

/// The template of the dated indices. There is no alias of a name that an index has.
pub(crate) fn template(has_earlier: bool) -> Value {
    let aliases = if has_earlier { json!({}) } else { json!({INDEX: {}}) };
    json!({
        "index_patterns": [format!("{INDEX}-*")],
        "priority": 300,
        "template": {
            "settings": {"index": {"number_of_shards": 1, "auto_expand_replicas": "0-1"}},
            "mappings": mapping(),
            "aliases": aliases,
        }
    })
}

/// The types of all fields.
pub(crate) fn fields() -> Map<String, Value> {
    let keyword = json!({"type": "keyword", "ignore_above": 1024});
    let ours = json!({
        "@timestamp": {"type": "date"}, "id": keyword, "schema": {"type": "integer"}, "kind": keyword,
        "chain": {"properties": {"id": keyword, "n": {"type": "long"}, "hash": {"type": "keyword", "index": false}}},
        "seal": {"properties": {"why": keyword, "segment": {"type": "long"}, "kept_from": {"type": "long"},
        "cut": {"type": "long"}, "before": {"type": "keyword", "index": false}, "keyed": {"type": "boolean"}}},
        "namespace": keyword, "gateway": keyword, "generation": {"type": "long"}, "outcome": keyword,
        "status": {"type": "integer"},
        "stage": keyword, "reason": keyword, "detail": {"type": "text"}, "duration_us": {"type": "long"},
        "trace": {"properties": {"id": keyword}}, "route": keyword, "limit": keyword, "upstream": keyword,
        "mirrors": keyword,
        "request": {"properties": {"method": keyword, "host": keyword, "path": keyword, "source": {"type": "ip"}}},
        "policy": {"properties": {"name": keyword, "generation": {"type": "long"}, "method": keyword, "rule": keyword,
        "in_query": {"type": "boolean"}, "baselines": keyword}},
        "identity": {"properties": {"kind": keyword, "id": keyword, "username": keyword, "issuer": keyword,
        "roles": keyword, "roles_dropped": {"type": "text"},
            "credential": keyword, "owner": keyword, "kid": keyword, "cached": {"type": "boolean"}}},
        "usage": {"properties": {"model": keyword, "prompt_tokens": {"type": "long"},
        "cached_prompt_tokens": {"type": "long"}, "completion_tokens": {"type": "long"},
        "estimated": {"type": "boolean"},
        "cost": {"properties": {"micros": {"type": "long"}, "currency": keyword}}}},
        "issued": {"properties": {"grant": keyword, "subject": keyword, "token": keyword, "scopes": keyword,
        "audiences": keyword, "lifetime_seconds": {"type": "long"}}},
        "shadow": {"properties": {"policy": keyword, "generation": {"type": "long"}, "baseline": {"type": "boolean"},
        "outcome": keyword, "reason": keyword, "rule": keyword, "detail": {"type": "text"}}},
        "action": keyword, "actor": keyword, "diff": {"type": "text"},
        "by": {"properties": {"evidence": keyword, "names": keyword, "uid": keyword, "groups": keyword,
        "manager": keyword}},
        "origin": {"properties": {"tool": keyword, "evidence": keyword, "application": keyword, "revision": keyword,
        "mismatched": {"type": "boolean"}}},
        "between": {"properties": {"from": {"type": "date"}, "to": {"type": "date"}}},
        "object": {"properties": {"kind": keyword, "namespace": keyword, "name": keyword, "uid": keyword,
        "generation": {"type": "long"}, "version": keyword}}
    });
    let Value::Object(mut fields) = ours else { return Map::new() };
    let block = json!({"rule": keyword, "ends": {"type": "date"}, "observed": {"type": "boolean"}});
    fields.insert("block".into(), json!({"properties": block}));
    fields.append(&mut ecs::mapping());
    fields
}

#[cfg(test)]
mod dashboards;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_of_a_record_follows_from_its_own_time() {
        let record = |kind: &str, time: &str| json!({"kind": kind, "@timestamp": time, "chain": {}});
        let decision = record("Decision", "2027-01-31T23:59:59.999Z");
        for has_earlier in [true, false] {
            assert_eq!(index_of(&decision, has_earlier), "analytic-auth-record-decisions-2027.01.31");
            let change = record("Change", "2027-01-31T23:59:59.999Z");
            assert_eq!(index_of(&change, has_earlier), "analytic-auth-record-changes-2027.01.01");
        }
        for wrong in ["", "2027", "2027-01-3", "../../../..", "2027*01*31T", "日本語日本語"] {
            assert_eq!(index_of(&record("Decision", wrong), false), "analytic-auth-record-decisions-1970.01.01");
        }
    }

    #[test]
    fn a_record_of_an_earlier_version_goes_where_that_put_it() {
        let record = json!({"kind": "Decision", "@timestamp": "2027-01-31T23:59:59.999Z"});
        assert_eq!(index_of(&record, true), INDEX);
        assert_eq!(index_of(&record, false), "analytic-auth-record-decisions-2027.01.31");
    }

    #[test]
    fn there_is_no_alias_of_a_name_that_an_index_has() {
        assert_eq!(template(true)["template"]["aliases"], json!({}));
        assert_eq!(template(false)["template"]["aliases"], json!({INDEX: {}}));
    }
}
