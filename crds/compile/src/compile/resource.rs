//! The addresses at which a policy's protected resource is described.

use idm_plan::{Cors, Handler, Host, Names, Origins, PathMatch, Policy, RESOURCE_METADATA_PATH, RouteRule};
use idm_types::Reason;

use super::{Compiler, Entrance, Place};
use crate::lower::route::LoweredMatch;
use crate::{Cause, Condition, ObjectId};

impl Compiler<'_> {
    /// The description of the protected resource of the rule's policy, on this host. An identifier that was written
    /// down has one address; else each match of the rule has one, and a request for it finds the rule that a request
    /// for the resource itself would find.
    pub(super) fn push_resource_metadata(
        &mut self,
        rule: usize,
        at: &Entrance,
        host: &Host,
        matches: &[LoweredMatch],
        place: &Place,
    ) {
        let Some((position, baselines)) = self.policy_of(rule) else { return };
        let Some(policy) = self.policies.get(position) else { return };
        let (key, Some(resource)) = (policy.key.clone(), &policy.resource) else { return };
        let mut paths: Vec<PathMatch> = match &resource.identifier {
            Some(identifier) => vec![PathMatch::Exact(format!("{RESOURCE_METADATA_PATH}{}", identifier.path))],
            None => matches.iter().map(|found| described_at(&found.path)).collect(),
        };
        paths.dedup();
        let name = format!("IdentityPolicy {key} resource metadata");
        let handler = Handler::ResourceMetadata { policy: position };
        let rule =
            self.add_rule(RouteRule { name, handler, cors: Some(for_every_page()), baselines, shadows: Vec::new() });
        for path in paths {
            let holder = *self.described.entry((at.clone(), host.clone(), path_text(&path))).or_insert(position);
            if let Some(other) = self.policies.get(holder).filter(|_| holder != position) {
                let message = described_by(other, &path);
                let id = ObjectId::new("IdentityPolicy", &key.namespace, &key.name);
                if !self.report.about(&id).any(|finding| finding.message == message) {
                    self.report.push(&id, "spec.resource", Condition::Programmed, Cause::Conflicted, message);
                }
                continue;
            }
            let found = LoweredMatch::of_path(path);
            self.push_entry(at, host.clone(), &found, rule, place, 0);
        }
    }
}

impl Compiler<'_> {
    /// Below a path whose resource is described, a longer path may have a policy that describes nothing: its address
    /// must not be answered with the description of the shorter one.
    pub(super) fn refuse_undescribed(&mut self) {
        let describes = |rule: usize| {
            matches!(self.rules.get(rule), Some(RouteRule { handler: Handler::ResourceMetadata { .. }, .. }))
        };
        let is_own = |rule: usize| {
            let handler = self.rules.get(rule).map(|rule| &rule.handler);
            matches!(handler, Some(Handler::Issue { .. } | Handler::SignIn { .. } | Handler::ResourceMetadata { .. }))
        };
        let mut undescribed = Vec::new();
        for (at, hosts) in &self.hosts {
            for (host, entries) in hosts {
                let (described, others): (Vec<_>, Vec<_>) =
                    entries.iter().map(|(_, entry)| entry).partition(|entry| describes(entry.rule));
                for entry in others.into_iter().filter(|entry| !is_own(entry.rule)) {
                    let path = described_at(&entry.path);
                    let is_there = described.iter().any(|entry| entry.path == path);
                    if !is_there && described.iter().any(|entry| covers(&entry.path, &path)) {
                        undescribed.push((at.clone(), host.clone(), path));
                    }
                }
            }
        }
        for (at, host, path) in undescribed {
            let detail = "the policy of this path does not describe a protected resource".to_owned();
            let handler = Handler::Refuse { reason: Reason::NoRoute, detail };
            let rule = self.add_rule(RouteRule {
                name: "resource metadata".into(),
                handler,
                cors: None,
                baselines: Vec::new(),
                shadows: Vec::new(),
            });
            let found = LoweredMatch::of_path(path);
            self.push_entry(&at, host, &found, rule, &Place::default(), 0);
        }
    }
}

/// Whether a match takes all that the other one takes.
fn covers(wider: &PathMatch, other: &PathMatch) -> bool {
    let (PathMatch::Prefix(prefix), PathMatch::Exact(path) | PathMatch::Prefix(path)) = (wider, other) else {
        return false;
    };
    path.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The match of the description's address for the match of a route.
fn described_at(path: &PathMatch) -> PathMatch {
    match path {
        // The slash after a host is left out (RFC 9728 §3.1).
        PathMatch::Exact(path) if path == "/" => PathMatch::Exact(RESOURCE_METADATA_PATH.to_owned()),
        PathMatch::Exact(path) => PathMatch::Exact(format!("{RESOURCE_METADATA_PATH}{path}")),
        PathMatch::Prefix(path) => PathMatch::Prefix(format!("{RESOURCE_METADATA_PATH}{path}")),
    }
}

fn path_text(path: &PathMatch) -> String {
    match path {
        PathMatch::Exact(path) => format!("={path}"),
        PathMatch::Prefix(path) => path.clone(),
    }
}

fn described_by(other: &Policy, path: &PathMatch) -> String {
    let (PathMatch::Exact(path) | PathMatch::Prefix(path)) = path;
    format!(
        "its resource is not described at {path}: IdentityPolicy '{}' describes another one there; give one of them \
         another path or `identifier`",
        other.key
    )
}

/// The description is the same for everyone, and pages of any origin may read it.
fn for_every_page() -> Cors {
    let none = || Names::Listed(vec![]);
    Cors { origins: Origins::Any, methods: none(), headers: Names::Any, exposed: none(), max_age_seconds: 3600 }
}
