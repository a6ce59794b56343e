//! Namespaces whose routes a Gateway of another namespace takes.

use std::collections::BTreeSet;

use idm_api::v1alpha1::TargetReference;
use idm_plan::SecretHandle;

use crate::attach::Target;
use crate::attached::{Attachment, attach};
use crate::listeners::{accepted, taking};
use crate::lower::{Notes, route::lower_rule};
use crate::{ObjectId, Report, RouteStatus, World};

/// The statuses of a namespace's routes under our Gateways in another one, whose world is `of`, and the findings about
/// their rules there. The namespace is one of its tenants, if any of its routes is taken.
pub fn attached_elsewhere(world: &World, of: &World) -> (Vec<RouteStatus>, Report) {
    let (mut statuses, mut report) = (Vec::new(), Report::default());
    if of.namespace == world.namespace {
        return (statuses, report);
    }
    let tenant = World {
        is_tenant: true,
        services: world.services.clone(),
        backend_tls_policies: world.backend_tls_policies.clone(),
        granted_backend_tls: world.granted_backend_tls.clone(),
        config_maps: world.config_maps.clone(),
        secrets: world.secrets.clone(),
        grants: world.grants.clone(),
        granted: world.granted.clone(),
        ..World::new(&world.namespace, world.settings)
    };
    let (listeners, _) = accepted(of, &mut Report::default());
    let others = of.tenants().iter().filter(|tenant| tenant.namespace != world.namespace);
    let worlds: Vec<&World> = std::iter::once(of).chain(others).chain([world]).collect();
    let attached = attach(&worlds, &listeners);
    for route in &world.routes {
        let before = statuses.len();
        let attachments = attached.get(&(world.namespace.as_str(), route.kind(), route.name()));
        for Attachment { parent, taken } in attachments.into_iter().flatten() {
            statuses.push(RouteStatus::new(&world.namespace, route, parent, taken.as_deref()));
        }
        for (i, rule) in route.rules().enumerate().filter(|_| statuses.len() > before) {
            let id = ObjectId::new(route.kind().name(), &world.namespace, &route.name());
            lower_rule(&tenant, &format!("spec.rules[{i}]"), rule, &mut Notes::new(&mut report, id));
        }
    }
    report.sort();
    (statuses, report)
}

impl World {
    /// The namespaces whose routes our Gateways take. Their objects are compiled with those of this namespace, and stay
    /// apart: a policy covers routes of its own namespace, and knows the Credentials of its own namespace.
    pub fn tenants(&self) -> &[World] {
        &self.tenants
    }

    /// The same, to read the Secrets and ConfigMaps that they name.
    pub fn tenants_mut(&mut self) -> impl Iterator<Item = &mut World> {
        self.tenants.iter_mut()
    }

    /// Adds what our Gateways take of another namespace: the routes that a listener allows, and what their policies
    /// need. Nothing else of it is kept. Gateways, classes and namespaces of this world must be complete.
    pub fn add_tenant(&mut self, mut tenant: World) {
        if tenant.namespace == self.namespace {
            return;
        }
        let (listeners, _) = accepted(self, &mut Report::default());
        let namespace = tenant.namespace.clone();
        tenant.routes.retain(|route| {
            let mut parents = route.parents();
            parents.any(|parent| taking(self, &listeners, parent, route, &namespace).is_ok())
        });
        if tenant.routes.is_empty() {
            return;
        }
        tenant.broken.retain(|broken| matches!(broken.id.kind.as_str(), "IdentityPolicy" | "UsagePlan"));
        let names: BTreeSet<_> = tenant.routes.iter().map(|route| (route.kind(), route.name())).collect();
        let covers = |targets: &[TargetReference]| {
            targets.iter().filter_map(Target::of).any(|target| match target {
                Target::Route(kind, name) | Target::RouteRule(kind, name, _) => names.contains(&(kind, name)),
                Target::Gateway(_) | Target::GatewayClass(_) | Target::Listener(..) | Target::Service(..) => false,
            })
        };
        let covered = tenant.policies.iter().any(|policy| covers(&policy.spec.target_refs))
            || tenant.broken.iter().any(|broken| covers(&broken.targets));
        if !covered {
            tenant.policies.clear();
            tenant.broken.clear();
            tenant.credentials.clear();
            tenant.federations.clear();
            tenant.role_bindings.clear();
            tenant.usage_plans.clear();
        }
        tenant.gateways.clear();
        tenant.tenants.clear();
        tenant.is_tenant = true;
        self.tenants.push(tenant);
        self.tenants.sort_by(|a, b| a.namespace.cmp(&b.namespace));
    }

    /// A Secret of another namespace that may be read, as a world of its own.
    pub(crate) fn granted_secret(&self, namespace: &str, name: &str) -> World {
        let mut of = World::new(namespace, self.settings);
        of.is_tenant = true;
        let values = self.granted_secrets.get(&(namespace.to_owned(), name.to_owned()));
        of.secrets.extend(values.map(|values| (name.to_owned(), values.clone())));
        of
    }

    /// The handle of a secret, which is another one in every namespace of a plan.
    pub(crate) fn handle(&self, of: String) -> SecretHandle {
        // No name of an object has a colon.
        SecretHandle(if self.is_tenant { format!("{}:{of}", self.namespace) } else { of })
    }
}
