//! A sign-in in progress. The gateway stores no state of it: the browser carries a secret, and the `state` that goes to
//! the provider and back is sealed under it. So any gateway can finish a sign-in that another began, no other browser
//! can, and a stranger cannot fill the gateway's memory by beginning sign-ins.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use idm_types::Timestamp;
use serde::{Deserialize, Serialize};

use crate::seal::{Secret, random_text};

const PURPOSE: &str = "login";
/// The time limit for a person at the provider.
const LIFETIME_MS: u64 = 15 * 60_000;

/// The secret of one browser.
#[derive(Clone, Debug)]
pub struct Browser(Secret);

/// A sign-in that a browser began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// Unique.
    #[serde(rename = "i")]
    pub id: String,
    /// The address for the browser after the sign-in: a path of the same host.
    #[serde(rename = "t")]
    pub to: String,
    /// The time when it began, in milliseconds.
    #[serde(rename = "a")]
    at: u64,
}

impl Login {
    /// A sign-in that begins now. `None` where the system gives no random bits.
    pub fn begin(to: impl Into<String>, now: Timestamp) -> Option<Self> {
        Some(Self { id: random_text::<16>()?, to: to.into(), at: now.0 })
    }
}

impl Browser {
    /// A browser that was not seen before. `None` where the system gives no random bits.
    pub fn new() -> Option<Self> {
        Secret::new().map(Self)
    }

    /// Reads the value of its cookie.
    pub fn parse(text: &str) -> Option<Self> {
        Secret::parse(text).map(Self)
    }

    /// The value of its cookie.
    pub fn text(&self) -> &str {
        self.0.text()
    }

    /// The `state` of a sign-in at one provider: `at` names it, and no other provider can give it back. Beside what is
    /// sealed stands the page in clear, for a browser that lost its secret on the way: it may begin anew.
    pub fn state(&self, login: &Login, at: &str) -> Option<String> {
        let bytes = serde_json::to_vec(login).ok()?;
        let sealed = self.0.seal(PURPOSE, at, bytes)?;
        Some(format!("{}.{}", URL_SAFE_NO_PAD.encode(sealed), URL_SAFE_NO_PAD.encode(&login.to)))
    }

    /// The page that a `state` speaks of in clear. Anyone can have written it.
    pub fn hint(state: &str) -> Option<String> {
        String::from_utf8(URL_SAFE_NO_PAD.decode(state.split_once('.')?.1).ok()?).ok()
    }

    /// The sign-in that a `state` is of, if this browser began it at this provider and not too long ago.
    pub fn login(&self, state: &str, at: &str, now: Timestamp) -> Option<Login> {
        let sealed = URL_SAFE_NO_PAD.decode(state.split_once('.')?.0).ok()?;
        let login: Login = serde_json::from_slice(&self.0.open(PURPOSE, at, &sealed)?).ok()?;
        (now.0 < login.at.saturating_add(LIFETIME_MS)).then_some(login)
    }

    /// The `nonce` of a sign-in (OpenID Connect Core §3.1.2.1).
    pub fn nonce(&self, login: &Login) -> String {
        URL_SAFE_NO_PAD.encode(self.0.derive("nonce", &login.id))
    }

    /// The code verifier of a sign-in (RFC 7636 §4.1).
    pub fn verifier(&self, login: &Login) -> String {
        URL_SAFE_NO_PAD.encode(self.0.derive("verifier", &login.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    #[test]
    fn a_state_comes_back_to_its_browser_from_its_provider_in_time() {
        let (browser, other) = (Browser::new().unwrap(), Browser::new().unwrap());
        let login = Login::begin("/orders?x=1", NOW).unwrap();
        let state = browser.state(&login, "uid-a").unwrap();
        assert_eq!(browser.login(&state, "uid-a", NOW), Some(login.clone()));
        assert_eq!(Browser::parse(browser.text()).unwrap().login(&state, "uid-a", NOW), Some(login.clone()));
        assert_eq!(browser.login(&state, "uid-b", NOW), None, "mix-up");
        assert_eq!(other.login(&state, "uid-a", NOW), None, "another browser");
        assert_eq!(browser.login(&state, "uid-a", Timestamp(NOW.0 + LIFETIME_MS)), None, "too late");
        assert_eq!(Browser::hint(&state).as_deref(), Some("/orders?x=1"));
        let (sealed, hint) = state.split_once('.').unwrap();
        for wrong in ["", "x", &state[1..], sealed, &format!("{sealed}A.{hint}")] {
            assert_eq!(browser.login(wrong, "uid-a", NOW), None, "{wrong}");
        }
    }

    #[test]
    fn nonce_and_verifier_differ_for_each_sign_in_and_are_made_again() {
        let browser = Browser::new().unwrap();
        let (a, b) = (Login::begin("/", NOW).unwrap(), Login::begin("/", NOW).unwrap());
        assert_eq!(browser.nonce(&a), browser.nonce(&a));
        assert_ne!(browser.nonce(&a), browser.nonce(&b));
        assert_ne!(browser.nonce(&a), browser.verifier(&a));
        // RFC 7636 §4.1: 43 to 128 characters.
        assert_eq!(browser.verifier(&a).len(), 43);
    }
}
