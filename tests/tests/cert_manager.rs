//! Certificates and bundles as cert-manager and trust-manager write them.

use std::process::Command;

use idm_compile::{Settings, compile, yaml::read_files};
use idm_jose::private_key;
use idm_tests::{Authority, Gateway, HTTPS_LISTENER, Upstream, config_map, secret};

const LATER: &str = "20400101000000Z";

/// Kinds of keys as OpenSSL makes them, with the label that cert-manager's default encoding has for each.
const KEYS: &[(&str, &str)] = &[
    ("rsa:2048", "RSA PRIVATE KEY"),
    ("ec -pkeyopt ec_paramgen_curve:P-256", "EC PRIVATE KEY"),
    ("ec -pkeyopt ec_paramgen_curve:P-384", "EC PRIVATE KEY"),
    ("ed25519", "PRIVATE KEY"),
];

const DEVICES: &str = "    - {name: devices, mtls: {trustBundleRef: {kind: ConfigMap, name: roots}, identity: URI}}\n";

/// The Secret of a Certificate: chain, key and the authority, under the keys that cert-manager uses.
fn certificate(authority: &Authority, name: &str) -> String {
    let read = |end: &str| authority.read(&format!("{name}.{end}"));
    secret(name, &[("ca.crt", authority.read("ca.crt")), ("tls.crt", read("crt")), ("tls.key", read("key"))])
}

/// An authority that issued `server` for a key of this kind, written as cert-manager writes it.
fn issued(kind: &str, label: &str) -> Authority {
    let authority = Authority::new("issuer");
    authority.issue_for(kind, "server", "DNS:api.example", "serverAuth", LATER);
    traditionally(&authority, "server", label);
    let key = authority.read("server.key");
    assert!(key.starts_with(&format!("-----BEGIN {label}-----")), "{kind}: {}", key.lines().next().unwrap());
    authority
}

/// Ed25519 has PKCS#8 alone.
fn traditionally(authority: &Authority, name: &str, label: &str) {
    if label != "PRIVATE KEY" {
        authority.write_key_traditionally(name);
    }
}

fn said(text: String) -> String {
    let (world, _) = read_files(&[("all.yaml".into(), text)], Settings::of_a_folder(false)).unwrap();
    compile(&world, None).report.findings().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_listener_and_its_callers_use_what_the_two_write() {
    let callers = Authority::new("callers");
    callers.issue_for("rsa:2048", "device", "URI:spiffe://shop/device/7", "clientAuth", LATER);
    let strangers = Authority::new("strangers");
    strangers.issue("device", "URI:spiffe://shop/device/7", "clientAuth", LATER);
    for (kind, label) in KEYS {
        let (upstream, servers) = (Upstream::new(), issued(kind, label));
        let roots = config_map("roots", &[("ca.crt", callers.read("ca.crt"))]);
        let policy = idm_tests::open_to(&upstream, DEVICES);
        let yaml = format!("{policy}{roots}{}{HTTPS_LISTENER}", certificate(&servers, "server"));
        let gateway = Gateway::start_with(&[("all.yaml", &yaml)], &["--listen-tls", "127.0.0.1:0"]);
        let address = gateway.tls.unwrap();
        let call = |authority: Option<&Authority>| {
            upstream.forget();
            let shown =
                authority.map(|of| ["--cert".into(), of.path("device.crt"), "--key".into(), of.path("device.key")]);
            let output = Command::new("curl")
                .args(["-s", "-D", "-", "-o", "/dev/null", "--cacert", &servers.path("ca.crt")])
                .args(shown.into_iter().flatten())
                .args(["--resolve", &format!("api.example:{}:127.0.0.1", address.port())])
                .arg(format!("https://api.example:{}/x", address.port()))
                .output()
                .expect("curl runs");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let taken = call(Some(&callers));
        assert!(taken.split_whitespace().nth(1) == Some("200"), "{kind}: {taken}");
        assert!(upstream.received().contains("spiffe://shop/device/7"), "{kind}");
        // The handshake ends with a certificate of another authority; without one there is an answer.
        assert_eq!((call(Some(&strangers)).as_str(), upstream.received().as_str()), ("", ""), "{kind}");
        let refused = call(None);
        let id = refused
            .lines()
            .find_map(|line| line.strip_prefix("x-decision-id: "))
            .unwrap_or_else(|| panic!("no decision for {kind}: {refused}"))
            .trim();
        assert_eq!(gateway.record(id)["reason"], "NoCredentials", "{kind}: {refused}");
        assert_eq!(upstream.received(), "");
    }
}

#[test]
fn a_bundle_that_is_not_there_is_named() {
    let upstream = Upstream::new();
    let yaml = |map: &str| format!("{}{map}", idm_tests::open_to(&upstream, DEVICES));
    let good = config_map("roots", &[("ca.crt", Authority::new("callers").read("ca.crt"))]);
    assert_eq!(said(yaml(&good)), "");
    assert!(said(yaml("")).contains("ConfigMap 'roots' must exist"));
    // A Secret of the same name is something else.
    assert!(
        said(yaml(&good.replace("ConfigMap", "Secret").replace("\ndata:", "\nstringData:"))).contains("must exist")
    );
    assert!(said(yaml(&good.replace("ca.crt", "bundle.pem"))).contains("must have the key 'ca.crt'"));
    assert!(said(yaml(&good.replace("CERTIFICATE", "PUBLIC KEY"))).contains("at least one `CERTIFICATE`"));
}

fn openssl(arguments: &str) -> String {
    let output = Command::new("openssl").args(arguments.split(' ')).output().expect("openssl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn one_key_has_one_reading_whatever_its_form() {
    for (kind, label) in KEYS {
        let authority = Authority::new("issuer");
        authority.issue_for(kind, "key", "DNS:a", "clientAuth", LATER);
        let pkcs8 = private_key(&authority.read("key.key")).expect("PKCS#8");
        traditionally(&authority, "key", label);
        let text = authority.read("key.key");
        assert!(text.contains(label));
        let traditional = private_key(&text).unwrap_or_else(|| panic!("{kind} as {label}"));
        assert_eq!(traditional.thumbprint().unwrap(), pkcs8.thumbprint().unwrap(), "{kind}");
    }
    let with_parameters = openssl("ecparam -name secp521r1 -genkey");
    assert!(with_parameters.contains("EC PARAMETERS") && private_key(&with_parameters).is_some());
}

#[test]
fn a_saml_key_may_have_either_form() {
    let federation = "apiVersion: identity-manager.io/v1alpha1\nkind: Federation\nmetadata: {name: corp}\nspec:\n  \
                      saml:\n    entityId: https://idp.example\n    metadata: \
                      {uri: 'https://idp.example/metadata'}\n    \
                      serviceProvider: {keyRef: {name: own}}\n";
    for (kind, label) in KEYS {
        let authority = Authority::new("issuer");
        authority.issue_for(kind, "own", "DNS:a", "clientAuth", LATER);
        let pkcs8 = said(format!("{federation}{}", certificate(&authority, "own")));
        traditionally(&authority, "own", label);
        let traditional = said(format!("{federation}{}", certificate(&authority, "own")));
        // SAML signs with RSA or ECDSA.
        let is_refused = *label == "PRIVATE KEY";
        for message in [pkcs8, traditional] {
            assert_eq!(message.contains("serviceProvider.keyRef"), is_refused, "{kind}: {message}");
        }
    }
}

#[test]
fn what_is_no_single_private_key_is_refused() {
    let rsa = openssl("genrsa -traditional 2048");
    let encrypted = openssl("genrsa -traditional -aes128 -passout pass:canary 2048");
    let unknown_curve = openssl("ecparam -name secp256k1 -genkey -noout");
    let mislabelled = rsa.replace("RSA PRIVATE KEY", "EC PRIVATE KEY");
    for text in [&format!("{rsa}{rsa}"), &encrypted, &unknown_curve, &mislabelled, &rsa[..rsa.len() / 2]] {
        assert!(private_key(text).is_none(), "{}", text.lines().next().unwrap());
    }
    // A listener says so, and nothing of what the Secret holds.
    let (upstream, servers) = (Upstream::new(), issued("rsa:2048", "RSA PRIVATE KEY"));
    let policy = idm_tests::open_to(&upstream, idm_tests::ANONYMOUS);
    let good = certificate(&servers, "server");
    let second = servers.read("server.key").lines().nth(1).unwrap().to_owned();
    let bad = good.replace(&second, "canary");
    let message = said(format!("{policy}{bad}{HTTPS_LISTENER}"));
    assert!(message.contains("private key (`tls.key`)") && !message.contains("canary"), "{message}");
}
