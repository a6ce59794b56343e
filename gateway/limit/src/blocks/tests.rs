use idm_types::Timestamp;
use proptest::prelude::*;

use super::*;

const RULES: BlockRules = BlockRules {
    mode: BlockMode::Enforce,
    window_ms: 600_000,
    lasts_ms: 900_000,
    credentials: 5,
    failures: 3,
    spared_by: 2,
};
/// The wall clock has nothing to do with the other one.
const WALL: u64 = 1_700_000_000_000;

fn at(ms: u64) -> Moment {
    Moment { wall: Timestamp(WALL + ms), uptime: Uptime(ms) }
}

fn subject(number: u64) -> Subject {
    Subject(u128::from(number).to_be_bytes())
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn enforced() -> Arc<Blocks> {
    Blocks::new(RULES, |_| false)
}

/// Refusals of different credentials, as many as it takes.
fn spray(blocks: &Blocks, from: IpAddr, ms: u64) {
    for number in 0..u64::from(RULES.credentials) {
        blocks.failed(from, subject(number), "", at(ms));
    }
}

#[test]
fn many_different_credentials_block_their_address_alone_until_the_block_ends() {
    let blocks = enforced();
    for number in 0..4 {
        blocks.failed(address(1), subject(number), "", at(0));
    }
    assert!(blocks.of_address(address(1), Uptime(0)).is_none());
    blocks.failed(address(1), subject(4), "", at(1_000));
    let block = blocks.of_address(address(1), Uptime(1_000)).unwrap();
    assert!(block.refuses());
    assert_eq!(
        block.to_string(),
        "rule manyCredentials: 5 different credentials of 192.0.2.1 were refused within 600 s; the block ends at \
         2023-11-14T22:28:21.000Z"
    );
    assert_eq!(block.seconds_left(Uptime(1_000)), 900);
    assert!(blocks.of_address(address(2), Uptime(1_000)).is_none());
    // Constant traffic does not make it longer.
    for ms in (1_000..901_000).step_by(1_000) {
        assert!(blocks.of_address(address(1), Uptime(ms)).is_some());
        blocks.failed(address(1), subject(ms), "", at(ms));
    }
    assert!(blocks.of_address(address(1), Uptime(901_000)).is_none());
    assert_eq!(block.hits(), 901);
}

#[test]
fn one_credential_that_is_tried_again_and_again_is_blocked_at_its_address_and_nothing_else() {
    let blocks = enforced();
    for _ in 0..RULES.failures {
        blocks.failed(address(1), subject(7), "user ana\u{1b}[2J", at(0));
    }
    let of = |from: u8, who: u64| blocks.of_credential(address(from), || subject(who), Uptime(1));
    let block = of(1, 7).unwrap();
    let told = block.to_string();
    assert!(told.starts_with("rule oneCredential: user ana"), "{told}");
    assert!(told.contains(" was refused 3 times at 192.0.2.1 within 600 s") && !told.contains('\u{1b}'), "{told}");
    assert!(of(1, 8).is_none() && of(2, 7).is_none(), "the owner elsewhere, and others here, are not concerned");
    assert!(blocks.of_address(address(1), Uptime(1)).is_none());
}

#[test]
fn the_same_refused_credential_is_one_of_the_different_ones() {
    let blocks = Blocks::new(BlockRules { failures: 1_000, ..RULES }, |_| false);
    for _ in 0..500 {
        blocks.failed(address(1), subject(1), "", at(0));
    }
    assert!(blocks.of_address(address(1), Uptime(0)).is_none());
}

#[test]
fn refusals_far_apart_do_not_count_together() {
    let blocks = enforced();
    for number in 0..20 {
        blocks.failed(address(1), subject(number), "", at(number * 200_000));
    }
    assert!(blocks.list(Uptime(4_000_000)).is_empty());
}

#[test]
fn an_address_of_several_callers_is_only_reported_and_one_caller_spares_nobody() {
    let blocks = enforced();
    blocks.succeeded(address(1), 11, Uptime(0));
    blocks.succeeded(address(1), 11, Uptime(0));
    blocks.succeeded(address(2), 11, Uptime(0));
    blocks.succeeded(address(2), 12, Uptime(0));
    spray(&blocks, address(1), 1);
    spray(&blocks, address(2), 1);
    assert!(blocks.of_address(address(1), Uptime(2)).unwrap().refuses());
    let spared = blocks.of_address(address(2), Uptime(2)).unwrap();
    assert!(!spared.refuses() && spared.spared);
    // A day later these callers are not known any more.
    let later = 25 * 3_600_000;
    spray(&blocks, address(2), later);
    assert!(blocks.of_address(address(2), Uptime(later)).unwrap().refuses());
}

#[test]
fn observed_blocks_refuse_nothing_and_exempt_addresses_have_none() {
    let observing = BlockRules { mode: BlockMode::Observe, ..RULES };
    let blocks = Blocks::new(observing, |address| address == self::address(9));
    spray(&blocks, address(1), 0);
    spray(&blocks, address(9), 0);
    assert!(!blocks.of_address(address(1), Uptime(1)).unwrap().refuses());
    assert!(blocks.of_address(address(9), Uptime(1)).is_none());
    let off = Blocks::off();
    spray(&off, address(1), 0);
    assert!(off.of_address(address(1), Uptime(1)).is_none());
}

#[test]
fn a_whole_64_is_one_address() {
    let of = |last: u128| IpAddr::from(((0x2001_0db8 << 96) | last).to_be_bytes());
    let blocks = enforced();
    for number in 0..5 {
        blocks.failed(of(number.into()), subject(number), "", at(0));
    }
    assert_eq!(blocks.of_address(of(77), Uptime(0)).unwrap().place(), "2001:db8::/64");
    assert!(blocks.of_address(of(1 << 64), Uptime(0)).is_none());
}

#[test]
fn a_removed_block_is_gone_with_what_led_to_it() {
    let blocks = enforced();
    spray(&blocks, address(1), 0);
    spray(&blocks, address(2), 0);
    assert_eq!(blocks.remove(address(1), Uptime(1)).len(), 1);
    assert!(blocks.of_address(address(1), Uptime(1)).is_none());
    blocks.failed(address(1), subject(1), "", at(2));
    assert!(blocks.of_address(address(1), Uptime(2)).is_none(), "counted from the beginning");
    assert_eq!(blocks.list(Uptime(2)).len(), 1);
    assert_eq!(blocks.remove(address(3), Uptime(2)).len(), 0);
}

#[test]
fn gateways_take_over_blocks_of_others_and_their_removal() {
    let [one, other] = [enforced(), enforced()];
    spray(&one, address(1), 0);
    let block = one.list(Uptime(0)).remove(0);
    // The other gateway's clock shows something else.
    other.synchronise(vec![block.told(Uptime(10_000))], Uptime(5_000_000));
    let learnt = other.of_address(address(1), Uptime(5_000_000)).unwrap();
    assert_eq!((learnt.seconds_left(Uptime(5_000_000)), learnt.to_string()), (890, block.to_string()));
    // Its own block, which nobody was told yet, stays; the one that was removed elsewhere goes.
    spray(&other, address(2), 5_000_000);
    other.synchronise(Vec::new(), Uptime(5_000_001));
    assert!(other.of_address(address(1), Uptime(5_000_001)).is_none());
    assert!(other.of_address(address(2), Uptime(5_000_001)).is_some());
    block.note_shared();
    one.synchronise(Vec::new(), Uptime(20_000));
    assert!(one.list(Uptime(20_000)).is_empty());
}

#[tokio::test]
async fn each_block_is_told_once() {
    let blocks = enforced();
    spray(&blocks, address(1), 0);
    let told = blocks.untold().await;
    assert_eq!(told.len(), 1);
    let waits = tokio::spawn({
        let blocks = blocks.clone();
        async move { blocks.untold().await }
    });
    tokio::task::yield_now().await;
    spray(&blocks, address(2), 0);
    assert_eq!(waits.await.unwrap()[0].network, address(2));
}

#[test]
fn floods_of_addresses_keep_every_table_bounded_and_the_guessing_address_blocked() {
    let blocks = enforced();
    for number in 0..4 {
        blocks.failed(address(1), subject(number), "", at(0));
    }
    for number in 0..100_000u32 {
        let from = IpAddr::from((number | 1 << 30).to_be_bytes());
        blocks.failed(from, subject(number.into()), "", at(1));
        blocks.succeeded(from, number.into(), Uptime(1));
    }
    blocks.failed(address(1), subject(4), "", at(2));
    assert!(blocks.of_address(address(1), Uptime(2)).is_some(), "who is suspected most is not forgotten");
}

proptest! {
    /// Whatever happens in whatever order, no block outlives its time, and the list is bounded.
    #[test]
    fn every_block_ends(steps in proptest::collection::vec((0..6u8, 0..8u64, 0..60_000u64), 1..300)) {
        let (blocks, mut now) = (enforced(), 0);
        for (from, who, wait) in steps {
            now += wait;
            blocks.failed(address(from), subject(who), "", at(now));
            for block in blocks.list(Uptime(now)) {
                prop_assert!(block.seconds_left(Uptime(now)) <= RULES.lasts_ms / 1000);
            }
        }
        prop_assert!(blocks.list(Uptime(now + RULES.lasts_ms)).is_empty());
        prop_assert!(blocks.list(Uptime(now)).len() <= MAX_BLOCKS);
    }
}
