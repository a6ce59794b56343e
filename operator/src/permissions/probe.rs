//! Is the guard in force? Its text must be ours, and it must refuse a write that RBAC lets through.

use std::time::{Duration, Instant};

use idm_permission::guard;
use idm_types::Timestamp;
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

/// The canary's client, while its token lasts, and the last certain answer.
#[derive(Default)]
pub(super) struct Probe {
    canary: Option<(Client, Instant)>,
    known: Guard,
    /// Looks in a row that gave no certain answer.
    uncertain: u32,
}

/// One look at the guard.
enum Look {
    Certain(Guard),
    /// The API server did not answer, or answered something else.
    Uncertain(String),
}

impl Probe {
    /// Looks at the guard. An answer that is not certain counts as not in force when it is the second in a row: one
    /// lost connection must not take everybody's permissions away.
    pub(super) async fn look(&mut self, context: &Context) -> Guard {
        match self.try_once(context).await {
            Look::Certain(guard) => (self.known, self.uncertain) = (guard, 0),
            Look::Uncertain(why) => {
                self.canary = None;
                self.uncertain += 1;
                self.known = self.known.after_doubt(self.uncertain, why);
            }
        }
        self.known.clone()
    }

    async fn try_once(&mut self, context: &Context) -> Look {
        let policy = find(&context.client, "ValidatingAdmissionPolicy", "validatingadmissionpolicies").await;
        let policy = match policy {
            Ok(Some(policy)) => policy,
            Ok(None) => {
                let why = format!("ValidatingAdmissionPolicy `{}` is missing", guard::NAME);
                return Look::Certain(Guard::Weak { uid: None, why });
            }
            Err(error) => return Look::Uncertain(format!("the guard cannot be read: {error}")),
        };
        let uid = policy.uid().unwrap_or_default();
        match self.weakness(context, policy).await {
            Ok(Ok(since)) => Look::Certain(Guard::InForce { uid, since }),
            Ok(Err(why)) => Look::Certain(Guard::Weak { uid: Some(uid), why }),
            Err(error) => Look::Uncertain(format!("the guard cannot be tried: {error:#}")),
        }
    }

    /// Since when policy and binding are there, or the fault in them.
    async fn weakness(
        &mut self,
        context: &Context,
        policy: DynamicObject,
    ) -> anyhow::Result<Result<Timestamp, String>> {
        let (kind, plural) = ("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings");
        let Some(binding) = find(&context.client, kind, plural).await? else {
            return Ok(Err(format!("ValidatingAdmissionPolicyBinding `{}` is missing", guard::NAME)));
        };
        if !guard::is_intact(&context.settings.operator_namespace, &policy.data, &binding.data) {
            let chart = "apply the chart of this version again";
            return Ok(Err(format!("ValidatingAdmissionPolicy or binding `{}` was changed: {chart}", guard::NAME)));
        }
        let since = created(&policy).max(created(&binding));
        Ok(self.refused(context).await?.map_or(Ok(since), Err))
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

/// A time before 1970 is 1970.
fn created(object: &DynamicObject) -> Timestamp {
    let time = object.metadata.creation_timestamp.as_ref().map(|time| time.0.as_millisecond());
    Timestamp(time.and_then(|time| u64::try_from(time).ok()).unwrap_or(0))
}

async fn find(client: &Client, kind: &str, plural: &str) -> Result<Option<DynamicObject>, kube::Error> {
    let kind = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind);
    let resource = ApiResource::from_gvk_with_plural(&kind, plural);
    Api::<DynamicObject>::all_with(client.clone(), &resource).get_opt(guard::NAME).await
}
