//! Every change is one record: whatever is repeated, missed or restarted.

use std::collections::BTreeMap;
use std::sync::Arc;

use idm_audit::{Action, Evidence};
use idm_types::Timestamp;
use kube::core::DynamicObject;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::join::{Author, Person};
use super::ledger::Ledger;
use super::observer::{Changed, Observer};
use super::tell::By;
use crate::objects::Kind;
use crate::watch::Seen;

const KIND: Kind = Kind::Credential;

fn object(name: &str, uid: &str, version: u64, team: u8) -> Arc<DynamicObject> {
    let created = Timestamp(1_000_000).rfc3339();
    let value = json!({
        "apiVersion": "identity-manager.io/v1alpha1", "kind": "Credential",
        "metadata": {
            "name": name, "namespace": "shop", "uid": uid, "resourceVersion": version.to_string(), "generation": 1,
            "creationTimestamp": created, "labels": {"identity-manager.io/team": format!("team-{team}")},
            "managedFields": [{"manager": "kubectl-edit", "operation": "Update", "time": created}],
        },
        "spec": {"apiKey": {}},
    });
    Arc::new(serde_json::from_value(value).unwrap())
}

fn event(before: Option<&Arc<DynamicObject>>, now: Option<&Arc<DynamicObject>>, initial: bool) -> Seen {
    Seen { kind: KIND, before: before.cloned(), now: now.cloned(), initial }
}

/// An observer after a restart: it knows what was stored.
fn restarted(ledger: &mut Ledger, stored: &mut BTreeMap<usize, String>) -> Observer {
    stored.extend(ledger.take_changed());
    let mut read = Ledger::default();
    stored.iter().for_each(|(shard, text)| read.read(*shard, text).unwrap());
    Observer::new(read, stored.is_empty(), Some(Timestamp(2_000_000)))
}

/// An observer that saw an empty cluster.
fn watching() -> Observer {
    let mut observer = Observer::new(Ledger::default(), true, None);
    Kind::OURS.iter().for_each(|kind| {
        let listed = Seen { kind: *kind, before: None, now: None, initial: true };
        assert!(observer.see(&listed, Timestamp(3_000_000)).is_empty());
    });
    observer
}

fn list(observer: &mut Observer, objects: &[Arc<DynamicObject>]) -> Vec<Changed> {
    let mut all: Vec<_> =
        objects.iter().flat_map(|o| observer.see(&event(None, Some(o), true), Timestamp(9_000_000))).collect();
    all.extend(observer.see(&event(None, None, true), Timestamp(9_000_000)));
    all
}

#[test]
fn r25_labels_are_changes_and_status_is_none() {
    let mut observer = watching();
    let (a, b) = (object("a", "u", 1, 1), object("a", "u", 2, 2));
    let created = observer.see(&event(None, Some(&a), false), Timestamp(5_000_000));
    assert_eq!(created.iter().map(|c| c.action).collect::<Vec<_>>(), [Action::Created]);
    let changed = observer.see(&event(Some(&a), Some(&b), false), Timestamp(6_000_000));
    assert_eq!(changed[0].diff, ["metadata.labels[identity-manager.io/team]: team-1 -> team-2"]);
    assert_eq!((changed[0].action, changed[0].subject.base.as_deref()), (Action::Updated, Some("1")));
    // A status write moves the version that the next change begins with.
    let status = object("a", "u", 3, 2);
    assert!(observer.see(&event(Some(&b), Some(&status), false), Timestamp(7_000_000)).is_empty());
    let gone = observer.see(&event(Some(&status), None, false), Timestamp(8_000_000));
    assert_eq!((gone[0].action, gone[0].subject.base.as_deref()), (Action::Deleted, Some("3")));
    assert!(gone[0].diff.contains(&"metadata.labels[identity-manager.io/team]: team-2 -> (none)".to_owned()));
}

/// A hundred deletions, a creation and a change while nobody watched: a record each, and the times between which they
/// happened.
#[test]
fn r26_what_happened_while_nobody_watched_is_recorded() {
    let mut observer = watching();
    let objects: Vec<_> = (0..102).map(|n| object(&format!("a{n}"), &format!("u{n}"), n, 1)).collect();
    objects.iter().for_each(|o| assert_eq!(observer.see(&event(None, Some(o), false), Timestamp(4_000_000)).len(), 1));
    let mut observer = restarted(&mut observer.ledger, &mut BTreeMap::new());
    let mut new = (*object("new", "new", 300, 1)).clone();
    new.metadata.creation_timestamp = Some(serde_json::from_value(json!(Timestamp(2_500_000).rfc3339())).unwrap());
    let changes = list(&mut observer, &[objects[100].clone(), object("a101", "u101", 200, 2), Arc::new(new)]);
    let count = |action: Action| changes.iter().filter(|changed| changed.action == action).count();
    assert_eq!((count(Action::Deleted), count(Action::Updated), count(Action::Created)), (100, 1, 1));
    assert!(changes.iter().all(|c| c.between == Some((Some(Timestamp(2_000_000)), Timestamp(9_000_000)))));
    let created = changes.iter().find(|changed| changed.action == Action::Created).unwrap();
    assert_eq!(created.time, Timestamp(2_500_000), "the object says when it was made");
    assert_eq!(list(&mut restarted(&mut observer.ledger, &mut BTreeMap::new()), &[]).len(), 3);
}

#[test]
fn what_was_there_before_the_first_ledger_is_found_and_not_created() {
    let mut observer = Observer::new(Ledger::default(), true, None);
    let found = list(&mut observer, &[object("a", "u", 1, 1)]);
    assert_eq!((found[0].action, found[0].between), (Action::Found, None));
    // So it is when a part of the ledger was lost.
    let mut ledger = Ledger::default();
    ledger.read(0, "").unwrap();
    let mut observer = Observer::new(ledger, false, Some(Timestamp(2_000_000)));
    assert_eq!(list(&mut observer, &[object("a", "u", 1, 1)])[0].action, Action::Found);
}

#[test]
fn an_object_that_replaced_another_one_of_its_name_is_another_one() {
    let mut observer = watching();
    let (a, b) = (object("a", "u", 1, 1), object("a", "v", 9, 1));
    observer.see(&event(None, Some(&a), false), Timestamp(5_000_000));
    let changes = observer.see(&event(Some(&a), Some(&b), true), Timestamp(6_000_000));
    let told: Vec<_> = changes.iter().map(|c| (c.action, &*c.subject.uid)).collect();
    assert_eq!(told, [(Action::Deleted, "u"), (Action::Created, "v")]);
}

/// The writer of an object chooses its field managers and their times.
#[test]
fn r29_what_an_object_says_of_its_writer_is_never_more_than_asserted() {
    let mut observer = watching();
    let mut forged = (*object("a", "u", 1, 1)).clone();
    forged.metadata.managed_fields = serde_json::from_value(json!([
        {"manager": "argocd-controller", "operation": "Apply", "time": "2099-01-01T00:00:00Z"},
    ]))
    .unwrap();
    let changed = observer.see(&event(None, Some(&Arc::new(forged)), false), Timestamp(5_000_000)).remove(0);
    let asserted = By::of(&changed, None);
    assert_eq!((asserted.evidence, &*asserted.actor()), (Evidence::Asserted, "unknown (argocd-controller)"));
    let persons = vec![Arc::new(Person { name: "ana".into(), uid: String::new(), groups: Vec::new() })];
    let author = Author { evidence: Evidence::Authenticated, persons, manager: "argocd-controller".into() };
    let known = By::of(&changed, Some(author));
    assert_eq!((known.evidence, &*known.actor()), (Evidence::Authenticated, "ana"));
    // A forged time does not make the id's time lie in the future.
    let mut later = (*object("a", "u", 2, 2)).clone();
    later.metadata.managed_fields = serde_json::from_value(json!([
        {"manager": "x", "operation": "Update", "time": "2099-01-01T00:00:00Z"},
    ]))
    .unwrap();
    let changed = observer.see(&event(None, Some(&Arc::new(later)), false), Timestamp(6_000_000)).remove(0);
    assert!(changed.id.to_string() < idm_types::DecisionId::from_parts(2_000_000, 0).to_string());
}

/// Ids are made of it: an upgrade must not change it.
#[test]
fn an_id_is_fixed() {
    let changed = watching().see(&event(None, Some(&object("a", "u", 1, 1)), false), Timestamp(5_000_000)).remove(0);
    assert_eq!(changed.id.to_string(), "000000YGJ0WANYG17P2HKDEZGN");
}

#[test]
fn a_shard_of_the_longest_names_fits_into_a_secret() {
    let mut observer = watching();
    let long = |length: usize| "n".repeat(length);
    for number in 0..super::ledger::SHARD + 1 {
        let uid = format!("{number:036}");
        let mut one = (*object(&long(253), &uid, 1, 1)).clone();
        one.metadata.namespace = Some(long(63));
        observer.see(&event(None, Some(&Arc::new(one)), false), Timestamp(5_000_000));
    }
    let shards = observer.ledger.take_changed();
    assert_eq!(shards.len(), 2);
    assert!(shards[0].1.len() < 1_000_000, "{}", shards[0].1.len());
    assert!(observer.ledger.take_changed().is_empty());
    observer.ledger.remove(&format!("{:036}", 0));
    assert_eq!(observer.ledger.take_changed().len(), 1, "only the shard that changed is written");
}

#[derive(Clone, Debug)]
enum Step {
    /// An object gets this content, or is made with it.
    Write(u8, u8),
    /// Its status is written.
    Status(u8),
    Delete(u8),
    /// All events since the last one come again, as after a broken watch.
    List,
    /// The ledger is stored.
    Store,
    /// The operator is killed and starts with what was stored.
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4u8, 0..3u8).prop_map(|(name, content)| Step::Write(name, content)),
        2 => (0..4u8).prop_map(Step::Status),
        2 => (0..4u8).prop_map(Step::Delete),
        1 => Just(Step::List),
        2 => Just(Step::Store),
        1 => Just(Step::Kill),
    ]
}

proptest! {
    /// The ids of all records are exactly the ids that an observer gives who sees everything once and is never stopped.
    #[test]
    fn r25_every_change_is_one_record(steps in prop::collection::vec(step(), 1..60)) {
        let mut cluster: BTreeMap<u8, Arc<DynamicObject>> = BTreeMap::new();
        let (mut version, mut uids) = (1, 0);
        let (mut tested, mut ideal) = (watching(), watching());
        let (mut ids, mut wanted) = (Vec::new(), Vec::new());
        let mut stored = BTreeMap::from([(0, String::new())]);
        let now = Timestamp(5_000_000);
        for step in steps {
            version += 1;
            let (name, before, after) = match step {
                Step::Write(name, content) => {
                    let before = cluster.get(&name).cloned();
                    let uid = before.as_ref().and_then(|b| b.metadata.uid.clone()).unwrap_or_else(|| {
                        uids += 1;
                        format!("u{uids}")
                    });
                    (name, before, Some(object(&name.to_string(), &uid, version, content)))
                }
                Step::Status(name) => {
                    let Some(before) = cluster.get(&name).cloned() else { continue };
                    let mut after = (*before).clone();
                    after.metadata.resource_version = Some(version.to_string());
                    after.data["status"] = json!({"observedGeneration": version});
                    (name, Some(before), Some(Arc::new(after)))
                }
                Step::Delete(name) => {
                    let Some(before) = cluster.remove(&name) else { continue };
                    (name, Some(before), None)
                }
                Step::List => {
                    for object in cluster.values() {
                        ids.extend(tested.see(&event(Some(object), Some(object), true), now));
                    }
                    ids.extend(tested.see(&event(None, None, true), now));
                    continue;
                }
                Step::Store => {
                    stored.extend(tested.ledger.take_changed());
                    continue;
                }
                Step::Kill => {
                    // Killed before the ledger was stored: what was recorded since may be found again.
                    let mut read = Ledger::default();
                    stored.iter().for_each(|(shard, text)| read.read(*shard, text).unwrap());
                    tested = Observer::new(read, false, Some(Timestamp(900_000)));
                    ids.extend(list(&mut tested, &cluster.values().cloned().collect::<Vec<_>>()));
                    stored.extend(tested.ledger.take_changed());
                    continue;
                }
            };
            if let Some(after) = &after {
                cluster.insert(name, after.clone());
            }
            let seen = event(before.as_ref(), after.as_ref(), false);
            ids.extend(tested.see(&seen, now));
            wanted.extend(ideal.see(&seen, now));
            // The recorder stores the ledger within a second of each change; a kill before that is in the test below.
            stored.extend(tested.ledger.take_changed());
        }
        let unique: std::collections::BTreeSet<_> = ids.iter().map(|changed| changed.id.to_string()).collect();
        let wanted: std::collections::BTreeSet<_> = wanted.iter().map(|changed| changed.id.to_string()).collect();
        prop_assert_eq!(unique.len(), ids.len(), "nothing is recorded twice");
        prop_assert_eq!(unique, wanted);
    }

    /// An operator that is killed after its records and before its ledger makes the same ids again, and another one
    /// that watches at the same time does, too.
    #[test]
    fn r25_a_change_that_is_recorded_again_has_the_same_id(contents in prop::collection::vec(0..3u8, 1..10)) {
        let mut first = watching();
        let a = object("a", "u", 1, 9);
        let created = first.see(&event(None, Some(&a), false), Timestamp(5_000_000));
        prop_assert_eq!(created.len(), 1);
        let mut stored = BTreeMap::new();
        for (number, content) in contents.iter().enumerate() {
            let mut second = restarted(&mut first.ledger, &mut stored);
            let b = object("a", "u", number as u64 + 2, *content);
            let live = first.see(&event(Some(&a), Some(&b), false), Timestamp(6_000_000));
            // The second one finds it later, after a status was written.
            let later = object("a", "u", number as u64 + 1000, *content);
            let found = list(&mut second, &[later]);
            let ids = |changes: &[Changed]| changes.iter().map(|c| c.id.to_string()).collect::<Vec<_>>();
            prop_assert_eq!(ids(&live), ids(&found));
        }
    }
}

#[test]
fn nothing_but_objects_of_ours_is_recorded() {
    let ours: Vec<&str> = Kind::OURS.iter().map(|kind| kind.name()).collect();
    let kinds: Vec<Value> = idm_api::crds().iter().map(|crd| json!(crd.spec.names.kind)).collect();
    assert_eq!(
        json!(ours),
        json!(["IdentityPolicy", "Credential", "Federation", "RoleBinding", "UsagePlan", "CredentialRequest"])
    );
    assert!(kinds.iter().all(|kind| ours.contains(&kind.as_str().unwrap())), "every kind is recorded: {kinds:?}");
}
