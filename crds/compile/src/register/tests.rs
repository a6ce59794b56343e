use super::*;

fn hash(n: u8) -> String {
    idm_types::hex(&[n; 32])
}

const DAY: u64 = 86_400_000;

fn at(days: u64) -> Timestamp {
    Timestamp(days * DAY)
}

#[test]
fn r56_the_old_key_ends_at_its_expiry_or_after_the_overlap_whichever_is_first() {
    for (overlap, natural, end) in [(DAY, None, 2), (DAY, Some(at(9)), 2), (5 * DAY, Some(at(3)), 3)] {
        let mut register = Register::default();
        assert!(register.begin("a", &hash(1), Some("r"), overlap, at(1), natural).unwrap());
        register.finish("a", &hash(2), at(1));
        assert_eq!(register.end_of(&hash(1)), Some(KeyEnd { at: at(end), cause: EndCause::RotatedOut }));
        assert_eq!(register.end_of(&hash(2)), None, "the new one has no end of its own");
    }
}

#[test]
fn r57_without_an_overlap_the_old_key_is_revoked_before_there_is_a_new_one() {
    let mut register = Register::default();
    assert!(register.begin("a", &hash(1), Some("leak"), 0, at(1), None).unwrap());
    assert_eq!(register.end_of(&hash(1)), Some(KeyEnd { at: at(1), cause: EndCause::Revoked }));
    assert!(register.record("a").unwrap().pending.is_some(), "the new one comes later");
}

#[test]
fn a_request_rotates_once_also_when_it_comes_back() {
    let mut register = Register::default();
    for (n, request) in ["a", "b"].into_iter().enumerate() {
        let (old, new) = (hash(n as u8), hash(n as u8 + 1));
        assert!(register.begin("c", &old, Some(request), DAY, at(1), None).unwrap());
        assert!(!register.begin("c", &old, Some(request), DAY, at(1), None).unwrap(), "it is under way");
        register.finish("c", &new, at(1));
    }
    let settled = register.clone();
    for request in ["a", "b"] {
        assert!(!register.begin("c", &hash(2), Some(request), DAY, at(1), None).unwrap());
    }
    assert_eq!(register, settled);
    assert!(register.begin("c", &hash(2), None, DAY, at(1), None).unwrap(), "the schedule has no request");
}

#[test]
fn r59_an_end_never_moves_to_a_later_time() {
    let mut register = Register::default();
    register.begin("a", &hash(1), Some("1"), DAY, at(1), None).unwrap();
    register.finish("a", &hash(2), at(1));
    // The old key is put back into the Secret, and replaced again.
    register.begin("a", &hash(1), Some("2"), 300 * DAY, at(1), None).unwrap();
    register.finish("a", &hash(3), at(1));
    assert_eq!(register.end_of(&hash(1)).unwrap().at, at(2));
    assert!(register.revoke("a", &hash(1), at(5), None).unwrap());
    assert_eq!(register.end_of(&hash(1)), Some(KeyEnd { at: at(2), cause: EndCause::Revoked }));
    assert!(!register.revoke("a", &hash(1), at(6), None).unwrap(), "nothing changes");
}

#[test]
fn r59_a_revoked_key_is_remembered_until_it_could_not_be_used_any_more() {
    let exists = |natural: Option<Timestamp>| move |name: &str| (name == "a").then_some(natural);
    let revoked = |natural| {
        let mut register = Register::default();
        register.revoke("a", &hash(1), at(1), natural).unwrap();
        register
    };
    let mut forever = revoked(None);
    forever.tidy(at(100_000), |_| None);
    assert!(forever.end_of(&hash(1)).is_some(), "also without its Credential");
    let mut bounded = revoked(Some(at(10)));
    bounded.tidy(at(99), exists(Some(at(10))));
    assert!(bounded.end_of(&hash(1)).is_some());
    let mut extended = bounded.clone();
    bounded.tidy(at(100), exists(Some(at(10))));
    assert_eq!(bounded.end_of(&hash(1)), None);
    extended.tidy(at(99), exists(None));
    extended.tidy(at(200), exists(Some(at(10))));
    assert!(extended.end_of(&hash(1)).is_some(), "it had no expiry for a while");
}

#[test]
fn the_register_is_bounded_and_forgets_no_revoked_key_for_another() {
    let mut register = Register::default();
    let nth = |n: usize| {
        idm_types::hex(&{
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
            bytes
        })
    };
    for n in 0..MAX_ENDED - 1 {
        register.revoke("a", &nth(n), at(1), None).unwrap();
    }
    register.begin("b", &hash(200), None, DAY, at(1), None).unwrap();
    assert_eq!(register.revoke("a", &hash(201), at(1), None), Err(RegisterFull), "the key of b still works");
    assert!(register.revoke("a", &hash(201), at(3), None).unwrap(), "what ended by itself makes room");
    assert_eq!(register.end_of(&hash(200)), None);
    assert_eq!(register.revoke("a", &hash(202), at(3), None), Err(RegisterFull));
    assert!(register.revoke("a", &nth(0), at(3), None).is_ok(), "it is there already");
    assert_eq!(Register::parse(register.text().as_bytes()), Ok(register));
}

#[test]
fn a_register_that_was_restored_brings_no_key_back() {
    let mut now = Register::default();
    let restored = now.clone();
    now.revoke("a", &hash(1), at(1), None).unwrap();
    let mut merged = restored;
    merged.absorb(&now);
    assert_eq!(merged.end_of(&hash(1)), now.end_of(&hash(1)));
}

#[test]
fn a_damaged_register_is_an_error() {
    let upper = format!("{{\"ended\": {{\"{}\": {{}}}}}}", "AB".repeat(32));
    for text in ["", "{", "{\"more\": 1}", "{\"ended\": {\"12\": {}}}", &upper] {
        assert!(Register::parse(text.as_bytes()).is_err(), "{text}");
    }
    assert_eq!(Register::parse(b"{}"), Ok(Register::default()));
}

#[test]
fn spans_have_a_unit() {
    for (text, milliseconds) in [("0", 0), ("90s", 90_000), ("5m", 300_000), ("24h", DAY), ("366d", 366 * DAY)] {
        assert_eq!(parse_span(text), Some(milliseconds), "{text}");
    }
    for wrong in ["", "h", "24", "-1h", "1.5h", "367d", "24 h", "1w", "99999999999999999999d", "1é"] {
        assert_eq!(parse_span(wrong), None, "{wrong}");
    }
}
