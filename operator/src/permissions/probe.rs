//! Is the guard in force? Its text must be ours, and it must refuse a write that RBAC lets through.

use std::time::{Duration, Instant};

use idm_permission::guard;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::config::AuthInfo;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::json;

use super::Guard;
use crate::Context;
use crate::objects::Kind;

/// The ServiceAccount that may create Credentials in the operator's namespace by RBAC, and holds no permission that the
/// guard asks for.
const CANARY: &str = "idm-canary";
const TOKEN_SECONDS: i64 = 3600;

/// The canary's client, while its token lasts.
#[derive(Default)]
pub(super) struct Probe {
    canary: Option<(Client, Instant)>,
}

impl Probe {
    /// Looks at the guard. Whatever is not certain counts as not in force.
    pub(super) async fn look(&mut self, context: &Context) -> Guard {
        let policy = find(&context.client, "ValidatingAdmissionPolicy", "validatingadmissionpolicies").await;
        let policy = match policy {
            Ok(Some(policy)) => policy,
            Ok(None) => {
                return Guard::Weak {
                    uid: None,
                    why: format!("ValidatingAdmissionPolicy `{}` is missing", guard::NAME),
                };
            }
            Err(error) => return Guard::Weak { uid: None, why: format!("the guard cannot be read: {error}") },
        };
        let uid = policy.uid().unwrap_or_default();
        match self.weakness(context, policy).await {
            None => Guard::InForce { uid },
            Some(why) => Guard::Weak { uid: Some(uid), why },
        }
    }

    async fn weakness(&mut self, context: &Context, policy: DynamicObject) -> Option<String> {
        let binding =
            find(&context.client, "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings").await;
        let binding = match binding {
            Ok(Some(binding)) => binding,
            Ok(None) => return Some(format!("ValidatingAdmissionPolicyBinding `{}` is missing", guard::NAME)),
            Err(error) => return Some(format!("the guard's binding cannot be read: {error}")),
        };
        if !guard::is_intact(&context.settings.operator_namespace, &policy.data, &binding.data) {
            let chart = "apply the chart of this version again";
            return Some(format!("ValidatingAdmissionPolicy or binding `{}` was changed: {chart}", guard::NAME));
        }
        match self.refused(context).await {
            Ok(None) => None,
            Ok(Some(why)) => Some(why),
            Err(error) => {
                self.canary = None;
                Some(format!("the guard cannot be tried: {error:#}"))
            }
        }
    }

    /// Tries a write that the guard must refuse.
    async fn refused(&mut self, context: &Context) -> anyhow::Result<Option<String>> {
        let namespace = &context.settings.operator_namespace;
        let client = self.client(context).await?;
        let mut object = DynamicObject::new(CANARY, &Kind::Credential.resource());
        object.data = json!({"spec": {"apiKey": {}, "secretRef": {"name": CANARY}}});
        let params = PostParams { dry_run: true, ..PostParams::default() };
        match Kind::Credential.api(&client, namespace).create(&params, &object).await {
            Ok(_) => Ok(Some("a write that the guard must refuse was let through".into())),
            Err(kube::Error::Api(status))
                if status.code == 403 && status.message.contains(&format!("'{}'", guard::NAME)) =>
            {
                Ok(None)
            }
            Err(error) => anyhow::bail!("{error}"),
        }
    }

    async fn client(&mut self, context: &Context) -> anyhow::Result<Client> {
        if let Some((client, until)) = &self.canary
            && Instant::now() < *until
        {
            return Ok(client.clone());
        }
        let accounts: Api<ServiceAccount> =
            Api::namespaced(context.client.clone(), &context.settings.operator_namespace);
        let spec = TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let answer = accounts.create_token_request(CANARY, &PostParams::default(), &request).await?;
        let token = answer.status.map(|status| status.token).unwrap_or_default();
        let mut config = Config::infer().await?;
        config.auth_info = AuthInfo { token: Some(token.into()), ..AuthInfo::default() };
        let client = Client::try_from(config)?;
        // Half of its time, so that it never ends between two looks.
        self.canary = Some((client.clone(), Instant::now() + Duration::from_secs(TOKEN_SECONDS as u64 / 2)));
        Ok(client)
    }
}

async fn find(client: &Client, kind: &str, plural: &str) -> Result<Option<DynamicObject>, kube::Error> {
    let kind = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind);
    let resource = ApiResource::from_gvk_with_plural(&kind, plural);
    Api::<DynamicObject>::all_with(client.clone(), &resource).get_opt(guard::NAME).await
}
