use std::fs;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{RecordKind, RecordOutcome};

fn line(id: usize, kind: &str) -> String {
    let time = Timestamp(1_800_000_000_000 + id as u64).rfc3339();
    json!({"kind": kind, "@timestamp": time, "id": format!("R{id}"), "detail": "x".repeat(id % 97)}).to_string()
}

/// All pages one after the other.
fn all(dir: &Path, filter: &RecordFilter, limit: usize) -> Vec<String> {
    let (mut found, mut before) = (Vec::new(), None);
    loop {
        let page = read(dir, filter, before.as_ref(), limit).unwrap();
        assert!(page.items.len() <= limit);
        assert!(page.items.len() == limit || page.next.is_none() || !page.complete);
        found.extend(page.items.iter().map(|record| record.id().to_owned()));
        let Some(next) = page.next else { return found };
        // A cursor survives its way to a caller and back.
        assert_eq!(next.to_string().parse(), Ok(next.clone()));
        assert!(before.as_ref() != Some(&next), "each call moves");
        before = Some(next);
    }
}

proptest! {
    #[test]
    fn pages_have_each_record_once_the_newest_first(
        sizes in prop::collection::vec(0usize..400, 1..5), limit in 1usize..50, torn in any::<bool>()
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut count = 0;
        for (segment, size) in sizes.iter().enumerate() {
            let mut text: String = (0..*size).map(|i| line(count + i, "Decision") + "\n").collect();
            if torn && segment + 1 == sizes.len() {
                text.push_str("{\"kind\":\"Decision\",\"id\":\"half");
            }
            fs::write(segment_path(dir.path(), segment as u64 + 7), text).unwrap();
            count += size;
        }
        let wanted: Vec<String> = (0..count).rev().map(|id| format!("R{id}")).collect();
        prop_assert_eq!(all(dir.path(), &RecordFilter::default(), limit), wanted);
    }

    #[test]
    fn no_cursor_of_a_caller_breaks_a_search(segment in 0u64..4, offset: u64, text in ".{0,40}") {
        let dir = tempfile::tempdir().unwrap();
        fs::write(segment_path(dir.path(), 1), line(1, "Change") + "\n" + &line(2, "Change") + "\n").unwrap();
        for offset in [offset, offset % 400] {
            let before = Cursor::Folder { segment, offset };
            let page = read(dir.path(), &RecordFilter::default(), Some(&before), 5).unwrap();
            prop_assert!(page.items.len() <= 2 && page.complete);
        }
        let _ = text.parse::<Cursor>();
    }
}

#[test]
fn a_rare_record_is_found_in_several_calls_of_bounded_work() {
    let dir = tempfile::tempdir().unwrap();
    let mut text = line(0, "Change") + "\n";
    while (text.len() as u64) < 2 * WORK + 100 {
        text.push_str(&(line(text.len(), "Decision") + "\n"));
    }
    fs::write(segment_path(dir.path(), 1), text).unwrap();
    let filter = RecordFilter { kind: Some(RecordKind::Change), ..RecordFilter::default() };
    let page = read(dir.path(), &filter, None, 10).unwrap();
    assert!(page.items.is_empty() && !page.complete && page.next.is_some());
    assert_eq!(all(dir.path(), &filter, 10), ["R0"]);
}

#[test]
fn a_line_longer_than_a_block_is_one_record() {
    let dir = tempfile::tempdir().unwrap();
    let long = json!({"kind": "Change", "id": "L", "detail": "x".repeat(BLOCK as usize * 3)}).to_string();
    fs::write(segment_path(dir.path(), 1), [line(1, "Change"), long, line(2, "Change")].join("\n") + "\n").unwrap();
    assert_eq!(all(dir.path(), &RecordFilter::default(), 1), ["R2", "L", "R1"]);
}

#[test]
fn a_record_that_was_written_twice_is_on_a_page_once_and_no_garbage_is() {
    let dir = tempfile::tempdir().unwrap();
    let text = [line(1, "Change"), "not a record".into(), line(2, "Change"), line(1, "Change"), "[]".into()].join("\n");
    fs::write(segment_path(dir.path(), 1), text + "\n").unwrap();
    let page = read(dir.path(), &RecordFilter::default(), None, 10).unwrap();
    assert_eq!(page.items.iter().map(StoredRecord::id).collect::<Vec<_>>(), ["R2", "R1"], "by their times");
}

#[test]
fn segments_that_were_written_before_are_not_read() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(segment_path(dir.path(), 1), line(1, "Change") + "\n").unwrap();
    fs::write(segment_path(dir.path(), 2), line(2, "Change") + "\n").unwrap();
    for (segment, written) in [(1, 1_700_000_000), (2, 1_800_000_001)] {
        let file = File::options().write(true).open(segment_path(dir.path(), segment)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(written)).unwrap();
    }
    let since = Some(Timestamp(1_800_000_000_000));
    let filter = RecordFilter { since, ..RecordFilter::default() };
    assert_eq!(all(dir.path(), &filter, 10), ["R2"], "R1 would match, and its segment is too old to hold it");
    let failed = RecordFilter { outcome: Some(RecordOutcome::Outcome(crate::Outcome::Failed)), ..filter };
    assert!(all(dir.path(), &failed, 10).is_empty());
}

#[test]
fn cursors_are_read_as_they_are_written_and_nothing_else_is() {
    for good in ["f.1.0", "s.5.01J-a"] {
        assert_eq!(good.parse::<Cursor>().unwrap().to_string(), good);
    }
    for wrong in ["", "f", "f.1", "f.1.x", "f.x.1", "g.1.1", "s.1.", "s.1.a/b", "s.1.\"", "f.1.1.1", "s.-1.a"] {
        assert_eq!(wrong.parse::<Cursor>(), Err(NoCursor), "{wrong}");
    }
    let server = Cursor::Server { time: Timestamp(1), id: "a".into() };
    let dir = tempfile::tempdir().unwrap();
    let error = read(dir.path(), &RecordFilter::default(), Some(&server), 1).unwrap_err();
    assert!(matches!(error, crate::ReadError::Cursor(_)), "{error}");
}
