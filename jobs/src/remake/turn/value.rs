//! Which values a job gives other terms, and what becomes of one. Which step it is at is decided in [`super`].

use pgveil_config::ScopePath;
use pgveil_keys::sealed::{Envelope, Terms};
use pgveil_policy::{
    plan::ColumnId,
    ruleset::{Change, OtherTerms},
    template::ScopeTemplate,
};

use super::{
    super::{
        At, RowColumns, Trouble,
        value::{open, parse, row_scope, seal, trouble},
    },
    Step, Turned, Turning, columns,
};
use crate::{sql, terms};

/// What a value is to be.
struct Aim<'a> {
    column: &'a Turned,
    /// The column that it is sealed for from now on.
    id: ColumnId,
    /// It is one of another column until now, whose terms are made otherwise.
    is_foreign: bool,
}

impl Turning {
    /// A condition on the header of a value.
    pub(super) fn wanted(&self, at: At<'_>, value: &str) -> String {
        let right = match self.step {
            Step::Adding => sql::bears(value, self.number),
            Step::Clearing => sql::bears_only(value, self.number),
            Step::Keys | Step::Announced | Step::Compared | Step::Done => {
                return "false".to_owned();
            }
        };
        let is_of = |ids: Vec<ColumnId>| {
            let ids = ids
                .iter()
                .map(|id| format!("'\\x{:08x}'::pg_catalog.bytea", id.0));
            let ids: Vec<String> = ids.collect();
            if ids.is_empty() {
                return "false".to_owned();
            }
            format!("pg_catalog.substr({value}, 5, 4) IN ({})", ids.join(", "))
        };
        // A value without any term is none of those that are compared: its column had none when it was sealed.
        let bears = sql::bears_any(value);
        let place = self.places.as_ref().and_then(|places| places.column(at));
        if let Some(column) = place.and_then(|id| self.columns.get(&id)) {
            let own = is_of(self.matching(column));
            return format!("{bears} AND NOT ({right} AND {own})");
        }
        if place.is_some_and(|id| self.others.get(&id).is_some_and(compares)) {
            let all = is_of(self.columns.keys().copied().collect());
            return format!("{bears} AND {all}");
        }
        // Of a copy it is not known what row it is of.
        let known = { self.columns.iter() }.filter(|(_, column)| !self.needs_row(column));
        let known = is_of(known.map(|(id, _)| *id).collect());
        format!("{known} AND {bears} AND NOT {right}")
    }

    /// What a scope is taken from, in the rows of a table.
    pub(super) fn scope_columns(&self, relation: u32) -> Vec<String> {
        let Some(places) = &self.places else {
            return Vec::new();
        };
        let mut names: Vec<String> = Vec::new();
        for id in places.of_relation(relation) {
            let column = self.columns.get(&id);
            let column = column.filter(|column| self.needs_row(column));
            let template = column.and_then(|column| template(&column.new));
            for name in template.iter().flat_map(ScopeTemplate::columns) {
                if !names.iter().any(|known| known == name) {
                    names.push(name.to_owned());
                }
            }
        }
        names.sort();
        names
    }

    /// The columns whose values have, in the place of this one, terms as its own will be.
    fn matching(&self, column: &Turned) -> Vec<ColumnId> {
        let own = column.registered.id;
        let matches = |(id, other): &(&ColumnId, &Turned)| {
            let alike = columns::made_alike(&column.new, &other.new);
            **id == own || column.new.equality_group.is_some() && alike
        };
        let matching = self.columns.iter().filter(matches);
        matching.map(|(id, _)| *id).collect()
    }

    fn needs_row(&self, column: &Turned) -> bool {
        self.places.is_some() && column.is_by_row()
    }

    /// `None`: it is none of those that the job is about.
    fn aim(&self, at: At<'_>, id: ColumnId) -> Result<Option<Aim<'_>>, Trouble> {
        let of_itself = || {
            let column = self.columns.get(&id);
            let column = column.filter(|column| !self.needs_row(column));
            Ok(column.map(|column| Aim {
                column,
                id,
                is_foreign: false,
            }))
        };
        let Some(places) = &self.places else {
            return of_itself();
        };
        let place = places.column(at);
        let column = match place {
            Some(place) if self.columns.contains_key(&place) => &self.columns[&place],
            Some(place) => match self.others.get(&place).filter(|other| compares(other)) {
                Some(other) if self.columns.contains_key(&id) => other,
                Some(_) => return Ok(None),
                None => return of_itself(),
            },
            None => return of_itself(),
        };
        let own = column.registered.id;
        if self.matching(column).contains(&id) {
            return Ok(Some(Aim {
                column,
                id,
                is_foreign: false,
            }));
        }
        if !places.are_alike(own, id) {
            let from = { self.columns.get(&id) }.or_else(|| self.others.get(&id));
            let from = from.map(|from| columns::shown(&from.registered));
            return Err(Trouble::Faulty(format!(
                "it was moved here from {}, whose values are shown otherwise: write it through pgveil, as one of this column",
                from.as_deref().unwrap_or("a column that is not known")
            )));
        }
        Ok(Some(Aim {
            column,
            id: own,
            is_foreign: true,
        }))
    }

    pub(super) async fn resealed(
        &self,
        at: At<'_>,
        row: &RowColumns,
        value: &[u8],
    ) -> Result<Option<Vec<u8>>, Trouble> {
        let faulty = |why: &dyn ToString| Trouble::Faulty(why.to_string());
        let envelope = parse(value)?;
        let Some(aim) = self.aim(at, envelope.column)? else {
            return Ok(None);
        };
        let (key, plain) = open(&self.keys, &envelope).await?;
        let of_row = if self.needs_row(aim.column) {
            scope_of(aim.column, row)?
        } else {
            None
        };
        let scope = of_row.unwrap_or_else(|| key.scope().clone());
        let terms = self.terms(&aim, &envelope, key.scope(), &scope, &plain);
        let terms = terms.await?;
        // A term that is another than its key makes: equal values would become different, or different ones equal.
        let differs = terms.numbers().any(|number| {
            let bears = envelope.terms.get(number);
            let is_judged = !aim.is_foreign || number != self.number;
            is_judged && bears.is_some() && bears != terms.get(number)
        });
        if differs {
            return Err(faulty(
                &"its search term is not the one that its scope's index key makes",
            ));
        }
        let same = terms == envelope.terms && aim.id == envelope.column && scope == *key.scope();
        if same {
            return Ok(None);
        }
        seal(&self.keys, &scope, aim.id, &terms, &plain)
            .await
            .map(Some)
    }

    /// What a value bears after this step. `sealed`: the scope that it is sealed for; `scope`: that of its row.
    async fn terms(
        &self,
        aim: &Aim<'_>,
        envelope: &Envelope<'_>,
        sealed: &ScopePath,
        scope: &ScopePath,
        plain: &[u8],
    ) -> Result<Terms, Trouble> {
        let column = aim.column;
        let compared = terms::compared(&column.registered);
        let value = (column.registered.id, column.logical);
        let make = async |described: &OtherTerms, scope: &ScopePath| {
            let made = terms::make(&self.keys, described, value, scope, plain).await;
            made.map_err(trouble)
        };
        let number = compared.generation.number;
        // Once it has the new terms, it is sealed for the new scope, of which the former terms are not.
        let kept = { self.step == Step::Adding && self.needs_row(column) }
            && envelope.terms.get(self.number).is_some();
        let first = match envelope.terms.get(number) {
            Some(term) if kept && !compared.shared_key => (number, *term),
            _ => make(&compared, sealed).await?,
        };
        let other = column.registered.change.as_ref();
        match (self.step, other.and_then(Change::other_terms)) {
            (Step::Adding, Some(other)) if self.columns.contains_key(&column.registered.id) => {
                Ok(Terms::two(first, make(other, scope).await?))
            }
            _ => Ok(Terms::one(first.0, first.1)),
        }
    }
}

/// Whether its values bear terms.
fn compares(column: &Turned) -> bool {
    let ends = matches!(column.registered.change, Some(Change::DroppingTerms));
    column.registered.equality && !ends || column.registered.change == Some(Change::AddingTerms)
}

fn template(terms: &OtherTerms) -> Option<ScopeTemplate> {
    let text = terms.scope.as_deref()?;
    ScopeTemplate::parse(text).ok()
}

/// The scope that a row is in from now on; `None` where only sessions know it.
fn scope_of(column: &Turned, row: &RowColumns) -> Result<Option<ScopePath>, Trouble> {
    template(&column.new).map_or(Ok(None), |template| row_scope(&template, row))
}
