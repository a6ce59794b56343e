//! The account to which tokens of language models are charged, and the quotas that are left.

use idm_plan::TokenQuota;
use idm_request::Identity;
use idm_store::Store;
use idm_types::{Reason, Refusal, Timestamp};

use crate::engine::{Engine, PolicyInForce};
use crate::{Process, Trace, spent};

/// The account of one caller under one policy.
pub struct Account {
    owner: String,
    quotas: Vec<TokenQuota>,
    store: Store,
}

impl Account {
    /// The account that a decided request is charged to; `None` where its policy counts nothing.
    pub fn of(engine: &Engine, trace: &Trace) -> Option<Self> {
        let identity = trace.identity.as_ref().map(|(identity, _)| &**identity);
        Self::of_policy(engine.policies.get(trace.policy?)?, identity)
    }

    pub(crate) fn of_policy(policy: &PolicyInForce, identity: Option<&Identity>) -> Option<Self> {
        let llm = policy.llm.as_ref()?;
        let owner = identity.map(|identity| format!("{}#{}", policy.armed.plan().uid, identity.id));
        let owner = owner.unwrap_or_default();
        Some(Self { owner, quotas: llm.quotas().to_vec(), store: policy.armed.store().clone() })
    }

    /// Refuses a caller who has used up a quota.
    pub async fn check(&self, process: &Process, now: Timestamp) -> Result<(), Refusal> {
        let Self { owner, quotas, store } = self;
        spent::check(store, owner, quotas).await?;
        let spent = process.quotas.check(owner, quotas, store.moment(now));
        spent.map_err(|seconds| Refusal::new(Reason::TokenQuotaExceeded, "").retry_after(seconds))
    }

    /// Counts tokens that the caller used, here and where gateways share a store.
    pub fn charge(&self, process: &Process, tokens: u64, now: Timestamp) {
        let Self { owner, quotas, store } = self;
        process.quotas.add(owner, quotas, tokens, store.moment(now));
        spent::add(store, owner, quotas, tokens);
    }
}
