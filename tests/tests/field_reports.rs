//! Reports from users of such systems, tried on ours: tokens, keys and people who sign in. Each test has the number of
//! its report, and beside it stand the inputs that stay refused.

use idm_jose::SigningKey;
use idm_tests::{
    Browser, Gateway, InProcess, Issuer, Provider, Reply, Serves, Upstream, eventually, now, open_to, raw,
};
use idm_types::Algorithm;
use serde_json::{Value, json};

const IDENTITY: &str = "    identity: {username: token.sub, roles: token.roles}\n";

fn key(kid: &str) -> SigningKey {
    SigningKey::generate(Algorithm::ES256, kid).unwrap()
}

/// A gateway in front of an upstream, with a provider of tokens.
struct Tokens<G = InProcess> {
    gateway: G,
    upstream: Upstream,
    issuer: Issuer,
    key: SigningKey,
}

impl Tokens {
    fn new(of_issuer: &str, of_policy: &str) -> Self {
        Self::on(of_issuer, of_policy)
    }
}

impl<G: Serves> Tokens<G> {
    /// With these members of the issuer's entry and of the policy.
    fn on(of_issuer: &str, of_policy: &str) -> Self {
        let key = key("k1");
        let (upstream, issuer) = (Upstream::new(), Issuer::new(&key));
        let method = format!(
            "    - name: people\n      jwt: {{issuers: [{{issuer: '{}', algorithms: [ES256, RS256], keys: \
                {{discovery: {{}}}}, {of_issuer}}}]}}\n{of_policy}",
            issuer.name()
        );
        let yaml = open_to(&upstream, &method);
        let gateway = G::start_with(&[("all.yaml", &yaml)], &["--danger-insecure-issuers"]);
        Self { gateway, upstream, issuer, key }
    }

    /// A token with these changes to its claims; `null` removes one.
    fn token(&self, change: Value) -> String {
        let mut claims = self.issuer.claims("ana");
        patch(&mut claims, change);
        self.key.sign(&claims).unwrap()
    }

    fn send(&self, token: &str) -> Reply {
        raw(
            self.gateway.address(),
            format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n").as_bytes(),
        )
    }

    fn accepted(&self, token: &str) -> String {
        self.upstream.forget();
        let reply = self.send(token);
        assert_eq!(reply.status, 200, "{}", self.gateway.record(reply.decision()));
        self.upstream.received().to_ascii_lowercase()
    }

    /// Refused for this reason, with nothing sent on and one record, whose detail comes back.
    fn refused(&self, token: &str, reason: &str) -> String {
        self.upstream.forget();
        let reply = self.send(token);
        let record = self.gateway.record(reply.decision());
        assert_eq!(record["reason"], reason, "{record}");
        assert_eq!(self.upstream.received(), "", "{reason}");
        record["detail"].as_str().unwrap_or_default().to_owned()
    }
}

fn patch(claims: &mut Value, change: Value) {
    for (name, value) in change.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
}

#[test]
fn f06_f07_f08_a_set_serves_without_the_keys_that_cannot_be_used() {
    let bed = Tokens::new("audiences: [orders]", "");
    let good = bed.key.jwks()["keys"][0].clone();
    let mut twin = good.clone();
    twin.as_object_mut().unwrap().remove("use");
    let weak = json!({"kty": "RSA", "kid": "old", "n": "AQAB", "e": "AQAB"});
    let mut no_y = key("half").jwks()["keys"][0].clone();
    no_y.as_object_mut().unwrap().remove("y");
    let (one, two) = (key("twice"), key("twice"));
    let twice = |key: &SigningKey| key.jwks()["keys"][0].clone();
    let set = json!({"keys": [weak, no_y, twin, good, twice(&one), twice(&two)]});
    bed.issuer.serve(200, &format!("\u{feff}{set}"));
    bed.accepted(&bed.token(json!({})));
    // Two different keys of one name serve nobody, and the record says which key is meant.
    for stranger in [&one, &two] {
        let token = stranger.sign(&bed.issuer.claims("ana")).unwrap();
        eventually("the new set is in force", || {
            let detail = bed.refused(&token, "UnknownKey");
            if detail.contains("two different keys") { Ok(()) } else { Err(detail) }
        });
    }
    let half = key("half").sign(&bed.issuer.claims("ana")).unwrap();
    let detail = bed.refused(&half, "UnknownKey");
    assert!(detail.contains("kid `half`") && !detail.contains("`old`"), "{detail}");
    let log = bed.gateway.log();
    assert!(log.contains("an issuer key is left out: kid `old`"), "{log}");
}

#[test]
fn f09_tokens_without_aud_are_bound_to_their_client() {
    let bed = Tokens::new("clientIds: [orders]", IDENTITY);
    let cognito = json!({"aud": null, "client_id": "orders", "token_use": "access"});
    let with = |change: Value| {
        let mut all = cognito.clone();
        all.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        bed.token(all)
    };
    bed.accepted(&with(json!({})));
    bed.accepted(&with(json!({"client_id": null, "azp": "orders", "token_use": null})));
    bed.accepted(&with(json!({"azp": "orders"})));
    for (change, reason) in [
        (json!({"client_id": "billing"}), "WrongAudience"),
        (json!({"client_id": "Orders"}), "WrongAudience"),
        (json!({"client_id": ["orders"]}), "WrongAudience"),
        (json!({"client_id": ""}), "WrongAudience"),
        (json!({"client_id": null}), "WrongAudience"),
        // Both count where both are there.
        (json!({"azp": "billing"}), "WrongAudience"),
        (json!({"client_id": "billing", "azp": "orders"}), "WrongAudience"),
        // A token with an audience is for that audience.
        (json!({"aud": "orders"}), "WrongAudience"),
        (json!({"aud": []}), "WrongAudience"),
        (json!({"token_use": "id"}), "WrongTokenType"),
        (json!({"token_use": true}), "WrongTokenType"),
        (json!({"token_use": ["access"]}), "WrongTokenType"),
    ] {
        bed.refused(&with(change), reason);
    }
    // With both, both are asked.
    let both = Tokens::new("audiences: [orders], clientIds: [web]", "");
    both.accepted(&both.token(json!({"azp": "web"})));
    both.refused(&both.token(json!({"azp": "other"})), "WrongAudience");
    both.refused(&both.token(json!({"azp": "web", "aud": "billing"})), "WrongAudience");
    both.refused(&both.token(json!({"azp": "web", "aud": null})), "WrongAudience");
    // Without the setting a token that names nothing but its client is refused, and the record says what would do.
    let usual = Tokens::new("audiences: [orders]", "");
    let detail = usual.refused(&usual.token(json!({"aud": null, "client_id": "orders"})), "WrongAudience");
    assert!(detail.contains("`clientIds`"), "{detail}");
}

#[test]
fn f10_f14_dates_and_subjects_are_read_however_they_are_written_and_never_rounded() {
    let bed = Tokens::new("audiences: [orders]", "");
    bed.accepted(&bed.token(json!({"exp": (now() + 60) as f64 + 0.5, "iat": now().to_string()})));
    let seen = bed.accepted(&bed.token(json!({"sub": 18_446_744_073_709_551_615_u64})));
    assert!(seen.contains("x-authenticated-userid: 18446744073709551615\r\n"), "{seen}");
    let milliseconds = bed.refused(&bed.token(json!({"exp": (now() + 60) * 1000})), "UnusableClaim");
    assert!(milliseconds.contains("`exp`") && milliseconds.contains("milliseconds"), "{milliseconds}");
    for (change, what) in [
        (json!({"exp": null}), "`exp` is absent"),
        (json!({"exp": "soon"}), "`exp` is a text"),
        (json!({"exp": true}), "`exp` is neither"),
        (json!({"nbf": -1}), "`nbf` is negative"),
        (json!({"sub": 4711.5}), "fraction"),
        (json!({"sub": 1e30}), "too large"),
        (json!({"sub": null}), "no `sub`"),
        (json!({"sub": [1]}), "neither a text nor a number"),
    ] {
        let detail = bed.refused(&bed.token(change), "UnusableClaim");
        assert!(detail.contains(what), "{detail}");
    }
}

#[test]
fn f26_names_that_are_no_roles_are_said() {
    let rule = "  authorization: {rules: [{name: writers, require: {roles: {all: [writer]}}}]}\n";
    let bed = Tokens::new("audiences: [orders]", &format!("    identity: {{roles: token.roles}}\n{rule}"));
    let detail = bed.refused(&bed.token(json!({"roles": ["Order Writer", "\u{202e}x", "reader"]})), "MissingRole");
    assert!(detail.contains("needs role `writer`; the caller has `reader`; roles dropped: `Order Writer`"), "{detail}");
    assert!(!detail.contains('\u{202e}'), "{detail}");
    bed.accepted(&bed.token(json!({"roles": ["writer", "/writer\\x"]})));
    eventually("the record of the success", || {
        let records = bed.gateway.records();
        let found = records.iter().find(|record| record["outcome"] == "Permitted");
        let found = found.ok_or_else(|| format!("{records:?}"))?;
        assert_eq!(found["identity"]["roles_dropped"], "`/writer\\x`", "{found}");
        Ok(())
    });
}

#[test]
fn a_redirect_of_the_key_set_is_named_in_the_log() {
    let bed = Tokens::<Gateway>::on("audiences: [orders]", "");
    bed.issuer.serve(301, "moved");
    eventually("the log", || {
        let _ = bed.send(&key("other").sign(&bed.issuer.claims("ana")).unwrap());
        let log = bed.gateway.log();
        if log.contains("answered 301") { Ok(()) } else { Err("not yet".to_owned()) }
    });
}

/// A gateway where people sign in.
struct People<G = InProcess> {
    gateway: G,
    upstream: Upstream,
    provider: Provider,
}

impl People {
    fn new(of_policy: &str, of_client: &str) -> Self {
        Self::on(of_policy, of_client)
    }
}

impl<G: Serves> People<G> {
    /// With these members of the policy, and these lines of the client and its Federation.
    fn on(of_policy: &str, of_client: &str) -> Self {
        let (upstream, provider) = (Upstream::new(), Provider::new(key("k1")));
        let method = format!("    - name: staff\n      signIn: {{federationRefs: [{{name: idp}}]}}\n{of_policy}");
        let yaml = format!("{}{}", open_to(&upstream, &method), provider.federation("idp", of_client));
        let gateway = G::start_with(&[("all.yaml", &yaml)], &["--danger-insecure-issuers"]);
        Self { gateway, upstream, provider }
    }

    fn browser(&self) -> Browser {
        Browser::new(self.gateway.address())
    }

    fn refused(&self, reply: &Reply, reason: &str) -> String {
        let record = self.gateway.record(reply.decision());
        assert_eq!(record["reason"], reason, "{record}");
        assert_eq!(self.upstream.received(), "");
        assert!(reply.header("content-type").is_some_and(|kind| kind.starts_with("text/html")), "{reply:?}");
        record["detail"].as_str().unwrap_or_default().to_owned()
    }
}

#[test]
fn f10_f14_a_person_with_fractional_times_a_number_and_no_token_type_signs_in() {
    let bed = People::new(IDENTITY, "");
    bed.provider.script(|script| {
        script.claims = json!({"iat": now() as f64 + 0.25, "auth_time": now() as f64 + 0.75, "sub": 4711});
        script.userinfo = json!({"sub": 4711});
        script.answer = json!({"token_type": null, "expires_in": "300"});
    });
    let mut browser = bed.browser();
    assert_eq!(browser.sign_in(&bed.provider, "/orders").status, 303);
    assert_eq!(browser.go("/orders").status, 200);
    let seen = bed.upstream.received().to_ascii_lowercase();
    assert!(seen.contains("x-authenticated-userid: 4711\r\n"), "{seen}");
    bed.upstream.forget();
    for (change, what) in [
        (json!({"iat": true}), "`iat` is neither"),
        (json!({"iat": now() * 1000}), "milliseconds"),
        (json!({"sub": 4711.5}), "`sub`"),
    ] {
        bed.provider.script(|script| script.claims = change);
        let detail = bed.refused(&bed.browser().sign_in(&bed.provider, "/orders"), "UntrustedSignIn");
        assert!(detail.contains(what), "{detail}");
    }
    bed.provider.behave();
    for kind in [json!("mac"), json!(1), json!("")] {
        bed.provider.script(|script| script.answer = json!({"token_type": kind}));
        bed.refused(&bed.browser().sign_in(&bed.provider, "/orders"), "UntrustedSignIn");
    }
}

#[test]
fn f12_an_answer_that_is_posted_is_checked_as_any_other() {
    let bed = People::<Gateway>::on(IDENTITY, "      parameters: [{name: response_mode, value: form_post}]\n");
    let mut browser = bed.browser();
    let there = browser.to_provider("/orders");
    assert!(there.contains("response_mode=form_post"), "{there}");
    let back = bed.provider.sign_in(&there);
    let (callback, form) = back.split_once('?').unwrap();
    let callback = callback.strip_prefix(&format!("http://{}", bed.gateway.address)).unwrap();
    let headers = [
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Accept", "text/html"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Origin", "https://appleid.example"),
    ];
    let form = format!("{form}&user=%7B%22name%22%3A1%7D&id_token=planted");
    // The browser leaves its `Lax` cookie out of a post of another site.
    let posted = Browser::new(bed.gateway.address).send("POST", callback, &headers, &form);
    assert_eq!(posted.status, 303);
    let on = browser.location(&posted);
    assert!(on.starts_with(&format!("{callback}?")) && !on.contains("id_token") && !on.contains("user="), "{on}");
    // A browser that did not begin it gets nowhere with it, and uses nothing up.
    bed.refused(&Browser::new(bed.gateway.address).go(&on), "UnknownSignIn");
    let done = browser.go(&on);
    assert_eq!((done.status, done.header("location")), (303, Some("/orders")));
    assert_eq!(browser.go("/orders").status, 200);
    bed.upstream.forget();
    let again = browser.go(&on);
    assert_eq!(bed.gateway.record(again.decision())["reason"], "UnknownSignIn", "it was used");
    assert_eq!(bed.upstream.received(), "");
    for (kind, body) in [
        ("application/x-www-form-urlencoded", "state=a&state=b"),
        ("application/json", "{\"state\":\"a\"}"),
        ("multipart/form-data; boundary=x", "--x--"),
    ] {
        let mut headers = headers;
        headers[0].1 = kind;
        let reply = Browser::new(bed.gateway.address).send("POST", callback, &headers, body);
        bed.refused(&reply, "MalformedRequest");
    }
    // Under a policy that did not ask for it, nothing is taken that way.
    let usual = People::new(IDENTITY, "");
    let reply = usual.browser().send("POST", "/_idm/callback/idp", &headers, "state=a&code=b");
    let detail = usual.refused(&reply, "MalformedRequest");
    assert!(detail.contains("form_post"), "{detail}");
}

#[test]
fn f13_an_address_that_does_not_count_is_explained() {
    let bed = People::new("    identity: {username: token.email}\n", "");
    bed.provider.script(|script| script.userinfo = json!({"email_verified": null}));
    let mut browser = bed.browser();
    browser.sign_in(&bed.provider, "/orders");
    let reply = browser.go("/orders");
    assert!(reply.body.contains("Something about your account is missing"), "{}", reply.body);
    let detail = bed.refused(&reply, "UnusableClaim");
    assert!(detail.contains("`email_verified`") && detail.contains("oidc.client.emails"), "{detail}");
}

#[test]
fn f15_the_page_first_asked_for_has_what_browsers_send_raw() {
    let bed = People::new(IDENTITY, "");
    let page = "/d/abc?left={a:1}&x=a|b";
    let back = bed.browser().sign_in(&bed.provider, page);
    assert_eq!((back.status, back.header("location")), (303, Some(page)));
}

#[test]
fn f16_a_form_after_the_session_ended_gets_a_page_that_says_so() {
    let bed = People::new(IDENTITY, "");
    let referer = format!("http://{}/orders/new?x=1", bed.gateway.address);
    let form = [
        ("Accept", "text/html"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Site", "same-origin"),
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Referer", referer.as_str()),
    ];
    let mut browser = bed.browser();
    let reply = browser.send("POST", "/orders", &form, "secret=planted-body");
    assert_eq!(reply.status, 401);
    bed.refused(&reply, "NoCredentials");
    assert!(reply.body.contains("The form was not sent"), "{}", reply.body);
    assert!(reply.body.contains("href=\"/_idm?to=%2Forders%2Fnew%3Fx%3D1\""), "{}", reply.body);
    assert!(!reply.body.contains("planted") && !bed.gateway.log().contains("planted-body"));
    assert!(browser.jar.is_empty());
    // A page elsewhere is no way back, and neither is what could be one.
    for elsewhere in ["https://evil.example/orders/new", "http://evil@x/", "javascript:alert(1)", "//evil"] {
        let mut headers = form;
        headers[4].1 = elsewhere;
        let reply = browser.send("POST", "/orders", &headers, "a=b");
        assert!(reply.body.contains("href=\"/_idm?to=%2Forders\"") && !reply.body.contains("evil"), "{}", reply.body);
    }
    // Programs and scripts get what they got.
    let calls: [&[(&str, &str)]; 3] = [
        &[("Accept", "application/json"), ("Content-Type", "application/json")],
        &[("Accept", "text/html"), ("Sec-Fetch-Mode", "cors"), ("Content-Type", "application/x-www-form-urlencoded")],
        &[("Content-Type", "application/x-www-form-urlencoded")],
    ];
    for headers in calls {
        let reply = browser.send("POST", "/orders", headers, "a=b");
        assert_eq!((reply.status, reply.header("content-type")), (401, Some("application/problem+json")));
    }
}

#[test]
fn f17_the_provider_s_words_are_on_record_with_and_without_state() {
    let bed = People::new(IDENTITY, "");
    let said = "error=invalid_scope&error_description=AADSTS650053%3A+no+scope%0D%0ATrace+ID%3A+%1B%5B2J+77";
    let reply = bed.browser().go(&format!("/_idm/callback/idp?{said}"));
    assert_eq!(reply.status, 403);
    let detail = bed.refused(&reply, "SignInRefused");
    assert!(detail.contains("without `state` says `invalid_scope`: AADSTS650053: no scope Trace ID:"), "{detail}");
    assert!(!detail.contains('\u{1b}') && !reply.body.contains("AADSTS"), "{detail}");
    let long = format!("/_idm/callback/idp?error=x%20y&error_description={}", "a".repeat(2000));
    let detail = bed.refused(&bed.browser().go(&long), "SignInRefused");
    assert!(detail.contains("an error that is not a code") && detail.len() < 500, "{detail}");
    bed.provider
        .script(|script| script.back = json!({"code": null, "error": "access_denied", "error_description": "no seat"}));
    let detail = bed.refused(&bed.browser().sign_in(&bed.provider, "/orders"), "SignInRefused");
    assert_eq!(detail, "the provider answered `access_denied`: no seat");
    bed.refused(&bed.browser().go("/_idm/callback/idp?code=x"), "UnknownSignIn");
}

#[test]
fn f25_a_provider_s_clock_may_be_ahead_as_far_as_the_federation_says() {
    let ahead = |seconds: u64| json!({"iat": now() + seconds, "nbf": now() + seconds});
    let patient = People::new(IDENTITY, "  clockSkewSeconds: 120\n");
    patient.provider.script(|script| script.claims = ahead(45));
    assert_eq!(patient.browser().sign_in(&patient.provider, "/orders").status, 303);
    patient.provider.script(|script| script.claims = ahead(180));
    patient.refused(&patient.browser().sign_in(&patient.provider, "/orders"), "UntrustedSignIn");
    let usual = People::new(IDENTITY, "");
    usual.provider.script(|script| script.claims = ahead(45));
    usual.refused(&usual.browser().sign_in(&usual.provider, "/orders"), "UntrustedSignIn");
}
