//! What the policy wants of one column's sealed values: search terms, or none, or another length (docs/decisions/0068, 0118). Each
//! step is a description in the registry that all replicas follow; what was begun is found there, whoever began it.
//!
//! Terms that become others are the business of [`super::turn`].

mod indexes;

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture};
use pgveil_config::{ScopePath, Settings};
use pgveil_keys::{
    Keys, Keystore,
    audit::Operation,
    keystore::{JobRecord, Turner, registry::Registration},
    sealed::Terms,
};
use pgveil_policy::{
    plan::ColumnId,
    ruleset::{Change, Generation, RegisteredColumn},
    template::ScopeTemplate,
    types::{Conversion, Converted, FormatSettings, LogicalType, Value as ColumnValue, convert},
};
use serde_json::{Value, json};

use super::{
    At, Next, Remake, Rest, RowColumns, Trouble, damaged, places::Places,
    turn::columns::in_migration, value, warm,
};
use crate::{JobError, catalog, connect, sql, terms};

/// What a column's values are to be, as a job keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WantedColumn {
    pub(crate) id: ColumnId,
    /// `schema.table.column`, for people.
    pub(crate) shown: String,
    pub(crate) what: What,
    /// The scope that the policy gives the column's rows.
    pub(crate) scope: String,
    /// Columns whose values, where they stand in this one, have terms that match the wanted ones.
    pub(crate) matching: Vec<ColumnId>,
    /// Columns whose values, where they stand in this one, are shown to the same roles in the same way.
    pub(crate) alike: Vec<ColumnId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    AddTerms {
        shared_key: bool,
        equality_group: Option<String>,
    },
    DropTerms,
    /// To this type.
    Widen(String),
    /// To this type.
    Narrow(String),
}

impl What {
    fn name(&self) -> &'static str {
        match self {
            Self::AddTerms { .. } => "add terms",
            Self::DropTerms => "drop terms",
            Self::Widen(_) => "widen",
            Self::Narrow(_) => "narrow",
        }
    }
}

impl WantedColumn {
    /// For the job's target.
    pub(crate) fn to_json(&self) -> Value {
        let ids = |ids: &[ColumnId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
        let mut told = json!({
            "id": self.id.0, "shown": self.shown, "what": self.what.name(), "scope": self.scope,
            "matching": ids(&self.matching), "alike": ids(&self.alike),
        });
        match &self.what {
            What::AddTerms {
                shared_key,
                equality_group,
            } => {
                told["shared_key"] = json!(shared_key);
                told["equality_group"] = json!(equality_group);
            }
            What::DropTerms => {}
            What::Widen(to) | What::Narrow(to) => told["to"] = json!(to),
        }
        told
    }

    fn of(target: &Value) -> Result<Self, JobError> {
        let parsed = { target["columns"].get(0) }.and_then(Self::parse);
        parsed.ok_or_else(|| damaged("a column that is not described"))
    }

    fn parse(value: &Value) -> Option<Self> {
        let id = |value: &Value| Some(ColumnId(u32::try_from(value.as_u64()?).ok()?));
        let ids = |value: &Value| value.as_array()?.iter().map(id).collect::<Option<_>>();
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        Some(Self {
            id: id(&value["id"])?,
            shown: text("shown")?,
            what: match value["what"].as_str()? {
                "add terms" => What::AddTerms {
                    shared_key: value["shared_key"].as_bool()?,
                    equality_group: text("equality_group"),
                },
                "drop terms" => What::DropTerms,
                "widen" => What::Widen(text("to")?),
                "narrow" => What::Narrow(text("to")?),
                _ => return None,
            },
            scope: text("scope")?,
            matching: ids(&value["matching"])?,
            alike: ids(&value["alike"])?,
        })
    }
}

/// One change of one column.
#[derive(Debug)]
pub(super) struct ColumnChange {
    settings: Settings,
    keys: Arc<Keys>,
    keystore: Arc<Keystore>,
    job: u64,
    wanted: WantedColumn,
    registered: RegisteredColumn,
    logical: LogicalType,
    step: Step,
    /// How the column is described behind this step.
    next: RegisteredColumn,
    places: Places,
    scope: ScopeTemplate,
}

/// What has to be done before the next description.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing.
    Describe,
    /// Everybody goes by the present one.
    Heard,
    /// Every value bears the terms.
    Adding,
    /// No value bears any.
    Dropping,
    /// Every value fits the type.
    Looking(LogicalType),
    /// The column must be through with another change.
    Wait(String),
    /// There is no next one.
    Done,
}

impl ColumnChange {
    pub(super) async fn of(
        job: &JobRecord,
        keys: &Arc<Keys>,
        keystore: &Arc<Keystore>,
        settings: &Settings,
    ) -> Result<Self, JobError> {
        let wanted = WantedColumn::of(&job.target)?;
        let client = connect(settings).await?;
        let read = async {
            let registry = keystore.registry().await?;
            let catalog = catalog::read(&client, &registry).await?;
            Ok((catalog, registry.history(&*client).await?))
        };
        let read: Result<_, JobError> = read.await;
        client.close().await;
        let (catalog, history) = read?;
        let gone = || JobError::ColumnGone {
            column: wanted.shown.clone(),
        };
        let live = history.iter().filter(|past| !past.retired);
        let mut live = live.filter(|past| past.column.id == wanted.id);
        let registered = live.next().ok_or_else(gone)?.column.clone();
        let parse = |text: &str| catalog.parse_type(text).map_err(|_| gone());
        let logical = parse(&registered.logical_type)?;
        let (step, next) = match &wanted.what {
            What::AddTerms {
                shared_key,
                equality_group,
            } => {
                let joined = joined(&history, &registered, *shared_key, equality_group.as_ref());
                adding(&registered, &wanted, joined)
            }
            What::DropTerms => dropping(&registered),
            What::Widen(to) => widening(&registered, &parse(to)?.sql_name()),
            What::Narrow(to) => narrowing(&registered, parse(to)?),
        };
        let of_places = BTreeMap::from([(registered.id, &registered)]);
        let places = Places::of(&catalog, &of_places, &[]);
        let scope = ScopeTemplate::parse(&wanted.scope);
        Ok(Self {
            settings: settings.clone(),
            keys: Arc::clone(keys),
            keystore: Arc::clone(keystore),
            job: job.id,
            scope: scope.map_err(|_| damaged("a scope that is none"))?,
            wanted,
            logical,
            step,
            next,
            places,
            registered,
        })
    }

    async fn describe(&self, now: &RegisteredColumn) -> Result<Next, JobError> {
        let platform = ScopePath::platform();
        let turner = Turner {
            job: self.job,
            scope: &platform,
            operation: Operation::PolicyApply,
        };
        let described = self
            .keystore
            .describe_column(turner, &self.registered, now)
            .await?;
        Ok(if described {
            Next::Again
        } else {
            Next::Wait("the column's description was changed by somebody else".to_owned())
        })
    }

    /// Columns whose values are still being sealed for the first time are described by whoever does it.
    async fn migrated(&self) -> Result<Option<String>, JobError> {
        let client = connect(&self.settings).await?;
        let found = in_migration(&client, std::iter::once(&self.wanted.id)).await;
        client.close().await;
        found
    }

    async fn take_step(&self) -> Result<Next, JobError> {
        match &self.step {
            Step::Done => return Ok(Next::Complete),
            Step::Wait(why) => return Ok(Next::Wait(why.clone())),
            Step::Describe => {
                if let Some(table) = self.migrated().await? {
                    let why = format!("{table} is being migrated: see `pgveil apply --status`");
                    return Ok(Next::Wait(why));
                }
            }
            Step::Heard if self.wanted.what == What::DropTerms => {
                let first = indexes::drop(&self.settings, &self.registered).await?;
                if let Some(first) = first {
                    return Ok(Next::Wait(first));
                }
            }
            Step::Adding => {
                let (wanted, registered) = (&self.wanted, &self.registered);
                indexes::make(&self.settings, registered, wanted, &self.scope).await?;
            }
            Step::Heard | Step::Dropping | Step::Looking(_) => {}
        }
        self.describe(&self.next).await
    }

    /// Whose value it is from now on, where it stands in the column: whose policy it is shown under.
    fn column(&self, sealed_for: ColumnId) -> Result<ColumnId, Trouble> {
        match &self.step {
            Step::Adding if self.wanted.matching.contains(&sealed_for) => Ok(sealed_for),
            Step::Adding if self.wanted.alike.contains(&sealed_for) => Ok(self.wanted.id),
            Step::Adding => Err(Trouble::Faulty(
                "it is a value of another column, which is revealed to other roles or masked otherwise: \
                 write it through pgveil, as one of this column"
                    .to_owned(),
            )),
            _ => Ok(sealed_for),
        }
    }

    async fn remade(&self, row: &RowColumns, bytes: &[u8]) -> Result<Option<Vec<u8>>, Trouble> {
        let envelope = value::parse(bytes)?;
        let column = self.column(envelope.column)?;
        let (key, plain) = value::open(&self.keys, &envelope).await?;
        if let Step::Looking(to) = &self.step {
            return fits(&plain, self.logical, *to).map(|()| None);
        }
        // Where only sessions know it, it stays the one that the value was sealed for.
        let scope = value::row_scope(&self.scope, row)?;
        let scope = scope.as_ref().unwrap_or(key.scope());
        let terms = if self.step == Step::Adding {
            let described = terms::compared(&self.registered);
            let value = (self.wanted.id, self.logical);
            let made = terms::make(&self.keys, &described, value, scope, &plain).await;
            let (number, term) = made.map_err(value::trouble)?;
            Terms::one(number, term)
        } else {
            Terms::NONE
        };
        value::seal(&self.keys, scope, column, &terms, &plain)
            .await
            .map(Some)
    }
}

/// Whether a value is the same in a narrower type, byte for byte.
fn fits(plain: &[u8], from: LogicalType, to: LogicalType) -> Result<(), Trouble> {
    let value = ColumnValue::from_send_form(plain.to_vec());
    let settings = FormatSettings::default();
    let sqlstate = match convert(&value, from, to, Conversion::Assignment, &settings) {
        Ok(Converted::Value(same)) if same == value => return Ok(()),
        Ok(_) => "22000",
        Err(error) => error.sqlstate,
    };
    Err(Trouble::Faulty(format!(
        "it does not fit {} ({sqlstate})",
        to.sql_name()
    )))
}

/// The terms of its group, which a column gets; its own where there is no group, or nobody else in it. An error: they are on
/// their way to others.
fn joined(
    history: &[Registration],
    own: &RegisteredColumn,
    shared_key: bool,
    group: Option<&String>,
) -> Result<Generation, String> {
    let Some(group) = group else {
        return Ok(own.generation);
    };
    let others = history.iter().map(|past| &past.column).filter(|other| {
        other.id != own.id
            && other.equality_group.as_ref() == Some(group)
            && other.shared_key == shared_key
    });
    let Some(newest) = others.max_by_key(|other| (other.generation.number, other.id)) else {
        return Ok(own.generation);
    };
    if newest
        .change
        .as_ref()
        .and_then(Change::other_terms)
        .is_some()
    {
        return Err(format!(
            "the search terms of group {group:?}, which it is to join, are being made anew"
        ));
    }
    Ok(newest.generation)
}

/// New values get terms first; then those get one that have none; and only when none is left, they are compared.
fn adding(
    now: &RegisteredColumn,
    wanted: &WantedColumn,
    joined: Result<Generation, String>,
) -> (Step, RegisteredColumn) {
    let described = |change| {
        let mut next = with(now, change);
        if let What::AddTerms {
            shared_key,
            equality_group,
        } = &wanted.what
        {
            next.shared_key = *shared_key;
            next.equality_group.clone_from(equality_group);
            next.scope = Some(wanted.scope.clone());
        }
        next
    };
    match &now.change {
        None if now.equality => (Step::Done, now.clone()),
        // Writers have not stopped making terms yet.
        Some(Change::EndingTerms) => (Step::Describe, with(now, None)),
        None | Some(Change::DroppingTerms) => match joined {
            Err(why) => (Step::Wait(why), now.clone()),
            Ok(generation) => {
                let next = RegisteredColumn {
                    equality: false,
                    generation,
                    ..described(Some(Change::AddingTerms))
                };
                (Step::Describe, next)
            }
        },
        Some(Change::AddingTerms) => {
            let next = RegisteredColumn {
                equality: true,
                ..with(now, None)
            };
            (Step::Adding, next)
        }
        Some(_) => otherwise(now),
    }
}

/// Nobody compares terms any more; then nobody makes any; then they are taken out.
fn dropping(now: &RegisteredColumn) -> (Step, RegisteredColumn) {
    let dropping = || RegisteredColumn {
        equality: false,
        ..with(now, Some(Change::DroppingTerms))
    };
    match &now.change {
        None if !now.equality => (Step::Done, now.clone()),
        None => (Step::Describe, with(now, Some(Change::EndingTerms))),
        Some(Change::EndingTerms) => (Step::Heard, dropping()),
        Some(Change::AddingTerms) => (Step::Describe, dropping()),
        Some(Change::DroppingTerms) => (Step::Dropping, with(now, None)),
        Some(_) => otherwise(now),
    }
}

/// Everybody reads the wider type before anybody writes it.
fn widening(now: &RegisteredColumn, to: &str) -> (Step, RegisteredColumn) {
    let wide = RegisteredColumn {
        logical_type: to.to_owned(),
        ..with(now, None)
    };
    match &now.change {
        None if now.logical_type == to => (Step::Done, now.clone()),
        Some(Change::Widening(other)) if other == to => (Step::Heard, wide),
        // Every value fits the registered type at any time: a change to another one is given up with nothing to do.
        Some(Change::Widening(_) | Change::Narrowing(_)) if now.logical_type == to => {
            (Step::Describe, with(now, None))
        }
        None | Some(Change::Widening(_) | Change::Narrowing(_)) => {
            let widening = Change::Widening(to.to_owned());
            (Step::Describe, with(now, Some(widening)))
        }
        Some(_) => otherwise(now),
    }
}

/// Everybody writes the narrower type; then every value is looked at. If one does not fit, all is as before.
fn narrowing(now: &RegisteredColumn, to: LogicalType) -> (Step, RegisteredColumn) {
    let name = to.sql_name();
    match &now.change {
        Some(Change::Narrowing(other)) if *other == name => {
            let narrow = RegisteredColumn {
                logical_type: name,
                ..with(now, None)
            };
            (Step::Looking(to), narrow)
        }
        None if now.logical_type == name => (Step::Done, now.clone()),
        Some(Change::Widening(_) | Change::Narrowing(_)) if now.logical_type == name => {
            (Step::Describe, with(now, None))
        }
        None | Some(Change::Widening(_) | Change::Narrowing(_)) => {
            (Step::Describe, with(now, Some(Change::Narrowing(name))))
        }
        Some(_) => otherwise(now),
    }
}

fn otherwise(now: &RegisteredColumn) -> (Step, RegisteredColumn) {
    let why = "it is being changed otherwise: see `pgveil plan` and `pgveil jobs list`".to_owned();
    (Step::Wait(why), now.clone())
}

fn with(column: &RegisteredColumn, change: Option<Change>) -> RegisteredColumn {
    RegisteredColumn {
        change,
        ..column.clone()
    }
}

impl Remake for ColumnChange {
    fn wants(&self, at: At<'_>, value: &str) -> String {
        if self.places.column(at) != Some(self.wanted.id) {
            return "false".to_owned();
        }
        match &self.step {
            Step::Adding => {
                // A value that was moved here from another column has that one's term, if any.
                let ids = { self.wanted.matching.iter() }.map(|id| format!("'\\x{:08x}'", id.0));
                let ids: Vec<String> = ids.collect();
                let ids = ids.join(", ");
                let bears = sql::bears_only(value, self.registered.generation.number);
                format!("(NOT {bears} OR pg_catalog.substr({value}, 5, 4) NOT IN ({ids}))")
            }
            Step::Dropping => sql::bears_any(value),
            Step::Looking(_) => "true".to_owned(),
            Step::Describe | Step::Heard | Step::Wait(_) | Step::Done => "false".to_owned(),
        }
    }

    fn row_columns(&self, relation: u32) -> Vec<String> {
        let writes = matches!(self.step, Step::Adding | Step::Dropping);
        if !writes || self.places.of_relation(relation).next().is_none() {
            return Vec::new();
        }
        let names = self.scope.columns().into_iter();
        names.map(str::to_owned).collect()
    }

    fn prepare<'a>(&'a self, values: &'a [&'a [u8]]) -> BoxFuture<'a, ()> {
        warm(&self.keys, values)
    }

    fn remake<'a>(
        &'a self,
        _: At<'a>,
        row: &'a RowColumns,
        value: &'a [u8],
    ) -> BoxFuture<'a, Result<Option<Vec<u8>>, Trouble>> {
        self.remade(row, value).boxed()
    }

    fn begin(&self) -> BoxFuture<'_, Result<Option<String>, JobError>> {
        Box::pin(async { Ok(None) })
    }

    fn rests(&self) -> Rest {
        match self.step {
            Step::Describe | Step::Wait(_) | Step::Done => Rest::None,
            Step::Heard | Step::Adding | Step::Dropping | Step::Looking(_) => Rest::Registry,
        }
    }

    fn walks(&self) -> bool {
        matches!(self.step, Step::Adding | Step::Dropping | Step::Looking(_))
    }

    fn looks(&self) -> bool {
        matches!(self.step, Step::Looking(_))
    }

    fn advance(&self) -> BoxFuture<'_, Result<Next, JobError>> {
        self.take_step().boxed()
    }

    fn give_up(&self) -> BoxFuture<'_, Result<(), JobError>> {
        async {
            if self.looks() {
                self.describe(&with(&self.registered, None)).await?;
            }
            Ok(())
        }
        .boxed()
    }

    fn proof(&self) -> Value {
        json!({ "column": self.wanted.id.0, "name": self.wanted.shown, "change": self.wanted.what.name() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(equality: bool, change: Option<Change>) -> RegisteredColumn {
        RegisteredColumn {
            id: ColumnId(1),
            schema: "public".into(),
            table: "people".into(),
            column: "email".into(),
            logical_type: "character varying(5)".into(),
            equality,
            shared_key: false,
            equality_group: None,
            scope: None,
            generation: Generation::default(),
            place: (1, 2),
            shown: None,
            change,
            searched: false,
        }
    }

    fn wanted(what: What) -> WantedColumn {
        WantedColumn {
            id: ColumnId(1),
            shown: "public.people.email".into(),
            what,
            scope: "tenant:{tenant}".into(),
            matching: vec![ColumnId(1)],
            alike: vec![ColumnId(1), ColumnId(2)],
        }
    }

    fn varchar(length: u32) -> LogicalType {
        let catalog = pgveil_policy::catalog::Catalog::default();
        catalog.parse_type(&format!("varchar({length})")).unwrap()
    }

    /// Takes every step from a description, and answers what is done before each.
    fn walked(
        mut now: RegisteredColumn,
        step: impl Fn(&RegisteredColumn) -> (Step, RegisteredColumn),
    ) -> (Vec<Step>, RegisteredColumn) {
        let mut steps = Vec::new();
        loop {
            let (taken, next) = step(&now);
            if taken == Step::Done || matches!(taken, Step::Wait(_)) {
                return (steps, now);
            }
            steps.push(taken);
            now = next;
            assert!(steps.len() < 9, "{steps:?}");
        }
    }

    #[test]
    fn terms_are_added_from_wherever_the_column_stands() {
        let what = wanted(What::AddTerms {
            shared_key: true,
            equality_group: Some("mail".into()),
        });
        let joins = Generation {
            number: 7,
            newest_key: 3,
        };
        let step = |now: &RegisteredColumn| adding(now, &what, Ok(joins));
        for change in [None, Some(Change::DroppingTerms)] {
            let (steps, end) = walked(column(false, change), step);
            assert_eq!(steps, [Step::Describe, Step::Adding]);
            assert!(end.equality && end.shared_key && end.change.is_none());
            assert_eq!(end.equality_group.as_deref(), Some("mail"));
            assert_eq!(
                (end.scope.as_deref(), end.generation),
                (Some("tenant:{tenant}"), joins)
            );
        }
        let (steps, _) = walked(column(true, Some(Change::EndingTerms)), step);
        assert_eq!(steps, [Step::Describe]);
        let other = Some(Change::Widening("text".into()));
        assert!(matches!(step(&column(false, other)).0, Step::Wait(_)));
        let turning = Err("they turn".to_owned());
        let waits = adding(&column(false, None), &what, turning).0;
        assert_eq!(waits, Step::Wait("they turn".into()));
    }

    #[test]
    fn terms_are_not_taken_out_before_nobody_compares_them() {
        let (steps, end) = walked(column(true, None), dropping);
        assert_eq!(steps, [Step::Describe, Step::Heard, Step::Dropping]);
        assert_eq!(end, column(false, None));
        // They were never compared.
        let (steps, end) = walked(column(false, Some(Change::AddingTerms)), dropping);
        assert_eq!(steps, [Step::Describe, Step::Dropping]);
        assert_eq!(end, column(false, None));
    }

    #[test]
    fn a_type_is_changed_when_everybody_has_heard_or_every_value_was_seen() {
        let (steps, end) = walked(column(true, None), |now| {
            widening(now, "character varying(9)")
        });
        assert_eq!(steps, [Step::Describe, Step::Heard]);
        assert_eq!(end.logical_type, "character varying(9)");
        let narrow = |now: &RegisteredColumn| narrowing(now, varchar(3));
        for change in [None, Some(Change::Widening("text".into()))] {
            let (steps, end) = walked(column(true, change), narrow);
            assert_eq!(steps, [Step::Describe, Step::Looking(varchar(3))]);
            assert_eq!(end.logical_type, "character varying(3)");
        }
        // The policy wants what was there before.
        let begun = column(true, Some(Change::Narrowing("character varying(3)".into())));
        let (steps, end) = walked(begun, |now| widening(now, "character varying(5)"));
        assert_eq!((steps, end), (vec![Step::Describe], column(true, None)));
    }

    #[test]
    fn a_value_fits_a_narrower_type_if_it_stays_what_it_is() {
        assert_eq!(fits(b"abc", varchar(5), varchar(3)), Ok(()));
        let refused = fits(b"abcd", varchar(5), varchar(3));
        let why = "it does not fit character varying(3) (22001)";
        assert_eq!(refused, Err(Trouble::Faulty(why.into())));
        // The server cuts blanks off; then it is another value.
        assert!(fits(b"abc  ", varchar(5), varchar(3)).is_err());
    }

    #[test]
    fn what_a_job_keeps_is_read_back() {
        let group = Some("mail".to_owned());
        for what in [
            What::AddTerms {
                shared_key: true,
                equality_group: group,
            },
            What::DropTerms,
            What::Widen("text".into()),
            What::Narrow("character varying(3)".into()),
        ] {
            let wanted = wanted(what);
            let target = json!({ "columns": [wanted.to_json()] });
            assert_eq!(WantedColumn::of(&target).unwrap(), wanted);
        }
        for damaged in [json!({}), json!({ "columns": [{ "id": 1 }] })] {
            assert!(WantedColumn::of(&damaged).is_err());
        }
    }
}
