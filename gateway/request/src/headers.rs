//! The headers that a policy reads from callers, and those that it writes for the upstream.

use std::collections::BTreeSet;

pub use idm_expr::HeadersRead;
use idm_plan::{
    Consume, Destination, HeaderMapping, IdentityMapping, JoseStepKind, KeyChoice, MadeClaims, Message, MethodKind,
    Place, Policy, Produce, Source, UpstreamSettings,
};

/// The headers of a request that one policy reads or writes, by their lower-case names.
#[derive(Clone, Debug, Default)]
pub struct PolicyHeaders {
    /// The policy uses the caller's value of the header: in conditions, mappings, JOSE steps, credentials.
    pub read: HeadersRead,
    /// The upstream trusts that the gateway wrote them.
    pub written: BTreeSet<String>,
}

impl PolicyHeaders {
    /// The headers of a policy. The error names an expression that cannot be read.
    pub fn of(policy: &Policy) -> Result<Self, String> {
        // A member that is added must be considered here. The headers that a token service and a language model write
        // are not for an upstream that callers reach with headers of their own.
        let Policy {
            key: _,
            uid: _,
            generation: _,
            methods,
            identity: IdentityMapping { username, roles, groups, attributes },
            rules,
            limits: _,
            jose,
            llm,
            token_service: _,
            upstream: UpstreamSettings { headers, credential: _, exchange: _, care: _ },
            disclosure: _,
            cors: _,
            paths: _,
            resource: _,
            drain_streams_ms: _,
            // Its conditions read none.
            baseline: _,
            keeps_claims: _,
            shadow: _,
        } = policy;
        let mut of = Self::default();
        methods.iter().flat_map(|method| method.kind.sources()).for_each(|source| of.credential(source));
        for method in methods {
            if let MethodKind::Signature(signature) = &method.kind {
                of.read.names.extend(signature.headers().map(str::to_owned));
            }
        }
        let mapped = [username, roles, groups].into_iter().flatten();
        let conditions = rules.iter().filter_map(|rule| rule.when.as_ref());
        for expr in mapped.chain(attributes.iter().map(|(_, expr)| expr)).chain(conditions) {
            of.read.add(expr)?;
        }
        for HeaderMapping { name, value } in headers {
            of.read.add(value)?;
            of.written.insert(name.clone());
        }
        for step in jose {
            of.step(&step.kind)?;
        }
        for rule in llm.iter().flat_map(|llm| &llm.rules) {
            of.read.add(&rule.allow)?;
        }
        Ok(of)
    }

    fn credential(&mut self, source: &Source) {
        if let Source::Header { name, scheme: _ } = source {
            self.read.names.insert(name.clone());
        }
    }

    fn step(&mut self, step: &JoseStepKind) -> Result<(), String> {
        let (from, to, is_request) = match step {
            JoseStepKind::Consume(Consume { from, json: _, decrypt: _, verify, to }) => {
                self.read.names.extend(verify.iter().filter_map(|verify| verify.detached.clone()));
                (Some(from), to, true)
            }
            JoseStepKind::Produce(Produce { message, from, sign, encrypt: _, to }) => {
                if let Some(sign) = sign {
                    if let KeyChoice::By { value, keys: _ } = &sign.key {
                        self.read.add(value)?;
                    }
                    if let Some(MadeClaims { subject, custom, .. }) = &sign.claims {
                        for expr in subject.iter().chain(custom.iter().map(|(_, expr)| expr)) {
                            self.read.add(expr)?;
                        }
                    }
                }
                (from.as_ref(), to, *message == Message::Request)
            }
        };
        match from.filter(|_| is_request) {
            Some(Place::Header(name)) => drop(self.read.names.insert(name.clone())),
            Some(Place::Value(expr)) => self.read.add(expr)?,
            Some(Place::Body) | None => {}
        }
        if let (Destination::Header(name), true) = (to, is_request) {
            self.written.insert(name.clone());
        }
        Ok(())
    }
}
