//! The work of a gateway for the namespaces whose routes it takes. Only a namespace's own reconcile writes the status
//! of its objects; it reads here what became of them elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use idm_compile::{Compiled, Finding, World};

use crate::gateway::Running;

/// The last reconcile of a gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Served {
    /// The namespaces whose routes it takes.
    pub(crate) tenants: BTreeSet<String>,
    /// Its findings about their objects.
    pub(crate) findings: Vec<Finding>,
    /// The gateways of its namespace, with the policies of others that they have.
    pub(crate) gateways: Vec<Running>,
}

/// The gateways that take routes of other namespaces, by their own.
#[derive(Default)]
pub(crate) struct Board(Mutex<BTreeMap<String, Served>>);

impl Board {
    /// Keeps what a gateway did. Returns the namespaces that should know, because it is news for them.
    pub(crate) fn keep(&self, gateway: &str, served: Served) -> BTreeSet<String> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = all.remove(gateway).unwrap_or_default();
        let news = if before == served { BTreeSet::new() } else { &before.tenants | &served.tenants };
        if !served.tenants.is_empty() {
            all.insert(gateway.to_owned(), served);
        }
        news
    }

    /// The gateways that take routes of a namespace.
    pub(crate) fn of(&self, tenant: &str) -> Vec<Served> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().filter(|served| served.tenants.contains(tenant)).cloned().collect()
    }
}

impl Served {
    /// Notes the work of a reconcile for the tenants of its world.
    pub(crate) fn of(world: &World, compiled: &Compiled, mut gateways: Vec<Running>) -> Self {
        gateways.iter_mut().for_each(|of| of.policies.retain(|policy| policy.namespace != world.namespace));
        let elsewhere = |finding: &&Finding| finding.object.namespace != world.namespace;
        Self {
            tenants: world.tenants().iter().map(|tenant| tenant.namespace.clone()).collect(),
            findings: compiled.report.findings().iter().filter(elsewhere).cloned().collect(),
            gateways,
        }
    }

    /// Whether every one of its gateways enforces what it shall.
    pub(crate) fn is_programmed(&self) -> bool {
        self.gateways.iter().all(|of| of.observed.is_programmed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_told_once_and_when_it_is_left() {
        let board = Board::default();
        let served = |tenants: &[&str], generation| Served {
            tenants: tenants.iter().map(|name| (*name).to_owned()).collect(),
            gateways: vec![Running { generation, ..Running::default() }],
            ..Served::default()
        };
        let told = |tenants: &[&str], generation| board.keep("infra", served(tenants, generation)).len();
        assert_eq!((told(&["a", "b"], 1), told(&["a", "b"], 1), told(&["a", "b"], 2)), (2, 0, 2));
        assert_eq!((board.of("a").len(), board.of("c").len()), (1, 0));
        assert_eq!((told(&["b"], 2), told(&[], 2), told(&[], 3)), (2, 1, 0));
        assert!(board.of("b").is_empty());
    }
}
