//! Tests of single steps: one step opens the object that another made, and an object that must not be trusted is
//! refused.

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use idm_jose::{SigningKey, generate_octets};
use idm_plan::{
    CertificateHeaders, Consume, Decrypt, Encrypt, EncryptionKeyRef, ExpectedClaims, Expr, KeyChoice, MadeClaims,
    ObjectKey, OutgoingTls, Produce, SecretHandle, Secrets, Sign, SignedForm, SigningKeyRef, Variable,
    VerificationKeys, Verify,
};
use idm_trust::{Answer, HttpClient, OutboundRequest, Work};
use idm_types::{Algorithm, ContentEncryption, KeyManagement, Redacted, Skew, Timestamp};
use serde_json::json;

use super::*;

const NOW: Timestamp = Timestamp(1_800_000_000_000);

/// Steps do not ask any server.
struct NoServers;

impl HttpClient for NoServers {
    fn ask(&self, _: OutboundRequest) -> Answer {
        unreachable!("no step asks")
    }

    fn check(&self, _: &str) -> Result<(), String> {
        unreachable!("no step asks")
    }

    fn reached_by(&self, _: &OutgoingTls, _: &Secrets) -> Result<Arc<dyn HttpClient>, String> {
        unreachable!("no step asks")
    }

    fn carry_on(&self, _: Work) {
        unreachable!("no step asks")
    }
}

fn handle(name: &str) -> SecretHandle {
    SecretHandle(name.into())
}

/// A key that signs, one of a stranger, and one that encrypts.
fn secrets() -> Secrets {
    let mut secrets = Secrets::default();
    for name in ["signing", "stranger"] {
        let key = SigningKey::generate(Algorithm::ES256, "k").unwrap();
        secrets.put(handle(name), Redacted::new(key.reveal_jwk().as_bytes().to_vec()));
    }
    let key = generate_octets(32).unwrap().reveal().to_string();
    secrets.put(handle("sealing"), Redacted::new(key.into_bytes()));
    secrets
}

fn arm(steps: Vec<JoseStepKind>, secrets: &Secrets) -> Steps {
    let named = |(i, kind)| JoseStep { name: format!("step-{i}").parse().unwrap(), kind };
    let steps: Vec<JoseStep> = steps.into_iter().enumerate().map(named).collect();
    let known = Default::default();
    let mut trust = Trust {
        keys: idm_trust::Keys::new(&known),
        secrets,
        http: Arc::new(NoServers),
        directories: Arc::new(idm_trust::NoDirectories),
    };
    Steps::arm(&steps, &mut trust, &|| None).unwrap()
}

fn sign(key: &str, claims: Option<MadeClaims>) -> Sign {
    Sign {
        key: KeyChoice::One(SigningKeyRef { key: handle(key), chain: Vec::new() }),
        algorithm: Algorithm::ES256,
        form: SignedForm::Compact,
        typ: None,
        cty: None,
        certificate: CertificateHeaders::default(),
        claims,
    }
}

fn produce(sign: Option<Sign>, encrypt: Option<Encrypt>, to: Destination) -> JoseStepKind {
    JoseStepKind::Produce(Produce { message: Message::Request, from: Some(Place::Body), sign, encrypt, to })
}

fn encrypt() -> Encrypt {
    Encrypt {
        key: EncryptionKeyRef::Secret(handle("sealing")),
        algorithm: KeyManagement::A256Kw,
        encryption: ContentEncryption::A256Gcm,
        cty: None,
        json: false,
    }
}

fn verify(claims: Option<ExpectedClaims>) -> Verify {
    let keys = VerificationKeys::Secret(handle("signing"));
    Verify { keys, algorithms: vec![Algorithm::ES256], detached: None, claims }
}

fn consume(from: Place, decrypt: bool, verify: Option<Verify>, to: Destination) -> JoseStepKind {
    let decrypt = decrypt.then(|| Decrypt {
        keys: handle("sealing"),
        algorithms: vec![KeyManagement::A256Kw],
        encryptions: vec![ContentEncryption::A256Gcm],
    });
    JoseStepKind::Consume(Consume { from, json: false, decrypt, verify, to })
}

fn body() -> Destination {
    Destination::Body { content_type: Some("application/json".into()) }
}

fn made_claims() -> MadeClaims {
    MadeClaims {
        issuer: Some("https://shop.example".into()),
        audiences: vec!["upstream".into()],
        subject: Some(Expr::Member { variable: Variable::Env, path: vec!["gateway".into()] }),
        expires_after: Some(60),
        expires_from_now: false,
        issued_at_offset: -5,
        id: true,
        custom: vec![
            ("where".into(), Expr::Cel("env.gateway + '!'".into())),
            ("absent".into(), Expr::Member { variable: Variable::Token, path: vec!["none".into()] }),
        ],
    }
}

fn expected_claims() -> ExpectedClaims {
    ExpectedClaims {
        issuer: "https://shop.example".into(),
        audiences: vec!["upstream".into()],
        types: Vec::new(),
        skew: Skew::from_seconds(0),
    }
}

/// A message that the steps process.
struct Sent {
    headers: HeaderMap,
    body: Option<Bytes>,
}

impl Sent {
    fn new(body: &str) -> Self {
        Self { headers: HeaderMap::new(), body: Some(Bytes::copy_from_slice(body.as_bytes())) }
    }

    fn text(&self) -> &str {
        std::str::from_utf8(self.body.as_deref().unwrap()).unwrap()
    }

    fn change<T>(&mut self, work: impl FnOnce(&mut Content<'_>) -> T) -> T {
        let mut content = Content { headers: &mut self.headers, body: self.body.take(), replaced: false };
        let done = work(&mut content);
        self.body = content.body;
        done
    }

    fn make(&mut self, steps: &Steps, now: Timestamp) -> Result<(), Refusal> {
        let policy = ObjectKey { namespace: "shop".into(), name: "orders".into() };
        let facts = Facts { now: Some(now), gateway: "gate", policy: Some(&policy), ..Facts::default() };
        self.change(|content| steps.make(Message::Request, content, &facts))
    }

    async fn open(&mut self, steps: &Steps) -> Result<Value, Refusal> {
        let mut content = Content { headers: &mut self.headers, body: self.body.take(), replaced: false };
        let opened = steps.open(&mut content, &Facts { now: Some(NOW), ..Facts::default() }).await;
        self.body = content.body;
        opened
    }
}

#[tokio::test]
async fn what_is_signed_and_encrypted_is_opened_again() {
    let secrets = secrets();
    let making = arm(vec![produce(Some(sign("signing", None)), Some(encrypt()), body())], &secrets);
    let opening = arm(vec![consume(Place::Body, true, Some(verify(None)), body())], &secrets);
    let mut sent = Sent::new("{\"order\": 7}");
    sent.headers.insert(CONTENT_ENCODING, "gzip".parse().unwrap());
    sent.make(&making, NOW).unwrap();
    assert_eq!(sent.text().split('.').count(), 5, "an object of RFC 7516 §7.1: {}", sent.text());
    assert_eq!(sent.headers[CONTENT_LENGTH], sent.text().len().to_string().as_str());
    assert!(!sent.headers.contains_key(CONTENT_ENCODING), "it spoke of the body that was there before");
    let found = sent.open(&opening).await.unwrap();
    assert_eq!(sent.text(), "{\"order\": 7}");
    assert_eq!(sent.headers[CONTENT_TYPE], "application/json");
    assert_eq!(sent.headers[CONTENT_LENGTH], "12");
    let step = &found["step-0"];
    assert_eq!(step["signature"], json!({"alg": "ES256", "kid": "k"}));
    assert_eq!(step["encryption"], json!({"alg": "A256KW", "enc": "A256GCM", "kid": null}));
    assert_eq!(step["claims"], json!({"order": 7}));
}

#[tokio::test]
async fn what_cannot_be_believed_is_refused_with_its_reason() {
    let secrets = secrets();
    let opening = arm(vec![consume(Place::Body, false, Some(verify(None)), body())], &secrets);
    let signed_by = |key: &str| {
        let mut sent = Sent::new("text");
        sent.make(&arm(vec![produce(Some(sign(key, None)), None, body())], &secrets), NOW).unwrap();
        sent.text().to_owned()
    };
    let good = signed_by("signing");
    let (signed, _) = good.rsplit_once('.').unwrap();
    let again = signed_by("signing");
    let (_, of_another) = again.rsplit_once('.').unwrap();
    for (text, reason) in [
        (signed_by("stranger"), Reason::BadSignature),
        (good.replace(&idm_jose::to_base64url(b"text"), "e30"), Reason::BadSignature),
        (format!("{signed}."), Reason::BadSignature),
        ("text".to_owned(), Reason::MalformedToken),
        (String::new(), Reason::MissingObject),
    ] {
        let mut sent = Sent::new(&text);
        let refusal = sent.open(&opening).await.unwrap_err();
        assert_eq!(refusal.reason, reason, "{text}: {refusal:?}");
        assert!(refusal.detail.starts_with("step-0: "), "{refusal:?}");
        assert_eq!(sent.text(), text, "nothing was put in its place");
    }
    // ECDSA gives a different signature each time, and all of them are valid.
    assert!(Sent::new(&format!("{signed}.{of_another}")).open(&opening).await.is_ok());
}

#[tokio::test]
async fn a_header_is_opened_where_there_is_one_and_the_object_goes_no_further() {
    let secrets = secrets();
    let making = arm(vec![produce(Some(sign("signing", None)), None, Destination::Header("x-order".into()))], &secrets);
    assert_eq!(making.headers().collect::<Vec<_>>(), ["x-order"]);
    let from = Place::Header("x-order".into());
    let opening = arm(vec![consume(from, false, Some(verify(None)), Destination::Nowhere)], &secrets);
    let mut sent = Sent::new("{\"order\": 7}");
    sent.make(&making, NOW).unwrap();
    let header = sent.headers["x-order"].clone();
    let found = sent.open(&opening).await.unwrap();
    assert_eq!(found["step-0"]["claims"], json!({"order": 7}));
    assert!(!sent.headers.contains_key("x-order"));
    assert_eq!(sent.text(), "{\"order\": 7}", "the body stays as it was");
    // Two headers have no single value.
    sent.headers.append("x-order", header.clone());
    sent.headers.append("x-order", header);
    assert_eq!(sent.open(&opening).await.unwrap_err().reason, Reason::MissingObject);
}

#[tokio::test]
async fn claims_are_the_gateways_own_whatever_the_payload_says() {
    let secrets = secrets();
    let making = arm(vec![produce(Some(sign("signing", Some(made_claims()))), None, body())], &secrets);
    let opening = arm(vec![consume(Place::Body, false, Some(verify(Some(expected_claims()))), body())], &secrets);
    let payload = "{\"iss\": \"https://evil.example\", \"sub\": \"admin\", \"exp\": 9999999999, \"kept\": 1}";
    let mut sent = Sent::new(payload);
    sent.make(&making, NOW).unwrap();
    let found = sent.open(&opening).await.unwrap();
    let mut claims = found["step-0"]["claims"].clone();
    let id = claims.as_object_mut().unwrap().remove("jti").unwrap();
    assert_eq!(id.as_str().map(str::len), Some(22), "128 bits");
    let now = NOW.seconds();
    assert_eq!(
        claims,
        json!({
            "iss": "https://shop.example", "aud": "upstream", "sub": "gate", "iat": now - 5, "exp": now + 55, "kept": 1,
            "where": "gate!",
        })
    );
    let mut late = Sent::new(payload);
    late.make(&making, Timestamp::from_seconds(now - 60)).unwrap();
    assert_eq!(late.open(&opening).await.unwrap_err().reason, Reason::TokenExpired);
    let mut list = Sent::new("[1]");
    assert_eq!(list.make(&making, NOW).unwrap_err().reason, Reason::ObjectNotMade, "claims need an object");
}

#[test]
fn a_key_is_chosen_by_a_value_and_none_is_made_up() {
    let secrets = secrets();
    let by = |key: &str| KeyChoice::By {
        value: Expr::Member { variable: Variable::Env, path: vec!["gateway".into()] },
        keys: vec![(key.into(), SigningKeyRef { key: handle("signing"), chain: Vec::new() })],
    };
    let with = |key: &str| {
        let sign = Sign { key: by(key), ..sign("signing", None) };
        arm(vec![produce(Some(sign), None, body())], &secrets)
    };
    Sent::new("text").make(&with("gate"), NOW).unwrap();
    let refusal = Sent::new("text").make(&with("other"), NOW).unwrap_err();
    assert_eq!(
        (refusal.reason, refusal.detail.as_str()),
        (Reason::ObjectNotMade, "step-0: no key is meant for this value")
    );
}
