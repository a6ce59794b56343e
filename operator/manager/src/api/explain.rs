//! Requests and tokens that nobody sends to a gateway, decided by the code that gateways decide with. Nothing of them
//! is kept, and nothing of them is logged: they hold credentials.

use std::str::FromStr;

use http::{HeaderName, HeaderValue, Method, Uri};
use idm_decide::{Hypotheses, Hypothetical, HypotheticalError};
use idm_jose::Decoded;
use idm_permission::Denial;
use idm_plan::ObjectKey;
use idm_types::{Redacted, Timestamp, visible};
use serde_json::{Value, json};

use crate::call::{Call, blocking};
use crate::failure::{Code, Failure};
use crate::wire::explain::{
    CheckView, DecodeRequest, DecodedView, ExplainRequest, ExplainedView, HypotheticalRequest, StepView,
};

const MOST_HEADERS: usize = 100;

/// The decisions of a namespace, and what the person may not read of it.
async fn hypotheses(call: &Call, namespace: &str) -> Result<(Hypotheses, Vec<Denial>), Failure> {
    let read = call.manager.place.understood(&call.person, namespace).await?;
    let made = Hypotheses::new(read.compiled.seal(1));
    let made = made.ok_or_else(|| Failure::unavailable("the system gives no threads"))?;
    Ok((made, read.missing.clone()))
}

pub(crate) async fn decode(call: Call, body: DecodeRequest) -> Result<DecodedView, Failure> {
    let DecodeRequest { token, policy } = body;
    let token = Redacted::new(token);
    let Some(policy) = policy else {
        let decoded = Decoded::read(token.reveal());
        let Decoded { header, claims } = decoded.map_err(|error| Failure::invalid(error.to_string()).at("token"))?;
        return Ok(DecodedView {
            header,
            claims: claims.unwrap_or(Value::Null),
            checks: Vec::new(),
            missing: Vec::new(),
        });
    };
    let (hypotheses, missing) = hypotheses(&call, &policy.namespace).await?;
    let key = ObjectKey::new(&policy.namespace, &policy.name);
    let examined = blocking(move || hypotheses.examine(&key, token.reveal(), Timestamp::now())).await?;
    let examined = examined.map_err(|_| Failure::unavailable("the policy cannot be used: see its findings"))?;
    let checks = examined.ok_or_else(|| Failure::new(Code::NotFound, "this policy is not in force").at("policy"))?;
    let shown = checks.checks.into_iter().map(|check| CheckView {
        name: check.name.to_owned(),
        ok: check.ok,
        text: visible(&check.text).into_owned(),
    });
    Ok(DecodedView { header: checks.header, claims: checks.claims, checks: shown.collect(), missing })
}

fn invalid(field: &str, why: &str) -> Failure {
    Failure::invalid(format!("`{field}`: {why}")).at(field)
}

/// The request that nobody sends, without body and caller.
pub(super) fn hypothetical(request: &HypotheticalRequest) -> Result<Hypothetical, Failure> {
    let method = Method::from_str(&request.method).map_err(|_| invalid("request.method", "it is no method"))?;
    let url = Uri::from_str(&request.url).map_err(|_| invalid("request.url", "it is no URL"))?;
    if request.headers.len() > MOST_HEADERS {
        return Err(invalid("request.headers", "give a hundred at most"));
    }
    let header =
        |(name, value): &(String, String)| Some((HeaderName::from_str(name).ok()?, HeaderValue::from_str(value).ok()?));
    let headers: Option<Vec<_>> = request.headers.iter().map(header).collect();
    let headers = headers.ok_or_else(|| invalid("request.headers", "each must be a name and a value of a header"))?;
    Ok(Hypothetical { headers, ..Hypothetical::new(method, url) })
}

/// A request that cannot be decided.
pub(super) fn undecided(error: HypotheticalError) -> Failure {
    match error {
        HypotheticalError::Url(_) => invalid("request.url", "it must have `http` or `https`, a host and a path"),
        HypotheticalError::Request(_) => invalid("request", "such a request cannot be sent"),
        HypotheticalError::Engine(_) => Failure::unavailable("the configuration cannot be used: see its findings"),
    }
}

pub(crate) async fn explain(call: Call, body: ExplainRequest) -> Result<ExplainedView, Failure> {
    let ExplainRequest { request, namespace } = body;
    let asked = hypothetical(&request)?;
    let namespace = call.namespace(namespace.as_deref()).await?;
    let (hypotheses, missing) = hypotheses(&call, &namespace).await?;
    let runtime = tokio::runtime::Handle::current();
    // A decision stays on one thread.
    let decided = blocking(move || runtime.block_on(hypotheses.decide(&asked, Timestamp::now()))).await?;
    let told = decided.map_err(undecided)?;
    let steps = told.explanation.steps.iter().map(|step| StepView {
        name: step.name.to_owned(),
        ok: step.ok,
        text: step.text.clone(),
    });
    Ok(ExplainedView {
        outcome: json!(told.outcome),
        status: told.status,
        reason: told.reason.map(|reason| reason.code().to_owned()),
        steps: steps.collect(),
        explanation: told.to_string(),
        missing,
    })
}
