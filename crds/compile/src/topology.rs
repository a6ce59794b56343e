//! The way of traffic as a graph: Gateways, routes, their rules, Services, and the policies that decide.
//!
//! It is made of the result of a compilation, so it shows what gateways do, and not what objects seem to say. The time
//! that it takes grows with the number of objects and of rules under listeners.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use idm_plan::{Handler, MethodKind, ObjectKey, Plan};
use kube::ResourceExt;
use serde::Serialize;

use crate::{Cause, Compiled, Coverage, Covered, Finding, ObjectId, RouteKind, World};

/// The graph of a namespace, with the routes of others that its Gateways take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Topology {
    /// The objects and the rules, each once, ordered by id.
    pub nodes: Vec<Node>,
    /// Their relations, each once.
    pub edges: Vec<Edge>,
}

/// An object, or a rule of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Unique: `Kind/namespace/name`, and for a rule that of its route with its position.
    pub id: String,
    /// Its kind; `Rule` for a rule.
    pub kind: &'static str,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether it is in force.
    pub state: State,
    /// The reason, where that needs one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Whether an object is in force. Of several the last counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum State {
    /// It is in force; of a rule: callers must authenticate.
    Enforced,
    /// Other policies decide everywhere.
    Overridden,
    /// Requests pass without a credential.
    Open,
    /// It is not in force; of a rule: every request is refused.
    Broken,
}

/// A relation of two nodes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Edge {
    /// The id of one.
    pub from: String,
    /// The id of the other.
    pub to: String,
    /// The relation.
    pub kind: Relation,
}

/// The kind of a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Relation {
    /// A Gateway takes a route.
    Serves,
    /// A route has a rule, or a rule sends requests to a Service.
    Routes,
    /// A policy that is attached to the route, the rule or the Service decides.
    Protects,
    /// A policy that is attached to the Gateway decides, or its baseline holds.
    Inherits,
    /// A policy would decide if another were not more specific, or if it were enforced.
    Overridden,
}

/// Draws the graph of a namespace that was compiled.
pub fn topology(world: &World, compiled: &Compiled) -> Topology {
    let mut drawing = Drawing::default();
    for gateway in world.our_gateways() {
        let key = ObjectKey::new(&world.namespace, gateway.name_any());
        drawing.object("Gateway", &key, State::Enforced, None);
    }
    for status in &compiled.routes {
        let route = ObjectKey::new(&status.namespace, &status.route);
        let gateway = ObjectKey::new(&world.namespace, &status.parent.name);
        let (from, to) = (id("Gateway", &gateway), id(status.kind.name(), &route));
        let why = status.listeners.as_ref().err().map(|why| why.message(&gateway.name));
        let state = if why.is_some() { State::Broken } else { State::Enforced };
        drawing.route(status.kind, &route, state, why);
        if state == State::Enforced {
            drawing.edge(from, to, Relation::Serves);
        }
    }
    let services = backends(world);
    for coverage in &compiled.coverage {
        drawing.coverage(coverage, &compiled.plan, &services);
    }
    drawing.policies(world, compiled);
    drawing.done()
}

fn id(kind: &str, key: &ObjectKey) -> String {
    format!("{kind}/{}/{}", key.namespace, key.name)
}

fn rule_id(kind: RouteKind, route: &ObjectKey, position: usize) -> String {
    format!("{}/rule/{position}", id(kind.name(), route))
}

type Backends = HashMap<String, Vec<ObjectKey>>;

/// The Services that each rule names, by the rule's id.
fn backends(world: &World) -> Backends {
    let mut all = Backends::new();
    for of in std::iter::once(world).chain(world.tenants()) {
        for route in &of.routes {
            let key = ObjectKey::new(&of.namespace, route.name());
            for (position, rule) in route.rules().enumerate() {
                let named = rule.rule.backend_refs.iter().flatten();
                let named = named.filter(|backend| backend.kind.as_deref().unwrap_or("Service") == "Service");
                let services = named.map(|backend| {
                    ObjectKey::new(backend.namespace.as_deref().unwrap_or(&of.namespace), &backend.name)
                });
                all.insert(rule_id(route.kind(), &key, position), services.collect());
            }
        }
    }
    all
}

#[derive(Default)]
struct Drawing {
    nodes: BTreeMap<String, Node>,
    edges: BTreeSet<Edge>,
    /// Policies that decide somewhere, and those that are overridden somewhere.
    deciding: BTreeSet<ObjectKey>,
    overridden: BTreeSet<ObjectKey>,
    /// Policies that judge in shadow.
    shadows: BTreeSet<ObjectKey>,
}

impl Drawing {
    /// Adds a node, or the worse of both states where it is there.
    fn add(&mut self, node: Node) {
        match self.nodes.get_mut(&node.id) {
            Some(known) if known.state >= node.state => {}
            Some(known) => *known = node,
            None => drop(self.nodes.insert(node.id.clone(), node)),
        }
    }

    fn object(&mut self, kind: &'static str, key: &ObjectKey, state: State, note: Option<String>) {
        let ObjectKey { namespace, name } = key.clone();
        self.add(Node { id: id(kind, key), kind, namespace, name, state, note });
    }

    /// A route that one Gateway takes and another does not is in force.
    fn route(&mut self, kind: RouteKind, key: &ObjectKey, state: State, note: Option<String>) {
        let known = self.nodes.get(&id(kind.name(), key)).map(|node| node.state);
        match (known, state) {
            (Some(State::Broken), State::Enforced) => drop(self.nodes.remove(&id(kind.name(), key))),
            (Some(_), _) => return,
            (None, _) => {}
        }
        self.object(kind.name(), key, state, note);
    }

    fn edge(&mut self, from: String, to: String, kind: Relation) {
        self.edges.insert(Edge { from, to, kind });
    }

    fn coverage(&mut self, coverage: &Coverage, plan: &Plan, services: &Backends) {
        let Coverage { covered, policy, inherited, overridden, rule } = coverage;
        let found = plan.rules.get(*rule);
        let (state, note) = state_of(found.map(|rule| &rule.handler), policy.is_some(), plan);
        let node = match covered {
            Covered::Rule { kind, route, position, name, .. } => {
                let node = rule_id(*kind, route, *position);
                let name = name.clone().unwrap_or_else(|| position.to_string());
                let namespace = route.namespace.clone();
                self.add(Node { id: node.clone(), kind: "Rule", namespace, name, state, note });
                self.edge(id(kind.name(), route), node.clone(), Relation::Routes);
                for service in services.get(&node).into_iter().flatten() {
                    self.object("Service", service, State::Enforced, None);
                    self.edge(node.clone(), id("Service", service), Relation::Routes);
                }
                node
            }
            Covered::Service(service) => {
                self.object("Service", service, state, note);
                id("Service", service)
            }
        };
        let of = |policy: &ObjectKey| id("IdentityPolicy", policy);
        if let Some(policy) = policy {
            self.deciding.insert(policy.clone());
            let relation = if *inherited { Relation::Inherits } else { Relation::Protects };
            self.edge(of(policy), node.clone(), relation);
        }
        for policy in overridden {
            self.overridden.insert(policy.clone());
            self.edge(of(policy), node.clone(), Relation::Overridden);
        }
        let shadows = found.iter().flat_map(|rule| &rule.shadows);
        for shadow in shadows.filter_map(|shadow| plan.policies.get(shadow.policy)) {
            self.shadows.insert(shadow.key.clone());
            self.edge(of(&shadow.key), node.clone(), Relation::Overridden);
        }
        let baselines = found.iter().flat_map(|rule| &rule.baselines);
        for other in baselines.filter_map(|position| plan.policies.get(*position)) {
            self.deciding.insert(other.key.clone());
            if Some(&other.key) != policy.as_ref() {
                self.edge(of(&other.key), node.clone(), Relation::Inherits);
            }
        }
    }

    fn policies(&mut self, world: &World, compiled: &Compiled) {
        let mut errors: HashMap<&ObjectId, &Finding> = HashMap::new();
        for finding in compiled.report.errors().filter(|finding| finding.cause != Cause::Overridden) {
            errors.entry(&finding.object).or_insert(finding);
        }
        let worlds = || std::iter::once(world).chain(world.tenants()).chain(world.platform());
        let read = worlds().flat_map(|of| of.policies.iter().map(move |policy| (of, &policy.meta.name)));
        let broken = worlds().flat_map(|of| of.broken.iter().map(move |broken| (of, broken)));
        let broken = broken.filter(|(_, broken)| broken.id.kind == "IdentityPolicy");
        for (of, name) in read.chain(broken.map(|(of, broken)| (of, &broken.meta.name))) {
            let key = ObjectKey::new(&of.namespace, name);
            let error = errors.get(&ObjectId::new("IdentityPolicy", &of.namespace, name));
            let (state, note) = match error {
                Some(finding) => (State::Broken, Some(finding.message.clone())),
                None if self.deciding.contains(&key) => (State::Enforced, None),
                None if self.shadows.contains(&key) => {
                    (State::Overridden, Some("it judges requests in shadow, and others decide about them".into()))
                }
                None if self.overridden.contains(&key) => {
                    (State::Overridden, Some("more specific policies decide about all of its targets".into()))
                }
                None => (State::Enforced, Some("no listener serves any of its targets".into())),
            };
            self.object("IdentityPolicy", &key, state, note);
        }
    }

    fn done(self) -> Topology {
        let nodes: Vec<_> = self.nodes.into_values().collect();
        let known: BTreeSet<&str> = nodes.iter().map(|node| node.id.as_str()).collect();
        let ends = |edge: &Edge| known.contains(edge.from.as_str()) && known.contains(edge.to.as_str());
        let edges = self.edges.into_iter().filter(ends).collect();
        Topology { nodes, edges }
    }
}

/// The fate of a rule's requests.
fn state_of(handler: Option<&Handler>, has_policy: bool, plan: &Plan) -> (State, Option<String>) {
    let policy = match handler {
        Some(Handler::Refuse { detail, .. }) => {
            return (State::Broken, Some(format!("every request is refused: {detail}")));
        }
        Some(handler) => handler.route_policy().and_then(|position| plan.policies.get(position)),
        None => None,
    };
    let Some(policy) = policy else {
        return (State::Broken, Some("every request is refused".into()));
    };
    if !has_policy {
        let note = "no IdentityPolicy covers it, and the GatewayClass lets requests pass that none covers";
        return (State::Open, Some(note.into()));
    }
    let anonymous = policy.methods.iter().any(|method| matches!(method.kind, MethodKind::Anonymous));
    match (anonymous, policy.rules.is_empty()) {
        (false, _) => (State::Enforced, None),
        (true, true) => (State::Open, Some(format!("IdentityPolicy '{}' asks nobody for a credential", policy.key))),
        (true, false) => {
            (State::Enforced, Some("callers without a credential pass where the policy's rules let them".into()))
        }
    }
}
