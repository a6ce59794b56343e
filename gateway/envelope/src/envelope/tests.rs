use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::{KeyFuture, KeySet, SharedKeys};

const PLACE: Place<'static> = Place { namespace: "shop", object: "idm-gateway", field: "bundle" };

fn keys(primary: &str, all: &[(&str, u8)]) -> KeySet {
    let of_all = all.iter().map(|(id, byte)| ((*id).to_owned(), vec![*byte; 32]));
    KeySet::parse(of_all.chain([("primary".to_owned(), primary.into())])).unwrap()
}

fn both(primary: &str) -> SharedKeys {
    SharedKeys::new(keys(primary, &[("old", 1), ("new", 2)]))
}

/// Counts how often data keys are unwrapped.
struct Counted(SharedKeys, Arc<AtomicUsize>);

impl KeyService for Counted {
    fn primary(&self) -> Result<String, KeyError> {
        self.0.primary()
    }
    fn wrap<'a>(&'a self, key_id: &'a str, namespace: &'a str, key: &'a DataKey) -> KeyFuture<'a, Vec<u8>> {
        self.0.wrap(key_id, namespace, key)
    }
    fn unwrap<'a>(&'a self, key_id: &'a str, namespace: &'a str, wrapped: &'a [u8]) -> KeyFuture<'a, DataKey> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.unwrap(key_id, namespace, wrapped)
    }
}

#[tokio::test]
async fn a_value_opens_in_another_process_and_the_service_is_asked_once_for_all_of_a_namespace() {
    let envelope = Envelope::new(both("old"));
    let first = envelope.seal(&PLACE, b"hunter2").await.unwrap();
    let other = Place { field: "store-password", ..PLACE };
    let second = envelope.seal(&other, b"secret").await.unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let gateway = Envelope::new(Counted(both("old"), asked.clone()));
    for _ in 0..3 {
        assert_eq!(gateway.open(&PLACE, &first).await.unwrap().reveal(), b"hunter2");
        assert_eq!(gateway.open(&other, &second).await.unwrap().reveal(), b"secret");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    assert!(matches!(gateway.open(&other, &first).await, Err(SealError::Wrong { key_id }) if key_id == "old"));
    let elsewhere = Place { namespace: "bank", ..PLACE };
    let moved = gateway.open(&elsewhere, &first).await.unwrap_err();
    assert!(matches!(moved, SealError::Key { source: KeyError::NotWrapped(_), .. }), "{moved}");
}

#[tokio::test]
async fn the_same_value_is_the_same_bytes_also_after_a_restart_until_the_key_is_another() {
    let service = both("old");
    let first = Envelope::new(service.clone());
    let sealed = first.seal(&PLACE, b"hunter2").await.unwrap();
    assert_eq!(first.seal(&PLACE, b"hunter2").await.unwrap(), sealed);
    let again = Envelope::new(service.clone());
    assert_eq!(again.open(&PLACE, &sealed).await.unwrap().reveal(), b"hunter2");
    assert_eq!(again.seal(&PLACE, b"hunter2").await.unwrap(), sealed, "the data key was taken over");
    service.put(keys("new", &[("old", 1), ("new", 2)]));
    let next = again.seal(&PLACE, b"hunter2").await.unwrap();
    assert_eq!(Sealed::parse(&next).unwrap().key_id(), "new");
    assert_eq!(again.seal_again(&PLACE, b"hunter2", Some(&sealed)).await.unwrap(), sealed, "it is sealed already");
    assert_eq!(again.seal_again(&PLACE, b"hunter3", Some(&sealed)).await.unwrap().len(), next.len());
    assert_eq!(again.seal_again(&PLACE, b"hunter2", Some(b"hunter2")).await.unwrap(), next, "in the clear");
}

#[tokio::test]
async fn what_does_not_open_says_which_key_is_missing_and_nothing_in_the_clear_is_taken() {
    let sealed = Envelope::new(both("old")).seal(&PLACE, b"hunter2").await.unwrap();
    let without = Envelope::new(SharedKeys::new(keys("new", &[("new", 2)])));
    let error = without.open(&PLACE, &sealed).await.unwrap_err();
    assert_eq!(error.key_id(), Some("old"));
    assert!(error.to_string().contains("there is no key `old` here"), "{error}");
    let another = Envelope::new(SharedKeys::new(keys("old", &[("old", 9)])));
    let error = another.open(&PLACE, &sealed).await.unwrap_err();
    assert!(matches!(&error, SealError::Key { source: KeyError::NotWrapped(id), .. } if id == "old"), "{error}");
    for clear in [&b"hunter2"[..], b"", b"\x1f\x8b"] {
        assert!(matches!(another.open(&PLACE, clear).await, Err(SealError::NotSealed)));
    }
    assert!(matches!(another.open(&PLACE, &sealed[..15]).await, Err(SealError::Malformed)));
}

#[tokio::test]
async fn any_byte_that_is_changed_is_noticed() {
    let envelope = Envelope::new(both("old"));
    let sealed = envelope.seal(&PLACE, b"hunter2").await.unwrap();
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert!(envelope.open(&PLACE, &changed).await.is_err(), "byte {at}");
        assert!(envelope.open(&PLACE, &sealed[..at]).await.is_err(), "the first {at} bytes");
    }
}
