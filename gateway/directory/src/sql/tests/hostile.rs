//! Servers that break the protocols.

use super::script::{ALL, Scripted, Step, contains, greeting, message, packet, postgres};
use super::*;

#[tokio::test]
async fn a_server_that_does_not_prove_that_it_knows_the_password_is_not_used() {
    let sasl = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
    let ok = [message(b'R', &[0; 4]), message(b'Z', b"I")].concat();
    for (steps, part) in [
        (vec![sasl.clone(), ok.clone()], "does not prove"),
        (vec![sasl.clone(), message(b'R', b"\0\0\0\x0cv=AAAA"), ok.clone()], "does not prove"),
        (vec![sasl.clone(), message(b'Z', b"I")], "broke the protocol"),
        (vec![sasl, message(b'R', b"\0\0\0\x0br=other,s=AAAA,i=1")], "SCRAM"),
        (vec![message(b'R', b"\0\0\0\x0aSCRAM-SHA-999\0\0")], "SCRAM-SHA-256"),
        (vec![message(b'R', b"\0\0\0\x07")], "Kerberos"),
    ] {
        let server = Scripted::start(vec![Step::Read(8), Step::Send(steps.concat())]).await;
        let (_, detail) = failed(&open(&postgres(server.port)), "ana").await;
        assert!(detail.contains(part), "{detail}");
        assert!(!contains(&server.seen(), PASSWORD));
    }
}

/// A login that succeeds, and then this answer to the first question.
fn logged_in(product: DatabaseProduct, answer: Step) -> Vec<Step> {
    match product {
        DatabaseProduct::PostgreSql => {
            let ok = [message(b'R', &[0; 4]), message(b'Z', b"I")].concat();
            vec![Step::Read(8), Step::Send(ok), Step::Read(8), answer]
        }
        DatabaseProduct::MySql => {
            let ok = packet(2, &[0, 0, 0, 2, 0, 0, 0]);
            let set = packet(1, &[0, 0, 0, 2, 0, 0, 0]);
            let greet = Step::Send(greeting(ALL, "mysql_native_password"));
            vec![greet, Step::Read(36), Step::Send(ok), Step::Send(set), answer]
        }
    }
}

#[tokio::test]
async fn servers_that_stall_drip_flood_or_end_are_errors_within_the_deadline() {
    let row = message(b'D', &[0, 1, 0, 0, 0x40, 0]);
    let mut all = Vec::new();
    for product in [DatabaseProduct::PostgreSql, DatabaseProduct::MySql] {
        let pack = |body: &[u8]| match product {
            DatabaseProduct::PostgreSql => message(b'N', body),
            DatabaseProduct::MySql => packet(1, body),
        };
        for (steps, late) in [
            (vec![], true),
            (vec![Step::Reset], false),
            (logged_in(product, Step::Read(1 << 20)), true),
            (logged_in(product, Step::Reset), false),
            (logged_in(product, Step::Drip(pack(&[0; 200]))), true),
            (logged_in(product, Step::Flood(pack(&vec![b'x'; 60_000]))), false),
            (logged_in(product, Step::Send(vec![b'D', 0xff, 0xff, 0xff, 0xff])), false),
            (logged_in(product, Step::Send(vec![0xff, 0xff, 0xff, 1])), false),
            (logged_in(product, Step::Send(row.clone())), false),
        ] {
            all.push(ends(product, steps, late));
        }
    }
    futures::future::join_all(all).await;
}

/// A server that does this is an error, at the deadline if it is late and otherwise before.
async fn ends(product: DatabaseProduct, steps: Vec<Step>, late: bool) {
    let server = Scripted::start(steps).await;
    let database = open(&plan(product, server.port, "people", "SELECT 1"));
    let (began, limit) = (Instant::now(), Duration::from_millis(1500));
    let answer = database.verify(login("ana", RIGHT, Steps::default()), began + limit).await;
    let error = answer.unwrap_err();
    let kinds = [DirectoryErrorKind::Unavailable, DirectoryErrorKind::Unusable];
    assert!(kinds.contains(&error.kind), "{error:?}");
    let took = began.elapsed();
    assert!(took < limit + Duration::from_secs(1) && (!late || took >= limit), "{took:?} {error:?}");
}

/// Answers of random octets, whole and after a login: an error each time, and no panic.
#[tokio::test]
async fn random_answers_are_errors() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut all = Vec::new();
    for round in 0..120 {
        let product = if round % 2 == 0 { DatabaseProduct::PostgreSql } else { DatabaseProduct::MySql };
        let octets: Vec<u8> = (0..random() % 300).map(|_| (random() & 0xff) as u8).collect();
        // Well-formed outside, random inside.
        let tag = b"RSKZTDCE123nN"[(random() % 13) as usize];
        let framed = match product {
            DatabaseProduct::PostgreSql => message(tag, &octets),
            DatabaseProduct::MySql => packet((round % 3) as u8, &octets),
        };
        let steps = match round % 4 {
            0 | 1 => vec![Step::Send(framed)],
            _ => logged_in(product, Step::Send(framed)),
        };
        all.push(async move {
            let server = Scripted::start(steps).await;
            let database = open(&plan(product, server.port, "people", "SELECT 1"));
            let deadline = Instant::now() + Duration::from_millis(800);
            let answer = database.verify(login("ana", RIGHT, Steps::default()), deadline).await;
            assert!(answer.is_err(), "{answer:?}");
        });
    }
    futures::future::join_all(all).await;
}
