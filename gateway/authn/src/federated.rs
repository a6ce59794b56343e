//! The outside servers where people sign in, independent of their protocol.

use std::sync::Arc;

use idm_plan::{Federation, FederationKind};

use crate::Resources;
use crate::oidc::Provider;
use crate::saml::SamlProvider;

/// An armed Federation.
#[derive(Clone)]
pub enum Federated {
    /// OpenID Connect.
    Oidc(Arc<Provider>),
    /// SAML 2.0.
    Saml(Arc<SamlProvider>),
}

impl Federated {
    pub(crate) fn arm(federation: &Federation, resources: &mut Resources<'_>) -> Result<Self, String> {
        Ok(match &federation.kind {
            FederationKind::Oidc(oidc) => Federated::Oidc(Arc::new(Provider::arm(federation, oidc, resources)?)),
            FederationKind::Saml(saml) => Federated::Saml(Arc::new(SamlProvider::arm(federation, saml, resources)?)),
        })
    }

    /// The Federation.
    pub fn federation(&self) -> &Federation {
        match self {
            Federated::Oidc(provider) => provider.federation(),
            Federated::Saml(provider) => provider.federation(),
        }
    }

    /// The issuer or entity id by which the provider names itself.
    pub fn issuer(&self) -> &str {
        match self {
            Federated::Oidc(provider) => provider.issuer(),
            Federated::Saml(provider) => provider.issuer(),
        }
    }

    /// The origins to which signing in and out may lead a browser.
    pub fn leads_to(&self) -> Vec<String> {
        match self {
            Federated::Oidc(provider) => provider.leads_to().into_iter().collect(),
            Federated::Saml(provider) => provider.leads_to(),
        }
    }
}
