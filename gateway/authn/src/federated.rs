//! The outside servers that vouch for people, independent of their protocol.

use std::sync::Arc;

use idm_plan::{Federation, FederationKind, ObjectKey, RoleMapping};
use serde_json::{Map, Value};

use crate::Resources;
use crate::directory::ArmedDirectory;
use crate::methods::sign_in::check_claims;
use crate::oidc::Provider;
use crate::saml::SamlProvider;

/// An armed Federation.
#[derive(Clone)]
pub enum Federated {
    /// OpenID Connect.
    Oidc(Arc<Provider>),
    /// SAML 2.0.
    Saml(Arc<SamlProvider>),
    /// A directory.
    Directory(Arc<ArmedDirectory>),
}

impl Federated {
    /// The Federation of this name, which policies share. The error shows no secret.
    pub(crate) fn of(name: &str, namespace: &str, resources: &mut Resources<'_>) -> Result<Self, String> {
        let wanted = ObjectKey::new(namespace, name);
        let federation = resources.plan.federations.iter().find(|federation| federation.key == wanted);
        let federation = federation.ok_or_else(|| format!("Federation `{name}` is not in the plan"))?;
        if let Some(known) = resources.providers.get(&federation.uid) {
            return Ok(known.clone());
        }
        let armed = Self::arm(federation, resources)?;
        resources.providers.insert(federation.uid.clone(), armed.clone());
        Ok(armed)
    }

    fn arm(federation: &Federation, resources: &mut Resources<'_>) -> Result<Self, String> {
        Ok(match &federation.kind {
            FederationKind::Oidc(oidc) => Federated::Oidc(Arc::new(Provider::arm(federation, oidc, resources)?)),
            FederationKind::Saml(saml) => Federated::Saml(Arc::new(SamlProvider::arm(federation, saml, resources)?)),
            FederationKind::Directory(plan) => {
                Federated::Directory(Arc::new(ArmedDirectory::arm(federation, plan, resources)?))
            }
        })
    }

    /// The Federation.
    pub fn federation(&self) -> &Federation {
        match self {
            Federated::Oidc(provider) => provider.federation(),
            Federated::Saml(provider) => provider.federation(),
            Federated::Directory(directory) => directory.federation(),
        }
    }

    /// The issuer or entity id by which the provider names itself.
    pub fn issuer(&self) -> &str {
        match self {
            Federated::Oidc(provider) => provider.issuer(),
            Federated::Saml(provider) => provider.issuer(),
            Federated::Directory(directory) => directory.issuer(),
        }
    }

    /// The origins to which signing in and out may lead a browser.
    pub fn leads_to(&self) -> Vec<String> {
        match self {
            Federated::Oidc(provider) => provider.leads_to().into_iter().collect(),
            Federated::Saml(provider) => provider.leads_to(),
            Federated::Directory(_) => Vec::new(),
        }
    }
}

/// The roles that a Federation grants for its claims about a person.
pub(crate) fn mapped_roles(federation: &Federation, claims: &Map<String, Value>) -> Vec<String> {
    let fits = |mapping: &&RoleMapping| check_claims(std::slice::from_ref(&mapping.claim), claims).is_ok();
    federation.role_mappings.iter().filter(fits).flat_map(|mapping| &mapping.roles).map(ToString::to_string).collect()
}
