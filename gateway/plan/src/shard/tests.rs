use idm_types::{Redacted, hex};

use super::*;
use crate::{EndCause, KeyEnd, Keys, Plan, Proof, SecretHandle, UsagePlan};

fn robot(number: usize) -> Credential {
    let key = ObjectKey::new("shop", format!("robot-{number:05}"));
    let sha256 = hex(&Sha256::digest(number.to_string()));
    Credential::new(key, Proof::ApiKey { keys: Keys::one(sha256), any_form: false })
}

fn fleet(of: usize) -> Credentials {
    Credentials { all: (0..of).map(|number| Arc::new(robot(number))).collect(), ..Credentials::default() }
}

fn indexed(divided: &Divided, generation: u64) -> Bundle {
    let lines = divided.shards.iter().map(|shard| shard.line.clone()).collect();
    Bundle::with_index(Plan::default(), Secrets::default(), divided.common.clone(), lines, generation)
}

fn held(divided: &Divided) -> Held {
    let unpacked = |shard: &Arc<PackedShard>| {
        (shard.line.digest.clone(), Arc::new(Shard::unpack(&shard.bytes, &shard.line).unwrap()))
    };
    divided.shards.iter().map(unpacked).collect()
}

#[test]
fn a_small_namespace_has_no_shards_and_its_bundle_the_format_that_older_gateways_read() {
    assert!(!needs_shards(&fleet(MAX_INLINE)) && needs_shards(&fleet(MAX_INLINE + 1)));
    let bundle = Bundle::seal(Plan::default(), Secrets::default(), fleet(1), 1);
    assert_eq!((bundle.format, serde_json::to_string(&bundle).unwrap().contains("shards")), (WITHOUT, false));
    let divided = divide(&fleet(1000), 0).unwrap();
    let bundle = indexed(&divided, 1);
    assert_eq!(bundle.format, crate::FORMAT);
    assert_eq!(Bundle::unpack(&bundle.pack().unwrap()).unwrap(), bundle);
    let mut edited = bundle.clone();
    edited.shards.swap(0, 1);
    assert!(matches!(Bundle::unpack(&edited.pack().unwrap()), Err(BundleError::DigestMismatch)));
}

const WITHOUT: u32 = 7;

#[test]
fn what_is_divided_is_assembled_whole() {
    let mut all = fleet(2000);
    all.secrets.put(SecretHandle::of_secret("client", "keys"), Redacted::new(b"1".to_vec()));
    let mut client = robot(7);
    client.attributes.push(("names".into(), "secret/client/keys".into()));
    all.all[7] = Arc::new(client);
    all.usage_plans = vec![UsagePlan {
        key: ObjectKey::new("shop", "gold"),
        credentials: None,
        roles: vec![],
        replaces: vec![],
        limits: vec![],
        access: crate::Access::default(),
        refused: None,
    }];
    let end = KeyEnd { at: idm_types::Timestamp(1), cause: EndCause::Revoked };
    let over =
        |n: usize| EndedKey { sha256: format!("{n:064x}"), credential: ObjectKey::new("shop", format!("{n}")), end };
    all.ended = (0..50).map(over).collect();
    let divided = divide(&all, 0).unwrap();
    assert_eq!((divided.shards.len(), divided.too_large.len(), divided.common.all.len()), (64, 0, 0));
    assert_eq!(divided.shards.iter().map(|shard| shard.line.credentials).sum::<usize>(), 2000);
    let mut bundle = indexed(&divided, 1);
    assert!(bundle.assemble(&held(&divided)).is_empty());
    assert_eq!(bundle.credentials, all);
}

#[test]
fn one_change_moves_one_shard() {
    let before = divide(&fleet(3000), 0).unwrap();
    let mut suspended = fleet(3000);
    Arc::make_mut(&mut suspended.all[1234]).suspended = true;
    let mut removed = fleet(3000);
    removed.all.remove(1234);
    let mut added = fleet(3000);
    added.all.push(Arc::new(robot(5000)));
    for changed in [suspended, removed, added] {
        let after = divide(&changed, 64).unwrap();
        let differ = before.shards.iter().zip(&after.shards).filter(|(a, b)| a.line != b.line).count();
        assert_eq!((differ, after.shards.len()), (1, 64));
    }
}

#[test]
fn another_shard_a_damaged_one_and_what_is_none_are_refused() {
    let divided = divide(&fleet(1000), 0).unwrap();
    let (first, second) = (&divided.shards[0], &divided.shards[1]);
    assert!(matches!(Shard::unpack(&second.bytes, &first.line), Err(ShardError::DigestMismatch)));
    assert!(matches!(Shard::unpack(b"garbage", &first.line), Err(ShardError::Unreadable(_))));
    let cut = first.bytes.len() / 2;
    assert!(Shard::unpack(&first.bytes[..cut], &first.line).is_err());
}

#[test]
fn a_shard_that_is_missing_lets_nobody_of_it_in_and_everybody_else() {
    let divided = divide(&fleet(1000), 0).unwrap();
    let mut some = held(&divided);
    some.remove(&divided.shards[3].line.digest);
    let mut bundle = indexed(&divided, 1);
    assert_eq!(bundle.missing(&some).map(|(number, _)| number).collect::<Vec<_>>(), [3]);
    assert_eq!(bundle.assemble(&some), [3]);
    assert!(bundle.credentials.all.iter().all(|credential| shard_of(&credential.key, 64) != 3));
    assert_eq!(bundle.credentials.all.len(), 1000 - divided.shards[3].line.credentials);
}

/// Text that does not compress.
fn noise(number: usize, length: usize) -> String {
    let block = |position: usize| hex(&Sha256::digest(format!("{number}/{position}")));
    (0..length / 64).map(block).collect()
}

#[test]
fn large_credentials_make_more_shards_and_each_has_room_in_a_secret() {
    // All of them in one shard, as long as there are 64.
    let crowded = (0..9999).map(robot).filter(|one| shard_of(&one.key, 64) == 7).take(20);
    let mut all = fleet(0);
    for (number, mut one) in crowded.enumerate() {
        one.attributes.push(("a".into(), noise(number, 40_000)));
        all.all.push(Arc::new(one));
    }
    let divided = divide(&all, 0).unwrap();
    assert!(divided.shards.len() > 64 && divided.too_large.is_empty());
    assert!(divided.shards.iter().all(|shard| shard.bytes.len() <= MAX_PACKED));
    let fewer = divide(&fleet(10), divided.shards.len()).unwrap();
    assert_eq!(fewer.shards.len(), divided.shards.len(), "shards are never joined again");
}

#[test]
fn a_credential_that_has_room_in_no_secret_is_left_out_and_keeps_no_other_out() {
    let mut all = fleet(300);
    Arc::make_mut(&mut all.all[42]).attributes.push(("a".into(), noise(42, 1_200_000)));
    let divided = divide(&all, 0).unwrap();
    assert_eq!(divided.too_large, [ObjectKey::new("shop", "robot-00042")]);
    assert_eq!(divided.shards.iter().map(|shard| shard.line.credentials).sum::<usize>(), 299);
}

/// Deterministic choices: the tests of this crate bring no generator of their own.
struct Choices(u64);

impl Choices {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most as u64) as usize
    }
}

/// Indexes and shards of several generations arrive in any order, some of them late, twice or never in time. Whatever a
/// gateway has in force is a part of what its index says, and once everything of the last index is there, it is that.
#[test]
fn no_order_of_arrival_lets_a_revoked_key_in_and_every_order_converges() {
    let mut choices = Choices(0x9e37_79b9_7f4a_7c15);
    for _ in 0..12 {
        let mut state = fleet(400);
        let mut generations = vec![(state.clone(), divide(&state, 0).unwrap())];
        for _ in 0..4 {
            let position = choices.below(state.all.len());
            match choices.below(3) {
                0 => drop(state.all.remove(position)),
                1 => Arc::make_mut(&mut state.all[position]).suspended = true,
                _ => Arc::make_mut(&mut state.all[position]).owner = Some("user:ana".into()),
            }
            generations.push((state.clone(), divide(&state, 64).unwrap()));
        }
        let (mut have, mut index) = (Held::new(), 0);
        for _ in 0..60 {
            let (_, divided) = &generations[choices.below(generations.len())];
            match choices.below(4) {
                // The API server never shows an older index after a newer one.
                0 => index = (index + choices.below(2)).min(generations.len() - 1),
                1 => {
                    let shard = &divided.shards[choices.below(64)];
                    let number = choices.below(64);
                    // A shard is read for the line of the index that is in force.
                    let line = &generations[index].1.shards[number].line;
                    if let Ok(unpacked) = Shard::unpack(&shard.bytes, line) {
                        have.insert(line.digest.clone(), Arc::new(unpacked));
                    }
                }
                2 => have.extend(held(divided).into_iter().take(choices.below(64))),
                _ => drop(have.pop_first()),
            }
            let (wanted, divided) = &generations[index];
            let mut bundle = indexed(divided, index as u64);
            bundle.assemble(&have);
            for one in &bundle.credentials.all {
                assert!(wanted.all.contains(one), "{} is not as the index says", one.key);
            }
        }
        let (last, divided) = generations.last().unwrap();
        have.extend(held(divided));
        let mut bundle = indexed(divided, 9);
        assert!(bundle.assemble(&have).is_empty());
        assert_eq!(bundle.credentials, *last);
    }
}

#[test]
fn what_was_made_of_the_same_values_is_not_made_again_and_everything_else_is() {
    let (mut all, mut made) = (fleet(1000), Made::default());
    let first = divide_again(&all, 64, &mut made).unwrap();
    let again = divide_again(&all, 64, &mut made).unwrap();
    assert!(first.shards.iter().zip(&again.shards).all(|(a, b)| Arc::ptr_eq(a, b)));
    let mut suspended = robot(7);
    suspended.suspended = true;
    all.all[7] = Arc::new(suspended);
    let changed = divide_again(&all, 64, &mut made).unwrap();
    assert_eq!(first.shards.iter().zip(&changed.shards).filter(|(a, b)| !Arc::ptr_eq(a, b)).count(), 1);
    assert_eq!(changed.shards, divide(&all, 64).unwrap().shards);
    assert_eq!(divide_again(&all, 256, &mut made).unwrap().shards, divide(&all, 256).unwrap().shards);
}
