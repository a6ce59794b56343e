//! People sign in at a SAML identity provider whose signatures and encryption are those of xmlsec1 and openssl.
//!
//! The field's failures, by number: T-57, T-58, T-61, T-62 and T-69 "somebody else's signature", T-60 "where the
//! signature
//! stands", T-63, T-64 and T-70 "metadata cannot be used", T-65 "encrypted assertions", T-67 "counts once"; T-59, T-68
//! and T-71 are unit tests and fuzz targets of `idm-saml`, T-66 is "suspended" in `sign_in.rs`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use idm_tests::{
    Browser, Gateway, IDP, InProcess, Reply, SLO, SSO, SamlIdp, Says, Serves, Upstream, eventually, http, open_to, raw,
    signature_template,
};
use serde_json::Value;

struct Bed<G = InProcess> {
    gateway: G,
    upstream: Upstream,
    idp: SamlIdp,
}

const IDENTITY: &str = "    identity: {username: token.email, roles: token.groups}\n  upstream:\n    headers: \
    [{name: X-Authenticated-UserId, value: identity.username}, \
    {name: X-Authenticated-Roles, value: \"identity.roles\"}]\n";
const SIGNED: &str = "    serviceProvider: {keyRef: {name: sp}}\n";

fn bed_on<G: Serves>(of_saml: &str, of_sign_in: &str) -> Bed<G> {
    let (upstream, idp) = (Upstream::new(), SamlIdp::new());
    let method =
        format!("    - name: staff\n      signIn: {{federationRefs: [{{name: idp}}]{of_sign_in}}}\n{IDENTITY}");
    let gateway = G::start_with(
        &[("all.yaml", &format!("{}{}", open_to(&upstream, &method), idp.federation(of_saml)))],
        &["--danger-insecure-issuers"],
    );
    Bed { gateway, upstream, idp }
}

fn bed_with(of_saml: &str, of_sign_in: &str) -> Bed {
    bed_on(of_saml, of_sign_in)
}

/// A browser that was sent to the provider, and what it was sent with.
struct Sent {
    browser: Browser,
    request: String,
    id: String,
}

impl<G: Serves> Bed<G> {
    fn origin(&self) -> String {
        format!("http://{}", self.gateway.address())
    }

    fn consumer(&self) -> String {
        format!("{}/_idm/saml/consume/idp", self.origin())
    }

    fn entity(&self) -> String {
        format!("{}/_idm/saml/metadata/idp", self.origin())
    }

    fn refused(&self, reply: &Reply, status: u16, reason: &str) -> Value {
        let record = self.gateway.record(reply.decision());
        assert_eq!((reply.status, record["reason"].as_str()), (status, Some(reason)), "{record}");
        assert_eq!(self.upstream.received(), "");
        record
    }

    fn begin(&self) -> Sent {
        let mut browser = Browser::new(self.gateway.address());
        let there = browser.to_provider("/orders?x=1");
        let (to, query) = there.split_once('?').unwrap();
        assert_eq!(to, SSO);
        let request = self.idp.inflated(&http::parameters(query)["SAMLRequest"]);
        let id = request.split(" ID=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        Sent { browser, request, id }
    }

    fn says(&self, sent: &Sent) -> Says {
        Says::to(&sent.id, &self.consumer(), &self.entity())
    }

    /// The provider's page posts: without our cookies, from another site.
    fn post(&self, response: &str, relay_state: &str) -> Reply {
        let body = format!(
            "SAMLResponse={}&RelayState={}",
            http::encoded(&STANDARD.encode(response)),
            http::encoded(relay_state)
        );
        raw(
            self.gateway.address(),
            format!(
                "POST /_idm/saml/consume/idp HTTP/1.1\r\nHost: {}\r\nOrigin: https://idp.example\r\nSec-Fetch-Site: \
                    cross-site\r\nSec-Fetch-Mode: navigate\r\nAccept: text/html\r\nContent-Type: \
                    application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
                self.gateway.address(),
                body.len()
            )
            .as_bytes(),
        )
    }

    /// Posts a response and lets the browser come for what came of it.
    fn finish(&self, response: &str, browser: &mut Browser) -> Reply {
        let posted = self.post(response, "");
        assert_eq!(posted.status, 303, "{posted:?} {:?}", self.gateway.records().last());
        assert!(posted.header("set-cookie").is_none());
        let ticket = browser.location(&posted);
        browser.go(&ticket)
    }
}

#[test]
fn a_person_signs_in_with_saml_and_comes_back_to_the_page_first_asked_for() {
    let bed: Bed<Gateway> = bed_on(SIGNED, "");
    let mut sent = bed.begin();
    assert!(
        sent.request.contains(&format!("AssertionConsumerServiceURL=\"{}\"", bed.consumer()))
            && sent.request.contains(&bed.entity()),
        "{}",
        sent.request
    );
    let back = bed.finish(&bed.idp.signed_assertion(&bed.says(&sent)), &mut sent.browser);
    assert_eq!((back.status, back.header("location")), (303, Some("/orders?x=1")));
    assert_eq!(sent.browser.go("/orders?x=1").status, 200);
    let seen = bed.upstream.received().to_ascii_lowercase();
    assert!(
        seen.contains("x-authenticated-userid: ana@shop.example\r\n")
            && seen.contains("x-authenticated-roles: order-reader,staff\r\n"),
        "{seen}"
    );
    let brought = eventually("the record", || {
        let records = bed.gateway.records();
        records
            .into_iter()
            .find(|record| record["request"]["path"] == "/_idm/saml/consume/idp")
            .ok_or_else(|| "not yet".into())
    });
    assert_eq!(
        (brought["outcome"].as_str(), brought["identity"]["username"].as_str()),
        (Some("Permitted"), Some("ana@shop.example")),
        "{brought}"
    );
    assert_eq!(brought["identity"]["id"], format!("{IDP}#ana"));
}

#[test]
fn requests_are_signed_in_both_bindings_so_that_others_can_verify_them() {
    let bed = bed_with(SIGNED, ", stepUp: {acrValues: [gold], maxAgeSeconds: 600}");
    let mut browser = Browser::new(bed.gateway.address);
    let there = browser.to_provider("/orders");
    let query = there.split_once('?').unwrap().1;
    let (covered, signature) = query.split_once("&Signature=").unwrap();
    let signature = STANDARD.decode(&http::parameters(&format!("s={signature}"))["s"]).unwrap();
    assert!(
        bed.idp.signed_text(covered, &signature, "sp")
            && !bed.idp.signed_text(&covered.replace("SAMLRequest=", "SAMLRequest=A"), &signature, "sp")
    );
    let request = bed.idp.inflated(&http::parameters(query)["SAMLRequest"]);
    assert!(
        request.contains("ForceAuthn=\"true\"")
            && request.contains("<saml:AuthnContextClassRef>gold</saml:AuthnContextClassRef>"),
        "{request}"
    );
    let bed = bed_with(
        "    requestBinding: Post\n    nameIdFormat: EmailAddress\n    \
         serviceProvider: {entityId: 'urn:shop', keyRef: {name: sp}}\n",
        "",
    );
    let mut browser = Browser::new(bed.gateway.address);
    let page = browser.go("/_idm?to=%2Forders");
    assert!(
        page.status == 200 && page.body.contains(&format!("action=\"{SSO}\"")) && !page.body.contains("<script"),
        "{page:?}"
    );
    assert!(
        page.header("content-security-policy").unwrap().contains("form-action 'self' https://idp.example"),
        "{page:?}"
    );
    let value = page.body.split("name=\"SAMLRequest\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let request = String::from_utf8(STANDARD.decode(value).unwrap()).unwrap();
    assert!(request.contains("urn:shop") && request.contains("nameid-format:emailAddress"), "{request}");
    let element = "urn:oasis:names:tc:SAML:2.0:protocol:AuthnRequest";
    assert!(bed.idp.verifies(&request, element, "sp"));
    assert!(
        !bed.idp.verifies(&request.replace("urn:shop", "urn:evil"), element, "sp")
            && !bed.idp.verifies(&request, element, "attacker")
    );
}

#[test]
fn an_answer_counts_once_and_for_the_browser_that_asked() {
    let bed = bed_with("", "");
    let (sent, mut other) = (bed.begin(), bed.begin());
    let response = bed.idp.signed_assertion(&bed.says(&sent));
    let ticket = other.browser.location(&bed.post(&response, ""));
    bed.refused(&bed.post(&response, ""), 400, "UnknownSignIn");
    // Somebody else's browser comes for it: it is gone then, for both.
    let anew = other.browser.go(&ticket);
    bed.refused(&anew, 303, "UnknownSignIn");
    assert_eq!(
        (anew.header("location"), other.browser.jar.contains_key("OIDC_SESSION")),
        (Some("/_idm?to=%2Forders%3Fx%3D1"), false)
    );
    let mut sent = sent;
    bed.refused(&sent.browser.go(&ticket), 400, "UnknownSignIn");
    bed.refused(&sent.browser.go("/_idm/callback/idp?ticket=AAAA"), 400, "UnknownSignIn");
    bed.refused(&sent.browser.go("/_idm/callback/idp"), 400, "UnknownSignIn");
    // An answer to a request that was never made, and one that nobody asked for.
    bed.refused(
        &bed.post(&bed.idp.signed_assertion(&Says { in_response_to: Some("_never".into()), ..bed.says(&sent) }), ""),
        400,
        "UnknownSignIn",
    );
    bed.refused(
        &bed.post(&bed.idp.signed_assertion(&Says { in_response_to: None, ..bed.says(&sent) }), "/orders"),
        400,
        "UnknownSignIn",
    );
    // A second answer to a request that was answered.
    let mut again = bed.begin();
    assert_eq!(bed.finish(&bed.idp.signed_assertion(&bed.says(&again)), &mut again.browser).status, 303);
    let late = again.browser.location(&bed.post(&bed.idp.signed_assertion(&bed.says(&again)), ""));
    bed.refused(&again.browser.go(&late), 303, "UnknownSignIn");
}

#[test]
fn sign_in_may_begin_at_the_provider_where_that_is_chosen() {
    let bed = bed_with("    unsolicited: DangerAccept\n", "");
    let mut browser = Browser::new(bed.gateway.address);
    let says = Says { in_response_to: None, ..Says::to("", &bed.consumer(), &bed.entity()) };
    for (relay_state, expected) in
        [("/orders?x=1", "/orders?x=1"), ("https://evil.example", "/"), ("//evil.example", "/"), ("", "/")]
    {
        let says = Says { id: format!("_unsolicited{}", relay_state.len()), ..says.clone() };
        let ticket = browser.location(&bed.post(&bed.idp.signed_assertion(&says), relay_state));
        let back = browser.go(&ticket);
        assert_eq!((back.status, back.header("location")), (303, Some(expected)), "{relay_state}");
    }
    assert_eq!(browser.go("/orders").status, 200);
}

/// Answers that are signed and wrong all the same, by their reason.
#[test]
fn an_answer_that_is_not_for_us_here_and_now_is_refused() {
    let bed = bed_with("", "");
    let sent = bed.begin();
    type Change = Box<dyn Fn(&mut Says)>;
    let cases: Vec<(&str, Change, &str)> = vec![
        ("audience", Box::new(|says| says.audience = "https://other.example".into()), "`Audience` is another service"),
        ("recipient", Box::new(|says| says.consumer = "https://other.example/acs".into()), "another address"),
        ("issuer", Box::new(|says| says.issuer = "https://evil.example".into()), "another issuer"),
        ("expired", Box::new(|says| says.window = (-300, -40)), "too late"),
        ("future", Box::new(|says| says.window = (60, 300)), "not valid yet"),
        ("condition", Box::new(|says| says.conditions = "<x:Odd xmlns:x=\"urn:x\"/>".into()), "not understood"),
        (
            "second audience",
            Box::new(|says| {
                says.conditions =
                    "<saml:AudienceRestriction><saml:Audience>other</saml:Audience></saml:AudienceRestriction>".into()
            }),
            "`Audience`",
        ),
        ("no name", Box::new(|says| says.name = String::new()), "`NameID`"),
    ];
    for (name, change, found) in cases {
        let mut says = bed.says(&sent);
        change(&mut says);
        let record = bed.refused(&bed.post(&bed.idp.signed_assertion(&says), ""), 403, "UntrustedSignIn");
        assert!(record["detail"].as_str().unwrap().contains(found), "{name}: {record}");
    }
    let denied = Says { status: "urn:oasis:names:tc:SAML:2.0:status:Responder".into(), ..bed.says(&sent) };
    let record = bed.refused(&bed.post(&bed.idp.signed_assertion(&denied), ""), 403, "SignInRefused");
    assert!(record["detail"].as_str().unwrap().contains("`Responder`"), "{record}");
    let weak = bed_with("", ", stepUp: {acrValues: [gold]}");
    let mut sent = weak.begin();
    let ticket = sent.browser.location(&weak.post(&weak.idp.signed_assertion(&weak.says(&sent)), ""));
    weak.refused(&sent.browser.go(&ticket), 401, "StepUpRequired");
    let mut sent = weak.begin();
    let strong = Says { context: "gold".into(), ..weak.says(&sent) };
    assert_eq!(weak.finish(&weak.idp.signed_assertion(&strong), &mut sent.browser).status, 303);
    assert_eq!(sent.browser.go("/orders").status, 200);
}

#[test]
fn where_the_signature_stands_decides_as_the_federation_says() {
    let strict = bed_with("", "");
    let sent = strict.begin();
    let record =
        strict.refused(&strict.post(&strict.idp.signed_response(&strict.says(&sent)), ""), 403, "UntrustedSignIn");
    assert!(record["detail"].as_str().unwrap().contains("the assertion itself is not signed"), "{record}");
    let unsigned = |bed: &Bed, says: &Says| bed.idp.response(says, &bed.idp.assertion(says, ""), "");
    let lenient = bed_with("    requireSignedAssertions: false\n", "");
    for bed in [&strict, &lenient] {
        let sent = bed.begin();
        let record = bed.refused(&bed.post(&unsigned(bed, &bed.says(&sent)), ""), 403, "UntrustedSignIn");
        assert!(record["detail"].as_str().unwrap().contains("not signed, neither"), "{record}");
    }
    let mut sent = lenient.begin();
    assert_eq!(lenient.finish(&lenient.idp.signed_response(&lenient.says(&sent)), &mut sent.browser).status, 303);
}

/// Assertions are opened whatever the usual algorithms are; who encrypts proves nothing.
#[test]
fn encrypted_assertions_are_opened_and_must_be_signed_inside() {
    let bed = bed_with(SIGNED, "");
    let xenc = "http://www.w3.org/2001/04/xmlenc#";
    let oaep = &format!("{xenc}rsa-oaep-mgf1p");
    for (content, key) in [
        (format!("{xenc}aes128-cbc"), "aes-128"),
        (format!("{xenc}aes256-cbc"), "aes-256"),
        ("http://www.w3.org/2009/xmlenc11#aes128-gcm".into(), "aes-128"),
        ("http://www.w3.org/2009/xmlenc11#aes256-gcm".into(), "aes-256"),
    ] {
        let mut sent = bed.begin();
        let says = bed.says(&sent);
        let assertion = bed.idp.sign(&bed.idp.assertion(&says, &signature_template(&says.id)), "idp");
        let response = bed.idp.response(&says, &bed.idp.encrypt(&assertion, &content, key, oaep), "");
        assert_eq!(bed.finish(&response, &mut sent.browser).status, 303, "{content}");
    }
    let sent = bed.begin();
    let says = bed.says(&sent);
    let aes = format!("{xenc}aes256-cbc");
    let evil = Says { name: "admin".into(), ..says.clone() };
    // Anyone can encrypt for us: it must be signed inside, by the provider.
    let unsigned = bed.idp.response(&evil, &bed.idp.encrypt(&bed.idp.assertion(&evil, ""), &aes, "aes-256", oaep), "");
    bed.refused(&bed.post(&unsigned, ""), 403, "UntrustedSignIn");
    let forged = bed.idp.sign(&bed.idp.assertion(&evil, &signature_template(&evil.id)), "attacker");
    bed.refused(
        &bed.post(&bed.idp.response(&evil, &bed.idp.encrypt(&forged, &aes, "aes-256", oaep), ""), ""),
        403,
        "UntrustedSignIn",
    );
    // Algorithms with a history are refused by name, and what does not open is one error whatever is wrong inside.
    let assertion = bed.idp.sign(&bed.idp.assertion(&says, &signature_template(&says.id)), "idp");
    let old = bed.idp.response(&says, &bed.idp.encrypt(&assertion, &aes, "aes-256", &format!("{xenc}rsa-1_5")), "");
    let record = bed.refused(&bed.post(&old, ""), 403, "UntrustedSignIn");
    assert!(record["detail"].as_str().unwrap().contains("rsa-1_5"), "{record}");
    let good = bed.idp.response(&says, &bed.idp.encrypt(&assertion, &aes, "aes-256", oaep), "");
    for (at, cut) in [(10, 1), (200, 1), (1000, 1), (0, 0)] {
        let (before, value) = good.rsplit_once("<xenc:CipherValue>").unwrap();
        let mut bytes = value.as_bytes().to_vec();
        let at = if cut == 0 { value.find("</").unwrap() - 8 } else { at };
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = format!("{before}<xenc:CipherValue>{}", String::from_utf8(bytes).unwrap());
        let record = bed.refused(&bed.post(&changed, ""), 403, "UntrustedSignIn");
        let detail = record["detail"].as_str().unwrap();
        assert!(
            detail == "the encrypted assertion cannot be opened" || detail.starts_with("the signature does not hold"),
            "{at}: {record}"
        );
    }
    let keyless = bed_with("", "");
    let sent = keyless.begin();
    let says = keyless.says(&sent);
    let response =
        keyless.idp.response(&says, &keyless.idp.encrypt(&keyless.idp.assertion(&says, ""), &aes, "aes-256", oaep), "");
    let record = keyless.refused(&keyless.post(&response, ""), 403, "UntrustedSignIn");
    assert!(record["detail"].as_str().unwrap().contains("no RSA key to open it"), "{record}");
}

/// Wrappers and splits, made from a live and valid response (XSW 1 to 8, and their relatives).
#[test]
fn nobody_gets_in_with_somebody_elses_signature() {
    let bed = bed_with("    requireSignedAssertions: false\n", "");
    let sent = bed.begin();
    let says = bed.says(&sent);
    let valid = bed.idp.signed_assertion(&says);
    let whole = bed.idp.signed_response(&says);
    let between = |text: &str, from: &str, to: &str| {
        let start = text.find(from).unwrap();
        let end = text[start..].find(to).unwrap() + start + to.len();
        text[start..end].to_owned()
    };
    let assertion = between(&valid, "<saml:Assertion", "</saml:Assertion>");
    let signature = between(&assertion, "<ds:Signature ", "</ds:Signature>");
    let bare = assertion.replace(&signature, "");
    let evil = bare.replace(">ana<", ">admin<").replace("ana@shop", "admin@shop").replace(&says.id, "_evil");
    let with = |inside: &str| valid.replace(&assertion, inside);
    let signed_evil = |signature: &str| evil.replace("</saml:Issuer>", &format!("</saml:Issuer>{signature}"));
    let object =
        |inside: &str| signature.replace("</ds:Signature>", &format!("<ds:Object>{inside}</ds:Object></ds:Signature>"));
    let of_response = between(&whole, "<ds:Signature ", "</ds:Signature>");
    let bare_response = whole.replace(&of_response, "");
    let evil_response = bare_response
        .replace(">ana<", ">admin<")
        .replace("ana@shop", "admin@shop")
        .replace(&format!("_response{}", says.id), "_evil");
    let response_with =
        |signature: &str| evil_response.replacen("</saml:Issuer>", &format!("</saml:Issuer>{signature}"), 1);
    let forged = bed.idp.sign(
        &bed.idp.response(
            &says,
            &bed.idp.assertion(&Says { name: "admin".into(), ..says.clone() }, &signature_template(&says.id)),
            "",
        ),
        "attacker",
    );
    let mutants: Vec<(&str, String)> = vec![
        (
            "XSW1",
            response_with(
                &of_response
                    .replace("</ds:Signature>", &format!("<ds:Object>{bare_response}</ds:Object></ds:Signature>")),
            ),
        ),
        ("XSW2", response_with(&format!("{bare_response}{of_response}"))),
        ("XSW3", with(&format!("{evil}{assertion}"))),
        ("XSW3 the other way", with(&format!("{assertion}{evil}"))),
        ("XSW4", with(&evil.replace("</saml:Assertion>", &format!("{assertion}</saml:Assertion>")))),
        ("XSW5", with(&format!("{}{bare}", signed_evil(&signature)))),
        ("XSW6", with(&signed_evil(&object(&bare)))),
        ("XSW7", with(&format!("<samlp:Extensions>{assertion}</samlp:Extensions>{evil}"))),
        (
            "XSW8",
            with(&signed_evil(
                &signature.replace("</ds:Signature>", &format!("<ds:Object>{bare}</ds:Object></ds:Signature>")),
            )),
        ),
        ("same name", with(&format!("{}{assertion}", evil.replace("_evil", &says.id)))),
        (
            "name in another case",
            with(&assertion.replace("<saml:Subject>", &format!("<saml:Subject Id=\"{}\">", says.id))),
        ),
        (
            "in the advice",
            with(&evil.replace(
                "<saml:AuthnStatement",
                &format!("<saml:Advice>{assertion}</saml:Advice><saml:AuthnStatement"),
            )),
        ),
        ("unsigned", with(&bare)),
        (
            "signature elsewhere",
            valid.replace(&assertion, &bare).replace("<samlp:Status>", &format!("{signature}<samlp:Status>")),
        ),
        ("signature twice", with(&assertion.replace(&signature, &format!("{signature}{signature}")))),
        ("another's key", forged),
        ("changed", valid.replace(">ana<", ">admin<")),
        ("changed attribute", valid.replace(">staff<", ">admins<")),
        ("comment", valid.replace(">ana<", ">an<!-- -->a<")),
        ("comment in the signed text", valid.replace(">ana<", ">ana<!---->.evil<")),
        (
            "entity",
            valid
                .replace("<samlp:Response", "<!DOCTYPE r [<!ENTITY e \"admin\">]><samlp:Response")
                .replace(">ana<", ">&e;<"),
        ),
        ("document type", format!("<!DOCTYPE r>{valid}")),
        ("processing instruction", valid.replace(">ana<", "><?x y?>ana<")),
        ("CDATA", valid.replace(">ana<", "><![CDATA[ana]]><")),
        ("element in the name", valid.replace(">ana<", ">ana<x/><")),
        (
            "two references",
            with(&assertion.replace(
                "</ds:Reference>",
                &format!("</ds:Reference>{}", between(&signature, "<ds:Reference", "</ds:Reference>")),
            )),
        ),
        ("empty reference", with(&assertion.replace(&format!("URI=\"#{}\"", says.id), "URI=\"\""))),
        ("no transforms", with(&assertion.replace(&between(&signature, "<ds:Transforms>", "</ds:Transforms>"), ""))),
        (
            "a transform more",
            with(&assertion.replace(
                "<ds:Transforms>",
                "<ds:Transforms><ds:Transform Algorithm=\"http://www.w3.org/TR/1999/REC-xslt-19991116\"/>",
            )),
        ),
        ("with comments", with(&assertion.replacen("xml-exc-c14n#\"", "xml-exc-c14n#WithComments\"", 1))),
        (
            "inclusive",
            with(&assertion.replacen(
                "http://www.w3.org/2001/10/xml-exc-c14n#",
                "http://www.w3.org/TR/2001/REC-xml-c14n-20010315",
                1,
            )),
        ),
        (
            "SHA-1",
            with(&assertion.replace(
                "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
                "http://www.w3.org/2000/09/xmldsig#rsa-sha1",
            )),
        ),
        (
            "HMAC",
            with(&assertion.replace(
                "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
                "http://www.w3.org/2000/09/xmldsig#hmac-sha1",
            )),
        ),
        (
            "SHA-1 digest",
            with(
                &assertion.replace("http://www.w3.org/2001/04/xmlenc#sha256", "http://www.w3.org/2000/09/xmldsig#sha1"),
            ),
        ),
        (
            "no digest",
            with(
                &assertion.replace(&between(&signature, "<ds:DigestValue>", "</ds:DigestValue>"), "<ds:DigestValue/>"),
            ),
        ),
        (
            "no value",
            with(
                &assertion.replace(
                    &between(&signature, "<ds:SignatureValue>", "</ds:SignatureValue>"),
                    "<ds:SignatureValue/>",
                ),
            ),
        ),
        ("SAML 1", valid.replace("SAML:2.0:assertion", "SAML:1.0:assertion")),
        ("version", valid.replacen("Version=\"2.0\"", "Version=\"1.1\"", 1)),
        ("other destination", valid.replacen("Destination=\"http", "Destination=\"https://evil.example/http", 1)),
        ("no assertion", with("")),
        ("deep", with(&"<x>".repeat(5000))),
        ("not XML", "hello".into()),
        ("empty", String::new()),
    ];
    for (name, mutant) in &mutants {
        assert!(*mutant != valid, "{name} changes something");
        let reply = bed.post(mutant, "");
        let record = bed.gateway.record(reply.decision());
        let expected = if mutant.is_empty() { (400, "UnknownSignIn") } else { (403, "UntrustedSignIn") };
        assert_eq!((reply.status, record["reason"].as_str().unwrap()), expected, "{name}: {record}");
        assert!(
            !record["detail"].as_str().unwrap().contains("admin") && !reply.body.contains("admin"),
            "{name}: {record}"
        );
    }
    assert_eq!(bed.upstream.received(), "");
    // And the valid one was valid all the time.
    let mut sent = sent;
    assert_eq!(bed.finish(&valid, &mut sent.browser).status, 303);
}

#[test]
fn a_new_certificate_arrives_by_itself_and_an_old_one_leaves() {
    let (upstream, idp) = (Upstream::new(), SamlIdp::new());
    idp.new_key("next");
    let metadata = std::sync::Arc::new(std::sync::Mutex::new(idp.metadata(&["idp"])));
    let served = metadata.clone();
    let address = http::serve(move |_| (200, vec![], served.lock().unwrap().clone()));
    let method = format!("    - name: staff\n      signIn: {{federationRefs: [{{name: idp}}]}}\n{IDENTITY}");
    let federation = format!(
        "---\napiVersion: identity-manager.io/v1alpha1\nkind: Federation\nmetadata: {{name: idp, uid: \
            uid-idp}}\nspec: {{saml: {{entityId: '{IDP}', metadata: {{uri: 'http://{address}/metadata'}}}}}}\n"
    );
    let gateway = InProcess::start_with(
        &[("all.yaml", &format!("{}{federation}", open_to(&upstream, &method)))],
        &["--danger-insecure-issuers"],
    );
    let bed = Bed { gateway, upstream, idp };
    let mut sent = bed.begin();
    assert_eq!(bed.finish(&bed.idp.signed_assertion(&bed.says(&sent)), &mut sent.browser).status, 303);
    let with_next = |says: &Says| {
        bed.idp.sign(&bed.idp.response(says, &bed.idp.assertion(says, &signature_template(&says.id)), ""), "next")
    };
    *metadata.lock().unwrap() = bed.idp.metadata(&["next"]);
    // The first signature of an unknown key makes us look; from then on the old key is worth nothing.
    let mut sent = bed.begin();
    assert_eq!(bed.finish(&with_next(&bed.says(&sent)), &mut sent.browser).status, 303);
    let sent = bed.begin();
    bed.refused(&bed.post(&bed.idp.signed_assertion(&bed.says(&sent)), ""), 403, "UntrustedSignIn");
}

#[test]
fn sessions_end_together_in_both_directions() {
    let bed: Bed<Gateway> = bed_on(SIGNED, "");
    let slo = format!("{}/_idm/saml/logout/idp", bed.origin());
    let sign_in = || {
        let mut sent = bed.begin();
        let says = bed.says(&sent);
        assert_eq!(bed.finish(&bed.idp.signed_assertion(&says), &mut sent.browser).status, 303);
        (sent.browser, says.session)
    };
    // Ours first: the provider is asked too, in our name.
    let (mut browser, session) = sign_in();
    let out = browser.go("/_idm/logout");
    let to = browser.location(&out);
    let (endpoint, query) = to.split_once('?').unwrap();
    assert_eq!(endpoint, SLO);
    let request = bed.idp.inflated(&http::parameters(query)["SAMLRequest"]);
    assert!(
        request.contains(&format!("<samlp:SessionIndex>{session}</samlp:SessionIndex>"))
            && request.contains(">ana</saml:NameID>"),
        "{request}"
    );
    let (covered, signature) = query.split_once("&Signature=").unwrap();
    assert!(bed.idp.signed_text(
        covered,
        &STANDARD.decode(&http::parameters(&format!("s={signature}"))["s"]).unwrap(),
        "sp"
    ));
    let back = browser.go(&format!("/_idm/saml/logout/idp?SAMLResponse={}", http::encoded("x")));
    assert_eq!(browser.location(&back), "/_idm/logged-out");
    // The provider's: one session by its name, in a query and in a form.
    let (mut one, session) = sign_in();
    let (mut other, _) = sign_in();
    assert_eq!((one.fetch("/orders").status, other.fetch("/orders").status), (200, 200));
    bed.upstream.forget();
    let request = bed.idp.logout_request("_out1", &slo, "ana", &[&session], "");
    let anybody = Browser::new(bed.gateway.address);
    for (query, why) in [
        (bed.idp.signed_query("SAMLRequest", &request, "r", "attacker"), "another's key"),
        (bed.idp.signed_query("SAMLRequest", &request, "r", "idp").replace("RelayState=r", "RelayState=s"), "changed"),
        (
            bed.idp.signed_query("SAMLRequest", &request, "r", "idp").split("&SigAlg").next().unwrap().to_owned(),
            "unsigned",
        ),
        (
            bed.idp.signed_query("SAMLRequest", &request.replace(IDP, "https://evil.example"), "r", "idp"),
            "another issuer",
        ),
        (bed.idp.signed_query("SAMLRequest", &request.replace("/_idm/saml", "/other"), "r", "idp"), "another address"),
    ] {
        let reply = anybody.clone().go(&format!("/_idm/saml/logout/idp?{query}"));
        assert_eq!(bed.gateway.record(reply.decision())["reason"], "InvalidLogoutToken", "{why}");
    }
    assert_eq!(one.fetch("/orders").status, 200);
    bed.upstream.forget();
    let query = bed.idp.signed_query("SAMLRequest", &request, "state&1", "idp");
    let answer = anybody.clone().go(&format!("/_idm/saml/logout/idp?{query}"));
    let to = anybody.location(&answer);
    let parameters = http::parameters(to.split_once('?').unwrap().1);
    let response = bed.idp.inflated(&parameters["SAMLResponse"]);
    assert!(
        to.starts_with(SLO)
            && parameters["RelayState"] == "state&1"
            && response.contains("InResponseTo=\"_out1\"")
            && response.contains("status:Success"),
        "{to} {response}"
    );
    bed.refused(&one.fetch("/orders"), 401, "SessionEnded");
    let again = anybody.clone().go(&format!("/_idm/saml/logout/idp?{query}"));
    assert_eq!(bed.gateway.record(again.decision())["reason"], "InvalidLogoutToken");
    // All of the person's, in a form.
    assert_eq!(other.fetch("/orders").status, 200);
    bed.upstream.forget();
    let signed = bed.idp.sign(&bed.idp.logout_request("_out2", &slo, "ana", &[], &signature_template("_out2")), "idp");
    let post = |message: &str| {
        let body = format!("SAMLRequest={}", http::encoded(&STANDARD.encode(message)));
        anybody.clone().send(
            "POST",
            "/_idm/saml/logout/idp",
            &[("Content-Type", "application/x-www-form-urlencoded")],
            &body,
        )
    };
    bed.refused(&post(&signed.replace(">ana<", ">bob<")), 400, "InvalidLogoutToken");
    assert_eq!(post(&signed).status, 303);
    bed.refused(&other.fetch("/orders"), 401, "SessionEnded");
}

#[test]
fn our_metadata_says_what_we_are() {
    let bed = bed_with(SIGNED, "");
    let reply = Browser::new(bed.gateway.address).go("/_idm/saml/metadata/idp");
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/samlmetadata+xml")));
    for part in [
        format!("entityID=\"{}\"", bed.entity()),
        format!("Location=\"{}\"", bed.consumer()),
        "AuthnRequestsSigned=\"true\"".into(),
        "WantAssertionsSigned=\"true\"".into(),
        "use=\"encryption\"".into(),
    ] {
        assert!(reply.body.contains(&part), "{part}: {}", reply.body);
    }
}

#[test]
fn a_provider_whose_metadata_cannot_be_used_lets_nobody_in() {
    let idp = SamlIdp::new();
    let good = idp.metadata(&["idp"]);
    let keyless = good.replace(&good[good.find("<KeyDescriptor").unwrap()..good.find("<SingleLogout").unwrap()], "");
    let upstream = Upstream::new();
    let method = format!("    - name: staff\n      signIn: {{federationRefs: [{{name: idp}}]}}\n{IDENTITY}");
    for (change, why) in [
        (keyless, "certificate for signing"),
        (good.replace(IDP, "https://other.example"), "must stand there once"),
        (good.replace(SSO, "javascript:alert(1)"), "not a web address"),
        (good.replace(SLO, "data:text/html,x"), "not a web address"),
        (good.replace(SSO, "http://idp.example/sso"), "`SingleSignOnService`: the URL must be https"),
        (good.replace(SLO, "http://idp.example/slo"), "`SingleLogoutService`: the URL must be https"),
        (good.replace(SLO, "https://localhost/slo"), "`SingleLogoutService`: the URL must not point at"),
        (good.replace("<EntityDescriptor ", "<!DOCTYPE x><EntityDescriptor "), "document type"),
        ("hello there, not XML".into(), "text outside of its element"),
    ] {
        let federation = idp.federation("").replace(&good, &change);
        assert!(federation.contains(&change), "{why}");
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("all.yaml"), format!("{}{federation}", open_to(&upstream, &method))).unwrap();
        let output = std::process::Command::new(idm_tests::idm()).arg("lint").arg(dir.path()).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!output.status.success() && said.contains(why), "{why}: {said}");
    }
    // Metadata of the network that is away: the person is told, and the record says why.
    let address = http::serve(|_| (500, vec![], String::new()));
    let federation = format!(
        "---\napiVersion: identity-manager.io/v1alpha1\nkind: Federation\nmetadata: {{name: idp, uid: \
            uid-idp}}\nspec: {{saml: {{entityId: '{IDP}', metadata: {{uri: 'http://{address}/metadata'}}}}}}\n"
    );
    let gateway = InProcess::start_with(
        &[("all.yaml", &format!("{}{federation}", open_to(&upstream, &method)))],
        &["--danger-insecure-issuers"],
    );
    let bed = Bed { gateway, upstream, idp };
    let record = bed.refused(&Browser::new(bed.gateway.address).go("/_idm"), 503, "ProviderUnavailable");
    assert!(record["detail"].as_str().unwrap().contains("answered 500"), "{record}");
}

/// Metadata that comes over the network is judged when it came: nobody is sent to what is no web address.
#[test]
fn fetched_metadata_sends_nobody_to_a_script() {
    for (from, to) in [(SSO, "javascript:alert(document.cookie)"), (SLO, "data:text/html,x"), (SSO, "//evil.example/")]
    {
        let (upstream, idp) = (Upstream::new(), SamlIdp::new());
        let metadata = idp.metadata(&["idp"]).replace(from, to);
        let address = http::serve(move |_| (200, vec![], metadata.clone()));
        let method = format!("    - name: staff\n      signIn: {{federationRefs: [{{name: idp}}]}}\n{IDENTITY}");
        let federation = format!(
            "---\napiVersion: identity-manager.io/v1alpha1\nkind: Federation\nmetadata: {{name: idp, uid: uid-idp}}\n\
             spec: {{saml: {{entityId: '{IDP}', metadata: {{uri: 'http://{address}/metadata'}}}}}}\n"
        );
        let gateway = InProcess::start_with(
            &[("all.yaml", &format!("{}{federation}", open_to(&upstream, &method)))],
            &["--danger-insecure-issuers"],
        );
        let bed = Bed { gateway, upstream, idp };
        let reply = Browser::new(bed.gateway.address).go("/_idm");
        let record = bed.refused(&reply, 503, "ProviderUnavailable");
        assert!(record["detail"].as_str().unwrap().contains("not a web address"), "{record}");
        assert!(!format!("{reply:?}").contains(to), "{reply:?}");
    }
}

#[test]
fn signatures_are_taken_with_rsa_and_on_curves_with_every_sha_2() {
    let (upstream, idp) = (Upstream::new(), SamlIdp::new());
    let of = |method: &str, name: &str| format!("http://www.w3.org/2001/04/{method}#{name}");
    let cases = [("P-256", "256"), ("P-384", "384"), ("P-521", "512")];
    for (curve, _) in cases {
        idp.new_ec_key(curve, curve);
    }
    let keys = ["idp", "P-256", "P-384", "P-521"];
    let method = format!("    - name: staff\n      signIn: {{federationRefs: [{{name: idp}}]}}\n{IDENTITY}");
    let federation = idp.federation("").replace(&idp.metadata(&["idp"]), &idp.metadata(&keys));
    let gateway = InProcess::start_with(
        &[("all.yaml", &format!("{}{federation}", open_to(&upstream, &method)))],
        &["--danger-insecure-issuers"],
    );
    let bed = Bed { gateway, upstream, idp };
    let signed = |says: &Says, key: &str, algorithm: &str, digest: &str| {
        let template = signature_template(&says.id)
            .replace(&of("xmldsig-more", "rsa-sha256"), algorithm)
            .replace(&of("xmlenc", "sha256"), digest);
        bed.idp.sign(&bed.idp.response(says, &bed.idp.assertion(says, &template), ""), key)
    };
    let digests =
        [("256", of("xmlenc", "sha256")), ("384", of("xmldsig-more", "sha384")), ("512", of("xmlenc", "sha512"))];
    for (size, digest) in &digests {
        let curve = cases.iter().find(|(_, of)| of == size).unwrap().0;
        for (key, algorithm) in [("idp", format!("rsa-sha{size}")), (curve, format!("ecdsa-sha{size}"))] {
            let mut sent = bed.begin();
            let response = signed(&bed.says(&sent), key, &of("xmldsig-more", &algorithm), digest);
            assert_eq!(bed.finish(&response, &mut sent.browser).status, 303, "{algorithm}");
        }
    }
    // A hash that does not belong to the curve is nobody's signature here, though openssl makes it.
    let sent = bed.begin();
    let record = bed.refused(
        &bed.post(&signed(&bed.says(&sent), "P-256", &of("xmldsig-more", "ecdsa-sha512"), &digests[0].1), ""),
        403,
        "UntrustedSignIn",
    );
    assert!(record["detail"].as_str().unwrap().contains("no known key"), "{record}");
}
