use proptest::prelude::*;

use super::*;

fn zone(name: &str) -> Zone {
    Zone::named(name).unwrap()
}

/// Microseconds of a time in RFC 3339.
fn at(text: &str) -> u64 {
    u64::try_from(text.parse::<Timestamp>().unwrap().as_microsecond()).unwrap()
}

/// Begin and end of the span that contains a time.
fn span(per: CalendarSpan, of: &str, now: &str) -> (String, String) {
    let [_, begin, end, _] = Span::new(per, zone(of)).ends(at(now));
    let text = |us: u64| Timestamp::from_microsecond(i64::try_from(us).unwrap()).unwrap().to_string();
    (text(begin), text(end))
}

#[test]
fn r80_months_are_calendar_months_of_the_zone() {
    for (of, now, begin, end) in [
        ("Etc/UTC", "2026-01-31T12:00:00Z", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"),
        ("Etc/UTC", "2026-02-28T23:59:59.999999Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"),
        ("Etc/UTC", "2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
        ("Etc/UTC", "2026-12-31T23:00:00Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        // In Istanbul it is the next month already.
        ("Europe/Istanbul", "2026-01-31T21:00:00Z", "2026-01-31T21:00:00Z", "2026-02-28T21:00:00Z"),
        // A month with a night in which clocks are changed.
        ("Europe/Berlin", "2026-03-29T12:00:00Z", "2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z"),
    ] {
        assert_eq!(span(CalendarSpan::Month, of, now), (begin.into(), end.into()), "{of} {now}");
    }
}

#[test]
fn r80_days_have_23_or_25_hours_where_clocks_are_changed() {
    for (of, now, begin, end) in [
        ("Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
        ("Europe/Berlin", "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
        // Half an hour.
        ("Australia/Lord_Howe", "2026-04-04T20:00:00Z", "2026-04-04T13:00:00Z", "2026-04-05T13:30:00Z"),
        // Midnight is skipped: the day begins at one o'clock.
        ("Africa/Cairo", "2026-04-24T06:00:00Z", "2026-04-23T22:00:00Z", "2026-04-24T21:00:00Z"),
        // Midnight comes twice: the day begins with the first.
        ("America/Havana", "2020-11-01T04:30:00Z", "2020-11-01T04:00:00Z", "2020-11-02T05:00:00Z"),
        ("America/Havana", "2020-11-01T05:30:00Z", "2020-11-01T04:00:00Z", "2020-11-02T05:00:00Z"),
        // The clocks went back into the day before after a minute of the new one.
        ("America/St_Johns", "2010-11-07T02:35:00Z", "2010-11-07T02:30:00Z", "2010-11-08T03:30:00Z"),
        ("America/St_Johns", "2010-11-07T02:29:00Z", "2010-11-06T02:30:00Z", "2010-11-07T02:30:00Z"),
        // Half an hour back for good, at midnight.
        ("Asia/Pyongyang", "2015-08-14T15:10:00Z", "2015-08-13T15:00:00Z", "2015-08-14T15:30:00Z"),
        ("Asia/Pyongyang", "2015-08-14T16:00:00Z", "2015-08-14T15:30:00Z", "2015-08-15T15:30:00Z"),
    ] {
        assert_eq!(span(CalendarSpan::Day, of, now), (begin.into(), end.into()), "{of} {now}");
    }
}

#[test]
fn r80_hours_minutes_and_weeks() {
    for (per, of, now, begin, end) in [
        (CalendarSpan::Hour, "Asia/Kolkata", "2026-05-01T10:45:00Z", "2026-05-01T10:30:00Z", "2026-05-01T11:30:00Z"),
        // The clocks go back half an hour at two o'clock: 1:30 to 2:00 comes twice.
        (
            CalendarSpan::Hour,
            "Australia/Lord_Howe",
            "2026-04-04T14:59:00Z",
            "2026-04-04T14:00:00Z",
            "2026-04-04T15:00:00Z",
        ),
        (
            CalendarSpan::Hour,
            "Australia/Lord_Howe",
            "2026-04-04T15:10:00Z",
            "2026-04-04T15:00:00Z",
            "2026-04-04T15:30:00Z",
        ),
        (
            CalendarSpan::Hour,
            "Australia/Lord_Howe",
            "2026-04-04T15:30:00Z",
            "2026-04-04T15:30:00Z",
            "2026-04-04T16:30:00Z",
        ),
        (CalendarSpan::Minute, "Europe/Berlin", "2026-10-25T01:00:30Z", "2026-10-25T01:00:00Z", "2026-10-25T01:01:00Z"),
        (
            CalendarSpan::Second,
            "Europe/Berlin",
            "2026-10-25T01:00:30.5Z",
            "2026-10-25T01:00:30Z",
            "2026-10-25T01:00:31Z",
        ),
        (CalendarSpan::Week, "Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-22T23:00:00Z", "2026-03-29T22:00:00Z"),
        (CalendarSpan::Week, "Europe/Berlin", "2026-03-29T22:00:00Z", "2026-03-29T22:00:00Z", "2026-04-05T22:00:00Z"),
    ] {
        assert_eq!(span(per, of, now), (begin.into(), end.into()), "{of} {now}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Spans follow each other without a gap, and each is found from anywhere within it.
    #[test]
    fn r80_every_instant_is_in_one_span(
        which in 0..9usize,
        per in 0..6usize,
        seconds in 946_684_800..2_500_000_000_u64,
        within in 0.0..1.0_f64,
    ) {
        const ZONES: [&str; 9] = [
            "Etc/UTC", "Europe/Berlin", "America/Havana", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Kathmandu",
            "America/St_Johns", "Asia/Pyongyang", "Africa/Casablanca",
        ];
        use CalendarSpan::{Day, Hour, Minute, Month, Second, Week};
        const PER: [CalendarSpan; 6] = [Second, Minute, Hour, Day, Week, Month];
        let (per, now) = (PER[per], seconds * US + 7);
        let ends = Span::new(per, zone(ZONES[which])).ends(now);
        prop_assert!(ends.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", ends);
        let [first, begin, end, last] = ends;
        prop_assert!((begin..end).contains(&now));
        let inside = begin + ((end - begin - 1) as f64 * within) as u64;
        for (instant, expected) in [
            (begin, (begin, end)),
            (inside, (begin, end)),
            (end - 1, (begin, end)),
            (end, (end, last)),
            (begin - 1, (first, begin)),
        ] {
            let [_, begin, end, _] = Span::new(per, zone(ZONES[which])).ends(instant);
            prop_assert_eq!((begin, end), expected, "at {}", instant);
        }
        if matches!(per, CalendarSpan::Day | CalendarSpan::Month) {
            let date = |us: u64| zone(ZONES[which]).at(us).unwrap().date();
            prop_assert!(date(begin - 1) < date(begin), "a new date begins");
        }
    }
}

const WEEKDAYS: [bool; 7] = [true, true, true, true, true, false, false];
const ALL: [bool; 7] = [true; 7];

fn hours(days: [bool; 7], from: u16, to: u16, of: &str) -> WeekHours {
    WeekHours::new(days, from, to, zone(of)).unwrap()
}

#[test]
fn r86_a_day_names_the_beginning_and_the_rest_belongs_to_it() {
    let nights = hours(WEEKDAYS, 22 * 60, 6 * 60, "Etc/UTC");
    for (now, inside) in [
        // 2026-11-27 is a Friday.
        ("2026-11-27T21:59:59.999999Z", false),
        ("2026-11-27T22:00:00Z", true),
        ("2026-11-28T01:00:00Z", true),
        ("2026-11-28T05:59:59.999999Z", true),
        ("2026-11-28T06:00:00Z", false),
        ("2026-11-28T22:00:00Z", false),
        ("2026-11-29T23:00:00Z", false),
        // Monday at one o'clock is the rest of Sunday's, which is not in the list.
        ("2026-11-30T01:00:00Z", false),
        ("2026-11-30T22:00:00Z", true),
        ("2026-12-01T01:00:00Z", true),
    ] {
        assert_eq!(nights.contain(at(now)), inside, "{now}");
    }
    assert_eq!(nights.next(at("2026-11-28T06:00:00Z")), Some(at("2026-11-30T22:00:00Z")));
    assert_eq!(nights.next(at("2026-11-28T01:00:00Z")), Some(at("2026-11-28T01:00:00Z")));
    let whole = hours(WEEKDAYS, 0, 1440, "Etc/UTC");
    assert!(whole.contain(at("2026-11-27T23:59:59Z")) && !whole.contain(at("2026-11-28T00:00:00Z")));
}

#[test]
fn r85_hours_are_those_of_the_zones_clocks() {
    let office = hours(ALL, 8 * 60, 18 * 60, "Europe/Berlin");
    for (now, inside) in [
        ("2026-03-28T07:00:00Z", true),
        ("2026-03-28T06:59:59Z", false),
        // One hour earlier from the next day on.
        ("2026-03-29T06:00:00Z", true),
        ("2026-03-29T05:59:59Z", false),
        ("2026-10-24T06:00:00Z", true),
        ("2026-10-25T06:59:59Z", false),
        ("2026-10-25T07:00:00Z", true),
    ] {
        assert_eq!(office.contain(at(now)), inside, "{now}");
    }
    // From 2:00 to 3:00 in the night in which that hour is skipped, and in the one in which it comes twice.
    let skipped = hours(ALL, 2 * 60 + 15, 3 * 60 + 30, "Europe/Berlin");
    for (now, inside) in [
        ("2026-03-29T00:59:59Z", false),
        ("2026-03-29T01:00:00Z", true),
        ("2026-03-29T01:29:59Z", true),
        ("2026-03-29T01:30:00Z", false),
        ("2026-10-25T00:14:59Z", false),
        ("2026-10-25T00:15:00Z", true),
        ("2026-10-25T00:59:59Z", true),
        ("2026-10-25T01:00:00Z", false),
        ("2026-10-25T01:15:00Z", true),
        ("2026-10-25T02:29:59Z", true),
        ("2026-10-25T02:30:00Z", false),
    ] {
        assert_eq!(skipped.contain(at(now)), inside, "{now}");
    }
    assert_eq!(skipped.next(at("2026-03-29T00:00:00Z")), Some(at("2026-03-29T01:00:00Z")), "the first valid instant");
    let within = hours(ALL, 2 * 60, 3 * 60, "Europe/Berlin");
    assert!(!within.contain(at("2026-03-29T01:00:00Z")), "all of it is skipped");
    assert_eq!(within.next(at("2026-03-29T00:30:00Z")), Some(at("2026-03-30T00:00:00Z")));
}

#[test]
fn no_zone_has_a_name_that_is_not_in_the_database() {
    assert!(Zone::named("Europe/Istambul").is_none() && Zone::named("").is_none() && Zone::named("+03:00").is_none());
    assert_eq!(Zone::named("europe/istanbul").unwrap().name(), "Europe/Istanbul");
}
