//! Paths that not every server reads alike: taken where the policy says so, and where every reading finds the same
//! rule.

use idm_plan::{PathError, PathForms, ReadPath};
use idm_types::{Reason, Refusal};

/// Refuses a path with a form that is not among `taken`, and one for which `same` says that an upstream that reads it
/// otherwise would be asked for something of another rule: what another policy protects must not be reached by a
/// spelling.
pub(crate) fn check(path: &ReadPath<'_>, taken: PathForms, same: impl Fn(&str) -> bool) -> Result<(), Refusal> {
    let refused = |why: String| Err(Refusal::new(Reason::AmbiguousPath, why));
    if let Some(form) = path.forms.first_outside(taken) {
        return refused(format!("the path has {form}, which is taken only with `paths.allow: [{}]`", form.name()));
    }
    let readings = match path.other_readings() {
        Ok(readings) => readings,
        Err(PathError::EmptySegment) => return refused("the path has an empty segment beside an escaped `/`".into()),
        Err(_) => return refused("the path has `.` or `..` beside an escaped character".into()),
    };
    match readings.iter().find(|reading| !same(reading)) {
        None => Ok(()),
        Some(other) => refused(format!("a server could read the path as `{other}`, which is of another rule")),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};
    use idm_plan::{Host, PathForm, PathMatch, RouteEntry, VirtualHost, read_path};
    use proptest::prelude::*;

    use super::*;
    use crate::query::Query;
    use crate::router::{Asked, Router};

    /// The paths that servers see which split, decode and cut in this order or another.
    fn servers(path: &str) -> Vec<Vec<String>> {
        let decode = |text: &str| {
            let mut out = Vec::new();
            let bytes = text.as_bytes();
            let mut at = 0;
            while at < bytes.len() {
                let escape = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
                match escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                    Some(value) => (out.push(value), at += 3).1,
                    None => (out.push(bytes[at]), at += 1).1,
                }
            }
            String::from_utf8_lossy(&out).into_owned()
        };
        let cut = |text: &str| text.split(['?', '#']).next().unwrap_or_default().to_owned();
        let (once, twice) = (decode(path), decode(&decode(path)));
        let split = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
        let late: Vec<String> = path.split('/').map(decode).collect();
        vec![late, split(&once), split(&cut(&once)), split(&twice), split(&cut(&twice))]
    }

    /// The rule that a server with these rules would apply, by segments.
    fn applied(prefixes: &[Vec<String>], segments: &[String]) -> Option<usize> {
        let trimmed: Vec<&String> = segments.iter().filter(|segment| !segment.is_empty()).collect();
        let fits = |prefix: &&(usize, &Vec<String>)| {
            prefix.1.len() <= trimmed.len() && prefix.1.iter().zip(&trimmed).all(|(a, b)| a == *b)
        };
        let all: Vec<(usize, &Vec<String>)> = prefixes.iter().enumerate().collect();
        all.iter().filter(fits).max_by_key(|(at, prefix)| (prefix.len(), std::cmp::Reverse(*at))).map(|(at, _)| *at)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        /// Whatever a server makes of a path that was taken, it is of the rule that decided.
        #[test]
        fn a_path_that_is_taken_is_of_one_rule_however_it_is_read(
            rules in prop::collection::vec(prop::collection::vec("[ab]", 0..3), 1..5),
            parts in prop::collection::vec(prop::sample::select(vec![
                "/", "/", "a", "b", "%2F", "%2f", "%25", "2F", "2f", "%252F", "%3F", "%23", ".", "..", "//", "%61",
                "61", "%32", "%2e", ";x", "%5C",
            ]), 0..9),
        ) {
            let entry = |(rule, prefix): (usize, &Vec<String>)| {
                let path: String = prefix.iter().map(|segment| format!("/{segment}")).collect();
                let path = PathMatch::Prefix(path);
                RouteEntry { path, method: None, headers: vec![], query: vec![], grpc: false, rule }
            };
            let entries = rules.iter().enumerate().map(entry).collect();
            let router = Router::new(&[VirtualHost { host: Host::Any, entries }]);
            let (query, headers) = (Query::new(None), HeaderMap::new());
            let asked_for = Asked { method: &Method::GET, headers: &headers, query: &query };
            let find = |path: &str| router.find("h", path, asked_for).ok().flatten().map(|entry| entry.rule);
            let asked = format!("/{}", parts.concat());
            let Ok(read) = read_path(&asked) else { return Ok(()) };
            let Some(rule) = find(read.decided()) else { return Ok(()) };
            let everything = PathForm::ALL.into_iter().collect();
            if check(&read, everything, |path| find(path) == Some(rule)).is_err() {
                return Ok(());
            }
            for segments in servers(read.decided()) {
                prop_assert_eq!(applied(&rules, &segments), Some(rule), "{} as {:?}", asked, segments);
                prop_assert!(!segments.iter().any(|segment| segment == "." || segment == ".."), "{}", asked);
            }
            // Without the form nothing of it passes.
            prop_assert_eq!(check(&read, PathForms::default(), |_| true).is_ok(), read.forms.is_empty());
        }
    }
}
