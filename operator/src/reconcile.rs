//! The steps of a reconcile: read, compile, write, observe, report. It runs for one namespace at a time and can be
//! interrupted anywhere: every step starts from the state of the cluster, so the next run finishes the work.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use idm_compile::{Cause, Compiled, Condition, ObjectId, Report, SIGNING_SECRET, Settings, World};
use idm_plan::{Bundle, ObjectKey};
use idm_types::Timestamp;
use kube::ResourceExt;
use kube::core::DynamicObject;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::keys::KeyWork;
use crate::objects::Kind;
use crate::queue::Queue;
use crate::sealing::SealFailure;
use crate::served::Served;
use crate::watch::{self, Seen};
use crate::{Context, changes, credentials, directories, gateway, key_uses, members, permissions, requests, world};

/// The namespace of objects that have none.
const CLUSTER: &str = "";
/// Gateways are asked what they know, and what is due by the clock is done. Nothing is read for it where Secrets and
/// ConfigMaps may be watched.
const RESYNC: Duration = Duration::from_secs(10);
/// Namespaces that are worked on at the same time.
const WORKERS: usize = 8;
const UNPROGRAMMED: Duration = Duration::from_millis(150);
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// Several objects of one `kubectl apply` become one reconcile.
const SETTLE: Duration = Duration::from_millis(20);

/// Watches and reconciles until an error that requires a restart.
pub(crate) async fn run(context: Arc<Context>, changed: mpsc::UnboundedSender<Seen>) -> anyhow::Result<()> {
    let queue = Arc::new(Queue::default());
    let (sender, receiver) = mpsc::unbounded_channel();
    // They end with this future: an operator that does not lead any more writes nothing, and the spool can be closed.
    let mut tasks = JoinSet::new();
    for &kind in Kind::ALL {
        tasks.spawn(watch::follow(context.client.clone(), kind, context.clone(), sender.clone()));
    }
    tasks.spawn(take_note(context.clone(), receiver, queue.clone(), changed));
    tasks.spawn(permissions::run(context.clone(), queue.clone()));
    tasks.spawn(requests::run(context.clone()));
    tasks.spawn(work(context, queue));
    let ended = tasks.join_next().await;
    anyhow::bail!("a task of the operator ended: {ended:?}")
}

/// Has changes recorded and asks for reconciles.
async fn take_note(
    context: Arc<Context>,
    mut receiver: mpsc::UnboundedReceiver<Seen>,
    queue: Arc<Queue>,
    changed: mpsc::UnboundedSender<Seen>,
) {
    while let Some(seen) = receiver.recv().await {
        if changes::concerns(&seen) {
            let _ = changed.send(seen.clone());
        }
        if seen.is_end_of_listing() || !seen.matters() {
            continue;
        }
        context.permissions.see(&seen);
        if seen.kind == Kind::CredentialRequest {
            // No gateway has anything of it.
            context.requests.wake();
            continue;
        }
        if matches!(seen.kind, Kind::Service | Kind::Deployment) && gateway::is_name(&seen.name()) {
            context.stored.forget_applied(&seen.namespace(), &seen.name());
        }
        for namespace in concerned(&context.store, &seen, &context.settings.operator_namespace) {
            if seen.is_of_keys() { queue.add(&namespace, SETTLE) } else { queue.changed(&namespace, SETTLE) }
        }
    }
}

/// The namespaces that an event concerns.
fn concerned(store: &watch::Store, seen: &Seen, home: &str) -> BTreeSet<String> {
    let own = seen.namespace();
    let mut all = BTreeSet::from([own.clone()]);
    // Those whose routes may refer to the namespace, by its ReferenceGrants.
    let mut referring = BTreeSet::new();
    let objects = || seen.before.iter().chain(&seen.now);
    match seen.kind {
        // Which Gateways are ours, and how open they are, depends on the classes.
        Kind::GatewayClass => {
            all.extend(store.namespaces(Kind::Gateway));
            all.extend(world::with_routes(store));
        }
        // A baseline of the cluster is part of every gateway's configuration.
        Kind::IdentityPolicy if own == home && objects().any(|policy| world::is_for_class(policy)) => {
            all.extend(store.namespaces(Kind::Gateway));
            all.extend(store.namespaces(Kind::IdentityPolicy));
        }
        // Routes elsewhere that name a Gateway say in their status what became of it.
        Kind::Gateway => all.extend(world::with_routes(store)),
        Kind::Namespace => referring.extend(objects().map(|namespace| namespace.name_any())),
        Kind::HttpRoute | Kind::GrpcRoute => all.extend(objects().flat_map(|route| world::parent_namespaces(route))),
        Kind::ReferenceGrant => referring.extend(objects().flat_map(|grant| granted_to(grant))),
        Kind::Service => {
            let grants = store.list(Kind::ReferenceGrant, &own);
            referring.extend(grants.iter().flat_map(|grant| granted_to(grant)));
        }
        _ => {}
    }
    if !matches!(seen.kind, Kind::Pod | Kind::Deployment) {
        // Gateways elsewhere hold what they take of these namespaces.
        all.extend(referring.iter().chain([&own]).flat_map(|namespace| world::gateways_of(store, namespace)));
    }
    all.extend(referring);
    all
}

/// The namespaces that a ReferenceGrant permits to refer to its own.
fn granted_to(grant: &DynamicObject) -> Vec<String> {
    let from = grant.data.pointer("/spec/from").and_then(|from| from.as_array());
    from.into_iter().flatten().filter_map(|from| Some(from["namespace"].as_str()?.to_owned())).collect()
}

/// Several namespaces at a time, so that a namespace whose pods do not answer does not delay the others.
async fn work(context: Arc<Context>, queue: Arc<Queue>) {
    let workers = (0..WORKERS).map(|_| Box::pin(one_after_another(&context, &queue)));
    futures::future::join_all(workers).await;
}

async fn one_after_another(context: &Context, queue: &Arc<Queue>) {
    loop {
        let namespace = queue.next().await;
        // Before everything was listed once, an absent object may exist.
        if context.store.is_synced() {
            attempt(context, queue, &namespace).await;
        } else {
            queue.add(&namespace, Duration::from_millis(100));
        }
        queue.done(&namespace);
    }
}

async fn attempt(context: &Context, queue: &Arc<Queue>, namespace: &str) {
    let outcome = tokio::time::timeout(Duration::from_secs(30), reconcile(context, queue, namespace)).await;
    if let Ok(Ok(again)) = outcome {
        queue.succeeded(namespace);
        if let Some(delay) = again {
            queue.add(namespace, delay);
        }
        return;
    }
    let failures = queue.failed(namespace);
    let delay = (FIRST_RETRY * 2u32.saturating_pow(failures.min(10))).min(LAST_RETRY);
    match outcome {
        // A namespace that is being deleted accepts no new objects; its end is the next event.
        Ok(Err(error)) if is_terminating(&error) => tracing::debug!(namespace, "the namespace is being deleted"),
        Ok(Err(error)) => {
            tracing::warn!(namespace, error = format!("{error:#}"), "reconcile failed; it is tried again")
        }
        _ => tracing::warn!(namespace, "reconcile took too long; it is tried again"),
    }
    queue.add(namespace, delay);
}

fn is_terminating(error: &anyhow::Error) -> bool {
    let cause = "NamespaceTerminating";
    let Some(kube::Error::Api(status)) = error.downcast_ref() else { return false };
    status.details.as_ref().is_some_and(|details| details.causes.iter().any(|of| of.reason == cause))
}

/// The objects of a namespace and of its tenants, with what is remembered of them.
fn known_world(context: &Context, namespace: &str) -> World {
    let (remembers_together, layout) = (context.settings.store.is_some(), context.settings.layout);
    let settings = Settings { remembers_together, layout, ..Settings::default() };
    let mut world = world::complete(&context.store, namespace, settings);
    context.compiled.remember(&mut world);
    world.hashes = context.hashes.clone();
    world.permissions = permissions::settings(context);
    world.set_platform(world::platform(&context.store, &context.settings.operator_namespace, settings));
    for tenant in world.tenants_mut() {
        tenant.hashes = context.hashes.clone();
        tenant.permissions = permissions::settings(context);
    }
    world
}

/// Whether a namespace has objects of ours.
fn has_objects(world: &World) -> bool {
    !world.policies.is_empty()
        || !world.credentials.is_empty()
        || !world.federations.is_empty()
        || !world.role_bindings.is_empty()
        || !world.usage_plans.is_empty()
        || !world.broken.is_empty()
}

/// Removes the gateways of a namespace that nothing needs any more: all but those of these names.
async fn remove_gateways(context: &Context, namespace: &str, wanted: &BTreeSet<String>) -> anyhow::Result<()> {
    let deployments = context.store.list(Kind::Deployment, namespace);
    // Labels are everyone's to write: an object of another name is not ours.
    let there = deployments.iter().map(|deployment| deployment.name_any()).filter(|name| gateway::is_name(name));
    for name in there.filter(|name| !wanted.contains(name)).collect::<Vec<_>>() {
        if wanted.is_empty() {
            let current = gateway::current_bundle(context.cluster(), namespace, &name).await;
            // A bundle that does not open is not needed any more: sealed shards may stay until their owners go.
            let (bundle, _) = kept_apart(current)?;
            let shards = bundle.map_or(0, |bundle| bundle.shards.len());
            gateway::empty_shards(&context.client, namespace, shards).await?;
        }
        gateway::remove(&context.client, namespace, &name).await?;
        tracing::info!(namespace, gateway = name, "gateway removed: nothing needs it any more");
    }
    context.compiled.retain(namespace, wanted);
    Ok(())
}

fn hash_passwords(world: &mut World) {
    world.hash_passwords();
    world.tenants_mut().for_each(World::hash_passwords);
}

/// The policies of a namespace and of its tenants.
fn policies_of(world: &World) -> impl Iterator<Item = ObjectKey> {
    let of_all = std::iter::once(world).chain(world.tenants());
    of_all.flat_map(|of| of.policies.iter().map(|policy| ObjectKey::new(&of.namespace, &policy.meta.name)))
}

/// The bundles that are in force for the gateways of these names, and the first failure to open one.
async fn current_bundles(
    context: &Context,
    namespace: &str,
    names: &BTreeSet<String>,
) -> anyhow::Result<(BTreeMap<String, Bundle>, Option<SealFailure>)> {
    let (mut bundles, mut unopened) = (BTreeMap::new(), None);
    for name in names {
        let current = gateway::current_bundle(context.cluster(), namespace, name).await;
        let (bundle, failure) = kept_apart(current)?;
        bundles.extend(bundle.map(|bundle| (name.clone(), bundle)));
        unopened = unopened.or(failure);
    }
    Ok((bundles, unopened))
}

/// Gives a world the Secrets and ConfigMaps that it names, opened.
async fn provide_secrets(context: &Context, queue: &Arc<Queue>, world: &mut World) -> Result<(), kube::Error> {
    context.named.provide(world, &context.client, queue).await?;
    if let Some(sealing) = &context.sealing {
        sealing.refresh().await;
        sealing.open_world(world).await;
    }
    Ok(())
}

/// Makes and replaces the signing keys that are due. Returns the epoch that begins with new ones.
async fn replace_signing_keys(context: &Context, queue: &Arc<Queue>, world: &mut World) -> anyhow::Result<Option<u64>> {
    let (client, sealing) = (&context.client, context.sealing.as_ref());
    if !credentials::rotate(world, client, sealing, Timestamp::now()).await? {
        return Ok(None);
    }
    context.named.wrote(&world.namespace, SIGNING_SECRET);
    // They are part of the policies: what was compiled before counts no more.
    queue.changed(&world.namespace, SETTLE);
    Ok(Some(queue.epoch(&world.namespace)))
}

/// Tells what became of a namespace's objects that has no gateway of its own. Returns whether there is more to do.
async fn publish_only(
    context: &Context,
    work: &KeyWork<'_>,
    world: &mut World,
    compiled: &Compiled,
) -> anyhow::Result<bool> {
    let more = gateway::publish(context, world, compiled, &[]).await?;
    let refused = context.served.of(&world.namespace).iter().all(Served::is_programmed);
    Ok(work.finish_leaked(world, refused).await? || more)
}

/// A failure to open or to seal apart from all others: objects are told of it.
fn kept_apart<T: Default>(outcome: anyhow::Result<T>) -> anyhow::Result<(T, Option<SealFailure>)> {
    match outcome {
        Ok(value) => Ok((value, None)),
        Err(error) => error.downcast::<SealFailure>().map(|failure| (T::default(), Some(failure))),
    }
}

/// Tells the policies of a namespace that something is not opened or sealed, if that is the error. No gateway of the
/// namespace is written then: all of them keep what they have.
async fn tell_failure(
    context: &Context,
    world: &World,
    mut compiled: Compiled,
    error: anyhow::Error,
) -> anyhow::Result<Option<Duration>> {
    if let Some(failure) = error.downcast_ref::<SealFailure>() {
        for policy in policies_of(world) {
            let id = ObjectId::new("IdentityPolicy", &policy.namespace, &policy.name);
            compiled.report.push(&id, "", Condition::Programmed, Cause::SealingFailed, failure.to_string());
        }
        gateway::publish(context, world, &compiled, &[]).await?;
    }
    Err(error)
}

/// Reconciles one namespace once. Returns the time until the next run.
async fn reconcile(context: &Context, queue: &Arc<Queue>, namespace: &str) -> anyhow::Result<Option<Duration>> {
    let client = &context.client;
    if namespace == CLUSTER {
        gateway::accept_classes(context).await?;
        return Ok(None);
    }
    let mut epoch = queue.epoch(namespace);
    let mut world = known_world(context, namespace);
    let names: BTreeSet<String> = world.parts().iter().map(gateway::name).collect();
    let wanted = !names.is_empty();
    remove_gateways(context, namespace, &names).await?;
    let tell = |served| context.served.keep(namespace, served).iter().for_each(|tenant| queue.add(tenant, SETTLE));
    if !wanted {
        tell(Served::default());
    }
    if !has_objects(&world) && !wanted && !gateway::has_parents_elsewhere(context, &world) {
        context.named.leave_all(namespace);
        context.compiled.forget(namespace);
        return Ok(None);
    }
    world.api_server = world::api_server(&context.store, client).await?;
    provide_secrets(context, queue, &mut world).await?;
    // A Secret that is written here is read again before it counts as known.
    let wrote = |name: &String| context.named.wrote(namespace, name);
    let known = world.secrets.len();
    let made = credentials::supply(&mut world, client).await?;
    made.iter().for_each(wrote);
    let (rotated, failure) = kept_apart(replace_signing_keys(context, queue, &mut world).await)?;
    epoch = rotated.unwrap_or(epoch);
    let mut told = Report::default();
    let work = context.key_work(Timestamp::now());
    work.remember(&mut world).await?;
    let advanced = work.advance(&mut world, &mut told).await;
    context.registers.written().iter().for_each(wrote);
    advanced?;
    if world.secrets.len() > known {
        // Gateways elsewhere that take routes of this namespace use them, too.
        world::gateways_of(&context.store, namespace).iter().for_each(|gateway| queue.add(gateway, SETTLE));
    }
    hash_passwords(&mut world);
    let (current, unopened) = current_bundles(context, namespace, &names).await?;
    let mut compiled = context.compiled.compile(&world, &current, epoch);
    compiled.report.extend(told);
    permissions::report(context, &world, &mut compiled);
    if let Some(failure) = failure.or(unopened) {
        return tell_failure(context, &world, compiled, failure.into()).await;
    }
    if !wanted {
        let again = publish_only(context, &work, &mut world, &compiled).await;
        context.registers.written().iter().for_each(wrote);
        let again = again? || made.len() >= credentials::MOST_MADE;
        return Ok(Some(if again { UNPROGRAMMED } else { RESYNC }));
    }
    let gateways = match parts::write(context, &world, &mut compiled, &current).await {
        Ok(gateways) => gateways,
        Err(error) => return tell_failure(context, &world, compiled, error).await,
    };
    let secrets = gateways.secrets();
    for (name, secrets) in &secrets {
        members::provision(context, &world, name, secrets).await?;
    }
    directories::report(context, &world, &mut compiled, &secrets).await;
    key_uses::ask(context, &world, &secrets, &compiled.credentials).await;
    let running = gateways.running();
    let more = gateway::publish(context, &world, &compiled, &running).await?;
    tell(Served::of(&world, &compiled, running));
    let again = work.finish_leaked(&mut world, gateways.are_programmed()).await;
    context.registers.written().iter().for_each(wrote);
    if gateways.miss_shards() {
        context.stored.forget(namespace);
    }
    let again = again? || more || made.len() >= credentials::MOST_MADE;
    let programmed = gateways.are_programmed();
    gateways.outcome()?;
    Ok(Some(if programmed && !again { RESYNC } else { UNPROGRAMMED }))
}

mod parts;

#[cfg(test)]
pub(crate) mod api_server;
#[cfg(test)]
mod concern;
#[cfg(test)]
mod gateways;
#[cfg(test)]
pub(crate) mod parity;
#[cfg(test)]
mod platform;
#[cfg(test)]
mod sealed;
#[cfg(test)]
mod unchanged;
