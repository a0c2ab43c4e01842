//! The answer of the analysis: what to change in a statement's text, its parameters and its results.
//!
//! A plan holds no key and no sealed value; it is made once per statement text, session view and
//! ruleset version, and executed many times. Literals it carries are zeroized when it goes.

mod asked;

use std::{ops::Range, sync::Arc};

use zeroize::Zeroizing;

pub use self::asked::{
    ANOTHER_SCOPE, ANOTHER_VALUE, CONFLICT_OF_SCOPES, Fetched, FetchedAs, MAX_ASKED_SCOPES,
    MAX_FETCHED, ScopeQuery, VALUES_OF_OTHERS, fetched_key, scope_key,
};
use crate::{
    copy::CopyPlan,
    types::{InputError, LogicalType, TextExpression, TimeStep, Value},
};

/// The row of `pgveil.columns` a value was sealed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ColumnId(pub u32);

/// What to do with one statement text (in the simple protocol it may hold several statements).
#[derive(Debug, Default)]
pub struct Plan {
    /// Changes to the text, ascending and not overlapping. Byte offsets into the client's text.
    pub edits: Vec<Edit>,
    /// Sealed values and search terms to make at each execution.
    pub slots: Vec<Slot>,
    /// Parameters of the statement as sent upstream, in its order: `$1` is the first.
    /// Empty in the simple protocol.
    pub server_params: Vec<ServerParam>,
    /// What the client sees of its own parameters, in its order.
    pub client_params: Vec<ClientParam>,
    /// Slots whose parameter is not declared as `bytea`: the server finds its type where it finds the client's own, or
    /// as little (`$1 IS NULL OR email = $1` is an error).
    pub untold: Vec<usize>,
    /// The text sent holds the answer: nothing of the client's goes to the server with it, its parameters neither.
    pub answers_itself: bool,
    /// One per statement of the text, in order (an empty statement has none).
    pub statements: Vec<StatementPlan>,
    /// Why, for `EXPLAIN (PGVEIL)` and `pgveil explain`; sentences that name columns, never literals.
    pub notes: Vec<String>,
    /// What the server is asked before the text is sent.
    pub scope_queries: Vec<ScopeQuery>,
}

/// Replace `range` of the client's text.
#[derive(Clone, Debug)]
pub struct Edit {
    /// Bytes to replace; empty for an insertion.
    pub range: Range<usize>,
    /// What stands there instead.
    pub with: Replacement,
}

/// What an edit puts in.
#[derive(Clone, Debug)]
pub enum Replacement {
    /// Fixed text.
    Text(String),
    /// `slots[n]`: in the simple protocol `'\x...'::bytea` (or `NULL`), in the extended one `$k`,
    /// where `k - 1` is the slot's place in `server_params`.
    Slot(usize),
    /// A plain client parameter whose number changed: `$k` of that server parameter.
    Param(usize),
}

/// A sealed value or a search term that takes the place of literals or parameters.
#[derive(Debug, PartialEq)]
pub struct Slot {
    /// What to make.
    pub make: Make,
    /// From what.
    pub operand: Operand,
    /// For which column.
    pub column: ColumnId,
    /// With which scope's keys.
    pub scope: Vec<ScopePart>,
    /// Of [`Make::SealMembers`]: what becomes of the document's members.
    pub members: Option<Box<Members>>,
    /// The statement does more with the value than to store it: one that the column's length would cut is refused.
    pub exact: bool,
}

impl Slot {
    /// The parts of all its scopes.
    pub fn parts(&self) -> impl Iterator<Item = &ScopePart> {
        let members = self.members.iter().flat_map(|members| &members.sealed);
        let members = members.flat_map(|member| &member.scope);
        self.scope.iter().chain(members)
    }

    /// The same, to be changed.
    pub fn parts_mut(&mut self) -> impl Iterator<Item = &mut ScopePart> {
        let members = self.members.iter_mut();
        let members = members.flat_map(|members| &mut members.sealed);
        let members = members.flat_map(|member| &mut member.scope);
        self.scope.iter_mut().chain(members)
    }
}

/// What becomes of the members of a document's records. Those that are not named are left out.
#[derive(Debug, PartialEq)]
pub struct Members {
    /// The document is a `jsonb`.
    pub jsonb: bool,
    /// What is sealed.
    pub sealed: Vec<Member>,
    /// Names of members that stay as they are.
    pub plain: Vec<String>,
}

/// A member that is sealed.
#[derive(Debug, PartialEq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// The type that the statement gives it, in which it is read.
    pub from: LogicalType,
    /// For which column.
    pub column: ColumnId,
    /// With which scope's keys.
    pub scope: Vec<ScopePart>,
    /// As of [`Slot`].
    pub exact: bool,
}

/// What a slot makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    /// A sealed value: `bytea`. A parameter is converted to the column's type by assignment.
    Seal,
    /// A sealed value that is not stored but passed on (`COALESCE(email, $1)`): converted to the column's type without modifiers.
    SealBare,
    /// An equality term: `bytea` of 16 bytes. A parameter is converted to the column's type without modifiers by
    /// comparison; where no value can equal it, the term is the empty `bytea`, which equals none.
    EqualityTerm,
    /// An array of equality terms, from an array operand (`= ANY($1)`): `bytea[]`.
    EqualityTerms,
    /// An array of sealed values, from an array operand (`SELECT unnest($1)`): `bytea[]`.
    SealElements,
    /// One value, sealed for every scope that a scope query found: a `bytea[]` in which each scope's key
    /// ([`scope_key`]) stands before its value. NULL for NULL.
    SealPerScope,
    /// The same for each element of an array operand: a `bytea[]` in which each element is the UTF-8 text of such a
    /// `bytea[]`, since `unnest` knows no arrays of arrays.
    SealElementsPerScope,
    /// Values of [`Operand::Fetched`], each sealed: the text of a JSON object in UTF-8, as `bytea`. Its members are named
    /// by [`fetched_key`] and hold hexadecimal digits, or null.
    SealFetched,
    /// A JSON document whose records hold sealed values: its text in UTF-8, as `bytea`.
    SealMembers,
}

impl Make {
    /// Whether it makes what is stored, rather than what is compared.
    pub fn stores(self) -> bool {
        match self {
            Self::Seal
            | Self::SealBare
            | Self::SealElements
            | Self::SealPerScope
            | Self::SealElementsPerScope
            | Self::SealFetched
            | Self::SealMembers => true,
            Self::EqualityTerm | Self::EqualityTerms => false,
        }
    }

    /// Whether it makes a `bytea[]`.
    pub fn is_array(self) -> bool {
        match self {
            Self::EqualityTerms
            | Self::SealElements
            | Self::SealPerScope
            | Self::SealElementsPerScope => true,
            Self::Seal
            | Self::SealBare
            | Self::EqualityTerm
            | Self::SealFetched
            | Self::SealMembers => false,
        }
    }
}

/// Where a plaintext comes from.
#[derive(Debug, PartialEq)]
pub enum Operand {
    /// A literal of the statement, already validated and converted to the column's type. `None` is NULL.
    Literal(Option<Value>),
    /// The elements of an array literal; `None` is NULL.
    Array(Vec<Option<Value>>),
    /// An argument of EXECUTE: a value of the parameter's type, to be converted as the slot's `Make` says.
    Argument(Option<Value>, LogicalType),
    /// An argument of EXECUTE that is an array of this type.
    ArgumentArray(Vec<Option<Value>>, LogicalType),
    /// What functions make of client parameters that are texts.
    Computed(TextExpression),
    /// The value of which such a text is the text form, if it is one: it equals no other.
    Spelled(TextExpression),
    /// The same of each text of such an array.
    SpelledEach(Box<Self>),
    /// `string_to_array(x, ',')`: an array of the pieces of a text, and the literal between them.
    Split(TextExpression, TextExpression),
    /// What the server said of this in the statement's transaction, or what is computed of it or of another time.
    Moment(Timed),
    /// What plain columns of the statement's rows hold, which the server is asked for.
    Fetched(Fetched),
    /// A client parameter (from 0), to be decoded as `client_params[n]` says and converted as the slot's `Make` says.
    Param(usize),
}

/// What the server is asked for, or a time that is given, and what is made of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Timed {
    /// What it begins with.
    pub start: Start,
    /// What is done to that, in this order.
    pub steps: Vec<TimeStep>,
}

/// What a time is computed of.
#[derive(Clone, Debug, PartialEq)]
pub enum Start {
    /// What the server is asked for.
    Asked(Moment),
    /// A client parameter (from 0), read in this type.
    Param(usize, LogicalType),
    /// A literal of this type, or why it is none: said when the value is made.
    Literal(Box<Result<Value, InputError>>, LogicalType),
}

impl Start {
    /// Its type.
    pub fn logical(&self) -> LogicalType {
        match self {
            Self::Asked(moment) => moment.logical(),
            Self::Param(_, logical) | Self::Literal(_, logical) => *logical,
        }
    }

    /// What the server is asked for, if it is.
    pub fn moment(&self) -> Option<Moment> {
        match self {
            Self::Asked(moment) => Some(*moment),
            Self::Param(..) | Self::Literal(..) => None,
        }
    }
}

impl Timed {
    /// The type of what is made.
    pub fn logical(&self) -> LogicalType {
        let made = |from, step: &TimeStep| step.of(from).unwrap_or(from);
        self.steps.iter().fold(self.start.logical(), made)
    }

    /// Whether a parameter is part of it.
    pub fn has_params(&self) -> bool {
        matches!(self.start, Start::Param(..)) || self.steps.iter().any(TimeStep::has_params)
    }

    /// Whether a part of the value is written in the statement.
    pub fn holds_literal(&self) -> bool {
        matches!(self.start, Start::Literal(..)) || self.steps.iter().any(TimeStep::holds_literal)
    }

    /// With one more step, if there is one of such a time.
    pub fn then(mut self, step: TimeStep) -> Option<Self> {
        step.of(self.logical())?;
        self.steps.push(step);
        Some(self)
    }
}

impl From<Start> for Timed {
    fn from(start: Start) -> Self {
        let steps = Vec::new();
        Self { start, steps }
    }
}

impl From<Moment> for Timed {
    fn from(moment: Moment) -> Self {
        Start::Asked(moment).into()
    }
}

/// What only the server knows, and what stays the same for all of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// `now()`
    Timestamptz,
    /// `LOCALTIMESTAMP`
    Timestamp,
    /// `now() AT TIME ZONE 'UTC'`
    Utc,
    /// `CURRENT_DATE`
    Date,
    /// `CURRENT_TIME`
    Timetz,
    /// `LOCALTIME`
    Time,
    /// `CURRENT_USER`
    CurrentUser,
    /// `SESSION_USER`
    SessionUser,
}

impl Moment {
    /// Its type. Users are of type `name`, which goes where texts go.
    pub fn logical(self) -> LogicalType {
        match self {
            Self::Timestamptz => LogicalType::Timestamptz(None),
            Self::Timestamp | Self::Utc => LogicalType::Timestamp(None),
            Self::Date => LogicalType::Date,
            Self::Timetz => LogicalType::Timetz(None),
            Self::Time => LogicalType::Time(None),
            Self::CurrentUser | Self::SessionUser => LogicalType::Text,
        }
    }

    /// The expression that yields its send form in hexadecimal digits, which no setting changes.
    pub fn sql(self) -> &'static str {
        match self {
            Self::Timestamptz => {
                "pg_catalog.encode(pg_catalog.timestamptz_send(CURRENT_TIMESTAMP), 'hex')"
            }
            Self::Timestamp => {
                "pg_catalog.encode(pg_catalog.timestamp_send(LOCALTIMESTAMP), 'hex')"
            }
            Self::Utc => {
                "pg_catalog.encode(pg_catalog.timestamp_send(pg_catalog.timezone('UTC', CURRENT_TIMESTAMP)), 'hex')"
            }
            Self::Date => "pg_catalog.encode(pg_catalog.date_send(CURRENT_DATE), 'hex')",
            Self::Timetz => "pg_catalog.encode(pg_catalog.timetz_send(CURRENT_TIME), 'hex')",
            Self::Time => "pg_catalog.encode(pg_catalog.time_send(LOCALTIME), 'hex')",
            Self::CurrentUser => {
                "pg_catalog.encode(pg_catalog.textsend(CURRENT_USER::pg_catalog.text), 'hex')"
            }
            Self::SessionUser => {
                "pg_catalog.encode(pg_catalog.textsend(SESSION_USER::pg_catalog.text), 'hex')"
            }
        }
    }
}

/// One part of a scope template, resolved as far as the statement allows. The parts' texts are concatenated,
/// what comes from a row or a session percent-encoded (`template::encode`).
#[derive(Debug, PartialEq)]
pub enum ScopePart {
    /// Fixed text of the template (`tenant:`), verbatim.
    Text(String),
    /// A value of the row: literal or parameter, of the given type; its text form is the part.
    Row(Operand, LogicalType),
    /// For the n-th element of the slot's array: the n-th element of this one, of the given element type.
    Element(Operand, LogicalType),
    /// The member of this name of the record that a value is a member of, read in this type.
    Member(String, LogicalType),
    /// `{session.NAME}`: the Postgres setting `pgveil.NAME`.
    Session(String),
    /// What this column (from 0) of a scope query of the plan returns.
    Asked {
        /// Which query.
        query: usize,
        /// Which column.
        column: usize,
        /// Its type.
        logical: LogicalType,
    },
}

/// A parameter of the statement that goes upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerParam {
    /// The client's parameter (from 0), unchanged.
    Client(usize),
    /// `slots[n]`, always `bytea` (or `bytea[]`), bound in binary format.
    Slot(usize),
}

/// What the client sees of one of its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientParam {
    /// What the server says of the server parameter with this index (from 0), if any.
    Server(usize),
    /// The logical type; `Array` for the operand of `= ANY($n)`. The value arrives in this type, or in the
    /// type that the client declared in Parse.
    Logical(LogicalType),
    /// An array of the logical type.
    Array(LogicalType),
    /// The value arrives in another type than the column's (by a cast, by declaration, or because Postgres compares
    /// `varchar` as `text`), and is converted as the slot's `Make` says.
    Converted {
        /// What the client sends.
        from: LogicalType,
    },
    /// The same, after an explicit cast: `$1::numeric(10,2)`, or `v.born::date` of a column of VALUES that holds texts.
    Cast {
        /// What the client sends.
        from: LogicalType,
        /// What it is cast to.
        to: LogicalType,
    },
}

/// One statement of the text.
#[derive(Debug)]
pub struct StatementPlan {
    /// Byte range in the client's text, without the `;`.
    pub range: Range<usize>,
    /// What it returns.
    pub output: Output,
    /// The command tag to show instead of the server's: the text sent is another command.
    pub tag: Option<&'static str>,
    /// Refused: everything from this statement on must not reach the server.
    pub refused: Option<crate::Refusal>,
    /// COPY from or to the client, with protected columns in its rows.
    pub copy: Option<Arc<CopyPlan>>,
    /// What becomes of the session's names once the server has run it.
    pub effect: Effect,
}

/// What a statement does to what the session keeps by name: prepared statements and cursors. Names are as
/// PostgreSQL stores them.
#[derive(Debug, Default)]
pub enum Effect {
    /// Nothing.
    #[default]
    None,
    /// DECLARE: this cursor has these rows.
    Declare {
        /// Its name.
        name: String,
        /// WITH HOLD: it may outlive its transaction.
        hold: bool,
        /// What FETCH will return.
        rows: Output,
    },
    /// PREPARE.
    Prepare {
        /// Its name.
        name: String,
        /// The statement; `None` if nothing protected is in it.
        statement: Option<Arc<PreparedStatement>>,
        /// What was sent, if nothing protected is in it: other rules may say otherwise of it.
        text: Unprotected,
    },
    /// EXECUTE, also inside another statement.
    Execute {
        /// The name.
        name: String,
        /// What the name meant when this was planned; `None` if nothing protected.
        plan: Option<Arc<Plan>>,
    },
    /// CLOSE of one cursor, or of all.
    Close(Option<String>),
    /// DEALLOCATE of one statement, or of all.
    Deallocate(Option<String>),
    /// DISCARD ALL.
    DiscardAll,
}

/// The text of a statement in which nothing protected was named.
#[derive(Clone, Default)]
pub struct Unprotected(pub Zeroizing<String>);

impl std::fmt::Debug for Unprotected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unprotected").finish_non_exhaustive()
    }
}

/// A statement that SQL's PREPARE keeps. It is planned as if Parse had sent it.
pub struct PreparedStatement {
    /// Its text, without PREPARE.
    pub sql: Zeroizing<String>,
    /// The declared types of its parameters; 0: not declared.
    pub declared: Vec<u32>,
    /// Its plan.
    pub plan: Arc<Plan>,
}

impl std::fmt::Debug for PreparedStatement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PreparedStatement")
            .field("declared", &self.declared)
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}

/// What a statement returns.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// The analysis did not look (nothing protected is named): judge fields by OID and envelope header only.
    Unknown,
    /// No rows.
    None,
    /// Exactly these columns.
    Fields(Vec<Field>),
    /// The rows of this cursor, which the session knows.
    Cursor(String),
    /// The words of EXPLAIN, which may quote sealed values and terms.
    Explained,
}

/// A relation's OID and a column's number in it, as RowDescription gives them.
pub type Attribute = (u32, i16);

/// One result column.
#[derive(Clone, Debug, PartialEq)]
pub enum Field {
    /// Not protected.
    Plain,
    /// Sealed values of these columns, shown in this type.
    Sealed {
        /// What the client sees (OID, size, typmod).
        shown: LogicalType,
        /// The one column that Postgres would report the field for, even where the rewritten statement hides it
        /// from the server (a GROUP BY column becomes an aggregate).
        origin: Option<Attribute>,
        /// Columns the value can have come from. Values name their own column; it must be of the logical type of one
        /// of these. Where that is not the shown type, the value is cast when it is shown (`types::cast`).
        columns: Vec<ColumnId>,
    },
    /// A value of another type that holds sealed values inside: an array, a row or a document.
    Holder(Shape),
}

/// What a value that holds sealed values is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// Nothing protected: kept byte for byte.
    Plain,
    /// A sealed value.
    Sealed {
        /// What the client sees.
        shown: LogicalType,
        /// Columns it can have come from.
        columns: Vec<ColumnId>,
    },
    /// An array, of one or several dimensions.
    Array {
        /// What each element is; sealed, or a holder itself.
        element: Box<Shape>,
        /// The array has the modifiers of its elements' type.
        modified: bool,
    },
    /// A composite value of exactly these fields.
    Row(Vec<Shape>),
    /// The same, of which the client sees the text that is made of its fields.
    Text {
        /// Texts, sealed or not.
        fields: Vec<Shape>,
        /// What is made of them: its parameters are the fields.
        expression: TextExpression,
        /// `text` or `varchar`.
        shown: LogicalType,
    },
    /// An array of texts, of which the client sees one text: those that are not NULL, with this between them.
    Listed {
        /// What each is.
        element: Box<Shape>,
        /// A literal.
        between: TextExpression,
    },
    /// A `json` or `jsonb` document. A string in it that is a whole sealed value of one of the columns is one.
    Json {
        /// Columns that sealed values in it can have come from.
        columns: Vec<ColumnId>,
        /// Those columns' types.
        types: Vec<LogicalType>,
        /// Its type is `jsonb`.
        jsonb: bool,
        /// How its values are written.
        rendering: Rendering,
    },
}

/// Whose way of writing values a document follows: `to_json` and `to_jsonb` differ for numbers with exponents
/// and for values of type `json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rendering {
    /// As `to_json` does.
    Json,
    /// As `to_jsonb` does.
    Jsonb,
}

impl Plan {
    /// Whether the text holds slots that no parameter can carry: the arguments of EXECUTE must be literals.
    pub fn has_literal_slots(&self) -> bool {
        let carried = |slot: usize| self.server_params.contains(&ServerParam::Slot(slot));
        (0..self.slots.len()).any(|slot| !carried(slot))
    }

    /// Whether the text needs no change at all.
    pub fn is_identity(&self) -> bool {
        self.edits.is_empty()
            && self.slots.is_empty()
            && self.statements.iter().all(|s| s.refused.is_none())
    }
}
