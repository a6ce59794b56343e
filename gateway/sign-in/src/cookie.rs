//! The gateway's cookies: small, opaque, for this host alone, not readable by scripts.

use http::HeaderValue;
use idm_authn::Origin;
use idm_request::{RequestView, cookie};
use idm_session::{Browser, SessionId};
use idm_types::Timestamp;

/// The time limit for a browser at the provider.
const LOGIN_SECONDS: u64 = 15 * 60;
/// A second request for the same page within this time counts towards a loop.
const LOOP_MS: u64 = 30_000;

fn set(name: &str, value: &str, origin: &Origin, life: &str) -> Option<HeaderValue> {
    let secure = if origin.secure { "; Secure" } else { "" };
    let mut value =
        HeaderValue::from_str(&format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}{life}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Sets the session cookie; the browser deletes it when it is closed.
pub(crate) fn give_session(id: &SessionId, origin: &Origin) -> Option<HeaderValue> {
    set(origin.session_cookie(), id.text(), origin, "")
}

/// Deletes the session cookie.
pub(crate) fn take_session(origin: &Origin) -> Option<HeaderValue> {
    set(origin.session_cookie(), "", origin, "; Max-Age=0")
}

/// The session whose cookie the browser sent.
pub(crate) fn session(view: RequestView<'_>, origin: &Origin) -> Option<SessionId> {
    SessionId::parse(cookie(view.headers, origin.session_cookie())?)
}

/// A browser that signs in at a provider: its secret, and the number of recent redirects for the same page.
pub(crate) struct OnTheWay {
    pub(crate) browser: Browser,
    page: String,
    times: u32,
    since: u64,
}

impl OnTheWay {
    /// Reads the browser's cookie.
    pub(crate) fn read(view: RequestView<'_>, origin: &Origin) -> Option<Self> {
        let text = cookie(view.headers, origin.login_cookie())?;
        let mut parts = text.split('.');
        let browser = Browser::parse(parts.next()?)?;
        let page = parts.next().unwrap_or_default().to_owned();
        let number = |text: Option<&str>| text.and_then(|text| text.parse().ok()).unwrap_or(0);
        let (times, since) = (number(parts.next()) as u32, number(parts.next()));
        Some(Self { browser, page, times, since })
    }

    /// A browser without our cookie. `None` where the system gives no random bits.
    pub(crate) fn new() -> Option<Self> {
        Some(Self { browser: Browser::new()?, page: String::new(), times: 0, since: 0 })
    }

    /// Counts a redirect for a page, and returns the number of redirects in the last half minute.
    pub(crate) fn count(&mut self, page: &str, now: Timestamp) -> u32 {
        if self.page == page && now.0 < self.since.saturating_add(LOOP_MS) {
            self.times = self.times.saturating_add(1);
        } else {
            (self.page, self.times, self.since) = (page.to_owned(), 1, now.0);
        }
        self.times
    }

    /// The cookie. The count beside the secret is not sealed: a person who changes it affects only their own browser.
    pub(crate) fn give(&self, origin: &Origin) -> Option<HeaderValue> {
        let value = format!("{}.{}.{}.{}", self.browser.text(), self.page, self.times, self.since);
        set(origin.login_cookie(), &value, origin, &format!("; Max-Age={LOGIN_SECONDS}"))
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, header};

    use super::*;

    #[test]
    fn the_same_page_over_and_over_is_counted_and_another_is_not() {
        let mut way = OnTheWay::new().unwrap();
        let at = |ms: u64| Timestamp(1_000_000 + ms);
        assert_eq!(
            (way.count("a", at(0)), way.count("a", at(1)), way.count("b", at(2)), way.count("a", at(3))),
            (1, 2, 1, 1)
        );
        assert_eq!(way.count("a", at(LOOP_MS + 3)), 1);
    }

    #[test]
    fn a_cookie_reads_back() {
        let origin = Origin { text: "https://a".into(), secure: true };
        let mut way = OnTheWay::new().unwrap();
        way.count("page", Timestamp(5));
        let set = way.give(&origin).unwrap();
        let text = set.to_str().unwrap();
        assert!(
            text.starts_with("__Host-OIDC_LOGIN=")
                && text.contains("; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age="),
            "{text}"
        );
        let headers = HeaderMap::from_iter([(header::COOKIE, text.split(';').next().unwrap().parse().unwrap())]);
        let view = RequestView {
            headers: &headers,
            query: None,
            method: "GET",
            host: "a",
            authority: "a",
            secure: true,
            path: "/",
            target: "/",
            forwarded: Default::default(),
            address: [192, 0, 2, 1].into(),
            body: None,
            certificate: None,
        };
        let mut read = OnTheWay::read(view, &origin).unwrap();
        assert_eq!(read.browser.text(), way.browser.text());
        assert_eq!(read.count("page", Timestamp(6)), 2);
    }
}
