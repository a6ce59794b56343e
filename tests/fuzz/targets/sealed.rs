//! Sealed values: no bytes make the reader panic, none open that were not sealed here, and what is sealed comes back.
#![no_main]

use std::sync::OnceLock;

use idm_envelope::{Envelope, KeySet, Place, Sealed, SharedKeys};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

const PLACE: Place<'static> = Place { namespace: "shop", object: "idm-gateway", field: "bundle" };

fuzz_target!(|data: &[u8]| {
    static STATE: OnceLock<(Runtime, Envelope, Vec<u8>)> = OnceLock::new();
    let (runtime, envelope, good) = STATE.get_or_init(|| {
        let fields = [("primary".to_owned(), b"k".to_vec()), ("k".to_owned(), vec![7; 32])];
        let envelope = Envelope::new(SharedKeys::new(KeySet::parse(fields).expect("a set")));
        let runtime = Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
        let good = runtime.block_on(envelope.seal(&PLACE, b"hunter2")).expect("sealed");
        (runtime, envelope, good)
    });
    let _ = KeySet::parse([("primary".to_owned(), data.to_vec()), ("k".to_owned(), data.to_vec())]);
    // The input as it is, behind the beginning of a sealed value, and as changes of a good one.
    let changed: Vec<u8> = good.iter().zip(data.iter().chain(std::iter::repeat(&0))).map(|(a, b)| a ^ b).collect();
    for bytes in [data.to_vec(), [b"\0idm-sealed\x01", data].concat(), changed] {
        let _ = Sealed::parse(&bytes);
        let opened = runtime.block_on(envelope.open(&PLACE, &bytes));
        assert!(opened.is_err() || bytes == *good);
    }
    let sealed = runtime.block_on(envelope.seal(&PLACE, data)).expect("sealed");
    assert!(runtime.block_on(envelope.open(&PLACE, &sealed)).is_ok_and(|opened| opened.reveal() == data));
});
