//! A login that is tried at a directory of the folder, by the gateway that serves it.

use idm_gateway::{Gateway, TriedGroup, TriedLogin, TriedPerson};
use idm_plan::{Federation, FederationKind};
use idm_types::{Redacted, visible};
use serde_json::{Map, Value};

use crate::failure::{Code, Failure};
use crate::place::Understood;
use crate::wire::federation::{TriedGroupView, TriedLoginView, TriedPersonView};

pub(super) async fn run(
    gateway: &Gateway,
    read: &Understood,
    name: &str,
    username: &str,
    password: Redacted<String>,
) -> Result<TriedLoginView, Failure> {
    let federation = read.compiled.plan.federations.iter().find(|known| known.key.name == name);
    let missing = || Failure::new(Code::NotFound, "this Federation is not in force: see its findings");
    let federation = federation.ok_or_else(missing)?;
    if !matches!(federation.kind, FederationKind::Directory(_)) {
        let why = "people sign in at this Federation with a browser: logins are tried at `ldap`, `database` and `rest`";
        return Err(Failure::invalid(why));
    }
    let tried = gateway.try_login(federation, &read.compiled.secrets, username, password).await;
    let TriedLogin { steps, outcome } = tried.map_err(|why| Failure::unavailable(visible(&why).into_owned()))?;
    let steps = steps.iter().map(|step| visible(step).into_owned()).collect();
    Ok(match outcome {
        Ok(person) => TriedLoginView {
            outcome: "Verified",
            steps,
            reason: None,
            detail: None,
            fix: None,
            person: Some(shown(person, federation)),
        },
        Err((reason, detail)) => TriedLoginView {
            outcome: if reason.status() == 503 { "Unknown" } else { "Refused" },
            steps,
            reason: Some(reason.code()),
            detail: Some(visible(&detail).into_owned()),
            fix: Some(reason.fix()),
            person: None,
        },
    })
}

fn shown(person: TriedPerson, federation: &Federation) -> TriedPersonView {
    let TriedPerson { claims, roles, groups, unmatched } = person;
    let plain = |text: &String| visible(text).into_owned();
    let group = |TriedGroup { name, dn, mapped_by }: &TriedGroup| TriedGroupView {
        name: plain(name),
        dn: dn.as_ref().map(plain),
        mapped_by: mapped_by.iter().map(plain).collect(),
    };
    // Groups have a list of their own.
    let own = claims.into_iter().filter(|(name, _)| !["groups", "mappedGroups"].contains(&name.as_str()));
    TriedPersonView {
        claims: own.map(|(name, value)| (plain(&name), visible_value(value))).collect::<Map<_, _>>(),
        roles: roles.iter().map(plain).collect(),
        groups: groups.iter().map(group).collect(),
        unmatched: unmatched.iter().map(plain).collect(),
        provisions: federation.provisions.as_ref().map(ToString::to_string),
    }
}

/// The texts in it with control characters made visible.
fn visible_value(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(visible(&text).into_owned()),
        Value::Array(items) => items.into_iter().map(visible_value).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(name, value)| (visible(&name).into_owned(), visible_value(value))).collect()
        }
        other => other,
    }
}
