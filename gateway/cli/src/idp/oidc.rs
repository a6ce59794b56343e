//! OpenID Connect providers.

use anyhow::Context;
use idm_jose::{KeySet, parse_strict};
use idm_types::{Algorithm, Timestamp};
use serde_json::{Map, Value};

use super::report::Report;
use super::{Found, Probe, get};

/// The clocks of provider and gateway may differ by so much.
const SKEW_SECONDS: u64 = 30;
const DOCUMENT: &str = "/.well-known/openid-configuration";

/// Checks a provider; the error is that it could not be reached at all.
pub(super) async fn probe(
    probe: &Probe,
    client: &reqwest::Client,
    report: &mut Report,
) -> anyhow::Result<Option<String>> {
    let asked = probe.url.strip_suffix(DOCUMENT).unwrap_or(&probe.url);
    let url = format!("{}{DOCUMENT}", asked.trim_end_matches('/'));
    let found = get(client, &url).await.with_context(|| url.clone())?;
    if asked.starts_with("http://") {
        report.notable("transport", "plain http: gateways take that from Services of their own cluster only");
    }
    let Some(document) = read(&found, &url, report) else { return Ok(None) };
    let issuer = document.text("issuer").unwrap_or_default();
    if issuer != asked && issuer.trim_end_matches('/') != asked.trim_end_matches('/') {
        report.failed(
            "issuer",
            &format!("the document speaks of `{issuer}`"),
            "ask under that issuer; a gateway refuses a document that speaks of another one",
        );
        return Ok(None);
    }
    report.good("issuer", issuer);
    check_clock(found.date.as_deref(), report);
    if !check_endpoints(&document, report) {
        return Ok(None);
    }
    let algorithms = check_algorithms(&document.list("id_token_signing_alg_values_supported"), report);
    check_keys(client, document.text("jwks_uri").unwrap_or_default(), &algorithms, report).await;
    check_code_flow(&document, report);
    check_logout(&document, report);
    check_redirect_uri(probe, client, document.text("authorization_endpoint").unwrap_or_default(), report).await;
    Ok(Some(federation(probe, issuer, &algorithms)))
}

/// A provider's metadata (OpenID Connect Discovery §3).
struct Document(Map<String, Value>);

impl Document {
    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    fn list(&self, name: &str) -> Vec<&str> {
        self.0.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
    }

    fn says(&self, name: &str) -> bool {
        self.0.get(name) == Some(&Value::Bool(true))
    }
}

fn read(found: &Found, url: &str, report: &mut Report) -> Option<Document> {
    if found.status != 200 {
        report.failed(
            "discovery",
            &format!("{url} answers {}", found.status),
            "give the issuer exactly as the provider's tokens have it",
        );
        return None;
    }
    let Ok(Value::Object(document)) = parse_strict(&found.body) else {
        report.failed(
            "discovery",
            &format!("{url} is not a JSON object that names each member once"),
            "give the address of an OpenID provider or of SAML metadata",
        );
        return None;
    };
    Some(Document(document))
}

/// Whether there are the endpoints that signing in needs.
fn check_endpoints(document: &Document, report: &mut Report) -> bool {
    let needed = ["authorization_endpoint", "token_endpoint", "jwks_uri"];
    let missing: Vec<_> = needed.into_iter().filter(|name| document.text(name).is_none()).collect();
    for name in &missing {
        report.failed(
            "endpoints",
            &format!("there is no `{name}`"),
            "write it into `oidc.client.endpoints`, or ask the provider's administrator",
        );
    }
    if !missing.is_empty() {
        return false;
    }
    let optional = [
        ("userinfo_endpoint", "userinfo"),
        ("end_session_endpoint", "sign-out"),
        ("pushed_authorization_request_endpoint", "pushed requests"),
    ];
    let offered = optional.iter().filter(|(name, _)| document.text(name).is_some()).map(|(_, offer)| *offer);
    let all: Vec<&str> = ["authorization", "token", "keys"].into_iter().chain(offered).collect();
    report.good("endpoints", all.join(", "));
    true
}

/// PKCE, the proof of the client, and the defence against mix-up (RFC 9700 §4.4).
fn check_code_flow(document: &Document, report: &mut Report) {
    if document.list("code_challenge_methods_supported").contains(&"S256") {
        report.good("PKCE", "S256");
    } else {
        let message = "the document does not offer S256; it is sent all the same, and ignored by a provider that \
                       does not know it";
        report.notable("PKCE", message);
    }
    let methods = document.list("token_endpoint_auth_methods_supported");
    report.good(
        "client proof",
        if methods.is_empty() { "client_secret_basic (the default)".into() } else { methods.join(", ") },
    );
    report.good(
        "mix-up",
        if document.says("authorization_response_iss_parameter_supported") {
            "the provider names itself in its answers (RFC 9207)"
        } else {
            "each provider has a redirect URI of its own"
        },
    );
}

/// Checks the ways in which the provider can end sessions here.
fn check_logout(document: &Document, report: &mut Report) {
    let ways = [("backchannel_logout_supported", "back-channel"), ("frontchannel_logout_supported", "front-channel")];
    let offered: Vec<&str> = ways.iter().filter(|(name, _)| document.says(name)).map(|(_, way)| *way).collect();
    if offered.is_empty() {
        report.notable("logout", "the provider cannot end sessions here; `endedSessions` of the Federation can");
    } else {
        report.good("logout", offered.join(", "));
    }
}

/// By the `Date` of the answer: tokens are judged by the gateway's clock.
fn check_clock(date: Option<&str>, report: &mut Report) {
    let Some(there) = date.and_then(http_date) else {
        return report.notable("clock", "the answer has no `Date`, so clocks cannot be compared");
    };
    let apart = Timestamp::now().seconds().abs_diff(there);
    match apart {
        0..=5 => report.good("clock", "the same as here"),
        6..=SKEW_SECONDS => report
            .notable("clock", format!("{apart} s apart from here; more than {SKEW_SECONDS} s would refuse tokens")),
        _ => report.failed(
            "clock",
            &format!("{apart} s apart from here"),
            "set the clock of whichever machine is wrong: tokens would not be valid yet, or no more",
        ),
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7), in seconds.
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut parts = text.split_once(", ")?.1.split(' ');
    let (day, month, year, time) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    Timestamp::parse_rfc3339(&format!("{year}-{month:02}-{day:0>2}T{time}Z")).map(|time| time.seconds())
}

fn check_algorithms(offered: &[&str], report: &mut Report) -> Vec<Algorithm> {
    let known: Vec<Algorithm> =
        offered.iter().filter_map(|name| Algorithm::ALL.iter().copied().find(|known| known.name() == *name)).collect();
    let usable: Vec<Algorithm> = known.into_iter().filter(|algorithm| !algorithm.is_symmetric()).collect();
    if usable.is_empty() {
        let found = format!(
            "id tokens are signed with {}",
            if offered.is_empty() { "nothing that the document names".into() } else { offered.join(", ") }
        );
        report.failed("algorithms", &found, "let the provider sign with RS256, ES256 or another asymmetric algorithm");
    } else {
        report.good("algorithms", usable.iter().map(|algorithm| algorithm.name()).collect::<Vec<_>>().join(", "));
    }
    usable
}

async fn check_keys(client: &reqwest::Client, url: &str, algorithms: &[Algorithm], report: &mut Report) {
    let fix = "the keys must be public, each with a `kid` of its own";
    match get(client, url).await {
        Ok(found) if found.status == 200 => match KeySet::parse(&found.body, algorithms) {
            Ok(keys) => {
                report.good("keys", format!("{} usable", keys.len()));
                for left_out in keys.left_out() {
                    report.failed("keys", &format!("left out: {left_out}"), fix);
                }
            }
            Err(error) => report.failed("keys", &error.to_string(), fix),
        },
        Ok(found) => report.failed("keys", &format!("{url} answers {}", found.status), fix),
        Err(error) => report.failed("keys", &format!("{url}: {error:#}"), fix),
    }
}

/// Asks for a sign-in without a person: a provider that knows client and redirect URI answers there, and any other
/// shows a page of its own.
async fn check_redirect_uri(probe: &Probe, client: &reqwest::Client, endpoint: &str, report: &mut Report) {
    let (Some(client_id), Some(redirect_uri)) = (&probe.client_id, &probe.redirect_uri) else {
        return report.notable("redirect URI", "not checked: give `--client-id` and `--redirect-uri`");
    };
    let Ok(mut url) = reqwest::Url::parse(endpoint) else {
        return report.failed(
            "redirect URI",
            "the authorization endpoint is not a URL",
            "ask the provider's administrator",
        );
    };
    // The challenge is that of RFC 7636 appendix B; no code is redeemed.
    url.query_pairs_mut().extend_pairs([
        ("response_type", "code"),
        ("client_id", client_id),
        ("redirect_uri", redirect_uri),
        ("scope", "openid"),
        ("state", "probe"),
        ("nonce", "probe"),
        ("prompt", "none"),
        ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
        ("code_challenge_method", "S256"),
    ]);
    match get(client, url.as_str()).await {
        Ok(found) if found.location.as_deref().is_some_and(|to| to.starts_with(redirect_uri.as_str())) => {
            let error = found
                .location
                .as_deref()
                .and_then(|to| to.split(['?', '&', '#']).find_map(|pair| pair.strip_prefix("error=")))
                .unwrap_or("nothing");
            match error {
                "login_required"
                | "interaction_required"
                | "consent_required"
                | "account_selection_required"
                | "nothing" => report.good("redirect URI", "known to the provider"),
                other => report.failed(
                    "redirect URI",
                    &format!("the provider answers there with `{other}`"),
                    "read the client's settings at the provider",
                ),
            }
        }
        Ok(found) => report.failed(
            "redirect URI",
            &format!("the provider answers {} and does not lead there", found.status),
            "register client and redirect URI at the provider, character by character",
        ),
        Err(error) => report.failed("redirect URI", &format!("{error:#}"), "check the network"),
    }
}

fn federation(probe: &Probe, issuer: &str, algorithms: &[Algorithm]) -> String {
    let client_id = probe.client_id.as_deref().unwrap_or("CLIENT-ID");
    // The usual ones need no line.
    let usual = [Algorithm::RS256, Algorithm::ES256];
    let needed = if algorithms.iter().any(|algorithm| usual.contains(algorithm)) {
        Vec::new()
    } else {
        algorithms.iter().map(|a| a.name()).collect()
    };
    let algorithms =
        if needed.is_empty() { String::new() } else { format!("    algorithms: [{}]\n", needed.join(", ")) };
    format!(
        "apiVersion: identity-manager.io/v1alpha1\nkind: Federation\nmetadata:\n  name: {name}\nspec:\n  oidc:\n    \
            issuer: {issuer}\n{algorithms}    client:\n      clientId: {client_id}\n      authentication:\n        \
            clientSecretBasic: {{name: {name}-client}}   # a Secret with the key clientSecret\n",
        name = probe.name,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_an_answer_is_read() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("yesterday"), None);
    }
}
