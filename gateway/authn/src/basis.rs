//! The basis of the kept verdicts of a policy.

use std::sync::atomic::{AtomicU64, Ordering};

use idm_plan::{ObjectKey, Plan, Policy, Secrets};
use sha2::{Digest, Sha256};

/// A number that this process never gave out before, and never 0: two values with the same number are the same value.
pub(crate) fn unique() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// Identifies the configuration that the verdicts of one policy depend on, besides the credential and the epochs of
/// keys and Credentials: the policy itself, the RoleBindings of its namespace, its Federations, and the values of the
/// secrets that these name.
///
/// It keeps the id that it had in the configuration before, as long as none of these changes. A configuration that was
/// removed and comes back has a new id: keys of issuers may have been forgotten in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Basis {
    id: u64,
    /// SHA-256 of this configuration; `None` equals no other basis.
    fingerprint: Option<[u8; 32]>,
}

impl Basis {
    /// The basis of a policy; `before` are the bases of the previous configuration.
    pub(crate) fn of<'b>(
        policy: &Policy,
        plan: &Plan,
        secrets: &Secrets,
        mut before: impl Iterator<Item = &'b Basis>,
    ) -> Self {
        let fingerprint = fingerprint(policy, plan, secrets);
        let same = before.find(|basis| basis.fingerprint.is_some() && basis.fingerprint == fingerprint);
        same.cloned().unwrap_or_else(|| Self { id: unique(), fingerprint })
    }

    /// The id, which is equal for the same basis only.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }
}

fn fingerprint(policy: &Policy, plan: &Plan, secrets: &Secrets) -> Option<[u8; 32]> {
    let uses = |name: &str| policy.methods.iter().any(|method| method.kind.uses_federation(name));
    let is_near = |key: &ObjectKey| key.namespace == policy.key.namespace;
    let federations = plan.federations.iter().filter(|of| is_near(&of.key) && uses(&of.key.name));
    let grants = plan.grants.iter().filter(|grant| is_near(&grant.key));
    let named = (policy, grants.collect::<Vec<_>>(), federations.collect::<Vec<_>>());
    let named = serde_json::to_value(named).ok()?;
    let secrets = secrets.named_by(&named);
    Some(Sha256::digest(serde_json::to_vec(&(named, secrets)).ok()?).into())
}

#[cfg(test)]
mod tests {
    use idm_plan::{
        Confirmation, Disclosure, Grant, IdentityMapping, IntrospectionMethod, Method, MethodKind, SecretHandle,
        UpstreamSettings,
    };
    use idm_types::Redacted;

    use super::*;

    /// A policy that asks an issuer with a secret.
    fn policy() -> Policy {
        let ask = IntrospectionMethod {
            endpoint: "https://idp/ask".into(),
            client_id: "c".into(),
            client_secret: SecretHandle::of_secret("idp", "secret"),
            issuer: "https://idp".into(),
            audiences: vec![],
            sources: vec![],
            cache_seconds: 60,
            confirmation: Confirmation::default(),
        };
        Policy {
            key: ObjectKey::new("shop", "p"),
            uid: "uid".into(),
            generation: 1,
            methods: vec![Method { name: "ask".parse().unwrap(), kind: MethodKind::Introspection(ask) }],
            identity: IdentityMapping { username: None, roles: None, groups: None, attributes: vec![] },
            rules: vec![],
            limits: vec![],
            jose: vec![],
            llm: None,
            token_service: None,
            upstream: UpstreamSettings::default(),
            disclosure: Disclosure::Minimal,
            cors: None,
            paths: vec![],
            resource: None,
            drain_streams_ms: 0,
            baseline: None,
            keeps_claims: false,
            shadow: false,
        }
    }

    fn secrets(of: &str, value: &str) -> Secrets {
        let mut secrets = Secrets::default();
        secrets.put(SecretHandle::of_secret("idp", "secret"), Redacted::new(b"1".to_vec()));
        secrets.put(SecretHandle::of_secret(of, "secret"), Redacted::new(value.into()));
        secrets
    }

    #[test]
    fn a_basis_stays_until_something_of_it_changes() {
        let (policy, plan, was) = (policy(), Plan::default(), secrets("another", "1"));
        let first = Basis::of(&policy, &plan, &was, [].into_iter());
        let next =
            |policy: &Policy, plan: &Plan, secrets: &Secrets| Basis::of(policy, plan, secrets, [&first].into_iter());
        assert_eq!(next(&policy, &plan, &was), first);
        assert_eq!(next(&policy, &plan, &secrets("another", "2")), first, "a secret of somebody else");
        let grant = Grant { key: ObjectKey::new("other", "g"), role: "admin".parse().unwrap(), subjects: vec![] };
        let elsewhere = Plan { namespace: "other".into(), grants: vec![grant], ..Plan::default() };
        assert_eq!(next(&policy, &elsewhere, &was), first, "another part of the plan");

        let grant = Grant { key: ObjectKey::new("shop", "g"), role: "admin".parse().unwrap(), subjects: vec![] };
        let changed = [
            next(&Policy { generation: 2, ..policy.clone() }, &plan, &was),
            next(&policy, &Plan { grants: vec![grant], ..Plan::default() }, &was),
            next(&policy, &plan, &secrets("idp", "2")),
            next(&policy, &plan, &Secrets::default()),
        ];
        let mut ids: Vec<u64> = changed.iter().chain([&first]).map(Basis::id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 5, "each has an id of its own");
        let back = Basis::of(&policy, &plan, &was, changed.iter());
        assert!(!ids.contains(&back.id()), "what was away comes back as another one");
    }
}
