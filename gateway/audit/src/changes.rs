//! Which records of changes somebody asks for: in a folder, or as a query of Elasticsearch.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use idm_types::Timestamp;
use serde_json::{Value, json};

use crate::{Follower, StoredRecord};

/// Bytes of a folder that are read at a time.
const READ: u64 = 1 << 20;

/// Which changes are asked for; what is not set does not matter.
#[derive(Clone, Debug, Default)]
pub struct ChangesFilter {
    /// The object's kind.
    pub kind: Option<String>,
    /// The object's name.
    pub name: Option<String>,
    /// The object's namespace.
    pub namespace: Option<String>,
    /// The name of one who made it, or may have.
    pub by: Option<String>,
    /// Not older than this.
    pub since: Option<Timestamp>,
}

impl ChangesFilter {
    /// Whether a record is of such a change.
    pub fn matches(&self, record: &StoredRecord) -> bool {
        let record = record.value();
        let is = |pointer: &str, wanted: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| record.pointer(pointer).and_then(Value::as_str) == Some(wanted))
        };
        let by = |wanted: &String| {
            let names = record["by"]["names"].as_array().into_iter().flatten();
            names.chain([&record["actor"]]).any(|name| name.as_str() == Some(wanted))
        };
        let since = |since: &Timestamp| record["@timestamp"].as_str().is_some_and(|time| time >= &*since.rfc3339());
        record["kind"] == "Change"
            && is("/object/kind", &self.kind)
            && is("/object/name", &self.name)
            && is("/object/namespace", &self.namespace)
            && self.by.as_ref().is_none_or(by)
            && self.since.as_ref().is_none_or(since)
    }

    /// The changes of a folder, each once, in the order of their times.
    pub fn read(&self, dir: &Path) -> io::Result<Vec<StoredRecord>> {
        let mut follower = Follower::at(dir, 0, 0);
        let (mut ids, mut found) = (BTreeSet::new(), Vec::new());
        loop {
            let lines = follower.next_lines(READ)?;
            if lines.is_empty() {
                break;
            }
            // The cheap test first: most records are of decisions.
            for line in lines.iter().filter(|line| line.contains("\"kind\":\"Change\"")) {
                let record = StoredRecord::parse(line).filter(|record| self.matches(record));
                found.extend(record.filter(|record| ids.insert(record.id().to_owned())));
            }
        }
        found.sort_by(|a, b| a.time().cmp(b.time()));
        Ok(found)
    }

    /// The body of a search for the newest of them.
    pub fn query(&self, most: usize) -> Value {
        let mut filter = vec![json!({"term": {"kind": "Change"}})];
        let terms = [("object.kind", &self.kind), ("object.name", &self.name), ("object.namespace", &self.namespace)];
        filter.extend(terms.into_iter().filter_map(|(field, wanted)| Some(json!({"term": {field: wanted.as_ref()?}}))));
        if let Some(by) = &self.by {
            let names = [json!({"term": {"actor": by}}), json!({"term": {"by.names": by}})];
            filter.push(json!({"bool": {"should": names, "minimum_should_match": 1}}));
        }
        if let Some(since) = self.since {
            filter.push(json!({"range": {"@timestamp": {"gte": since.rfc3339()}}}));
        }
        json!({"size": most, "sort": [{"@timestamp": "desc"}], "query": {"bool": {"filter": filter}}})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: &str, time: &str, name: &str, names: Value) -> String {
        let object = json!({"kind": "Credential", "namespace": "shop", "name": name, "uid": "u", "generation": 1});
        json!({"kind": "Change", "@timestamp": time, "id": id, "object": object, "actor": "x", "by": {"names": names}})
            .to_string()
    }

    #[test]
    fn changes_are_found_by_object_person_and_time_and_each_once() {
        let dir = tempfile::tempdir().unwrap();
        let early = line("1", "2027-01-01T00:00:00.000Z", "a", json!(["ana"]));
        let late = line("2", "2027-01-03T00:00:00.000Z", "b", json!(["ana", "bob"]));
        let decision = json!({"kind": "Decision", "id": "3"}).to_string();
        let text = format!("{late}\n{early}\n{decision}\n{early}\nnot a record\n");
        std::fs::write(crate::spool::segment_path(dir.path(), 1), text).unwrap();
        let found = |filter: ChangesFilter| -> Vec<String> {
            filter.read(dir.path()).unwrap().iter().map(|record| record.id().to_owned()).collect()
        };
        let all = ChangesFilter::default();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(found(all.clone()), ["1", "2"]);
        assert_eq!(found(ChangesFilter { by: some("bob"), ..all.clone() }), ["2"]);
        assert_eq!(found(ChangesFilter { by: some("x"), ..all.clone() }), ["1", "2"]);
        assert_eq!(found(ChangesFilter { name: some("a"), kind: some("Credential"), ..all.clone() }), ["1"]);
        assert!(found(ChangesFilter { namespace: some("other"), ..all.clone() }).is_empty());
        let since = Timestamp::parse_rfc3339("2027-01-02T00:00:00Z");
        assert_eq!(found(ChangesFilter { since, ..all }), ["2"]);
    }
}
