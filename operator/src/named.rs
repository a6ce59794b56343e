//! The Secrets and ConfigMaps that objects name: one watch of each kind in every namespace that has such objects, so
//! that a change is known at once and nothing is read again that did not change.
//!
//! Of those that are named the hashes of keys are kept where they suffice, and values where they are needed. Of all
//! others only the name is kept, to know that it is there. Where the operator may not list Secrets, it reads those that
//! are named one by one, every time.

mod kept;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use idm_compile::{SecretValues, World};
use idm_types::Redacted;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::queue::Queue;
use kept::{Kept, Need};

/// Secrets that are read at the same time.
const AT_ONCE: usize = 16;
/// Several events of one namespace become one reconcile.
const SETTLE: Duration = Duration::from_millis(5);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(10);
/// The time after which it is tried again whether Secrets may be listed.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

/// The watches, by namespace.
#[derive(Default)]
pub(crate) struct Named(Mutex<BTreeMap<String, Arc<Space>>>);

/// Whether a kind was listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listed {
    NotYet,
    Yes,
    /// The operator may not.
    Refused,
}

/// One namespace.
struct Space {
    kept: Mutex<Kept>,
    secrets: watch::Sender<Listed>,
    config_maps: watch::Sender<Listed>,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Drop for Space {
    fn drop(&mut self) {
        self.tasks.get_mut().unwrap_or_else(PoisonError::into_inner).iter().for_each(AbortHandle::abort);
    }
}

impl Space {
    fn kept<T>(&self, done: impl FnOnce(&mut Kept) -> T) -> T {
        done(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Stands for a namespace that reads Secrets of another one.
fn by_grant(watcher: &str) -> String {
    format!("{watcher} by a grant")
}

/// The values of a Secret.
pub(crate) fn values(secret: Secret) -> SecretValues {
    secret.data.into_iter().flatten().map(|(key, value)| (key, Redacted::new(value.0))).collect()
}

impl Named {
    /// Gives a world the Secrets and ConfigMaps that it names, those of other namespaces where a ReferenceGrant permits
    /// it or where the objects that name them are there, too. Returns whether all of them are watched.
    pub(crate) async fn provide(
        &self,
        world: &mut World,
        client: &Client,
        queue: &Arc<Queue>,
    ) -> Result<bool, kube::Error> {
        let watcher = world.namespace.clone();
        let mut watched = self.provide_own(world, &watcher, client, queue).await?;
        let mut needed: BTreeSet<String> = world.tenants().iter().map(|tenant| tenant.namespace.clone()).collect();
        needed.insert(watcher.clone());
        self.leave_others(&watcher, &needed);
        let mut granted: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (namespace, name) in world.granted_secret_names() {
            granted.entry(namespace).or_default().push(name);
        }
        self.leave_others(&by_grant(&watcher), &granted.keys().cloned().collect());
        for (namespace, names) in granted {
            // Its own objects may need more of them: see `Kept::want`.
            let need = Need { values: names.clone(), ..Need::default() };
            let of = by_grant(&watcher);
            let (space, refused) = self.space(&namespace, &of, need, client, queue).await?;
            watched &= !refused;
            for name in names {
                if let Some(values) = space.kept(|kept| kept.values(&name).cloned()) {
                    world.granted_secrets.insert((namespace.clone(), name), values);
                }
            }
        }
        // Many at a time: one Gateway may take the routes of hundreds of namespaces.
        let all: Vec<_> = world.tenants_mut().map(|tenant| self.provide_own(tenant, &watcher, client, queue)).collect();
        let mut all = futures::stream::iter(all).buffer_unordered(AT_ONCE);
        while let Some(of) = all.try_next().await? {
            watched &= of;
        }
        Ok(watched)
    }

    async fn provide_own(
        &self,
        world: &mut World,
        watcher: &str,
        client: &Client,
        queue: &Arc<Queue>,
    ) -> Result<bool, kube::Error> {
        let (keys, values) = world.key_secret_names();
        let need = Need { keys, values, config_maps: world.config_map_names() };
        if need.is_empty() {
            self.leave(&world.namespace, watcher);
            return Ok(true);
        }
        let (space, refused) = self.space(&world.namespace, watcher, need.clone(), client, queue).await?;
        space.kept(|kept| {
            world.key_secrets = kept.key_secrets();
            for name in need.values {
                world.secrets.extend(kept.values(&name).map(|values| (name, values.clone())));
            }
            for name in need.config_maps {
                world.config_maps.extend(kept.config_map(&name).map(|data| (name, data.clone())));
            }
        });
        Ok(!refused)
    }

    fn leave_others(&self, watcher: &str, needed: &BTreeSet<String>) {
        let all: Vec<String> = {
            let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let is_left = |(namespace, space): &(&String, &Arc<Space>)| {
                !needed.contains(*namespace) && space.kept(|kept| kept.is_needed_by(watcher))
            };
            all.iter().filter(is_left).map(|(namespace, _)| namespace.clone()).collect()
        };
        all.iter().for_each(|namespace| self.leave(namespace, watcher));
    }

    /// Nothing of a namespace is reconciled any more.
    pub(crate) fn leave_all(&self, watcher: &str) {
        self.leave_others(watcher, &BTreeSet::new());
        self.leave_others(&by_grant(watcher), &BTreeSet::new());
    }

    /// A namespace does not name anything in another one any more.
    fn leave(&self, namespace: &str, watcher: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_left = all.get(namespace).is_some_and(|space| space.kept(|kept| kept.leave(watcher)));
        if is_left {
            all.remove(namespace);
        }
    }

    /// The Secret of this name was written here: it is read again before it counts.
    pub(crate) fn wrote(&self, namespace: &str, name: &str) {
        let space = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(namespace).cloned();
        if let Some(space) = space {
            space.kept(|kept| kept.read_again(name));
        }
    }

    /// The watched namespace with everything that is needed of it; the flag says that Secrets may not be listed there.
    async fn space(
        &self,
        namespace: &str,
        watcher: &str,
        need: Need,
        client: &Client,
        queue: &Arc<Queue>,
    ) -> Result<(Arc<Space>, bool), kube::Error> {
        let space = self.begun(namespace, watcher, need, client, queue);
        let secrets = listed(&space.secrets).await;
        let config_maps = listed(&space.config_maps).await;
        space.kept(|kept| {
            if secrets == Listed::Refused {
                kept.read_all_secrets_again();
            }
            if config_maps == Listed::Refused {
                kept.read_all_config_maps_again();
            }
        });
        let (unread_secrets, unread_maps) = space.kept(|kept| kept.unread());
        let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let reads = futures::stream::iter(unread_secrets.into_iter().map(|name| {
            let api = &api;
            async move { Ok::<_, kube::Error>((api.get_opt(&name).await?, name)) }
        }));
        let mut reads = reads.buffer_unordered(AT_ONCE);
        while let Some((secret, name)) = reads.try_next().await? {
            space.kept(|kept| kept.read_secret(&name, secret));
        }
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        for name in unread_maps {
            let map = api.get_opt(&name).await?;
            space.kept(|kept| kept.read_config_map(&name, map));
        }
        Ok((space, secrets == Listed::Refused || config_maps == Listed::Refused))
    }

    /// The space of a namespace, whose watches run.
    fn begun(&self, namespace: &str, watcher: &str, need: Need, client: &Client, queue: &Arc<Queue>) -> Arc<Space> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let space = all.entry(namespace.to_owned()).or_insert_with(|| {
            Arc::new(Space {
                kept: Mutex::default(),
                secrets: watch::Sender::new(Listed::NotYet),
                config_maps: watch::Sender::new(Listed::NotYet),
                tasks: Mutex::default(),
            })
        });
        // First: the first listing keeps what is needed.
        space.kept(|kept| kept.want(watcher, need));
        let mut tasks = space.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if tasks.is_empty() {
            let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
            let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
            // No object names the Secrets in which Helm keeps its releases, and they are the largest.
            // Those that the operator writes for gateways come back to no watch of its own.
            let others = format!("!{}", crate::gateway::BUNDLE_LABEL);
            let config = watcher::Config::default().fields("type!=helm.sh/release.v1").labels(&others);
            let follow_secrets = follow(secrets, config, Arc::downgrade(space), queue.clone(), |space| &space.secrets);
            let config = watcher::Config::default();
            let follow_maps = follow(maps, config, Arc::downgrade(space), queue.clone(), |space| &space.config_maps);
            tasks.push(tokio::spawn(follow_secrets).abort_handle());
            tasks.push(tokio::spawn(follow_maps).abort_handle());
        }
        drop(tasks);
        space.clone()
    }
}

async fn listed(listed: &watch::Sender<Listed>) -> Listed {
    let mut receiver = listed.subscribe();
    receiver.wait_for(|listed| *listed != Listed::NotYet).await.map_or(Listed::Refused, |listed| *listed)
}

/// A kind that is kept.
trait Keep: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + Send + 'static {
    /// Keeps what is needed of it. Returns the namespaces that it concerns.
    fn keep(self, kept: &mut Kept) -> Vec<String>;
    fn gone(name: &str, kept: &mut Kept) -> Vec<String>;
    fn prune(listed: &BTreeSet<String>, kept: &mut Kept) -> Vec<String>;
    /// Whether only API keys can change with it.
    fn has_only_keys(name: &str, kept: &Kept) -> bool;
}

impl Keep for Secret {
    fn keep(self, kept: &mut Kept) -> Vec<String> {
        kept.see_secret(self)
    }
    fn gone(name: &str, kept: &mut Kept) -> Vec<String> {
        kept.secret_gone(name)
    }
    fn prune(listed: &BTreeSet<String>, kept: &mut Kept) -> Vec<String> {
        kept.prune_secrets(listed)
    }
    fn has_only_keys(name: &str, kept: &Kept) -> bool {
        !kept.needs_values(name)
    }
}

impl Keep for ConfigMap {
    fn keep(self, kept: &mut Kept) -> Vec<String> {
        kept.see_config_map(self)
    }
    fn gone(name: &str, kept: &mut Kept) -> Vec<String> {
        kept.config_map_gone(name)
    }
    fn prune(listed: &BTreeSet<String>, kept: &mut Kept) -> Vec<String> {
        kept.prune_config_maps(listed)
    }
    fn has_only_keys(_: &str, _: &Kept) -> bool {
        false
    }
}

/// Watches a kind in a namespace until nobody needs it.
async fn follow<K: Keep + DeserializeOwned>(
    api: Api<K>,
    config: watcher::Config,
    space: std::sync::Weak<Space>,
    queue: Arc<Queue>,
    listed: fn(&Space) -> &watch::Sender<Listed>,
) {
    let mut events = watcher::watcher(api, config).boxed();
    let (mut names, mut pause) = (BTreeSet::new(), FIRST_PAUSE);
    while let Some(event) = events.next().await {
        let Some(space) = space.upgrade() else { return };
        let (concerned, only_keys) = match event {
            Ok(Event::Init) => {
                names.clear();
                continue;
            }
            Ok(Event::InitApply(object)) => {
                names.insert(object.name_any());
                seen(&space, object)
            }
            Ok(Event::Apply(object)) => seen(&space, object),
            Ok(Event::Delete(object)) => {
                let name = object.name_any();
                space.kept(|kept| (K::gone(&name, kept), K::has_only_keys(&name, kept)))
            }
            Ok(Event::InitDone) => {
                pause = FIRST_PAUSE;
                let gone = space.kept(|kept| K::prune(&std::mem::take(&mut names), kept));
                // A reconcile that waited for the first listing sees all of it.
                let is_first = listed(&space).send_replace(Listed::Yes) != Listed::Yes;
                (if is_first { vec![] } else { gone }, false)
            }
            Err(error) => {
                pause = refused(&error, listed(&space), pause);
                drop(space);
                tokio::time::sleep(pause).await;
                continue;
            }
        };
        for namespace in &concerned {
            if only_keys { queue.add(namespace, SETTLE) } else { queue.changed(namespace, SETTLE) }
        }
    }
}

fn seen<K: Keep>(space: &Space, object: K) -> (Vec<String>, bool) {
    let name = object.name_any();
    space.kept(|kept| (object.keep(kept), K::has_only_keys(&name, kept)))
}

/// Notes that a watch is broken. Returns the time after which it starts again.
fn refused(error: &watcher::Error, listed: &watch::Sender<Listed>, pause: Duration) -> Duration {
    let status = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) => Some(status),
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) => Some(status),
        watcher::Error::WatchError(status) => Some(status),
        _ => None,
    };
    if status.is_some_and(|status| status.code == 403) {
        if listed.send_replace(Listed::Refused) != Listed::Refused {
            tracing::warn!(%error, "Secrets or ConfigMaps cannot be watched: they are read every 10 seconds");
        }
        return REFUSED_PAUSE;
    }
    tracing::warn!(%error, "watch of Secrets or ConfigMaps broken; it starts again");
    (pause * 2).min(LAST_PAUSE)
}
