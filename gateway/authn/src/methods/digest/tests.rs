use idm_request::RequestView;
use std::path::Path;

use idm_plan::{Credential, DigestUser, ObjectKey, Policy, Proof, SecretHandle, UpstreamSettings};
use idm_types::MethodName;
use serde_json::Value;

use super::*;
use crate::{CredentialTable, Grants, Memory, PasswordChecker};

pub(super) const NOW: Timestamp = Timestamp(1_800_000_000_000);

pub(super) struct Case {
    pub(super) digest: ArmedDigest,
    table: CredentialTable,
    memory: std::sync::Arc<Memory>,
    policy: Policy,
    grants: Grants,
    name: MethodName,
}

impl Case {
    pub(super) fn new(algorithm: DigestAlgorithm, realm: &str, user: &str, password: &str) -> Self {
        let ha1 = digest_of(algorithm, &[user.as_bytes(), b":", realm.as_bytes(), b":", password.as_bytes()]);
        let mut secrets = Secrets::default();
        secrets.put(SecretHandle("h".into()), Redacted::new(ha1.into_bytes()));
        let users =
            vec![DigestUser { username: user.into(), credential: "c".into(), secrets: vec![SecretHandle("h".into())] }];
        let qualities = vec![Quality::Auth, Quality::AuthInt];
        let plan = DigestMethod {
            realm: realm.into(),
            algorithms: vec![algorithm],
            qualities,
            nonce_seconds: 60,
            users,
            directories: vec![],
        };
        let proof = Proof::Password { username: user.into(), phc: String::new() };
        let credential = Credential::new(ObjectKey::new("shop", "c"), proof);
        let policy = Policy {
            key: ObjectKey::new("shop", "p"),
            uid: String::new(),
            generation: 1,
            methods: vec![],
            identity: idm_plan::IdentityMapping { username: None, roles: None, groups: None, attributes: vec![] },
            rules: vec![],
            limits: vec![],
            jose: vec![],
            llm: None,
            token_service: None,
            upstream: UpstreamSettings::default(),
            disclosure: idm_plan::Disclosure::Minimal,
            cors: None,
            paths: vec![],
            resource: None,
            drain_streams_ms: 0,
            baseline: None,
            keeps_claims: false,
            shadow: false,
        };
        Self {
            digest: ArmedDigest::new(&plan, &secrets).unwrap(),
            table: CredentialTable::arm(&[credential.into()], &Secrets::default(), &[], &[], &Default::default(), None)
                .unwrap(),
            memory: Memory::new(PasswordChecker::start(1).unwrap(), idm_store::Store::in_process()).unwrap(),
            policy,
            grants: Grants::default(),
            name: "digest".parse().unwrap(),
        }
    }

    /// Does something in the context of a request.
    pub(super) async fn in_context<T>(
        &self,
        method: &str,
        target: &str,
        body: Option<&[u8]>,
        ask: impl AsyncFnOnce(MethodContext<'_>) -> T,
    ) -> T {
        let headers = http::HeaderMap::new();
        let view = RequestView {
            headers: &headers,
            query: None,
            method,
            host: "a",
            authority: "a",
            secure: false,
            path: "/",
            target,
            forwarded: Default::default(),
            address: [192, 0, 2, 1].into(),
            body,
            certificate: None,
        };
        let Self { name, policy, grants, table, memory, .. } = self;
        let mapping = &idm_request::ArmedMapping::arm(policy).unwrap();
        let vouch = &std::collections::HashSet::new();
        let context = MethodContext {
            name,
            kind: "digest",
            mapping,
            policy,
            grants,
            vouch,
            table,
            memory,
            view,
            now: NOW,
            shadow: false,
        };
        ask(context).await
    }

    fn attempt(&self, credential: &str, method: &str, target: &str, body: Option<&[u8]>) -> Result<(), Reason> {
        let attempt =
            self.in_context(method, target, body, async |context| match self.digest.attempt(context, credential) {
                Attempt::Verified(_) => Ok(()),
                Attempt::Rejected(denied) | Attempt::NotMine(denied) | Attempt::NeedsKeys(_, _, denied) => {
                    Err(denied.reason)
                }
            });
        futures::FutureExt::now_or_never(attempt).expect("nothing is awaited")
    }

    /// A credential as a client would make it.
    #[allow(clippy::too_many_arguments)] // the parts of a Digest credential are that many
    pub(super) fn credential(
        &self,
        algorithm: DigestAlgorithm,
        ha1: &str,
        nonce: &str,
        nc: u32,
        qop: &str,
        method: &str,
        uri: &str,
        body: &[u8],
        more: &str,
    ) -> String {
        let tail = if qop == "auth-int" { format!(":{}", digest_of(algorithm, &[body])) } else { String::new() };
        let ha2 = digest_of(algorithm, &[format!("{method}:{uri}{tail}").as_bytes()]);
        let response = digest_of(algorithm, &[format!("{ha1}:{nonce}:{nc:08x}:xyz:{qop}:{ha2}").as_bytes()]);
        format!(
            "{more}, realm=\"r\", nonce=\"{nonce}\", uri=\"{uri}\", response=\"{response}\", algorithm={}, \
                cnonce=\"xyz\", qop={qop}, nc={nc:08x}",
            algorithm.name()
        )
    }
}

/// The responses of RFC 7616 and RFC 2617. Their nonces are not ours, so what a right response meets is
/// the check of the nonce, and what a wrong one meets is not.
#[test]
fn the_responses_of_the_rfcs_are_right() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/rfc/digest.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let vectors: Value = serde_json::from_str(&text).unwrap();
    for vector in vectors["positive"].as_array().unwrap() {
        let field = |name: &str| vector[name].as_str().unwrap_or_default();
        let algorithm = match field("algorithm") {
            "MD5" => DigestAlgorithm::Md5,
            "SHA-256" => DigestAlgorithm::Sha256,
            _ => DigestAlgorithm::Sha512_256,
        };
        let case = Case::new(algorithm, field("realm"), field("username"), field("password"));
        let names = [
            format!("username=\"{}\"", field("username")),
            format!("username=\"{}\", userhash=true", field("userhash")),
        ];
        for name in names.iter().filter(|name| !name.contains("\"\"")) {
            let with = |response: &str| {
                format!(
                    "{name}, realm=\"{}\", nonce=\"{}\", uri=\"{}\", response=\"{response}\", algorithm={}, \
                        cnonce=\"{}\", qop={}, nc={}, opaque=\"x\"",
                    field("realm"),
                    field("nonce"),
                    field("uri"),
                    algorithm.name(),
                    field("cnonce"),
                    field("qop"),
                    field("nc")
                )
            };
            assert_eq!(
                case.attempt(&with(field("response")), field("method"), field("uri"), None),
                Err(Reason::StaleNonce),
                "{}",
                field("id")
            );
            if !field("rfc_printed_response").is_empty() {
                assert_eq!(
                    case.attempt(&with(field("rfc_printed_response")), field("method"), field("uri"), None),
                    Err(Reason::WrongPassword)
                );
            }
        }
    }
}

#[test]
fn a_response_is_good_for_one_request_and_nothing_else() {
    let algorithm = DigestAlgorithm::Sha256;
    let case = Case::new(algorithm, "r", "ana", "secret");
    let ha1 = digest_of(algorithm, &[b"ana:r:secret"]);
    let nonce = nonce::make(&case.digest.nonce_key, NOW).unwrap();
    let good = |nc, qop: &str, body: &[u8]| {
        case.credential(algorithm, &ha1, &nonce, nc, qop, "POST", "/a?b=c", body, "username=\"ana\"")
    };
    assert_eq!(case.attempt(&good(1, "auth", b""), "POST", "/a?b=c", None), Ok(()));
    assert_eq!(case.attempt(&good(1, "auth", b""), "POST", "/a?b=c", None), Err(Reason::ReplayedNonce));
    assert_eq!(
        case.attempt(&good(2, "auth", b""), "POST", "/a?b=d", None),
        Err(Reason::MalformedCredential),
        "another target"
    );
    assert_eq!(
        case.attempt(&good(2, "auth", b""), "PUT", "/a?b=c", None),
        Err(Reason::WrongPassword),
        "another method"
    );
    assert_eq!(case.attempt(&good(3, "auth-int", b"body"), "POST", "/a?b=c", Some(b"body")), Ok(()));
    assert_eq!(
        case.attempt(&good(4, "auth-int", b"body"), "POST", "/a?b=c", Some(b"bodY")),
        Err(Reason::WrongPassword),
        "another body"
    );
    // A body is held only where everything else is right: the target, and a nonce of ours that has not ended.
    let wants = |credential: &str, target| case.digest.needs_body(credential, target, NOW);
    assert!(wants(&good(4, "auth-int", b""), "/a?b=c") && !wants(&good(4, "auth", b""), "/a?b=c"));
    assert!(!wants(&good(4, "auth-int", b""), "/a?b=d"));
    assert!(!case.digest.needs_body(&good(4, "auth-int", b""), "/a?b=c", Timestamp(NOW.0 + 60_000_000)));
    assert!(!wants(&good(4, "auth-int", b"").replace(&nonce, "AAAA"), "/a?b=c"));
    let unread = case.attempt(&good(4, "auth-int", b"body"), "POST", "/a?b=c", None);
    assert_eq!(unread, Err(Reason::StaleNonce), "nothing is compared, and nothing is held against the user");
    let old = nonce::make(&case.digest.nonce_key, Timestamp(NOW.0 - 60_000)).unwrap();
    let late = case.credential(algorithm, &ha1, &old, 1, "auth", "GET", "/", b"", "username=\"ana\"");
    assert_eq!(case.attempt(&late, "GET", "/", None), Err(Reason::StaleNonce));
    let unicode = case.credential(algorithm, &ha1, &nonce, 9, "auth", "GET", "/", b"", "username*=UTF-8''%61na");
    assert_eq!(case.attempt(&unicode, "GET", "/", None), Ok(()));
    let nobody = case.credential(algorithm, &hex(&[0; 32]), &nonce, 10, "auth", "GET", "/", b"", "username=\"bob\"");
    assert_eq!(case.attempt(&nobody, "GET", "/", None), Err(Reason::WrongPassword), "nobody has no password");
}

#[test]
fn what_is_not_a_list_of_parameters_is_refused() {
    let case = Case::new(DigestAlgorithm::Sha256, "r", "ana", "secret");
    for text in [
        "",
        "=",
        "username",
        "username=\"ana",
        "username=\"ana\" realm=\"r\"",
        "username=\"a\", username=\"b\"",
        "username*=latin1''a",
        "a=b, c",
        &"a=b,".repeat(33),
    ] {
        assert_eq!(case.attempt(text, "GET", "/", None), Err(Reason::MalformedCredential), "{text}");
    }
}

/// A header that somebody captured is right for ever, and is let in never: it must not make guesses free.
#[test]
fn a16_a_captured_header_forgives_no_guess() {
    let algorithm = DigestAlgorithm::Sha256;
    let case = Case::new(algorithm, "r", "ana", "secret");
    let (right, wrong) = (digest_of(algorithm, &[b"ana:r:secret"]), digest_of(algorithm, &[b"ana:r:guess"]));
    let written = |ha1: &str, nonce: &str, nc| {
        case.credential(algorithm, ha1, nonce, nc, "auth", "GET", "/", b"", "username=\"ana\"")
    };
    let fresh = nonce::make(&case.digest.nonce_key, NOW).unwrap();
    let old = nonce::make(&case.digest.nonce_key, Timestamp(NOW.0 - 60_000)).unwrap();
    assert_eq!(case.attempt(&written(&right, &fresh, 1), "GET", "/", None), Ok(()));
    for nc in 2..7 {
        assert_eq!(case.attempt(&written(&wrong, &fresh, nc), "GET", "/", None), Err(Reason::WrongPassword));
        let captured = if nc < 6 { (&old, Reason::StaleNonce) } else { (&fresh, Reason::TooManyAttempts) };
        assert_eq!(case.attempt(&written(&right, captured.0, 1), "GET", "/", None), Err(captured.1), "guess {nc}");
    }
}
