//! Metrics in Prometheus' text format, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>). Counting happens where things happen.

use std::{collections::BTreeMap, fmt::Write};

use pgveil_keys::{
    KeysStatus, ProviderState,
    health::{State, Status},
    scopes::KekRef,
};

/// All of them.
pub(crate) fn text(
    keys: &KeysStatus,
    keks: &BTreeMap<KekRef, Status>,
    connections: usize,
    judged: bool,
    log_stands: bool,
) -> String {
    let mut out = String::new();
    let mut page = Page(&mut out);
    page.family("pgveil_connections", "gauge", "Client connections.");
    page.sample("pgveil_connections", &[], connections as f64);
    page.family(
        "pgveil_registry_judged",
        "gauge",
        "Whether what is protected is served; 0 from a start until the platform's key provider has answered.",
    );
    let judged = f64::from(u8::from(judged));
    page.sample("pgveil_registry_judged", &[], judged);
    page.family(
        "pgveil_audit_log_stands",
        "gauge",
        "Whether the audit log was never seen to go back; at 0 everything protected is refused until pgveil is started anew.",
    );
    let log_stands = f64::from(u8::from(log_stands));
    page.sample("pgveil_audit_log_stands", &[], log_stands);
    page.family("pgveil_keys_held", "gauge", "Unwrapped keys in memory.");
    page.sample("pgveil_keys_held", &[], keys.held as f64);
    page.family(
        "pgveil_keys_stale_uses_total",
        "counter",
        "Times that a key went on past its time because its provider was away (failure = \"open\").",
    );
    page.sample("pgveil_keys_stale_uses_total", &[], keys.stale_uses as f64);
    page.family(
        "pgveil_degraded",
        "gauge",
        "Whether keys go on past their time just now (failure = \"open\").",
    );
    page.sample("pgveil_degraded", &[], f64::from(u8::from(keys.degraded)));
    page.family(
        "pgveil_provider_up",
        "gauge",
        "Whether the provider answered statements when it was last asked.",
    );
    for (name, provider) in &keys.providers {
        let up = f64::from(u8::from(provider.state == ProviderState::Answers));
        page.sample("pgveil_provider_up", &[("provider", name)], up);
    }
    page.family(
        "pgveil_provider_requests_total",
        "counter",
        "Requests to the provider that wrap or unwrap a key, probes not among them.",
    );
    for (name, provider) in &keys.providers {
        let asked = provider.requests;
        for (verb, count) in [("wrap", asked.wrap), ("unwrap", asked.unwrap)] {
            let labels = [("provider", name.as_str()), ("verb", verb)];
            page.sample("pgveil_provider_requests_total", &labels, count as f64);
        }
    }
    page.family(
        "pgveil_provider_failures_total",
        "counter",
        "Those of these requests that were not done.",
    );
    for (name, provider) in &keys.providers {
        let failed = provider.requests.failed as f64;
        page.sample(
            "pgveil_provider_failures_total",
            &[("provider", name)],
            failed,
        );
    }
    page.family(
        "pgveil_kek_up",
        "gauge",
        "Whether the key encryption key worked when it was last probed.",
    );
    for (kek, status) in keks {
        let up = f64::from(u8::from(status.state == State::Works));
        page.sample("pgveil_kek_up", &labels(kek), up);
    }
    page.family(
        "pgveil_kek_latency_seconds",
        "gauge",
        "How long the last wrap and unwrap of a probe took.",
    );
    for (kek, status) in keks {
        if let Some(latency) = status.latency {
            page.sample(
                "pgveil_kek_latency_seconds",
                &labels(kek),
                latency.as_secs_f64(),
            );
        }
    }
    out
}

fn labels(kek: &KekRef) -> [(&'static str, &str); 2] {
    [("provider", &kek.provider), ("key", &kek.kek)]
}

struct Page<'a>(&'a mut String);

impl Page<'_> {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let help = help.replace('\\', "\\\\");
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> = { labels.iter() }
            .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
            .collect();
        let _ = match labels.as_slice() {
            [] => writeln!(self.0, "{name} {value}"),
            labels => writeln!(self.0, "{name}{{{}}} {value}", labels.join(",")),
        };
    }
}

/// A label's value: backslash, quote and line feed are escaped.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_out_of_their_label() {
        let mut out = String::new();
        Page(&mut out).sample("x", &[("key", "a\"} 1\nb\\")], 0.5);
        assert_eq!(out, "x{key=\"a\\\"} 1\\nb\\\\\"} 0.5\n");
    }
}
