use serde_json::json;

use super::*;
use crate::ecs::with_ecs;

const CHAIN: &str = "01J00000000000000000000000";

/// A chain of so many records, one a day from 2027-01-01, as a server has them.
fn documents(key: &ChainKey, days: &[&str]) -> Vec<Indexed> {
    let linker = Linker::new(key);
    let mut head = linker.begin(CHAIN);
    let mut written = Vec::new();
    for (n, day) in days.iter().enumerate() {
        let line = json!({"kind": "Decision", "@timestamp": format!("{day}T08:00:00.000Z"), "id": format!("R{n}"),
            "detail": "a\",\"chain\":{\"id\":\" }", "request": {"path": "/"}, "identity": {"username": "ana"}});
        linker.link(&mut head, format!("{line}\n").as_bytes(), &mut written);
    }
    let text = String::from_utf8(written).unwrap();
    let document = |line: &str| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let day = record["@timestamp"].as_str().unwrap()[..10].replace('-', ".");
        let (index, id) = (format!("r-decisions-{day}"), record["id"].as_str().unwrap().to_owned());
        Indexed { index, id, source: with_ecs(line, &record) }
    };
    text.lines().map(document).collect()
}

const DAYS: [&str; 5] = ["2027-01-01", "2027-01-01", "2027-01-02", "2027-01-03", "2027-01-04"];

fn walked(documents: Vec<Indexed>, kept_from: &str, wanted: &[ChainHead]) -> IndexVerified {
    let mut walk = IndexWalk::new(&ChainKey::none(), wanted, kept_from.to_owned());
    documents.into_iter().for_each(|document| walk.document(document));
    walk.end()
}

fn said(found: &IndexVerified) -> Vec<String> {
    found.tampering.iter().map(ToString::to_string).collect()
}

#[test]
fn what_was_shipped_is_good_with_the_fields_of_ecs_behind_it() {
    let found = walked(documents(&ChainKey::none(), &DAYS), "2027-01-01", &[]);
    assert_eq!((found.good, found.unfounded, found.tampered, found.expired), (5, 0, 0, 0), "{:?}", found.tampering);
    let head = &found.heads[0];
    assert_eq!((found.heads.len(), head.n), (1, 5));
    let reached = walked(documents(&ChainKey::none(), &DAYS), "2027-01-01", std::slice::from_ref(head));
    assert_eq!(reached.tampered, 0);
    let cut = walked(documents(&ChainKey::none(), &DAYS[..4]), "2027-01-01", std::slice::from_ref(head));
    assert_eq!(said(&cut), [format!("number 5 of chain {CHAIN} is not there as it was: the end is cut off")]);
}

#[test]
fn what_is_changed_removed_doubled_or_added_is_named() {
    let all = documents(&ChainKey::none(), &DAYS);
    let mut changed = all.clone();
    changed[2].source = changed[2].source.replacen("ana", "bob", 1);
    assert_eq!(said(&walked(changed, "", &[])), ["r-decisions-2027.01.02/R2 (number 3): changed"]);
    let mut removed = all.clone();
    removed.drain(1..3);
    assert_eq!(said(&walked(removed, "", &[])), [format!("chain {CHAIN}: numbers 2 to 3 are removed")]);
    let mut doubled = all.clone();
    doubled.insert(3, Indexed { index: "r-changes-2027.01.01".into(), ..doubled[2].clone() });
    assert_eq!(said(&walked(doubled, "", &[])), ["r-changes-2027.01.01/R2: number 3 of its chain is there twice"]);
    let mut added = all.clone();
    added.push(Indexed { index: "i".into(), id: "x".into(), source: "{\"kind\":\"Decision\"}".into() });
    assert_eq!(said(&walked(added, "", &[])), ["i/x: added: it is in no chain"]);
    let mut moved = all;
    moved.swap(1, 2);
    assert!(walked(moved, "", &[]).tampered > 0);
}

#[test]
fn a_gap_is_a_finding_unless_retention_explains_it() {
    let all = documents(&ChainKey::none(), &DAYS);
    // The first day is gone as a whole, and the chain is older than that.
    let expired = walked(all[2..].to_vec(), "2027-01-02", &[]);
    assert_eq!((expired.tampered, expired.expired, expired.unfounded, expired.good), (0, 1, 1, 2));
    // The index of the day is there, and some of its records are not.
    let mut kept = all.clone();
    kept.remove(3);
    assert_eq!(walked(kept.clone(), "2027-01-01", &[]).tampered, 1);
    // A change of an older day is kept for longer than the decisions behind it.
    assert_eq!(walked(kept, "2027-01-04", &[]).tampered, 0);
    assert_eq!(birthday(CHAIN).as_deref(), Some("2024-06-10"));
    let indices = ["x-decisions-2027.02.10", "x-decisions-2027.02.11", "x-changes-2027.01.01"];
    assert_eq!(kept_from(indices.into_iter()), "2027-02-10");
}

#[test]
fn without_its_key_nobody_makes_a_chain_of_hmacs_anew() {
    let key = ChainKey::new(vec![7; 32]).unwrap();
    let mut walk = IndexWalk::new(&key, &[], String::new());
    documents(&ChainKey::none(), &DAYS).into_iter().for_each(|document| walk.document(document));
    assert_eq!(walk.end().tampered, 5);
    let mut walk = IndexWalk::new(&key, &[], String::new());
    documents(&key, &DAYS).into_iter().for_each(|document| walk.document(document));
    assert_eq!(walk.end().good, 5);
}
