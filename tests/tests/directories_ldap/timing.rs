//! Whether time or bytes tell who exists.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use idm_tests::slapd::person;

use crate::bed::{Bed, WRONG, Way, connect_from};

const TRIES: usize = 2_000;
const AT_ONCE: usize = 64;
/// Guesses at a user, and from an address: fewer than those that are delayed.
const OF_ONE: usize = 4;

/// One answer, as its bytes.
fn answer(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let (mut text, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut chunk).expect("an answer");
        assert!(read > 0, "the connection ended");
        text.extend_from_slice(&chunk[..read]);
        let so_far = String::from_utf8_lossy(&text);
        let Some((head, body)) = so_far.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            return so_far.into_owned();
        }
    }
}

/// The answer without what is another one each time.
fn without_id_and_date(answer: &str) -> String {
    let header = |name: &str| {
        let line = answer.lines().find(|line| line.to_ascii_lowercase().starts_with(name))?;
        line.split_once(": ").map(|(_, value)| value)
    };
    let id = header("x-decision-id: ").expect("a decision id");
    let answer = answer.replace(id, "ID");
    match header("date: ") {
        Some(date) => answer.replace(date, "DATE"),
        None => answer,
    }
}

/// The share of tries that the best threshold puts on the right side.
fn best_threshold(known: &[Duration], unknown: &[Duration]) -> f64 {
    let share_below =
        |times: &[Duration], limit: Duration| times.partition_point(|time| *time <= limit) as f64 / times.len() as f64;
    let (mut known, mut unknown) = (known.to_vec(), unknown.to_vec());
    known.sort_unstable();
    unknown.sort_unstable();
    let apart =
        known.iter().chain(&unknown).map(|limit| (share_below(&known, *limit) - share_below(&unknown, *limit)).abs());
    0.5 + apart.fold(0.0, f64::max) / 2.0
}

fn tried(gateway: SocketAddr, number: usize) -> (bool, Duration, String) {
    let is_known = number.is_multiple_of(2);
    // The tries of one user, and those from one address, are far from each other.
    let user = format!("{}{:05}", if is_known { "u" } else { "x" }, number / 2 % (TRIES / 2 / OF_ONE));
    let from = Ipv4Addr::from(0x7f02_0000 + u32::try_from(number % (TRIES / OF_ONE)).unwrap());
    let mut stream = connect_from(from, gateway);
    let pair = STANDARD.encode(format!("{user}:{WRONG}"));
    let request = format!("GET /a HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {pair}\r\n\r\n");
    let began = Instant::now();
    stream.write_all(request.as_bytes()).unwrap();
    let answer = answer(&mut stream);
    (is_known, began.elapsed(), answer)
}

#[test]
fn r43_neither_time_nor_bytes_tell_who_exists() {
    let bed = Bed::new(Way::Loopback, "{}");
    let people: String = (0..TRIES / 2 / OF_ONE).map(|number| person(&format!("u{number:05}"), "U")).collect();
    bed.slapd.change(&people);
    let (next, all) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= TRIES {
                        return;
                    }
                    let one = tried(bed.gateway.address, number);
                    all.lock().unwrap().push(one);
                }
            });
        }
    });
    let all = all.into_inner().unwrap();
    let times = |wanted: bool| -> Vec<Duration> {
        all.iter().filter(|(is_known, ..)| *is_known == wanted).map(|(_, time, _)| *time).collect()
    };
    let (known, unknown) = (times(true), times(false));
    let best = best_threshold(&known, &unknown);
    let middle = |times: &[Duration]| {
        let mut times = times.to_vec();
        times.sort_unstable();
        times[times.len() / 2]
    };
    println!(
        "{TRIES} tries in {:?}: the best threshold is right in {:.1} %; medians {:?} and {:?}",
        began.elapsed(),
        best * 100.0,
        middle(&known),
        middle(&unknown)
    );
    assert_eq!((known.len(), unknown.len()), (TRIES / 2, TRIES / 2));
    // Each known user's password was tried, and nobody else's.
    assert_eq!(bed.slapd.binds_of_people(), TRIES / 2);
    let first = without_id_and_date(&all[0].2);
    assert!(first.starts_with("HTTP/1.1 401 "), "{first}");
    for (_, _, answer) in &all {
        assert_eq!(without_id_and_date(answer), first);
    }
    assert!(best < 0.6, "a threshold is right in {:.1} %", best * 100.0);
}
