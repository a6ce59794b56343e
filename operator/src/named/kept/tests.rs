use idm_types::ApiKey;
use k8s_openapi::ByteString;
use kube::api::ObjectMeta;

use super::*;

fn secret(name: &str, version: u64, value: &str) -> Secret {
    let metadata =
        ObjectMeta { name: Some(name.into()), resource_version: Some(version.to_string()), ..ObjectMeta::default() };
    let data = [("key".to_owned(), ByteString(value.into()))].into();
    Secret { metadata, data: Some(data), ..Secret::default() }
}

fn need(keys: &[&str], values: &[&str]) -> Need {
    let names = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect();
    Need { keys: names(keys), values: names(values), config_maps: vec![] }
}

fn key(number: u8) -> String {
    ApiKey::from_random([number; 32]).reveal().to_owned()
}

#[test]
fn an_event_concerns_who_names_its_secret_and_only_when_it_changed() {
    let mut kept = Kept::default();
    kept.want("shop", need(&["a"], &["p"]));
    kept.want("infra by a grant", need(&[], &["p"]));
    assert_eq!(kept.see_secret(secret("a", 1, &key(1))), ["shop"]);
    assert!(kept.see_secret(secret("a", 2, &key(1))).is_empty(), "only its version is another one");
    assert_eq!(kept.see_secret(secret("a", 3, &key(2))), ["shop"]);
    assert_eq!(kept.see_secret(secret("p", 4, "x")), ["infra", "shop"]);
    assert!(kept.see_secret(secret("other", 5, "y")).is_empty());
    assert_eq!((kept.secret_gone("a"), kept.secret_gone("other")), (vec!["shop".to_owned()], vec![]));
    assert!(kept.key_secrets().is_empty());
}

#[test]
fn of_keys_only_hashes_are_kept_and_of_others_only_names() {
    let mut kept = Kept::default();
    kept.want("shop", need(&["a"], &["p"]));
    for (name, value) in [("a", key(1)), ("p", "password".into()), ("other", "z".into())] {
        kept.see_secret(secret(name, 1, &value));
    }
    assert_eq!((kept.keys.len(), kept.values.len()), (1, 1));
    assert_eq!(kept.others.iter().collect::<Vec<_>>(), ["other"]);
    // It is named now, so it is read once.
    kept.want("shop", need(&["a", "other"], &["p"]));
    assert_eq!(kept.unread().0, ["other"]);
    kept.read_secret("other", Some(secret("other", 1, &key(3))));
    assert!(kept.unread().0.is_empty() && kept.keys.contains_key("other"));
    // The value of a key is needed as well.
    kept.want("shop", need(&["other"], &["a", "p"]));
    assert_eq!(kept.unread().0, ["a"]);
    kept.read_secret("a", Some(secret("a", 1, &key(1))));
    assert!(kept.values("a").is_some() && !kept.keys.contains_key("a"));
    assert!(kept.leave("shop"));
    assert!(kept.keys.is_empty() && kept.values.is_empty());
}

#[test]
fn what_was_read_is_not_replaced_by_an_event_that_comes_late() {
    let mut kept = Kept::default();
    kept.want("shop", need(&["a"], &[]));
    kept.see_secret(secret("a", 5, &key(1)));
    kept.read_again("a");
    // An event before it was read starts a reconcile, which reads it.
    assert_eq!(kept.see_secret(secret("a", 6, &key(2))), ["shop"]);
    kept.read_secret("a", Some(secret("a", 8, &key(4))));
    let newest = kept.key_secrets();
    assert!(kept.see_secret(secret("a", 7, &key(3))).is_empty());
    assert_eq!(kept.key_secrets(), newest);
    assert!(kept.see_secret(secret("a", 8, &key(4))).is_empty());
    assert_eq!(kept.see_secret(secret("a", 9, &key(5))), ["shop"]);
}

#[test]
fn what_a_listing_does_not_have_is_gone() {
    let mut kept = Kept::default();
    kept.want("shop", need(&["a", "b"], &[]));
    kept.see_secret(secret("a", 1, &key(1)));
    kept.see_secret(secret("b", 1, &key(2)));
    assert_eq!(kept.prune_secrets(&["a".to_owned()].into()), ["shop"]);
    assert_eq!(kept.key_secrets().len(), 1);
}
