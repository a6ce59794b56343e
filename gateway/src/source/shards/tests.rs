use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use idm_plan::{Credential, Credentials, Divided, Keys, ObjectKey, Plan, Proof, Secrets, divide, shard_of};

use super::super::opener::Opener;
use super::*;
use crate::{AuditOptions, GatewayOptions};

/// Shards by number, as a test puts them there.
#[derive(Clone, Default)]
struct There(Arc<Mutex<BTreeMap<usize, Vec<Vec<u8>>>>>);

impl There {
    fn put(&self, divided: &Divided, number: usize) {
        let mut all = self.0.lock().unwrap();
        let versions = all.entry(number).or_default();
        versions.insert(0, divided.shards[number].bytes.clone());
        versions.truncate(2);
    }

    fn put_all(&self, divided: &Divided) {
        (0..divided.shards.len()).for_each(|number| self.put(divided, number));
    }
}

impl ShardSource for There {
    async fn versions(&self, number: usize) -> Result<Vec<Vec<u8>>, String> {
        self.0.lock().unwrap().get(&number).cloned().ok_or_else(|| "gone".into())
    }
}

fn fleet(suspended: Option<usize>) -> Divided {
    let robot = |number: usize| {
        let proof = Proof::ApiKey { keys: Keys::one(format!("{number:064x}")), any_form: false };
        let robot = Credential::new(ObjectKey::new("shop", format!("robot-{number:04}")), proof);
        Arc::new(Credential { suspended: suspended == Some(number), ..robot })
    };
    divide(&Credentials { all: (0..600).map(robot).collect(), ..Credentials::default() }, 0).unwrap()
}

fn packed(divided: &Divided, generation: u64) -> Vec<u8> {
    let lines = divided.shards.iter().map(|shard| shard.line.clone()).collect();
    let plan = Plan { namespace: "shop".into(), ..Plan::default() };
    Bundle::with_index(plan, Secrets::default(), divided.common.clone(), lines, generation).pack().unwrap()
}

fn in_the_clear() -> Config {
    Config { secret: "idm-gateway".into(), shards: "idm-gateway".into(), opener: Opener::new("shop", None) }
}

async fn gateway(dir: &Path) -> Arc<Gateway> {
    let audit = AuditOptions::in_folder(dir.to_owned(), 1 << 20);
    let options = GatewayOptions { cores: 1, ..GatewayOptions::new("a", "127.0.0.1:0".parse().unwrap(), audit) };
    Gateway::start(&options, None).await.unwrap()
}

/// A gateway with the first fleet in force, and the place of its shards.
async fn in_force(dir: &Path) -> (Arc<Gateway>, There, Shards<There>) {
    let gateway = gateway(dir).await;
    let (there, first) = (There::default(), fleet(None));
    there.put_all(&first);
    let mut shards = Shards::new(there.clone(), in_the_clear(), gateway.clone());
    shards.take(&packed(&first, 1), |_| true).await;
    (gateway, there, shards)
}

fn known(gateway: &Gateway) -> usize {
    gateway.shared.configuration().map_or(0, |of| of.armed().credentials().of("shop").len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_is_in_force_with_its_shards_and_a_change_reads_one() {
    let dir = tempfile::tempdir().unwrap();
    let (gateway, there, mut shards) = in_force(dir.path()).await;
    assert_eq!((known(&gateway), gateway.generation(), gateway.error()), (600, Some(1), None));

    // All others are gone: they are not asked for again.
    let (next, number) = (fleet(Some(7)), shard_of(&ObjectKey::new("shop", "robot-0007"), 64));
    there.0.lock().unwrap().retain(|other, _| *other == number);
    there.put(&next, number);
    let before = gateway.shared.configuration().unwrap();
    shards.take(&packed(&next, 2), |_| true).await;
    let now = gateway.shared.configuration().unwrap();
    assert_eq!((known(&gateway), gateway.generation(), gateway.error()), (600, Some(2), None));
    assert!(now.armed().has_engine_of(before.armed()), "only Credentials were swapped");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_version_before_is_taken_while_the_index_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = gateway(dir.path()).await;
    let (there, first, next) = (There::default(), fleet(None), fleet(Some(7)));
    there.put_all(&first);
    there.put_all(&next);
    let mut shards = Shards::new(there, in_the_clear(), gateway.clone());
    shards.take(&packed(&first, 1), |_| true).await;
    assert_eq!((known(&gateway), gateway.error()), (600, None));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_shard_its_callers_are_refused_and_nobody_else_until_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let (gateway, there, mut shards) = in_force(dir.path()).await;
    let (next, number) = (fleet(Some(7)), shard_of(&ObjectKey::new("shop", "robot-0007"), 64));
    shards.take(&packed(&next, 2), |_| true).await;
    assert_eq!(gateway.generation(), Some(1), "for a moment it stays as it was");
    let began = std::time::Instant::now();
    while gateway.generation() == Some(1) {
        assert!(began.elapsed() < Duration::from_secs(60));
        shards.due().await;
        shards.go_on(|_| true).await;
    }
    assert_eq!(known(&gateway), 600 - next.shards[number].line.credentials);
    assert!(gateway.shared.configuration().unwrap().armed().credentials().of("shop").key_of("robot-0007").is_none());
    let error = gateway.error().unwrap();
    assert!(error.contains(&format!("the shards [{number}]")), "{error}");
    let digest = Bundle::unpack(&packed(&next, 2)).unwrap().digest;
    assert_ne!(gateway.version().unwrap().1, digest, "the operator is not told that it is in force");

    there.put(&next, number);
    shards.due().await;
    shards.go_on(|_| true).await;
    assert_eq!((known(&gateway), gateway.error(), gateway.version().unwrap()), (600, None, (2, digest)));
    gateway.stop().await;
}

mod sealed {
    use idm_envelope::{Envelope, KeyFolder, Place};

    use super::*;

    const PLACE: Place<'static> = Place { namespace: "shop", object: "idm-gateway", field: "bundle" };

    fn keys(dir: &Path, primary: &str, ids: &[&str]) -> KeyFolder {
        std::fs::create_dir_all(dir).unwrap();
        std::fs::write(dir.join("primary"), primary).unwrap();
        ids.iter().for_each(|id| std::fs::write(dir.join(id), [id.as_bytes()[0]; 32]).unwrap());
        KeyFolder(dir.to_owned())
    }

    fn plain(generation: u64) -> Vec<u8> {
        let plan = Plan { namespace: "shop".into(), ..Plan::default() };
        Bundle::seal(plan, Secrets::default(), Credentials::default(), generation).pack().unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_does_not_open_leaves_what_is_in_force_until_its_key_comes() {
        let dir = tempfile::tempdir().unwrap();
        let operator = Envelope::new(keys(&dir.path().join("all"), "b", &["a", "b"]));
        let before = Envelope::new(keys(&dir.path().join("before"), "a", &["a"]));
        let mounted = dir.path().join("mounted");
        let opener = Opener::new("shop", Some(Arc::new(Envelope::new(keys(&mounted, "a", &["a"])))));
        let gateway = gateway(&dir.path().join("audit")).await;
        let config = Config { secret: "idm-gateway".into(), shards: "idm-gateway".into(), opener };
        let mut source = Shards::new(There::default(), config, gateway.clone());

        source.take(&plain(9), |_| true).await;
        assert_eq!(gateway.generation(), None, "a bundle in the clear is not taken");
        assert!(gateway.error().unwrap().contains("it is not sealed"), "{:?}", gateway.error());
        source.take(&before.seal(&PLACE, &plain(1)).await.unwrap(), |_| true).await;
        assert_eq!((gateway.generation(), gateway.error()), (Some(1), None));

        let next = operator.seal(&PLACE, &plain(2)).await.unwrap();
        source.take(&next, |_| true).await;
        assert_eq!(gateway.generation(), Some(1));
        assert!(gateway.error().unwrap().contains("there is no key `b` here"), "{:?}", gateway.error());
        source.due().await;
        source.go_on(|_| true).await;
        assert_eq!(gateway.generation(), Some(1));
        keys(&mounted, "b", &["a", "b"]);
        source.due().await;
        source.go_on(|_| true).await;
        assert_eq!((gateway.generation(), gateway.error()), (Some(2), None));

        // One that is in force already was sealed anew, with a key that comes later.
        std::fs::remove_file(mounted.join("b")).unwrap();
        std::fs::write(mounted.join("primary"), "a").unwrap();
        let anew = Envelope::new(keys(&dir.path().join("all"), "b", &["a", "b"]));
        source.take(&anew.seal(&PLACE, &plain(2)).await.unwrap(), |_| false).await;
        assert!(gateway.error().is_some());
        keys(&mounted, "b", &["a", "b"]);
        source.go_on(|_| false).await;
        assert_eq!((gateway.generation(), gateway.error()), (Some(2), None));

        let elsewhere = Place { namespace: "bank", ..PLACE };
        for wrong in [operator.seal(&elsewhere, &plain(3)).await.unwrap(), plain(3), vec![next[0]; 40]] {
            source.take(&wrong, |_| true).await;
            assert_eq!(gateway.generation(), Some(2));
            assert!(gateway.error().is_some());
        }
        gateway.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn shards_are_sealed_too_and_a_gateway_without_keys_says_what_it_lacks() {
        let dir = tempfile::tempdir().unwrap();
        let envelope = Arc::new(Envelope::new(keys(&dir.path().join("keys"), "a", &["a"])));
        let (there, fleet) = (There::default(), fleet(None));
        for (number, shard) in fleet.shards.iter().enumerate() {
            let object = shard_secret("idm-gateway", number);
            let place = Place { object: &object, field: SHARD_FIELD, ..PLACE };
            let sealed = envelope.seal(&place, &shard.bytes).await.unwrap();
            there.0.lock().unwrap().insert(number, vec![sealed]);
        }
        // The gateway of a Gateway has a bundle of its own, and the shards of its namespace.
        const OWN: &str = "idm-gateway-edge";
        let bundle = envelope.seal(&Place { object: OWN, ..PLACE }, &packed(&fleet, 1)).await.unwrap();
        let gateway = gateway(&dir.path().join("audit")).await;
        let mut without = Shards::new(there.clone(), in_the_clear(), gateway.clone());
        without.take(&bundle, |_| true).await;
        let error = gateway.error().unwrap();
        assert!(error.contains("sealed with key `a`") && error.contains("--seal-keys"), "{error}");
        let opener = Opener::new("shop", Some(envelope));
        let config = Config { secret: OWN.into(), shards: "idm-gateway".into(), opener };
        let mut source = Shards::new(there, config, gateway.clone());
        source.take(&bundle, |_| true).await;
        assert_eq!((known(&gateway), gateway.generation(), gateway.error()), (600, Some(1), None));
        gateway.stop().await;
    }
}
