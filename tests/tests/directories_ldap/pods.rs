//! Guesses at passwords of a directory's people, counted by several gateways with one store, and by one alone.

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use idm_tests::slapd::{PASSWORD, Slapd};
use idm_tests::{Gateway, Redis, Upstream, eventually, secret};
use idm_types::ApiKey;

use crate::bed::{Bed, WRONG, Way, authority, connect_from, federation, guess, new_address, request, slapd, yaml};

/// Gateways with the same configuration and one Redis, before one directory.
struct Pods {
    gateways: Vec<Gateway>,
    upstream: Upstream,
    slapd: Slapd,
    redis: Redis,
}

const ROBOT: &str = "---
apiVersion: identity-manager.io/v1alpha1
kind: Credential
metadata: {name: robot}
spec: {apiKey: {}, secretRef: {name: robot}}
";

fn robots_key() -> String {
    ApiKey::from_random([9; 32]).reveal().to_owned()
}

impl Pods {
    fn new(count: usize) -> Self {
        let authority = authority();
        let (slapd, redis, upstream) = (slapd(&authority), Redis::start(), Upstream::new());
        let federation = federation(&slapd, Way::Loopback, "", "{}");
        let text = yaml(&upstream, &federation).replace(
            "    - {name: people,",
            "    - {name: robots, apiKey: {sources: [{header: {name: X-Key}}]}}\n    - {name: people,",
        );
        let text = format!("{text}{ROBOT}{}", secret("robot", &[("key", robots_key())]));
        let password = redis.password_file();
        let url = redis.url();
        let arguments = ["--store", &url, "--store-password-file", password.path().to_str().unwrap()];
        let start = || Gateway::start_with(&[("all.yaml", &text)], &arguments);
        let gateways: Vec<Gateway> = (0..count).map(|_| start()).collect();
        let pods = Self { gateways, upstream, slapd, redis };
        // Until a gateway has heard of the store, it refuses what needs it.
        for gateway in &pods.gateways {
            eventually("the store", || match guess(gateway.address, "bob", PASSWORD, new_address()).status {
                200 => Ok(()),
                status => Err(status.to_string()),
            });
        }
        pods
    }
}

fn binds_as(slapd: &Slapd, uid: &str) -> usize {
    slapd.binds().iter().filter(|name| name.starts_with(&format!("uid={uid},"))).count()
}

#[test]
fn r06_many_gateways_let_no_more_guesses_through_than_one() {
    let pods = Pods::new(2);
    let addresses: Vec<SocketAddr> = pods.gateways.iter().map(|gateway| gateway.address).collect();
    let began = Instant::now();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let guesses: Vec<_> = (0..40)
            .map(|number| {
                let to = addresses[number % addresses.len()];
                scope.spawn(move || guess(to, "ana", &format!("{WRONG}-{number}"), new_address()).status)
            })
            .collect();
        guesses.into_iter().map(|guess| guess.join().unwrap()).collect()
    });
    let binds = binds_as(&pods.slapd, "ana");
    println!("{binds} of 40 guesses in {:?}: {statuses:?}", began.elapsed());
    // Five are free; a sixth one is after a second.
    let allowed = 5 + usize::from(began.elapsed() >= Duration::from_secs(1));
    assert!((5..=allowed).contains(&binds), "{binds} guesses in {:?}", began.elapsed());
    assert!(statuses.iter().all(|status| [401, 429].contains(status)), "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), binds);
    // Neither gateway asks about the right one now, and both do when the delay has ended.
    for gateway in &pods.gateways {
        let reply = guess(gateway.address, "ana", PASSWORD, new_address());
        let record = gateway.record(reply.decision());
        assert_eq!((reply.status, record["reason"].as_str()), (429, Some("TooManyAttempts")), "{record}");
        assert!(reply.header("retry-after").is_some());
    }
    assert_eq!(binds_as(&pods.slapd, "ana"), binds);
    eventually("the end of the delay", || match guess(addresses[1], "ana", PASSWORD, new_address()).status {
        200 => Ok(()),
        status => Err(status.to_string()),
    });
    // It is forgiven at both: four mistakes later, nobody waits.
    for number in 0..4 {
        assert_eq!(guess(addresses[number % 2], "ana", WRONG, new_address()).status, 401);
    }
    assert_eq!(guess(addresses[0], "ana", PASSWORD, new_address()).status, 200);
}

#[test]
fn an_address_that_guesses_at_many_people_waits_at_every_gateway() {
    let pods = Pods::new(2);
    let from = new_address();
    for number in 0..5 {
        let to = pods.gateways[number % 2].address;
        assert_eq!(guess(to, &format!("nobody{number}"), WRONG, from).status, 401);
    }
    for gateway in &pods.gateways {
        assert_eq!(guess(gateway.address, "another", WRONG, from).status, 429);
        assert_eq!(guess(gateway.address, "bob", PASSWORD, new_address()).status, 200, "others do not wait");
    }
}

#[test]
fn a_person_who_is_known_at_an_address_is_let_in_at_every_gateway_whatever_others_guess() {
    let pods = Pods::new(2);
    let (one, other, home) = (pods.gateways[0].address, pods.gateways[1].address, new_address());
    assert_eq!(guess(one, "ana", PASSWORD, home).status, 200);
    for _ in 0..8 {
        let _ = guess(one, "ana", WRONG, new_address());
    }
    assert_eq!(guess(other, "ana", PASSWORD, new_address()).status, 429);
    for gateway in [one, other] {
        assert_eq!(guess(gateway, "ana", PASSWORD, home).status, 200);
    }
    // To log in at home gives nobody a new guess elsewhere.
    let before = binds_as(&pods.slapd, "ana");
    assert_eq!(guess(other, "ana", WRONG, new_address()).status, 429);
    assert_eq!(binds_as(&pods.slapd, "ana"), before);
}

#[test]
fn many_logins_of_a_program_at_once_are_let_in_at_every_gateway() {
    let pods = Pods::new(2);
    let addresses: Vec<SocketAddr> = pods.gateways.iter().map(|gateway| gateway.address).collect();
    let home = new_address();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let logins: Vec<_> = (0..60)
            .map(|number| {
                let to = addresses[number % addresses.len()];
                scope.spawn(move || guess(to, "ana", PASSWORD, home).status)
            })
            .collect();
        logins.into_iter().map(|login| login.join().unwrap()).collect()
    });
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
}

#[test]
fn without_the_store_no_password_of_a_directory_is_tried_and_others_are_not_concerned() {
    let mut pods = Pods::new(1);
    let gateway = pods.gateways[0].address;
    // Its content tells no reader who tried what, and ends by itself.
    let _ = guess(gateway, "ana", WRONG, new_address());
    let keys = pods.redis.cli(&["KEYS", "*"]);
    let told: String = keys.lines().map(|key| pods.redis.cli(&["HGETALL", key])).collect();
    for canary in ["ana", "bob", WRONG, PASSWORD, "127."] {
        assert!(!keys.contains(canary) && !told.contains(canary), "{canary}: {keys}{told}");
    }
    let guesses = keys.lines().filter(|key| pods.redis.cli(&["TYPE", key]).trim() == "hash");
    let lives: Vec<i64> = guesses.map(|key| pods.redis.cli(&["PTTL", key]).trim().parse().unwrap()).collect();
    assert!(lives.len() >= 4 && lives.iter().all(|ms| *ms > 0), "{lives:?}");

    let address = pods.redis.address;
    pods.redis.kill();
    let before = pods.slapd.binds().len();
    pods.upstream.forget();
    let reply = guess(gateway, "ana", PASSWORD, new_address());
    let record = pods.gateways[0].record(reply.decision());
    assert_eq!((reply.status, record["reason"].as_str()), (503, Some("StoreUnavailable")), "{record}");
    assert_eq!((pods.slapd.binds().len(), pods.upstream.received()), (before, String::new()));
    let key = format!("GET /a HTTP/1.1\r\nHost: a\r\nX-Key: {}\r\n\r\n", robots_key());
    assert_eq!(idm_tests::raw(gateway, key.as_bytes()).status, 200);
    let _back = Redis::start_at(address).expect("its port is free again");
    eventually("the store is back", || match guess(gateway, "ana", PASSWORD, new_address()).status {
        200 => Ok(()),
        status => Err(status.to_string()),
    });
}

#[test]
fn r06_a_guess_counts_also_when_its_caller_does_not_wait_for_the_answer() {
    let bed = Bed::new(Way::Loopback, "{}");
    let leave = |number: usize| {
        let before = binds_as(&bed.slapd, "ana");
        let mut stream = connect_from(new_address(), bed.gateway.address);
        stream.write_all(request("ana", &format!("{WRONG}-{number}")).as_bytes()).unwrap();
        let start = Instant::now();
        while binds_as(&bed.slapd, "ana") == before && start.elapsed() < Duration::from_millis(100) {
            std::thread::sleep(Duration::from_millis(1));
        }
        binds_as(&bed.slapd, "ana")
    };
    let mut number = 0;
    eventually("five guesses", || {
        number += 1;
        let binds = leave(number);
        (binds >= 5).then_some(()).ok_or_else(|| binds.to_string())
    });
    let began = Instant::now();
    let binds = (0..20).map(|number| leave(1_000 + number)).max().unwrap();
    println!("{binds} of {} guesses whose callers left", number + 20);
    // A sixth one is after a second, a seventh after two more, an eighth after four more.
    assert!(binds <= 8, "{binds} guesses in {:?}", began.elapsed());
    assert_eq!(bed.basic("ana", PASSWORD).status, 429);
}
