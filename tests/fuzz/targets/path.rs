//! Canonical paths: making one canonical twice changes nothing, and nothing hides in one.
#![no_main]

use idm_plan::{Expr, Network, canonical_path};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(path) = canonical_path(text) {
        assert_eq!(canonical_path(&path).as_deref(), Ok(&*path));
        assert!(path.starts_with('/') && !path.contains("//") && !path.contains("/../") && !path.contains('\\'));
    }
    let _ = Network::parse(text);
    if let Some(Ok(expr)) = Expr::member(text) {
        assert_eq!(Expr::member(&expr.to_string()), Some(Ok(expr)));
    }
});
