//! The steps of a reconcile: read, compile, write, observe, report. It runs for one namespace at a time and can be
//! interrupted anywhere: every step starts from the state of the cluster, so the next run finishes the work.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use idm_audit::SpoolHandle;
use idm_compile::{Cause, Compiled, Condition, ObjectId, Report, Settings, World, compile};
use idm_plan::Bundle;
use idm_types::Timestamp;
use kube::ResourceExt;
use kube::core::DynamicObject;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::objects::Kind;
use crate::queue::Queue;
use crate::served::Served;
use crate::watch::{self, Seen};
use crate::{Context, changes, credentials, directories, gateway, key_uses, members, permissions, world};

/// The namespace of objects that have none.
const CLUSTER: &str = "";
/// Referenced Secrets and ConfigMaps are not watched, because that would need permission to list them all.
const RESYNC: Duration = Duration::from_secs(10);
/// Namespaces that are worked on at the same time.
const WORKERS: usize = 8;
const UNPROGRAMMED: Duration = Duration::from_millis(150);
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// Several objects of one `kubectl apply` become one reconcile.
const SETTLE: Duration = Duration::from_millis(20);

/// Watches and reconciles until an error that requires a restart.
pub(crate) async fn run(
    context: Arc<Context>,
    spool_handle: SpoolHandle,
    notes: mpsc::Receiver<changes::Note>,
) -> anyhow::Result<()> {
    let queue = Arc::new(Queue::default());
    let (sender, receiver) = mpsc::unbounded_channel();
    // They end with this future: an operator that does not lead any more writes nothing, and the spool can be closed.
    let mut tasks = JoinSet::new();
    for &kind in Kind::ALL {
        tasks.spawn(watch::follow(context.client.clone(), kind, context.clone(), sender.clone()));
    }
    let (changed, changes) = mpsc::unbounded_channel();
    tasks.spawn(take_note(context.clone(), receiver, queue.clone(), changed));
    tasks.spawn(changes::run(context.clone(), changes, notes, spool_handle));
    tasks.spawn(permissions::run(context.clone(), queue.clone()));
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
        concerned(&context.store, &seen).iter().for_each(|namespace| queue.add(namespace, SETTLE));
    }
}

/// The namespaces that an event concerns.
fn concerned(store: &watch::Store, seen: &Seen) -> BTreeSet<String> {
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

async fn one_after_another(context: &Context, queue: &Queue) {
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

async fn attempt(context: &Context, queue: &Queue, namespace: &str) {
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
    matches!(error.downcast_ref(), Some(kube::Error::Api(status)) if status.details.as_ref().is_some_and(|d| d.causes.iter().any(|c| c.reason == cause)))
}

/// Reconciles one namespace once. Returns the time until the next run.
async fn reconcile(context: &Context, queue: &Queue, namespace: &str) -> anyhow::Result<Option<Duration>> {
    let client = &context.client;
    if namespace == CLUSTER {
        gateway::accept_classes(context).await?;
        return Ok(None);
    }
    let settings = Settings { remembers_together: context.settings.store.is_some(), ..Settings::default() };
    let mut world = world::complete(&context.store, namespace, settings);
    world.hashes = context.hashes.clone();
    world.permissions = permissions::settings(context);
    for tenant in world.tenants_mut() {
        tenant.hashes = context.hashes.clone();
        tenant.permissions = permissions::settings(context);
    }
    let ours = !world.policies.is_empty()
        || !world.credentials.is_empty()
        || !world.federations.is_empty()
        || !world.role_bindings.is_empty()
        || !world.usage_plans.is_empty()
        || !world.broken.is_empty();
    let wanted = gateway::wanted(&world);
    if !wanted && !context.store.list(Kind::Deployment, namespace).is_empty() {
        gateway::remove(client, namespace).await?;
        tracing::info!(namespace, "gateway removed: nothing of this namespace needs it any more");
    }
    let tell = |served| context.served.keep(namespace, served).iter().for_each(|tenant| queue.add(tenant, SETTLE));
    if !wanted {
        tell(Served::default());
    }
    if !ours && !wanted && !gateway::has_parents_elsewhere(context, &world) {
        return Ok(None);
    }
    world.api_server = world::api_server(&context.store, client).await?;
    world::read_named(&mut world, client).await?;
    let known = world.secrets.len();
    credentials::supply(&mut world, client).await?;
    credentials::rotate(&mut world, client, Timestamp::now()).await?;
    let mut told = Report::default();
    let work = context.key_work(Timestamp::now());
    work.remember(&mut world).await?;
    work.advance(&mut world, &mut told).await?;
    if world.secrets.len() > known {
        // Gateways elsewhere that take routes of this namespace use them, too.
        world::gateways_of(&context.store, namespace).iter().for_each(|gateway| queue.add(gateway, SETTLE));
    }
    world.hash_passwords();
    world.tenants_mut().for_each(World::hash_passwords);
    let current = if wanted { gateway::current_bundle(client, namespace).await? } else { None };
    let mut compiled = compile(&world, current.as_ref());
    compiled.report.extend(told);
    permissions::report(context, &world, &mut compiled);
    if !wanted {
        gateway::publish(context, &world, &compiled, 0, &gateway::Observed::default()).await?;
        let elsewhere = context.served.of(namespace);
        let refused = elsewhere.iter().all(|of| of.observed.is_programmed());
        let again = work.finish_leaked(&mut world, refused).await?;
        return Ok(Some(if again { UNPROGRAMMED } else { RESYNC }));
    }
    members::prepare(&world, current.as_ref(), &mut compiled.secrets);
    let bundle = next(current, &compiled);
    let built = match gateway::build(&world, compiled.ports, bundle, &context.settings) {
        Ok(built) => built,
        Err(error) => {
            // Too large for a Secret: the configuration in force stays, and every policy reports why the change is not
            // in force.
            for of in std::iter::once(&world).chain(world.tenants()) {
                for policy in &of.policies {
                    let id = ObjectId::new("IdentityPolicy", &of.namespace, &policy.meta.name);
                    let cause = Cause::InvalidKeptPrevious;
                    compiled.report.push(&id, "", Condition::Programmed, cause, error.to_string());
                }
            }
            gateway::publish(context, &world, &compiled, 0, &gateway::Observed::default()).await?;
            tell(Served::of(&world, &compiled, 0, gateway::Observed::default()));
            return Ok(Some(RESYNC));
        }
    };
    gateway::apply(client, namespace, &built).await?;
    let (generation, digest) = (built.bundle.generation, built.bundle.digest.clone());
    let observed = gateway::observe(context, namespace, &digest).await;
    members::provision(context, &world, &built.bundle.secrets).await?;
    directories::report(context, &world, &mut compiled, &built.bundle.secrets).await;
    key_uses::ask(context, &world, &built.bundle).await;
    gateway::publish(context, &world, &compiled, generation, &observed).await?;
    tell(Served::of(&world, &compiled, generation, observed.clone()));
    let again = work.finish_leaked(&mut world, observed.is_programmed()).await?;
    Ok(Some(if observed.is_programmed() && !again { RESYNC } else { UNPROGRAMMED }))
}

/// The same content keeps its generation, so that an unchanged configuration is not announced again.
fn next(current: Option<Bundle>, compiled: &Compiled) -> Bundle {
    let next = compiled.seal(current.as_ref().map_or(1, |current| current.generation + 1));
    current.filter(|current| current.digest == next.digest).unwrap_or(next)
}

#[cfg(test)]
pub(crate) mod api_server;
#[cfg(test)]
mod concern;
#[cfg(test)]
mod parity;
