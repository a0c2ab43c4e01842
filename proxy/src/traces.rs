//! Spans for OpenTelemetry: gathered where they end and sent to a collector. What a span says is said where it is made; none
//! says a value, a key or a statement. A collector that is away costs spans, and never a statement.

mod otlp;

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use pgveil_config::settings::Traces;
use serde_json::Value;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

/// Spans that have ended and are not sent yet; those beyond are lost, and counted.
const MAX_WAITING: usize = 4096;
/// Spans in one request.
const MAX_TOGETHER: usize = 512;
/// How long others are waited for behind the first.
const GATHERED: Duration = Duration::from_secs(2);
/// What the end of the process waits for.
const LAST: Duration = Duration::from_secs(3);
/// Of what a field says, so many characters are kept.
const MAX_CHARS: usize = 300;

type TraceId = [u8; 16];
type SpanId = [u8; 8];

/// A span that has ended.
#[derive(Debug)]
struct Span {
    name: &'static str,
    trace: TraceId,
    id: SpanId,
    parent: Option<SpanId>,
    begin: SystemTime,
    end: SystemTime,
    fields: Fields,
}

/// What a span says, by name.
#[derive(Debug, Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        let name = field.name();
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let kept: String = value.chars().take(MAX_CHARS).collect();
        self.put(field, kept.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// A span that goes on.
struct Begun {
    trace: TraceId,
    id: SpanId,
    parent: Option<SpanId>,
    begin: SystemTime,
    fields: Fields,
}

/// Hears of spans.
#[derive(Debug)]
pub(crate) struct Spans {
    ended: mpsc::Sender<Span>,
    lost: Arc<AtomicU64>,
}

impl<S: Subscriber + for<'l> LookupSpan<'l>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let above = span.parent().and_then(|parent| {
            let extensions = parent.extensions();
            let begun = extensions.get::<Begun>()?;
            Some((begun.trace, begun.id))
        });
        let (mut trace, mut own) = (TraceId::default(), SpanId::default());
        // Without randomness there are no ids, and no span.
        if getrandom::fill(&mut own).is_err() || getrandom::fill(&mut trace).is_err() {
            return;
        }
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(Begun {
            trace: above.map_or(trace, |(trace, _)| trace),
            id: own,
            parent: above.map(|(_, parent)| parent),
            begin: SystemTime::now(),
            fields,
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(begun) = span.extensions_mut().get_mut::<Begun>() {
            values.record(&mut begun.fields);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else {
            return;
        };
        let Some(begun) = span.extensions_mut().remove::<Begun>() else {
            return;
        };
        let ended = Span {
            name: span.name(),
            trace: begun.trace,
            id: begun.id,
            parent: begun.parent,
            begin: begun.begin,
            end: SystemTime::now(),
            fields: begun.fields,
        };
        if self.ended.try_send(ended).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The sending of spans, until it is ended.
#[derive(Debug)]
pub struct Sending {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Sending {
    /// Sends what is left.
    pub async fn end(self) {
        let _ = self.stop.send(());
        if timeout(LAST, self.task).await.is_err() {
            tracing::warn!("the last spans could not be sent in time");
        }
    }
}

/// Begins to send spans, if it is said where to.
///
/// # Errors
/// If the collector's roots cannot be read.
pub(crate) fn start(settings: &Traces) -> anyhow::Result<Option<(Spans, Sending)>> {
    let Some(endpoint) = &settings.endpoint else {
        return Ok(None);
    };
    let client = pgveil_providers::http_client(settings.ca_file.as_deref()).context("[traces]")?;
    let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
    let service = otlp::Service::new(&settings.service_name);
    let lost = Arc::new(AtomicU64::new(0));
    let untold = Arc::clone(&lost);
    let (ended, mut spans) = mpsc::channel(MAX_WAITING);
    let (stop, mut stopped) = oneshot::channel();
    let task = tokio::spawn(async move {
        let mut fails = false;
        loop {
            let mut batch = Vec::new();
            let is_last = tokio::select! {
                () = gather(&mut spans, &mut batch) => false,
                _ = &mut stopped => {
                    while let Ok(span) = spans.try_recv() {
                        batch.push(span);
                    }
                    true
                }
            };
            for part in batch.chunks(MAX_TOGETHER) {
                let body = service.request(part).to_string();
                let sent = client
                    .post(&url)
                    .header("content-type", "application/json")
                    .body(body)
                    .send()
                    .await;
                let why = match sent {
                    Ok(answer) if answer.status().is_success() => None,
                    Ok(answer) => Some(format!("it answers {}", answer.status())),
                    Err(error) => Some(error.without_url().to_string()),
                };
                tell(&url, why.as_deref(), &mut fails, &untold);
            }
            if is_last {
                return;
            }
        }
    });
    Ok(Some((Spans { ended, lost }, Sending { stop, task })))
}

/// The next spans: the first, and those that end soon after it. Given up, what is in `batch` stays there.
async fn gather(spans: &mut mpsc::Receiver<Span>, batch: &mut Vec<Span>) {
    if spans.recv_many(batch, MAX_TOGETHER).await == 0 {
        // Nobody can tell of a span any more.
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(GATHERED).await;
    while batch.len() < MAX_WAITING
        && let Ok(span) = spans.try_recv()
    {
        batch.push(span);
    }
}

/// Says once that spans do not arrive, and once that they do again.
fn tell(url: &str, why: Option<&str>, fails: &mut bool, lost: &AtomicU64) {
    match why {
        Some(why) if !*fails => {
            tracing::warn!(
                url,
                why,
                "spans cannot be sent to the collector of [traces]; they are lost meanwhile"
            );
        }
        None if *fails => tracing::info!(url, "the collector of [traces] takes spans again"),
        _ => {}
    }
    *fails = why.is_some();
    let lost = lost.swap(0, Ordering::Relaxed);
    if lost > 0 {
        tracing::warn!(
            lost,
            "spans came faster than the collector of [traces] took them"
        );
    }
}
