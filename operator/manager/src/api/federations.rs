//! Federations: a login is tried at a directory, and the document of a provider is read. Passwords are neither logged
//! nor kept, and nothing is fetched.

use std::time::Duration;

use idm_jose::parse_strict;
use idm_saml::IdentityProvider;
use idm_types::{Algorithm, Redacted, Timestamp, visible};
use serde_json::{Map, Value, json};

use crate::call::Call;
use crate::failure::Failure;
use crate::place::ObjectRef;
use crate::wire::federation::{ProviderDocument, ProviderFact, ProviderView, TriedLoginView, TryLogin};

/// A refused login costs this much time: the directory is asked without the counting of a gateway.
const WRONG_COSTS: Duration = Duration::from_secs(1);
const MOST_NAME: usize = 256;
const MOST_PASSWORD: usize = 1024;
/// The largest document that `metadata.inline` takes.
const MOST_METADATA: usize = 131_072;
/// Entities that are named at most.
const MOST_ENTITIES: usize = 50;

pub(crate) async fn try_login(call: Call, body: TryLogin) -> Result<TriedLoginView, Failure> {
    let TryLogin { username, password } = body;
    let password = Redacted::new(password);
    if username.is_empty() || username.len() > MOST_NAME {
        return Err(Failure::invalid("`username` must have 1 to 256 bytes").at("username"));
    }
    if password.reveal().is_empty() || password.reveal().len() > MOST_PASSWORD {
        return Err(Failure::invalid("`password` must have 1 to 1024 bytes").at("password"));
    }
    let kind = "Federation".parse()?;
    let federation =
        ObjectRef { kind, namespace: call.part("namespace").to_owned(), name: call.part("name").to_owned() };
    let tried = call.manager.place.try_login(&call.person, federation, username, password).await?;
    if tried.person.is_none() {
        tokio::time::sleep(WRONG_COSTS).await;
    }
    Ok(tried)
}

pub(crate) async fn read(_call: Call, body: ProviderDocument) -> Result<ProviderView, Failure> {
    let ProviderDocument { document, entity_id } = body;
    let text = document.trim_start_matches('\u{feff}').trim();
    match text.chars().next() {
        Some('{') => openid(text),
        Some('<') => saml(text, entity_id),
        _ => Err(wrong("give the JSON of an OpenID provider's configuration, or SAML metadata as XML")),
    }
}

fn wrong(why: impl Into<String>) -> Failure {
    Failure::invalid(why).at("document")
}

fn fact(name: &'static str, ok: bool, text: impl AsRef<str>) -> ProviderFact {
    ProviderFact { name, ok, text: visible(text.as_ref()).into_owned() }
}

/// The configuration of an OpenID provider (OpenID Connect Discovery §3). Endpoints are not written into the
/// Federation: the gateway discovers them, and notices when they change.
fn openid(text: &str) -> Result<ProviderView, Failure> {
    let Ok(Value::Object(document)) = parse_strict(text.as_bytes()) else {
        return Err(wrong("the document is not a JSON object that names each member once"));
    };
    let member = |name: &str| document.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let list = |name: &str| -> Vec<&str> {
        document.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
    };
    let issuer = member("issuer").ok_or_else(|| wrong("the document has no `issuer`"))?;
    let mut facts = vec![fact("issuer", issuer.starts_with("https://"), issuer)];
    for name in ["authorization_endpoint", "token_endpoint", "jwks_uri"] {
        facts.push(fact(name, member(name).is_some(), member(name).unwrap_or("not there: signing in needs it")));
    }
    for name in ["userinfo_endpoint", "end_session_endpoint"] {
        facts.extend(member(name).map(|url| fact(name, true, url)));
    }
    let offered = list("id_token_signing_alg_values_supported");
    let known = offered.iter().filter_map(|name| Algorithm::ALL.iter().find(|known| known.name() == *name));
    let usable: Vec<&str> = known.filter(|known| !known.is_symmetric()).map(|known| known.name()).collect();
    let found = if offered.is_empty() { "none is named".to_owned() } else { offered.join(", ") };
    facts.push(fact("algorithms", !usable.is_empty(), found));
    let pkce = list("code_challenge_methods_supported");
    let has_pkce = pkce.contains(&"S256");
    facts.push(fact("PKCE", has_pkce, if has_pkce { "S256" } else { "S256 is not offered; it is sent all the same" }));
    let mut fields = Map::from_iter([("issuer".to_owned(), json!(issuer))]);
    // These two are what is allowed without the field.
    if !usable.is_empty() && usable.iter().any(|name| !["RS256", "ES256"].contains(name)) {
        fields.insert("algorithms".to_owned(), json!(usable));
    }
    Ok(ProviderView { kind: "oidc", fields, facts, entities: Vec::new() })
}

/// Metadata of SAML, read as a gateway reads it.
fn saml(text: &str, entity_id: Option<String>) -> Result<ProviderView, Failure> {
    if text.len() > MOST_METADATA {
        return Err(wrong(
            "metadata in a Federation must be no larger than 128 KiB: put it into a Secret, or name its URL",
        ));
    }
    let known = entities(text);
    let entity_id = match (entity_id, known.as_slice()) {
        (Some(chosen), _) => chosen,
        (None, [only]) => only.clone(),
        (None, []) => return Err(wrong("the document has no `EntityDescriptor` with an `entityID`")),
        (None, _) => {
            return Ok(ProviderView { kind: "saml", fields: Map::new(), facts: Vec::new(), entities: known });
        }
    };
    let read = IdentityProvider::read(text, &entity_id, Timestamp::now());
    let provider = read.map_err(|error| wrong(error.to_string()))?;
    let ways = |of: &idm_saml::Endpoints| {
        let ways = [("redirect", of.redirect.is_some()), ("form", of.post.is_some())];
        ways.into_iter().filter(|(_, has)| *has).map(|(way, _)| way).collect::<Vec<_>>().join(", ")
    };
    let (sign_in, sign_out) = (ways(&provider.sign_on), ways(&provider.logout));
    let mut facts = vec![
        fact("entity", true, &entity_id),
        fact("sign-in", !sign_in.is_empty(), sign_in),
        fact("sign-out", true, if sign_out.is_empty() { "not offered: sessions end here alone" } else { &sign_out }),
        fact("certificates", true, format!("{} for signing", provider.keys.len())),
    ];
    facts.extend(provider.left_out.iter().map(|why| fact("certificates", false, why)));
    if provider.wants_signed_requests {
        facts.push(fact("requests", true, "the provider wants them signed: `serviceProvider.keyRef` must name a key"));
    }
    let fields =
        Map::from_iter([("entityId".to_owned(), json!(entity_id)), ("metadata".to_owned(), json!({"inline": text}))]);
    Ok(ProviderView { kind: "saml", fields, facts, entities: Vec::new() })
}

/// The entity ids that a document seems to have. They are suggestions: the reader of metadata decides.
fn entities(text: &str) -> Vec<String> {
    let values = text.split("entityID=").skip(1).filter_map(|rest| {
        let quote = rest.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
        rest.get(1..)?.split(quote).next()
    });
    values.take(MOST_ENTITIES).map(|id| visible(id).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_of_a_provider_fills_in_its_issuer() {
        let document = json!({
            "issuer": "https://idp.example", "authorization_endpoint": "https://idp.example/a",
            "token_endpoint": "https://idp.example/t", "jwks_uri": "https://idp.example/k",
            "id_token_signing_alg_values_supported": ["HS256", "PS256", "RS256"],
        });
        let read = openid(&document.to_string()).expect("it is one");
        assert_eq!(
            Value::Object(read.fields),
            json!({"issuer": "https://idp.example", "algorithms": ["PS256", "RS256"]})
        );
        let wrong: Vec<_> = read.facts.iter().filter(|fact| !fact.ok).map(|fact| fact.name).collect();
        assert_eq!(wrong, ["PKCE"]);
        for bad in ["{}", "{\"issuer\": 1}", "{\"issuer\": \"a\", \"issuer\": \"b\"}", "{"] {
            assert!(openid(bad).is_err(), "{bad}");
        }
        let poor = openid("{\"issuer\": \"http://idp\\u0007\"}").expect("it is one");
        assert!(poor.facts.iter().filter(|fact| !fact.ok).count() >= 5);
        assert!(!poor.facts[0].text.contains('\u{7}'), "{:?}", poor.facts[0]);
    }

    #[test]
    fn metadata_of_several_providers_asks_for_one_and_what_is_none_is_refused() {
        let two = "<a><EntityDescriptor entityID=\"https://one\"/><EntityDescriptor entityID='https://two'/></a>";
        let read = saml(two, None).expect("a choice");
        assert_eq!((read.entities.len(), read.fields.len()), (2, 0));
        assert!(saml(two, Some("https://one".into())).is_err(), "it has no endpoints and no keys");
        for bad in ["<a/>", "<EntityDescriptor entityID=\"x\"/>", "<!DOCTYPE a [<!ENTITY b \"c\">]><a entityID=\"x\"/>"]
        {
            assert!(saml(bad, None).is_err(), "{bad}");
        }
    }
}
