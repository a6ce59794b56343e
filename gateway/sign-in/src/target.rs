//! The address that a browser may be sent back to: a path of the same host, which no reader can take for another host.

use url::Url;

/// Longer ones are replaced by the front page: they are part of `state`.
const MAX_TARGET: usize = 1024;
const FRONT_PAGE: &str = "/";

/// Whether a text is a path of this host for every reader of URLs.
pub fn is_local_target(text: &str) -> bool {
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let is_plain = |text: &str, refused: &[u8]| {
        text.bytes().all(|byte| (0x21..0x7f).contains(&byte) && !b"\\<>\"".contains(&byte) && !refused.contains(&byte))
    };
    // Browsers send these raw in a query (WHATWG URL, query percent-encode set), and pages rely on it.
    let plain = is_plain(path, b"{}|^`") && is_plain(query, b"");
    let mut bytes = text.bytes();
    let local = bytes.next() == Some(b'/') && !matches!(bytes.next(), Some(b'/' | b'\\'));
    if !plain || !local || text.len() > MAX_TARGET {
        return false;
    }
    // As browsers parse it (WHATWG URL).
    let Ok(base) = Url::parse("https://base.invalid/") else { return false };
    base.join(text).is_ok_and(|url| url.origin() == base.origin() && url.username().is_empty())
}

/// The target, or the front page if it is not valid; never an endpoint, because that would be a loop.
pub(crate) fn or_front_page<'t>(text: Option<&'t str>, base: &str) -> &'t str {
    let text = text.filter(|text| is_local_target(text)).unwrap_or(FRONT_PAGE);
    let path = text.split(['?', '#']).next().unwrap_or_default();
    let is_endpoint = path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if is_endpoint { FRONT_PAGE } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_this_host_are_targets() {
        for good in ["/", "/orders?x=1&y=%2F%2Fevil", "/a/b#c", "/@evil", "/a//b", "/http://evil"] {
            assert!(is_local_target(good), "{good}");
        }
        // f15: as browsers send them.
        for raw in ["/d/abc?left={a:1}&x=a|b", "/?q=^`{}|", "/d?a=[1]#b"] {
            assert!(is_local_target(raw), "{raw}");
        }
        for bad in [
            "/{a}",
            "/a|b?c",
            "/a?b\\c",
            "/a?b\"c",
            "/a?<b>",
            "//evil?{}",
            "/\\evil?|",
            "/a?b c",
            "/a?b\nc",
            "",
            "orders",
            "//evil",
            "/\\evil",
            "\\\\evil",
            "https://evil",
            "javascript:alert(1)",
            "/\t/evil",
            "/\n/evil",
            " /a",
            "/ a",
            "/\u{e9}",
            "/a\0",
            "?a",
            "#a",
            "/a\\b",
            "///evil",
            "data:,",
            "http:/evil",
        ] {
            assert!(!is_local_target(bad), "{bad:?}");
        }
        assert!(!is_local_target(&format!("/{}", "a".repeat(MAX_TARGET))));
    }

    /// No browser's reading of a text may lead to another host: the inputs of the web platform's own tests of URLs.
    #[test]
    fn no_input_of_the_web_platform_tests_leads_away() {
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/url-wpt/urltestdata.json");
        let text = std::fs::read_to_string(&path).unwrap();
        let base = Url::parse("https://shop.example/page").unwrap();
        let (mut taken, mut seen) = (0, 0);
        for case in serde_json::from_str::<Vec<serde_json::Value>>(&text).unwrap() {
            let Some(input) = case["input"].as_str() else { continue };
            seen += 1;
            if is_local_target(input) {
                taken += 1;
                assert_eq!(base.join(input).unwrap().origin(), base.origin(), "{input}");
            }
        }
        assert!(seen > 500 && taken > 10, "{taken} of {seen}");
    }

    #[test]
    fn an_endpoint_is_no_target() {
        assert_eq!(or_front_page(Some("/_idm/logout?x"), "/_idm"), "/");
        assert_eq!(or_front_page(Some("/_idm"), "/_idm"), "/");
        assert_eq!(or_front_page(Some("/_idmx"), "/_idm"), "/_idmx");
        assert_eq!(or_front_page(None, "/_idm"), "/");
    }
}
