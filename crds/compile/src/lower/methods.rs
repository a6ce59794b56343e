//! The authentication methods of a policy, each lowered by its own file.

use std::collections::BTreeSet;

use idm_api::v1alpha1 as wire;
use idm_plan::{Federation, Method, MethodKind, Secrets};

use super::Notes;
use super::access_tokens::{lower_introspection, lower_jwt};
use super::api_key::lower_api_key;
use super::hmac_jwt::lower_hmac_jwt;
use super::mtls::lower_mtls;
use super::password::{lower_base64, lower_basic, lower_digest};
use super::sign_in::lower_sign_in;
use super::signature::lower_signature;
use crate::{Cause, World};

pub(super) fn lower_methods(
    world: &World,
    federations: &[Federation],
    methods: &[wire::Method],
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Vec<Method> {
    let mut names = BTreeSet::new();
    let mut lowered = Vec::new();
    if methods.is_empty() {
        notes.fail::<()>(
            "spec.authentication.methods",
            Cause::Invalid,
            "at least one method must be given; write `anonymous: {}` to open the route",
        );
    }
    for (i, method) in methods.iter().enumerate() {
        let (path, name) = (format!("spec.authentication.methods[{i}]"), &method.name);
        if !names.insert(name) {
            notes.fail::<()>(format!("{path}.name"), Cause::Invalid, format!("method name '{name}' must be used once"));
        }
        let Some(kind) = method.kind() else {
            notes.fail::<()>(path, Cause::Invalid, wire::Method::exactly_one_kind());
            continue;
        };
        let kind = match kind {
            wire::MethodKind::Jwt(jwt) => {
                lower_jwt(world, &format!("{path}.jwt"), jwt, secrets, notes).map(MethodKind::Jwt)
            }
            wire::MethodKind::Introspection(method) => {
                lower_introspection(world, &format!("{path}.introspection"), method, secrets, notes)
                    .map(MethodKind::Introspection)
            }
            wire::MethodKind::ApiKey(key) => {
                lower_api_key(&format!("{path}.apiKey"), key, notes).map(MethodKind::ApiKey)
            }
            wire::MethodKind::Mtls(method) => {
                lower_mtls(world, &format!("{path}.mtls"), method, notes).map(MethodKind::Mtls)
            }
            wire::MethodKind::Basic(basic) => {
                lower_basic(federations, &format!("{path}.basic"), basic, notes).map(MethodKind::Basic)
            }
            wire::MethodKind::Digest(digest) => {
                lower_digest(world, federations, &format!("{path}.digest"), digest, secrets, notes)
                    .map(MethodKind::Digest)
            }
            wire::MethodKind::Base64(base64) => {
                lower_base64(federations, &format!("{path}.base64"), base64, notes).map(MethodKind::Base64)
            }
            wire::MethodKind::HmacJwt(method) => {
                lower_hmac_jwt(&format!("{path}.hmacJwt"), method, notes).map(MethodKind::HmacJwt)
            }
            wire::MethodKind::Signature(method) => {
                lower_signature(&format!("{path}.signature"), method, notes).map(MethodKind::Signature)
            }
            wire::MethodKind::SignIn(method) => {
                if lowered.iter().any(|other: &Method| matches!(other.kind, MethodKind::SignIn(_))) {
                    notes.fail::<()>(path, Cause::Invalid, "`signIn` must be used once: list all Federations there");
                    continue;
                }
                lower_sign_in(world, federations, &format!("{path}.signIn"), method, notes)
                    .map(|method| MethodKind::SignIn(Box::new(method)))
            }
            wire::MethodKind::Anonymous(_) => Some(MethodKind::Anonymous),
        };
        lowered.extend(kind.map(|kind| Method { name: name.clone(), kind }));
    }
    lowered
}
