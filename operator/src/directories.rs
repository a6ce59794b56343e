//! The state of directories: the gateways are asked, and the Federations say it in their status.

use std::collections::BTreeMap;

use idm_compile::{Cause, Compiled, Condition, ObjectId, World};
use idm_plan::Secrets;
use idm_types::Reason;
use kube::core::DynamicObject;
use serde::Deserialize;

use crate::objects::Kind;
use crate::{Context, gateway};

/// The answer of a gateway.
#[derive(Deserialize)]
struct Told {
    directories: Vec<Outcome>,
}

/// The outcome of the last question to a directory.
#[derive(Deserialize)]
struct Outcome {
    namespace: String,
    federation: String,
    error: Option<Problem>,
}

#[derive(Deserialize)]
struct Problem {
    reason: Reason,
    detail: String,
}

/// Whether a namespace, or one whose routes it takes, has a directory.
pub(crate) fn has_any(world: &World) -> bool {
    let all = std::iter::once(world).chain(world.tenants()).flat_map(|of| &of.federations);
    all.map(|federation| &federation.spec)
        .any(|spec| spec.ldap.is_some() || spec.database.is_some() || spec.rest.is_some())
}

/// Whether an object of the API server is a Federation of the type of a directory.
pub(crate) fn is_one(kind: Kind, object: &DynamicObject) -> bool {
    let has = |member: &str| object.data.pointer(&format!("/spec/{member}")).is_some();
    kind == Kind::Federation && ["ldap", "database", "rest"].into_iter().any(has)
}

/// Adds to the report which directories give no usable answers. A pod that does not answer tells nothing.
/// `gateways` are those of the namespace by name, with their secrets.
pub(crate) async fn report(context: &Context, world: &World, compiled: &mut Compiled, gateways: &[(String, &Secrets)]) {
    let mut told = Vec::new();
    for (name, secrets) in gateways {
        let Some(token) = gateway::control_token(secrets).filter(|_| has_any(world)) else { continue };
        let pods = gateway::pods(context, &world.namespace, name);
        let asked = pods.iter().map(|pod| gateway::ask::<Told>(context, pod, "/-/directories", Some(token)));
        let answers = futures::future::join_all(asked).await;
        told.extend(answers.into_iter().flatten().flat_map(|answer| answer.directories));
    }
    add(told, compiled);
}

/// One finding for each directory that some pod got no usable answer from.
fn add(told: Vec<Outcome>, compiled: &mut Compiled) {
    let mut all: BTreeMap<(String, String), (usize, Vec<Problem>)> = BTreeMap::new();
    for Outcome { namespace, federation, error } in told {
        let (pods, problems) = all.entry((namespace, federation)).or_default();
        *pods += 1;
        problems.extend(error);
    }
    for ((namespace, federation), (pods, problems)) in all {
        let Some(Problem { reason, detail }) = problems.first() else { continue };
        let message = format!("the last login of {} of {pods} gateways found: {detail}", problems.len());
        let id = ObjectId::new("Federation", &namespace, &federation);
        compiled.report.push(&id, "", Condition::Connected, Cause::Directory(*reason), message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_reported_with_the_number_of_pods_that_it_fails() {
        let outcome = |federation: &str, error: Option<Reason>| Outcome {
            namespace: "shop".into(),
            federation: federation.into(),
            error: error.map(|reason| Problem { reason, detail: "dc1:636 does not answer".into() }),
        };
        let away = Some(Reason::DirectoryUnavailable);
        let mut compiled = idm_compile::compile(&World::default(), None);
        add(vec![outcome("corp", None), outcome("corp", away), outcome("lab", None)], &mut compiled);
        let findings: Vec<_> = compiled.report.findings().iter().map(ToString::to_string).collect();
        let wanted = "Federation shop/corp: the last login of 1 of 2 gateways found: dc1:636 does not answer \
                      (DirectoryUnavailable)";
        assert_eq!(findings, [wanted]);
    }
}
