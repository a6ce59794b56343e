//! The headers that are reserved on each route, derived from the headers that the policies read and write.

use std::collections::BTreeSet;

use idm_plan::{HeaderEdit, HeaderMatch};
use idm_request::PolicyHeaders;

use crate::scrub::{Reserved, is_same};

/// The headers of all policies and routes of a plan.
pub(crate) struct UsedHeaders<'p> {
    policies: Vec<PolicyHeaders>,
    matched: Vec<&'p str>,
}

impl<'p> UsedHeaders<'p> {
    pub(crate) fn new(policies: Vec<PolicyHeaders>, matches: impl Iterator<Item = &'p HeaderMatch>) -> Self {
        let matched: BTreeSet<&str> = matches.map(|wanted| wanted.name.as_str()).collect();
        Self { policies, matched: matched.into_iter().collect() }
    }

    fn read(&self) -> impl Iterator<Item = &str> {
        self.policies.iter().flat_map(|policy| &policy.read.names).map(String::as_str)
    }

    fn written(&self) -> impl Iterator<Item = &str> {
        self.policies.iter().flat_map(|policy| &policy.written).map(String::as_str)
    }

    fn is_written(&self, name: &str) -> bool {
        self.written().any(|written| is_same(written, name))
    }

    /// Headers that no caller may send, removed before the route is known: also on the routes of other policies,
    /// because these may lead to an upstream that trusts the headers as written by the gateway.
    pub(crate) fn everywhere(&self) -> Reserved {
        Reserved::everywhere(self.written().filter(|name| !self.read().any(|read| is_same(read, name))))
    }

    /// Headers that stay in the request even if `Connection` lists them: those that some policy or route uses.
    pub(crate) fn used(&self) -> Reserved {
        Reserved::new(self.read().chain(self.written()).chain(self.matched.iter().copied()), std::iter::empty(), false)
    }

    /// Headers that callers of one rule may not send, beyond [`Self::everywhere`]: those that some policy writes and
    /// the rule's policy does not read, and every other spelling of those that its policy reads, its filters edit or
    /// routes match.
    pub(crate) fn of_rule(&self, policy: usize, edits: &[HeaderEdit]) -> Reserved {
        let nothing = PolicyHeaders::default();
        let PolicyHeaders { read, .. } = self.policies.get(policy).unwrap_or(&nothing);
        // A header that the policy reads is allowed only in the policy's spelling.
        let is_free = |name: &&str| !self.is_written(name) && !read.names.iter().any(|read| is_same(read, name));
        let others = edits.iter().map(edited).chain(self.matched.iter().copied()).filter(is_free);
        let kept = read.names.iter().map(String::as_str).chain(others);
        let written = self.written().filter(|name| self.read().any(|read| is_same(read, name)));
        Reserved::new(written, kept, read.any)
    }

    /// Whether a filter edits a header that the policy writes: the policy's value wins.
    pub(crate) fn is_written_by(&self, policy: usize, edit: &HeaderEdit) -> bool {
        let written = self.policies.get(policy).map(|policy| &policy.written);
        written.is_some_and(|written| written.iter().any(|name| is_same(name, edited(edit))))
    }
}

fn edited(edit: &HeaderEdit) -> &str {
    match edit {
        HeaderEdit::Set(name, _) | HeaderEdit::Add(name, _) | HeaderEdit::Remove(name) => name,
    }
}

#[cfg(test)]
mod tests {
    use idm_request::HeadersRead;

    use super::*;

    fn policy(read: &[&str], any: bool, written: &[&str]) -> PolicyHeaders {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        PolicyHeaders { read: HeadersRead { names: owned(read), any }, written: owned(written) }
    }

    #[test]
    fn a_header_comes_from_callers_only_where_the_policy_reads_it() {
        let wanted = HeaderMatch { name: "x-version".into(), value: "2".into() };
        let used = UsedHeaders::new(
            vec![policy(&["x-order"], false, &["x-order", "x-passport"]), policy(&[], false, &["x-user"])],
            std::iter::once(&wanted),
        );
        let everywhere = used.everywhere();
        assert!(everywhere.holds("x-passport") && everywhere.holds("x_user") && !everywhere.holds("x-order"));
        let (one, two) = (used.of_rule(0, &[]), used.of_rule(1, &[HeaderEdit::Add("x-edit".into(), "1".into())]));
        assert!(!one.holds("x-order") && one.holds("x_order") && two.holds("x-order") && two.holds("x.order"));
        assert!(one.holds("x_version") && !one.holds("x-version") && two.holds("x_edit") && !two.holds("x-edit"));
        for name in ["x-order", "x_order", "x-passport", "x-user", "x_version"] {
            assert!(used.used().holds(name), "{name}");
        }
        assert!(used.is_written_by(0, &HeaderEdit::Remove("x_passport".into())));
        assert!(!used.is_written_by(1, &HeaderEdit::Remove("x-passport".into())));
    }

    #[test]
    fn where_any_header_may_be_read_each_has_one_spelling() {
        let used = UsedHeaders::new(vec![policy(&[], true, &[])], std::iter::empty());
        assert!(used.of_rule(0, &[]).holds("x_anything") && !used.of_rule(0, &[]).holds("x-anything"));
    }
}
