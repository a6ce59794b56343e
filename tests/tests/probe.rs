//! `idm idp probe` against providers that are as they should be, and against others.

use std::process::{Command, Output};

use idm_jose::SigningKey;
use idm_tests::{Gateway, IDP, Provider, SamlIdp, Upstream, http, idm, open_to};
use idm_types::Algorithm;
use serde_json::json;

fn provider() -> Provider {
    Provider::new(SigningKey::generate(Algorithm::ES256, "k1").unwrap())
}

fn probe(arguments: &[&str]) -> (Output, String) {
    let output = Command::new(idm()).args(["idp", "probe"]).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, said)
}

/// A gateway takes the Federation that is printed.
fn takes(federation: &str, secret: &str) {
    let method = "    - name: staff\n      signIn: {federationRefs: [{name: kc}]}\n";
    let yaml = format!("{}---\n{federation}---\n{secret}", open_to(&Upstream::new(), method));
    drop(Gateway::start_with(&[("all.yaml", &yaml)], &["--danger-insecure-issuers"]));
}

#[test]
fn a_good_provider_is_told_in_full_and_gives_a_federation() {
    let provider = provider();
    provider.script(|script| {
        script.metadata = json!({
            "id_token_signing_alg_values_supported": ["none", "HS256", "ES256", "ES256K"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "private_key_jwt"],
            "backchannel_logout_supported": true,
        });
    });
    let (output, said) = probe(&[&provider.issuer(), "--name", "kc", "--client-id", "shop"]);
    assert!(output.status.success(), "{said}");
    for line in [
        "✓ issuer",
        "✓ endpoints      authorization, token, keys, userinfo, sign-out",
        "✓ algorithms     ES256",
        "✓ keys           1 usable",
        "✓ PKCE           S256",
        "✓ logout         back-channel",
        "‼ transport      plain http",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    takes(
        &String::from_utf8(output.stdout).unwrap(),
        "apiVersion: v1\nkind: Secret\nmetadata: {name: kc-client}\nstringData: {clientSecret: x}\n",
    );
}

#[test]
fn what_would_keep_people_out_is_found_beforehand() {
    let provider = provider();
    let good = json!({"id_token_signing_alg_values_supported": ["ES256"]});
    let with = |change: serde_json::Value| {
        let mut all = good.clone();
        all.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        provider.script(|script| script.metadata = all);
        probe(&[&provider.issuer()])
    };
    for (change, found) in [
        (json!({"issuer": "https://other.example"}), "speaks of `https://other.example`"),
        (json!({"token_endpoint": null}), "no `token_endpoint`"),
        (json!({"id_token_signing_alg_values_supported": ["none", "HS256"]}), "signed with none, HS256"),
        (json!({"jwks_uri": format!("{}/nowhere", provider.issuer())}), "answers 404"),
    ] {
        let (output, said) = with(change);
        assert!(output.status.code() == Some(1) && said.contains(found) && said.contains("fix: "), "{found}: {said}");
        assert!(output.stdout.is_empty());
    }
    let (output, said) = probe(&["http://127.0.0.1:1/realm"]);
    assert!(output.status.code() == Some(3) && said.contains("✗ reached"), "{said}");
    provider.behave();
    // The redirect URI is asked about as a browser would, without a person.
    let leads = http::serve(|asked| {
        let known =
            asked.parameters.get("redirect_uri").is_some_and(|uri| uri == "https://shop.example/_idm/callback/kc");
        if known {
            (
                302,
                vec![(
                    "Location".into(),
                    "https://shop.example/_idm/callback/kc?error=login_required&state=probe".into(),
                )],
                String::new(),
            )
        } else {
            (400, vec![], "no".into())
        }
    });
    provider.script(|script| {
        script.metadata = json!({"id_token_signing_alg_values_supported": ["ES256"],
            "authorization_endpoint": format!("http://{leads}/auth")})
    });
    let ask = |uri: &str| probe(&[&provider.issuer(), "--client-id", "shop", "--redirect-uri", uri]);
    let (output, said) = ask("https://shop.example/_idm/callback/kc");
    assert!(output.status.success() && said.contains("✓ redirect URI   known to the provider"), "{said}");
    let (output, said) = ask("https://shop.example/other");
    assert!(output.status.code() == Some(1) && said.contains("does not lead there"), "{said}");
    // A clock that is wrong.
    let here = std::sync::Arc::new(std::sync::OnceLock::new());
    let known = here.clone();
    let late = http::serve(move |_| {
        let date = ("Date".to_owned(), "Sun, 06 Nov 1994 08:49:37 GMT".to_owned());
        (200, vec![date], json!({"issuer": known.get().cloned().unwrap_or_default()}).to_string())
    });
    here.set(format!("http://{late}")).unwrap();
    let (output, said) = probe(&[&format!("http://{late}")]);
    assert!(output.status.code() == Some(1) && said.contains("✗ clock"), "{said}");
}

#[test]
fn saml_metadata_is_told_from_an_issuer() {
    let idp = SamlIdp::new();
    let metadata = idp.metadata(&["idp", "sp"]);
    let served = metadata.clone();
    let address = http::serve(move |asked| match asked.path.as_str() {
        "/metadata" => (200, vec![], served.clone()),
        "/two" => (
            200,
            vec![],
            format!(
                "<EntitiesDescriptor xmlns=\"urn:oasis:names:tc:SAML:2.0:metadata\">{served}{}</EntitiesDescriptor>",
                served.replace(IDP, "https://two.example")
            ),
        ),
        _ => (404, vec![], String::new()),
    });
    let (output, said) = probe(&[&format!("http://{address}/metadata"), "--name", "kc"]);
    assert!(
        output.status.success()
            && said.contains("✓ certificates   2 for signing")
            && said.contains("✓ sign-in        redirect, form"),
        "{said}"
    );
    let secret = idm_tests::secret("kc-sp", &[("tls.crt", idp.read("sp.crt")), ("tls.key", idp.read("sp.key"))]);
    takes(&String::from_utf8(output.stdout).unwrap(), secret.trim_start_matches("---\n"));
    let (output, said) = probe(&[&format!("http://{address}/two")]);
    assert!(output.status.code() == Some(1) && said.contains("2 providers"), "{said}");
    assert!(probe(&[&format!("http://{address}/two"), "--entity-id", "https://two.example"]).0.status.success());
}

/// Asks about a service, with somebody who can log in there perhaps.
fn probe_service(address: &str, username: Option<&str>, password: &str) -> (Output, String) {
    use std::io::Write;
    use std::process::Stdio;
    let mut command = Command::new(idm());
    command.args(["idp", "probe", address, "--service", "--name", "kc"]);
    command.args(username.iter().flat_map(|name| ["--username", name]));
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap();
    let _ = child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, said)
}

#[test]
fn a_service_is_told_by_its_answers_to_a_right_and_a_wrong_login() {
    let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = asked.clone();
    let address = idm_tests::http::serve(move |asked| {
        let login: serde_json::Value = serde_json::from_str(&asked.body).unwrap();
        log.lock().unwrap().push(login["username"].as_str().unwrap().to_owned());
        let right = login["username"] == "ana" && login["password"] == "canary-right";
        let person = json!({"id": "p-1", "login": "ana", "roles": ["staff"]}).to_string();
        if right { (200, vec![], person) } else { (401, vec![], String::new()) }
    });
    let address = format!("http://{address}/login");
    let (output, said) = probe_service(&address, Some("ana"), "canary-right");
    assert!(output.status.success(), "{said}");
    for line in ["✓ wrong login    POST: 401", "✓ right login    POST: 200", "✓ id             `id`", "‼ transport"]
    {
        assert!(said.contains(line), "{line}: {said}");
    }
    let federation = String::from_utf8(output.stdout).unwrap();
    assert!(!said.contains("canary") && !federation.contains("canary") && !federation.contains("p-1"), "{said}");
    for part in ["groups: token.body.roles", "username: token.body.login", "failure: \"token.status == 401\""] {
        assert!(federation.contains(part), "{part}: {federation}");
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("all.yaml"), &federation).unwrap();
    let login = ["idp", "try", "--federation", "kc", "--username", "ana", "--danger-insecure-issuers", "--dir"];
    let mut tried = Command::new(idm());
    let tried = tried.args(login).arg(folder.path()).stdin(std::process::Stdio::piped());
    let mut tried = tried.stdout(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut tried.stdin.take().unwrap(), b"canary-right\n").unwrap();
    assert!(tried.wait_with_output().unwrap().status.success());
    // Without a login that is right nobody's account is touched.
    asked.lock().unwrap().clear();
    let (output, said) = probe_service(&address, None, "");
    assert!(output.status.success() && said.contains("‼ right login"), "{said}");
    assert!(asked.lock().unwrap().iter().all(|name| name.starts_with("idm-probe-")));
    let (output, said) = probe_service(&address, Some("ana"), "canary-wrong");
    assert!(!output.status.success() && said.contains("answered like one that cannot be right"), "{said}");
}
