use idm_compile::{Meta, Object, Settings, compile};
use idm_types::Redacted;
use serde_json::json;

use super::*;

const HOUR: u64 = 3_600_000;
const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn hash(key: &str) -> String {
    idm_types::hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.as_bytes()).as_ref())
}

fn key(n: u8) -> String {
    idm_types::ApiKey::from_random([n; 32]).reveal().to_owned()
}

/// A namespace whose Credential was rotated an hour ago with a day for the old key.
fn rotated() -> World {
    let mut world = World::new("shop", Settings::default());
    let spec = serde_json::from_value(json!({"apiKey": {}, "secretRef": {"name": "robot"}})).expect("a spec");
    world.credentials.push(Object { meta: Meta { name: "robot".into(), ..Meta::default() }, spec }.into());
    let value = Redacted::new(key(2).into_bytes());
    world.secrets.insert("robot".into(), [("key".to_owned(), value)].into());
    let an_hour_ago = Timestamp(NOW.0 - HOUR);
    world.register.see("robot", &hash(&key(1)), Timestamp(NOW.0 - 9 * HOUR));
    world.register.begin("robot", &hash(&key(1)), Some("r1"), 24 * HOUR, an_hour_ago, None).expect("there is room");
    world.register.finish("robot", &hash(&key(2)), an_hour_ago);
    world
}

fn shown(world: &World, uses: &KeyUses, now: Timestamp) -> Value {
    members(world, &compile(world, None), uses, 2, "robot", now)
}

#[test]
fn r62_status_tells_each_key_and_who_still_uses_the_old_one() {
    let (world, uses) = (rotated(), KeyUses::default());
    let (old, new) = (hash(&key(1)), hash(&key(2)));
    let told = |last: Option<(u64, &str)>| {
        let last = last.map(|(at, address)| json!({"at": at, "address": address}));
        let told = json!([{"namespace": "shop", "credential": "robot", "key": &old[..12], "newer": &new[..12],
            "lastUse": last}]);
        serde_json::from_value(told).expect("it is read")
    };
    uses.keep("shop", told(None));
    let status = shown(&world, &uses, NOW);
    let until = Timestamp(NOW.0 + 23 * HOUR).rfc3339();
    let since = |hours: u64| Timestamp(NOW.0 - hours * HOUR).rfc3339();
    let wanted = json!({"rotation": {"request": "r1"}, "keys": [
        {"id": &new[..12], "state": "Active", "sinceTime": since(1), "gateways": "1/2"},
        {"id": &old[..12], "state": "Overlapping", "sinceTime": since(9), "untilTime": until},
    ]});
    assert_eq!(status, wanted);
    // A use is told to five minutes, so that a busy key does not write the status all the time.
    for seconds in [0, 299] {
        uses.keep("shop", told(Some((NOW.0 + seconds * 1000, "192.0.2.1"))));
        let of_old = &shown(&world, &uses, NOW)["keys"][1];
        assert_eq!(of_old["lastUseTime"], NOW.rfc3339());
        assert_eq!(of_old["lastUseAddress"], "192.0.2.1");
    }
    assert_eq!(shown(&world, &uses, Timestamp(NOW.0 + 23 * HOUR))["keys"][1]["state"], "RotatedOut");
}

#[test]
fn a_status_without_two_keys_does_not_change_by_itself_and_shows_no_key() {
    let mut world = rotated();
    world.register.revoke("robot", &hash(&key(1)), NOW, None).expect("there is room");
    let before = shown(&world, &KeyUses::default(), NOW);
    assert_eq!(before, shown(&world, &KeyUses::default(), Timestamp(NOW.0 + 1_000_000 * HOUR)));
    assert_eq!(before["keys"][1]["state"], "Revoked");
    assert!(before["keys"][0].get("gateways").is_none(), "{before}");
    let text = before.to_string();
    assert!(!text.contains("idm_") && !text.contains(&hash(&key(1))[..13]), "{text}");
}
