//! Functions in FROM that read nothing protected: which columns their rows have, as far as the catalog or the statement says.
//! What they compute is plain, and not looked at.

use sqlparser::ast::{ObjectName, TableAlias};

use super::{
    Analyser,
    kind::Kind,
    namespace::{Column, Entry, Namespace, name_of},
    query::Rows,
    relation::idents_of,
    routine::Returned,
};
use crate::{
    Refusal,
    catalog::{self, Columns, Function},
    types::LogicalType,
};

/// Schemas of which the catalog knows functions by their names only.
const SYSTEM: [&str; 3] = ["pg_catalog", "information_schema", "pgveil"];

impl Analyser<'_> {
    /// A call as a member of FROM. `last`: the last part of its name.
    pub(super) fn called(
        &mut self,
        name: &ObjectName,
        last: String,
        alias: Option<&TableAlias>,
        ordinality: bool,
    ) -> Result<Namespace, Refusal> {
        if let Some(alias) = alias.filter(|_| !ordinality)
            && !alias.columns.is_empty()
            && alias
                .columns
                .iter()
                .all(|column| column.data_type.is_some())
        {
            return self.defined_rows(alias);
        }
        let Some(columns) = self.columns_of_call(name, &last) else {
            return self.function_rows(alias, Some(last));
        };
        let plain = |name: String| Column {
            name: Some(name),
            kind: Kind::Plain(None),
        };
        let mut columns: Vec<Column> = columns.into_iter().map(plain).collect();
        if columns.is_empty() {
            let named = alias.map_or_else(|| last.clone(), |alias| name_of(&alias.name));
            columns.push(plain(named));
        }
        if ordinality {
            columns.push(plain("ordinality".to_owned()));
        }
        let rows = Rows {
            columns,
            ..Rows::default()
        };
        self.derived(rows, alias, Some(last))
    }

    /// `f() AS t(a int, b text)`: what the statement says is all.
    fn defined_rows(&mut self, alias: &TableAlias) -> Result<Namespace, Refusal> {
        self.account(&alias.name);
        let mut columns = Vec::new();
        for column in &alias.columns {
            self.account(&column.name);
            if let Some(at) = self.tokens.starting(column.name.span.start) {
                self.account_tokens(at + 1..self.type_end(at + 1));
            }
            columns.push(Column {
                name: Some(name_of(&column.name)),
                kind: Kind::Plain(None),
            });
        }
        Ok(Namespace::of(Entry {
            id: self.next_entry(),
            name: Some(name_of(&alias.name)),
            schema: None,
            columns,
            open: false,
            table: false,
            reshaped: false,
        }))
    }

    /// What all functions yield that the call can mean. `None`: that is not known.
    fn columns_of_call(&self, name: &ObjectName, last: &str) -> Columns {
        let idents = idents_of(name).ok()?;
        let parts: Vec<String> = idents.iter().map(|ident| name_of(ident)).collect();
        let schema = match parts.as_slice() {
            [_] => None,
            [schema, _] => Some(schema.as_str()),
            _ => return None,
        };
        let catalog = &self.rules.catalog;
        let system = catalog.system_functions.get(last);
        let system = system.filter(|_| schema.is_none_or(|schema| SYSTEM.contains(&schema)));
        let own = catalog.functions.iter().filter(|function| {
            function.kind == 'f'
                && function.name == last
                && schema.is_none_or(|schema| function.schema == schema)
        });
        let mut found = system.cloned();
        for function in own {
            let columns = self.columns_of_rows(function);
            match &found {
                Some(found) if *found != columns => return None,
                _ => found = Some(columns),
            }
        }
        found?
    }

    fn columns_of_rows(&self, function: &Function) -> Columns {
        match Returned::of(self.rules, self.view, function)? {
            Returned::Nothing => Some(Vec::new()),
            Returned::Value(value) if self.is_one_value(&value) => {
                let named = Some(value.name).filter(|name| !name.is_empty());
                Some(named.into_iter().collect())
            }
            Returned::Value(_) => None,
            Returned::Row { columns, .. } => {
                let named = columns.into_iter().map(|column| {
                    let known = column.sealed_domain().is_none() && !column.name.is_empty();
                    known.then_some(column.name)
                });
                named.collect()
            }
        }
    }

    /// Whether a value of the type is neither a row nor what the call's arguments make of it.
    fn is_one_value(&self, column: &catalog::Column) -> bool {
        let polymorphic = column.type_name.starts_with("any");
        let mut types = self.rules.catalog.types.iter();
        let oid = column.base_type_oid;
        column.sealed_domain().is_none()
            && !polymorphic
            && (LogicalType::from_oid(oid, -1).is_some()
                || types.any(|found| found.oid == oid || found.array_oid == oid))
    }
}
