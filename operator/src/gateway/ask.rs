//! Questions to a gateway pod, on its port for the operator.

use idm_plan::{CONTROL_TOKEN, SecretHandle, Secrets};
use kube::core::DynamicObject;
use serde::de::DeserializeOwned;

use crate::Context;

/// The token with which the operator proves itself to the gateways of a bundle; `None` where they have nothing to tell.
pub(crate) fn control_token(secrets: &Secrets) -> Option<&str> {
    let token = secrets.get(&SecretHandle(CONTROL_TOKEN.into()))?;
    std::str::from_utf8(token.reveal()).ok()
}

/// The answer of a pod at a path. `None`: it has no address, does not answer in time, or refuses the token, which it
/// may not have yet.
pub(crate) async fn ask<T: DeserializeOwned>(
    context: &Context,
    pod: &DynamicObject,
    path: &str,
    token: Option<&str>,
) -> Option<T> {
    let ip = pod.data.pointer("/status/podIP")?.as_str()?;
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    let mut question = context.http.get(format!("http://{host}:8081{path}"));
    if let Some(token) = token {
        question = question.bearer_auth(token);
    }
    let answer = question.send().await.ok().filter(|answer| answer.status().is_success())?;
    answer.json().await.ok()
}
