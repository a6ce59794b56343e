//! The cached verdicts that remain valid when another bundle is put in force.

mod bed;

use bed::{API_KEY, Bed, key, policy, robot};
use idm_decide::{Decided, Decision};
use idm_types::{ApiKey, Reason};

/// The second caller, whom no change affects.
fn other() -> String {
    ApiKey::from_random([9; 32]).reveal().to_owned()
}

fn of_other() -> String {
    robot("").replace("robot", "other").replace(&key(), &other())
}

/// Whether a request passes on a kept verdict, or why it is refused.
async fn asked(bed: &Bed, host: &str, key: &str) -> Result<bool, Reason> {
    let Decision { trace, outcome } = bed.ask("GET", host, "/", &[("x-api-key", key)]).await;
    match outcome {
        Ok(Decided::Forward { .. }) => Ok(trace.identity.expect("somebody passed").1),
        Ok(Decided::Answer(_)) => panic!("the gateway answers itself"),
        Err(refusal) => Err(refusal.reason),
    }
}

#[tokio::test]
async fn a_changed_credential_is_judged_anew_and_nobody_else_is() {
    let rotated = ApiKey::from_random([8; 32]).reveal().to_owned();
    let was = robot("reader");
    for (what, now, expected) in [
        ("removed", String::new(), Err(Reason::UnknownApiKey)),
        ("suspended", was.replace("secretRef", "suspend: true, secretRef"), Err(Reason::CredentialSuspended)),
        (
            "expired",
            was.replace("secretRef", "expireTime: '2020-01-01T00:00:00Z', secretRef"),
            Err(Reason::CredentialExpired),
        ),
        (
            "not for this policy",
            was.replace("secretRef", "access: {policies: [another]}, secretRef"),
            Err(Reason::CredentialNotAllowedHere),
        ),
        ("rotated", was.replace(&key(), &rotated), Err(Reason::UnknownApiKey)),
        ("with another role", robot("writer"), Err(Reason::MissingRole)),
        ("with one more role", robot("reader, writer"), Ok(false)),
    ] {
        let readers = "  authorization: {rules: [{name: r, require: {roles: {any: [reader, other]}}}]}\n";
        let base =
            format!("{}{}---\n", policy("up", API_KEY, readers), of_other().replace("roles: []", "roles: [other]"));
        let mut bed = Bed::new(&format!("{base}{was}"));
        let before = bed.0.armed().clone();
        for kept in [false, true] {
            assert_eq!(asked(&bed, "up", &key()).await, Ok(kept));
            assert_eq!(asked(&bed, "up", &other()).await, Ok(kept));
        }
        bed.change(&format!("{base}{now}"));
        assert!(bed.0.armed().has_engine_of(&before), "{what}: the engine stays");
        assert_ne!(bed.0.armed().version(), before.version(), "{what}");
        assert_eq!(asked(&bed, "up", &key()).await, expected, "{what}");
        assert_eq!(asked(&bed, "up", &other()).await, Ok(true), "{what}: the other one is known");
        if what == "rotated" {
            assert_eq!(asked(&bed, "up", &rotated).await, Ok(false));
        }
        // A verdict that was invalidated once is not used again.
        bed.change(&format!("{base}{was}"));
        assert_eq!(asked(&bed, "up", &key()).await, Ok(false), "{what}, and back");
    }
}

#[tokio::test]
async fn a_verdict_outlives_an_engine_as_long_as_all_that_it_rests_on_is_the_same() {
    let up = policy("up", API_KEY, "");
    let side = policy("side", API_KEY, "");
    let credentials = format!("{}---\n{}", robot(""), of_other());
    let grant = "---\napiVersion: identity-manager.io/v1alpha1\nkind: RoleBinding\nmetadata: {name: g}\n\
                 spec: {role: admin, subjects: [{credential: robot}], scope: {project: {}}}\n";
    let changed = policy("side", API_KEY, "  disclosure: Detailed\n");
    for (what, yaml, kept) in [
        ("another policy", format!("{up}{changed}{credentials}"), [true, false]),
        ("a policy goes, and the positions move", format!("{}{credentials}", side), [false, true]),
        ("a policy comes first", format!("{}{up}{side}{credentials}", policy("a", API_KEY, "")), [true, true]),
        ("a RoleBinding", format!("{up}{side}{credentials}{grant}"), [false, false]),
    ] {
        let both = format!("{up}{side}{credentials}");
        let mut bed = Bed::new(&both);
        let before = bed.0.armed().clone();
        for host in ["up", "side"] {
            assert_eq!(asked(&bed, host, &key()).await, Ok(false));
        }
        bed.change(&yaml);
        assert!(!bed.0.armed().has_engine_of(&before), "{what}");
        for (host, kept) in ["up", "side"].into_iter().zip(kept) {
            let expected = if yaml.contains(&format!("hostnames: {host}")) { Ok(kept) } else { Err(Reason::NoRoute) };
            assert_eq!(asked(&bed, host, &key()).await, expected, "{what}: {host}");
        }
        // A verdict that was invalidated or removed stays invalid when the configuration returns to its earlier state.
        bed.change(&both);
        for (host, kept) in ["up", "side"].into_iter().zip(kept) {
            assert_eq!(asked(&bed, host, &key()).await, Ok(kept), "{what}, and back: {host}");
        }
    }
}

#[tokio::test]
async fn a_broken_bundle_changes_nothing() {
    let yaml = format!("{}{}", policy("up", API_KEY, ""), robot(""));
    let mut bed = Bed::new(&yaml);
    assert_eq!(asked(&bed, "up", &key()).await, Ok(false));
    let mut compiled = Bed::compiled(&yaml);
    for credential in &mut compiled.credentials.all {
        std::sync::Arc::make_mut(credential).proof =
            idm_plan::Proof::ApiKey { keys: idm_plan::Keys::one("none".into()), any_form: false };
    }
    assert!(bed.0.swap(&compiled.seal(2)).is_err());
    assert_eq!(asked(&bed, "up", &key()).await, Ok(true));
}
