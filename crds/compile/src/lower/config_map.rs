//! One key of a ConfigMap: the only place where `compile` reads one.

use crate::{Cause, World};

/// The text under a key of a ConfigMap. The error is for the user, and says what must be there.
pub(crate) fn value<'w>(world: &'w World, name: &str, key: &str) -> Result<&'w str, (Cause, String)> {
    let map = world.config_maps.get(name);
    let map = map.ok_or_else(|| (Cause::RefNotFound, format!("ConfigMap '{name}' must exist in this namespace")))?;
    let text = map.get(key);
    text.map(String::as_str)
        .ok_or_else(|| (Cause::InvalidRef, format!("ConfigMap '{name}' must have the key '{key}' in its `data`")))
}
