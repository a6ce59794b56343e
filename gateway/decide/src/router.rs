//! Finds the rule for a host, path, method, headers and query.

use std::collections::HashMap;

use http::{HeaderMap, Method};
use idm_plan::{Host, PathMatch, RouteEntry, VirtualHost};

use crate::grpc::is_grpc;
use crate::query::{Fit, Query};

/// The plan's virtual hosts, indexed so that the cost does not grow with the number of routes.
#[derive(Debug, Default)]
pub(crate) struct Router {
    exact: HashMap<String, Table>,
    below: HashMap<String, Table>,
    any: Option<Table>,
}

/// The entries of one host.
#[derive(Debug, Default)]
struct Table {
    exact: HashMap<String, Vec<RouteEntry>>,
    /// The length of the longest of them: a longer path is not hashed.
    longest: usize,
    /// The prefixes, one level for each segment.
    prefixes: Node,
    /// The number of segments of the longest prefix.
    depth: usize,
}

/// The prefixes that begin with the same segments.
#[derive(Debug, Default)]
struct Node {
    /// The entries whose prefix ends here.
    entries: Vec<RouteEntry>,
    /// By the next segment.
    children: HashMap<String, Node>,
}

/// The parts of a request that entries match, beside host and path.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'r, 'q> {
    pub(crate) method: &'r Method,
    pub(crate) headers: &'r HeaderMap,
    pub(crate) query: &'r Query<'q>,
}

/// The query leads to this entry under one reading, and to another rule under another.
#[derive(Debug, PartialEq)]
pub(crate) struct Ambiguous<'e>(pub(crate) &'e RouteEntry);

/// The result of a search, whose entries come in the order of precedence.
#[derive(Clone, Copy, Default)]
struct Found<'e> {
    /// The first that fits under every reading.
    entry: Option<&'e RouteEntry>,
    /// The first before it that fits under some readings.
    perhaps: Option<&'e RouteEntry>,
    /// There are several of these, of several rules.
    torn: bool,
}

impl<'e> Found<'e> {
    /// With what was found further down in the order of precedence.
    fn or(self, lower: Self) -> Self {
        if self.entry.is_some() {
            return self;
        }
        let differs = |(a, b): (&RouteEntry, &RouteEntry)| a.rule != b.rule;
        Self {
            entry: lower.entry,
            perhaps: self.perhaps.or(lower.perhaps),
            torn: self.torn || lower.torn || self.perhaps.zip(lower.perhaps).is_some_and(differs),
        }
    }

    fn settle(self) -> Result<Option<&'e RouteEntry>, Ambiguous<'e>> {
        match self.perhaps {
            Some(perhaps) if self.torn || self.entry.is_none_or(|entry| entry.rule != perhaps.rule) => {
                Err(Ambiguous(perhaps))
            }
            _ => Ok(self.entry),
        }
    }
}

impl Router {
    pub(crate) fn new(hosts: &[VirtualHost]) -> Self {
        let mut router = Self::default();
        for VirtualHost { host, entries } in hosts {
            let table = Table::new(entries);
            match host {
                Host::Exact(name) => drop(router.exact.insert(name.clone(), table)),
                Host::Below(domain) => drop(router.below.insert(domain.clone(), table)),
                Host::Any => router.any = Some(table),
            }
        }
        router
    }

    /// The entry that serves the request. Only the most specific host is consulted: a route of a wider host must not
    /// serve a request that the narrower host does not serve. An upstream must not read the query as one of another
    /// rule.
    pub(crate) fn find(
        &self,
        host: &str,
        path: &str,
        asked: Asked<'_, '_>,
    ) -> Result<Option<&RouteEntry>, Ambiguous<'_>> {
        self.table(host).map_or(Ok(None), |table| table.find(path, asked).settle())
    }

    fn table(&self, host: &str) -> Option<&Table> {
        if let Some(table) = self.exact.get(host) {
            return Some(table);
        }
        if !self.below.is_empty() {
            let mut rest = host;
            while let Some((_, domain)) = rest.split_once('.') {
                if let Some(table) = self.below.get(domain) {
                    return Some(table);
                }
                rest = domain;
            }
        }
        self.any.as_ref()
    }
}

impl Table {
    /// Entries come in the order of precedence: exact paths first, then longer prefixes before shorter
    /// ones; asking the index in that order gives the same answer as trying them one by one.
    fn new(entries: &[RouteEntry]) -> Self {
        let mut table = Self::default();
        for entry in entries {
            match &entry.path {
                PathMatch::Exact(path) => {
                    table.longest = table.longest.max(path.len());
                    table.exact.entry(path.clone()).or_default().push(entry.clone());
                }
                PathMatch::Prefix(path) => {
                    let mut node = &mut table.prefixes;
                    let mut depth = 0;
                    for segment in segments(path) {
                        node = node.children.entry(segment.to_owned()).or_default();
                        depth += 1;
                    }
                    node.entries.push(entry.clone());
                    table.depth = table.depth.max(depth);
                }
            }
        }
        table
    }

    /// The path is read once: its cost is linear in the path, and bounded by the plan's deepest prefix.
    fn find(&self, path: &str, asked: Asked<'_, '_>) -> Found<'_> {
        let exact = if path.len() <= self.longest { self.exact.get(path) } else { None };
        let exact = exact.map(|entries| fitting(entries, asked)).unwrap_or_default();
        if exact.entry.is_some() {
            return exact;
        }
        let mut node = &self.prefixes;
        let mut found = fitting(&node.entries, asked);
        for segment in segments(path).take(self.depth) {
            let Some(child) = node.children.get(segment) else { break };
            node = child;
            // A longer prefix wins over a shorter one.
            found = fitting(&node.entries, asked).or(found);
        }
        exact.or(found)
    }
}

/// The segments of a path or prefix; one slash at its end is ignored.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    let path = path.strip_suffix('/').unwrap_or(path);
    path.strip_prefix('/').into_iter().flat_map(|path| path.split('/'))
}

fn fitting<'e>(entries: &'e [RouteEntry], asked: Asked<'_, '_>) -> Found<'e> {
    let mut found = Found::default();
    for entry in entries {
        match fit(entry, asked) {
            Fit::Yes => return found.or(Found { entry: Some(entry), ..Found::default() }),
            Fit::Perhaps => found = found.or(Found { perhaps: Some(entry), ..Found::default() }),
            Fit::No => {}
        }
    }
    found
}

fn fit(entry: &RouteEntry, asked: Asked<'_, '_>) -> Fit {
    let Asked { method, headers, query } = asked;
    let fits = entry.method.as_deref().is_none_or(|wanted| wanted == method.as_str())
        && (!entry.grpc || is_grpc(headers))
        && entry.headers.iter().all(|wanted| {
            let mut values = headers.get_all(&wanted.name).iter();
            // A repeated header has no single value.
            matches!((values.next(), values.next()), (Some(value), None) if value.as_bytes() == wanted.value.as_bytes())
        });
    if !fits {
        return Fit::No;
    }
    entry.query.iter().map(|wanted| query.fit(wanted)).min().unwrap_or(Fit::Yes)
}

#[cfg(test)]
mod tests {
    use idm_plan::{HeaderMatch, QueryMatch};
    use proptest::prelude::*;

    use super::*;

    fn entry(path: PathMatch, method: Option<&str>, rule: usize) -> RouteEntry {
        RouteEntry { path, method: method.map(str::to_owned), headers: vec![], query: vec![], grpc: false, rule }
    }

    /// The rule that serves a GET.
    fn rule(table: &Table, path: &str, headers: &HeaderMap) -> Option<usize> {
        let asked = Asked { method: &Method::GET, headers, query: &Query::new(None) };
        table.find(path, asked).settle().expect("no rule asks for a query").map(|entry| entry.rule)
    }

    #[test]
    fn prefixes_end_at_segments() {
        let table = Table::new(&[entry(PathMatch::Prefix("/a".into()), None, 1)]);
        let find = |path| rule(&table, path, &HeaderMap::new());
        assert_eq!(
            (find("/a"), find("/a/"), find("/a/b"), find("/ab"), find("/")),
            (Some(1), Some(1), Some(1), None, None)
        );
    }

    #[test]
    fn the_most_specific_host_alone_is_asked() {
        let vhost = |host, rule| VirtualHost { host, entries: vec![entry(PathMatch::Prefix("/x".into()), None, rule)] };
        let everything =
            VirtualHost { host: Host::Any, entries: vec![entry(PathMatch::Prefix(String::new()), None, 3)] };
        let router = Router::new(&[
            vhost(Host::Exact("a.example".into()), 1),
            vhost(Host::Below("example".into()), 2),
            everything,
        ]);
        let find = |host, path| rule(router.table(host)?, path, &HeaderMap::new());
        assert_eq!(
            (find("a.example", "/x"), find("a.example", "/y"), find("b.example", "/x"), find("b.c.example", "/x")),
            (Some(1), None, Some(2), Some(2))
        );
        assert_eq!((find("example", "/x"), find("other", "/y")), (Some(3), Some(3)));
    }

    /// The number of steps does not depend on how long the path is beyond the deepest prefix.
    #[test]
    fn a_path_of_many_segments_is_read_no_further_than_the_deepest_prefix() {
        let table = Table::new(&[entry(PathMatch::Prefix("/a/a".into()), None, 1)]);
        assert_eq!(table.depth, 2);
        let long = "/a".repeat(31_000);
        assert_eq!(rule(&table, &long, &HeaderMap::new()), Some(1));
        assert_eq!(rule(&table, &format!("/b{long}"), &HeaderMap::new()), None);
    }

    #[test]
    fn a_literal_is_never_a_pattern() {
        let table = Table::new(&[entry(PathMatch::Exact("/a.b*".into()), None, 1)]);
        assert_eq!(rule(&table, "/axb", &HeaderMap::new()), None);
    }

    #[test]
    fn a_repeated_header_matches_nothing() {
        let wanted = RouteEntry {
            headers: vec![HeaderMatch { name: "x-v".into(), value: "2".into() }],
            ..entry(PathMatch::Prefix(String::new()), None, 1)
        };
        let table = Table::new(&[wanted]);
        let mut headers = HeaderMap::new();
        headers.append("x-v", "2".parse().unwrap());
        assert_eq!(rule(&table, "/", &headers), Some(1));
        headers.append("x-v", "1".parse().unwrap());
        assert_eq!(rule(&table, "/", &headers), None);
    }

    #[test]
    fn a_query_that_another_rule_could_read_finds_none() {
        let of = |path: &str, value: Option<&str>, rule| RouteEntry {
            query: value.map(|value| QueryMatch { name: "m".into(), value: value.into() }).into_iter().collect(),
            ..entry(PathMatch::Prefix(path.into()), None, rule)
        };
        let table = Table::new(&[
            of("/p", Some("a"), 1),
            of("/p", Some("b"), 2),
            of("/p", Some("c"), 1),
            of("", Some("d"), 3),
            of("", None, 4),
        ]);
        let find = |path, query| {
            let asked = Asked { method: &Method::GET, headers: &HeaderMap::new(), query: &Query::new(Some(query)) };
            table.find(path, asked).settle().map(|found| found.map(|entry| entry.rule)).map_err(|of| of.0.rule)
        };
        assert_eq!((find("/p", "m=a"), find("/p", "m=b"), find("/p", "m=d")), (Ok(Some(1)), Ok(Some(2)), Ok(Some(3))));
        // Both values are of one rule, but without the parameter another would serve.
        assert_eq!((find("/p", "m=a&m=b"), find("/p", "m=a&m=c"), find("/p", "m=d&m=e")), (Err(1), Err(1), Err(3)));
        assert_eq!(
            (find("/p", "m=x&m=y"), find("/q", "m=a&m=b"), find("/p", "x;m=b")),
            (Ok(Some(4)), Ok(Some(4)), Err(2))
        );
        let same = Table::new(&[of("", Some("a"), 1), of("", None, 1)]);
        let asked = Asked { method: &Method::GET, headers: &HeaderMap::new(), query: &Query::new(Some("m=a&m=b")) };
        assert_eq!(same.find("/", asked).settle().map(|found| found.map(|entry| entry.rule)), Ok(Some(1)));
    }

    proptest! {
        /// The index agrees with trying the entries one by one in the order of precedence.
        #[test]
        fn the_index_agrees_with_a_linear_search(
            paths in prop::collection::vec(("(/[ab]){0,3}", any::<bool>(), prop::option::of("GET|POST")), 0..12),
            asked in "(/[ab]){1,4}/?",
        ) {
            let mut entries: Vec<_> = paths.iter().enumerate().map(|(i, (path, exact, method))| {
                let exact = *exact && !path.is_empty();
                let path = if exact { PathMatch::Exact(path.clone()) } else { PathMatch::Prefix(path.clone()) };
                entry(path, method.as_deref(), i)
            }).collect();
            entries.sort_by_key(|e| match &e.path {
                PathMatch::Exact(p) => (0, std::cmp::Reverse(p.len())),
                PathMatch::Prefix(p) => (1, std::cmp::Reverse(p.len())),
            });
            let asked_for = Asked { method: &Method::GET, headers: &HeaderMap::new(), query: &Query::new(None) };
            let slow = entries.iter().find(|e| fit(e, asked_for) == Fit::Yes && match &e.path {
                PathMatch::Exact(p) => *p == asked,
                PathMatch::Prefix(p) => {
                    asked.strip_prefix(p.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                }
            }).map(|e| e.rule);
            let found = rule(&Table::new(&entries), &asked, &HeaderMap::new());
            prop_assert_eq!(found, slow);
        }
    }
}
