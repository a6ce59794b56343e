//! Writes the gateways of a namespace, one for each of its parts. One that cannot be written holds up no other.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use idm_compile::{Compiled, CompiledPart, World};
use idm_plan::{Bundle, Secrets};
use kube::core::DynamicObject;

use crate::gateway::{Built, Observed, Running, Sealed, ToSeal, Write};
use crate::objects::Kind;
use crate::{Context, gateway, members};

/// The gateways of a namespace after they were written.
pub(super) struct Gateways {
    all: Vec<Written>,
    /// The first error: the reconcile fails with it after everything was told.
    error: Option<anyhow::Error>,
}

struct Written {
    part: Arc<CompiledPart>,
    built: Built,
    since: u64,
    observed: Observed,
}

impl Gateways {
    /// Their secrets, by their names.
    pub(super) fn secrets(&self) -> Vec<(String, &Secrets)> {
        self.all.iter().map(|of| (of.built.name.clone(), &of.built.bundle.secrets)).collect()
    }

    /// Their state, as far as policies go.
    pub(super) fn running(&self) -> Vec<Running> {
        let running = |of: &Written| Running {
            namespace: of.part.plan.namespace.clone(),
            part: of.part.part.clone(),
            generation: of.since,
            observed: of.observed.of_policies(),
            policies: of.part.plan.policies.iter().map(|policy| policy.key.clone()).collect(),
        };
        self.all.iter().map(running).collect()
    }

    /// Whether every ready pod of each enforces what it shall.
    pub(super) fn are_programmed(&self) -> bool {
        self.all.iter().all(|of| of.observed.is_programmed())
    }

    /// Whether a pod enforces it without some shards.
    pub(super) fn miss_shards(&self) -> bool {
        self.all.iter().any(|of| of.observed.misses_shards)
    }

    /// The error, if any of them could not be written.
    pub(super) fn outcome(self) -> anyhow::Result<()> {
        self.error.map_or(Ok(()), Err)
    }
}

/// Numbers, seals, writes and observes them. `current` is in force, by the name of the gateway.
pub(super) async fn write(
    context: &Context,
    world: &World,
    compiled: &mut Compiled,
    current: &BTreeMap<String, Bundle>,
) -> anyhow::Result<Gateways> {
    let (namespace, cluster) = (&world.namespace, context.cluster());
    let parts = compiled.parts.clone();
    let sealed = seal(context, world, compiled, &parts, current).await?;
    gateway::write_keys(cluster, world).await?;
    let shards = sealed.iter().map(|of| &of.shards).find(|shards| !shards.is_empty());
    gateway::write_shards(cluster, world, shards.map_or(&[], Vec::as_slice)).await?;
    let (mut built, mut refusals, mut error) = (Vec::new(), Vec::new(), None);
    for (part, sealed) in parts.iter().zip(sealed) {
        sealed.report(part.plan.policies.iter().map(|policy| policy.key.clone()), &mut compiled.report);
        let name = gateway::name(&part.part);
        let before = current.get(&name);
        let since = context.compiled.sealed(namespace, &name, before, &sealed.bundle);
        let is_stored = before.is_some_and(|before| before.digest == sealed.bundle.digest);
        let mut one = gateway::build(world, part, sealed, &context.settings);
        if let Some(sealing) = cluster.sealing {
            sealing.seal_secret(&mut one.secret).await?;
        }
        let deployment = context.store.find(Kind::Deployment, namespace, &name);
        let write = Write { cluster, namespace, is_stored, deployment: deployment.as_deref() };
        let outcome = gateway::apply(&write, &one).await;
        // Only what the API server has decided is told; everything else is tried again first.
        match outcome {
            Ok(()) => refusals.push(None),
            Err(kube::Error::Api(status))
                if (400..500).contains(&status.code) && ![409, 429].contains(&status.code) =>
            {
                refusals.push(Some(format!("{name} cannot be written: {}", status.message)));
                error.get_or_insert(kube::Error::Api(status));
            }
            Err(other) => return Err(other.into()),
        }
        built.push((part.clone(), one, since, pods_wanted(context, part, deployment.as_deref())));
    }
    let observed = built.iter().map(|(_, built, since, wanted)| async move {
        let pods = gateway::pods(context, namespace, &built.name);
        gateway::observe(context, &pods, *wanted, &built.bundle.digest, *since).await
    });
    let observed = join_all(observed).await;
    let all =
        built.into_iter().zip(observed).zip(refusals).map(|(((part, built, since, _), mut observed), refusal)| {
            if let Some(refusal) = refusal {
                // Its pods may enforce the newest bundle; its objects are not what was asked for.
                let told = vec![refusal];
                (observed.current, observed.with_policies) = (0, 0);
                (observed.laggards, observed.without_policies) = (told.clone(), told);
            }
            Written { part, built, since, observed }
        });
    Ok(Gateways { all: all.collect(), error: error.map(Into::into) })
}

async fn seal(
    context: &Context,
    world: &World,
    compiled: &Compiled,
    parts: &[Arc<CompiledPart>],
    current: &BTreeMap<String, Bundle>,
) -> anyhow::Result<Vec<Sealed>> {
    let namespace = &world.namespace;
    let reads_shards = gateway::reads_shards(context, namespace, current.values(), &compiled.credentials).await;
    let with_tokens = parts.iter().map(|part| {
        let mut secrets = part.secrets.clone();
        let current = current.get(&gateway::name(&part.part));
        members::prepare(world, current, &mut secrets);
        (part, secrets, current)
    });
    let with_tokens: Vec<_> = with_tokens.collect();
    let to_seal = with_tokens.iter();
    let to_seal = to_seal.map(|(part, secrets, current)| ToSeal { plan: &part.plan, secrets, current: *current });
    let to_seal: Vec<_> = to_seal.collect();
    let sealed = context
        .compiled
        .with_shards(namespace, |made| gateway::seal(&to_seal, &compiled.credentials, reads_shards, made))?;
    Ok(sealed)
}

/// The number of pods that a gateway shall have.
fn pods_wanted(context: &Context, part: &CompiledPart, deployment: Option<&DynamicObject>) -> usize {
    let replicas = deployment.and_then(|deployment| deployment.data.pointer("/spec/replicas")?.as_u64());
    match &part.parameters {
        Some(parameters) if parameters.autoscaling.is_none() => {
            parameters.replicas.map_or(context.settings.replicas as usize, |pods| pods as usize)
        }
        _ => replicas.and_then(|pods| usize::try_from(pods).ok()).unwrap_or_default(),
    }
}
