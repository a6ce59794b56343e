use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use idm_plan::{Credential, Credentials, Divided, Keys, ObjectKey, Plan, Proof, Secrets, divide, shard_of};

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
    let mut shards = Shards::new(there.clone(), gateway.clone());
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
    let mut shards = Shards::new(there, gateway.clone());
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
