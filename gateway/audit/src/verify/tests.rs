use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::SpoolHealth;
use crate::spool::SpoolConfig;
use crate::spool_handle::{Batch, LaneSlots, Slot};
use crate::writer::Writer;

const ID: &str = "01J00000000000000000000000";
const OTHER: &str = "01J00000000000000000000009";

fn config(dir: &Path) -> SpoolConfig {
    SpoolConfig::in_folder(dir, 1 << 30)
}

fn open(config: &SpoolConfig, id: &str) -> Writer {
    Writer::open(config, id, || idm_types::Timestamp(1_800_000_000_000)).unwrap()
}

fn batch(from: usize, records: usize) -> Vec<(std::sync::Arc<Slot>, Batch)> {
    let line = |n: usize| format!("{{\"kind\":\"Decision\",\"id\":\"R{n}\",\"detail\":\"a{{}}\\\\u001b\\\"\"}}\n");
    let lines: String = (from..from + records).map(line).collect();
    vec![(Default::default(), Batch { lines: lines.into_bytes(), records: records as u64, waiting: Vec::new() })]
}

/// A folder with three segments, of two processes, the second of which ended as it should.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut first = open(&config(dir.path()), ID);
    first.append(&batch(0, 2)).unwrap();
    first.rotate().unwrap();
    first.append(&batch(2, 1)).unwrap();
    drop(first);
    let mut second = open(&config(dir.path()), OTHER);
    second.append(&batch(3, 1)).unwrap();
    second.rotate().unwrap();
    second.append(&batch(4, 1)).unwrap();
    let (desk, health) = (LaneSlots::default(), SpoolHealth::default());
    desk.closing.store(true, std::sync::atomic::Ordering::Release);
    second.run(&desk, &health);
    dir
}

fn verified(dir: &Path) -> Verified {
    verify(dir, &ChainKey::none(), &[]).unwrap()
}

fn is_tampered(dir: &Path) -> bool {
    verified(dir).tampered > 0
}

fn paths(dir: &Path) -> Vec<PathBuf> {
    segments(dir).unwrap().into_iter().map(|(segment, _)| segment_path(dir, segment)).collect()
}

/// All lines, with the number of their segment.
fn lines(dir: &Path) -> Vec<(usize, String)> {
    let of = |(at, path): (usize, &PathBuf)| {
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| (at, line.to_owned())).collect::<Vec<_>>()
    };
    paths(dir).iter().enumerate().flat_map(of).collect()
}

fn write(dir: &Path, lines: &[(usize, String)]) {
    for (at, path) in paths(dir).iter().enumerate() {
        let here = lines.iter().filter(|(segment, _)| *segment == at);
        fs::write(path, here.map(|(_, line)| format!("{line}\n")).collect::<String>()).unwrap();
    }
}

#[test]
fn what_was_written_is_good() {
    let dir = folder();
    let found = verified(dir.path());
    assert_eq!((found.tampered, &found.tampering[..], &found.traces[..]), (0, &[][..], &[][..]));
    // Five records; begun, rotated, opened, rotated, closed.
    assert_eq!((found.good, found.head.map(|head| (head.id, head.n))), (10, Some((ID.to_owned(), 10))));
}

/// The same as [`verify`] over a folder with these segments.
fn tampering_of(segments: &[&[u8]]) -> Vec<Tampering> {
    let mut walk = Walk::new(&ChainKey::none(), &[]);
    for (at, bytes) in segments.iter().enumerate() {
        walk.segment(at as u64 + 1, *bytes, at + 1 == segments.len()).unwrap();
    }
    walk.end(1, None).tampering
}

fn bytes(dir: &Path) -> Vec<Vec<u8>> {
    paths(dir).iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn every_byte_that_is_changed_is_found() {
    let dir = folder();
    let good = bytes(dir.path());
    for segment in 0..good.len() {
        for at in 0..good[segment].len() {
            for new in [good[segment][at] ^ 1, good[segment][at] ^ 0x80, b'\n', b' ', 0] {
                let mut bad = good.clone();
                bad[segment][at] = new;
                let bad_bytes: Vec<&[u8]> = bad.iter().map(Vec::as_slice).collect();
                let found = !tampering_of(&bad_bytes).is_empty();
                assert_eq!(found, bad != good, "byte {at} of segment {segment} as {new}");
            }
        }
    }
}

#[test]
fn every_line_that_is_removed_doubled_moved_or_added_is_found() {
    let dir = folder();
    let good = lines(dir.path());
    let last = good.len() - 1;
    let is_found = |bad: Vec<(usize, String)>| {
        write(dir.path(), &bad);
        is_tampered(dir.path())
    };
    for at in 0..good.len() {
        let (mut removed, mut doubled, mut added) = (good.clone(), good.clone(), good.clone());
        removed.remove(at);
        // Without its last lines a folder is as it was earlier: only a head from elsewhere tells.
        assert_eq!(is_found(removed), at != last, "{at} removed");
        doubled.insert(at, good[at].clone());
        assert!(is_found(doubled), "{at} doubled");
        added.insert(at, (good[at].0, "{\"kind\":\"Decision\",\"id\":\"X\"}".to_owned()));
        assert!(is_found(added), "added at {at}");
        for other in at + 1..good.len() {
            let mut swapped = good.clone();
            (swapped[at].1, swapped[other].1) = (good[other].1.clone(), good[at].1.clone());
            assert!(is_found(swapped), "{at} and {other} swapped");
            let mut moved = good.clone();
            let line = moved.remove(at);
            moved.insert(other, (good[other].0, line.1));
            assert!(is_found(moved), "{at} moved to {other}");
        }
    }
    assert!(!is_found(good));
}

#[test]
fn a_changed_record_and_a_removed_one_are_named() {
    let dir = folder();
    let good = lines(dir.path());
    let mut bad = good.clone();
    bad[2].1 = bad[2].1.replace("\"R1\"", "\"R9\"");
    bad.remove(4);
    write(dir.path(), &bad);
    let found = verified(dir.path());
    let changed = Tampering::Changed(Place { segment: 1, line: 3 });
    let removed = Tampering::Removed { from: 5, to: 5, before: Place { segment: 2, line: 2 } };
    assert_eq!(found.tampering[..2], [changed, removed]);
}

#[test]
fn a_segment_that_is_removed_is_found_and_one_that_idm_dropped_is_not() {
    for gone in 1..=2 {
        let dir = folder();
        fs::remove_file(segment_path(dir.path(), gone)).unwrap();
        assert!(is_tampered(dir.path()), "segment {gone}");
    }
    let dir = folder();
    fs::remove_file(segment_path(dir.path(), 1)).unwrap();
    // A shipper that has shipped it removes it.
    fs::write(dir.path().join("checkpoint"), "2 10").unwrap();
    let found = verified(dir.path());
    assert_eq!((found.tampered, &found.traces[..]), (0, &[Trace::Dropped(4)][..]));
    // So does a writer at its limit, and says so first.
    let dir = folder();
    let mut writer = open(&SpoolConfig { max_bytes: 1500, ..config(dir.path()) }, OTHER);
    writer.append(&batch(20, 1)).unwrap();
    assert!(segments(dir.path()).unwrap().len() < 3, "the oldest is gone");
    assert_eq!(verified(dir.path()).tampered, 0);
}

#[test]
fn a_crash_at_any_byte_is_no_tampering_neither_before_nor_after_the_next_start() {
    let whole = folder();
    let all = bytes(whole.path());
    for (segment, last) in all.iter().enumerate() {
        for length in 0..=last.len() {
            let left: Vec<&[u8]> = all[..segment].iter().map(Vec::as_slice).chain([&last[..length]]).collect();
            assert_eq!(tampering_of(&left), [], "at byte {length} of {segment}");
            // A disk takes longer than memory.
            if length % 13 > 0 && last.get(length.saturating_sub(1)) != Some(&b'\n') {
                continue;
            }
            let dir = tempfile::tempdir().unwrap();
            for (at, bytes) in left.iter().enumerate() {
                fs::write(segment_path(dir.path(), at as u64 + 1), bytes).unwrap();
            }
            open(&config(dir.path()), OTHER).append(&batch(50, 2)).unwrap();
            let found = verified(dir.path());
            assert_eq!(found.tampering, [], "after a start at byte {length} of {segment}");
            assert!(found.good >= 3);
        }
    }
}

#[test]
fn an_end_that_is_cut_off_is_found_with_a_head_from_the_log() {
    let dir = folder();
    let head = verified(dir.path()).head.unwrap();
    assert_eq!(head.to_string().parse(), Ok(head.clone()));
    let with = |head: &ChainHead| verify(dir.path(), &ChainKey::none(), std::slice::from_ref(head)).unwrap();
    assert_eq!(with(&head).tampered, 0);
    let mut cut = lines(dir.path());
    cut.truncate(cut.len() - 2);
    write(dir.path(), &cut);
    assert_eq!(verified(dir.path()).traces, [Trace::Open], "it is said that the end has no seal");
    assert_eq!(with(&head).tampering, [Tampering::Cut(head)]);
}

#[test]
fn without_the_key_nobody_makes_a_chain_anew() {
    let key = |byte: u8| ChainKey::new(vec![byte; 32]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(&SpoolConfig { chain_key: key(1), ..config(dir.path()) }, ID);
    writer.append(&batch(0, 3)).unwrap();
    assert_eq!(verify(dir.path(), &key(1), &[]).unwrap().tampered, 0);
    assert!(verify(dir.path(), &key(2), &[]).unwrap().tampered > 0);
    assert!(verify(dir.path(), &ChainKey::none(), &[]).unwrap().tampered > 0);
    assert_eq!(ChainKey::new(vec![1; 31]).err(), Some(crate::ShortKey));
    assert!(!format!("{:?}", key(77)).contains("77"), "a key is not shown");
}

#[test]
fn lines_of_an_earlier_version_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(segment_path(dir.path(), 1), "{\"kind\":\"Decision\",\"id\":\"old\"}\n").unwrap();
    let mut writer = open(&config(dir.path()), ID);
    writer.append(&batch(0, 1)).unwrap();
    let found = verified(dir.path());
    assert_eq!((found.tampered, found.good), (0, 2), "{:?}", found.tampering);
    assert_eq!(found.traces, [Trace::Unchained(1), Trace::Open]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_that_stands_in_a_folder_breaks_verifying(text in prop::collection::vec(any::<u8>(), 0..300)) {
        let dir = folder();
        fs::write(segment_path(dir.path(), 2), text).unwrap();
        prop_assert!(is_tampered(dir.path()));
    }
}
