//! A namespace with the rights of the person, compiled. What they may not read is missing, and said.

use std::collections::BTreeMap;

use http::Method;
use idm_compile::{Layout, Settings, World, compile, yaml};
use idm_permission::{Denial, GROUP, Kind, Verb};
use kube::Client;
use serde_json::Value;

use super::request::{Asked, in_namespace, query, send, together};
use super::{reach, text};
use crate::call::blocking;
use crate::credential::{leave_out_sealed, supply_secrets};
use crate::failure::{Code, Failure};
use crate::place::Understood;
use crate::table::Later;

const GATEWAY_API: &str = "/apis/gateway.networking.k8s.io/v1";
/// Root, API version, kind and resource of what routes and their targets are.
const OTHERS: [(&str, &str, &str, &str); 5] = [
    (GATEWAY_API, "gateway.networking.k8s.io/v1", "Gateway", "gateways"),
    (GATEWAY_API, "gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes"),
    (GATEWAY_API, "gateway.networking.k8s.io/v1", "GRPCRoute", "grpcroutes"),
    (GATEWAY_API, "gateway.networking.k8s.io/v1", "BackendTLSPolicy", "backendtlspolicies"),
    ("/api/v1", "v1", "Service", "services"),
];
/// Secrets and ConfigMaps that are read; what rests on more is decided without them.
const MOST_NAMED: usize = 200;
/// Objects of a page of the API server.
const PAGE: &str = "500";

/// A list of objects that was read, or could not be.
enum Listed {
    Here(Vec<Value>),
    Missing(Denial),
}

/// The objects of a namespace.
pub(super) struct Objects {
    namespace: String,
    others: Vec<Value>,
    ours: Vec<Value>,
    missing: Vec<Denial>,
}

/// The namespace as it is.
///
/// # Errors
/// The API server does not answer, or the token is over.
pub(super) async fn understood(client: &Client, namespace: &str) -> Result<Understood, Failure> {
    Objects::read(client, namespace).await?.compiled(client, None).await
}

impl Objects {
    /// # Errors
    /// The API server does not answer, or the token is over.
    pub(super) async fn read(client: &Client, namespace: &str) -> Result<Self, Failure> {
        let mut missing = Vec::new();
        let others = others(client, namespace, &mut missing).await?;
        let ours = ours(client, namespace, &mut missing).await?;
        Ok(Self { namespace: namespace.to_owned(), others, ours, missing })
    }

    /// The result of compiling them, with one object in place of the one of its name.
    pub(super) async fn compiled(&self, client: &Client, instead: Option<&Value>) -> Result<Understood, Failure> {
        let settings = Settings { remembers_together: true, layout: Layout::Own, ..Settings::default() };
        let mut missing = self.missing.clone();
        let mut world = read(&self.others, &self.namespace, settings);
        let is_other = |object: &&Value| {
            instead.is_none_or(|new| {
                new["kind"] != object["kind"] || text(new, "/metadata/name") != text(object, "/metadata/name")
            })
        };
        for object in self.ours.iter().filter(is_other).chain(instead) {
            world.insert(stripped(object));
        }
        let named = named(client, &world, &mut missing).await?;
        let read_named = read(&named, &self.namespace, settings);
        world.secrets = read_named.secrets;
        world.config_maps = read_named.config_maps;
        missing.dedup();
        // Hashes of passwords cost time on purpose.
        blocking(move || {
            leave_out_sealed(&mut world);
            supply_secrets(&mut world).map_err(|error| Failure::unavailable(error.to_string()))?;
            world.sort();
            world.hash_passwords();
            let compiled = compile(&world, None);
            Ok(Understood { world, compiled, missing })
        })
        .await?
    }
}

/// The object without what only the API server has a use for.
fn stripped(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(members) = object.as_object_mut() {
        members.remove("status");
    }
    if let Some(members) = object["metadata"].as_object_mut() {
        members.remove("managedFields");
    }
    object
}

/// The objects of other groups, one file each; one that cannot be read is left out, as the operator does.
fn read(documents: &[Value], namespace: &str, settings: Settings) -> World {
    let mut files = Vec::new();
    for document in documents {
        let name = format!("{} {}", text(document, "/kind"), text(document, "/metadata/name"));
        let file = (name, stripped(document).to_string());
        if yaml::read_files(std::slice::from_ref(&file), settings).is_ok() {
            files.push(file);
        }
    }
    let read = yaml::read_files(&files, settings).map(|(world, _)| world);
    let mut world = read.unwrap_or_else(|_| World::new(namespace, settings));
    world.namespace = namespace.to_owned();
    world
}

async fn others(client: &Client, namespace: &str, missing: &mut Vec<Denial>) -> Result<Vec<Value>, Failure> {
    let classes = (GATEWAY_API, "gateway.networking.k8s.io/v1", "GatewayClass", "gatewayclasses");
    let in_it = OTHERS.iter().map(|other| (*other, namespace));
    let mut work: Vec<Later<'_, Listed>> = Vec::new();
    for ((root, version, kind, resource), namespace) in std::iter::once((classes, "")).chain(in_it) {
        let path = in_namespace(root, resource, namespace);
        work.push(Box::pin(list(client, path, version.to_owned(), kind, foreign(kind, namespace))));
    }
    Ok(gathered(together(work).await?, missing))
}

async fn ours(client: &Client, namespace: &str, missing: &mut Vec<Denial>) -> Result<Vec<Value>, Failure> {
    let mut work: Vec<Later<'_, Listed>> = Vec::new();
    for kind in Kind::ALL {
        let path = in_namespace(&format!("/apis/{GROUP}/v1alpha1"), kind.resource(), namespace);
        let told = reach::missing(Verb::Read, *kind, namespace);
        work.push(Box::pin(list(client, path, format!("{GROUP}/v1alpha1"), kind.name(), told)));
    }
    Ok(gathered(together(work).await?, missing))
}

fn gathered(lists: Vec<Listed>, missing: &mut Vec<Denial>) -> Vec<Value> {
    let mut all = Vec::new();
    for list in lists {
        match list {
            Listed::Here(items) => all.extend(items),
            Listed::Missing(one) => missing.push(one),
        }
    }
    all
}

/// A permission on a kind that is not ours, which roles of the cluster give.
fn foreign(kind: &str, namespace: &str) -> Denial {
    Denial::of_other_kind("get", kind, Some(namespace).filter(|namespace| !namespace.is_empty()))
}

async fn list(client: &Client, path: String, version: String, kind: &str, told: Denial) -> Result<Listed, Failure> {
    let (mut items, mut next) = (Vec::new(), String::new());
    loop {
        let page = format!("{path}{}", query(&[("limit", PAGE), ("continue", &next)]));
        let answer = send(client, Method::GET, &page, None).await?.done(&Asked::plain(kind));
        let mut body = match answer {
            Err(failure) if failure.code == Code::Forbidden => return Ok(Listed::Missing(told)),
            // The cluster need not have the kind.
            Err(failure) if failure.code == Code::NotFound => return Ok(Listed::Here(Vec::new())),
            answer => answer?.body,
        };
        next = text(&body, "/metadata/continue").to_owned();
        if let Value::Array(found) = body["items"].take() {
            items.extend(found.into_iter().map(|mut object| {
                object["apiVersion"] = version.clone().into();
                object["kind"] = kind.into();
                object
            }));
        }
        if next.is_empty() {
            return Ok(Listed::Here(items));
        }
    }
}

/// The Secrets and ConfigMaps that the objects name, as far as the person may read them.
async fn named(client: &Client, world: &World, missing: &mut Vec<Denial>) -> Result<Vec<Value>, Failure> {
    let kinds: BTreeMap<&str, (&str, Vec<String>)> = BTreeMap::from([
        ("Secret", ("secrets", world.secret_names())),
        ("ConfigMap", ("configmaps", world.config_map_names())),
    ]);
    let mut all = Vec::new();
    for (kind, (resource, mut names)) in kinds {
        if names.len() > MOST_NAMED {
            names.truncate(MOST_NAMED);
            let scope = format!("project `{}`, beyond the first {MOST_NAMED}", world.namespace);
            missing.push(Denial { scope, ..foreign(kind, &world.namespace) });
        }
        let path = in_namespace("/api/v1", resource, &world.namespace);
        let mut work: Vec<Later<'_, Listed>> = Vec::new();
        for name in &names {
            work.push(Box::pin(one(client, format!("{path}/{name}"), kind, &world.namespace)));
        }
        all.extend(gathered(together(work).await?, missing));
        missing.dedup();
    }
    Ok(all)
}

async fn one(client: &Client, path: String, kind: &str, namespace: &str) -> Result<Listed, Failure> {
    match send(client, Method::GET, &path, None).await?.done(&Asked::plain(kind)) {
        Err(failure) if failure.code == Code::Forbidden => Ok(Listed::Missing(foreign(kind, namespace))),
        Err(failure) if failure.code == Code::NotFound => Ok(Listed::Here(Vec::new())),
        answer => Ok(Listed::Here(vec![answer?.body])),
    }
}
