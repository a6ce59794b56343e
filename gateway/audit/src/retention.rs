//! How long a server keeps records, by kind: policies of the lifecycle management that it has, written so that what
//! somebody else made is never changed.
//!
//! Indices are dated, so that whole ones are deleted and no record of another age with them. Elasticsearch has ILM, and
//! OpenSearch has ISM; which of them it is follows from the server's answer to `/`.

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use crate::indices::{INDEX, TEMPLATE, template};
use crate::ship::{Elasticsearch, ShipError, checked};

/// The mark of what idm made.
const OURS: &str = "idm";

/// The days for which records are kept, from the day of their index on; `None` keeps them, and touches no policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Of decisions.
    pub decisions_days: Option<u32>,
    /// Of changes, and of the seals of chains.
    pub changes_days: Option<u32>,
}

/// The lifecycle management of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manager {
    /// Of Elasticsearch.
    Ilm,
    /// Of OpenSearch.
    Ism,
}

impl Manager {
    /// By the answer to `/`; `None` where there is none, as in Elasticsearch without servers of one's own.
    fn of(root: &Value) -> Option<Self> {
        let version = &root["version"];
        match (version["distribution"].as_str(), version["build_flavor"].as_str()) {
            (Some("opensearch"), _) => Some(Self::Ism),
            (_, Some("serverless")) => None,
            _ => Some(Self::Ilm),
        }
    }

    fn path(self, name: &str) -> String {
        match self {
            Self::Ilm => format!("_ilm/policy/{name}"),
            Self::Ism => format!("_plugins/_ism/policies/{name}"),
        }
    }

    fn policy(self, kind: &str, days: u32) -> Value {
        let age = format!("{days}d");
        match self {
            Self::Ilm => json!({"policy": {
                "_meta": {"managed_by": OURS},
                "phases": {"hot": {"min_age": "0ms", "actions": {}},
                    "delete": {"min_age": age, "actions": {"delete": {}}}},
            }}),
            Self::Ism => json!({"policy": {
                "description": format!("{OURS}: keeps {kind} for {days} days"),
                "default_state": "kept",
                "states": [
                    {"name": "kept", "actions": [],
                        "transitions": [{"state_name": "deleted", "conditions": {"min_index_age": age}}]},
                    {"name": "deleted", "actions": [{"delete": {}}], "transitions": []},
                ],
                "ism_template": [{"index_patterns": [pattern(kind)], "priority": 300}],
            }}),
        }
    }

    /// Whether a stored policy is one of ours.
    fn is_ours(self, stored: &Value, name: &str) -> bool {
        match self {
            Self::Ilm => stored[name]["policy"]["_meta"]["managed_by"] == OURS,
            Self::Ism => {
                let description = stored["policy"]["description"].as_str().unwrap_or_default();
                description.starts_with(&format!("{OURS}: "))
            }
        }
    }

    /// The age that a stored policy waits for.
    fn age(self, stored: &Value, name: &str) -> Option<String> {
        let age = match self {
            Self::Ilm => &stored[name]["policy"]["phases"]["delete"]["min_age"],
            Self::Ism => &stored["policy"]["states"][0]["transitions"][0]["conditions"]["min_index_age"],
        };
        age.as_str().map(str::to_owned)
    }
}

fn pattern(kind: &str) -> String {
    format!("{INDEX}-{kind}-*")
}

/// The name of the policy of a kind of records.
fn name(kind: &str) -> String {
    format!("{INDEX}-{kind}")
}

/// Writes the policies and gives them to the indices, those that are there and those to come. Repeating it changes
/// nothing. Records are shipped whether it succeeds or not.
pub(crate) async fn apply(server: &Elasticsearch, client: &Client, has_earlier: bool) -> Result<(), ShipError> {
    let Retention { decisions_days, changes_days } = server.kept;
    let kinds = [("decisions", decisions_days), ("changes", changes_days)];
    if kinds.iter().all(|(_, days)| days.is_none()) {
        return Ok(());
    }
    let root = checked(server.request(client, Method::GET, "").send().await?).await?.json().await?;
    let Some(manager) = Manager::of(&root) else {
        tracing::warn!("this server has no lifecycle policies: records are kept until somebody deletes their indices");
        return Ok(());
    };
    let work = Work { server, client, manager, has_earlier };
    for (kind, days) in kinds {
        match days {
            Some(days) if work.write_policy(kind, days).await? => work.attach(kind).await?,
            Some(_) => {
                tracing::warn!(policy = name(kind), "the policy of this name is not idm's: it stays, and is not used");
            }
            None => {}
        }
    }
    Ok(())
}

struct Work<'w> {
    server: &'w Elasticsearch,
    client: &'w Client,
    manager: Manager,
    has_earlier: bool,
}

impl Work<'_> {
    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<reqwest::Response, ShipError> {
        let request = self.server.request(self.client, method, path);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        Ok(request.send().await?)
    }

    /// Whether the policy is as wanted now; false where one of this name is somebody else's.
    async fn write_policy(&self, kind: &str, days: u32) -> Result<bool, ShipError> {
        let (manager, name) = (self.manager, name(kind));
        let mut path = manager.path(&name);
        let answer = self.send(Method::GET, &path, None).await?;
        if answer.status() != StatusCode::NOT_FOUND {
            let stored: Value = checked(answer).await?.json().await?;
            if !manager.is_ours(&stored, &name) {
                return Ok(false);
            }
            if manager.age(&stored, &name).as_deref() == Some(&format!("{days}d")) {
                return Ok(true);
            }
            // OpenSearch replaces only the version that is named.
            if let (Manager::Ism, Some(at), Some(term)) =
                (manager, stored["_seq_no"].as_u64(), stored["_primary_term"].as_u64())
            {
                path = format!("{path}?if_seq_no={at}&if_primary_term={term}");
            }
        }
        checked(self.send(Method::PUT, &path, Some(&manager.policy(kind, days))).await?).await.map(drop)?;
        Ok(true)
    }

    /// Gives the policy to indices to come, and to those that have none.
    async fn attach(&self, kind: &str) -> Result<(), ShipError> {
        let (name, pattern) = (name(kind), pattern(kind));
        match self.manager {
            Manager::Ilm => {
                let mut template = template(self.has_earlier);
                template["index_patterns"] = json!([pattern]);
                template["priority"] = 301.into();
                template["template"]["settings"]["index"]["lifecycle"] = json!({"name": name});
                let path = format!("_index_template/{TEMPLATE}-{kind}");
                checked(self.send(Method::PUT, &path, Some(&template)).await?).await?;
                let without = self.without_lifecycle(&pattern).await?;
                if !without.is_empty() {
                    let path = format!("{}/_settings", without.join(","));
                    let setting = json!({"index": {"lifecycle": {"name": name}}});
                    checked(self.send(Method::PUT, &path, Some(&setting)).await?).await?;
                }
            }
            Manager::Ism => {
                // An index that has a policy keeps it; without an index there is nothing to add it to.
                let body = json!({"policy_id": name});
                let path = format!("_plugins/_ism/add/{pattern}");
                let status = self.send(Method::POST, &path, Some(&body)).await?.status().as_u16();
                tracing::debug!(status, "lifecycle of indices that are there");
            }
        }
        Ok(())
    }

    /// The indices that have no lifecycle, of nobody.
    async fn without_lifecycle(&self, pattern: &str) -> Result<Vec<String>, ShipError> {
        let path = format!("{pattern}/_settings/index.lifecycle.name?allow_no_indices=true&flat_settings=true");
        let all: Value = checked(self.send(Method::GET, &path, None).await?).await?.json().await?;
        // The server leaves out indices that lack the setting only in some versions.
        let path = format!("{pattern}/_alias?allow_no_indices=true");
        let names: Value = checked(self.send(Method::GET, &path, None).await?).await?.json().await?;
        let has = |name: &str| !all[name]["settings"]["index.lifecycle.name"].is_null();
        let names = names.as_object().into_iter().flatten().map(|(name, _)| name.clone());
        Ok(names.filter(|name| !has(name)).collect())
    }
}

#[cfg(test)]
mod tests;
