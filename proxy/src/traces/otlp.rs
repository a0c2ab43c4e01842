//! Spans as OTLP has them in JSON: <https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>. Ids are hexadecimal there,
//! and 64-bit numbers are text.

use std::time::{SystemTime, UNIX_EPOCH};

use pgveil_keys::audit::Actor;
use serde_json::{Value, json};

use super::Span;

/// `SPAN_KIND_INTERNAL`, `SPAN_KIND_CLIENT`.
const INTERNAL: u8 = 1;
const CLIENT: u8 = 3;
/// `STATUS_CODE_ERROR`.
const ERROR: u8 = 2;
/// The field that says which kind a span is.
const KIND: &str = "otel.kind";
/// The field that says why what it is about failed.
const WHY: &str = "error";

/// Who tells.
pub(super) struct Service {
    resource: Value,
}

impl Service {
    pub(super) fn new(name: &str) -> Self {
        let instance = Actor::pgveil().name;
        Self {
            resource: json!({
                "attributes": [
                    attribute("service.name", &name.into()),
                    attribute("service.version", &env!("CARGO_PKG_VERSION").into()),
                    attribute("service.instance.id", &instance.into()),
                ],
            }),
        }
    }

    /// `ExportTraceServiceRequest`.
    pub(super) fn request(&self, spans: &[Span]) -> Value {
        let spans: Vec<Value> = spans.iter().map(span).collect();
        json!({
            "resourceSpans": [{
                "resource": self.resource,
                "scopeSpans": [{
                    "scope": { "name": "pgveil", "version": env!("CARGO_PKG_VERSION") },
                    "spans": spans,
                }],
            }],
        })
    }
}

fn span(span: &Span) -> Value {
    let fields = &span.fields.0;
    let field = |name: &str| {
        { fields.iter() }
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    };
    let kind = match field(KIND).and_then(Value::as_str) {
        Some("client") => CLIENT,
        _ => INTERNAL,
    };
    let shown = fields
        .iter()
        .filter(|(name, _)| ![KIND, WHY].contains(name));
    let attributes: Vec<Value> = shown.map(|(name, value)| attribute(name, value)).collect();
    let status = match field(WHY) {
        Some(why) => json!({ "code": ERROR, "message": why }),
        None => json!({}),
    };
    let mut told = json!({
        "traceId": hex::encode(span.trace),
        "spanId": hex::encode(span.id),
        "name": span.name,
        "kind": kind,
        "startTimeUnixNano": nanoseconds(span.begin),
        "endTimeUnixNano": nanoseconds(span.end),
        "attributes": attributes,
        "status": status,
    });
    if let Some(parent) = span.parent {
        told["parentSpanId"] = hex::encode(parent).into();
    }
    told
}

fn attribute(name: &str, value: &Value) -> Value {
    let value = match value {
        Value::Bool(value) => json!({ "boolValue": value }),
        Value::Number(value) => json!({ "intValue": value.to_string() }),
        Value::String(value) => json!({ "stringValue": value }),
        other => json!({ "stringValue": other.to_string() }),
    };
    json!({ "key": name, "value": value })
}

fn nanoseconds(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_nanos().to_string()
}
