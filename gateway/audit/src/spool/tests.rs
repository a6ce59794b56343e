use std::io::Write;
use std::time::Duration;

use super::*;
use crate::{Action, Change, ChangeBy, Evidence, ObjectName, Record, SCHEMA};

fn config(dir: &Path) -> SpoolConfig {
    SpoolConfig::in_folder(dir, 1 << 30)
}

fn change(name: &str) -> Record<'_> {
    let object = ObjectName { kind: "IdentityPolicy", namespace: "shop", name, uid: "u", generation: 1, version: "" };
    Record::Change(Change {
        time: Timestamp(0),
        id: name,
        schema: SCHEMA,
        action: Action::Created,
        object,
        actor: "kubectl",
        by: ChangeBy { evidence: Evidence::Unknown, names: &[], uid: "", groups: &[], manager: "kubectl" },
        origin: None,
        between: None,
        diff: &[],
    })
}

fn lines(dir: &Path) -> Vec<serde_json::Value> {
    let read = |(sequence, _): &(u64, u64)| std::fs::read_to_string(segment_path(dir, *sequence)).unwrap();
    segments(dir)
        .unwrap()
        .iter()
        .map(read)
        .collect::<String>()
        .lines()
        .filter(|line| !crate::seal::is_seal(line))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn an_acknowledged_record_is_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(config(dir.path())).unwrap();
    let spool_handle = spool.spool_handle();
    assert_eq!(spool_handle.record_durably(&change("a")).await, Ok(()));
    assert_eq!(lines(dir.path())[0]["id"], "a");
    drop(spool_handle);
    spool.close();
}

#[test]
fn closing_loses_nothing_and_a_half_line_is_cut_off_on_opening() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let spool = Spool::open(config(dir.path())).unwrap();
        let spool_handle = spool.spool_handle();
        (0..500).for_each(|i| spool_handle.record(&change(&format!("{round}-{i}"))));
        drop(spool_handle);
        spool.close();
        let mut file = OpenOptions::new().append(true).open(segment_path(dir.path(), 1)).unwrap();
        file.write_all(b"{\"kind\":\"half").unwrap();
    }
    let spool = Spool::open(config(dir.path())).unwrap();
    spool.close();
    assert_eq!(lines(dir.path()).len(), 1500);
}

#[test]
fn a_folder_has_one_writer() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(config(dir.path())).unwrap();
    assert!(matches!(Spool::open(config(dir.path())), Err(SpoolError::InUse(_))));
    spool.close();
    assert!(Spool::open(config(dir.path())).is_ok());
}

#[tokio::test]
async fn a_full_spool_refuses_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(SpoolConfig { max_bytes: 1000, shipped: true, ..config(dir.path()) }).unwrap();
    let spool_handle = spool.spool_handle();
    assert_eq!(spool_handle.record_durably(&change("first")).await, Ok(()));
    assert_eq!(spool_handle.record_durably(&change("second")).await, Ok(()));
    assert_eq!(spool_handle.record_durably(&change("third")).await, Err(NotStored));
    assert!(!spool_handle.is_open());
    // The shipper removes shipped segments; here the test empties the segment instead.
    OpenOptions::new().write(true).open(segment_path(dir.path(), 1)).unwrap().set_len(0).unwrap();
    for _ in 0..100 {
        if spool_handle.is_open() && !lines(dir.path()).is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(spool_handle.is_open());
    assert!(
        lines(dir.path()).iter().any(|line| line["id"] == "third"),
        "what was taken while full is stored afterwards"
    );
    drop(spool_handle);
    spool.close();
}
