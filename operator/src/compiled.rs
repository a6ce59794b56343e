//! The last compilation of each namespace: if only Credentials changed since, the policies are not compiled again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use idm_compile::{Compiled, LoweredCredentials, World, compile, compile_credentials, in_force};
use idm_plan::{Bundle, Made};

/// By namespace.
#[derive(Default)]
pub(crate) struct Compilations(Mutex<BTreeMap<String, Kept>>);

/// The memory of one namespace. Losing it costs time, and nothing else.
#[derive(Default)]
struct Kept {
    lowered: LoweredCredentials,
    made: Made,
    last: Option<Last>,
    /// Of each gateway by its name: the digest of the bundle that was sealed last, and the generation since when its
    /// policies are in it.
    sealed: BTreeMap<String, (String, u64)>,
    /// The state of each Credential when its status was looked at last.
    told: HashMap<String, u64>,
}

struct Last {
    /// See `Queue::changed`.
    epoch: u64,
    api_server: Vec<IpAddr>,
    compiled: Compiled,
}

impl Compilations {
    fn with<T>(&self, namespace: &str, done: impl FnOnce(&mut Kept) -> T) -> T {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        done(all.entry(namespace.to_owned()).or_default())
    }

    /// Gives a world the Credentials that were compiled before.
    pub(crate) fn remember(&self, world: &mut World) {
        world.lowered = self.with(&world.namespace, |kept| kept.lowered.clone());
    }

    /// Compiles a world. `epoch` counts what changed beside Credentials; `current` is in force, by the gateway's name.
    pub(crate) fn compile(&self, world: &World, current: &BTreeMap<String, Bundle>, epoch: u64) -> Compiled {
        // One namespace is worked on once at a time: nobody else takes it in between.
        let last = self.with(&world.namespace, |kept| {
            let there = current.iter().map(|(name, bundle)| (name, &bundle.digest));
            let is_ours = there.eq(kept.sealed.iter().map(|(name, (digest, _))| (name, digest)));
            kept.last.take().filter(|last| is_ours && last.epoch == epoch && last.api_server == world.api_server)
        });
        let compiled = match &last {
            Some(last) => compile_credentials(world, &last.compiled),
            None => compile(world, in_force(current.values()).as_ref()),
        };
        let api_server = world.api_server.clone();
        self.with(&world.namespace, |kept| {
            kept.last = Some(Last { epoch, api_server, compiled: compiled.clone() });
        });
        compiled
    }

    /// Lends the shards that were made before.
    pub(crate) fn with_shards<T>(&self, namespace: &str, done: impl FnOnce(&mut Made) -> T) -> T {
        let mut made = self.with(namespace, |kept| std::mem::take(&mut kept.made));
        let result = done(&mut made);
        self.with(namespace, |kept| kept.made = made);
        result
    }

    /// Forgets the gateways of a namespace that are not among these.
    pub(crate) fn retain(&self, namespace: &str, names: &BTreeSet<String>) {
        self.with(namespace, |kept| kept.sealed.retain(|name, _| names.contains(name)));
    }

    /// Notes the bundle of a gateway that was sealed. Returns the generation since when its policies are as they are.
    pub(crate) fn sealed(&self, namespace: &str, name: &str, before: Option<&Bundle>, bundle: &Bundle) -> u64 {
        let same_policies = before.is_some_and(|before| before.plan == bundle.plan && before.secrets == bundle.secrets);
        self.with(namespace, |kept| {
            let known = kept.sealed.get(name).filter(|_| same_policies).map(|(_, since)| *since);
            let before = before.filter(|_| same_policies).map(|before| before.generation);
            let since = known.or(before).unwrap_or(bundle.generation);
            kept.sealed.insert(name.to_owned(), (bundle.digest.clone(), since));
            since
        })
    }

    /// Whether the status of a Credential was looked at in this state.
    pub(crate) fn is_told(&self, namespace: &str, name: &str, state: u64) -> bool {
        self.with(namespace, |kept| kept.told.get(name) == Some(&state))
    }

    /// Notes that they were. Those that are not among `there` any more, in the order of their names, are forgotten.
    pub(crate) fn told(&self, states: Vec<(String, u64)>, world: &World) {
        let there = &world.credentials;
        self.with(&world.namespace, |kept| {
            kept.told.extend(states);
            if kept.told.len() > there.len() {
                let is_there = |name: &str| there.binary_search_by(|of| of.meta.name.as_str().cmp(name)).is_ok();
                kept.told.retain(|name, _| is_there(name));
            }
        });
    }

    /// Forgets a namespace of which nothing is reconciled.
    pub(crate) fn forget(&self, namespace: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(namespace);
    }
}

#[cfg(test)]
mod tests {
    use idm_compile::Settings;
    use idm_plan::{Credentials, Plan, Secrets};

    use super::*;

    const NAME: &str = crate::gateway::NAME;

    #[test]
    fn the_generation_of_policies_is_the_one_since_when_they_are_as_they_are() {
        let all = Compilations::default();
        let plan = |namespace: &str| Plan { namespace: namespace.into(), ..Plan::default() };
        let bundle =
            |of: &str, generation| Bundle::seal(plan(of), Secrets::default(), Credentials::default(), generation);
        assert_eq!(all.sealed("shop", NAME, None, &bundle("a", 1)), 1);
        assert_eq!(all.sealed("shop", NAME, Some(&bundle("a", 1)), &bundle("a", 2)), 1);
        assert_eq!(all.sealed("shop", NAME, Some(&bundle("a", 2)), &bundle("b", 3)), 3);
        assert_eq!(all.sealed("shop", NAME, Some(&bundle("b", 3)), &bundle("b", 4)), 3);
        all.forget("shop");
        assert_eq!(all.sealed("shop", NAME, Some(&bundle("b", 4)), &bundle("b", 5)), 4, "a new operator knows no more");
    }

    #[test]
    fn policies_are_compiled_again_when_something_beside_credentials_changed() {
        let all = Compilations::default();
        let mut world = World::new("shop", Settings::default());
        world.api_server = vec!["10.0.0.1".parse().unwrap()];
        let there = |bundle: &Bundle| BTreeMap::from([(NAME.to_owned(), bundle.clone())]);
        let first = all.compile(&world, &BTreeMap::new(), 1);
        let bundle = first.seal(1);
        all.sealed("shop", NAME, None, &bundle);
        // A policy that no event told of is not seen; this is how the test knows that nothing was compiled.
        world.insert(serde_json::json!({
            "apiVersion": "identity-manager.io/v1alpha1", "kind": "IdentityPolicy",
            "metadata": {"name": "p", "namespace": "shop", "uid": "p"},
            "spec": {
                "targetRefs": [{"group": "", "kind": "Service", "name": "orders"}],
                "authentication": {"methods": [{"name": "keys", "apiKey": {}}]},
            },
        }));
        let of =
            |world: &World, current: &Bundle, epoch| all.compile(world, &there(current), epoch).plan.policies.len();
        assert_eq!(of(&world, &bundle, 1), 0);
        assert_eq!(of(&world, &bundle, 2), 1, "an event came");
        let mut moved = World::new("shop", Settings::default());
        moved.api_server = vec!["10.0.0.2".parse().unwrap()];
        assert_eq!(of(&moved, &bundle, 2), 0, "the API server has another address");
        assert_eq!(of(&world, &bundle, 3), 1);
        moved.api_server = world.api_server.clone();
        let another = Bundle { digest: "another".into(), ..bundle.clone() };
        assert_eq!(of(&moved, &another, 3), 0, "somebody else wrote the bundle");
    }
}
