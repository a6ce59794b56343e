//! Keys and passwords for Credentials that have none yet.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use idm_compile::World;
use idm_types::ApiKey;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use crate::MANAGER;

/// Makes a key or password and its Secret for each Credential whose Secret does not exist. A Secret that exists is
/// never touched, whoever wrote it.
pub(crate) async fn supply(world: &mut World, client: &Client) -> Result<(), kube::Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &world.namespace);
    let missing: Vec<_> = world.credentials.iter().filter(|c| !world.secrets.contains_key(&c.spec.secret_ref.name)).cloned().collect();
    for credential in missing {
        let mut random = [0; 32];
        if SystemRandom::new().fill(&mut random).is_err() {
            tracing::error!("the system gave no random bits; no key is made");
            return Ok(());
        }
        let key = ApiKey::from_random(random);
        let (usual, value) = match &credential.spec.password {
            // The 256 random bits of a key without its prefix and checksum: no one has to type it.
            Some(_) => ("password", key.body().to_owned()),
            None => ("key", key.reveal().to_owned()),
        };
        let field = credential.spec.secret_ref.key.clone().unwrap_or_else(|| usual.into());
        let labels = [
            ("app.kubernetes.io/managed-by", MANAGER),
            ("app.kubernetes.io/part-of", "idm"),
            ("identity-manager.io/credential", credential.meta.name.as_str()),
        ];
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(credential.spec.secret_ref.name.clone()),
                labels: Some(labels.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()),
                // The key goes with its Credential.
                owner_references: Some(vec![crate::gateway::owner("Credential", &credential.meta)]),
                ..ObjectMeta::default()
            },
            string_data: Some([(field.clone(), value.clone())].into()),
            ..Secret::default()
        };
        match api.create(&PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() }, &secret).await {
            Ok(_) => {
                let value = idm_types::Redacted::new(value.into_bytes());
                world.secrets.insert(credential.spec.secret_ref.name.clone(), [(field, value)].into());
            }
            // Someone made it meanwhile: theirs counts, at the next look.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
