use proptest::prelude::*;

use super::*;

fn person(name: &str) -> Arc<Person> {
    Arc::new(Person { name: name.into(), uid: String::new(), groups: Vec::new() })
}

fn note(uid: &str, base: &str, attempt: Attempt, name: &str) -> Note {
    Note { uid: uid.into(), base: base.into(), attempt, person: person(name), manager: "m".into() }
}

fn update(content: u8) -> Attempt {
    Attempt::Update { to: [content; 16], ends: false }
}

fn became(content: u8) -> Became {
    Became::Updated { to: [content; 16], ending: false }
}

fn author(attempts: &Attempts, uid: &str, base: Option<&str>, became: Became) -> Option<(Evidence, Vec<String>)> {
    let author = attempts.author(&Subject { uid: uid.into(), base: base.map(str::to_owned), became })?;
    Some((author.evidence, author.persons.iter().map(|person| person.name.clone()).collect()))
}

fn one(evidence: Evidence, name: &str) -> Option<(Evidence, Vec<String>)> {
    Some((evidence, vec![name.to_owned()]))
}

fn of(notes: &[Note]) -> Attempts {
    let mut attempts = Attempts::default();
    notes.iter().for_each(|note| attempts.add(note.clone(), Uptime(0)));
    attempts
}

#[test]
fn r24_an_attempt_lends_its_person_to_the_change_that_it_led_to() {
    let attempts = of(&[
        note("a", "", Attempt::Create, "ana"),
        note("a", "5", update(7), "bob"),
        note("a", "6", Attempt::Delete, "eve"),
    ]);
    assert_eq!(author(&attempts, "a", None, Became::Created), one(Evidence::Authenticated, "ana"));
    assert_eq!(author(&attempts, "a", Some("5"), became(7)), one(Evidence::Authenticated, "bob"));
    assert_eq!(author(&attempts, "a", Some("6"), Became::Deleted), one(Evidence::Authenticated, "eve"));
    let ending = Became::Updated { to: [9; 16], ending: true };
    assert_eq!(author(&attempts, "a", Some("6"), ending), one(Evidence::Authenticated, "eve"));
    // Another object, another version before it, or another content: somebody else's change.
    assert_eq!(author(&attempts, "b", None, Became::Created), None);
    assert_eq!(author(&attempts, "a", Some("4"), became(7)), None);
    assert_eq!(author(&attempts, "a", Some("5"), became(8)), None);
    assert_eq!(author(&attempts, "a", Some("5"), Became::Deleted), None);
}

/// Two people begin with the same version, and one of them fails: what was stored tells which.
#[test]
fn r24_of_two_who_raced_the_one_whose_content_was_stored_is_named() {
    let attempts = of(&[note("a", "5", update(1), "ana"), note("a", "5", update(2), "bob")]);
    assert_eq!(author(&attempts, "a", Some("5"), became(2)), one(Evidence::Authenticated, "bob"));
    let same = of(&[note("a", "5", update(1), "ana"), note("a", "5", update(1), "bob")]);
    let both = Some((Evidence::Inferred, vec!["ana".to_owned(), "bob".to_owned()]));
    assert_eq!(author(&same, "a", Some("5"), became(1)), both);
}

#[test]
fn r24_where_events_were_missed_the_author_is_inferred() {
    let attempts = of(&[note("a", "5", update(1), "ana"), note("a", "6", Attempt::Delete, "bob")]);
    assert_eq!(author(&attempts, "a", None, became(1)), one(Evidence::Inferred, "ana"));
    assert_eq!(author(&attempts, "a", None, Became::Deleted), one(Evidence::Inferred, "bob"));
}

#[test]
fn r24_the_last_finalizer_ends_an_object() {
    let ends = Attempt::Update { to: [1; 16], ends: true };
    let attempts = of(&[note("a", "5", ends, "controller"), note("a", "5", update(2), "ana")]);
    assert_eq!(author(&attempts, "a", Some("5"), Became::Deleted), one(Evidence::Authenticated, "controller"));
}

#[test]
fn attempts_are_forgotten_and_who_floods_pushes_out_their_own() {
    let mut attempts = of(&[note("a", "", Attempt::Create, "ana")]);
    for number in 0..MOST_OF_ONE + 10 {
        attempts.add(note(&format!("x{number}"), "", Attempt::Create, "flood"), Uptime(1));
    }
    assert_eq!(attempts.order.len(), MOST_OF_ONE + 1);
    assert_eq!(author(&attempts, "a", None, Became::Created), one(Evidence::Authenticated, "ana"));
    assert_eq!(author(&attempts, "x0", None, Became::Created), None);
    attempts.add(note("b", "", Attempt::Create, "bob"), Uptime(REMEMBERED_MS + 1));
    assert_eq!(author(&attempts, "a", None, Became::Created), None);
    attempts.add(note("c", "", Attempt::Create, "bob"), Uptime(2 * REMEMBERED_MS + 3));
    assert_eq!((attempts.order.len(), attempts.by_uid.len(), attempts.of_person.len()), (1, 1, 1));
}

proptest! {
    /// Whatever the order of attempts, and however often they are told: each change that had one attempt has its
    /// person, and attempts that failed give none to anybody.
    #[test]
    fn r24_the_join_does_not_depend_on_order_or_repetition(
        steps in prop::collection::vec((0..4u8, 0..3u8, any::<bool>()), 1..30),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..80),
    ) {
        // A history of one object: each step writes a content as somebody, or fails to.
        let (mut version, mut history, mut notes) = (1, Vec::new(), Vec::new());
        for (number, (content, who, succeeds)) in steps.iter().enumerate() {
            let name = format!("person-{who}-{number}");
            // A content of its own for each step, so that a race of equal contents stays out of this.
            let to = [u8::try_from(number).unwrap_or(0), *content];
            let mut digest = [0; 16];
            digest[..2].copy_from_slice(&to);
            notes.push(note("a", &version.to_string(), Attempt::Update { to: digest, ends: false }, &name));
            if *succeeds {
                history.push((version.to_string(), digest, name));
                version += 1;
            }
        }
        let mut attempts = Attempts::default();
        let shuffled = order.iter().map(|index| index.get(&notes).clone());
        // Each at least once, some of them again and earlier.
        for note in shuffled.chain(notes.iter().rev().cloned()) {
            attempts.add(note, Uptime(0));
        }
        for (base, digest, name) in history {
            let found = author(&attempts, "a", Some(&base), Became::Updated { to: digest, ending: false });
            prop_assert_eq!(found, one(Evidence::Authenticated, &name));
        }
    }
}
