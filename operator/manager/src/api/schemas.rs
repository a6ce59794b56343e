//! Schemas of kinds, and the description of the API.

use serde_json::{Value, json};

use crate::call::Call;
use crate::failure::{Code, Failure};
use crate::openapi;
use crate::wire::Document;

pub(crate) async fn schema(call: Call) -> Result<Document, Failure> {
    let kind = call.part("kind").to_owned();
    let crd = idm_api::crds().into_iter().find(|crd| crd.spec.names.kind == kind);
    let version = crd.and_then(|crd| crd.spec.versions.into_iter().next());
    let schema = version.and_then(|version| version.schema).and_then(|schema| schema.open_api_v3_schema);
    let schema = schema.ok_or_else(|| Failure::new(Code::NotFound, "only kinds of idm have a schema here"))?;
    let schema = serde_json::to_value(schema).unwrap_or(Value::Null);
    Ok(Document(json!(schema)))
}

pub(crate) async fn openapi(call: Call) -> Result<Document, Failure> {
    Ok(Document(openapi::document(&call.manager.endpoints)))
}
