mod resource;
mod shadow;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gateway_api::apis::standard::gateways::Gateway;
use gateway_api::apis::standard::httproutes::HttpRouteParentRefs;
use idm_plan::{
    Backend, Bundle, Credentials, Endpoint, Federation, Grant, Handler, Host, MethodKind, Mirror, ObjectKey, PathMatch,
    Plan, Policy, Redirect, RouteEntry, RouteRule, SecretHandle, Secrets, ServerCertificate, SignInEndpoint,
    SignInMethod, VirtualHost,
};
use idm_types::Reason;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;

use crate::attach::{Attachments, Candidate, Placed, Target, exists};
use crate::attached::{Attached, Attachment, attach};
use crate::class::open_policy;
use crate::listeners::{
    Listener, ListenerPorts, accepted, host_of, is_isolated, is_secure, isolated_hosts, parse_host,
};
use crate::lower::backend::service_backend;
use crate::lower::backend_tls::report as report_backend_tls;
use crate::lower::baseline::{asks_for_claims, rules_ask_for_claims};
use crate::lower::mtls::{lower_listener, lower_shown};
use crate::lower::route::{LoweredMatch, LoweredRule, lower_rule};
use crate::lower::token_service::base_path;
use crate::lower::{
    Notes,
    credential::{lower_credentials, lower_credentials_alone},
    federation::lower_federations,
    policy::lower_policy,
    role_binding::lower_grants,
};
use crate::part::{PartRouting, cut};
use crate::request::check_request;
use crate::{
    Cause, CompiledPart, Condition, Coverage, Covered, Layout, ObjectId, Part, Report, Route, RouteKind, World,
    previous_policy, service_names,
};

fn sign_in_of(policy: &Policy) -> Option<&SignInMethod> {
    policy
        .methods
        .iter()
        .find_map(|method| if let MethodKind::SignIn(method) = &method.kind { Some(&**method) } else { None })
}

/// The result for a namespace.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The configuration that its gateway shall enforce.
    pub plan: Plan,
    /// The secrets that the plan refers to.
    pub secrets: Secrets,
    /// The callers that are identified by a Credential.
    pub credentials: Credentials,
    /// The findings that its users shall see.
    pub report: Report,
    /// The result for each route and its parents, for Gateway API statuses.
    pub routes: Vec<RouteStatus>,
    /// The ports of the listeners in use.
    pub ports: ListenerPorts,
    /// The policies of each rule under each listener, and of each Service.
    pub coverage: Vec<Coverage>,
    /// The parts of the namespace with gateways of their own; none where one process serves all of it.
    pub parts: Vec<Arc<CompiledPart>>,
}

impl Compiled {
    /// Seals the parts of it that the gateway needs as the given generation.
    pub fn seal(&self, generation: u64) -> Bundle {
        let Self { plan, secrets, credentials, report: _, routes: _, ports: _, coverage: _, parts: _ } = self;
        Bundle::seal(plan.clone(), secrets.clone(), credentials.clone(), generation)
    }
}

/// One route under one parent.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteStatus {
    /// The route's namespace.
    pub namespace: String,
    /// Its kind.
    pub kind: RouteKind,
    /// Its name.
    pub route: String,
    /// The parent, as the route refers to it.
    pub parent: HttpRouteParentRefs,
    /// The listeners that took it, at least one; or why none did.
    pub listeners: Result<Vec<String>, NotTaken>,
}

impl RouteStatus {
    pub(crate) fn new(
        namespace: &str,
        route: &Route,
        parent: &HttpRouteParentRefs,
        taken: Result<&[(Listener<'_>, Host)], &NotTaken>,
    ) -> Self {
        let names = |taken: &[(Listener<'_>, Host)]| {
            let mut names: Vec<_> = taken.iter().map(|(listener, _)| listener.spec.name.clone()).collect();
            names.dedup();
            names
        };
        let listeners = taken.map(names).map_err(|why| *why);
        let (namespace, kind, route) = (namespace.to_owned(), route.kind(), route.name());
        Self { namespace, kind, route, parent: parent.clone(), listeners }
    }
}

/// Why no listener of a Gateway took a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// None has the section name and port that the route asks for, or the Gateway itself is not accepted.
    NoMatchingParent,
    /// None of them allows routes of this kind from this namespace.
    NotAllowedByListeners,
    /// None of those that allow it has a hostname in common with it.
    NoMatchingListenerHostname,
    /// A route of another kind, which is older, has the hostname at all of those.
    HostnameConflict,
}

impl NotTaken {
    /// The reason in conditions and findings.
    pub const fn cause(self) -> Cause {
        match self {
            NotTaken::NoMatchingParent => Cause::NoMatchingParent,
            NotTaken::NotAllowedByListeners => Cause::NotAllowedByListeners,
            NotTaken::NoMatchingListenerHostname => Cause::NoMatchingListenerHostname,
            NotTaken::HostnameConflict => Cause::HostnameConflict,
        }
    }

    /// For people.
    pub fn message(self, gateway: &str) -> String {
        match self {
            NotTaken::NoMatchingParent => format!(
                "Gateway '{gateway}' must be accepted and have a usable listener with this `sectionName` and `port`"
            ),
            NotTaken::NotAllowedByListeners => format!(
                "a listener of Gateway '{gateway}' must allow this route: its kind, and its namespace, which is that \
                    of the Gateway unless `allowedRoutes.namespaces` says otherwise"
            ),
            NotTaken::HostnameConflict => format!(
                "an older route of another kind has this hostname at Gateway '{gateway}': HTTPRoutes and GRPCRoutes \
                 must have hostnames of their own"
            ),
            NotTaken::NoMatchingListenerHostname => format!(
                "a listener of Gateway '{gateway}' must have a hostname in common with `spec.hostnames` of this route"
            ),
        }
    }
}

/// Compiles a namespace.
///
/// Total: there is always a plan, and it refuses the requests of every part that could not be compiled. A policy that
/// became invalid keeps its version in `previous` when there is one with the same uid.
pub fn compile(world: &World, previous: Option<&Bundle>) -> Compiled {
    let mut compiler = Compiler {
        world,
        report: Report::default(),
        policies: Vec::new(),
        federations: Vec::new(),
        secrets: Secrets::default(),
        endpoints: BTreeMap::new(),
        described: BTreeMap::new(),
        invalid: BTreeMap::new(),
        rules: Vec::new(),
        hosts: BTreeMap::new(),
        certificates: Vec::new(),
        shown: BTreeMap::new(),
        covered: BTreeMap::new(),
        judged: BTreeMap::new(),
        coverage: Vec::new(),
        open: None,
        keeps_previous: false,
    };
    let last = previous.map(|bundle| &bundle.plan);
    let worlds: Vec<&World> = std::iter::once(world).chain(world.tenants()).collect();
    for of in &worlds {
        compiler.lower_policies(of, last);
    }
    if let Some(platform) = world.platform() {
        // Its faults are said in its own namespace.
        let report = std::mem::take(&mut compiler.report);
        compiler.lower_policies(platform, last);
        compiler.report = report;
    }
    compiler.add_open_policy();
    if let Some(previous) = previous.filter(|_| compiler.keeps_previous) {
        compiler.secrets.keep_from(&previous.secrets);
    }
    for of in &worlds {
        report_backend_tls(of, &mut compiler.report);
    }
    let attachments = compiler.settle_attachments(worlds.iter().copied().chain(world.platform()));
    let (listeners, ports) = compiler.listeners();
    let of_services = compiler.hosts_of_services(&attachments);
    let attached = attach(&worlds, &listeners);
    let mut routes = Vec::new();
    for of in &worlds {
        routes.extend(compiler.lower_routes(of, &listeners, &attached, &attachments, &of_services));
    }
    compiler.lower_services(&attachments);
    compiler.refuse_undescribed();
    compiler.report_overridden();
    compiler.report_baselines();
    compiler.report_shadows(&attachments);
    compiler.keep_claims();
    let (credentials, grants) = lower_callers(&worlds, previous, &mut compiler.report);
    for broken in &world.broken {
        compiler.report.push(&broken.id, "", Condition::Accepted, Cause::Invalid, broken.message.clone());
    }
    report_requests(world, &mut compiler.report);
    compiler.report.sort();
    let plan = Plan {
        namespace: world.namespace.clone(),
        policies: std::mem::take(&mut compiler.policies),
        hosts: compiler.hosts(false, None),
        secure_hosts: compiler.hosts(true, None),
        certificates: compiler.certificates(None),
        rules: std::mem::take(&mut compiler.rules),
        grants,
        federations: std::mem::take(&mut compiler.federations),
        api_server: world.api_server.clone(),
    };
    let parts = compiler.parts(&plan, &ports);
    let ports = ports.get(&Part::Shared).copied().unwrap_or_default();
    Compiled {
        plan,
        secrets: compiler.secrets,
        credentials,
        report: compiler.report,
        routes,
        ports,
        coverage: compiler.coverage,
        parts,
    }
}

/// Says what is wrong with the requests of a folder, and that nobody answers them there.
fn report_requests(world: &World, report: &mut Report) {
    for request in &world.requests {
        let id = ObjectId::new("CredentialRequest", &world.namespace, &request.meta.name);
        match check_request(&request.meta.name, &request.spec, None) {
            Err(fault) => report.push(&id, fault.path, Condition::Accepted, Cause::Invalid, fault.message),
            Ok(()) => {
                let message = "it is answered in a cluster, whose API server vouches for names: in a folder make the \
                               Credential with `idm credential create`";
                report.push(&id, "", Condition::Accepted, Cause::ClusterOnly, message);
            }
        }
    }
}

/// Compiles a namespace of which only Credentials changed, and what belongs to them, since it was compiled `before`.
/// Other findings of then still hold.
pub fn compile_credentials(world: &World, before: &Compiled) -> Compiled {
    let mut compiled = before.clone();
    compiled.report.forget("Credential");
    let mut credentials = Credentials { usage_plans: before.credentials.usage_plans.clone(), ..Credentials::default() };
    for of in std::iter::once(world).chain(world.tenants()) {
        let Credentials { all, secrets, usage_plans: _, ended } = lower_credentials_alone(of, &mut compiled.report);
        credentials.all.extend(all);
        credentials.ended.extend(ended);
        credentials.secrets.keep_from(&secrets);
    }
    credentials.all.sort_by(|a, b| a.key.cmp(&b.key));
    for broken in world.broken.iter().filter(|broken| broken.id.kind == "Credential") {
        compiled.report.push(&broken.id, "", Condition::Accepted, Cause::Invalid, broken.message.clone());
    }
    compiled.report.sort();
    Compiled { credentials, ..compiled }
}

/// The Credentials, UsagePlans and RoleBindings of each namespace.
fn lower_callers(worlds: &[&World], previous: Option<&Bundle>, report: &mut Report) -> (Credentials, Vec<Grant>) {
    let previous = previous.map(|bundle| &bundle.credentials.usage_plans[..]).unwrap_or_default();
    let (mut credentials, mut grants) = (Credentials::default(), Vec::new());
    for world in worlds {
        let Credentials { all, secrets, usage_plans, ended } = lower_credentials(world, previous, report);
        credentials.all.extend(all);
        credentials.usage_plans.extend(usage_plans);
        credentials.ended.extend(ended);
        credentials.secrets.keep_from(&secrets);
        grants.extend(lower_grants(world, report));
    }
    credentials.all.sort_by(|a, b| a.key.cmp(&b.key));
    (credentials, grants)
}

type Hosts = BTreeMap<Host, Vec<(Rank, RouteEntry)>>;

/// The place where requests come in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entrance {
    part: Part,
    /// Over HTTPS.
    secure: bool,
}

struct Compiler<'w> {
    world: &'w World,
    report: Report,
    policies: Vec<Policy>,
    federations: Vec<Federation>,
    secrets: Secrets,
    /// The position of the policy whose sign-in endpoints are at a place: entrance, host, base path.
    endpoints: BTreeMap<(Entrance, Host, String), usize>,
    /// The position of the policy whose resource is described at a place: entrance, host, path.
    described: BTreeMap<(Entrance, Host, String), usize>,
    /// Whether a policy of the previous plan stays in force.
    keeps_previous: bool,
    /// Policies that cannot be enforced, with the message their requests are refused with.
    invalid: BTreeMap<ObjectKey, String>,
    rules: Vec<RouteRule>,
    /// The hosts of each entrance: a route that was attached to an HTTPS listener only is not served in the clear.
    hosts: BTreeMap<Entrance, Hosts>,
    certificates: Vec<(Part, ServerCertificate)>,
    /// The certificates that Gateways show to backends, by the name of the Gateway; `None` where it cannot be used.
    shown: BTreeMap<String, Option<(String, SecretHandle)>>,
    /// For each policy: rules it covers, and (rule, winner) where a more specific one came first.
    covered: BTreeMap<ObjectKey, (usize, Vec<(String, ObjectKey)>)>,
    /// The targets that each policy in shadow judges, and those that it cannot.
    judged: BTreeMap<ObjectKey, shadow::Judged>,
    /// The same for each rule under each listener.
    coverage: Vec<Coverage>,
    /// The position of the policy of routes that no policy covers, where a Gateway of ours forwards those.
    open: Option<usize>,
}

/// The Gateway API's order of precedence between matches; smaller serves first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    not_exact: bool,
    path_length: std::cmp::Reverse<usize>,
    no_method: bool,
    headers: std::cmp::Reverse<usize>,
    query: std::cmp::Reverse<usize>,
    place: Place,
    position: usize,
}

/// The rank of one object among those of its kind: the older comes first, then the alphabet.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    created: String,
    /// `namespace/name`.
    name: String,
}

impl<'w> Compiler<'w> {
    fn entrance(&self, gateway: &Gateway, secure: bool) -> Entrance {
        Entrance { part: self.world.part_of(gateway), secure }
    }

    /// The routing of one part, or of all.
    fn hosts(&self, secure: bool, part: Option<&Part>) -> Vec<VirtualHost> {
        let mut all = Hosts::new();
        let fits = |at: &Entrance| at.secure == secure && part.is_none_or(|part| at.part == *part);
        for (host, entries) in self.hosts.iter().filter(|(at, _)| fits(at)).flat_map(|(_, hosts)| hosts) {
            all.entry(host.clone()).or_default().extend(entries.iter().cloned());
        }
        sorted_hosts(all)
    }

    fn certificates(&self, part: Option<&Part>) -> Vec<ServerCertificate> {
        let of_part = self.certificates.iter().filter(|(of, _)| part.is_none_or(|part| of == part));
        of_part.map(|(_, certificate)| certificate.clone()).collect()
    }

    /// The parts of the namespace, cut out of its whole plan.
    fn parts(&self, whole: &Plan, ports: &BTreeMap<Part, ListenerPorts>) -> Vec<Arc<CompiledPart>> {
        if self.world.settings.layout == Layout::OneProcess {
            return Vec::new();
        }
        let cut = |part: Part| {
            let routing = PartRouting {
                hosts: self.hosts(false, Some(&part)),
                secure_hosts: self.hosts(true, Some(&part)),
                certificates: self.certificates(Some(&part)),
                ports: ports.get(&part).copied().unwrap_or_default(),
            };
            Arc::new(cut(self.world, part, routing, whole, &self.secrets))
        };
        self.world.parts().into_iter().map(cut).collect()
    }

    fn id(&self, kind: &str, name: &str) -> ObjectId {
        ObjectId::new(kind, &self.world.namespace, name)
    }

    /// The policies of a namespace, with its Federations.
    fn lower_policies(&mut self, world: &World, previous: Option<&Plan>) {
        let (federations, keeps) = lower_federations(world, previous, &mut self.secrets, &mut self.report);
        self.keeps_previous |= keeps;
        for object in &world.policies {
            let id = ObjectId::new("IdentityPolicy", &world.namespace, &object.meta.name);
            let mut notes = Notes::new(&mut self.report, id.clone());
            let lowered = lower_policy(world, &federations, object, &mut self.secrets, &mut notes);
            let lowered = lowered.filter(|policy| is_only_issuer(&self.policies, policy, &mut notes));
            self.keep(lowered, &object.meta.uid, &id, previous);
        }
        for broken in world.broken.iter().filter(|b| b.id.kind == "IdentityPolicy") {
            let id = ObjectId::new("IdentityPolicy", &world.namespace, &broken.meta.name);
            self.keep(None, &broken.meta.uid, &id, previous);
        }
        self.federations.extend(federations);
    }

    fn keep(&mut self, lowered: Option<Policy>, uid: &str, id: &ObjectId, previous: Option<&Plan>) {
        let ObjectId { namespace, name, .. } = id;
        if let Some(policy) = lowered {
            self.policies.push(policy);
        } else if let Some(last_good) = previous_policy(previous, uid) {
            self.policies.push(last_good.clone());
            self.keeps_previous = true;
            let message = format!("generation {} stays in force until the policy is valid again", last_good.generation);
            self.report.push(id, "", Condition::Programmed, Cause::InvalidKeptPrevious, message);
        } else {
            self.invalid.insert(ObjectKey::new(namespace, name), format!("IdentityPolicy '{name}' is not valid"));
        }
    }

    /// A policy that lets everyone pass stands for routes that no policy covers, where a Gateway's class forwards
    /// those: so their requests are decided and recorded like all others.
    fn add_open_policy(&mut self) {
        let mut gateways = self.world.our_gateways();
        if gateways.any(|gateway| self.world.classes.forwards_uncovered(gateway)) {
            let policy = open_policy(self.world);
            self.open = policy.is_some().then_some(self.policies.len());
            self.policies.extend(policy);
        }
    }

    /// Faults in the targets of another namespace's policies are reported there.
    fn settle_attachments<'a>(&mut self, worlds: impl Iterator<Item = &'a World>) -> Attachments {
        let world = self.world;
        let compiler = &*self;
        let candidates = worlds.flat_map(|world| {
            let namespace = world.namespace.as_str();
            let readable = world.policies.iter();
            let readable = readable.map(move |p| Candidate {
                namespace,
                meta: &p.meta,
                targets: &p.spec.target_refs,
                demands: p.spec.baseline.is_some(),
                shadow: compiler.is_in_shadow(namespace, p),
            });
            let broken = world.broken.iter().filter(|b| b.id.kind == "IdentityPolicy");
            readable.chain(broken.map(move |b| Candidate {
                namespace,
                meta: &b.meta,
                targets: &b.targets,
                demands: true,
                // One that cannot be read decides, unless its version in force does not.
                shadow: compiler.in_force(&ObjectKey::new(namespace, &b.meta.name)).is_some_and(|policy| policy.shadow),
            }))
        });
        let attachments = Attachments::settle(candidates.collect(), self.world.platform_namespace());
        for (loser, target, winner) in attachments.all_lost().filter(|(of, ..)| of.namespace == world.namespace) {
            let held = format!("{target} is already held by IdentityPolicy '{winner}', which is older");
            let (condition, cause, message) = if self.demands(loser) {
                let message = format!("{held}: of this policy only the baseline is in force there");
                (Condition::Programmed, Cause::PartiallyProgrammed, message)
            } else {
                let message = format!("{held}: attach to something more specific, or remove one");
                (Condition::Accepted, Cause::Conflicted, message)
            };
            let id = ObjectId::new("IdentityPolicy", &world.namespace, &loser.name);
            self.report.push(&id, "spec.targetRefs", condition, cause, message);
        }
        for policy in &world.policies {
            let id = self.id("IdentityPolicy", &policy.meta.name);
            for (i, reference) in policy.spec.target_refs.iter().enumerate() {
                let path = format!("spec.targetRefs[{i}]");
                match Target::of(reference) {
                    None => self.report.push(
                        &id,
                        path,
                        Condition::Accepted,
                        Cause::Invalid,
                        "target must be an HTTPRoute, GRPCRoute, Gateway or GatewayClass of group \
                         'gateway.networking.k8s.io', or a Service of group ''",
                    ),
                    Some(target) if !exists(world, &target) => {
                        self.report.push(&id, path, Condition::Accepted, Cause::TargetNotFound, missing(&target))
                    }
                    Some(_) => {}
                }
            }
            if policy.spec.target_refs.is_empty() {
                self.report.push(
                    &id,
                    "spec.targetRefs",
                    Condition::Accepted,
                    Cause::Invalid,
                    "at least one target must be given",
                );
            }
        }
        attachments
    }

    /// The routes of a namespace that our listeners take.
    ///
    /// Routes of other namespaces do not get the hosts `of_services`.
    fn lower_routes(
        &mut self,
        of: &World,
        listeners: &[Listener<'w>],
        all: &Attached<'_>,
        attachments: &Attachments,
        of_services: &BTreeSet<Host>,
    ) -> Vec<RouteStatus> {
        let mut statuses = Vec::new();
        let is_free = |host: &Host| !of.is_tenant || !of_services.contains(host);
        for route in &of.routes {
            let mut attached = Vec::new();
            let under = all.get(&(of.namespace.as_str(), route.kind(), route.name()));
            for Attachment { parent, taken } in under.into_iter().flatten() {
                let serving = taken.iter().flatten();
                let serving = serving.filter(|(listener, host)| {
                    listener.serves && is_free(host) && !is_isolated(listeners, listener, host)
                });
                attached.extend(serving.map(|(listener, host)| (*listener, host.clone())));
                if let Err(why) = taken {
                    let id = ObjectId::new(route.kind().name(), &of.namespace, &route.name());
                    let message = why.message(&parent.name);
                    self.report.push(&id, "spec.parentRefs", Condition::Accepted, why.cause(), message);
                }
                statuses.push(RouteStatus::new(&of.namespace, route, parent, taken.as_deref()));
            }
            self.lower_route(of, route, &attached, attachments);
        }
        statuses
    }

    fn lower_route(&mut self, of: &World, route: &Route, attached: &[(Listener<'_>, Host)], attachments: &Attachments) {
        let (kind, name) = (route.kind(), route.name());
        let id = ObjectId::new(kind.name(), &of.namespace, &name);
        let place = Place { created: route.created(), name: format!("{}/{name}", of.namespace) };
        // The gateway's own endpoints precede every route of its own namespace, and are a part of another's.
        let own = if of.is_tenant { place.clone() } else { Place::default() };
        for (i, rule) in route.rules().enumerate() {
            let path = format!("spec.rules[{i}]");
            let mut notes = Notes::new(&mut self.report, id.clone());
            let (matches, lowered) = lower_rule(of, &path, rule, &mut notes);
            let named = &rule.rule.name;
            for (Listener { gateway, spec: listener, .. }, host) in attached {
                let open = self.open.filter(|_| self.world.classes.forwards_uncovered(gateway));
                let of_route = |target| (of.namespace.clone(), target);
                let of_gateway = |target| (self.world.namespace.clone(), target);
                let mut targets: Vec<Placed> = Vec::new();
                let of_rule = |rule: &String| of_route(Target::RouteRule(kind, name.clone(), rule.clone()));
                targets.extend(named.as_ref().map(of_rule));
                targets.push(of_route(Target::Route(kind, name.clone())));
                targets.push(of_gateway(Target::Listener(gateway.name_any(), listener.name.clone())));
                targets.push(of_gateway(Target::Gateway(gateway.name_any())));
                targets.push(self.of_class(&gateway.spec.gateway_class_name));
                let (winner, _) = attachments.covering(&targets);
                let lowered = lowered.clone().map(|rule| self.show_certificate(&gateway.name_any(), rule));
                let lowered = lowered.filter(|rule| !self.copies_keys(rule, winner, &path, &id));
                let covered = Covered::Rule {
                    kind,
                    route: ObjectKey::new(&of.namespace, &name),
                    position: i,
                    name: named.clone(),
                    gateway: gateway.name_any(),
                    listener: listener.name.clone(),
                };
                let rule = self.push_rule(covered, lowered.as_ref(), listener.port, attachments, &targets, open);
                let at = self.entrance(gateway, is_secure(listener));
                self.push_endpoints(rule, &at, host, &own);
                self.push_sign_in_endpoints(rule, &at, host, &own);
                self.push_resource_metadata(rule, &at, host, &matches, &own);
                for (j, found) in matches.iter().enumerate() {
                    self.push_entry(&at, host.clone(), found, rule, &place, i * 64 + j);
                }
            }
        }
    }

    /// A GatewayClass as a target: of the policies of the platform.
    fn of_class(&self, class: &str) -> Placed {
        (self.world.platform_namespace().to_owned(), Target::GatewayClass(class.to_owned()))
    }

    /// Takes the certificates that our Gateways show to backends.
    fn show_certificates(&mut self) {
        for gateway in self.world.our_gateways() {
            let tls = gateway.spec.tls.as_ref().and_then(|tls| tls.backend.as_ref());
            let Some(reference) = tls.and_then(|backend| backend.client_certificate_ref.as_ref()) else { continue };
            let mut notes =
                Notes::new(&mut self.report, ObjectId::new("Gateway", &self.world.namespace, &gateway.name_any()));
            let certificate = lower_shown(self.world, reference, &mut self.secrets, &mut notes);
            self.shown.insert(gateway.name_any(), certificate);
        }
    }

    /// The rule with the certificate that its Gateway shows to backends. Without it nothing is sent to those with TLS.
    fn show_certificate(&self, gateway: &str, mut rule: LoweredRule) -> LoweredRule {
        let Some(certificate) = self.shown.get(gateway) else { return rule };
        let show = |mut backend: Backend| {
            if let Some(tls) = &mut backend.tls {
                tls.settings.certificate = Some(certificate.clone()?);
            }
            Some(backend)
        };
        for backend in std::mem::take(&mut rule.backends) {
            let weight = u64::from(backend.weight);
            match show(backend) {
                Some(backend) => rule.backends.push(backend),
                None => rule.unresolved_weight += weight,
            }
        }
        let mirrors = std::mem::take(&mut rule.mirrors).into_iter();
        rule.mirrors = mirrors.filter_map(|mirror| Some(Mirror { backend: show(mirror.backend)?, ..mirror })).collect();
        rule
    }

    /// Whether a rule copies requests that carry the key of a language model's provider: then it is closed.
    fn copies_keys(&mut self, rule: &LoweredRule, winner: Option<&ObjectKey>, path: &str, id: &ObjectId) -> bool {
        let policy = winner.and_then(|winner| self.policies.iter().find(|policy| policy.key == *winner));
        let Some(policy) = policy.filter(|policy| policy.llm.is_some() && !rule.mirrors.is_empty()) else {
            return false;
        };
        let why = format!("IdentityPolicy '{}' signs requests for a language model: remove RequestMirror", policy.key);
        self.report.push(id, format!("{path}.filters"), Condition::Accepted, Cause::Invalid, why);
        true
    }

    /// Decides which policy covers the rule and adds it to the plan once.
    fn push_rule(
        &mut self,
        covered: Covered,
        lowered: Option<&LoweredRule>,
        port: i32,
        attachments: &Attachments,
        targets: &[Placed],
        open: Option<usize>,
    ) -> usize {
        let title = covered.to_string();
        let (winner, others) = attachments.covering(targets);
        if let Some(winner) = winner {
            self.covered.entry(winner.clone()).or_default().0 += 1;
            for loser in &others {
                self.covered.entry((*loser).clone()).or_default().1.push((title.clone(), winner.clone()));
            }
        }
        let (handler, baselines) = match self.baselines(attachments, targets) {
            Ok(baselines) => (self.handler(&title, winner, lowered, port, open), baselines),
            Err(detail) => (Handler::Refuse { reason: Reason::PolicyInvalid, detail }, Vec::new()),
        };
        let cors = lowered.and_then(|rule| rule.cors.clone());
        let shadows = self.shadows(&title, &handler, attachments, targets);
        let rule = self.add_rule(RouteRule { name: title, handler, cors, baselines, shadows });
        let inherited = attachments.holder_is_of_gateway(targets);
        let (policy, overridden) = (winner.cloned(), others.into_iter().cloned().collect());
        self.coverage.push(Coverage { covered, policy, inherited, overridden, rule });
        rule
    }

    fn handler(
        &self,
        title: &str,
        winner: Option<&ObjectKey>,
        lowered: Option<&LoweredRule>,
        port: i32,
        open: Option<usize>,
    ) -> Handler {
        match (winner, lowered, open) {
            (_, None, _) => Handler::Refuse {
                reason: Reason::RouteInvalid,
                detail: format!("{title} is not valid: read its status"),
            },
            (None, Some(rule), Some(open)) => enforce(open, rule, port),
            (None, Some(_), None) => {
                Handler::Refuse { reason: Reason::NoPolicy, detail: format!("no IdentityPolicy covers {title}") }
            }
            (Some(policy), Some(rule), _) => self.enforce_named(policy, rule, port),
        }
    }

    /// The positions of the policies whose baselines hold under these targets. An error says which of them is not in
    /// force: then nothing passes, because what it demands is not known.
    fn baselines(&self, attachments: &Attachments, targets: &[Placed]) -> Result<Vec<usize>, String> {
        let mut positions = Vec::new();
        for key in attachments.demanding(targets) {
            let found = self.policies.iter().enumerate().find(|(_, policy)| policy.key == *key);
            let missing = || format!("IdentityPolicy '{}' and its baseline are not in force", key.name);
            let (position, policy) = found.ok_or_else(missing)?;
            // One that became invalid is in force as it was, perhaps without a baseline.
            if policy.baseline.is_some() {
                positions.push(position);
            }
        }
        positions.sort_unstable();
        positions.dedup();
        Ok(positions)
    }

    /// The position of a rule in the plan, where it stands once.
    fn add_rule(&mut self, rule: RouteRule) -> usize {
        self.rules.iter().position(|other| *other == rule).unwrap_or_else(|| {
            self.rules.push(rule);
            self.rules.len() - 1
        })
    }

    fn enforce_named(&self, policy: &ObjectKey, rule: &LoweredRule, port: i32) -> Handler {
        match self.policies.iter().position(|p| p.key == *policy) {
            Some(position) => enforce(position, rule, port),
            None => {
                let detail = self
                    .invalid
                    .get(policy)
                    .cloned()
                    .unwrap_or_else(|| format!("IdentityPolicy '{}' is not in force", policy.name));
                Handler::Refuse { reason: Reason::PolicyInvalid, detail }
            }
        }
    }

    /// The policy of a rule that forwards, and the baselines that hold for it.
    fn policy_of(&self, rule: usize) -> Option<(usize, Vec<usize>)> {
        let rule = self.rules.get(rule)?;
        Some((rule.handler.route_policy()?, rule.baselines.clone()))
    }

    /// The endpoints of the token service of the rule's policy, on this host. They precede the route's own matches.
    fn push_endpoints(&mut self, rule: usize, at: &Entrance, host: &Host, place: &Place) {
        let Some((policy, baselines)) = self.policy_of(rule) else { return };
        let Some((key, service)) =
            self.policies.get(policy).and_then(|policy| Some((policy.key.clone(), policy.token_service.as_ref()?)))
        else {
            return;
        };
        let base = base_path(&service.issuer).unwrap_or_default();
        let endpoints =
            Endpoint::ALL.into_iter().filter(|endpoint| service.revokes || *endpoint != Endpoint::Revocation);
        let endpoints: Vec<_> = endpoints.map(|endpoint| (endpoint, endpoint.paths(&base))).collect();
        for (endpoint, paths) in endpoints {
            let handler = Handler::Issue { policy, endpoint };
            let name = format!("IdentityPolicy {key} token service: {}", endpoint.name());
            let rule = self.add_rule(RouteRule {
                name,
                handler,
                cors: None,
                baselines: baselines.clone(),
                shadows: Vec::new(),
            });
            for path in paths {
                let found = LoweredMatch::of_path(PathMatch::Exact(path));
                self.push_entry(at, host.clone(), &found, rule, place, 0);
            }
        }
    }

    /// The endpoints of the sign-in method of the rule's policy, on this host. Two policies may share them if they
    /// agree on every setting that these endpoints use.
    fn push_sign_in_endpoints(&mut self, rule: usize, at: &Entrance, host: &Host, place: &Place) {
        let Some((position, baselines)) = self.policy_of(rule) else { return };
        let Some(policy) = self.policies.get(position) else { return };
        let Some(method) = sign_in_of(policy) else { return };
        let (key, place_of) = (policy.key.clone(), (at.clone(), host.clone(), method.base.clone()));
        let holder = *self.endpoints.entry(place_of).or_insert(position);
        if holder != position {
            // Federations of one name are others in another namespace.
            let differs = |other: &&Policy| sign_in_of(other) != Some(method) || other.key.namespace != key.namespace;
            let other = self.policies.get(holder).filter(differs);
            if let Some(other) = other {
                let message = format!(
                    "its sign-in does not work: IdentityPolicy '{}' signs people in under the same `basePath` {} of \
                        the same host with other settings; give one of them another `basePath`",
                    other.key, method.base
                );
                let id = ObjectId::new("IdentityPolicy", &key.namespace, &key.name);
                if !self.report.about(&id).any(|finding| finding.message == message) {
                    self.report.push(
                        &id,
                        "spec.authentication.methods",
                        Condition::Programmed,
                        Cause::Conflicted,
                        message,
                    );
                }
            }
            return;
        }
        let common = SignInEndpoint::COMMON.iter().map(|endpoint| (*endpoint, None));
        let named = method.federations.iter().filter_map(|name| {
            let wanted = ObjectKey::new(&key.namespace, name);
            self.federations.iter().find(|federation| federation.key == wanted)
        });
        let of_each = named.flat_map(|federation| {
            SignInEndpoint::of(&federation.kind)
                .iter()
                .map(move |endpoint| (*endpoint, Some(federation.key.name.clone())))
        });
        let endpoints: Vec<_> = common
            .chain(of_each)
            .map(|(endpoint, name)| (endpoint, endpoint.path(&method.base, name.as_deref()), name))
            .collect();
        for (endpoint, path, federation) in endpoints {
            let of = federation.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
            let name = format!("IdentityPolicy {key} sign-in: {}{of}", endpoint.name());
            let handler = Handler::SignIn { policy: position, endpoint, federation };
            let rule = self.add_rule(RouteRule {
                name,
                handler,
                cors: None,
                baselines: baselines.clone(),
                shadows: Vec::new(),
            });
            let found = LoweredMatch::of_path(PathMatch::Exact(path));
            self.push_entry(at, host.clone(), &found, rule, place, 0);
        }
    }

    fn push_entry(
        &mut self,
        at: &Entrance,
        host: Host,
        found: &LoweredMatch,
        rule: usize,
        place: &Place,
        position: usize,
    ) {
        let LoweredMatch { path, method, headers, query, grpc } = found;
        let (not_exact, length) = match path {
            PathMatch::Exact(path) => (false, path.len()),
            PathMatch::Prefix(path) => (true, path.len()),
        };
        let rank = Rank {
            not_exact,
            path_length: std::cmp::Reverse(length),
            no_method: method.is_none(),
            headers: std::cmp::Reverse(headers.len()),
            query: std::cmp::Reverse(query.len()),
            place: place.clone(),
            position,
        };
        let (path, method, headers, query) = (path.clone(), method.clone(), headers.clone(), query.clone());
        let entry = RouteEntry { path, method, headers, query, grpc: *grpc, rule };
        let hosts = self.hosts.entry(at.clone()).or_default();
        hosts.entry(host).or_default().push((rank, entry));
    }

    /// A Service that a policy names is served under the names in-cluster clients use for it, and
    /// under the hostnames of its annotation.
    fn lower_services(&mut self, attachments: &Attachments) {
        let world = self.world;
        let names: BTreeSet<String> = attachments.services(&world.namespace).map(|(name, _)| name.to_owned()).collect();
        for name in names {
            let Some(service) = world.services.iter().find(|s| s.name_any() == name) else { continue };
            let ports: BTreeSet<Option<String>> = attachments
                .services(&world.namespace)
                .filter(|(s, _)| *s == name)
                .map(|(_, port)| port.map(str::to_owned))
                .collect();
            let all: Vec<_> = service.spec.iter().flat_map(|s| s.ports.iter().flatten()).collect();
            let named = ports.iter().find_map(Clone::clone);
            let id = self.id("Service", &name);
            let mut notes = Notes::new(&mut self.report, id);
            let several = all.len() > 1 && named.is_none() || ports.iter().flatten().count() > 1;
            let backend = if several {
                notes.fail(
                    "spec.ports",
                    Cause::UnsupportedValue,
                    "this Service has several ports: the policy's target must name one with `sectionName`",
                )
            } else {
                service_backend(
                    world,
                    "spec.ports",
                    service,
                    |p| named.is_none() || p.name == named,
                    RouteKind::Http,
                    &mut notes,
                )
            };
            let lowered = backend.map(|backend| LoweredRule::to(vec![backend]));
            let covered = Covered::Service(ObjectKey::new(&world.namespace, &name));
            let of_port = |port: Option<String>| (world.namespace.clone(), Target::Service(name.clone(), port));
            let mut targets: Vec<Placed> = ports.iter().flatten().map(|port| of_port(Some(port.clone()))).collect();
            targets.push(of_port(None));
            targets.extend(world.classes.names().map(|class| self.of_class(class)));
            let first = Place::default();
            let place = Place { name: format!("{}/{name}", world.namespace), ..Place::default() };
            let rule = self.push_rule(covered, lowered.as_ref(), 0, attachments, &targets, None);
            let everything = LoweredMatch::of_path(PathMatch::Prefix(String::new()));
            let encrypts = self.certificates.iter().any(|(part, _)| *part == Part::Shared);
            for host in self.service_hosts(service, &name) {
                for secure in [false, true].into_iter().filter(|secure| !secure || encrypts) {
                    let at = Entrance { part: Part::Shared, secure };
                    self.push_endpoints(rule, &at, &host, &first);
                    self.push_sign_in_endpoints(rule, &at, &host, &first);
                    self.push_resource_metadata(rule, &at, &host, std::slice::from_ref(&everything), &first);
                    self.push_entry(&at, host.clone(), &everything, rule, &place, 0);
                }
            }
        }
    }

    fn service_hosts(&mut self, service: &Service, name: &str) -> Vec<Host> {
        let mut hosts: Vec<Host> = service_names(name, &self.world.namespace).into_iter().map(Host::Exact).collect();
        for host in annotated_hosts(service) {
            match host {
                Ok(host) => hosts.push(host),
                Err(hostname) => {
                    let message = format!("'{hostname}' must be a hostname, `*.` and a domain, or `*`");
                    self.report.push(
                        &self.id("Service", name),
                        format!("metadata.annotations[{}]", idm_api::HOSTNAMES_ANNOTATION),
                        Condition::Accepted,
                        Cause::Invalid,
                        message,
                    );
                }
            }
        }
        hosts
    }

    /// The hosts under which Services of this namespace are served.
    fn hosts_of_services(&self, attachments: &Attachments) -> BTreeSet<Host> {
        let world = self.world;
        let names: BTreeSet<&str> = attachments.services(&world.namespace).map(|(name, _)| name).collect();
        let mut hosts: BTreeSet<Host> = BTreeSet::new();
        for name in names {
            hosts.extend(service_names(name, &world.namespace).into_iter().map(Host::Exact));
            let service = world.services.iter().find(|service| service.name_any() == name);
            hosts.extend(service.into_iter().flat_map(annotated_hosts).flatten());
        }
        hosts
    }

    fn report_overridden(&mut self) {
        // The fault of a policy that is not valid is said already.
        for (policy, (rules, overridden)) in
            self.covered.iter().filter(|(policy, _)| !self.invalid.contains_key(policy))
        {
            let Some((rule, winner)) = overridden.first() else { continue };
            let id = ObjectId::new("IdentityPolicy", &policy.namespace, &policy.name);
            let more =
                if overridden.len() > 1 { format!(" (and {} more)", overridden.len() - 1) } else { String::new() };
            let demands = self.demands(policy);
            let too = if demands { "; the baseline of this policy holds there, too" } else { "" };
            let message = format!("IdentityPolicy '{winner}' is more specific and holds {rule}{more}{too}");
            let cause = if *rules == 0 && !demands { Cause::Overridden } else { Cause::PartiallyProgrammed };
            self.report.push(&id, "", Condition::Programmed, cause, message);
        }
    }

    /// Whether a policy is in force and has a baseline.
    fn demands(&self, policy: &ObjectKey) -> bool {
        self.policies.iter().any(|of| of.key == *policy && of.baseline.is_some())
    }

    /// Each policy that covers rules of a Gateway with a baseline says so.
    fn report_baselines(&mut self) {
        let mut under: BTreeMap<&ObjectKey, BTreeSet<&ObjectKey>> = BTreeMap::new();
        for rule in &self.rules {
            let Some(policy) = rule.handler.route_policy().and_then(|policy| self.policies.get(policy)) else {
                continue;
            };
            let demanding = rule.baselines.iter().filter_map(|position| self.policies.get(*position));
            let others = demanding.map(|of| &of.key).filter(|key| **key != policy.key);
            under.entry(&policy.key).or_default().extend(others);
        }
        for (policy, demanding) in under.into_iter().filter(|(_, demanding)| !demanding.is_empty()) {
            let names: Vec<_> = demanding.iter().map(|key| format!("'{key}'")).collect();
            let message =
                format!("its callers must also meet the baseline of IdentityPolicy {}", names.join(" and of "));
            let id = ObjectId::new("IdentityPolicy", &policy.namespace, &policy.name);
            self.report.push(&id, "", Condition::Programmed, Cause::UnderBaseline, message);
        }
    }

    /// Policies keep the claims of tokens where a baseline or a policy in shadow asks for them.
    fn keep_claims(&mut self) {
        // The rules of a policy in shadow see the caller that an enforced one made.
        let asks = |policy: &Policy| {
            policy.baseline.as_ref().is_some_and(asks_for_claims) || policy.shadow && rules_ask_for_claims(policy)
        };
        let keeps = self.policies.iter().any(asks);
        self.policies.iter_mut().for_each(|policy| policy.keeps_claims = keeps);
    }

    /// The listeners of our Gateways that take routes, with their certificates.
    fn listeners(&mut self) -> (Vec<Listener<'w>>, BTreeMap<Part, ListenerPorts>) {
        self.show_certificates();
        let (mut listeners, ports) = accepted(self.world, &mut self.report);
        for listener in listeners.iter_mut().filter(|listener| is_secure(listener.spec)) {
            listener.serves = self.take_certificate(listener);
        }
        let weight = |host: &Host| match host {
            Host::Exact(_) => 0,
            Host::Below(domain) => usize::MAX - 1 - domain.len(),
            Host::Any => usize::MAX,
        };
        self.certificates.sort_by_key(|(_, certificate)| weight(&certificate.host));
        for (listener, host) in isolated_hosts(&listeners) {
            let at = self.entrance(listener.gateway, is_secure(listener.spec));
            self.hosts.entry(at).or_default().entry(host).or_default();
        }
        (listeners, ports)
    }

    fn take_certificate(&mut self, listener: &Listener<'w>) -> bool {
        let id = self.id("Gateway", &listener.gateway.name_any());
        let part = self.world.part_of(listener.gateway);
        let (path, listener) = (&format!("spec.listeners[{}]", listener.position), listener.spec);
        let mut notes = Notes::new(&mut self.report, id);
        let lowered = match host_of(listener) {
            Some(host) => lower_listener(self.world, path, listener, host, &mut self.secrets, &mut notes),
            None => notes.fail(
                format!("{path}.hostname"),
                Cause::UnsupportedListener,
                "the hostname must be a name, or `*.` and a domain",
            ),
        };
        let usable = lowered.is_some();
        self.certificates.extend(lowered.map(|certificate| (part, certificate)));
        usable
    }
}

/// Whether no policy of another namespace issues tokens under the same name: what is revoked there is revoked here.
fn is_only_issuer(others: &[Policy], policy: &Policy, notes: &mut Notes<'_>) -> bool {
    let Some(service) = &policy.token_service else { return true };
    let same = |other: &&Policy| other.token_service.as_ref().is_some_and(|other| other.issuer == service.issuer);
    let other = others.iter().filter(|other| other.key.namespace != policy.key.namespace).find(same);
    if let Some(other) = other {
        let message = format!("IdentityPolicy '{}' of the same gateway is this issuer already", other.key);
        notes.fail::<()>("spec.tokenService.issuer", Cause::Conflicted, message);
    }
    other.is_none()
}

/// The hostnames in a Service's annotation; an error is the text of one that is none.
fn annotated_hosts(service: &Service) -> impl Iterator<Item = Result<Host, &str>> {
    let annotation = service.annotations().get(idm_api::HOSTNAMES_ANNOTATION);
    let hostnames = annotation.into_iter().flat_map(|text| text.split(','));
    let hostnames = hostnames.map(str::trim).filter(|hostname| !hostname.is_empty());
    hostnames.map(|hostname| parse_host(hostname).ok_or(hostname))
}

fn missing(target: &Target) -> String {
    match target {
        Target::GatewayClass(_) => format!("{target} must exist and name this controller"),
        Target::Gateway(_) | Target::Listener(..) => {
            format!("{target} must exist in this namespace and be of a GatewayClass of this controller")
        }
        _ => format!("{target} must exist in this namespace"),
    }
}

fn enforce(policy: usize, rule: &LoweredRule, port: i32) -> Handler {
    // `cors` is read where the rule is added.
    let LoweredRule { backends, unresolved_weight, timeouts, headers, redirect, rewrite, answer, cors: _, mirrors } =
        rule.clone();
    match redirect {
        Some(redirect) => {
            let redirect = Redirect { listener_port: u16::try_from(port).unwrap_or_default(), ..redirect };
            Handler::Redirect { policy, redirect }
        }
        None => Handler::Enforce {
            policy,
            backends,
            unresolved_weight,
            timeouts,
            headers,
            rewrite,
            answer_headers: answer,
            mirrors,
        },
    }
}

/// Most specific host first: exact names, then domains with more labels, then everything.
fn sorted_hosts(hosts: Hosts) -> Vec<VirtualHost> {
    let mut sorted: Vec<VirtualHost> = Vec::with_capacity(hosts.len());
    for (host, mut ranked) in hosts {
        ranked.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut entries: Vec<RouteEntry> = Vec::with_capacity(ranked.len());
        for (_, entry) in ranked {
            if !entries.contains(&entry) {
                entries.push(entry);
            }
        }
        sorted.push(VirtualHost { host, entries });
    }
    let weight = |host: &Host| match host {
        Host::Exact(_) => 0,
        Host::Below(domain) => usize::MAX - 1 - domain.len(),
        Host::Any => usize::MAX,
    };
    sorted.sort_by_key(|v| weight(&v.host));
    sorted
}
