use std::rc::Rc;
use std::sync::Arc;

use http::HeaderMap;
use idm_issue::Issued;
use idm_limit::Block;
use idm_request::Identity;
use idm_sign_in::{LoginForm, PageRequest};
use idm_types::{Decider, MethodName, Refusal, RuleName, Stage, TraceContext};

use crate::cors::Sharing;
use crate::limits::LimitFields;
use crate::shadow::ShadowVerdict;

/// The stage that a request reached and the facts found out about it, for the record. It is filled in as the decision
/// proceeds, so that the record is the same for a request whose caller disconnects before the end.
#[derive(Debug, Default)]
pub struct Trace {
    /// The stage that the request reached.
    pub stage: Stage,
    /// The host; in its canonical spelling once that is known.
    pub host: String,
    /// The path; in its canonical spelling once that is known.
    pub path: String,
    /// The place of the request in a distributed trace, as the caller says.
    pub distributed: Option<TraceContext>,
    /// The position of the route's rule.
    pub rule: Option<usize>,
    /// The position of the policy.
    pub policy: Option<usize>,
    /// The request has a body, as far as is known.
    pub(crate) has_body: bool,
    /// The rule is one for calls of gRPC.
    pub grpc: bool,
    /// The method that authenticated the caller.
    pub authentication: Option<MethodName>,
    /// The credential was in the query.
    pub in_query: bool,
    /// The rule that granted or refused.
    pub authorization: Option<RuleName>,
    /// The caller, and whether the verdict on the credential came from the cache.
    pub identity: Option<(Rc<Identity>, bool)>,
    /// The token that was issued.
    pub issued: Option<Issued>,
    /// The caller is a browser that wants a page.
    pub page_request: Option<PageRequest>,
    /// The page for which a browser may begin its sign-in anew.
    pub again: Option<Box<str>>,
    /// The form in which a person may try again at once.
    pub form: Option<Box<LoginForm>>,
    /// The address of the metadata of the protected resource that the request asks for.
    pub(crate) resource_metadata: Option<Box<str>>,
    /// The words of the answer to browsers about scripts of other origins.
    pub(crate) sharing: Option<Sharing>,
    /// The block of the caller's address, be it only observed.
    pub block: Option<Arc<Block>>,
    /// The limit that refused.
    pub limit: Option<Box<str>>,
    /// The fields about limits of the answer.
    pub(crate) limits: Option<LimitFields>,
    /// The verdicts of policies in shadow.
    pub shadows: Vec<ShadowVerdict>,
}

impl Trace {
    /// Replaces what the upstream's answer tells browsers about scripts of other origins, where the rule says
    /// something, and what it tells about limits, where some count.
    pub fn share(&self, answer: &mut HeaderMap) {
        if let Some(sharing) = &self.sharing {
            sharing.write(answer, false);
        }
        self.tell_limits(answer);
    }

    /// Writes the fields about limits, where some count.
    pub(crate) fn tell_limits(&self, answer: &mut HeaderMap) {
        if let Some(limits) = &self.limits {
            limits.write(answer);
        }
    }

    /// Notes which part of the policy refused.
    pub(crate) fn decided_by(&mut self, refusal: &Refusal) {
        match &refusal.by {
            Some(Decider::Method(method)) => self.authentication = Some(method.clone()),
            Some(Decider::Rule(rule)) => self.authorization = Some(rule.clone()),
            None => {}
        }
    }
}
