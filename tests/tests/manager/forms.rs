//! Questions of forms: a login that is tried, the document of a provider, the preview of a draft.

use idm_jose::SigningKey;
use idm_tests::http::serve;
use idm_tests::{ANONYMOUS, Upstream, open_to, secret};
use idm_types::Algorithm;
use serde_json::{Value, json};

use crate::bed::{Managed, POLICY, error};

const PASSWORD: &str = "correct-horse-7d1f";
const TRY: &str = "/api/v1/federations/default/corp/try";

/// A directory that is a service of this test; it takes one password.
fn with_directory() -> Managed {
    let address = serve(|asked| {
        let login: Value = serde_json::from_str(&asked.body).expect("JSON");
        match login["word"] == PASSWORD {
            true => (200, vec![], json!({"id": "p-1", "login": login["login"], "groups": ["staff"]}).to_string()),
            false => (401, vec![], String::new()),
        }
    });
    let federation = format!(
        "---\napiVersion: identity-manager.io/v1alpha1\nkind: Federation\nmetadata: {{name: corp}}\nspec:\n  \
         rest:\n    \
         verify: {{url: 'http://{address}/login', json: {{login: '{{username}}', word: '{{password}}'}}}}\n    \
         retries: 0\n    answer: {{success: 'token.status == 200', id: token.body.id, username: token.body.login, \
         groups: token.body.groups}}\n  roleMappings: [{{group: staff, roles: [order-reader]}}, {{group: admins, \
         roles: [x]}}]\n"
    );
    let upstream = Upstream::new();
    let yaml = format!("{}{federation}", open_to(&upstream, ANONYMOUS));
    Managed::over(upstream, &yaml, &["--danger-insecure-issuers"]).sign_in()
}

#[test]
fn a_tried_login_tells_its_steps_and_its_password_is_nowhere() {
    let managed = with_directory();
    let told = managed.post(TRY, &json!({"username": "ana", "password": PASSWORD}));
    let person = &told["person"];
    assert_eq!((&told["outcome"], &person["roles"]), (&json!("Verified"), &json!(["order-reader"])), "{told:#}");
    assert_eq!((&person["groups"][0]["name"], &person["unmatched"]), (&json!("staff"), &json!(["admins"])), "{told:#}");
    assert!(told["steps"].as_array().is_some_and(|steps| !steps.is_empty()), "{told:#}");
    let wrong = managed.post(TRY, &json!({"username": "ana\u{1b}[31m", "password": "guess-2c9e"}));
    assert_eq!((&wrong["outcome"], &wrong["person"]), (&json!("Refused"), &Value::Null), "{wrong:#}");
    let log = managed.gateway.log();
    let records = format!("{:?}", managed.gateway.records());
    for secret in [PASSWORD, "guess-2c9e"] {
        assert!(![&told.to_string(), &wrong.to_string(), &log, &records].iter().any(|text| text.contains(secret)));
    }
    assert!(!wrong.to_string().contains('\u{1b}'), "{wrong:#}");
    for bad in [json!({"username": "", "password": "x"}), json!({"username": "ana", "password": ""})] {
        assert_eq!(managed.ask("POST", TRY, &bad).status, 400, "{bad}");
    }
    let other = managed.ask("POST", "/api/v1/federations/default/none/try", &json!({"username": "a", "password": "b"}));
    assert_eq!((other.status, error(&other)["code"].as_str()), (404, Some("NotFound")));
}

#[test]
fn the_document_of_a_provider_is_read_and_nothing_is_fetched() {
    let managed = Managed::signed_in();
    let document = json!({"issuer": "https://idp.invalid", "id_token_signing_alg_values_supported": ["ES384"]});
    let told = managed.post("/api/v1/providers", &json!({"document": document.to_string()}));
    let fields = json!({"issuer": "https://idp.invalid", "algorithms": ["ES384"]});
    assert_eq!((&told["kind"], &told["fields"]), (&json!("oidc"), &fields), "{told:#}");
    let bad = managed.ask("POST", "/api/v1/providers", &json!({"document": "nothing"}));
    assert_eq!((bad.status, error(&bad)["field"].as_str()), (400, Some("document")));
}

/// The policy of the folder with these steps, as a draft of the version that is there.
fn draft(managed: &Managed, steps: &str) -> Value {
    let known = managed.get(POLICY);
    let yaml = format!("{}\n{steps}", known["yaml"].as_str().expect("YAML").trim_end().trim_end_matches("---"));
    let (namespace, name, version) = (&known["namespace"], &known["name"], &known["version"]);
    json!({"kind": "IdentityPolicy", "namespace": namespace, "name": name, "yaml": yaml, "version": version})
}

fn with_keys() -> Managed {
    let key = SigningKey::generate(Algorithm::ES256, "sig-1").expect("a key");
    let upstream = Upstream::new();
    let methods = format!(
        "    - {{name: people, jwt: {{issuers: [{{issuer: 'https://idp', audiences: [a], \
         keys: {{inline: '{}'}}}}]}}}}\n",
        key.jwks()
    );
    let secret = secret("signing", &[("key", key.reveal_jwk().to_owned())]);
    let yaml = format!("{}{secret}", open_to(&upstream, &methods));
    Managed::over(upstream, &yaml, &[]).sign_in()
}

const STEPS: &str = "  jose:
  - name: token
    produce:
      sign:
        keyRef: {name: signing}
        algorithm: ES256
        claims: {issuer: 'https://gateway.example', subject: identity.id, expireAfterSeconds: 60, custom: [
          {name: tenant, value: token.tenant}]}
      to: {header: X-Caller}
  - name: answer
    produce: {message: Response, from: {body: {}}, sign: {keyRef: {name: signing}, algorithm: ES256}, to: {body: {}}}
";

#[test]
fn a_draft_is_previewed_with_the_real_keys_and_no_signature_leaves() {
    let managed = with_keys();
    let asked = |steps: &str| {
        let caller = json!({"username": "ana", "claims": {"sub": "ana", "iss": "https://idp", "tenant": "acme"}});
        let request = json!({"method": "GET", "url": "http://a/"});
        json!({"draft": draft(&managed, steps), "request": request, "caller": caller})
    };
    let told = managed.post("/api/v1/preview", &asked(STEPS));
    let step = &told["steps"][0];
    assert_eq!((&step["name"], &step["to"], &step["refused"]), (&json!("token"), &json!("x-caller"), &Value::Null));
    assert_eq!((&step["signed"]["alg"], &step["signed"]["kid"]), (&json!("ES256"), &json!("sig-1")), "{told:#}");
    let claims = &step["payload"];
    assert_eq!((&claims["iss"], &claims["tenant"]), (&json!("https://gateway.example"), &json!("acme")), "{told:#}");
    assert_eq!(claims["exp"].as_u64().zip(claims["iat"].as_u64()).map(|(exp, iat)| exp - iat), Some(60));
    assert_eq!(told["leftOut"], json!(["answer"]));
    // A compact object has two dots and a signature of 86 characters: nothing like that is here.
    let longest =
        told.to_string().split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_').map(str::len).max();
    assert!(longest < Some(60), "{told:#}");

    let sealed = STEPS.replace(
        "      to: {header: X-Caller}\n  - name: answer",
        "      encrypt: {jwk: '{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\",\
         \"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}', algorithm: ECDH-ES, encryption: A256GCM}\n      \
         to: {header: X-Caller}\n  - name: answer",
    );
    let told = managed.post("/api/v1/preview", &asked(&sealed));
    let step = &told["steps"][0];
    assert_eq!((&step["encrypted"]["enc"], &step["encrypted"]["cty"]), (&json!("A256GCM"), &json!("JWT")), "{told:#}");
    assert_eq!((&step["signed"]["alg"], &step["payload"]["tenant"]), (&json!("ES256"), &json!("acme")), "{told:#}");

    // Nothing is written, and a draft that does not compile is refused with its findings.
    assert!(!managed.get(POLICY)["yaml"].as_str().expect("YAML").contains("jose"));
    let broken = managed.ask("POST", "/api/v1/preview", &asked(&STEPS.replace("name: signing}", "name: other}")));
    assert_eq!((broken.status, error(&broken)["code"].as_str()), (422, Some("Refused")), "{broken:?}");
    let mut nowhere = asked(&STEPS.replace("subject: identity.id", "subject: token.nothing + 1"));
    nowhere["caller"]["claims"] = json!({});
    let told = managed.post("/api/v1/preview", &nowhere);
    let step = &told["steps"][0];
    assert!(step["refused"].as_str().is_some_and(|why| why.contains("token")), "{told:#}");
    assert_eq!(step["payload"], Value::Null, "{told:#}");
}
