//! API keys of the namespace's Credentials.

use idm_plan::{ApiKeyMethod, Selector, Source};
use idm_request::{Identity, Presented, RequestView};
use idm_types::{ApiKey, Reason, Refusal};
use sha2::{Digest, Sha256};

use super::bearer;
use crate::CredentialTable;
use crate::credential::{ProvenBy, admit_key};
use crate::judged::Unjudged;
use crate::method::{Attempt, Caching, Challenged, Method, MethodContext, Proven, Recheck, Verifying, at_once};

/// The method.
pub(super) struct ApiKeys {
    sources: Vec<Source>,
    only: Selector,
}

impl ApiKeys {
    pub(super) fn new(plan: &ApiKeyMethod) -> Self {
        Self { sources: plan.sources.clone(), only: plan.only.clone() }
    }
}

impl Method for ApiKeys {
    fn kind(&self) -> &'static str {
        "apiKey"
    }

    fn sources(&self) -> &[Source] {
        &self.sources
    }

    fn find<'r>(&self, view: RequestView<'r>) -> Result<Option<Presented<'r>>, Reason> {
        idm_request::find(view, &self.sources)
    }

    fn verify<'a>(&'a self, context: MethodContext<'a>, credential: &'a str) -> Verifying<'a> {
        at_once(attempt(context, credential, &self.only))
    }

    fn judge(&self, context: MethodContext<'_>, credential: &str) -> Result<Attempt, Unjudged> {
        Ok(attempt(context, credential, &self.only))
    }

    /// A verdict is all there is.
    fn judge_again(&self, _: MethodContext<'_>, _: Proven<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    fn caching(&self) -> Caching {
        Caching::ByCredential
    }

    fn epoch(&self, identity: &Identity, table: &CredentialTable) -> u64 {
        table.epoch_of(identity)
    }

    /// A key ends with its Credential alone.
    fn recheck<'a>(&'a self, _: MethodContext<'a>, _: Proven<'a>) -> Recheck<'a> {
        Recheck::Done(Ok(()))
    }

    fn challenge(&self, asked: &Challenged<'_>) -> Vec<String> {
        bearer::takes_bearer(&self.sources, asked).into_iter().collect()
    }
}

/// Verifies an API key. A key whose Credential the method's selector does not pick is unknown here.
pub(crate) fn attempt(context: MethodContext<'_>, key: &str, only: &Selector) -> Attempt {
    let is_ours = ApiKey::is_well_formed(key);
    // A token of another method is hashed only where keys of any form are taken.
    let known = (is_ours || context.table.takes_any_form()).then(|| {
        let hash: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        let id = || idm_plan::key_id(&idm_types::hex(&hash)).to_owned();
        let found = context.table.by_hash(&hash, only, context.now)?;
        let (key, attempt) = match found {
            Ok((credential, end)) => {
                let end = end.map(|end| end.at);
                let by = ProvenBy { key: Some(id()), end, ..ProvenBy::default() };
                (credential.key.clone(), admit_key(context, credential, by))
            }
            Err((key, refusal)) => (key, Attempt::Rejected(refusal.by_method(context.name))),
        };
        if let Attempt::Rejected(refusal) = &attempt
            && !context.shadow
        {
            let owner = context.table.by_name(&key.name).and_then(|credential| credential.owner.as_deref());
            context.memory.ended_uses.note(&key, owner, refusal);
        }
        Some(attempt)
    });
    match known.flatten() {
        Some(attempt) => attempt,
        None if !key.starts_with("idm_") => {
            Attempt::NotMine(context.denied(Reason::UnknownApiKey, "the key does not start with `idm_`"))
        }
        None if !is_ours => {
            Attempt::Rejected(context.denied(Reason::MalformedApiKey, "the checksum of the key does not match"))
        }
        None => Attempt::Rejected(context.denied(
            Reason::UnknownApiKey,
            "the key is well formed, and no Credential that this method accepts has it",
        )),
    }
}
