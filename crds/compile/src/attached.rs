//! Which listeners take each route, when all routes are known.

use std::collections::BTreeMap;

use gateway_api::apis::standard::httproutes::HttpRouteParentRefs;
use idm_plan::Host;
use kube::ResourceExt;

use crate::listeners::{Listener, is_ours, overlap, taking};
use crate::{NotTaken, Route, RouteKind, World};

/// A route under one of its parents.
pub(crate) struct Attachment<'w> {
    pub(crate) parent: &'w HttpRouteParentRefs,
    /// The listeners that take it, with the hosts that they have in common; never empty.
    pub(crate) taken: Result<Vec<(Listener<'w>, Host)>, NotTaken>,
}

/// The attachments of each route, by namespace, kind and name.
pub(crate) type Attached<'w> = BTreeMap<(&'w str, RouteKind, String), Vec<Attachment<'w>>>;

/// Attaches the routes of all worlds to the Gateways of the first.
pub(crate) fn attach<'w>(worlds: &[&'w World], listeners: &[Listener<'w>]) -> Attached<'w> {
    let Some(world) = worlds.first() else { return Attached::new() };
    let mut routes: Vec<(&'w str, &'w Route)> = Vec::new();
    for of in worlds {
        routes.extend(of.routes.iter().map(|route| (of.namespace.as_str(), route)));
    }
    // The older route comes first, then the alphabet.
    routes.sort_by_cached_key(|(namespace, route)| (route.created(), format!("{namespace}/{}", route.name())));
    let mut held = Held::default();
    let mut attached = Attached::new();
    for (namespace, route) in routes {
        let ours = route.parents().filter(|parent| is_ours(world, parent, namespace));
        let attachments = ours.map(|parent| {
            let taken = taking(world, listeners, parent, route, namespace);
            Attachment { parent, taken: taken.and_then(|taken| held.take(route.kind(), taken)) }
        });
        attached.insert((namespace, route.kind(), route.name()), attachments.collect());
    }
    attached
}

/// The hosts of each listener that routes of one kind have. Gateway API: routes of another kind do not get them.
#[derive(Default)]
struct Held(BTreeMap<(String, usize), Vec<(RouteKind, Host)>>);

impl Held {
    fn take<'w>(
        &mut self,
        kind: RouteKind,
        taken: Vec<(Listener<'w>, Host)>,
    ) -> Result<Vec<(Listener<'w>, Host)>, NotTaken> {
        let key = |listener: &Listener<'_>| (listener.gateway.name_any(), listener.position);
        let is_free = |listener: &Listener<'_>| {
            let mut hosts = taken.iter().filter(|(of, _)| key(of) == key(listener));
            let held = self.0.get(&key(listener));
            hosts.all(|(_, host)| held.into_iter().flatten().all(|(of, other)| *of == kind || !overlap(host, other)))
        };
        let free: Vec<_> = taken.iter().filter(|(listener, _)| is_free(listener)).cloned().collect();
        for (listener, host) in &free {
            self.0.entry(key(listener)).or_default().push((kind, host.clone()));
        }
        if free.is_empty() { Err(NotTaken::HostnameConflict) } else { Ok(free) }
    }
}
