//! Memberships of people who signed in: the gateways report the people, the Federation defines the roles, and the
//! operator makes the memberships.
//!
//! A gateway cannot write to the cluster, and it reports only a name: the operator reads the role for that name from
//! the Federation.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use idm_api::v1alpha1::{FederationSpec, ProjectScope, RoleBinding, RoleBindingSpec, Scope, Subject};
use idm_compile::{NAMED_BY, PROVISIONED_BY, World, user_name_attributes};
use idm_plan::{Bundle, CONTROL_TOKEN, SecretHandle, Secrets};
use idm_types::{Redacted, hex};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, ResourceExt};
use serde::Deserialize;

use crate::{Context, MANAGER, directories, gateway};

/// The answer of a gateway.
#[derive(Deserialize)]
struct Told {
    people: Vec<Person>,
    last: u64,
}

#[derive(Deserialize)]
struct Person {
    /// Of the Federation: the gateway's own, or one whose routes it takes.
    namespace: String,
    federation: String,
    issuer: String,
    username: String,
}

/// The namespaces that a gateway serves.
fn served(world: &World) -> impl Iterator<Item = &World> {
    std::iter::once(world).chain(world.tenants())
}

fn provisions(world: &World) -> bool {
    served(world).flat_map(|of| &of.federations).any(|federation| federation.spec.provisioning.is_some())
}

/// Whether some Credential is an API key. Its gateways tell how its keys are used, from the first rotation on: a token
/// that came with that would be another secret of the plan.
fn has_keys(world: &World) -> bool {
    served(world).flat_map(|of| &of.credentials).any(|credential| credential.spec.api_key.is_some())
}

/// Puts the token into the bundle with which the operator proves itself to the gateways: the present one, or a new one.
/// Only gateways that have something to tell have one.
pub(crate) fn prepare(world: &World, current: Option<&Bundle>, secrets: &mut Secrets) {
    if !provisions(world) && !directories::has_any(world) && !has_keys(world) {
        return;
    }
    let handle = SecretHandle(CONTROL_TOKEN.into());
    let known = current.and_then(|bundle| bundle.secrets.get(&handle)).cloned();
    let made = || {
        let mut random = [0; 32];
        SystemRandom::new().fill(&mut random).ok().map(|()| Redacted::new(hex(&random).into_bytes()))
    };
    match known.or_else(made) {
        Some(token) => secrets.put(handle, token),
        None => tracing::error!("the system gave no random bits; gateways are not asked what they know"),
    }
}

/// Makes the memberships of people who signed in, as the gateway of this name tells.
pub(crate) async fn provision(
    context: &Context,
    world: &World,
    name: &str,
    secrets: &Secrets,
) -> Result<(), kube::Error> {
    let Some(token) = gateway::control_token(secrets).filter(|_| provisions(world)) else { return Ok(()) };
    for pod in gateway::pods(context, &world.namespace, name) {
        let Some(uid) = pod.metadata.uid.clone() else { continue };
        let seen = context.heard.lock().await.get(&uid).copied().unwrap_or(0);
        // A pod that does not answer, or does not have the new token yet, is asked again the next time.
        let answer = gateway::ask(context, &pod, &format!("/-/people?seen={seen}"), Some(token)).await;
        let Some(Told { people, last }) = answer else { continue };
        for person in &people {
            if let Some(of) = served(world).find(|of| of.namespace == person.namespace) {
                make(context, of, person).await?;
            }
        }
        // Only now: a membership that could not be made is reported again.
        context.heard.lock().await.insert(uid, last);
    }
    Ok(())
}

async fn make(context: &Context, world: &World, person: &Person) -> Result<(), kube::Error> {
    let Some(federation) = world.federations.iter().find(|federation| federation.meta.name == person.federation) else {
        return Ok(());
    };
    let Some(provisioning) = &federation.spec.provisioning else { return Ok(()) };
    let binding = RoleBinding {
        metadata: ObjectMeta {
            name: Some(name(person, &federation.meta.uid)),
            labels: Some(labels(&federation.meta.name, &federation.spec)),
            // Kubernetes deletes it with the Federation that authenticated the person.
            owner_references: Some(vec![gateway::owner("Federation", &federation.meta)]),
            ..ObjectMeta::default()
        },
        spec: RoleBindingSpec {
            role: Some(provisioning.role.clone()),
            permission_role: None,
            permissions: None,
            subjects: vec![Subject {
                user: Some(person.username.clone()),
                group: None,
                credential: None,
                service_account: None,
                issuer: Some(person.issuer.clone()),
            }],
            scope: Scope { project: Some(ProjectScope::default()), ..Scope::default() },
        },
        status: None,
    };
    let api: Api<RoleBinding> = Api::namespaced(context.client.clone(), &world.namespace);
    match api.create(&PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() }, &binding).await {
        Ok(made) => tracing::info!(
            namespace = world.namespace,
            binding = made.name_any(),
            federation = person.federation,
            "membership made"
        ),
        // It exists, whoever made it and however it was changed since.
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        // A name that is not valid for an object: only this membership is lost, and the others must still be made.
        Err(kube::Error::Api(status)) if status.code == 422 => {
            tracing::warn!(namespace = world.namespace, error = status.message, "a membership cannot be made")
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// The labels of a membership: its Federation, and the attributes by which people were named then.
fn labels(federation: &str, spec: &FederationSpec) -> BTreeMap<String, String> {
    let named_by = user_name_attributes(spec);
    let labels = [
        ("app.kubernetes.io/managed-by", Some(MANAGER)),
        ("app.kubernetes.io/part-of", Some("idm")),
        (PROVISIONED_BY, Some(federation)),
        (NAMED_BY, named_by.as_deref()),
    ];
    let labels = labels.into_iter().filter_map(|(name, value)| Some((name, value?)));
    labels.map(|(name, value)| (name.to_owned(), value.chars().take(63).collect())).collect()
}

/// One for each person at each Federation.
fn name(person: &Person, federation_uid: &str) -> String {
    let text = format!("{federation_uid}\n{}\n{}", person.issuer, person.username);
    let hash = hex(digest(&SHA256, text.as_bytes()).as_ref());
    format!("member-{}", hash.get(..16).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_stays_while_it_is_wanted() {
        let mut world = World::default();
        let mut secrets = Secrets::default();
        prepare(&world, None, &mut secrets);
        assert!(secrets.is_empty(), "without provisioning there is none");
        let yaml = "apiVersion: identity-manager.io/v1alpha1\nkind: Federation\nmetadata: {name: kc}\n\
            spec: {oidc: {issuer: 'https://kc'}, provisioning: {role: member}}\n";
        world = idm_compile::yaml::read_files(&[("a.yaml".into(), yaml.into())], idm_compile::Settings::default())
            .unwrap()
            .0;
        prepare(&world, None, &mut secrets);
        let bundle = Bundle::seal(Default::default(), secrets.clone(), Default::default(), 1);
        let mut again = Secrets::default();
        prepare(&world, Some(&bundle), &mut again);
        assert!(secrets == again && secrets.len() == 1);
    }

    #[test]
    fn r24_a_membership_says_by_which_attribute_its_person_is_named() {
        let yaml = "apiVersion: identity-manager.io/v1alpha1\nkind: Federation\nmetadata: {name: corp}\nspec: {ldap: \
                    {servers: ['ldaps://a.example'], bind: {anonymous: {}}, users: {base: 'dc=a', loginAttributes: \
                    [sAMAccountName, mail]}}, provisioning: {role: member}}\n";
        let files = [("a.yaml".into(), yaml.into())];
        let world = idm_compile::yaml::read_files(&files, idm_compile::Settings::default()).unwrap().0;
        let labels = labels("corp", &world.federations[0].spec);
        assert_eq!(labels[PROVISIONED_BY], "corp");
        assert_eq!(labels[NAMED_BY], "samaccountname.mail");
    }

    #[test]
    fn everyone_has_a_name_of_their_own() {
        let person = |issuer: &str, username: &str| Person {
            namespace: "shop".into(),
            federation: "kc".into(),
            issuer: issuer.into(),
            username: username.into(),
        };
        let names: std::collections::BTreeSet<_> =
            [("i", "ana", "u"), ("j", "ana", "u"), ("i", "bob", "u"), ("i", "ana", "v"), ("i\na", "na", "u")]
                .iter()
                .map(|(i, n, u)| name(&person(i, n), u))
                .collect();
        assert_eq!(names.len(), 5);
        assert!(names.iter().all(|name| name.len() == 23));
    }
}
