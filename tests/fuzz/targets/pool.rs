//! The pool and the framing: random clients and random upstreams on either side of a gateway. Every byte at the
//! upstream belongs to a request that a client sent, and every answer goes to its own request.
#![no_main]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, OnceLock};

use idm_compile::{Settings, compile, yaml::read_files};
use idm_gateway::{AuditOptions, Gateway, GatewayOptions};
use idm_tests::play::{StrictUpstream, client, differences};
use idm_tests::{ANONYMOUS, open_to_address};
use libfuzzer_sys::fuzz_target;

/// One gateway for all inputs, so that its pool is used again between them.
fn bed() -> &'static (StrictUpstream, SocketAddr) {
    static BED: OnceLock<(StrictUpstream, SocketAddr)> = OnceLock::new();
    BED.get_or_init(|| {
        let upstream = StrictUpstream::start();
        let files = [("all.yaml".to_owned(), open_to_address(upstream.address, ANONYMOUS))];
        let (world, _) = read_files(&files, Settings::of_a_folder(false)).expect("it is YAML");
        let compiled = compile(&world, None);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let folder = std::env::temp_dir().join(format!("idm-fuzz-pool-{}", std::process::id()));
        let audit = AuditOptions::in_folder(folder, 16 << 20);
        let options = GatewayOptions { cores: 1, ..GatewayOptions::new("fuzz", ([127, 0, 0, 1], 0).into(), audit) };
        let address = runtime.block_on(async {
            let gateway = Gateway::start(&options, Some(&compiled.seal(1))).await.expect("the plan is good");
            let address = gateway.address();
            std::mem::forget(gateway);
            address
        });
        std::mem::forget(runtime);
        (upstream, address)
    })
}

/// The requests of the last inputs: what a client cut off may still be arriving.
static RECENT: Mutex<BTreeMap<String, Vec<u8>>> = Mutex::new(BTreeMap::new());

fuzz_target!(|script: &[u8]| {
    let (upstream, gateway) = bed();
    // Two clients at once, so that connections go from one to the other in the middle of things.
    let (first, second) = script.split_at(script.len().min(24) / 2);
    let second = second.get(..12).unwrap_or(second).to_vec();
    let other = std::thread::spawn(move || client(*gateway, &second));
    let (sent, mut problems) = client(*gateway, first);
    let (more, wrong) = other.join().expect("a client ends");
    problems.extend(wrong);
    let mut recent = RECENT.lock().expect("no panic inside");
    recent.extend(sent);
    recent.extend(more);
    if recent.len() > 2000 {
        // Paths end in numbers that grow; the older half is long settled.
        let number = |path: &str| path.rsplit('/').next().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let newest = recent.keys().map(|path| number(path)).max().unwrap_or(0);
        recent.retain(|path, _| number(path) + 1000 > newest);
    }
    problems.extend(differences(&recent, &upstream.take()));
    assert!(problems.is_empty(), "{problems:#?}");
});
