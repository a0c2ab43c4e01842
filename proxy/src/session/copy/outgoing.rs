//! Rows of COPY TO STDOUT: protected fields are opened and written again by the rules of the same format, so that the
//! client sees what a plaintext server would have sent. It converts one CopyData at a time; the server sends a row in each.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use pgveil_keys::{DekId, Keys};
use pgveil_policy::{
    Refusal,
    copy::{CopyFormat, CopyHeader, CopyOut, CopyPlan, CopyRows, CopyText, ForceQuote},
};

use super::out_of_step;
use crate::{
    copy::{
        binary::{self, Unit},
        fields::{self, CsvStyle, Span},
    },
    session::{
        results::{ResultRules, Rule, is_ciphertext, stray_ciphertext},
        values::{Lens, Opened, Scratch, open_field, open_holder},
    },
};

/// What the server sends of one COPY.
pub struct Outgoing {
    plan: Arc<CopyPlan>,
    rules: ResultRules,
    /// The header has not come yet.
    header: bool,
    spans: Vec<Span>,
    value: zeroize::Zeroizing<Vec<u8>>,
    out: zeroize::Zeroizing<Vec<u8>>,
}

impl Outgoing {
    /// A COPY whose fields are to be treated by `rules`.
    pub fn new(plan: Arc<CopyPlan>, rules: ResultRules) -> Self {
        let header = match &plan.format {
            CopyFormat::Binary => true,
            CopyFormat::Text(text) | CopyFormat::Csv { text, .. } => text.header != CopyHeader::No,
        };
        Self {
            plan,
            rules,
            header,
            spans: Vec::new(),
            value: zeroize::Zeroizing::default(),
            out: zeroize::Zeroizing::default(),
        }
    }

    /// How its rows are treated.
    pub fn rules(&self) -> &ResultRules {
        &self.rules
    }

    /// Appends the CopyData with its protected fields opened. `Some` is a key that must be fetched first; nothing was
    /// appended then.
    ///
    /// # Errors
    /// As [`open_field`]; `PV003` for ciphertext in a plain field, and for rows that are not what was planned.
    pub fn convert(
        &mut self,
        body: &[u8],
        keys: &Keys,
        scratch: &mut Scratch,
        queue: &mut BytesMut,
    ) -> Result<Option<DekId>, Refusal> {
        self.out.clear();
        let plan = Arc::clone(&self.plan);
        let CopyRows::Out(rows) = &plan.rows else {
            return Err(out_of_step());
        };
        let missing = match &plan.format {
            CopyFormat::Binary => self.tuples(body, keys, scratch)?,
            CopyFormat::Text(_) | CopyFormat::Csv { .. } if self.header => {
                self.out.extend_from_slice(body);
                self.header = false;
                None
            }
            CopyFormat::Text(text) => self.text(text, body, keys, scratch)?,
            CopyFormat::Csv {
                text,
                quote,
                escape,
            } => {
                let style = CsvStyle {
                    delimiter: text.delimiter,
                    quote: *quote,
                    escape: *escape,
                    null: &text.null,
                    single: self.rules.columns.len() == 1,
                };
                self.csv(rows, &style, body, keys, scratch)?
            }
        };
        if missing.is_none() {
            let length = u32::try_from(self.out.len() + 4).map_err(|_| too_long())?;
            queue.put_u8(b'd');
            queue.put_u32(length);
            queue.put_slice(&self.out);
        }
        Ok(missing)
    }

    fn text(
        &mut self,
        text: &CopyText,
        body: &[u8],
        keys: &Keys,
        scratch: &mut Scratch,
    ) -> Result<Option<DekId>, Refusal> {
        let line = body.strip_suffix(b"\n").ok_or_else(out_of_step)?;
        let count = self.rules.columns.len();
        fields::split_text(line, text.delimiter, count + 1, &mut self.spans);
        if self.spans.len() != count {
            return Err(out_of_step());
        }
        let mut done = 0;
        for (rule, span) in self.rules.columns.iter().zip(&self.spans) {
            let raw = span.raw(line);
            if raw == text.null {
                continue;
            }
            if !is_opened(rule, raw)? {
                continue;
            }
            self.value.clear();
            fields::read_text(raw, &mut self.value);
            self.out.extend_from_slice(&line[done..span.start]);
            done = span.end;
            match open(&self.rules, rule, &self.value, keys, scratch)? {
                Opened::Shown => fields::put_text(scratch.shown(), text.delimiter, &mut self.out),
                Opened::Null => self.out.extend_from_slice(&text.null),
                Opened::NeedsKey(key) => return Ok(Some(key)),
            }
        }
        self.out.extend_from_slice(&body[done..]);
        Ok(None)
    }

    fn csv(
        &mut self,
        rows: &CopyOut,
        style: &CsvStyle<'_>,
        body: &[u8],
        keys: &Keys,
        scratch: &mut Scratch,
    ) -> Result<Option<DekId>, Refusal> {
        let line = body.strip_suffix(b"\n").ok_or_else(out_of_step)?;
        let count = self.rules.columns.len();
        let bytes = (style.delimiter, style.quote, style.escape);
        fields::split_csv(line, bytes, count + 1, &mut self.spans).map_err(|_| out_of_step())?;
        if self.spans.len() != count {
            return Err(out_of_step());
        }
        let mut done = 0;
        for (index, rule) in self.rules.columns.iter().enumerate() {
            let span = self.spans[index];
            let raw = span.raw(line);
            if !span.quoted && raw == style.null {
                continue;
            }
            if !is_opened(rule, raw)? {
                continue;
            }
            self.value.clear();
            fields::read_csv(raw, style.quote, style.escape, &mut self.value);
            let force = match &rows.force_quote {
                ForceQuote::Fields(fields) => fields.get(index).copied().unwrap_or(false),
                ForceQuote::AsServer => span.quoted,
            };
            self.out.extend_from_slice(&line[done..span.start]);
            done = span.end;
            match open(&self.rules, rule, &self.value, keys, scratch)? {
                Opened::Shown => style.put(scratch.shown(), force, &mut self.out),
                Opened::Null => self.out.extend_from_slice(style.null),
                Opened::NeedsKey(key) => return Ok(Some(key)),
            }
        }
        self.out.extend_from_slice(&body[done..]);
        Ok(None)
    }

    /// The header comes with the first row; the trailer by itself.
    fn tuples(
        &mut self,
        body: &[u8],
        keys: &Keys,
        scratch: &mut Scratch,
    ) -> Result<Option<DekId>, Refusal> {
        let mut rest = body;
        let mut header = self.header;
        let mut spans = Vec::with_capacity(self.rules.columns.len());
        while !rest.is_empty() {
            let unit = if header {
                binary::header(rest)
            } else {
                binary::tuple(rest, self.rules.columns.len(), &mut spans)
            };
            let length = match unit {
                Unit::Header(length) => {
                    header = false;
                    length
                }
                Unit::Trailer => 2,
                Unit::Tuple(length) => {
                    if let Some(key) = self.tuple(rest, &spans, keys, scratch)? {
                        return Ok(Some(key));
                    }
                    rest = &rest[length..];
                    continue;
                }
                Unit::More | Unit::Broken(_) | Unit::BrokenField => return Err(out_of_step()),
            };
            self.out.extend_from_slice(&rest[..length]);
            rest = &rest[length..];
        }
        self.header = header;
        Ok(None)
    }

    fn tuple(
        &mut self,
        data: &[u8],
        spans: &[Option<(usize, usize)>],
        keys: &Keys,
        scratch: &mut Scratch,
    ) -> Result<Option<DekId>, Refusal> {
        let count = spans.len() as u16;
        self.out.extend_from_slice(&count.to_be_bytes());
        for (rule, span) in self.rules.columns.iter().zip(spans) {
            let Some((start, end)) = *span else {
                self.out.extend_from_slice(&(-1i32).to_be_bytes());
                continue;
            };
            let raw = &data[start..end];
            if !is_opened(rule, raw)? {
                put_field(raw, &mut self.out);
                continue;
            }
            match open(&self.rules, rule, raw, keys, scratch)? {
                Opened::Shown => put_field(scratch.shown(), &mut self.out),
                Opened::Null => self.out.extend_from_slice(&(-1i32).to_be_bytes()),
                Opened::NeedsKey(key) => return Ok(Some(key)),
            }
        }
        Ok(None)
    }
}

/// Whether a field is opened; else it goes on as it is.
fn is_opened(rule: &Rule, raw: &[u8]) -> Result<bool, Refusal> {
    match rule {
        Rule::Guard if is_ciphertext(raw) => Err(stray_ciphertext()),
        Rule::Pass | Rule::Guard => Ok(false),
        Rule::Open(_) | Rule::Inside(_) => Ok(true),
    }
}

fn open(
    rules: &ResultRules,
    rule: &Rule,
    value: &[u8],
    keys: &Keys,
    scratch: &mut Scratch,
) -> Result<Opened, Refusal> {
    let (Some(view), Some(ruleset)) = (&rules.view, &rules.rules) else {
        return Err(stray_ciphertext());
    };
    let lens = |revealed| Lens {
        rules: ruleset,
        keys,
        settings: &view.session.format,
        revealed,
        scopes: &view.scopes,
    };
    match rule {
        Rule::Pass | Rule::Guard => Err(stray_ciphertext()),
        Rule::Open(opening) => open_field(value, opening, &lens(&opening.revealed), scratch),
        Rule::Inside(inside) => {
            let lens = lens(&inside.revealed);
            open_holder(value, &inside.shape, inside.format, &lens, scratch)
        }
    }
}

fn put_field(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn too_long() -> Refusal {
    Refusal::new("54000", "too-long", "the row is too long once it is opened")
}
