//! References across namespaces, which a ReferenceGrant in the namespace of the referent must permit.

use gateway_api::apis::standard::referencegrants::{ReferenceGrant, ReferenceGrantFrom, ReferenceGrantTo};
use kube::ResourceExt;

use crate::World;

/// An object of the core API in another namespace that a kind of the Gateway API refers to.
#[derive(Clone, Copy)]
pub(crate) struct Foreign<'a> {
    /// The kind that has the reference.
    pub(crate) from: &'a str,
    /// The kind of the referent.
    pub(crate) kind: &'a str,
    /// Its namespace.
    pub(crate) namespace: &'a str,
    /// Its name.
    pub(crate) name: &'a str,
}

impl World {
    /// Whether a ReferenceGrant permits the reference to the objects of this world's namespace.
    pub(crate) fn is_granted(&self, wanted: Foreign<'_>) -> bool {
        let in_its_namespace =
            self.grants.iter().filter(|grant| grant.namespace().as_deref() == Some(wanted.namespace));
        let permits = |grant: &ReferenceGrant| {
            grant.spec.from.iter().any(|from| is_from(from, wanted.from, &self.namespace))
                && grant.spec.to.iter().any(|to| is_to(to, wanted.kind, wanted.name))
        };
        in_its_namespace.into_iter().any(permits)
    }

    /// The Services of other namespaces that routes refer to and that ReferenceGrants permit, as namespace and name.
    pub fn granted_services(&self) -> Vec<(String, String)> {
        let named = self.routes.iter().flat_map(|route| route.referred_services().map(|of| (route.kind(), of)));
        let foreign = named.filter_map(|(kind, (namespace, name))| {
            let namespace = namespace.filter(|namespace| *namespace != self.namespace)?;
            Some(Foreign { from: kind.name(), kind: "Service", namespace, name })
        });
        self.permitted(foreign)
    }

    /// The Secrets of other namespaces with certificates of listeners that ReferenceGrants permit, as namespace and
    /// name.
    pub fn granted_secret_names(&self) -> Vec<(String, String)> {
        let listeners = self.our_gateways().flat_map(|gateway| &gateway.spec.listeners);
        let references =
            listeners.flat_map(|listener| listener.tls.iter().flat_map(|tls| tls.certificate_refs.iter().flatten()));
        let foreign = references.filter_map(|reference| {
            let namespace = reference.namespace.as_deref().filter(|namespace| *namespace != self.namespace)?;
            Some(Foreign { from: "Gateway", kind: "Secret", namespace, name: &reference.name })
        });
        self.permitted(foreign)
    }

    fn permitted<'a>(&self, foreign: impl Iterator<Item = Foreign<'a>>) -> Vec<(String, String)> {
        let permitted = foreign.filter(|foreign| self.is_granted(*foreign));
        let mut names: Vec<_> = permitted.map(|of| (of.namespace.to_owned(), of.name.to_owned())).collect();
        names.sort();
        names.dedup();
        names
    }
}

fn is_from(from: &ReferenceGrantFrom, wanted: &str, namespace_of_reference: &str) -> bool {
    let ReferenceGrantFrom { group, kind, namespace } = from;
    group == "gateway.networking.k8s.io" && kind == wanted && namespace == namespace_of_reference
}

fn is_to(to: &ReferenceGrantTo, wanted: &str, name_of_referent: &str) -> bool {
    let ReferenceGrantTo { group, kind, name } = to;
    group.is_empty() && kind == wanted && name.as_deref().is_none_or(|name| name.is_empty() || name == name_of_referent)
}
