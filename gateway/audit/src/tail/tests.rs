use std::fs::{self, OpenOptions};
use std::io::Write;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn line(id: usize) -> String {
    json!({"kind": "Decision", "id": format!("R{id}"), "detail": "x".repeat(id % 50)}).to_string() + "\n"
}

fn append(dir: &Path, segment: u64, text: &str) {
    let path = segment_path(dir, segment);
    OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

fn ids(tailed: &[Tailed]) -> Vec<String> {
    let id = |tailed: &Tailed| match tailed {
        Tailed::Record { record, .. } => record.id().to_owned(),
        Tailed::Missed => "missed".to_owned(),
    };
    tailed.iter().map(id).collect()
}

fn mark(tailed: &Tailed) -> Mark {
    let Tailed::Record { mark, .. } = tailed else { panic!("{tailed:?}") };
    mark.clone()
}

/// One step of a writer and a reader at the same time.
#[derive(Clone, Debug)]
enum Step {
    /// Writes so many records.
    Write(usize),
    /// Writes a part of one, and the rest with the next.
    Half,
    /// Goes on in the next segment.
    Rotate,
    /// Reads at most so many bytes.
    Read(u64),
    /// The reader goes away and comes back with the last mark, or with the last id alone.
    Cut(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1usize..20).prop_map(Step::Write),
        Just(Step::Half),
        Just(Step::Rotate),
        (1u64..2000).prop_map(Step::Read),
        any::<bool>().prop_map(Step::Cut),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #[test]
    fn a_reader_that_comes_back_gets_each_record_once(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let (mut count, mut segment, mut half) = (0, 1, String::new());
        append(dir, 1, "");
        let mut tail = Tail::from_now(dir).unwrap();
        let (mut seen, mut last) = (Vec::new(), None);
        for step in steps {
            match step {
                Step::Write(records) => for _ in 0..records {
                    let text = line(count);
                    append(dir, segment, text.strip_prefix(&std::mem::take(&mut half)[..]).unwrap());
                    count += 1;
                },
                Step::Half if half.is_empty() => {
                    half = line(count)[..10].to_owned();
                    append(dir, segment, &half);
                }
                Step::Rotate if half.is_empty() => {
                    segment += 1;
                    append(dir, segment, "");
                }
                Step::Read(limit) => {
                    let found = tail.next(limit).unwrap();
                    last = found.last().map(mark).or(last);
                    seen.extend(ids(&found));
                }
                Step::Cut(with_place) => if let Some(last) = &last {
                    let text = if with_place { last.to_string() } else { last.id().to_owned() };
                    tail = Tail::after(dir, &text.parse().unwrap()).unwrap();
                },
                Step::Half | Step::Rotate => {}
            }
        }
        loop {
            let found = tail.next(500).unwrap();
            if found.is_empty() {
                break;
            }
            seen.extend(ids(&found));
        }
        prop_assert_eq!(seen, (0..count).map(|id| format!("R{id}")).collect::<Vec<_>>());
    }
}

#[test]
fn what_was_removed_before_it_was_read_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    append(dir, 1, &line(0));
    let mut slow = Tail::from_start(dir).unwrap();
    let first = slow.next(1).unwrap();
    assert_eq!(ids(&first), ["R0"]);
    append(dir, 1, &line(1));
    append(dir, 2, &line(2));
    append(dir, 3, &line(3));
    fs::remove_file(segment_path(dir, 1)).unwrap();
    assert_eq!(ids(&slow.next(1).unwrap()), ["R1"], "an open segment can still be read");
    fs::remove_file(segment_path(dir, 2)).unwrap();
    assert_eq!(ids(&slow.next(1).unwrap()), ["missed"]);
    assert_eq!(ids(&slow.next(1).unwrap()), ["R3"]);
    assert!(slow.next(1).unwrap().is_empty());
    // A reader who comes back after a record that is gone learns that, with its place and without.
    for mark in [mark(&first[0]), "R0".parse().unwrap()] {
        assert!(matches!(Tail::after(dir, &mark), Err(TailError::Unknown)), "{mark}");
    }
}

#[test]
fn a_record_that_was_written_twice_is_left_at_the_right_one() {
    let dir = tempfile::tempdir().unwrap();
    append(dir.path(), 1, &(line(1) + &line(2) + &line(1) + &line(3)));
    let found = Tail::from_start(dir.path()).unwrap().next(1 << 20).unwrap();
    let after = |place: usize| ids(&Tail::after(dir.path(), &mark(&found[place])).unwrap().next(1 << 20).unwrap());
    assert_eq!(after(0), ["R2", "R1", "R3"]);
    assert_eq!(after(2), ["R3"]);
}

#[test]
fn marks_are_read_as_they_are_written_and_nothing_else_is() {
    for good in ["R1", "R1.2.3", "01J-x.0.0"] {
        assert_eq!(good.parse::<Mark>().unwrap().to_string(), good);
    }
    for wrong in ["", ".1.2", "a.1", "a.1.", "a.x.1", "a.1.2.3", "a b", "a\n", "a/b", &"a".repeat(200)] {
        assert_eq!(wrong.parse::<Mark>(), Err(NoCursor), "{wrong}");
    }
    let dir = tempfile::tempdir().unwrap();
    append(dir.path(), 1, &line(1));
    // A place that somebody made up is no place of a record.
    for wrong in ["R1.1.5", "R2.1.0", "R1.9.0", "R1.1.999999999999"] {
        assert!(matches!(Tail::after(dir.path(), &wrong.parse().unwrap()), Err(TailError::Unknown)), "{wrong}");
    }
}
