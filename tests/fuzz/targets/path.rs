//! Canonical paths: making one canonical twice changes nothing, and nothing hides in one.
#![no_main]

use idm_plan::{Expr, Network, canonical_path, read_path};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(path) = canonical_path(text) {
        assert_eq!(canonical_path(&path).as_deref(), Ok(&*path));
        assert!(path.starts_with('/') && !path.contains("//") && !path.contains("/../") && !path.contains('\\'));
    }
    if let Ok(read) = read_path(text) {
        let again = read_path(&read.text).expect("what is canonical can be read");
        assert_eq!((&again.text, again.decided), (&read.text, read.decided));
        assert!(again.forms.first_outside(read.forms).is_none());
        for path in read.other_readings().into_iter().flatten().chain([read.decided().to_owned()]) {
            assert!(path.starts_with('/') && !path.contains("//") && !path.contains(';') && !path.contains('\\'));
            assert!(!path.split('/').any(|segment| segment == "." || segment == ".."));
        }
    }
    let _ = Network::parse(text);
    if let Some(Ok(expr)) = Expr::member(text) {
        assert_eq!(Expr::member(&expr.to_string()), Some(Ok(expr)));
    }
});
