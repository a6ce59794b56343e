//! Where, how and when callers may use their credentials. Asked for every request: no verdict on a credential says it.

use std::net::IpAddr;

use idm_limit::{WeekHours, Zone};
use idm_plan::{Access, Hours, ModelList, Network, read_path};
use idm_request::RequestView;
use idm_types::{Reason, Refusal, Timestamp};

/// Restrictions with the rules of their time zones.
pub struct ArmedAccess {
    plan: Access,
    hours: Vec<WeekHours>,
}

/// The use of a credential.
#[derive(Clone, Copy)]
pub enum Use<'r> {
    /// A request for a policy's targets.
    Request(RequestView<'r>),
    /// A token is asked for, whose use is checked itself.
    Token(RequestView<'r>),
}

impl Use<'_> {
    fn address(&self) -> IpAddr {
        match self {
            Use::Request(view) | Use::Token(view) => view.address,
        }
    }
}

impl ArmedAccess {
    /// Arms restrictions. The error names a time zone that this version does not know.
    pub fn arm(plan: &Access) -> Result<Self, String> {
        let arm = |Hours { days, from, to, zone }: &Hours| {
            let known = Zone::named(zone).ok_or_else(|| format!("the time zone `{zone}` is not known"))?;
            WeekHours::new(*days, *from, *to, known).ok_or_else(|| "hours that are none of a day".to_owned())
        };
        Ok(Self { plan: plan.clone(), hours: plan.hours.iter().map(arm).collect::<Result<_, String>>()? })
    }

    /// Whether it restricts nothing.
    pub fn is_open(&self) -> bool {
        self.plan.is_open()
    }

    /// The language models that it may be used for.
    pub(crate) fn models(&self) -> &ModelList {
        &self.plan.models
    }

    /// Checks one use; `whose` names the object that restricts.
    pub fn check(&self, of: Use<'_>, policy: &str, whose: &dyn Fn() -> String, now: Timestamp) -> Result<(), Refusal> {
        let Access { policies, except_policies, addresses, except_addresses, .. } = &self.plan;
        let refused = |reason, what: String| Err(Refusal::new(reason, format!("{}: {what}", whose())));
        let is_listed = policies.as_ref().is_none_or(|only| only.iter().any(|name| name == policy));
        if !is_listed || except_policies.iter().any(|name| name == policy) {
            let only = policies.as_ref().map(|only| format!("it may be used with {}; ", only.join(", ")));
            return refused(
                Reason::CredentialNotAllowedHere,
                format!("{}this is `{policy}`", only.unwrap_or_default()),
            );
        }
        let address = of.address();
        let within = |networks: &[Network]| networks.iter().any(|network| network.contains(address));
        if !addresses.is_empty() && !within(addresses) || within(except_addresses) {
            return refused(Reason::OutsideAddresses, format!("it may not be used from {address}"));
        }
        self.check_hours(whose, now)?;
        match of {
            Use::Request(view) => self.check_request(view, whose),
            Use::Token(_) => Ok(()),
        }
    }

    fn check_hours(&self, whose: &dyn Fn() -> String, now: Timestamp) -> Result<(), Refusal> {
        let us = now.0.saturating_mul(1000);
        if self.hours.is_empty() || self.hours.iter().any(|hours| hours.contain(us)) {
            return Ok(());
        }
        let next = self.hours.iter().filter_map(|hours| hours.next(us)).min();
        let detail = format!("{}: it may not be used at {}", whose(), now.rfc3339());
        let seconds = next.map(|next| (next - us).div_ceil(1_000_000).max(1));
        Err(Refusal::new(Reason::OutsideHours, detail).retry_after(seconds))
    }

    fn check_request(&self, view: RequestView<'_>, whose: &dyn Fn() -> String) -> Result<(), Refusal> {
        let Access { methods, except_methods, paths, except_paths, .. } = &self.plan;
        let refused = |reason, what: String| Err(Refusal::new(reason, format!("{}: {what}", whose())));
        let is_in = |list: &[String]| list.iter().any(|method| method == view.method);
        if !methods.is_empty() && !is_in(methods) || is_in(except_methods) {
            return refused(Reason::OutsideMethods, format!("it may not be used for {}", view.method));
        }
        if paths.is_empty() && except_paths.is_empty() {
            return Ok(());
        }
        // A path that servers may read in several ways must be allowed in all of them.
        for path in readings(view.path) {
            let within = |list: &[String]| list.iter().any(|prefix| is_beneath(&path, prefix));
            if !paths.is_empty() && !within(paths) || within(except_paths) {
                return refused(Reason::OutsidePaths, "it may not be used for this path".into());
            }
        }
        Ok(())
    }
}

/// The path, and what servers may make of it that decode it first or take several slashes for one.
fn readings(path: &str) -> Vec<String> {
    let mut all = vec![path.to_owned()];
    if path.contains('%') {
        let others = read_path(path).ok().and_then(|read| read.other_readings().ok());
        all.extend(others.into_iter().flatten());
    }
    let merged = |path: &String| {
        let mut merged = path.clone();
        while merged.contains("//") {
            merged = merged.replace("//", "/");
        }
        merged
    };
    let without: Vec<String> = all.iter().filter(|path| path.contains("//")).map(merged).collect();
    all.extend(without);
    all
}

/// Whether a path is this one or beneath it.
fn is_beneath(path: &str, prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests;
