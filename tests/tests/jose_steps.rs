//! JOSE at the gateway: what callers send is opened and checked, what goes on is signed and encrypted.

use idm_jose::{
    DecryptionKeys, EncryptionKey, Expectations, Jwe, JweExpectations, Jwk, Jws, JwsForm, KeySet, SigningKey,
    Unverified, generate_rsa, system_entropy,
};
use idm_tests::{Gateway, InProcess, Reply, Serves, Upstream, now, open_to, raw};
use idm_types::{Algorithm, ContentEncryption, KeyManagement, Skew, Timestamp};
use serde_json::{Value, json};

fn secret(name: &str, key: &str, value: &str) -> String {
    format!("---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {{{key}: '{value}'}}\n")
}

fn credential(name: &str) -> String {
    format!(
        "---\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {{name: {name}}}\nspec: \
            {{password: {{}}, secretRef: {{name: {name}}}}}\n{}",
        secret(name, "password", "secret")
    )
}

struct Bed<G = InProcess> {
    gateway: G,
    upstream: Upstream,
}

fn bed<G: Serves>(upstream: Upstream, steps: &str, rest: &str) -> Bed<G> {
    let methods = "    - {name: people, basic: {realm: shop}}\n    - {name: everyone, anonymous: {}}\n";
    let yaml = format!("{}{steps}{rest}", open_to(&upstream, methods));
    Bed { gateway: G::start_with(&[("all.yaml", &yaml)], &[]), upstream }
}

impl<G: Serves> Bed<G> {
    fn post(&self, headers: &str, body: &str) -> Reply {
        raw(
            self.gateway.address(),
            format!("POST /x HTTP/1.1\r\nHost: a\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes(),
        )
    }

    fn refused(&self, reply: &Reply, reason: &str) {
        let record = self.gateway.record(reply.decision());
        assert_eq!(record["reason"], reason, "{record}");
        assert_eq!(self.upstream.received(), "", "{reason}");
    }

    /// The body that the upstream received.
    fn seen_body(&self) -> String {
        self.upstream.received().split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
    }

    fn seen_header(&self, name: &str) -> Option<String> {
        let seen = self.upstream.received();
        seen.lines().find_map(|line| {
            line.split_once(':').filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim().to_owned())
        })
    }
}

fn sealed(inner: &str, to: &Jwk, algorithm: KeyManagement, encryption: ContentEncryption) -> String {
    let key = EncryptionKey::from_jwk(to, algorithm).unwrap();
    key.encrypt(encryption, Default::default(), inner.as_bytes(), &mut system_entropy).unwrap().compact()
}

#[test]
fn a_signed_and_encrypted_body_is_opened_for_the_upstream_and_nothing_else_passes() {
    let (ours, theirs, stranger) = (
        generate_rsa(2048).unwrap().named("enc-1"),
        SigningKey::generate(Algorithm::ES256, "sig-1").unwrap(),
        SigningKey::generate(Algorithm::ES256, "sig-1").unwrap(),
    );
    let steps = format!(
        "  jose:\n  - name: open\n    consume:\n      from: {{body: {{}}}}\n      decrypt: {{secretRef: {{name: \
            enc}}, algorithms: [RSA-OAEP-256], encryptions: [A256GCM]}}\n      verify: {{keys: {{inline: '{}'}}, \
            algorithms: [ES256]}}\n      to: {{body: {{contentType: application/json}}}}\n  authorization: {{rules: \
            [{{name: level, when: 'jose.open.claims.level > 2'}}]}}\n  upstream: {{headers: [{{name: X-Order, value: \
            jose.open.claims.order}}, {{name: X-Signed-By, value: jose.open.signature.kid}}]}}\n",
        theirs.jwks()
    );
    let bed: Bed = bed(Upstream::new(), &steps, &secret("enc", "jwks.json", &ours.reveal().to_string()));
    let signed = |key: &SigningKey, claims: Value| {
        key.sign_payload(&key.header(), claims.to_string().as_bytes()).unwrap().compact()
    };
    let good = signed(&theirs, json!({"order": 7, "level": 3}));
    let (alg, enc) = (KeyManagement::RsaOaep256, ContentEncryption::A256Gcm);

    assert_eq!(
        bed.post("X-Order: forged\r\nContent-Type: application/jose\r\n", &sealed(&good, &ours, alg, enc)).status,
        200
    );
    assert_eq!(serde_json::from_str::<Value>(&bed.seen_body()).unwrap(), json!({"order": 7, "level": 3}));
    assert_eq!(
        (bed.seen_header("x-order").as_deref(), bed.seen_header("x-signed-by").as_deref()),
        (Some("7"), Some("sig-1"))
    );
    assert_eq!(bed.seen_header("content-type").as_deref(), Some("application/json"));
    assert_eq!(bed.seen_header("content-length"), Some(bed.seen_body().len().to_string()));

    bed.upstream.forget();
    let other = generate_rsa(2048).unwrap().named("enc-1");
    let mut altered = sealed(&good, &ours, alg, enc).into_bytes();
    let last = altered.len() - 3;
    altered[last] = if altered[last] == b'A' { b'B' } else { b'A' };
    for (body, reason) in [
        (String::new(), "MissingObject"),
        ("{\"order\": 7}".to_owned(), "MalformedToken"),
        (good.clone(), "MalformedToken"),
        (sealed(&good, &other, alg, enc), "CannotDecrypt"),
        (String::from_utf8(altered).unwrap(), "CannotDecrypt"),
        (sealed(&good, &ours, KeyManagement::RsaOaep, enc), "AlgorithmNotAllowed"),
        (sealed(&good, &ours, alg, ContentEncryption::A128CbcHs256), "AlgorithmNotAllowed"),
        // Anyone can encrypt for a public key: what is inside must be signed all the same.
        (sealed("{\"order\": 7}", &ours, alg, enc), "MalformedToken"),
        (sealed(&signed(&stranger, json!({"order": 7, "level": 3})), &ours, alg, enc), "BadSignature"),
        (sealed(&signed(&theirs, json!({"order": 7, "level": 1})), &ours, alg, enc), "NoRuleMatched"),
    ] {
        bed.refused(&bed.post("", &body), reason);
    }
    let log = bed.gateway.log();
    assert!(!log.contains(ours.text("d").unwrap()), "no key in the log");
}

#[test]
fn a_detached_signature_covers_the_body_that_goes_on() {
    let key = SigningKey::generate(Algorithm::HS256, "shared").unwrap();
    let steps = "  jose:\n  - name: webhook\n    consume: {from: {body: {}}, verify: {keys: {secretRef: {name: \
        shared}}, algorithms: [HS256], detachedHeader: X-Signature}}\n";
    let bed: Bed = bed(Upstream::new(), steps, &secret("shared", "jwks.json", key.reveal_jwk()));
    let signature = |body: &str| {
        format!("X-Signature: {}\r\n", key.sign_payload(&key.header(), body.as_bytes()).unwrap().detached())
    };
    assert_eq!(bed.post(&signature("hello"), "hello").status, 200);
    assert_eq!(bed.seen_body(), "hello");
    bed.upstream.forget();
    bed.refused(&bed.post(&signature("hello"), "hullo"), "BadSignature");
    bed.refused(&bed.post("", "hello"), "MissingObject");
    bed.refused(&bed.post("X-Signature: a..b\r\n", "hello"), "MalformedToken");
}

#[test]
fn a_token_in_a_header_of_its_own_is_checked_like_any_other() {
    let key = SigningKey::generate(Algorithm::EdDSA, "k").unwrap();
    let steps = format!(
        "  jose:\n  - name: assertion\n    consume: {{from: {{header: X-Assertion}}, verify: {{keys: {{inline: \
            '{}'}}, algorithms: [EdDSA], claims: {{issuer: 'https://me', audiences: [orders]}}}}}}\n  upstream: \
            {{headers: [{{name: X-Subject, value: jose.assertion.claims.sub}}]}}\n",
        key.jwks()
    );
    let bed: Bed = bed(Upstream::new(), &steps, "");
    let send = |claims: Value| bed.post(&format!("X-Assertion: {}\r\n", key.sign(&claims).unwrap()), "x");
    assert_eq!(send(json!({"iss": "https://me", "aud": "orders", "sub": "ana", "exp": now() + 60})).status, 200);
    assert_eq!((bed.seen_header("x-subject").as_deref(), bed.seen_header("x-assertion")), (Some("ana"), None));
    bed.upstream.forget();
    bed.refused(&send(json!({"iss": "https://me", "aud": "orders", "exp": now() - 60})), "TokenExpired");
    bed.refused(&send(json!({"iss": "https://me", "aud": "billing", "exp": now() + 60})), "WrongAudience");
    bed.refused(&bed.post("", "x"), "MissingObject");
}

#[test]
fn the_upstream_gets_a_signed_token_that_speaks_of_the_caller() {
    let key = SigningKey::generate(Algorithm::PS256, "out-1").unwrap();
    let steps = "  jose:\n  - name: passport\n    produce:\n      sign:\n        keyRef: {name: out}\n        \
        algorithm: PS256\n        claims: {issuer: 'https://shop', audiences: [a, b], subject: identity.username, \
        expireAfterSeconds: 60, issuedAtOffsetSeconds: -5, id: true, custom: [{name: path, value: request.path}, \
        {name: none, value: token.nothing}]}\n      to: {header: X-Passport}\n";
    let bed: Bed =
        bed(Upstream::new(), steps, &format!("{}{}", secret("out", "key", key.reveal_jwk()), credential("ana")));
    assert_eq!(bed.post("Authorization: Basic YW5hOnNlY3JldA==\r\nX-Passport: forged\r\n", "x").status, 200);
    let token = bed.seen_header("x-passport").unwrap();
    let keys = KeySet::parse(key.jwks().to_string().as_bytes(), &[Algorithm::PS256]).unwrap();
    let audiences = ["b".to_owned()];
    let expected = Expectations {
        client_ids: &[],
        issuer: "https://shop",
        audiences: &audiences,
        algorithms: &[Algorithm::PS256],
        types: &[],
        skew: Skew::from_seconds(0),
    };
    let claims = Unverified::parse(&token)
        .unwrap()
        .verify(&keys, &expected, Timestamp::from_seconds(now()))
        .unwrap()
        .into_claims();
    let number = |name: &str| claims.members()[name].as_u64().unwrap();
    assert_eq!(
        (claims.text("sub"), claims.text("path"), claims.members().get("none")),
        (Some("ana"), Some("/x"), None)
    );
    assert_eq!(number("exp"), number("iat") + 60);
    assert!(number("iat") <= now() - 4 && claims.text("jti").unwrap().len() == 22);
    assert_eq!(bed.seen_body(), "x", "the body is as it was");
}

#[test]
fn a_body_is_signed_and_encrypted_for_the_upstream_and_the_answer_signed_for_the_caller() {
    let (sign, to) = (SigningKey::generate(Algorithm::ES384, "s").unwrap(), generate_rsa(2048).unwrap().named("up"));
    let steps = format!(
        "  jose:\n  - name: seal\n    produce:\n      from: {{body: {{}}}}\n      sign: {{keyRef: {{name: s}}, \
            algorithm: ES384, cty: json}}\n      encrypt: {{jwk: '{}', algorithm: RSA-OAEP, encryption: \
            A128CBC-HS256, cty: JOSE}}\n      to: {{body: {{contentType: application/jose}}}}\n  - name: \
            receipt\n    produce: {{message: Response, from: {{body: {{}}}}, sign: {{keyRef: {{name: s}}, algorithm: \
            ES384, form: Detached}}, to: {{header: X-Receipt}}}}\n",
        to.public().unwrap().reveal()
    );
    let bed: Bed<Gateway> = bed(Upstream::new(), &steps, &secret("s", "key", sign.reveal_jwk()));
    let reply = bed.post("", "{\"a\":1}");
    assert_eq!((reply.status, reply.body.as_str()), (200, "ok"));
    let keys = DecryptionKeys::parse(to.reveal().to_string().as_bytes(), &[KeyManagement::RsaOaep]).unwrap();
    let expected = JweExpectations {
        key_management: &[KeyManagement::RsaOaep],
        content_encryption: &[ContentEncryption::A128CbcHs256],
        compressed: false,
    };
    let opened = Jwe::parse(&bed.seen_body()).unwrap().decrypt(&keys, &expected).unwrap();
    assert_eq!((opened.header["cty"].as_str(), opened.header["kid"].as_str()), (Some("JOSE"), Some("up")));
    let signers = KeySet::parse(sign.jwks().to_string().as_bytes(), &[Algorithm::ES384]).unwrap();
    let inner = String::from_utf8(opened.payload).unwrap();
    assert_eq!(Jws::parse(&inner).unwrap().verify(&signers, &[Algorithm::ES384]).unwrap().payload, b"{\"a\":1}");
    let form = JwsForm { detached: Some(b"ok"), max_bytes: 0 };
    assert!(
        Jws::parse_compact(reply.header("x-receipt").unwrap(), form)
            .unwrap()
            .verify(&signers, &[Algorithm::ES384])
            .is_ok()
    );
}

#[test]
fn the_key_is_chosen_by_a_value_and_no_key_means_no_request() {
    let (a, b) =
        (SigningKey::generate(Algorithm::ES256, "a").unwrap(), SigningKey::generate(Algorithm::ES256, "b").unwrap());
    let steps = "  jose:\n  - name: by\n    produce:\n      from: {body: {}}\n      sign: {keyFor: \
        \"request.headers['x-tenant']\", keys: [{value: a, keyRef: {name: ka}}, {value: b, keyRef: {name: kb}}], \
        algorithm: ES256, form: Json}\n      to: {body: {}}\n";
    let bed: Bed = bed(
        Upstream::new(),
        steps,
        &format!("{}{}", secret("ka", "key", a.reveal_jwk()), secret("kb", "key", b.reveal_jwk())),
    );
    for (tenant, key) in [("a", &a), ("b", &b)] {
        bed.upstream.forget();
        assert_eq!(bed.post(&format!("X-Tenant: {tenant}\r\n"), "hi").status, 200);
        let keys = KeySet::parse(key.jwks().to_string().as_bytes(), &[Algorithm::ES256]).unwrap();
        let body = bed.seen_body();
        let jws = Jws::parse_json(&body, JwsForm::default()).unwrap().remove(0);
        assert_eq!(jws.verify(&keys, &[Algorithm::ES256]).unwrap().payload, b"hi");
    }
    bed.upstream.forget();
    let reply = bed.post("X-Tenant: c\r\n", "hi");
    assert_eq!(reply.status, 500);
    bed.refused(&reply, "ObjectNotMade");
}

#[test]
fn what_cannot_be_done_is_said_before_it_is_served() {
    use idm_compile::{Settings, compile, yaml::read_files};
    let upstream = Upstream::new();
    let key = SigningKey::generate(Algorithm::ES256, "k").unwrap();
    let said = |step: &str, rest: &str| {
        let yaml = format!(
            "{}  jose: [{{name: s, {step}}}]\n{rest}",
            open_to(&upstream, "    - {name: everyone, anonymous: {}}\n")
        );
        let (world, _) = read_files(&[("all.yaml".into(), yaml)], Settings::of_a_folder(false)).unwrap();
        let compiled = compile(&world, None);
        assert!(
            !format!("{:?}{:?}{:?}", compiled.plan, compiled.secrets, compiled.credentials)
                .contains(&key.reveal_jwk()[60..100]),
            "no key in what is printed"
        );
        compiled.report.findings().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let keyed = secret("k", "key", key.reveal_jwk());
    let sign = |more: &str| {
        format!("produce: {{from: {{body: {{}}}}, sign: {{keyRef: {{name: k}}, {more}}}, to: {{body: {{}}}}}}")
    };
    assert_eq!(said(&sign("algorithm: ES256"), &keyed), "");
    assert!(said(&sign("algorithm: RS256"), &keyed).contains("cannot be used with RS256"));
    assert!(said(&sign("algorithm: ES256"), "").contains("Secret 'k' must exist"));
    assert!(said(&sign("algorithm: ES256, certificate: [x5c]"), &keyed).contains("under `tls.crt`"));
    let inline = |jwks: &str| {
        format!("consume: {{from: {{body: {{}}}}, verify: {{keys: {{inline: '{jwks}'}}, algorithms: [ES256]}}}}")
    };
    assert!(
        said(&inline(&json!({"keys": [serde_json::from_str::<Value>(key.reveal_jwk()).unwrap()]}).to_string()), "")
            .contains("holds a private or symmetric key")
    );
    let pbes = "consume: {from: {body: {}}, decrypt: {secretRef: {name: p}, algorithms: [PBES2-HS256+A128KW], \
        encryptions: [A128GCM]}}";
    assert!(said(pbes, &secret("p", "jwks.json", "{\"kty\":\"oct\",\"k\":\"c2VjcmV0\"}")).contains("DangerousOption"));
    let private = format!(
        "produce: {{from: {{body: {{}}}}, encrypt: {{jwk: '{}', algorithm: ECDH-ES, encryption: A128GCM}}, to: \
            {{body: {{}}}}}}",
        key.reveal_jwk().replace("\"use\":\"sig\",", "").replace("\"alg\":\"ES256\",", "")
    );
    assert!(said(&private, "").contains("must be a public key"), "{}", said(&private, ""));
}

#[test]
fn a_certificate_in_the_object_counts_only_with_its_chain_its_name_and_its_time() {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let (partners, others) = (idm_tests::Authority::new("partners"), idm_tests::Authority::new("others"));
    partners.issue("orders", "DNS:orders.partner.example", "clientAuth", "20400101000000Z");
    partners.issue("billing", "DNS:billing.partner.example", "clientAuth", "20400101000000Z");
    partners.issue("late", "DNS:orders.partner.example", "clientAuth", "20210101000000Z");
    partners.issue("gone", "DNS:orders.partner.example", "clientAuth", "20400101000000Z");
    others.issue("orders", "DNS:orders.partner.example", "clientAuth", "20400101000000Z");
    partners.revoke("gone");
    let steps = "  jose: [{name: in, consume: {from: {body: {}}, verify: {certificates: {trustBundleRef: {name: ca}, \
        revocationListRef: {name: ca}, names: [{name: DNS, is: orders.partner.example}]}, algorithms: [ES256]}, to: \
        {body: {contentType: application/json}}}}]\n";
    let bundle =
        idm_tests::secret("ca", &[("ca.crt", partners.read("ca.crt")), ("ca.crl", partners.revocation_list())]);
    let bed: Bed = bed(Upstream::new(), steps, &bundle);
    let der = |authority: &idm_tests::Authority, file: &str| {
        let pem = authority.read(file);
        STANDARD
            .encode(STANDARD.decode(pem.lines().filter(|line| !line.starts_with("-----")).collect::<String>()).unwrap())
    };
    let key = |authority: &idm_tests::Authority, name: &str| {
        SigningKey::from_jwk(&idm_jose::private_key(&authority.read(&format!("{name}.key"))).unwrap(), Algorithm::ES256)
            .unwrap()
    };
    let sign = |key: &SigningKey, members: Value| {
        let mut header = key.header();
        header.extend(members.as_object().unwrap().clone());
        key.sign_payload(&header, b"{\"order\":7}").unwrap().compact()
    };
    let good = key(&partners, "orders");
    for members in [
        json!({"x5c": [der(&partners, "orders.crt")]}),
        json!({"x5c": [der(&partners, "orders.crt"), der(&partners, "ca.crt")], "kid": "any name"}),
    ] {
        assert_eq!(bed.post("", &sign(&good, members)).status, 200);
    }
    assert!(bed.seen_body().starts_with("{\"order\":7}"), "{}", bed.seen_body());
    bed.upstream.forget();
    for (key, members, reason) in [
        (&good, json!({}), "UntrustedCertificate"),
        (&good, json!({"x5c": []}), "UntrustedCertificate"),
        (&good, json!({"x5c": ["!!"]}), "UntrustedCertificate"),
        (&good, json!({"x5c": [der(&partners, "orders.crt")], "x5t#S256": "x"}), "UntrustedCertificate"),
        // Another certificate's key, a certificate of another authority, and of another name.
        (&good, json!({"x5c": [der(&partners, "billing.crt")]}), "CertificateNotAllowed"),
        (&key(&partners, "billing"), json!({"x5c": [der(&partners, "billing.crt")]}), "CertificateNotAllowed"),
        (&key(&partners, "billing"), json!({"x5c": [der(&partners, "orders.crt")]}), "BadSignature"),
        (&key(&others, "orders"), json!({"x5c": [der(&others, "orders.crt")]}), "UntrustedCertificate"),
        (
            &key(&others, "orders"),
            json!({"x5c": [der(&others, "orders.crt"), der(&others, "ca.crt")]}),
            "UntrustedCertificate",
        ),
        (&key(&partners, "late"), json!({"x5c": [der(&partners, "late.crt")]}), "CertificateExpired"),
        (&key(&partners, "gone"), json!({"x5c": [der(&partners, "gone.crt")]}), "CertificateRevoked"),
    ] {
        bed.refused(&bed.post("", &sign(key, members)), reason);
    }
}
