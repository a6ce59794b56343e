//! The columns of objects, and what the first page shows of them, wherever the objects are.

use std::collections::BTreeMap;

use idm_api::v1alpha1::Method;
use idm_permission::Kind;
use serde_json::Value;

use crate::kind::ObjectKind;
use crate::wire::KeyView;

/// Two weeks.
pub(super) const SOON_MS: u64 = 14 * 24 * 3_600_000;
/// Objects that the first page shows.
pub(super) const MOST_SHOWN: usize = 50;

/// The columns of an object; values are names, never secrets.
pub(crate) fn summary(object: &Value, kind: ObjectKind, keys: &[KeyView]) -> BTreeMap<String, String> {
    let spec = &object["spec"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let first = |names: &[&str]| names.iter().find(|name| !spec[**name].is_null()).map(|name| (*name).to_owned());
    let mut all = BTreeMap::new();
    let mut put = |name: &str, value: Option<String>| {
        value
            .filter(|value| !value.is_empty())
            .map(|value| all.insert(name.to_owned(), idm_types::visible(&value).into_owned()));
    };
    match kind {
        ObjectKind::Ours(Kind::IdentityPolicy) => {
            let target = |of: &Value| Some(format!("{} {}", of["kind"].as_str()?, of["name"].as_str()?));
            put("targets", joined(&spec["targetRefs"], target));
            let method =
                |of: &Value| Method::KINDS.iter().find(|kind| !of[**kind].is_null()).map(|kind| (*kind).to_owned());
            put("methods", joined(&spec["authentication"]["methods"], method));
        }
        ObjectKind::Ours(Kind::Credential) => {
            put("type", first(&["apiKey", "password", "oauthClient", "person"]));
            put("owner", text(&spec["owner"]["user"]).or_else(|| text(&spec["owner"]["application"])));
            let active = keys.iter().filter(|key| matches!(key.state.as_str(), "Active" | "Overlapping")).count();
            put("keys", (!spec["apiKey"].is_null()).then(|| format!("{active} active")));
            put("expires", text(&spec["expireTime"]));
            put("suspended", (spec["suspend"] == true).then(|| "suspended".to_owned()));
        }
        ObjectKind::Ours(Kind::Federation) => {
            let kind = spec.as_object().and_then(|spec| spec.iter().find(|(_, value)| value.is_object()));
            put("type", kind.map(|(name, _)| name.clone()));
            let address =
                kind.and_then(|(_, of)| ["issuer", "url", "address"].iter().find_map(|name| of[*name].as_str()));
            put("address", address.map(str::to_owned));
        }
        ObjectKind::Ours(Kind::RoleBinding) => {
            let listed = (!spec["permissions"].is_null()).then(|| "listed".to_owned());
            put("role", text(&spec["role"]).or_else(|| text(&spec["permissionRole"])).or(listed));
            let subject = |of: &Value| {
                let account = of["serviceAccount"]["name"].as_str();
                let named = ["user", "group", "credential"].iter().find_map(|name| of[*name].as_str());
                named.or(account).map(str::to_owned)
            };
            put("subjects", joined(&spec["subjects"], subject));
            let team = spec["scope"]["team"]["name"].as_str().map(|team| format!("team {team}"));
            let tier = || spec["scope"].as_object().and_then(|scope| scope.keys().next().cloned());
            put("scope", team.or_else(tier));
        }
        ObjectKind::Ours(Kind::UsagePlan) => {
            put("limits", joined(&spec["limits"], |of: &Value| of["name"].as_str().map(str::to_owned)));
        }
        ObjectKind::Ours(Kind::CredentialRequest) => {
            put("requester", text(&spec["requester"]["username"]));
            put("purpose", text(&spec["purpose"]));
            put("decision", text(&spec["approval"]["decision"]));
            put("expires", text(&spec["credential"]["expireTime"]));
        }
        ObjectKind::Gateway => {
            put("class", text(&spec["gatewayClassName"]));
            let listener = |of: &Value| Some(format!("{} {}", of["protocol"].as_str()?, of["port"]));
            put("listeners", joined(&spec["listeners"], listener));
        }
        ObjectKind::HttpRoute => {
            put("hostnames", joined(&spec["hostnames"], |of: &Value| of.as_str().map(str::to_owned)))
        }
        ObjectKind::Service => put("ports", joined(&spec["ports"], |of: &Value| Some(of["port"].to_string()))),
    }
    all
}

fn joined(list: &Value, name: impl Fn(&Value) -> Option<String>) -> Option<String> {
    let all: Vec<String> = list.as_array()?.iter().take(20).filter_map(name).collect();
    Some(all.join(", "))
}
