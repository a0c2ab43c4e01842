//! Seals and opens the values of one table's columns with the keys of each row's scope. Reads and writes no rows.

use std::collections::HashSet;

use pgveil_config::ScopePath;
use pgveil_keys::{
    KeyError, Keys, Wanted, nonce,
    sealed::{self, Envelope, Terms},
};
use pgveil_policy::{
    ruleset::RegisteredColumn,
    template::{ScopeTemplate, TemplatePart, encode},
    types::{Conversion, Converted, FormatSettings, LogicalType, Value, convert},
};
use zeroize::Zeroizing;

use crate::{
    JobError,
    plan::{ColumnPlan, TablePlan},
    terms,
};

/// Why one row cannot be converted; the row is named by whoever reads it. Holds no value.
#[derive(Debug)]
pub(crate) enum RowProblem {
    /// A value that the logical type cannot hold.
    DoesNotFit {
        column: String,
        logical: LogicalType,
        sqlstate: &'static str,
    },
    /// A scope column is NULL or empty, or of a type that has no scope text.
    NoScope { column: String },
    /// The template reads a session setting, and there is no session.
    NeedsSession { setting: String },
    /// A value that was sealed for another column.
    OfAnother { column: String },
    /// A value that is no envelope, or does not open.
    Damaged { column: String },
    /// A key cannot be had, or a value does not open.
    Job(JobError),
}

impl RowProblem {
    /// The error about one row of a table. Names the row; never its values.
    pub(crate) fn of(self, table: &str, row: &str) -> JobError {
        let (table, row) = (table.to_owned(), row.to_owned());
        match self {
            Self::Job(error) => error,
            Self::DoesNotFit {
                column,
                logical,
                sqlstate,
            } => JobError::DoesNotFit {
                table,
                row,
                column,
                logical: logical.sql_name(),
                sqlstate,
            },
            Self::NoScope { column } => JobError::NoScope { table, row, column },
            Self::NeedsSession { setting } => JobError::NeedsSession { table, setting },
            Self::OfAnother { column } => JobError::ValueOfAnother { table, row, column },
            Self::Damaged { column } => JobError::ValueDamaged { table, row, column },
        }
    }
}

impl<E: Into<JobError>> From<E> for RowProblem {
    fn from(error: E) -> Self {
        Self::Job(error.into())
    }
}

/// What it takes to seal this table's values.
pub(crate) struct Sealing<'a> {
    keys: &'a Keys,
    table: &'a TablePlan,
    /// With what the registry says of each.
    columns: Vec<(&'a ColumnPlan, RegisteredColumn)>,
    settings: FormatSettings,
}

impl<'a> Sealing<'a> {
    /// `registered` are those of `table.columns`, in the same order.
    pub(crate) fn new(
        keys: &'a Keys,
        table: &'a TablePlan,
        registered: Vec<RegisteredColumn>,
    ) -> Self {
        let columns = table.columns.iter().zip(registered).collect();
        Self {
            keys,
            table,
            columns,
            settings: FormatSettings::default(),
        }
    }

    /// A row's scope from its scope columns' values, which stand in the order of `table.scope.columns()`.
    pub(crate) fn scope(
        &self,
        row: &[Option<(LogicalType, Value)>],
    ) -> Result<ScopePath, RowProblem> {
        row_scope(&self.table.scope, row)
    }

    /// Has the keys of these rows' values together, if any of them is not in memory. What fails, fails again at its row.
    pub(crate) async fn ready(&self, scopes: HashSet<ScopePath>) {
        let mut wanted = HashSet::new();
        for scope in scopes {
            for (column, registered) in &self.columns {
                if column.equality {
                    wanted.extend(terms::wanted_of_new(registered, &scope));
                }
            }
            wanted.insert(Wanted::Sealing(scope));
        }
        self.keys.ready(wanted).await;
    }

    /// Seals a row's values; NULL stays NULL. `values` are send forms in the columns' present types.
    /// Gives the plaintexts too, as they were sealed, for the digest.
    pub(crate) async fn seal(
        &self,
        scope: &ScopePath,
        values: &[Option<&[u8]>],
    ) -> Result<Vec<Option<(Vec<u8>, Value)>>, RowProblem> {
        let mut sealed = Vec::with_capacity(values.len());
        for ((column, registered), bytes) in self.columns.iter().zip(values) {
            let Some(bytes) = bytes else {
                sealed.push(None);
                continue;
            };
            let value = self.fit(column, bytes)?;
            let data = match self.keys.cached_sealing_key(scope) {
                Some(key) => key,
                None => self.keys.sealing_key(scope).await?,
            };
            let terms = if column.equality {
                terms::of_new(self.keys, registered, column.to, scope, value.as_bytes()).await?
            } else {
                Terms::NONE
            };
            let mut out = Vec::new();
            sealed::seal(
                &data,
                registered.id,
                &terms,
                &nonce::next(),
                value.as_bytes(),
                &mut out,
            )
            .map_err(|_| {
                // The only one that seals with this lease found it not empty just now.
                RowProblem::Job(JobError::Key(KeyError::Busy {
                    scope: scope.to_string(),
                }))
            })?;
            sealed.push(Some((out, value)));
        }
        Ok(sealed)
    }

    /// Opens a row's values and checks that each belongs to its column and its row's scope.
    pub(crate) async fn open(
        &self,
        scope: &ScopePath,
        values: &[Option<&[u8]>],
    ) -> Result<Vec<Option<Zeroizing<Vec<u8>>>>, JobError> {
        let broken = || JobError::VerificationFailed {
            table: self.table.shown(),
        };
        let mut opened = Vec::with_capacity(values.len());
        for ((column, registered), bytes) in self.columns.iter().zip(values) {
            let Some(bytes) = bytes else {
                opened.push(None);
                continue;
            };
            let envelope = Envelope::parse(bytes).map_err(|_| broken())?;
            let key = match self.keys.cached_opening_key(envelope.dek) {
                Some(key) => key,
                None => self.keys.opening_key(envelope.dek).await?,
            };
            if envelope.column != registered.id
                || key.scope() != scope
                || envelope.terms.is_empty() == column.equality
            {
                return Err(broken());
            }
            let mut plain = Zeroizing::new(Vec::new());
            envelope.open(&key, &mut plain).map_err(|_| broken())?;
            opened.push(Some(plain));
        }
        Ok(opened)
    }

    /// Opens a row's values by what their headers name: the key of whatever scope, with or without a term. A value of another
    /// column may be one that fewer roles see: it is not opened.
    pub(crate) async fn open_by_header(
        &self,
        values: &[Option<&[u8]>],
    ) -> Result<Vec<Option<Zeroizing<Vec<u8>>>>, RowProblem> {
        let mut opened = Vec::with_capacity(values.len());
        for ((column, registered), bytes) in self.columns.iter().zip(values) {
            let Some(bytes) = bytes else {
                opened.push(None);
                continue;
            };
            let damaged = || RowProblem::Damaged {
                column: column.name.clone(),
            };
            let envelope = Envelope::parse(bytes).map_err(|_| damaged())?;
            if envelope.column != registered.id {
                let column = column.name.clone();
                return Err(RowProblem::OfAnother { column });
            }
            let key = match self.keys.cached_opening_key(envelope.dek) {
                Some(key) => key,
                None => self.keys.opening_key(envelope.dek).await?,
            };
            let mut plain = Zeroizing::new(Vec::new());
            envelope.open(&key, &mut plain).map_err(|_| damaged())?;
            opened.push(Some(plain));
        }
        Ok(opened)
    }

    /// The value in the logical type, if it means the same there.
    pub(crate) fn fit(&self, column: &ColumnPlan, bytes: &[u8]) -> Result<Value, RowProblem> {
        let misfit = |sqlstate| RowProblem::DoesNotFit {
            column: column.name.clone(),
            logical: column.to,
            sqlstate,
        };
        // Read without modifiers: what is stored met the old ones, the new ones are applied by the conversion.
        let plain = column.from.without_modifiers();
        let value = plain
            .recv(bytes, &self.settings)
            .map_err(|error| misfit(error.sqlstate))?;
        let converted = convert(
            &value,
            column.from,
            column.to,
            Conversion::Assignment,
            &self.settings,
        );
        match converted.map_err(|error| misfit(error.sqlstate))? {
            Converted::Value(converted) if self.same(column, &value, &converted) => Ok(converted),
            Converted::Value(_) | Converted::NeverEqual => Err(misfit("22000")),
        }
    }

    /// A value of the logical type in the type of the plaintext column, in its binary form.
    pub(crate) fn restore(&self, column: &ColumnPlan, bytes: &[u8]) -> Result<Vec<u8>, JobError> {
        let (value, to) = self.restored(column, bytes)?;
        let mut out = Vec::new();
        let sent = to.send(value.as_bytes(), &mut out);
        sent.map(|()| out).map_err(|_| self.broken())
    }

    /// The same in its text form.
    pub(crate) fn restore_text(
        &self,
        column: &ColumnPlan,
        bytes: &[u8],
    ) -> Result<Vec<u8>, JobError> {
        let (value, to) = self.restored(column, bytes)?;
        let mut out = Vec::new();
        let shown = to.output(value.as_bytes(), &self.settings, &mut out);
        shown.map(|()| out).map_err(|_| self.broken())
    }

    fn restored(
        &self,
        column: &ColumnPlan,
        bytes: &[u8],
    ) -> Result<(Value, LogicalType), JobError> {
        let value = Value::from_send_form(bytes.to_vec());
        let (to, assigned) = (column.from.without_modifiers(), Conversion::Assignment);
        match convert(&value, column.to, to, assigned, &self.settings) {
            Ok(Converted::Value(value)) => Ok((value, to)),
            Ok(Converted::NeverEqual) | Err(_) => Err(self.broken()),
        }
    }

    fn broken(&self) -> JobError {
        JobError::VerificationFailed {
            table: self.table.shown(),
        }
    }

    /// An assignment may round, and may cut blanks off: silently, in Postgres. Here that is a refusal.
    fn same(&self, column: &ColumnPlan, before: &Value, after: &Value) -> bool {
        if let LogicalType::Numeric(_) = column.to {
            let numeric = LogicalType::Numeric(None);
            let from = column.from.without_modifiers();
            let before = convert(
                before,
                from,
                numeric,
                Conversion::Assignment,
                &self.settings,
            );
            return matches!(before, Ok(Converted::Value(before))
                if numeric.canonical(before.as_bytes()) == numeric.canonical(after.as_bytes()));
        }
        let widened = column.from.without_modifiers() != column.to.without_modifiers()
            && matches!(column.to, LogicalType::Int4 | LogicalType::Int8);
        widened || before == after
    }
}

/// A row's scope from its scope columns' values, which stand in the order of `template.columns()`.
pub(crate) fn row_scope(
    template: &ScopeTemplate,
    row: &[Option<(LogicalType, Value)>],
) -> Result<ScopePath, RowProblem> {
    let names = template.columns();
    let mut path = String::new();
    for part in &template.parts {
        match part {
            TemplatePart::Text(text) => path.push_str(text),
            TemplatePart::Session(name) => {
                return Err(RowProblem::NeedsSession {
                    setting: name.clone(),
                });
            }
            TemplatePart::Column(name) => {
                let value = names
                    .iter()
                    .position(|n| n == name)
                    .and_then(|at| row.get(at))
                    .and_then(Option::as_ref);
                let text = value
                    .and_then(|(logical, value)| logical.scope_text(value))
                    .filter(|t| !t.is_empty());
                path.push_str(&encode(&text.ok_or_else(|| RowProblem::NoScope {
                    column: name.clone(),
                })?));
            }
        }
    }
    ScopePath::parse(&path).map_err(|_| RowProblem::NoScope {
        column: template.to_string(),
    })
}
