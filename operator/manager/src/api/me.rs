//! The person of the session.

use crate::call::Call;
use crate::failure::Failure;
use crate::place::Namespaces;
use crate::wire::Me;

pub(crate) async fn me(call: Call) -> Result<Me, Failure> {
    let place = &call.manager.place;
    let Namespaces { names: namespaces, note } = place.namespaces(&call.person).await?;
    let first = namespaces.first().map(String::as_str).unwrap_or_default();
    let namespace = call.parameter("namespace").unwrap_or(first);
    let permissions = place.permissions(&call.person, namespace).await?;
    Ok(Me {
        name: call.person.name.clone(),
        groups: call.person.groups.clone(),
        mode: place.mode(),
        namespaces,
        namespaces_note: note,
        version: env!("CARGO_PKG_VERSION"),
        permissions,
    })
}
