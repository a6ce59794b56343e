//! People sign in at an OpenID Connect provider, which behaves well or as it is told.
//!
//! The field's failures, by number: T-05 "a credential says" (unverified addresses), T-38 "side by side", T-39 and T-47
//! "an answer counts", T-42 "does not prove", T-43 "never taken for each other", T-44 "refreshed once" and "two
//! gateways",
//! T-46 "a restart loses", T-48 "an answer counts" (verifier and challenge), T-51 "no secret", T-52 "a path of the same
//! host", T-55 "a person signs in" (issuer and subject). T-40 and T-41 have no ground here: nothing is signed into
//! cookies.

use std::sync::Arc;
use std::time::Duration;

use idm_jose::SigningKey;
use idm_tests::{
    Authority, Browser, CLIENT_SECRET, Gateway, InProcess, Provider, Redis, Reply, Script, Serves, Upstream,
    eventually, now, open_to, raw, secret,
};
use idm_types::Algorithm;
use serde_json::{Value, json};

struct Bed<G = InProcess> {
    gateway: G,
    upstream: Upstream,
    provider: Provider,
}

const IDENTITY: &str = "    identity: \
    {username: token.sub, roles: token.roles, attributes: [{name: email, value: token.email}]}\n  upstream:\n    \
    headers: [{name: X-Authenticated-UserId, value: identity.username}, \
    {name: X-Authenticated-Email, value: identity.attributes.email}, \
    {name: X-Authenticated-Roles, value: \"identity.roles\"}]\n";

fn key() -> SigningKey {
    SigningKey::generate(Algorithm::ES256, "k1").unwrap()
}

/// A gateway where people sign in at one provider: with these members of `signIn`, of the policy and of the client.
fn bed_on<G: Serves>(of_sign_in: &str, of_policy: &str, of_client: &str) -> Bed<G> {
    let (upstream, provider) = (Upstream::new(), Provider::new(key()));
    let method =
        format!("    - name: staff\n      signIn: {{federationRefs: [{{name: idp}}]{of_sign_in}}}\n{of_policy}");
    let yaml = format!("{}{}", open_to(&upstream, &method), provider.federation("idp", of_client));
    let gateway = G::start_with(&[("all.yaml", &yaml)], &["--danger-insecure-issuers"]);
    Bed { gateway, upstream, provider }
}

fn bed_with(of_sign_in: &str, of_policy: &str, of_client: &str) -> Bed {
    bed_on(of_sign_in, of_policy, of_client)
}

fn bed() -> Bed {
    bed_with("", IDENTITY, "")
}

/// The same in a process of its own.
fn process() -> Bed<Gateway> {
    bed_on("", IDENTITY, "")
}

impl<G: Serves> Bed<G> {
    fn browser(&self) -> Browser {
        Browser::new(self.gateway.address())
    }

    /// A refusal: its reason is on its one record, and the upstream heard nothing.
    fn refused(&self, reply: &Reply, status: u16, reason: &str) -> Value {
        let record = self.gateway.record(reply.decision());
        assert_eq!((reply.status, record["reason"].as_str()), (status, Some(reason)), "{record}");
        assert_eq!(self.upstream.received(), "");
        record
    }

    /// Signs in at the provider, and gives the gateway's answer to the browser that comes back.
    fn come_back(&self, browser: &mut Browser) -> Reply {
        browser.sign_in(&self.provider, "/orders")
    }
}

#[test]
fn a_person_signs_in_and_comes_back_to_the_page_first_asked_for() {
    let bed = process();
    let mut browser = bed.browser();
    let first = browser.go("/orders?day=1&x=%2F");
    assert_eq!((first.status, first.header("location")), (303, Some("/_idm?to=%2Forders%3Fday%3D1%26x%3D%252F")));
    assert!(browser.jar.is_empty(), "a request that is only sent on sets nothing");
    bed.refused(&first, 303, "NoCredentials");
    let back = browser.sign_in(&bed.provider, "/orders?day=1&x=%2F");
    assert_eq!((back.status, back.header("location")), (303, Some("/orders?day=1&x=%2F")));
    let cookie = &browser.attributes["OIDC_SESSION"];
    assert_eq!(cookie, "Path=/; HttpOnly; SameSite=Lax");
    assert!(browser.jar["OIDC_SESSION"].len() == 43, "{:?}", browser.jar);
    assert_eq!(browser.go("/orders?day=1&x=%2F").status, 200);
    let seen = bed.upstream.received().to_ascii_lowercase();
    assert!(
        seen.contains("x-authenticated-userid: ana\r\n")
            && seen.contains("x-authenticated-email: ana@shop.example\r\n"),
        "{seen}"
    );
    assert!(seen.contains("x-authenticated-roles: order-reader\r\n"), "{seen}");
    assert!(!seen.contains("oidc_") && !seen.contains("planted"), "no cookie of ours goes on: {seen}");
    let record = eventually("the record", || {
        let records = bed.gateway.records();
        records
            .iter()
            .find(|record| record["outcome"] == "Permitted" && record["request"]["path"] == "/orders")
            .cloned()
            .ok_or_else(|| format!("{records:?}"))
    });
    assert_eq!(record["identity"]["id"], format!("{}#ana", bed.provider.issuer()), "{record}");
    assert_eq!(
        (record["identity"]["kind"].as_str(), record["policy"]["method"].as_str()),
        (Some("signIn"), Some("staff")),
        "{record}"
    );
    let callback = eventually("the record", || {
        let records = bed.gateway.records();
        records
            .into_iter()
            .find(|record| record["request"]["path"] == "/_idm/callback/idp")
            .ok_or_else(|| "not yet".into())
    });
    assert_eq!(
        (callback["outcome"].as_str(), callback["identity"]["username"].as_str()),
        (Some("Permitted"), Some("ana")),
        "{callback}"
    );
    assert_eq!(callback["route"], "IdentityPolicy default/p sign-in: callback idp");
}

#[test]
fn programs_and_scripts_get_401_and_are_sent_nowhere() {
    let bed = bed();
    let mut browser = bed.browser();
    let calls: [&[(&str, &str)]; 6] = [
        &[("Accept", "application/json")],
        &[],
        &[("Accept", "*/*"), ("Sec-Fetch-Mode", "cors")],
        &[("Accept", "text/html"), ("Sec-Fetch-Mode", "no-cors")],
        &[("Accept", "text/html"), ("X-Requested-With", "XMLHttpRequest")],
        &[("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate"), ("Upgrade", "websocket"), ("Connection", "upgrade")],
    ];
    for headers in calls {
        let reply = browser.send("GET", "/orders", headers, "");
        bed.refused(&reply, 401, "NoCredentials");
        assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{headers:?}");
        assert_eq!(reply.header("location"), None);
        let problem: Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!(problem["signIn"], "/_idm");
        assert_eq!(reply.header("www-authenticate"), Some("Cookie realm=\"default/p\""));
    }
    let posted = browser.send("POST", "/orders", &[("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate")], "x");
    bed.refused(&posted, 401, "NoCredentials");
    assert!(browser.jar.is_empty());
}

#[test]
fn twelve_scripts_with_an_expired_session_get_401_and_no_cookie() {
    let bed = bed();
    let stale = "A".repeat(43);
    let calls: Vec<_> = (0..12)
        .map(|_| {
            let mut browser = bed.browser();
            browser.jar.insert("OIDC_SESSION".into(), stale.clone());
            std::thread::spawn(move || browser.fetch("/orders"))
        })
        .collect();
    for call in calls {
        let reply = call.join().unwrap();
        assert_eq!(reply.header("set-cookie"), None);
        bed.refused(&reply, 401, "SessionEnded");
    }
}

#[test]
fn a_browser_holds_one_cookie_for_all_tabs_and_each_tab_comes_back_to_its_page() {
    let bed = bed();
    let mut browser = bed.browser();
    let places: Vec<String> = (0..5).map(|tab| browser.to_provider(&format!("/tab/{tab}"))).collect();
    assert_eq!(browser.jar.len(), 1, "{:?}", browser.jar);
    assert!(browser.jar["OIDC_LOGIN"].len() < 128);
    for (tab, place) in places.iter().enumerate().rev() {
        let back = bed.provider.sign_in(place);
        let back = browser.go(back.strip_prefix(&format!("http://{}", browser.host)).unwrap());
        assert_eq!((back.status, back.header("location")), (303, Some(format!("/tab/{tab}").as_str())));
        assert_eq!(browser.go("/orders").status, 200);
    }
    assert_eq!(browser.jar.len(), 2, "{:?}", browser.jar);
}

#[test]
fn an_answer_counts_for_the_browser_that_asked_and_once() {
    let bed = bed();
    let mut browser = bed.browser();
    let back = bed.provider.sign_in(&browser.to_provider("/orders"));
    let back = back.strip_prefix(&format!("http://{}", browser.host)).unwrap().to_owned();
    let query = back.split_once('?').unwrap().1.to_owned();
    let of = |name: &str| query.split('&').find(|pair| pair.starts_with(&format!("{name}="))).unwrap().to_owned();
    let (state, code, iss) = (of("state"), of("code"), of("iss"));
    let path = "/_idm/callback/idp";
    // An answer counts for no other browser, and not when it was changed on the way.
    let mut another = bed.browser();
    another.to_provider("/orders");
    let begins_anew = another.go(&back);
    bed.refused(&begins_anew, 303, "UnknownSignIn");
    assert_eq!(
        (begins_anew.header("location"), another.jar.contains_key("OIDC_SESSION")),
        (Some("/_idm?to=%2Forders"), false)
    );
    bed.refused(&bed.browser().go(&back), 400, "UnknownSignIn");
    for (target, reason) in [
        (format!("{path}?{code}&{iss}"), "UnknownSignIn"),
        (format!("{path}?state=&{code}&{iss}"), "UnknownSignIn"),
        (format!("{path}?{state}&{state}&{code}&{iss}"), "MalformedRequest"),
        (format!("{path}?{state}&{code}&{code}&{iss}"), "MalformedRequest"),
        (path.to_owned(), "UnknownSignIn"),
    ] {
        bed.refused(&browser.go(&target), 400, reason);
    }
    bed.refused(&browser.go(&format!("{path}?{state}&{code}&iss=https%3A%2F%2Fevil.example")), 403, "UntrustedSignIn");
    bed.refused(&browser.go(&format!("{path}?{state}&{code}")), 403, "UntrustedSignIn");
    assert!(bed.provider.asked("/token").is_empty(), "nothing was redeemed");
    bed.refused(&browser.send("POST", &back, &[], ""), 400, "MalformedRequest");
    // A state that was changed on the way counts for nothing but its page, and that only if it is one of ours.
    for (changed, leads_to) in [
        (state.replace('.', "A."), "/_idm?to=%2Forders"),
        (format!("state=x.{}", idm_jose::to_base64url(b"//evil")), "/_idm"),
    ] {
        let reply = browser.go(&format!("{path}?{changed}&{code}&{iss}"));
        bed.refused(&reply, 303, "UnknownSignIn");
        assert_eq!(reply.header("location"), Some(leads_to), "{changed}");
    }
    assert!(bed.provider.asked("/token").is_empty(), "nothing was redeemed");
    assert_eq!(browser.go(&back).status, 303);
    assert_eq!(bed.provider.asked("/token").len(), 1);
    let again = browser.go(&back);
    bed.refused(&again, 303, "UnknownSignIn");
    assert_eq!(
        again.header("location"),
        Some("/_idm?to=%2Forders"),
        "who goes back in the history ends up at the page"
    );
    assert_eq!(bed.provider.asked("/token").len(), 1, "what was used is not redeemed again");
    // A sign-in without a code, and one without both.
    let mut third = bed.browser();
    bed.provider.script(|script| script.back = json!({"code": null}));
    bed.refused(&bed.come_back(&mut third), 400, "UnknownSignIn");
    bed.provider.script(|script| script.back = json!({"code": null, "error": "access_denied"}));
    let record = bed.refused(&bed.come_back(&mut third), 403, "SignInRefused");
    assert_eq!(record["detail"], "the provider answered `access_denied`");
    bed.provider.script(|script| script.back = json!({"code": null, "error": "<script>\u{1b}[31m"}));
    let record = bed.refused(&bed.come_back(&mut third), 403, "SignInRefused");
    assert_eq!(record["detail"], "the provider answered an error that is not a code");
}

/// Every "must reject" of the OpenID relying party tests, and more: the reason and what was found are on record.
#[test]
fn an_answer_that_does_not_prove_who_it_is_lets_nobody_in() {
    let bed = bed();
    let other = || Some(Arc::new(key()));
    let unsigned = |token: String| {
        let payload = token.split('.').nth(1).unwrap();
        format!("{}.{payload}.", idm_jose::to_base64url(br#"{"alg":"none"}"#))
    };
    let with_public_key = |token: String| format!("{token}A");
    type Change = Box<dyn Fn(&mut Script)>;
    let claims = |change: Value| -> Change { Box::new(move |script| script.claims = change.clone()) };
    let cases: Vec<(&str, Change, &str)> = vec![
        ("invalid-iss", claims(json!({"iss": "https://evil.example"})), "UnknownIssuer"),
        ("missing-iss", claims(json!({"iss": null})), "UnknownIssuer"),
        ("invalid-aud", claims(json!({"aud": "another-client"})), "WrongAudience"),
        ("missing-aud", claims(json!({"aud": null})), "WrongAudience"),
        ("several audiences without azp", claims(json!({"aud": ["shop", "other"]})), "`azp`"),
        ("azp of another", claims(json!({"azp": "other"})), "`azp`"),
        ("missing-sub", claims(json!({"sub": null})), "`sub`"),
        ("missing-iat", claims(json!({"iat": null})), "`iat`"),
        ("missing-exp", claims(json!({"exp": null})), "exp"),
        ("expired", claims(json!({"exp": now() - 100})), "TokenExpired"),
        ("future", claims(json!({"iat": now() + 300})), "TokenNotYetValid"),
        ("text for a date", claims(json!({"nbf": "never"})), "UnusableClaim"),
        ("nonce-invalid", claims(json!({"nonce": "other"})), "`nonce`"),
        ("nonce-missing", claims(json!({"nonce": null})), "no `nonce`"),
        ("invalid-at_hash", claims(json!({"at_hash": "AAAA"})), "`at_hash`"),
        ("invalid-sig", Box::new(move |script| script.signer = other()), "BadSignature"),
        ("sig-none", Box::new(move |script| script.mangle = unsigned), "lgorithm"),
        ("longer signature", Box::new(move |script| script.mangle = with_public_key), ""),
        ("userinfo-invalid-sub", Box::new(|script| script.userinfo = json!({"sub": "eve"})), "userinfo"),
        ("userinfo-missing-sub", Box::new(|script| script.userinfo = json!({"sub": null})), "userinfo"),
        ("no id token", Box::new(|script| script.answer = json!({"id_token": null})), "id token"),
        ("not bearer", Box::new(|script| script.answer = json!({"token_type": "mac"})), "token_type"),
    ];
    for (name, change, found) in cases {
        bed.provider.behave();
        bed.provider.script(|script| change(script));
        let mut browser = bed.browser();
        let reply = bed.come_back(&mut browser);
        let record = bed.refused(&reply, 403, "UntrustedSignIn");
        assert!(record["detail"].as_str().unwrap().contains(found), "{name}: {record}");
        assert!(!browser.jar.contains_key("OIDC_SESSION"), "{name}");
        assert!(
            reply.header("content-type").unwrap().starts_with("text/html") && reply.body.contains(reply.decision()),
            "{name}"
        );
    }
    bed.provider.behave();
    assert_eq!(bed.come_back(&mut bed.browser()).status, 303);
    // Deviations that an honest provider may have.
    let skipped = json!({"keys": [
        {"kty": "AKP", "alg": "ML-DSA-44", "kid": "a", "pub": "AA"}, {"kty": "made-up", "kid": "b"},
        {"kty": "EC", "crv": "P-999", "x": "AA", "y": "AA", "kid": "c"},
        bed.provider.key().jwks()["keys"][0],
    ]});
    bed.provider.script(|script| script.jwks = Some(skipped.to_string()));
    assert_eq!(bed.come_back(&mut bed.browser()).status, 303);
}

#[test]
fn tabs_that_are_opened_at_once_all_come_back_to_their_pages() {
    let bed = bed();
    // Neither tab knows of the other's cookie, and the last one to come stays.
    let (mut one, mut two) = (bed.browser(), bed.browser());
    let (first, second) = (one.to_provider("/tab/1"), two.to_provider("/tab/2"));
    let mut browser = two;
    let path_of = |url: String| url.strip_prefix(&format!("http://{}", bed.gateway.address)).unwrap().to_owned();
    let lost = browser.go(&path_of(bed.provider.sign_in(&first)));
    assert_eq!((lost.status, lost.header("location")), (303, Some("/_idm?to=%2Ftab%2F1")));
    let begun = browser.go(lost.header("location").unwrap());
    let back = browser.go(&path_of(bed.provider.sign_in(&browser.location(&begun))));
    assert_eq!((back.status, back.header("location")), (303, Some("/tab/1")));
    let back = browser.go(&path_of(bed.provider.sign_in(&second)));
    assert_eq!((back.status, back.header("location")), (303, Some("/tab/2")));
    assert_eq!(browser.go("/tab/2").status, 200);
}

#[test]
fn two_providers_are_never_taken_for_each_other() {
    let (upstream, honest, other) = (Upstream::new(), Provider::new(key()), Provider::new(key()));
    let method =
        format!("    - name: staff\n      signIn: {{federationRefs: [{{name: idp}}, {{name: other}}]}}\n{IDENTITY}");
    let yaml =
        format!("{}{}{}", open_to(&upstream, &method), honest.federation("idp", ""), other.federation("other", ""));
    let gateway = InProcess::start_with(&[("all.yaml", &yaml)], &["--danger-insecure-issuers"]);
    let bed = Bed { gateway, upstream, provider: honest };
    let mut browser = bed.browser();
    let start = browser.go("/orders");
    let start = browser.location(&start);
    let chooser = browser.go(&start);
    assert_eq!(chooser.status, 200);
    assert!(
        chooser.body.contains("href=\"/_idm?at=idp&amp;to=%2Forders\"")
            && chooser.body.contains("href=\"/_idm?at=other&amp;to=%2Forders\""),
        "{}",
        chooser.body
    );
    let mut there = |name: &str| {
        let reply = browser.go(&format!("/_idm?at={name}&to=%2Forders"));
        browser.location(&reply)
    };
    let (to_honest, to_other) = (there("idp"), there("other"));
    let path_of = |url: &str| url.strip_prefix(&format!("http://{}", bed.gateway.address)).unwrap().to_owned();
    // The answer of one is brought to the endpoint of the other (mix-up, RFC 9700 §4.4).
    let swapped = path_of(&other.sign_in(&to_other)).replace("/callback/other", "/callback/idp");
    bed.refused(&browser.go(&swapped), 303, "UnknownSignIn");
    assert!(bed.provider.asked("/token").is_empty());
    // A code of one with the state of the other.
    let (of_honest, of_other) = (path_of(&bed.provider.sign_in(&to_honest)), path_of(&other.sign_in(&to_other)));
    let part = |url: &str, name: &str| url.split(['?', '&']).find(|pair| pair.starts_with(name)).unwrap().to_owned();
    let mixed = of_honest
        .replace(&part(&of_honest, "code="), &part(&of_other, "code=").replace("planted-code-2", "planted-code-9"));
    bed.refused(&browser.go(&mixed), 403, "SignInRefused");
    assert!(bed.provider.asked("/token").iter().all(|asked| !asked.body.contains("redirect_uri=x")));
    bed.refused(&browser.go("/_idm?at=nobody"), 400, "MalformedRequest");
    assert_eq!(browser.go(&of_other).status, 303);
    assert_eq!(browser.go("/orders").status, 200);
}

#[test]
fn the_client_proves_itself_as_the_federation_says() {
    let bed = bed();
    assert_eq!(bed.come_back(&mut bed.browser()).status, 303);
    let asked = &bed.provider.asked("/token")[0];
    assert!(
        asked.headers["authorization"].starts_with("Basic ") && !asked.parameters.contains_key("client_secret"),
        "{asked:?}"
    );
    assert_eq!(asked.parameters["redirect_uri"], format!("http://{}/_idm/callback/idp", bed.gateway.address));
    let secret_of = |authentication: &str| {
        let (upstream, provider) = (Upstream::new(), Provider::new(key()));
        let method = "    - name: staff\n      signIn: {federationRefs: [{name: idp}]}\n";
        let federation =
            provider.federation("idp", "").replace("clientSecretBasic: {name: idp-client}", authentication);
        let signing = SigningKey::generate(Algorithm::ES256, "client-key").unwrap();
        let secret = format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: signing}}\nstringData: {{key: '{}'}}\n",
            signing.reveal_jwk()
        );
        let yaml = format!("{}{federation}{secret}", open_to(&upstream, method));
        let gateway = InProcess::start_with(&[("all.yaml", &yaml)], &["--danger-insecure-issuers"]);
        assert_eq!(Browser::new(gateway.address).sign_in(&provider, "/").status, 303);
        (provider.asked("/token").remove(0), provider.issuer(), signing)
    };
    let (posted, ..) = secret_of("clientSecretPost: {name: idp-client}");
    assert_eq!(
        (posted.parameters["client_id"].as_str(), posted.parameters["client_secret"].as_str()),
        ("shop", CLIENT_SECRET)
    );
    assert!(!posted.headers.contains_key("authorization"));
    let (signed, issuer, key) = secret_of("privateKeyJwt: {keyRef: {name: signing}}");
    let keys = idm_jose::KeySet::parse(key.jwks().to_string().as_bytes(), &[Algorithm::ES256]).unwrap();
    let audiences = [issuer];
    let expected = idm_jose::Expectations {
        client_ids: &[],
        issuer: "shop",
        audiences: &audiences,
        algorithms: &[Algorithm::ES256],
        types: &[],
        skew: idm_types::Skew::from_seconds(0),
    };
    let assertion = idm_jose::Unverified::parse(&signed.parameters["client_assertion"]).unwrap();
    let verified = assertion.verify(&keys, &expected, idm_types::Timestamp::from_seconds(now() + 1)).unwrap();
    assert_eq!((verified.claims().text("sub"), verified.claims().text("jti").map(str::len)), (Some("shop"), Some(22)));
    assert_eq!(signed.parameters["client_assertion_type"], "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
}

#[test]
fn a_request_is_pushed_where_the_provider_offers_it() {
    let bed = bed_with("", IDENTITY, "      parameters: [{name: kc_idp_hint, value: corp}]\n");
    let endpoint = format!("{}/par", bed.provider.issuer());
    bed.provider.script(|script| script.metadata = json!({"pushed_authorization_request_endpoint": endpoint}));
    let mut browser = bed.browser();
    let there = browser.to_provider("/orders");
    assert!(
        there.contains("request_uri=urn")
            && there.contains("client_id=shop")
            && !there.contains("state=")
            && !there.contains("nonce="),
        "{there}"
    );
    let pushed = &bed.provider.asked("/par")[0];
    assert_eq!(
        (pushed.parameters["kc_idp_hint"].as_str(), pushed.parameters["response_type"].as_str()),
        ("corp", "code")
    );
    assert_eq!(pushed.parameters["client_id"], "shop");
    let back = bed.provider.sign_in(&there);
    assert_eq!(browser.go(back.strip_prefix(&format!("http://{}", browser.host)).unwrap()).status, 303);
    assert_eq!(browser.go("/orders").status, 200);
}

#[test]
fn where_a_browser_is_sent_back_to_is_a_path_of_the_same_host() {
    let bed = bed();
    for (to, expected) in [
        ("%2Forders%3Fx%3D1", "/orders?x=1"),
        ("https%3A%2F%2Fevil.example", "/"),
        ("%2F%2Fevil.example", "/"),
        ("%2F%5Cevil.example", "/"),
        ("%5C%5Cevil.example", "/"),
        ("javascript%3Aalert(1)", "/"),
        ("%2F%09%2Fevil.example", "/"),
        ("%2F_idm%2Flogout", "/"),
        ("", "/"),
    ] {
        let mut browser = bed.browser();
        let reply = browser.go(&format!("/_idm?to={to}"));
        let back = bed.provider.sign_in(&browser.location(&reply));
        let back = browser.go(back.strip_prefix(&format!("http://{}", browser.host)).unwrap());
        assert_eq!(back.header("location"), Some(expected), "{to}");
    }
}

#[test]
fn a_page_of_another_site_changes_nothing_with_a_persons_session() {
    let bed = bed();
    let mut browser = bed.browser();
    bed.come_back(&mut browser);
    let own = format!("http://{}", browser.host);
    for headers in [
        &[("Sec-Fetch-Site", "cross-site")][..],
        &[("Sec-Fetch-Site", "same-site")],
        &[("Origin", "https://evil.example")],
        &[("Origin", "null")],
    ] {
        bed.refused(&browser.send("POST", "/orders", headers, ""), 403, "CrossSiteRequest");
    }
    for headers in [&[][..], &[("Origin", own.as_str())], &[("Sec-Fetch-Site", "same-origin")]] {
        assert_eq!(browser.send("POST", "/orders", headers, "").status, 200, "{headers:?}");
    }
    assert_eq!(
        browser.send("GET", "/orders", &[("Sec-Fetch-Site", "cross-site")], "").status,
        200,
        "a link from elsewhere"
    );
}

#[test]
fn tokens_are_refreshed_once_however_many_want_them() {
    let bed = process();
    bed.provider.script(|script| script.lifetime = 1);
    let mut browser = bed.browser();
    bed.come_back(&mut browser);
    std::thread::sleep(Duration::from_millis(1100));
    // The refresh token works once, and the answer takes its time.
    bed.provider.script(|script| (script.delay, script.lifetime) = (Duration::from_secs(2), 300));
    let before = bed.provider.asked("/token").len();
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let mut browser = browser.clone();
            std::thread::spawn(move || browser.fetch("/orders").status)
        })
        .collect();
    let statuses: Vec<u16> = calls.into_iter().map(|call| call.join().unwrap()).collect();
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(bed.provider.asked("/token").len(), before + 1);
}

#[test]
fn a_session_follows_what_the_provider_says_of_the_person() {
    let bed = bed();
    let mut browser = bed.browser();
    let short = |script: &mut Script| script.lifetime = 1;
    bed.provider.script(short);
    bed.come_back(&mut browser);
    bed.provider.script(|script| script.claims = json!({"roles": ["order-writer"]}));
    let asks_until = |browser: &mut Browser, what: &str| {
        eventually(what, || {
            bed.upstream.forget();
            let reply = browser.fetch("/orders");
            let seen = format!("{} {}", reply.status, bed.upstream.received());
            if seen.contains(what) { Ok(()) } else { Err(seen) }
        })
    };
    asks_until(&mut browser, "order-writer");
    // The provider is away: who is signed in stays so, and nobody else gets in.
    bed.provider.script(|script| script.down = true);
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(browser.fetch("/orders").status, 200);
    // The provider ends it.
    let mut another = bed.browser();
    bed.provider.behave();
    bed.provider.script(short);
    bed.come_back(&mut another);
    bed.provider.script(|script| script.token_status = 400);
    asks_until(&mut another, "401 ");
    bed.upstream.forget();
    let reply = another.fetch("/orders");
    bed.refused(&reply, 401, "SessionEnded");
}

#[test]
fn nobody_signs_in_at_a_provider_that_is_away_or_suspended() {
    let bed = bed();
    let mut browser = bed.browser();
    bed.come_back(&mut browser);
    bed.provider.script(|script| script.down = true);
    assert_eq!(browser.go("/orders").status, 200);
    bed.upstream.forget();
    let waiting = bed.browser().to_provider("/orders");
    bed.provider.behave();
    let mut late = bed.browser();
    let there = late.to_provider("/orders");
    assert!(!waiting.is_empty());
    bed.provider.script(|script| script.down = true);
    let back = bed.provider.sign_in(&there);
    let reply = late.go(back.strip_prefix(&format!("http://{}", late.host)).unwrap());
    bed.refused(&reply, 503, "ProviderUnavailable");
    bed.provider.behave();
    // Suspended: sessions and sign-ins alike, within a moment, and back again.
    let yaml = bed.gateway.read("all.yaml");
    bed.gateway.write("all.yaml", &yaml.replace("spec:\n  oidc:", "spec:\n  suspend: true\n  oidc:"));
    let refused = eventually("suspension", || {
        let reply = browser.fetch("/orders");
        if reply.status == 403 { Ok(reply) } else { Err(reply.status.to_string()) }
    });
    bed.upstream.forget();
    bed.refused(&refused, 403, "FederationSuspended");
    bed.refused(&late.go("/_idm?to=%2Forders"), 403, "FederationSuspended");
    bed.gateway.write("all.yaml", &yaml);
    eventually("the end of it", || {
        if browser.fetch("/orders").status == 200 { Ok(()) } else { Err("still refused".into()) }
    });
    // Ended by the Federation: everyone's, and those of one person.
    let ended = format!(
        "spec:\n  endedSessions: [{{beforeTime: '{}'}}]\n  oidc:",
        idm_types::Timestamp::from_seconds(now() + 1).rfc3339()
    );
    bed.gateway.write("all.yaml", &yaml.replace("spec:\n  oidc:", &ended));
    eventually("the end of the session", || {
        if browser.fetch("/orders").status == 401 { Ok(()) } else { Err("still there".into()) }
    });
}

#[test]
fn claims_that_the_policy_requires_decide() {
    let bed = bed_with(
        ", requiredClaims: [{claim: hd, values: [shop.example]}, {claim: roles, values: [order-writer, order-reader]}]",
        IDENTITY,
        "",
    );
    let mut browser = bed.browser();
    assert_eq!(bed.come_back(&mut browser).status, 303);
    let page = browser.go("/orders");
    let record = bed.refused(&page, 403, "ClaimRequired");
    assert_eq!(record["detail"], "there is no `hd`");
    assert!(
        page.body.contains("You have no access")
            && page.body.contains(page.decision())
            && page.header("location").is_none(),
        "{page:?}"
    );
    assert_eq!(browser.fetch("/orders").header("content-type"), Some("application/problem+json"));
    bed.provider.script(|script| script.claims = json!({"hd": "shop.example"}));
    bed.come_back_anew(&mut browser);
    assert_eq!(browser.go("/orders").status, 200);
    bed.upstream.forget();
    bed.provider.script(|script| script.claims = json!({"hd": "evil.example"}));
    bed.come_back_anew(&mut browser);
    bed.refused(&browser.go("/orders"), 403, "ClaimRequired");
}

impl<G: Serves> Bed<G> {
    /// Signs in again although there is a session.
    fn come_back_anew(&self, browser: &mut Browser) {
        let reply = browser.go("/_idm?to=%2Forders");
        let back = self.provider.sign_in(&browser.location(&reply));
        assert_eq!(browser.go(back.strip_prefix(&format!("http://{}", browser.host)).unwrap()).status, 303);
    }
}

#[test]
fn a_weak_or_old_sign_in_is_asked_for_again_and_never_in_circles() {
    let bed = bed_with(", stepUp: {acrValues: [gold, silver], maxAgeSeconds: 60}", IDENTITY, "");
    let mut browser = bed.browser();
    let there = browser.to_provider("/orders");
    assert!(there.contains("acr_values=gold+silver") && there.contains("max_age=60"), "{there}");
    let back = |browser: &mut Browser| {
        let reply = browser.go("/_idm?to=%2Forders");
        let back = bed.provider.sign_in(&browser.location(&reply));
        browser.go(back.strip_prefix(&format!("http://{}", browser.host)).unwrap())
    };
    // The provider does not do what it is asked for: the person is told, and not sent round.
    let page = back(&mut browser);
    bed.refused(&page, 401, "StepUpRequired");
    assert!(page.body.contains("Please sign in more strongly"), "{}", page.body);
    bed.provider.script(|script| script.claims = json!({"acr": "gold", "auth_time": now() - 200}));
    bed.refused(&back(&mut browser), 401, "StepUpRequired");
    bed.provider.script(|script| script.claims = json!({"acr": "gold", "auth_time": null}));
    bed.refused(&back(&mut browser), 403, "UntrustedSignIn");
    bed.provider.script(|script| script.claims = json!({"acr": "silver", "auth_time": now() - 57}));
    assert_eq!(back(&mut browser).status, 303);
    assert_eq!(browser.go("/orders").status, 200);
    bed.upstream.forget();
    // A session that has become too old asks the person again, and tells a script.
    eventually("age", || if browser.fetch("/orders").status == 401 { Ok(()) } else { Err("not yet".into()) });
    bed.upstream.forget();
    bed.refused(&browser.fetch("/orders"), 401, "StepUpRequired");
    assert_eq!(browser.go("/orders").header("location"), Some("/_idm?to=%2Forders"));
}

#[test]
fn the_same_page_over_and_over_is_a_loop_and_ends() {
    let bed = bed();
    let mut browser = bed.browser();
    for _ in 0..6 {
        assert_eq!(browser.go("/_idm?to=%2Forders").status, 303);
    }
    bed.refused(&browser.go("/_idm?to=%2Forders"), 508, "SignInLoop");
    assert_eq!(browser.go("/_idm?to=%2Fanother").status, 303);
}

#[test]
fn over_plain_http_people_sign_in_on_this_machine_only() {
    let bed = bed();
    let mut browser = bed.browser();
    browser.host = "shop.example".into();
    bed.refused(&browser.go("/_idm"), 400, "OriginNotAllowed");
    browser.host = format!("localhost:{}", bed.gateway.address.port());
    assert_eq!(browser.go("/_idm").status, 303);
    let bed = bed_with(", origins: ['https://shop.example']", IDENTITY, "");
    let mut browser = bed.browser();
    bed.refused(&browser.go("/_idm"), 400, "OriginNotAllowed");
    browser.host = "shop.example".into();
    let there = browser.to_provider("/orders");
    assert!(there.contains("redirect_uri=https%3A%2F%2Fshop.example%2F_idm%2Fcallback%2Fidp"), "{there}");
    let back = bed.provider.sign_in(&there);
    assert_eq!(browser.go(back.strip_prefix("https://shop.example").unwrap()).status, 303);
    assert!(browser.attributes["__Host-OIDC_SESSION"].contains("Secure"), "{:?}", browser.attributes);
    assert_eq!(browser.go("/orders").status, 200);
}

#[test]
fn one_route_takes_sessions_tokens_and_keys_side_by_side() {
    let (upstream, provider) = (Upstream::new(), Provider::new(key()));
    let methods = "    - name: staff\n      signIn: {federationRefs: [{name: idp}]}\n    - name: apps\n      jwt: \
        {issuers: [{federationRef: {name: idp}, audiences: [orders]}]}\n    - {name: machines, apiKey: {}}\n";
    let yaml = format!("{}{}", open_to(&upstream, methods), provider.federation("idp", ""));
    let gateway = InProcess::start_with(&[("all.yaml", &yaml)], &["--danger-insecure-issuers"]);
    let bed = Bed { gateway, upstream, provider };
    let mut browser = bed.browser();
    bed.come_back(&mut browser);
    assert_eq!(browser.fetch("/orders").status, 200);
    let claims = json!({"iss": bed.provider.issuer(), "aud": "orders", "sub": "app", "exp": now() + 60});
    let bearer = format!("Bearer {}", bed.provider.key().sign(&claims).unwrap());
    let mut program = bed.browser();
    assert_eq!(program.send("GET", "/orders", &[("Authorization", &bearer)], "").status, 200);
    // A session that is over is no credential: the token beside it counts.
    program.jar.insert("OIDC_SESSION".into(), "A".repeat(43));
    assert_eq!(program.send("GET", "/orders", &[("Authorization", &bearer)], "").status, 200);
    bed.upstream.forget();
    // No token is taken for a session (T-38), and two sessions are not one.
    bed.refused(&program.send("GET", "/orders", &[("Authorization", "Bearer x")], ""), 401, "MalformedToken");
    bed.refused(&program.send("GET", "/orders", &[], ""), 401, "SessionEnded");
    program.jar.remove("OIDC_SESSION");
    bed.refused(&program.send("GET", "/orders", &[("Authorization", "Bearer x")], ""), 401, "MalformedToken");
    let twice = format!(
        "GET /orders HTTP/1.1\r\nHost: a\r\nCookie: OIDC_SESSION={0}; OIDC_SESSION={0}\r\n\r\n",
        browser.jar["OIDC_SESSION"]
    );
    bed.refused(&raw(bed.gateway.address, twice.as_bytes()), 400, "AmbiguousCredential");
}

#[test]
fn whose_session_is_over_sees_what_is_open_to_everyone() {
    let bed = bed_with("", &format!("    - {{name: everyone, anonymous: {{}}}}\n{IDENTITY}"), "");
    let mut browser = bed.browser();
    assert_eq!(browser.go("/orders").status, 200);
    assert!(!bed.upstream.received().contains("ana"));
    bed.come_back_anew(&mut browser);
    assert_eq!(browser.go("/orders").status, 200);
    assert!(bed.upstream.received().contains("ana@shop.example"));
    let cookie = browser.jar["OIDC_SESSION"].clone();
    browser.go("/_idm/logout");
    bed.upstream.forget();
    browser.jar.insert("OIDC_SESSION".into(), cookie);
    assert_eq!(browser.go("/orders").status, 200);
    assert!(!bed.upstream.received().contains("ana"), "nobody, and not the person who was here");
}

#[test]
fn a_credential_says_what_the_person_may_do() {
    let credentials = ", credentials: {user: token.email}";
    let bed = bed_with(
        credentials,
        &format!("{IDENTITY}  authorization: {{rules: [{{name: write, require: {{roles: {{any: [clerk]}}}}}}]}}\n"),
        "",
    );
    let mut browser = bed.browser();
    bed.come_back(&mut browser);
    let record = bed.refused(&browser.go("/orders"), 403, "NoPersonCredential");
    assert_eq!(record["detail"], "there is none for `ana@shop.example`");
    let person = |more: &str| {
        format!(
            "---\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {{name: ana}}\nspec: \
                {{person: {{user: ana@shop.example{more}}}, roles: [clerk]"
        )
    };
    // `None`: the call passes.
    let becomes = |credential: String, reason: Option<&str>| {
        bed.gateway.write("ana.yaml", &format!("{credential}}}\n"));
        eventually("the Credential", || {
            bed.upstream.forget();
            let reply = browser.clone().fetch("/orders");
            let found = reply
                .header("x-decision-id")
                .map(|id| bed.gateway.record(id)["reason"].as_str().unwrap_or_default().to_owned());
            if found.as_deref() == reason { Ok(()) } else { Err(format!("{found:?}")) }
        })
    };
    becomes(person(""), None);
    let seen = bed.upstream.received();
    assert!(
        seen.contains("clerk") && !seen.contains("order-reader"),
        "the Credential's roles, and not the token's: {seen}"
    );
    becomes(person("") + ", suspend: true", Some("CredentialSuspended"));
    becomes(person(", federationRef: {name: idp}"), None);
    becomes(person("") + ", access: {policies: [another]}", Some("CredentialNotAllowedHere"));
    becomes(person("").replace("ana@", "bob@"), Some("NoPersonCredential"));
    becomes(person(""), None);
    // An address that the provider has not verified is nobody's.
    bed.provider.script(|script| script.userinfo = json!({"email_verified": false}));
    bed.come_back_anew(&mut browser);
    bed.upstream.forget();
    bed.refused(&browser.go("/orders"), 401, "UnusableClaim");
}

#[test]
fn the_upstream_gets_the_persons_token_where_the_policy_says_so() {
    let bed = bed_with("", "  upstream: {credential: Forward}\n", "");
    let mut browser = bed.browser();
    bed.come_back(&mut browser);
    assert_eq!(browser.send("GET", "/orders", &[("Cookie", "theme=dark")], "").status, 200);
    let seen = bed.upstream.received().to_ascii_lowercase();
    assert!(
        seen.contains("authorization: bearer planted-access-")
            && seen.contains("theme=dark")
            && !seen.contains("oidc_"),
        "{seen}"
    );
}

#[test]
fn the_upstream_is_told_of_person_and_credential_in_a_token_of_ours() {
    let signing = SigningKey::generate(Algorithm::ES256, "ours").unwrap();
    let jose = "  jose:\n  - name: who\n    produce: {to: {header: X-Identity}, sign: {keyRef: {name: ours}, \
        algorithm: ES256, claims: {issuer: shop, audiences: [orders], expireAfterSeconds: 60, subject: identity.id, \
        custom: [{name: roles, value: credential.roles}, {name: mail, value: token.email}]}}}\n";
    let (upstream, provider) = (Upstream::new(), Provider::new(key()));
    let method = format!(
        "    - name: staff\n      signIn: {{federationRefs: [{{name: idp}}], credentials: {{user: token.email}}}}\n\
         {jose}"
    );
    let yaml = format!(
        "{}{}---\napiVersion: v1\nkind: Secret\nmetadata: {{name: ours}}\nstringData: {{key: \
            '{}'}}\n---\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {{name: ana}}\nspec: \
            {{person: {{user: ana@shop.example}}, roles: [clerk]}}\n",
        open_to(&upstream, &method),
        provider.federation("idp", ""),
        signing.reveal_jwk()
    );
    let gateway = InProcess::start_with(&[("all.yaml", &yaml)], &["--danger-insecure-issuers"]);
    let bed = Bed { gateway, upstream, provider };
    let mut browser = bed.browser();
    bed.come_back(&mut browser);
    let reply = browser.fetch("/orders");
    assert_eq!(reply.status, 200, "{reply:?}");
    let seen = bed.upstream.received();
    let token = seen
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase()
                .starts_with("x-identity: ")
                .then(|| line["x-identity: ".len()..].trim().to_owned())
        })
        .unwrap();
    let payload: Value =
        serde_json::from_slice(&idm_jose::base64url(token.split('.').nth(1).unwrap()).unwrap()).unwrap();
    assert_eq!(
        (payload["mail"].as_str(), &payload["roles"]),
        (Some("ana@shop.example"), &json!(["clerk"])),
        "{payload}"
    );
    assert_eq!(payload["sub"], format!("{}#ana", bed.provider.issuer()));
}

#[test]
fn signing_out_ends_the_session_here_and_leads_on_to_the_provider() {
    let bed = bed();
    let mut browser = bed.browser();
    bed.come_back(&mut browser);
    let session = browser.jar["OIDC_SESSION"].clone();
    assert_eq!(browser.go("/orders").status, 200);
    // Another site cannot do it; the person is asked.
    let page = browser.go_with("/_idm/logout", &[("Sec-Fetch-Site", "cross-site")]);
    assert!(
        page.status == 200
            && page.body.contains("Do you want to sign out?")
            && page.body.contains("action=\"/_idm/logout\""),
        "{page:?}"
    );
    assert!(
        page.header("content-security-policy")
            .unwrap()
            .contains(&format!("form-action 'self' {}", bed.provider.issuer())),
        "{page:?}"
    );
    bed.upstream.forget();
    bed.refused(
        &browser.send("POST", "/_idm/logout", &[("Origin", "https://evil.example")], ""),
        403,
        "CrossSiteRequest",
    );
    assert_eq!(browser.go("/orders").status, 200);
    let out = browser.go("/_idm/logout");
    let to = browser.location(&out);
    let parameters = idm_tests::http::parameters(to.split_once('?').unwrap().1);
    assert!(to.starts_with(&format!("{}/end?", bed.provider.issuer())), "{to}");
    assert_eq!(parameters["post_logout_redirect_uri"], format!("http://{}/_idm/logged-out", bed.gateway.address));
    assert_eq!((parameters["client_id"].as_str(), parameters["id_token_hint"].split('.').count()), ("shop", 3));
    assert!(!browser.jar.contains_key("OIDC_SESSION"));
    let page = browser.go("/_idm/logged-out");
    assert!(page.status == 200 && page.body.contains("You are signed out"), "{page:?}");
    bed.upstream.forget();
    browser.jar.insert("OIDC_SESSION".into(), session);
    bed.refused(&browser.fetch("/orders"), 401, "SessionEnded");
    // In the language of the browser.
    assert!(
        browser
            .go_with("/_idm/logged-out", &[("Accept-Language", "de-DE,de;q=0.9")])
            .body
            .contains("Sie sind abgemeldet")
    );
}

#[test]
fn signing_out_everywhere_ends_every_session_of_the_person_and_nobody_elses() {
    let bed = process();
    let (mut phone, mut laptop, mut other) = (bed.browser(), bed.browser(), bed.browser());
    bed.come_back(&mut phone);
    bed.come_back(&mut laptop);
    bed.provider.script(|script| script.subject = "bob".into());
    bed.come_back(&mut other);
    for browser in [&mut phone, &mut laptop, &mut other] {
        assert_eq!(browser.fetch("/orders").status, 200);
    }
    bed.upstream.forget();
    let posted = phone.send(
        "POST",
        "/_idm/logout",
        &[("Sec-Fetch-Site", "same-origin"), ("Content-Type", "application/x-www-form-urlencoded")],
        "everywhere=1",
    );
    assert_eq!(posted.status, 303);
    bed.refused(&laptop.fetch("/orders"), 401, "SessionEnded");
    assert_eq!(other.fetch("/orders").status, 200);
    bed.provider.behave();
    bed.come_back_anew(&mut laptop);
    assert_eq!(laptop.fetch("/orders").status, 200);
}

#[test]
fn the_provider_ends_sessions_with_a_token_that_proves_it() {
    let bed = bed();
    let post = |token: &str| {
        let body = format!("logout_token={token}");
        let (length, host) = (body.len(), bed.gateway.address);
        raw(
            bed.gateway.address,
            format!(
                "POST /_idm/back-channel-logout/idp HTTP/1.1\r\nHost: {host}\r\nContent-Type: \
                application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n{body}"
            )
            .as_bytes(),
        )
    };
    let mut browser = bed.browser();
    bed.come_back(&mut browser);
    assert_eq!(browser.fetch("/orders").status, 200);
    bed.upstream.forget();
    let event = "http://schemas.openid.net/event/backchannel-logout";
    for (name, change) in [
        ("nobody", json!({})),
        ("nonce", json!({"sub": "ana", "nonce": "n"})),
        ("no event", json!({"sub": "ana", "events": null})),
        ("another event", json!({"sub": "ana", "events": {"x": {}}})),
        ("event is no object", json!({"sub": "ana", "events": {event: true}})),
        ("another audience", json!({"sub": "ana", "aud": "other"})),
        ("another issuer", json!({"sub": "ana", "iss": "https://evil.example"})),
        ("expired", json!({"sub": "ana", "exp": now() - 100})),
        ("too old", json!({"sub": "ana", "iat": now() - 700})),
        ("no jti", json!({"sub": "ana", "jti": null})),
        ("no iat", json!({"sub": "ana", "iat": null})),
    ] {
        let reply = post(&bed.provider.logout_token(&change));
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{name}");
        bed.refused(&reply, 400, "InvalidLogoutToken");
    }
    bed.refused(&post("x.y.z"), 400, "InvalidLogoutToken");
    bed.refused(&post(""), 400, "InvalidLogoutToken");
    bed.refused(
        &raw(
            bed.gateway.address,
            format!("GET /_idm/back-channel-logout/idp HTTP/1.1\r\nHost: {}\r\n\r\n", bed.gateway.address).as_bytes(),
        ),
        400,
        "MalformedRequest",
    );
    assert_eq!(browser.fetch("/orders").status, 200, "nothing of this ended the session");
    let by_sid = bed.provider.logout_token(&json!({"sid": "sid-of-ana"}));
    let reply = post(&by_sid);
    assert_eq!((reply.status, reply.header("cache-control")), (200, Some("no-store")));
    bed.upstream.forget();
    bed.refused(&browser.fetch("/orders"), 401, "SessionEnded");
    bed.refused(&post(&by_sid), 400, "InvalidLogoutToken");
    bed.provider.script(|script| script.claims = json!({"sid": "another"}));
    bed.come_back_anew(&mut browser);
    assert_eq!(browser.fetch("/orders").status, 200);
    assert_eq!(post(&bed.provider.logout_token(&json!({"sub": "ana"}))).status, 200);
    bed.upstream.forget();
    bed.refused(&browser.fetch("/orders"), 401, "SessionEnded");
}

#[test]
fn a_frame_in_the_providers_page_ends_a_session_that_it_can_name() {
    let bed = bed();
    let mut browser = bed.browser();
    bed.come_back(&mut browser);
    let mut frame = bed.browser();
    let issuer = idm_tests::http::encoded(&bed.provider.issuer());
    bed.refused(&frame.go("/_idm/front-channel-logout/idp"), 400, "InvalidLogoutToken");
    bed.refused(&frame.go("/_idm/front-channel-logout/idp?sid=sid-of-ana"), 400, "InvalidLogoutToken");
    bed.refused(
        &frame.go("/_idm/front-channel-logout/idp?iss=https%3A%2F%2Fevil.example&sid=sid-of-ana"),
        400,
        "InvalidLogoutToken",
    );
    assert_eq!(frame.go(&format!("/_idm/front-channel-logout/idp?iss={issuer}&sid=guessed")).status, 200);
    assert_eq!(browser.fetch("/orders").status, 200);
    bed.upstream.forget();
    let reply = frame.go(&format!("/_idm/front-channel-logout/idp?iss={issuer}&sid=sid-of-ana"));
    assert_eq!(
        reply.header("content-security-policy"),
        Some(format!("default-src 'none'; frame-ancestors {}", bed.provider.issuer()).as_str())
    );
    bed.refused(&browser.fetch("/orders"), 401, "SessionEnded");
}

#[test]
fn a_verdict_on_a_session_is_kept_for_a_moment() {
    let bed = bed();
    let mut browser = bed.browser();
    bed.come_back(&mut browser);
    let asked = bed.provider.asked("/token").len();
    eventually("a kept verdict", || {
        assert_eq!(browser.fetch("/orders").status, 200);
        if bed.gateway.records().iter().any(|record| record["identity"]["cached"] == true) {
            Ok(())
        } else {
            Err("no".into())
        }
    });
    assert_eq!(bed.provider.asked("/token").len(), asked, "nothing is asked of the provider for it");
}

#[test]
fn no_secret_of_a_sign_in_is_in_log_audit_or_pages() {
    let bed = process();
    let mut browser = bed.browser();
    bed.come_back(&mut browser);
    let page = browser.go("/orders");
    bed.provider.script(|script| script.claims = json!({"nonce": "planted-nonce"}));
    let reply = bed.come_back(&mut bed.browser());
    let out = browser.go("/_idm/logout");
    let said = format!("{}{:?}{}{}", bed.gateway.log(), bed.gateway.records(), page.body, reply.body);
    for secret in ["planted-access", "planted-refresh", "planted-code", CLIENT_SECRET, "planted-nonce"] {
        assert!(!said.contains(secret), "{secret}");
    }
    for (name, value) in &browser.jar {
        assert!(!said.contains(value.split('.').next().unwrap()), "{name}");
    }
    assert_eq!(out.status, 303);
}

/// Two gateways with the same configuration and one Redis, and what they need to go on.
fn two(redis: &Redis, of_sign_in: &str) -> (Bed<Gateway>, Bed<Gateway>, String, tempfile::NamedTempFile) {
    let (upstream, second, provider) = (Upstream::new(), Upstream::new(), Provider::new(key()));
    let password = redis.password_file();
    let url = redis.url();
    let arguments =
        ["--danger-insecure-issuers", "--store", &url, "--store-password-file", password.path().to_str().unwrap()];
    // Browsers reach both under one address.
    let method = format!(
        "    - name: staff\n      signIn: {{federationRefs: [{{name: idp}}], \
         origins: ['http://localhost']{of_sign_in}}}\n{IDENTITY}"
    );
    let start = |upstream: &Upstream| {
        let yaml = format!("{}{}", open_to(upstream, &method), provider.federation("idp", ""));
        Gateway::start_with(&[("all.yaml", &yaml)], &arguments)
    };
    let (first, other) = (start(&upstream), start(&second));
    (
        Bed { gateway: first, upstream, provider: provider.clone() },
        Bed { gateway: other, upstream: second, provider },
        url.clone(),
        password,
    )
}

/// The same browser at another gateway.
fn moved(browser: &Browser, bed: &Bed<Gateway>) -> Browser {
    let mut moved = Browser::new(bed.gateway.address);
    (moved.jar, moved.host) = (browser.jar.clone(), browser.host.clone());
    moved
}

fn at_localhost(bed: &Bed<Gateway>) -> Browser {
    let mut browser = bed.browser();
    browser.host = "localhost".into();
    browser
}

#[test]
fn a_sign_in_goes_on_at_another_gateway_and_its_session_is_known_at_all() {
    let redis = Redis::start();
    let (one, two, _, _password) = two(&redis, ", session: {idleSeconds: 60}");
    // Sent away by one, come back to the other: the first may be gone by then.
    let mut browser = at_localhost(&one);
    let there = browser.to_provider("/orders");
    let back = one.provider.sign_in(&there);
    let mut browser = moved(&browser, &two);
    let reply = browser.go(back.strip_prefix("http://localhost").unwrap());
    assert_eq!((reply.status, reply.header("location")), (303, Some("/orders")));
    assert_eq!(browser.fetch("/orders").status, 200);
    assert_eq!(moved(&browser, &one).fetch("/orders").status, 200);
    // The content of the store tells nothing, and ends by itself.
    let keys = redis.cli(&["KEYS", "*"]);
    let all: String = keys.lines().map(|key| redis.cli(&["GET", key])).collect();
    assert!(!keys.contains("ana") && !all.contains("planted") && !all.contains("shop.example"), "{keys}{all}");
    let lives: Vec<i64> = keys
        .lines()
        .filter(|key| !key.contains("revoked"))
        .map(|key| redis.cli(&["PTTL", key]).trim().parse().unwrap())
        .collect();
    assert!(lives.iter().all(|ms| *ms > 0) && lives.iter().any(|ms| (50_000..=60_000).contains(ms)), "{lives:?}");
    // Signed out at one: gone at the other within a second, though that had looked a moment ago.
    let start = std::time::Instant::now();
    assert_eq!(moved(&browser, &one).go("/_idm/logout").status, 303);
    let mut late = moved(&browser, &two);
    eventually("the end at the other gateway", || {
        if late.fetch("/orders").status == 401 { Ok(()) } else { Err("still there".into()) }
    });
    println!("signed out everywhere {} ms after the request", start.elapsed().as_millis());
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn two_gateways_refresh_a_session_once() {
    let redis = Redis::start();
    let (one, two, _, _password) = two(&redis, "");
    one.provider.script(|script| script.lifetime = 1);
    let mut browser = at_localhost(&one);
    browser.sign_in(&one.provider, "/orders");
    std::thread::sleep(Duration::from_millis(1100));
    one.provider.script(|script| (script.delay, script.lifetime) = (Duration::from_secs(3), 300));
    let before = one.provider.asked("/token").len();
    let calls: Vec<_> = (0..100)
        .map(|i| {
            let mut browser = moved(&browser, if i % 2 == 0 { &one } else { &two });
            std::thread::spawn(move || browser.fetch("/orders").status)
        })
        .collect();
    let statuses: Vec<u16> = calls.into_iter().map(|call| call.join().unwrap()).collect();
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(one.provider.asked("/token").len(), before + 1);
}

#[test]
fn a_restart_loses_no_session_and_a_store_that_is_away_lets_nobody_in() {
    let mut redis = Redis::start();
    let (one, mut two, url, password) = two(&redis, ", session: {idleSeconds: 60}");
    let mut browser = at_localhost(&one);
    browser.sign_in(&one.provider, "/orders");
    assert_eq!(browser.fetch("/orders").status, 200);
    two.gateway.kill();
    let arguments =
        ["--danger-insecure-issuers", "--store", &url, "--store-password-file", password.path().to_str().unwrap()];
    let yaml = two.gateway.read("all.yaml");
    let again = Gateway::start_with(&[("all.yaml", &yaml)], &arguments);
    two.gateway = again;
    let mut there = moved(&browser, &two);
    eventually("the session after a restart", || {
        if there.fetch("/orders").status == 200 { Ok(()) } else { Err("not yet".into()) }
    });
    two.upstream.forget();
    // A store that hangs: quick to say so, and nobody is let in that it would have to know.
    redis.pause(true);
    let mut unknown = moved(&browser, &two);
    unknown.jar.insert("OIDC_SESSION".into(), "A".repeat(43));
    let start = std::time::Instant::now();
    let reply = unknown.fetch("/orders");
    assert!(start.elapsed() < Duration::from_millis(2500), "{:?}", start.elapsed());
    two.refused(&reply, 503, "StoreUnavailable");
    redis.pause(false);
    eventually("the store again", || if there.fetch("/orders").status == 200 { Ok(()) } else { Err("not yet".into()) });
    // A store that was emptied knows nobody: people sign in again, and end up where they wanted to go.
    redis.cli(&["FLUSHALL"]);
    let mut fresh = moved(&browser, &two);
    eventually("the end of every session", || {
        if fresh.fetch("/orders").status == 401 { Ok(()) } else { Err("still there".into()) }
    });
    fresh.jar.remove("OIDC_SESSION");
    fresh.sign_in(&two.provider, "/orders");
    assert_eq!(fresh.fetch("/orders").status, 200);
    redis.kill();
    two.upstream.forget();
    let page = unknown.go("/orders");
    two.refused(&page, 503, "StoreUnavailable");
    assert!(page.body.contains("not possible right now"), "{}", page.body);
}

#[test]
fn roles_come_and_go_with_what_the_provider_says() {
    let bed = bed_with(
        "",
        &format!(
            "{IDENTITY}  authorization: {{rules: [{{name: write, require: {{roles: {{any: [order-writer]}}}}}}]}}\n"
        ),
        "",
    );
    let yaml = bed.gateway.read("all.yaml");
    let mapped = "spec:\n  roleMappings: \
        [{claim: realm.groups, value: 'Order Writers', roles: [order-writer, seller]}]\n  oidc:";
    bed.gateway.write("all.yaml", &yaml.replace("spec:\n  oidc:", mapped));
    let mut browser = bed.browser();
    bed.provider.script(|script| script.claims = json!({"realm": {"groups": ["Order Writers", "x"]}}));
    bed.come_back(&mut browser);
    eventually("the mapping", || if browser.fetch("/orders").status == 200 { Ok(()) } else { Err("not yet".into()) });
    assert!(bed.upstream.received().contains("order-reader,order-writer,seller"), "{}", bed.upstream.received());
    bed.upstream.forget();
    for gone in
        [json!({"realm": {"groups": ["Order Writers X"]}}), json!({"realm": {"groups": []}}), json!({"realm": null})]
    {
        bed.provider.script(|script| script.claims = gone.clone());
        bed.come_back_anew(&mut browser);
        bed.refused(&browser.fetch("/orders"), 403, "MissingRole");
    }
}

#[test]
fn id_tokens_are_taken_in_every_algorithm_that_the_federation_names() {
    use Algorithm::*;
    for algorithm in [RS256, RS384, RS512, PS256, ES256, ES384, ES512, EdDSA] {
        let (upstream, provider) = (Upstream::new(), Provider::new(SigningKey::generate(algorithm, "k1").unwrap()));
        let method = "    - name: staff\n      signIn: {federationRefs: [{name: idp}]}\n";
        let named = |list: &str| {
            provider.federation("idp", "").replace("    client:", &format!("    algorithms: [{list}]\n    client:"))
        };
        let gateway = InProcess::start_with(
            &[("all.yaml", &format!("{}{}", open_to(&upstream, method), named(algorithm.name())))],
            &["--danger-insecure-issuers"],
        );
        let bed = Bed { gateway, upstream, provider: provider.clone() };
        // With the hash of the access token that belongs to the algorithm, and with one that does not.
        assert_eq!(bed.come_back(&mut bed.browser()).status, 303, "{algorithm}");
        bed.provider.script(|script| script.claims = json!({"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}));
        bed.refused(&bed.come_back(&mut bed.browser()), 403, "UntrustedSignIn");
        // A token that is signed otherwise than the Federation says.
        let other = if algorithm == ES256 { "RS256" } else { "ES256" };
        let yaml = format!("{}{}", open_to(&Upstream::new(), method), named(other));
        let gateway = InProcess::start_with(&[("all.yaml", &yaml)], &["--danger-insecure-issuers"]);
        bed.provider.behave();
        let mut browser = Browser::new(gateway.address);
        let reply = browser.sign_in(&provider, "/orders");
        assert!([403, 503].contains(&reply.status), "{algorithm}: {reply:?}");
        assert!(!browser.jar.contains_key("OIDC_SESSION"));
    }
}

#[test]
fn endpoints_may_be_written_down_and_then_nothing_is_discovered() {
    let provider = Provider::new(key());
    let at = |path: &str| format!("'{}/{path}'", provider.issuer());
    let more = format!(
        "      endpoints: {{authorization: {}, token: {}, userinfo: {}}}\n",
        at("authorize"),
        at("token"),
        at("userinfo")
    );
    let federation = provider
        .federation("idp", &more)
        .replace("    client:", &format!("    keys: {{jwksUri: {}}}\n    client:", at("keys")));
    let upstream = Upstream::new();
    let method = format!("    - name: staff\n      signIn: {{federationRefs: [{{name: idp}}]}}\n{IDENTITY}");
    let gateway = InProcess::start_with(
        &[("all.yaml", &format!("{}{federation}", open_to(&upstream, &method)))],
        &["--danger-insecure-issuers"],
    );
    let mut browser = Browser::new(gateway.address);
    assert_eq!(browser.sign_in(&provider, "/orders").status, 303);
    assert_eq!(browser.go("/orders").status, 200);
    assert!(upstream.received().contains("ana@shop.example"), "{}", upstream.received());
    assert!(provider.asked("/.well-known/openid-configuration").is_empty());
    // Without a place to sign out there, signing out ends here.
    let out = browser.go("/_idm/logout");
    assert_eq!(browser.location(&out), "/_idm/logged-out");
}

#[test]
fn a_client_may_prove_itself_with_its_certificate() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    servers.issue("localhost", "DNS:localhost", "serverAuth", "20400101000000Z");
    clients.issue("shop", "DNS:shop.clients", "clientAuth", "20400101000000Z");
    clients.issue("stranger", "DNS:stranger.clients", "clientAuth", "20400101000000Z");
    let provider = Provider::new(key());
    // TLS that wants a certificate, in front of the scripted provider: Python's, so that it is not ours on both sides.
    let code = "import ssl,socket,sys,threading\n\
        c=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER);c.load_cert_chain(sys.argv[1],sys.argv[2]);c.load_verify_locations\
        (sys.argv[3]);c.verify_mode=ssl.CERT_REQUIRED\n\
        s=socket.create_server(('127.0.0.1',0));print(s.getsockname()[1],flush=True)\n\
        def pipe(a,b):\n  try:\n    while d:=a.recv(65536): b.sendall(d)\n  except OSError: pass\n  finally:\n    \
        try: b.shutdown(socket.SHUT_WR)\n    except OSError: pass\ndef serve(r):\n  try: \
        t=c.wrap_socket(r,server_side=True)\n  except OSError: return\n  if b'shop' not in \
        repr(t.getpeercert()).encode(): return t.close()\n  \
        u=socket.create_connection(('127.0.0.1',int(sys.argv[4])))\n  \
        threading.Thread(target=pipe,args=(t,u),daemon=True).start(); pipe(u,t)\n\
        while True: threading.Thread(target=serve,args=(s.accept()[0],),daemon=True).start()\n";
    let arguments = [
        servers.path("localhost.crt"),
        servers.path("localhost.key"),
        clients.path("ca.crt"),
        provider.address.port().to_string(),
    ];
    let mut proxy = std::process::Command::new("python3")
        .args(["-c", code])
        .args(&arguments)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut port = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(proxy.stdout.take().unwrap()), &mut port).unwrap();
    let issuer = format!("https://localhost:{}", port.trim());
    let named = issuer.clone();
    provider.script(move |script| {
        let at = |path: &str| format!("{named}/{path}");
        script.metadata = json!({"issuer": named, "token_endpoint": at("token"), "userinfo_endpoint": at("userinfo"),
            "jwks_uri": at("keys")});
        script.claims = json!({"iss": named});
        script.back = json!({"iss": named});
    });
    let signs_in = |certificate: &str| {
        let federation = provider
            .federation("idp", "      tls: {trustBundleRef: {name: ca}, clientCertificateRef: {name: own}}\n")
            .replace(&format!("issuer: {}", provider.issuer()), &format!("issuer: {issuer}"))
            .replace("clientSecretBasic: {name: idp-client}", "tlsClientAuth: {}");
        let secrets = secret("ca", &[("ca.crt", servers.read("ca.crt"))])
            + &secret(
                "own",
                &[
                    ("tls.crt", clients.read(&format!("{certificate}.crt"))),
                    ("tls.key", clients.read(&format!("{certificate}.key"))),
                ],
            );
        let method = "    - name: staff\n      signIn: {federationRefs: [{name: idp}]}\n";
        let gateway = Gateway::start_with(
            &[("all.yaml", &format!("{}{federation}{secrets}", open_to(&Upstream::new(), method)))],
            &["--danger-insecure-issuers"],
        );
        let mut browser = Browser::new(gateway.address);
        let start = browser.go("/_idm?to=%2F");
        if start.status != 303 {
            return gateway.record(start.decision())["reason"].as_str().unwrap().to_owned();
        }
        let back = provider.sign_in(&browser.location(&start));
        browser.go(back.strip_prefix(&format!("http://{}", browser.host)).unwrap()).status.to_string()
    };
    assert_eq!(signs_in("stranger"), "ProviderUnavailable");
    assert_eq!(signs_in("shop"), "303");
    let asked = provider.asked("/token").pop().unwrap();
    assert!(
        asked.parameters["client_id"] == "shop"
            && !asked.headers.contains_key("authorization")
            && !asked.parameters.contains_key("client_secret"),
        "{asked:?}"
    );
    let _ = proxy.kill();
    let _ = proxy.wait();
}

#[test]
fn two_policies_do_not_share_doors_that_differ() {
    let (upstream, provider) = (Upstream::new(), Provider::new(key()));
    let one = open_to(&upstream, "    - name: staff\n      signIn: {federationRefs: [{name: idp}]}\n");
    let second =
        one.replace("{name: up,", "{name: down,").replace("{name: p}", "{name: q}").replace("name: up}", "name: down}");
    let dir = tempfile::tempdir().unwrap();
    let lint = |second: &str| {
        let federation =
            provider.federation("idp", "").replace("http://", "https://").replace("127.0.0.1", "idp.example");
        std::fs::write(dir.path().join("all.yaml"), format!("{one}---\n{second}{federation}")).unwrap();
        let output = std::process::Command::new(idm_tests::idm()).arg("lint").arg(dir.path()).output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let hosts = |text: &str| text.replace("hostnames: '*'", "hostnames: 'a.example'");
    let same = hosts(&second);
    assert!(!lint(&same).contains("does not work"), "{}", lint(&same));
    let other =
        second.replace("federationRefs: [{name: idp}]", "federationRefs: [{name: idp}], stepUp: {acrValues: [gold]}");
    let said = lint(&other);
    assert!(
        said.contains(
            "IdentityPolicy 'default/q' signs people in under the same `basePath` /_idm of the same host with other \
        settings"
        ),
        "{said}"
    );
    assert!(!lint(&other.replace("stepUp", "basePath: /_gold, stepUp")).contains("does not work"));
}
