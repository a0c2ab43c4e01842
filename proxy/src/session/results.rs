//! Which fields of a result are sealed and how to show them: judged once per RowDescription, never per row.
//!
//! Three witnesses: the table OID and attribute number that the server reports, the analysis, and the
//! value's own header (looked at when it is opened). Where they disagree nothing is shown (`PV003`).

use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use pgveil_policy::{
    Refusal, Ruleset,
    plan::{ColumnId, Field, Output, Shape},
    types::LogicalType,
};

use super::{
    values::{Opening, format_code, type_oid},
    view::View,
    withheld,
};
use crate::messages::{Field as FieldDescription, RowDescription, RowDescriptionBuilder};

const BYTEA: u32 = 17;

/// Rules that are made once and then shared; `None` until then.
pub type Described = Mutex<Option<Arc<ResultRules>>>;

/// How to treat the rows of one result.
#[derive(Debug)]
pub struct ResultRules {
    /// One per column; empty with `guard_all`.
    pub columns: Vec<Rule>,
    /// Nothing is known about the columns: every field is looked at for ciphertext.
    pub guard_all: bool,
    /// No column needs a look: rows are relayed undecoded.
    pub relay: bool,
    /// Some column is sealed.
    pub opens: bool,
    /// Columns whose values may be among those opened, and that this session's role may not see.
    pub withheld: Vec<ColumnId>,
    /// The session as it was when the rules were made, for formats and roles.
    pub view: Option<Arc<View>>,
    /// The ruleset of the analysis.
    pub rules: Option<Arc<Ruleset>>,
}

/// How to treat the fields of one column.
#[derive(Debug)]
pub enum Rule {
    /// Relayed.
    Pass,
    /// Relayed unless it is ciphertext, which is refused.
    Guard,
    /// Opened.
    Open(Opening),
    /// Opened inside.
    Inside(Inside),
}

/// How to open what is inside the fields of a result column.
#[derive(Clone, Debug)]
pub struct Inside {
    /// What the fields are made of.
    pub shape: Arc<Shape>,
    /// The format in which the server sends and the client receives: 0 text, 1 binary.
    pub format: i16,
    /// Columns that may be shown unmasked to this session's role.
    pub revealed: Vec<ColumnId>,
}

impl ResultRules {
    /// For rows whose RowDescription was never asked for and whose statement was not analysed.
    pub fn unknown() -> Self {
        Self {
            columns: Vec::new(),
            guard_all: true,
            relay: false,
            opens: false,
            withheld: Vec::new(),
            view: None,
            rules: None,
        }
    }

    /// For the words of EXPLAIN.
    pub fn explained(columns: usize) -> Self {
        let columns = (0..columns).map(|_| Rule::Pass);
        Self::new(columns.collect(), None, None)
    }

    /// For a statement without rows.
    pub fn none() -> Self {
        Self::new(Vec::new(), None, None)
    }

    fn new(columns: Vec<Rule>, view: Option<Arc<View>>, rules: Option<Arc<Ruleset>>) -> Self {
        let relay = columns.iter().all(|rule| matches!(rule, Rule::Pass));
        let opens = columns
            .iter()
            .any(|rule| matches!(rule, Rule::Open(_) | Rule::Inside(_)));
        Self {
            columns,
            guard_all: false,
            relay,
            opens,
            withheld: Vec::new(),
            view,
            rules,
        }
    }

    fn withholding(self, fields: &[Field], revealed: &[ColumnId]) -> Self {
        let withheld = withheld::of_fields(fields, revealed);
        Self { withheld, ..self }
    }

    /// From the analysis alone: an Execute without Describe.
    pub fn planned(
        rules: &Arc<Ruleset>,
        view: &Arc<View>,
        fields: &[Field],
        formats: &[i16],
    ) -> Self {
        let columns = fields
            .iter()
            .enumerate()
            .map(|(index, field)| match field {
                Field::Plain => Rule::Guard,
                Field::Sealed { shown, columns, .. } => Rule::Open(Opening {
                    shown: *shown,
                    stored: stored(rules, columns),
                    format: format_code(formats, index),
                    revealed: revealed(rules, view),
                }),
                Field::Holder(shape) => Rule::Inside(Inside {
                    shape: Arc::new(shape.clone()),
                    format: format_code(formats, index),
                    revealed: revealed(rules, view),
                }),
            })
            .collect();
        Self::new(columns, Some(Arc::clone(view)), Some(Arc::clone(rules)))
            .withholding(fields, &revealed(rules, view))
    }
}

/// What a RowDescription becomes.
pub struct Judged {
    /// How to treat the rows.
    pub rules: ResultRules,
    /// Whether the frame must be replaced by what was appended to the buffer.
    pub rewritten: bool,
}

/// Judges a RowDescription. If fields are sealed, a frame with the logical types is appended to `out`.
///
/// # Errors
/// `PV003` when server and analysis disagree about what is sealed; `0A000` for a protected column in the
/// result of a statement that the analysis did not look into.
pub fn judge(
    rules: &Arc<Ruleset>,
    output: &Output,
    view: Option<&Arc<View>>,
    row: &RowDescription<'_>,
    out: &mut BytesMut,
) -> Result<Judged, Refusal> {
    let planned = match (output, view) {
        (Output::Fields(fields), Some(view)) => Some((fields, view)),
        _ => None,
    };
    if *output == Output::Explained {
        return Ok(Judged {
            rules: ResultRules::explained(row.fields().count()),
            rewritten: false,
        });
    }
    let Some((fields, view)) = planned else {
        let columns = row
            .fields()
            .map(|field| unplanned(rules, &field))
            .collect::<Result<_, _>>()?;
        return Ok(Judged {
            rules: ResultRules::new(columns, None, None),
            rewritten: false,
        });
    };
    if fields.len() != row.fields().count() {
        return Err(disagreement(
            "The server describes another number of columns than the analysis.",
        ));
    }
    let mut columns = Vec::with_capacity(fields.len());
    let mut shown = Vec::with_capacity(fields.len());
    let reveals = revealed(rules, view);
    for (mut described, field) in row.fields().zip(fields) {
        // By the catalog: whether the column that the server names holds sealed values.
        let named = described.table_oid != 0 && described.attnum > 0;
        let own = &view.session.relations;
        let witness = rules.holds_sealed(own, described.table_oid, described.attnum);
        match field {
            Field::Plain if named && witness == Some(true) => {
                return Err(disagreement(
                    "The server reports a protected column where the analysis saw none.",
                ));
            }
            Field::Plain => columns.push(guard(&described)),
            Field::Holder(shape) => {
                if named && witness == Some(true) || !fits(shape, described.type_oid) {
                    return Err(disagreement(
                        "The server reports another type for a column that holds protected values inside.",
                    ));
                }
                columns.push(Rule::Inside(Inside {
                    shape: Arc::new(shape.clone()),
                    format: described.format,
                    revealed: reveals.clone(),
                }));
                described.type_oid = type_oid(shape).unwrap_or(described.type_oid);
                described.typmod = typmod(shape).unwrap_or(described.typmod);
            }
            Field::Sealed {
                shown: logical,
                origin,
                columns: sources,
            } => {
                let known = rules.knows_relation(own, described.table_oid);
                let foreign = named && (witness == Some(false) || !known);
                if described.type_oid != BYTEA || foreign {
                    return Err(disagreement(
                        "The server reports an unprotected column where the analysis saw a protected one.",
                    ));
                }
                columns.push(Rule::Open(Opening {
                    shown: *logical,
                    stored: stored(rules, sources),
                    format: described.format,
                    revealed: reveals.clone(),
                }));
                match *origin {
                    Some(attribute) if described.table_oid == 0 => {
                        (described.table_oid, described.attnum) = attribute;
                    }
                    Some(_) => {}
                    // A cast that the server did not see.
                    None => (described.table_oid, described.attnum) = (0, 0),
                }
                described.type_oid = logical.oid();
                described.typlen = logical.typlen();
                described.typmod = logical.typmod();
            }
        }
        shown.push(described);
    }
    let judged = ResultRules::new(columns, Some(Arc::clone(view)), Some(Arc::clone(rules)))
        .withholding(fields, &reveals);
    let rewritten = judged.opens;
    if rewritten {
        let mut builder = RowDescriptionBuilder::begin(out);
        for field in &shown {
            builder.field(field);
        }
        builder
            .end()
            .map_err(|e| Refusal::new("54000", "too-long", e.to_string()))?;
    }
    Ok(Judged {
        rules: judged,
        rewritten,
    })
}

/// The same rules with the formats that a Bind asked for (a statement's Describe always reports text).
pub fn with_formats(rules: &ResultRules, formats: &[i16]) -> ResultRules {
    let columns = rules
        .columns
        .iter()
        .enumerate()
        .map(|(index, rule)| match rule {
            Rule::Pass => Rule::Pass,
            Rule::Guard => Rule::Guard,
            Rule::Open(opening) => Rule::Open(Opening {
                format: format_code(formats, index),
                ..opening.clone()
            }),
            Rule::Inside(inside) => Rule::Inside(Inside {
                format: format_code(formats, index),
                ..inside.clone()
            }),
        })
        .collect();
    ResultRules {
        columns,
        withheld: rules.withheld.clone(),
        view: rules.view.clone(),
        rules: rules.rules.clone(),
        ..*rules
    }
}

/// Whether the server's type can be of this shape. Types that are not built in have OIDs of their own.
fn fits(shape: &Shape, oid: u32) -> bool {
    const FIRST_OWN: u32 = 16384;
    const RECORD: u32 = 2249;
    const BYTEA_ARRAY: u32 = 1001;
    const RECORD_ARRAY: u32 = 2287;
    match shape {
        Shape::Plain | Shape::Sealed { .. } => false,
        Shape::Row(_) => oid == RECORD || oid >= FIRST_OWN,
        Shape::Text { .. } => oid == RECORD,
        Shape::Json { jsonb: false, .. } => oid == LogicalType::Json.oid(),
        Shape::Json { jsonb: true, .. } => oid == LogicalType::Jsonb.oid(),
        Shape::Array { element, .. } | Shape::Listed { element, .. } => match element.as_ref() {
            Shape::Sealed { .. } => oid == BYTEA_ARRAY || oid >= FIRST_OWN,
            Shape::Row(_) => oid == RECORD_ARRAY || oid >= FIRST_OWN,
            Shape::Json { jsonb: false, .. } => oid == LogicalType::Json.array_oid(),
            Shape::Json { jsonb: true, .. } => oid == LogicalType::Jsonb.array_oid(),
            Shape::Plain | Shape::Array { .. } | Shape::Listed { .. } | Shape::Text { .. } => false,
        },
    }
}

/// The modifier that the client sees, where it is another than the server's.
fn typmod(shape: &Shape) -> Option<i32> {
    match shape {
        Shape::Array {
            element,
            modified: true,
        } => match element.as_ref() {
            Shape::Sealed { shown, .. } => Some(shown.typmod()),
            _ => None,
        },
        _ => None,
    }
}

fn revealed(rules: &Ruleset, view: &View) -> Vec<ColumnId> {
    rules
        .columns
        .values()
        .filter(|c| view.reveals(c))
        .map(|c| c.id)
        .collect()
}

/// The types of some columns' values, without modifiers.
fn stored(rules: &Ruleset, columns: &[ColumnId]) -> Vec<LogicalType> {
    let columns = columns.iter().filter_map(|id| rules.columns.get(id));
    columns.map(|c| c.logical.without_modifiers()).collect()
}

fn unplanned(rules: &Ruleset, field: &FieldDescription<'_>) -> Result<Rule, Refusal> {
    if rules.holds_sealed(&[], field.table_oid, field.attnum) == Some(true) {
        return Err(Refusal::unsupported("hidden-reference", "the result holds a protected column that the statement does not name")
            .detail("pgveil could not see from the statement's text that it reads a protected table.")
            .hint("Read the table by its name, not through a cursor or a function that pgveil cannot look into."));
    }
    Ok(guard(field))
}

/// Types that can carry ciphertext inside: `bytea` itself, and in computed columns everything of variable length.
fn guard(field: &FieldDescription<'_>) -> Rule {
    let computed = field.table_oid == 0 || field.attnum <= 0;
    if field.type_oid == BYTEA || (computed && field.typlen < 0) {
        Rule::Guard
    } else {
        Rule::Pass
    }
}

/// Whether a field that should be plain holds ciphertext: an envelope, or its text form anywhere within. The first bytes
/// alone are none: the CHECKs of pgveil's domains name them, and tools that reflect a schema read those.
pub fn is_ciphertext(field: &[u8]) -> bool {
    const BEGINNING: &[u8] = b"\\x50475601";
    let goes_on = |at: usize| {
        field
            .get(at + BEGINNING.len())
            .is_some_and(u8::is_ascii_hexdigit)
    };
    field.starts_with(b"PGV\x01") || memchr::memmem::find_iter(field, BEGINNING).any(goes_on)
}

fn disagreement(detail: &str) -> Refusal {
    Refusal::new("PV003", "witnesses-disagree", "pgveil and the server disagree about which columns are protected")
        .detail(detail)
        .hint("The catalog may just have changed: try again. If it stays, run `pgveil check` and report it.")
}

/// Ciphertext turned up where it must not be.
pub fn stray_ciphertext() -> Refusal {
    Refusal::new("PV003", "stray-ciphertext", "the result holds a sealed value in a column that is not protected")
        .detail("It is not shown: the statement read a protected column in a way that pgveil could not follow.")
        .hint("Read the protected column by name.")
}
