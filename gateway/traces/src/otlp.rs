//! OTLP 1 in JSON: the mapping of Protocol Buffers with ids in hexadecimal (OTLP specification, "JSON Protobuf
//! Encoding"). 64-bit numbers are texts, and members that have their default value are left out.

use idm_types::{TraceContext, TraceId};
use serde_json::{Value as Json, json};

use crate::{Kind, Span, SpanId, Value};

/// The process that spans come from, as attributes of the conventions for resources.
#[derive(Clone, Debug)]
pub struct Resource {
    /// The name of the instance: a pod's own.
    pub instance: String,
    /// The namespace of the pod.
    pub namespace: Option<String>,
}

/// The trace is recorded (`TRACE_FLAGS_MASK`).
const SAMPLED: u32 = 1;
/// It is known whether the parent is in another process, and it is (`SPAN_FLAGS_CONTEXT_…`).
const LOCAL: u32 = 0x100;
const REMOTE: u32 = 0x300;

/// The body of an export request, of the content type `application/json`.
pub fn encode(resource: &Resource, spans: &[Span]) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let Resource { instance, namespace } = resource;
    let texts = [("service.name", "idm-gateway"), ("service.version", version), ("service.instance.id", instance)];
    let namespace = namespace.as_deref().map(|namespace| ("k8s.namespace.name", namespace));
    let resource: Vec<_> = texts
        .into_iter()
        .chain(namespace)
        .map(|(name, value)| attribute(name, &json!({"stringValue": value})))
        .collect();
    let spans: Vec<_> = spans.iter().map(written).collect();
    let scope_spans = json!([{"scope": {"name": "idm", "version": version}, "spans": spans}]);
    json!({"resourceSpans": [{"resource": {"attributes": resource}, "scopeSpans": scope_spans}]})
        .to_string()
        .into_bytes()
}

fn trace_id(trace: TraceId) -> Json {
    trace.to_string().into()
}

fn span_id(id: SpanId) -> Json {
    format!("{id:016x}").into()
}

fn attribute(name: &str, value: &Json) -> Json {
    json!({"key": name, "value": value})
}

fn written(span: &Span) -> Json {
    let Span { trace, id, parent, link, kind, name, began, ended, attributes, failed } = span;
    let attributes: Vec<_> = attributes
        .iter()
        .map(|(name, value)| match value {
            Value::Text(text) => attribute(name, &json!({"stringValue": text})),
            Value::Number(number) => attribute(name, &json!({"intValue": number.to_string()})),
        })
        .collect();
    let kind = match kind {
        Kind::Internal => 1,
        Kind::Server => 2,
        Kind::Client => 3,
    };
    let place = if kind == 2 && parent.is_some() { REMOTE } else { LOCAL };
    let mut object = json!({
        "traceId": trace_id(*trace),
        "spanId": span_id(*id),
        "flags": SAMPLED | place,
        "name": name,
        "kind": kind,
        "startTimeUnixNano": began.to_string(),
        "endTimeUnixNano": ended.to_string(),
        "attributes": attributes,
    });
    if let Some(members) = object.as_object_mut() {
        if let Some(parent) = parent {
            members.insert("parentSpanId".into(), span_id(*parent));
        }
        if let Some(TraceContext { trace, parent, sampled }) = link {
            let flags = REMOTE | u32::from(*sampled);
            let link = json!({"traceId": trace_id(*trace), "spanId": span_id(*parent), "flags": flags});
            members.insert("links".into(), json!([link]));
        }
        if *failed {
            members.insert("status".into(), json!({"code": 2}));
        }
    }
    object
}

/// How many of the spans the collector refused in an answer that took the others.
pub fn rejected(answer: &[u8]) -> u64 {
    let answer: Json = serde_json::from_slice(answer).unwrap_or_default();
    let rejected = answer.get("partialSuccess").and_then(|partial| partial.get("rejectedSpans"));
    rejected.and_then(|count| count.as_u64().or_else(|| count.as_str()?.parse().ok())).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU64, NonZeroU128};

    use super::*;

    #[test]
    fn a_span_is_written_as_the_specification_has_it() {
        let trace = NonZeroU128::new(0x5b8e_fff7_9803_8103_d269_b633_813f_c60c).unwrap().into();
        let parent = NonZeroU64::new(0xeee1_9b7e_c3c1_b173).unwrap();
        let span = Span {
            trace,
            id: NonZeroU64::new(0x0ee1_9b7e_c3c1_b174).unwrap(),
            parent: Some(parent),
            link: Some(TraceContext { trace, parent, sampled: true }),
            kind: Kind::Server,
            name: "GET".into(),
            began: 1_544_712_660_000_000_000,
            ended: 1_544_712_661_000_000_000,
            attributes: vec![("url.path", Value::text("/\"é")), ("http.response.status_code", 502.into())],
            failed: true,
        };
        let resource = Resource { instance: "idm-0".into(), namespace: Some("shop".into()) };
        let found: Json = serde_json::from_slice(&encode(&resource, &[span])).unwrap();
        let text = |name: &str, value: &str| json!({"key": name, "value": {"stringValue": value}});
        let version = env!("CARGO_PKG_VERSION");
        let expected = json!({"resourceSpans": [{
            "resource": {"attributes": [
                text("service.name", "idm-gateway"),
                text("service.version", version),
                text("service.instance.id", "idm-0"),
                text("k8s.namespace.name", "shop"),
            ]},
            "scopeSpans": [{"scope": {"name": "idm", "version": version}, "spans": [{
                "traceId": "5b8efff798038103d269b633813fc60c",
                "spanId": "0ee19b7ec3c1b174",
                "parentSpanId": "eee19b7ec3c1b173",
                "flags": 0x301,
                "name": "GET",
                "kind": 2,
                "startTimeUnixNano": "1544712660000000000",
                "endTimeUnixNano": "1544712661000000000",
                "attributes": [
                    text("url.path", "/\"é"),
                    {"key": "http.response.status_code", "value": {"intValue": "502"}},
                ],
                "links": [
                    {"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b173", "flags": 0x301},
                ],
                "status": {"code": 2},
            }]}],
        }]});
        assert_eq!(found, expected);
    }

    #[test]
    fn what_a_collector_refused_in_part_is_read_from_its_answer() {
        for (answer, expected) in [
            ("{}", 0),
            ("", 0),
            ("[]", 0),
            ("{\"partialSuccess\":{}}", 0),
            ("{\"partialSuccess\":{\"rejectedSpans\":\"3\",\"errorMessage\":\"x\"}}", 3),
            ("{\"partialSuccess\":{\"rejectedSpans\":4}}", 4),
            ("{\"partialSuccess\":{\"rejectedSpans\":-4}}", 0),
        ] {
            assert_eq!(rejected(answer.as_bytes()), expected, "{answer}");
        }
    }
}
