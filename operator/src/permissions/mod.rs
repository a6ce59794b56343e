//! Permissions of people at the API server: RoleBindings of ours become RBAC, for as long as the guard is in force.
//!
//! Every two seconds the guard is looked at (`probe.rs`). What only it narrows to a team or an action is granted after
//! it refused a write, and is taken back when it does no more. All that is granted is owned by the guard, so Kubernetes
//! deletes it with the guard, also while no operator runs and when the chart is uninstalled.

mod probe;
mod sync;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use idm_api::v1alpha1::RoleBinding;
use idm_compile::{Cause, Compiled, Condition, ObjectId, PermissionSettings, World, permissions};
use idm_permission::{Binding, Bindings, rbac};
use idm_types::Timestamp;
use kube::ResourceExt;
use kube::core::DynamicObject;
use tokio::sync::Notify;

use crate::Context;
use crate::objects::Kind;
use crate::queue::Queue;
use crate::watch::{Seen, Store};

const PERIOD: Duration = Duration::from_secs(2);
/// Objects that somebody else changed are put right this often.
const REPAIR: Duration = Duration::from_secs(20);
const RETRY: Duration = Duration::from_millis(500);

/// Whether the guard is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Guard {
    /// It was not looked at yet.
    #[default]
    Unknown,
    /// It is ours, and it refused a write.
    InForce {
        /// Of the policy.
        uid: String,
        /// Policy and binding exist since then, as the API server says.
        since: Timestamp,
    },
    /// It does not narrow what is granted.
    Weak {
        /// Of the policy, where there is one.
        uid: Option<String>,
        /// The fault in it.
        why: String,
    },
}

impl Guard {
    /// The state after looks in a row without a certain answer. The policy is still taken for the owner of what it
    /// does not narrow.
    fn after_doubt(&self, looks: u32, why: String) -> Self {
        match self {
            Guard::InForce { .. } | Guard::Unknown if looks < 2 => self.clone(),
            Guard::InForce { uid, .. } => Guard::Weak { uid: Some(uid.clone()), why },
            Guard::Weak { uid, .. } => Guard::Weak { uid: uid.clone(), why },
            Guard::Unknown => Guard::Weak { uid: None, why },
        }
    }
}

/// Whether names that an object has can be believed: the guard compares them with those of the API server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Trust {
    /// The guard was not looked at yet.
    Unknown,
    /// It is not in force, and why.
    Weak(String),
    /// It is in force, and there since this time.
    Since(Timestamp),
}

/// The last writes: the RoleBindings, by namespace and name, with their generations.
#[derive(Clone, Debug, Default, PartialEq)]
struct Granted {
    guard: Guard,
    generations: BTreeMap<(String, String), i64>,
}

/// The state of the guard and of the grants.
#[derive(Default)]
pub(crate) struct Board {
    guard: Mutex<Guard>,
    granted: Mutex<Granted>,
    guard_changed: Notify,
    wake: Notify,
}

impl Board {
    /// Takes note of an event.
    pub(crate) fn see(&self, seen: &Seen) {
        if seen.kind == Kind::RoleBinding {
            self.wake.notify_one();
        }
    }

    fn guard(&self) -> Guard {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the guard vouches for names now.
    pub(crate) fn trust(&self) -> Trust {
        match self.guard() {
            Guard::Unknown => Trust::Unknown,
            Guard::Weak { why, .. } => Trust::Weak(why),
            Guard::InForce { since, .. } => Trust::Since(since),
        }
    }

    /// Believes in the guard as a test says.
    #[cfg(test)]
    pub(crate) fn believe(&self, trust: Trust) {
        let uid = || "u".to_owned();
        self.set_guard(match trust {
            Trust::Unknown => Guard::Unknown,
            Trust::Weak(why) => Guard::Weak { uid: Some(uid()), why },
            Trust::Since(since) => Guard::InForce { uid: uid(), since },
        });
    }

    /// Returns whether it differs from before.
    fn set_guard(&self, guard: Guard) -> bool {
        let mut known = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        let differs = *known != guard;
        *known = guard;
        differs
    }

    /// Returns whether it differs from before.
    fn keep(&self, granted: Granted) -> bool {
        let mut known = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        let differs = *known != granted;
        *known = granted;
        differs
    }

    fn is_granted(&self, key: &(String, String), generation: Option<i64>) -> bool {
        let known = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        known.generations.get(key).copied() == generation
    }
}

/// The settings of an operator.
pub(crate) fn settings(context: &Context) -> PermissionSettings {
    PermissionSettings {
        issuers: Some(context.permission_issuers.clone()),
        system_namespace: Some(context.settings.operator_namespace.clone()),
    }
}

/// Grants and takes back, for ever.
pub(crate) async fn run(context: Arc<Context>, queue: Arc<Queue>) {
    tokio::join!(watch_guard(&context), grant(&context, &queue));
}

/// Looks at the guard every [`PERIOD`], whatever else there is to do.
async fn watch_guard(context: &Context) {
    let board = &context.permissions;
    let mut probe = probe::Probe::default();
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        if !context.store.is_synced() {
            continue;
        }
        // A look costs a write that is refused; without bindings and requests nothing rests on the guard.
        let (bindings, _) = read(&context.store, &settings(context));
        let rests = !bindings.0.is_empty() || !context.store.namespaces(Kind::CredentialRequest).is_empty();
        let guard = if rests { probe.look(context).await } else { Guard::Unknown };
        if !board.set_guard(guard.clone()) {
            continue;
        }
        if let Guard::Weak { why, .. } = &guard {
            tracing::error!(why, "the guard of permissions is not in force: roles of teams are taken back");
        }
        board.guard_changed.notify_one();
        board.wake.notify_one();
        context.requests.wake();
    }
}

/// Writes what the bindings give, when they or the guard changed, and every [`REPAIR`].
async fn grant(context: &Context, queue: &Queue) {
    let board = &context.permissions;
    loop {
        let _ = tokio::time::timeout(REPAIR, board.wake.notified()).await;
        while !context.store.is_synced() {
            tokio::time::sleep(RETRY).await;
        }
        let (bindings, generations) = read(&context.store, &settings(context));
        let guard = board.guard();
        // Nothing is given and nothing taken away before something is known: the next look wakes this loop.
        if guard == Guard::Unknown && !bindings.0.is_empty() {
            continue;
        }
        let wanted = wanted(&bindings, &guard);
        let outcome = tokio::select! {
            outcome = sync::sync(context, &wanted) => outcome,
            // Thousands of objects take longer than a weak guard may last. What was begun is begun anew.
            () = board.guard_changed.notified() => {
                board.wake.notify_one();
                continue;
            }
        };
        if let Err(error) = outcome {
            tracing::warn!(error = format!("{error:#}"), "permissions could not all be granted; it is tried again");
            tokio::time::sleep(RETRY).await;
            board.wake.notify_one();
            continue;
        }
        if board.keep(Granted { guard, generations }) {
            let namespaces = context.store.namespaces(Kind::RoleBinding);
            namespaces.iter().for_each(|namespace| queue.changed(namespace, Duration::ZERO));
        }
    }
}

/// The native objects that shall exist. Without a policy to own them there is none: Kubernetes would delete them.
fn wanted(bindings: &Bindings, guard: &Guard) -> Vec<rbac::Native> {
    let (uid, in_force) = match guard {
        Guard::Unknown | Guard::Weak { uid: None, .. } => return Vec::new(),
        Guard::InForce { uid, .. } => (uid, true),
        Guard::Weak { uid: Some(uid), .. } => (uid, false),
    };
    let mut all = rbac::compile(bindings);
    all.retain(|native| in_force || !native.guarded);
    for native in &mut all {
        native.body["metadata"]["ownerReferences"] = serde_json::json!([{
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "name": idm_permission::guard::NAME, "uid": uid,
        }]);
    }
    all
}

/// All RoleBindings with permissions, and the generations of their objects. One that is wrong gives none: its
/// namespace's reconcile says so.
fn read(store: &Store, settings: &PermissionSettings) -> (Bindings, BTreeMap<(String, String), i64>) {
    let mut generations = BTreeMap::new();
    let mut all = Vec::new();
    for namespace in store.namespaces(Kind::RoleBinding) {
        for object in store.list(Kind::RoleBinding, &namespace) {
            if let Some(binding) = one(&namespace, &object, settings) {
                let key = (namespace.clone(), object.name_any());
                generations.insert(key, object.metadata.generation.unwrap_or_default());
                all.push(binding);
            }
        }
    }
    (Bindings(all), generations)
}

fn one(namespace: &str, object: &DynamicObject, settings: &PermissionSettings) -> Option<Binding> {
    if object.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let spec = object.data.get("spec").cloned()?;
    let spec = serde_json::from_value(spec).ok()?;
    permissions::binding(namespace, &object.name_any(), &spec, settings).ok()
}

/// The bindings of RoleBindings that were read elsewhere.
pub(crate) fn of(
    objects: &[RoleBinding],
    settings: &PermissionSettings,
) -> (Bindings, Vec<(String, permissions::Problem)>) {
    let (mut all, mut problems) = (Vec::new(), Vec::new());
    for object in objects.iter().filter(|object| object.spec.role.is_none()) {
        let namespace = object.namespace().unwrap_or_default();
        match permissions::binding(&namespace, &object.name_any(), &object.spec, settings) {
            Ok(binding) => all.push(binding),
            Err(problem) => problems.push((format!("{namespace}/{}", object.name_any()), problem)),
        }
    }
    (Bindings(all), problems)
}

/// Adds to the report which RoleBindings are not granted, and why.
pub(crate) fn report(context: &Context, world: &World, compiled: &mut Compiled) {
    let (guard, settings) = (context.permissions.guard(), settings(context));
    for object in context.store.list(Kind::RoleBinding, &world.namespace) {
        let Some(binding) = one(&world.namespace, &object, &settings) else { continue };
        let id = ObjectId::new("RoleBinding", &world.namespace, &object.name_any());
        let key = (world.namespace.clone(), object.name_any());
        let is_granted = context.permissions.is_granted(&key, object.metadata.generation);
        if let Some((cause, message)) = not_granted(&binding, &guard, is_granted) {
            compiled.report.push(&id, "", Condition::Programmed, cause, message);
        }
    }
}

fn not_granted(binding: &Binding, guard: &Guard, is_granted: bool) -> Option<(Cause, String)> {
    if let Guard::Weak { why, .. } = guard {
        let guarded = rbac::compile(&Bindings(vec![binding.clone()])).iter().any(|native| native.guarded);
        let part = if guarded { "what it narrows is taken back" } else { "nothing of it is taken back" };
        return Some((Cause::GuardNotInForce, format!("{why}; {part}")));
    }
    (!is_granted).then(|| (Cause::NotGranted, "the API server has not got it yet".to_owned()))
}

#[cfg(test)]
mod tests;
