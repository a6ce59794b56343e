//! Permissions of people at the API server: RoleBindings of ours become RBAC, for as long as the guard is in force.
//!
//! Every two seconds the guard is looked at (`probe.rs`). What only it narrows to a team or an action is granted after
//! it refused a write, and is taken back when it does no more. All that is granted is owned by the guard, so Kubernetes
//! deletes it with the guard, also while no operator runs and when the chart is uninstalled.

mod probe;
mod sync;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use idm_api::v1alpha1::RoleBinding;
use idm_compile::{Cause, Compiled, Condition, ObjectId, PermissionSettings, World, permissions};
use idm_permission::{Binding, Bindings, rbac};
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
    },
    /// It does not narrow what is granted.
    Weak {
        /// Of the policy, where there is one.
        uid: Option<String>,
        /// What is wrong with it.
        why: String,
    },
}

/// What is known of the guard and of the grants.
#[derive(Default)]
pub(crate) struct Board {
    guard: Mutex<Guard>,
    /// The RoleBindings, by namespace and name, that are granted, with their generation.
    granted: Mutex<BTreeMap<(String, String), i64>>,
    changed: AtomicBool,
    wake: Notify,
}

impl Board {
    /// Takes note of an event.
    pub(crate) fn see(&self, seen: &Seen) {
        if seen.kind == Kind::RoleBinding {
            self.changed.store(true, Ordering::Release);
            self.wake.notify_one();
        }
    }

    fn guard(&self) -> Guard {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_guard(&self, guard: Guard) -> bool {
        let mut known = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        let differs = *known != guard;
        *known = guard;
        differs
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
    let board = &context.permissions;
    let mut probe = probe::Probe::default();
    let mut last: Option<Instant> = None;
    loop {
        let woken = tokio::time::timeout(PERIOD, board.wake.notified()).await.is_ok();
        if !context.store.is_synced() {
            continue;
        }
        // Before the store is read: what changes from here on is the next round's.
        let changed = board.changed.swap(false, Ordering::AcqRel);
        let (bindings, generations) = read(&context.store, &settings(&context));
        // The guard costs a write that is refused each time; without bindings nothing rests on it.
        let differs = match (bindings.0.is_empty(), woken) {
            (true, _) => board.set_guard(Guard::Unknown),
            // A change is granted on the word of the last look, which is at most a period old.
            (false, true) if board.guard() != Guard::Unknown => false,
            _ => board.set_guard(probe.look(&context).await),
        };
        let guard = board.guard();
        if differs && let Guard::Weak { why, .. } = &guard {
            tracing::error!(why, "the guard of permissions is not in force: roles of teams are taken back");
        }
        if !differs && !changed && last.is_some_and(|last| last.elapsed() < REPAIR) {
            continue;
        }
        match sync::sync(&context, &wanted(&bindings, &guard)).await {
            Ok(()) => {
                last = Some(Instant::now());
                *board.granted.lock().unwrap_or_else(PoisonError::into_inner) = generations;
                let namespaces: BTreeSet<_> = context.store.namespaces(Kind::RoleBinding);
                if differs || changed {
                    namespaces.iter().for_each(|namespace| queue.add(namespace, Duration::ZERO));
                }
            }
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "permissions could not all be granted; it is tried again");
                board.changed.store(true, Ordering::Release);
            }
        }
    }
}

/// The native objects that shall exist. Without a policy to own them there is none: Kubernetes would delete them.
fn wanted(bindings: &Bindings, guard: &Guard) -> Vec<rbac::Native> {
    let (uid, in_force) = match guard {
        Guard::Unknown | Guard::Weak { uid: None, .. } => return Vec::new(),
        Guard::InForce { uid } => (uid, true),
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
    let granted = context.permissions.granted.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for object in context.store.list(Kind::RoleBinding, &world.namespace) {
        let Some(binding) = one(&world.namespace, &object, &settings) else { continue };
        let id = ObjectId::new("RoleBinding", &world.namespace, &object.name_any());
        let key = (world.namespace.clone(), object.name_any());
        if let Some((cause, message)) =
            not_granted(&binding, &guard, granted.get(&key) == object.metadata.generation.as_ref())
        {
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
