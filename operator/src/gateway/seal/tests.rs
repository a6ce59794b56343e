use std::sync::Arc;

use idm_compile::{Compiled, Settings, World, compile};
use idm_plan::{Credential, Keys, Proof};

use super::*;

fn seal(compiled: &Compiled, current: Option<Bundle>, reads_shards: bool) -> Result<Sealed, BundleError> {
    let one = [ToSeal { plan: &compiled.plan, secrets: &compiled.secrets, current: current.as_ref() }];
    let mut sealed = super::seal(&one, &compiled.credentials, reads_shards, &mut Made::default())?;
    Ok(sealed.remove(0))
}

/// One gateway has no room without shards, so all of the namespace have them, and they are the same.
#[test]
fn the_gateways_of_a_namespace_have_the_same_shards() {
    let (large, small) = (compiled(10, 1_450_000), compiled(10, 10));
    let many = compiled(3000, 10).credentials;
    let parts = |current: Option<&'static Bundle>| {
        [&large, &small].map(|of| ToSeal { plan: &of.plan, secrets: &of.secrets, current })
    };
    let sealed = super::seal(&parts(None), &many, false, &mut Made::default()).unwrap();
    assert_eq!((sealed[0].shards.len(), sealed[0].kept.as_ref()), (64, None));
    assert_eq!(sealed[0].bundle.shards, sealed[1].bundle.shards);
    // One that had shards keeps them in every gateway.
    let current = Box::leak(Box::new(sealed[1].bundle.clone()));
    let few = super::seal(&parts(Some(current)), &small.credentials, true, &mut Made::default()).unwrap();
    assert_eq!((few[0].shards.len(), few[1].shards.len()), (64, 64));
    // Policies that have no room in any way leave the other gateways as they are.
    let huge = compiled(10, 4_000_000);
    let parts = [&huge, &small].map(|of| ToSeal { plan: &of.plan, secrets: &of.secrets, current: None });
    let sealed = super::seal(&parts, &small.credentials, true, &mut Made::default()).unwrap();
    assert!(sealed[0].kept.is_some() && sealed[1].kept.is_none() && sealed[1].shards.is_empty());
}

/// Sixteen digits that do not compress.
fn noise(seed: u64) -> u64 {
    let mixed = (seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ mixed >> 31).wrapping_mul(0x94d0_49bb_1331_11eb) | 1 << 63
}

fn robot(number: usize) -> Arc<Credential> {
    let proof = Proof::ApiKey {
        keys: Keys::one((0..4).map(|part| format!("{:x}", noise(4 * number as u64 + part))).collect()),
        any_form: false,
    };
    Arc::new(Credential::new(ObjectKey::new("shop", format!("robot-{number:05}")), proof))
}

/// A namespace with this many robots, and as many bytes of policies that do not compress.
fn compiled(robots: usize, noise_bytes: usize) -> Compiled {
    let mut compiled = compile(&World::new("shop", Settings::default()), None);
    compiled.credentials.all = (0..robots).map(robot).collect();
    let text: String = (0..noise_bytes as u64 / 16).map(|part| format!("{:x}", noise(part))).collect();
    compiled.plan.hosts = vec![idm_plan::VirtualHost { host: idm_plan::Host::Exact(text), entries: vec![] }];
    compiled
}

fn sealed(compiled: &Compiled, current: Option<&Sealed>) -> Sealed {
    seal(compiled, current.map(|current| current.bundle.clone()), true).unwrap()
}

#[test]
fn an_unchanged_namespace_keeps_its_generation_and_a_change_of_one_credential_moves_one_shard() {
    let first = sealed(&compiled(1000, 10), None);
    assert_eq!((first.bundle.generation, first.shards.len()), (1, 64));
    let same = sealed(&compiled(1000, 10), Some(&first));
    assert_eq!((same.bundle.generation, &same.packed), (1, &first.packed));
    let mut changed = compiled(1000, 10);
    Arc::make_mut(&mut changed.credentials.all[500]).suspended = true;
    let next = sealed(&changed, Some(&same));
    let moved = next.shards.iter().zip(&first.shards).filter(|(a, b)| a != b).count();
    assert_eq!((next.bundle.generation, moved), (2, 1));
    let few = sealed(&compiled(1, 10), Some(&next));
    assert_eq!(few.shards.len(), 64, "a namespace that had shards keeps them");
}

/// Policies that are too large stay as they were; the key that was revoked at the same time does not.
#[test]
fn what_has_no_room_never_keeps_a_revoked_key_in_force() {
    for robots in [10, 1000] {
        let first = sealed(&compiled(robots, 10), None);
        let mut changed = compiled(robots, 4_000_000);
        changed.credentials.all.remove(7);
        let next = sealed(&changed, Some(&first));
        assert!(next.kept.as_deref().is_some_and(|why| why.contains("split the namespace")));
        assert_eq!((&next.bundle.plan, next.bundle.generation), (&first.bundle.plan, 2));
        let mut whole = next.bundle.clone();
        let held = next.shards.iter().map(|shard| {
            let unpacked = idm_plan::Shard::unpack(&shard.bytes, &shard.line).unwrap();
            (shard.line.digest.clone(), Arc::new(unpacked))
        });
        assert!(whole.assemble(&held.collect()).is_empty());
        assert_eq!(whole.credentials.all, changed.credentials.all);
        let never = sealed(&changed, None);
        assert!(never.bundle.plan.hosts.is_empty(), "what never had room serves nothing");
    }
}

#[test]
fn policies_that_are_too_large_and_credentials_without_room_say_so() {
    let first = sealed(&compiled(10, 10), None);
    let next = sealed(&compiled(10, 4_000_000), Some(&first));
    let mut report = Report::default();
    next.report([ObjectKey::new("shop", "p")].into_iter(), &mut report);
    let told: Vec<_> = report.errors().map(|found| (found.object.to_string(), found.cause)).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    let mut report = Report::default();
    let too_large = vec![ObjectKey::new("shop", "huge")];
    Sealed { too_large, kept: None, ..first }.report([].into_iter(), &mut report);
    assert!(report.errors().any(|found| found.object.name == "huge" && found.cause == Cause::Invalid));
}

#[test]
fn older_gateways_get_no_shards_while_everything_has_room_without() {
    let many = compiled(1000, 10);
    let before = seal(&many, None, false).unwrap();
    assert_eq!((before.shards.len(), before.bundle.format), (0, 7));
    assert_eq!(before.bundle.credentials.all.len(), 1000);
    let after = seal(&many, Some(before.bundle), true).unwrap();
    assert_eq!((after.shards.len(), after.bundle.format, after.bundle.generation), (64, 8, 2));
    let huge = compiled(34_000, 10);
    assert_eq!(seal(&huge, None, false).unwrap().shards.len(), 64, "no bundle has room for so many");
}
