//! What happens about a block beside the requests that it refuses: its record and its line in the log, the other
//! gateways that share a store, and the people who look at blocks and end them.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use idm_audit::{Action, Change, ChangeBy, Evidence, ObjectName, Record, SCHEMA, SpoolHandle, Storing};
use idm_decide::{Block, BlockMode, BlockRule, Blocks, MAX_BLOCKS, SharedBlock, Subject};
use idm_proxy::Shared;
use idm_store::{Board, BoardVersion, Key, Store, StoreError};
use idm_types::{Redacted, Timestamp, hex, unhex};
use serde_json::{Value, json};

use crate::Gateway;

const BOARD: Board = Board { name: "blocks", capacity: MAX_BLOCKS };
/// The time within which a gateway knows what another one blocked.
const LOOK: Duration = Duration::from_secs(1);
/// The file with the token of this machine's administrators, in the folder of the audit.
const TOKEN_FILE: &str = "admin-token";

/// What the task of the blocks works with.
pub(crate) struct Teller {
    pub(crate) blocks: Arc<Blocks>,
    pub(crate) store: Store,
    pub(crate) shared: Arc<Shared>,
    pub(crate) spool: Mutex<SpoolHandle>,
    /// The gateway, which is the author of its blocks.
    pub(crate) name: String,
}

impl Teller {
    /// Tells of blocks as they begin, and follows those of other gateways, in an endless loop.
    pub(crate) async fn run(self) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut unshared, mut seen) = (Vec::new(), BoardVersion::default());
        loop {
            tokio::select! {
                began = self.blocks.untold() => {
                    began.iter().for_each(|block| self.began(block));
                    unshared.extend(began);
                    self.share(&mut unshared).await;
                }
                _ = look.tick(), if self.store.is_shared() => {
                    self.share(&mut unshared).await;
                    self.follow(&mut seen).await;
                }
            }
        }
    }

    fn began(&self, block: &Block) {
        let (rule, mode, place) = (block.rule.name(), block.mode.name(), block.place());
        tracing::warn!(rule, mode, place, spared = block.spared, "a block began: {block}");
        let actor = format!("gateway {}", self.name);
        let told = Told { block, action: Action::Created, actor: &actor };
        let namespace = namespace(&self.shared);
        let spool = self.spool.lock().unwrap_or_else(PoisonError::into_inner);
        drop(record(&spool, &namespace, &told, Timestamp::now()));
    }

    /// Tells other gateways. What the store does not take is told with the next look.
    async fn share(&self, unshared: &mut Vec<Arc<Block>>) {
        let now = self.store.clock().uptime();
        // One that was ended meanwhile is nobody's any more.
        let current = if unshared.is_empty() { Vec::new() } else { self.blocks.list(now) };
        unshared.retain(|block| current.iter().any(|current| Arc::ptr_eq(current, block)));
        while let Some(block) = unshared.first() {
            let told = block.told(now);
            let value = encoded(&told).to_string().into_bytes();
            if self.store.post(BOARD, &key(block), value, told.left_ms).await.is_err() {
                return;
            }
            block.note_shared();
            unshared.remove(0);
        }
    }

    async fn follow(&self, seen: &mut BoardVersion) {
        // The health of the store is told elsewhere.
        if let Ok(Some(entries)) = self.store.board(BOARD, seen).await {
            let decode = |(value, left_ms): (Vec<u8>, u64)| decoded(&serde_json::from_slice(&value).ok()?, left_ms);
            let entries = entries.into_iter().filter_map(decode).collect();
            self.blocks.synchronise(entries, self.store.clock().uptime());
        }
    }
}

fn namespace(shared: &Shared) -> String {
    shared.configuration().map(|configuration| configuration.engine().namespace().to_owned()).unwrap_or_default()
}

/// The key of a block on the board.
fn key(block: &Block) -> Key {
    let subject = block.subject.map(|subject| hex(&subject.0)).unwrap_or_default();
    Key::of(&["block", &block.network.to_string(), &subject])
}

fn encoded(told: &SharedBlock) -> Value {
    json!({
        "network": told.network, "subject": told.subject.map(|subject| hex(&subject.0)), "about": told.about,
        "rule": told.rule.name(), "mode": told.mode.name(), "spared": told.spared, "number": told.number,
        "windowMs": told.window_ms, "began": told.began.0, "ends": told.ends.0,
    })
}

/// A block of another gateway; `None` for what a newer version wrote and this one cannot read.
fn decoded(value: &Value, left_ms: u64) -> Option<SharedBlock> {
    let text = |name: &str| value[name].as_str();
    let number = |name: &str| value[name].as_u64();
    let subject = match text("subject") {
        Some(subject) => Some(Subject(unhex(subject)?)),
        None => None,
    };
    Some(SharedBlock {
        network: text("network")?.parse().ok()?,
        subject,
        about: text("about")?.to_owned(),
        rule: BlockRule::of_name(text("rule")?)?,
        mode: BlockMode::of_name(text("mode")?)?,
        spared: value["spared"].as_bool()?,
        number: u32::try_from(number("number")?).ok()?,
        window_ms: number("windowMs")?,
        began: Timestamp(number("began")?),
        ends: Timestamp(number("ends")?),
        left_ms,
    })
}

/// The beginning or the end of a block.
struct Told<'b> {
    block: &'b Block,
    action: Action,
    actor: &'b str,
}

/// Records it as a change of an object of its own kind.
fn record(spool: &SpoolHandle, namespace: &str, told: &Told<'_>, now: Timestamp) -> Storing {
    let Told { block, action, actor } = told;
    let place = block.place();
    let uid = key(block).hex();
    let action_name = format!("{action:?}");
    let id = Key::of(&["block record", &uid, &block.began.0.to_string(), &action_name, &now.0.to_string()]).hex();
    let spared = block.spared.then(|| "spared: several callers were let in from there".to_owned());
    let lines = [format!("mode: {}", block.mode.name()), block.to_string()];
    let diff: Vec<String> = lines.into_iter().chain(spared).collect();
    spool.record_durably(&Record::Change(Change {
        time: now,
        id: &id,
        schema: SCHEMA,
        action: *action,
        object: ObjectName { kind: "Block", namespace, name: &place, uid: &uid, generation: 1, version: "" },
        actor,
        by: ChangeBy { evidence: Evidence::Authenticated, names: &[], uid: "", groups: &[], manager: "" },
        origin: None,
        between: None,
        diff: &diff,
    }))
}

/// A block as people see it.
fn shown(block: &Block, now: idm_types::Uptime) -> Value {
    json!({
        "address": block.place(), "credential": block.subject.map(|_| &block.about), "rule": block.rule.name(),
        "mode": block.mode.name(), "spared": block.spared, "why": block.to_string(),
        "began": block.began.rfc3339(), "ends": block.ends.rfc3339(), "secondsLeft": block.seconds_left(now),
        "hits": block.hits(),
    })
}

/// The token by which whoever may read the folder of the audit ends blocks. It is new with each start.
pub(crate) fn new_token(folder: &Path) -> anyhow::Result<Redacted<String>> {
    let path = token_file(folder);
    let mut random = [0; 32];
    SystemRandom::new().fill(&mut random).map_err(|_| anyhow::anyhow!("the system gives no random bits"))?;
    let token = hex(&random);
    write_private(&path, &token).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Redacted::new(token))
}

/// The file that a gateway writes its token to.
pub fn token_file(folder: &Path) -> PathBuf {
    folder.join(TOKEN_FILE)
}

/// Never follows a link that somebody put there, and never keeps the permissions of an older file.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

impl Gateway {
    /// Whether a token is that of this machine's administrators, or of the operator.
    fn may_end_blocks(&self, token: &str) -> bool {
        let own = self.admin_token.as_ref();
        own.is_some_and(|own| verify_slices_are_equal(own.reveal().as_bytes(), token.as_bytes()).is_ok())
            || self.is_operator(token)
    }

    /// The blocks in force; `None` for whoever may not see them.
    pub(crate) fn blocks_for(&self, token: &str) -> Option<Value> {
        let memory = &self.environment.memory;
        let (blocks, now) = (memory.blocks(), memory.store().clock().uptime());
        let list = || blocks.list(now).iter().map(|block| shown(block, now)).collect::<Vec<_>>();
        let mode = blocks.rules().map_or("off", |rules| rules.mode.name());
        self.may_end_blocks(token).then(|| json!({"mode": mode, "blocks": list()}))
    }

    /// Ends the blocks at an address, on all gateways that share the store; `None` for whoever may not do that. With an
    /// error nothing has ended.
    pub(crate) async fn remove_blocks(&self, token: &str, address: IpAddr) -> Option<Result<Value, StoreError>> {
        if !self.may_end_blocks(token) {
            return None;
        }
        let memory = &self.environment.memory;
        let (blocks, store) = (memory.blocks(), memory.store());
        let network = idm_types::network(address);
        let now = store.clock().uptime();
        let there: Vec<_> = blocks.list(now).into_iter().filter(|block| block.network == network).collect();
        // The others first: this gateway would take them over again.
        let keys: Vec<Key> = there.iter().map(|block| key(block)).collect();
        if let Err(error) = store.take_down(BOARD, &keys).await {
            return Some(Err(error));
        }
        let removed = blocks.remove(address, now);
        let namespace = namespace(&self.shared);
        let stored: Vec<Storing> = match self.spool_handle() {
            Some(spool) => {
                let told = |block| Told { block, action: Action::Deleted, actor: "holder of the admin token" };
                removed.iter().map(|block| record(&spool, &namespace, &told(block), Timestamp::now())).collect()
            }
            None => Vec::new(),
        };
        for stored in stored {
            let _ = stored.await;
        }
        let removed: Vec<Value> = removed.iter().map(|block| shown(block, now)).collect();
        Some(Ok(json!({"removed": removed})))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_told_to_other_gateways_whole_and_what_cannot_be_read_is_left_out() {
        for subject in [None, Some(Subject([7; 16]))] {
            let told = SharedBlock {
                network: IpAddr::from([192, 0, 2, 1]),
                subject,
                about: "user `shop/ana`".into(),
                rule: BlockRule::OneCredential,
                mode: BlockMode::Observe,
                spared: true,
                number: 12,
                window_ms: 600_000,
                began: Timestamp(1),
                ends: Timestamp(2),
                left_ms: 5,
            };
            let value = encoded(&told);
            assert_eq!(decoded(&value, 5), Some(told));
            for member in ["network", "rule", "mode", "number", "ends"] {
                let mut broken = value.clone();
                broken[member] = json!("?");
                assert_eq!(decoded(&broken, 5), None, "{member}");
            }
        }
    }

    #[test]
    fn the_token_is_for_its_owner_alone_and_new_with_each_start() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = token_file(folder.path());
        std::fs::write(&path, "old").unwrap();
        let tokens = [new_token(folder.path()).unwrap(), new_token(folder.path()).unwrap()];
        assert_ne!(tokens[0].reveal(), tokens[1].reveal());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), *tokens[1].reveal());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
