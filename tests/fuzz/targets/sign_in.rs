//! Input of browsers to the endpoints of a sign-in: cookies, `state`, tickets, and the page to go to.
#![no_main]

use idm_session::{Browser, Login, SessionId};
use idm_sign_in::is_local_target;
use idm_types::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let now = Timestamp(1_800_000_000_000);
    let browser = Browser::new().expect("random bits");
    assert!(browser.login(text, "uid", now).is_none(), "a state that was not sealed here");
    if let Some(login) = Login::begin(text, now) {
        let state = browser.state(&login, "uid").expect("sealed");
        assert_eq!(browser.login(&state, "uid", now), Some(login));
    }
    if let Some(browser) = Browser::parse(text) {
        assert_eq!(browser.text(), text);
    }
    if let Some(id) = SessionId::parse(text) {
        assert_eq!(id.text(), text);
    }
    if is_local_target(text) {
        assert!(text.starts_with('/') && !text.starts_with("//") && !text.contains('\\') && text.is_ascii(), "{text}");
    }
});
