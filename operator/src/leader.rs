//! Leader election by a Lease: at most one operator acts. Losing the lease ends the process, because only then it is
//! certain that it writes nothing more.

use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};

const NAME: &str = "idm-operator";
const DURATION_SECONDS: i32 = 10;
const RENEW: Duration = Duration::from_secs(3);
const RETRY: Duration = Duration::from_secs(2);

pub(crate) struct Leader {
    leases: Api<Lease>,
    identity: String,
    /// Until this time somebody is known to have led before.
    pub(crate) watched_until: Option<idm_types::Timestamp>,
}

/// Waits until this process holds the lease.
pub(crate) async fn acquire(client: Client, namespace: &str, identity: &str) -> anyhow::Result<Leader> {
    let leases = Api::namespaced(client, namespace);
    let mut leader = Leader { leases, identity: identity.to_owned(), watched_until: None };
    let mut reported = false;
    loop {
        leader.watched_until = leader.renewed().await;
        match leader.try_hold().await {
            Ok(true) => {
                tracing::info!("leading");
                return Ok(leader);
            }
            Ok(false) if !reported => {
                tracing::info!("another operator leads; waiting");
                reported = true;
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "the lease cannot be read or written"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

impl Leader {
    /// Renews until the lease is lost, and then returns an error.
    pub(crate) async fn keep(&self) -> anyhow::Result<()> {
        let mut renewed = tokio::time::Instant::now();
        loop {
            tokio::time::sleep(RENEW).await;
            match tokio::time::timeout(RENEW, self.try_hold()).await {
                Ok(Ok(true)) => renewed = tokio::time::Instant::now(),
                Ok(Ok(false)) => anyhow::bail!("another operator took the lease"),
                Ok(Err(error)) => tracing::warn!(%error, "the lease could not be renewed"),
                Err(_) => tracing::warn!("the lease could not be renewed in time"),
            }
            // Stop acting before another operator may start.
            anyhow::ensure!(
                renewed.elapsed() < Duration::from_secs(DURATION_SECONDS as u64 - 1),
                "the lease could not be renewed for too long"
            );
        }
    }

    /// Gives the lease up, so that the next operator need not wait for its end. This process writes nothing any more.
    pub(crate) async fn release(&self) {
        let released = async {
            let mut lease = self.leases.get_opt(NAME).await.ok()??;
            let spec = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_deref() == Some(&self.identity))?;
            spec.holder_identity = None;
            self.leases.replace(NAME, &PostParams::default(), &lease).await.ok()
        };
        let _ = tokio::time::timeout(RENEW, released).await;
    }

    /// The time when the lease was last renewed, by whomever.
    async fn renewed(&self) -> Option<idm_types::Timestamp> {
        let time = self.leases.get_opt(NAME).await.ok()??.spec?.renew_time?;
        u64::try_from(time.0.as_millisecond()).ok().map(idm_types::Timestamp)
    }

    /// Takes or renews the lease; the resource version ensures that only one writer succeeds.
    async fn try_hold(&self) -> anyhow::Result<bool> {
        let now = MicroTime(Timestamp::now());
        let Some(mut lease) = self.leases.get_opt(NAME).await? else {
            let spec = LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: Some(DURATION_SECONDS),
                acquire_time: Some(now.clone()),
                renew_time: Some(now),
                lease_transitions: Some(0),
                ..LeaseSpec::default()
            };
            let lease =
                Lease { metadata: ObjectMeta { name: Some(NAME.into()), ..ObjectMeta::default() }, spec: Some(spec) };
            return match self.leases.create(&PostParams::default(), &lease).await {
                Ok(_) => Ok(true),
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
                Err(error) => Err(error.into()),
            };
        };
        let spec = lease.spec.get_or_insert_default();
        let ours = spec.holder_identity.as_deref() == Some(&self.identity);
        let age = spec.renew_time.as_ref().map_or(i64::MAX, |renewed| now.0.as_second() - renewed.0.as_second());
        if !ours && age <= i64::from(DURATION_SECONDS) && spec.holder_identity.is_some() {
            return Ok(false);
        }
        if !ours {
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0) + 1);
        }
        spec.holder_identity = Some(self.identity.clone());
        spec.lease_duration_seconds = Some(DURATION_SECONDS);
        spec.renew_time = Some(now);
        match self.leases.replace(NAME, &PostParams::default(), &lease).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error).context("lease"),
        }
    }
}
