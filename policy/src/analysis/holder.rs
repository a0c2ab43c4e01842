//! Values that hold sealed values inside: arrays, rows and JSON documents. What may happen to them stands elsewhere.

use std::sync::Arc;

use super::{
    kind::{Kind, Sealed, Source},
    namespace::Column,
    refusals,
};
use crate::{
    Refusal,
    plan::{ColumnId, Rendering, Shape},
    ruleset::Protected,
    types::{LogicalType, TextExpression},
};

/// Most values, at all levels together, that one holder may be made of. Rows of rows double with every level.
const MAX_PARTS: usize = 8192;
/// Deepest nesting of holders in each other.
const MAX_LEVELS: usize = 16;

/// A value with at least one sealed value inside.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    inside: Inside,
    /// Values inside, at all levels.
    parts: usize,
    /// How deep holders are in it, itself included.
    levels: usize,
    /// Of a row or an array of texts that is a column of the whole result: what is shown of it.
    text: Option<Box<Text>>,
}

/// The text that is made of a holder of texts.
#[derive(Clone, Debug)]
enum Text {
    /// Of a row's fields.
    Made(TextExpression, LogicalType),
    /// Of an array's elements, with this between them.
    Listed(TextExpression),
}

/// What a holder is made of.
#[derive(Clone, Debug)]
pub(super) enum Inside {
    /// An array: what each element is, sealed or a holder.
    Array {
        element: Box<Kind>,
        /// The array has the modifiers of its elements' type, as `ARRAY[...]` has and `array_agg` has not.
        modified: bool,
    },
    /// A row: its fields, in order.
    Row(Vec<Column>),
    /// A `json` or `jsonb` document.
    Json(Document),
}

/// A document.
#[derive(Clone, Debug)]
pub(super) struct Document {
    /// Where the sealed values in it come from; at least one.
    pub(super) sources: Vec<Source>,
    /// Its type is `jsonb`.
    pub(super) jsonb: bool,
    /// How the server wrote the values in it.
    pub(super) rendering: Rendering,
    /// The statement gave it, to be made rows of by this call. It must not be shown: it is not as it was given.
    pub(super) given: Option<usize>,
}

impl Holder {
    /// An array of what is sealed or a holder.
    pub(super) fn array(element: Kind, modified: bool) -> Result<Self, Refusal> {
        let (parts, levels) = extent(&element);
        let element = Box::new(element);
        Self::checked(Inside::Array { element, modified }, parts, levels)
    }

    /// A row of several fields, of which one at least is sealed or a holder.
    pub(super) fn row(fields: Vec<Column>) -> Result<Self, Refusal> {
        let (mut parts, mut levels) = (0, 0);
        for field in &fields {
            check_casts(&field.kind)?;
            let (more, deep) = extent(&field.kind);
            parts += more;
            levels = levels.max(deep);
        }
        Self::checked(Inside::Row(fields), parts, levels)
    }

    /// A document.
    pub(super) fn json(document: Document) -> Result<Self, Refusal> {
        let parts = document.sources.len();
        Self::checked(Inside::Json(document), parts, 0)
    }

    fn checked(inside: Inside, parts: usize, levels: usize) -> Result<Self, Refusal> {
        let holder = Self {
            inside,
            parts: parts + 1,
            levels: levels + 1,
            text: None,
        };
        if holder.parts > MAX_PARTS || holder.levels > MAX_LEVELS {
            return Err(refusals::too_nested());
        }
        Ok(holder)
    }

    /// Either of two holders of one make; `None` if they differ.
    pub(super) fn merged(self, other: Self) -> Option<Self> {
        let inside = match (self.inside, other.inside) {
            (
                Inside::Array { element, modified },
                Inside::Array {
                    element: theirs,
                    modified: also,
                },
            ) => Inside::Array {
                element: Box::new(element.merged(*theirs)?),
                modified: modified && also,
            },
            (Inside::Row(ours), Inside::Row(theirs)) if ours.len() == theirs.len() => {
                let fields = ours.into_iter().zip(theirs).map(|(ours, theirs)| {
                    Some(Column {
                        name: ours.name,
                        kind: ours.kind.merged(theirs.kind)?,
                    })
                });
                Inside::Row(fields.collect::<Option<_>>()?)
            }
            (Inside::Json(ours), Inside::Json(theirs))
                if ours.jsonb == theirs.jsonb
                    && ours.rendering == theirs.rendering
                    && ours.given == theirs.given =>
            {
                let sources = [ours.sources, theirs.sources].concat();
                Inside::Json(Document { sources, ..ours })
            }
            _ => return None,
        };
        let parts = self.parts + other.parts;
        Self::checked(inside, parts, self.levels.max(other.levels) - 1).ok()
    }

    /// As an expression's value, of which only the type is known.
    pub(super) fn without_modifiers(mut self) -> Self {
        if let Inside::Array { modified, .. } = &mut self.inside {
            *modified = false;
        }
        self
    }

    /// A row, as the text that is made of its fields. Nothing but the result may hold it.
    pub(super) fn shown_as(self, expression: TextExpression, shown: LogicalType) -> Self {
        Self {
            text: Some(Box::new(Text::Made(expression, shown))),
            ..self
        }
    }

    /// An array, as its elements with this between them. Nothing but the result may hold it.
    pub(super) fn listed_by(self, between: TextExpression) -> Self {
        Self {
            text: Some(Box::new(Text::Listed(between))),
            ..self
        }
    }

    pub(super) fn inside(&self) -> &Inside {
        &self.inside
    }

    /// "an array", for messages.
    pub(super) fn noun(&self) -> &'static str {
        match self.inside {
            Inside::Array { .. } => "an array",
            Inside::Row(_) => "a row",
            Inside::Json(_) => "a JSON document",
        }
    }

    /// A document inside that the statement gave.
    pub(super) fn given(&self) -> Option<usize> {
        let of = |kind: &Kind| match kind {
            Kind::Plain(_) | Kind::Untyped | Kind::Sealed(_) => None,
            Kind::Holder(holder) => holder.given(),
        };
        match &self.inside {
            Inside::Array { element, .. } => of(element),
            Inside::Row(fields) => fields.iter().find_map(|field| of(&field.kind)),
            Inside::Json(document) => document.given,
        }
    }

    /// Where the sealed values inside come from.
    pub(super) fn sources(&self) -> Vec<Source> {
        fn of(kind: &Kind, out: &mut Vec<Source>) {
            match kind {
                Kind::Plain(_) | Kind::Untyped => {}
                Kind::Sealed(Sealed { sources, .. }) => out.extend_from_slice(sources),
                Kind::Holder(holder) => out.extend(holder.sources()),
            }
        }
        let mut out = Vec::new();
        match &self.inside {
            Inside::Array { element, .. } => of(element, &mut out),
            Inside::Row(fields) => fields.iter().for_each(|field| of(&field.kind, &mut out)),
            Inside::Json(document) => out.extend_from_slice(&document.sources),
        }
        out
    }

    /// A column to name in messages.
    pub(super) fn column(&self) -> &Arc<Protected> {
        let found = match &self.inside {
            Inside::Array { element, .. } => element.protected(),
            Inside::Row(fields) => fields.iter().find_map(|field| field.kind.protected()),
            Inside::Json(document) => document.sources.first().map(|source| &source.column),
        };
        found.expect("a holder is made only of something protected")
    }

    pub(super) fn each_instance(&mut self, f: &mut dyn FnMut(&mut usize)) {
        match &mut self.inside {
            Inside::Array { element, .. } => element.each_instance(f),
            Inside::Row(fields) => fields
                .iter_mut()
                .for_each(|field| field.kind.each_instance(f)),
            Inside::Json(document) => document
                .sources
                .iter_mut()
                .for_each(|source| source.each_instance(f)),
        }
    }

    /// The plan's form.
    pub(super) fn shape(&self) -> Shape {
        match &self.inside {
            Inside::Array { element, modified } => {
                let element = Box::new(element.shape());
                match self.text.as_deref() {
                    Some(Text::Listed(between)) => Shape::Listed {
                        element,
                        between: between.clone(),
                    },
                    _ => Shape::Array {
                        element,
                        modified: *modified,
                    },
                }
            }
            Inside::Row(fields) => {
                let fields = fields.iter().map(|field| field.kind.shape()).collect();
                match self.text.as_deref() {
                    Some(Text::Made(expression, shown)) => Shape::Text {
                        fields,
                        expression: expression.clone(),
                        shown: *shown,
                    },
                    _ => Shape::Row(fields),
                }
            }
            Inside::Json(document) => {
                let mut columns: Vec<ColumnId> = document
                    .sources
                    .iter()
                    .map(|source| source.column.id)
                    .collect();
                columns.sort_unstable();
                columns.dedup();
                let mut types: Vec<LogicalType> = Vec::new();
                for source in &document.sources {
                    let logical = source.column.logical.without_modifiers();
                    if !types.contains(&logical) {
                        types.push(logical);
                    }
                }
                Shape::Json {
                    columns,
                    types,
                    jsonb: document.jsonb,
                    rendering: document.rendering,
                }
            }
        }
    }
}

/// Values inside are shown in their own type: what is cast has no place there.
fn check_casts(kind: &Kind) -> Result<(), Refusal> {
    match kind {
        Kind::Sealed(sealed) if !sealed.is_as_stored() => {
            let place = "an array or a row under a cast to another type";
            Err(refusals::not_supported(sealed.column(), place))
        }
        Kind::Sealed(_) | Kind::Plain(_) | Kind::Untyped | Kind::Holder(_) => Ok(()),
    }
}

/// How many values a kind stands for, and how many holders are in each other in it.
fn extent(kind: &Kind) -> (usize, usize) {
    match kind {
        Kind::Plain(_) | Kind::Untyped => (1, 0),
        Kind::Sealed(sealed) => (sealed.sources.len(), 0),
        Kind::Holder(holder) => (holder.parts, holder.levels),
    }
}
