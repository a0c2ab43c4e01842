//! An index as it is, and what it becomes. Reads nothing but its own row of `indexes.sql`.

use std::collections::BTreeMap;

use pgveil_policy::catalog::term_key;
use tokio_postgres::Row;

use super::{IndexStep, OnlineIndex, Wanted};
use crate::{
    migrate::names,
    plan::{ColumnPlan, Obstacle, TablePlan, is_null_test, number::Numbers},
    sql,
};

/// An index as it is.
pub(super) struct Index {
    name: String,
    method: String,
    valid: bool,
    unique: bool,
    primary: bool,
    exclusion: bool,
    replica_identity: bool,
    nulls_not_distinct: bool,
    constraint: Option<String>,
    deferrable: bool,
    predicate: Option<String>,
    predicate_columns: Vec<i16>,
    expression_columns: Vec<i16>,
    options: Vec<String>,
    tablespace: Option<String>,
    included: Vec<String>,
    /// Attribute number (0: expression), text, collation / operator class / order.
    keys: Vec<(i16, String, String)>,
}

impl Index {
    pub(super) fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let attnums: Vec<i16> = row.try_get("key_columns")?;
        let texts: Vec<String> = row.try_get("key_texts")?;
        let modifiers: Vec<String> = row.try_get("key_modifiers")?;
        Ok(Self {
            name: row.try_get("name")?,
            method: row.try_get("method")?,
            valid: row.try_get("indisvalid")?,
            unique: row.try_get("indisunique")?,
            primary: row.try_get("indisprimary")?,
            exclusion: row.try_get("indisexclusion")?,
            replica_identity: row.try_get("indisreplident")?,
            nulls_not_distinct: row.try_get("nulls_not_distinct")?,
            constraint: row.try_get("constraint_name")?,
            deferrable: row.try_get("deferrable")?,
            predicate: row.try_get("predicate")?,
            predicate_columns: row.try_get("predicate_columns")?,
            expression_columns: row.try_get("expression_columns")?,
            options: row.try_get("options")?,
            tablespace: row.try_get("tablespace")?,
            included: row.try_get("included")?,
            keys: attnums
                .into_iter()
                .zip(texts)
                .zip(modifiers)
                .map(|((a, t), m)| (a, sql::index_key(t), m))
                .collect(),
        })
    }

    fn key_columns<'a>(
        &'a self,
        sealing: &'a BTreeMap<i16, ColumnPlan>,
    ) -> impl Iterator<Item = &'a ColumnPlan> + 'a {
        self.keys
            .iter()
            .filter_map(|(attnum, ..)| sealing.get(attnum))
    }

    pub(super) fn has_key_of(&self, sealing: &BTreeMap<i16, ColumnPlan>) -> bool {
        self.key_columns(sealing).next().is_some()
    }

    /// Primary keys, unique indexes on expressions, and unique indexes on columns without equality search are findings
    /// of the ruleset, and are not said twice.
    pub(super) fn is_refused_by_the_policy(&self, sealing: &BTreeMap<i16, ColumnPlan>) -> bool {
        let blind = || self.key_columns(sealing).any(|c| !c.equality);
        let computed = || {
            self.expression_columns
                .iter()
                .any(|a| sealing.contains_key(a))
        };
        (self.primary && self.has_key_of(sealing)) || (self.unique && (blind() || computed()))
    }

    /// One of those that pgveil makes beside a column while it is migrated online.
    pub(super) fn is_of_a_migration(&self) -> bool {
        names::is_own(&self.name)
    }

    /// Why it cannot be carried over while the table is written to.
    pub(super) fn only_at_once(&self, sealing: &BTreeMap<i16, ColumnPlan>) -> Option<String> {
        let name = sql::shown(&self.name);
        let reads = |columns: &[i16]| columns.iter().any(|column| sealing.contains_key(column));
        let includes = |column: &&ColumnPlan| {
            let quoted = sql::quoted(&column.name);
            { self.included.iter() }.any(|other| *other == column.name || *other == quoted)
        };
        if sealing.values().any(|column| includes(&column)) || reads(&self.predicate_columns) {
            return Some(format!(
                "index {name} has a column to seal in its INCLUDE or WHERE"
            ));
        }
        let nulls = self.nulls_not_distinct && self.has_key_of(sealing);
        nulls.then(|| format!("index {name} is UNIQUE NULLS NOT DISTINCT"))
    }

    /// What keeps this index from being carried over. Attribute number 0 in an expression is the whole row.
    pub(super) fn obstacles(
        &self,
        table: &TablePlan,
        sealing: &BTreeMap<i16, ColumnPlan>,
    ) -> Vec<Obstacle> {
        let among = |columns: &[i16]| {
            columns
                .iter()
                .find_map(|a| sealing.get(a))
                .map(|c| c.name.clone())
        };
        let whole_row = |columns: &[i16]| columns.contains(&0).then(|| "the whole row".to_owned());
        let read_by = |columns: &[i16]| among(columns).or_else(|| whole_row(columns));
        let drop = format!("{};", self.drop_sql(table));
        let key = self.key_columns(sealing).next().map(|c| c.name.clone());
        let name = sql::shown(&self.name);
        let mut found = Vec::new();
        let mut blocks = |what: String, cure: String| {
            found.push(Obstacle {
                blocks: true,
                what,
                cure,
            });
        };

        if let Some(column) = read_by(&self.expression_columns) {
            blocks(
                format!("index {name} is on an expression over {column}"),
                drop.clone(),
            );
        }
        if let Some(column) =
            read_by(&self.predicate_columns).filter(|_| !self.predicate_survives(sealing))
        {
            blocks(
                format!("partial index {name} has a condition on {column}"),
                drop.clone(),
            );
        }
        let Some(column) = key else { return found };
        if self.exclusion {
            blocks(
                format!("exclusion constraint {name} compares {column}"),
                drop,
            );
        } else if self.unique && !self.valid {
            let path = sql::qualified(&table.schema, &self.name);
            let cure = format!("REINDEX INDEX CONCURRENTLY {path};  -- or drop it");
            let what = format!(
                "unique index {name} on {column} is not valid: there may be values that are not unique"
            );
            blocks(what, cure);
        } else if self.replica_identity {
            let cure = format!("ALTER TABLE {} REPLICA IDENTITY DEFAULT;", table.shown());
            blocks(
                format!("index {name} on {column} is the table's replica identity"),
                cure,
            );
        } else if self.deferrable {
            let cure =
                "make the constraint NOT DEFERRABLE: an index on search terms cannot be deferred"
                    .to_owned();
            blocks(format!("constraint {name} on {column} is deferrable"), cure);
        } else if !matches!(self.method.as_str(), "btree" | "hash") {
            blocks(format!("{} index {name} is on {column}", self.method), drop);
        }
        found
    }

    /// `(email IS NOT NULL)` means the same on sealed values: NULL stays NULL.
    fn predicate_survives(&self, sealing: &BTreeMap<i16, ColumnPlan>) -> bool {
        let predicate = self.predicate.as_deref().unwrap_or_default();
        sealing.values().any(|c| is_null_test(predicate, &c.name))
    }

    fn drop_sql(&self, table: &TablePlan) -> String {
        match &self.constraint {
            Some(name) => format!(
                "ALTER TABLE {} DROP CONSTRAINT {}",
                table.quoted(),
                sql::quoted(name)
            ),
            None => format!("DROP INDEX {}", sql::qualified(&table.schema, &self.name)),
        }
    }

    /// The same index over search terms; none if a key has no terms to search.
    pub(super) fn replacement(
        &self,
        table: &TablePlan,
        sealing: &BTreeMap<i16, ColumnPlan>,
        numbers: &Numbers,
    ) -> IndexStep {
        if let Some(blind) = self.key_columns(sealing).find(|c| !c.equality) {
            let summary = format!("goes: {} has no equality search", blind.name);
            return IndexStep {
                name: self.name.clone(),
                drop: Some(self.drop_sql(table)),
                create: None,
                online: None,
                summary,
            };
        }
        let (mut keys, mut shadows, mut shown) = (Vec::new(), Vec::new(), Vec::new());
        for (attnum, text, modifiers) in &self.keys {
            match sealing.get(attnum) {
                Some(column) => {
                    let number = numbers.of(table, &column.name, None);
                    let term = |column: &str| sql::eq_term(number, &sql::quoted(column));
                    keys.push(term(&column.name));
                    shadows.push(term(&names::shadow(&column.name)));
                    shown.push(sql::eq_term(number, &sql::shown(&column.name)));
                }
                None => {
                    keys.push(format!("{text}{modifiers}"));
                    shadows.push(format!("{text}{modifiers}"));
                    shown.push(text.clone());
                }
            }
        }
        let unique = if self.unique { "UNIQUE " } else { "" };
        let rest = |keys: &[String]| {
            let keys = keys.join(", ");
            format!("USING {} ({keys}){}", self.method, self.tail())
        };
        let create = format!(
            "CREATE {unique}INDEX {} ON {} {}",
            sql::quoted(&self.name),
            table.quoted(),
            rest(&keys)
        );
        let online = OnlineIndex {
            unique: self.unique,
            rest: rest(&shadows),
        };
        let summary = format!("{unique}({}){}", shown.join(", "), self.tail());
        IndexStep {
            name: self.name.clone(),
            drop: Some(self.drop_sql(table)),
            create: Some(create),
            online: Some(online),
            summary,
        }
    }

    /// The same index over the values of columns that are decrypted; none if it has nothing to do with them. `names` are their
    /// attribute numbers and names.
    pub(super) fn opened(
        &self,
        table: &TablePlan,
        names: &[(i16, String)],
    ) -> Result<Option<IndexStep>, Obstacle> {
        let of_term = |text: &str| {
            let (_, of) = term_key(text)?;
            let mut names = names.iter().map(|(_, name)| name);
            names.find(|name| of == sql::quoted(name) || of == sql::shown(name))
        };
        let (mut keys, mut shown, mut is_ours) = (Vec::new(), Vec::new(), false);
        for (attnum, text, modifiers) in &self.keys {
            if let Some(name) = of_term(text) {
                is_ours = true;
                keys.push(sql::quoted(&names::kept(name)));
                shown.push(sql::shown(name));
                continue;
            }
            let reads = { names.iter() }
                .find(|(own, name)| own == attnum || *attnum == 0 && sql::mentions(text, name));
            if let Some((_, name)) = reads {
                return Err(self.in_the_way(table, name));
            }
            keys.push(format!("{text}{modifiers}"));
            shown.push(text.clone());
        }
        for (attnum, name) in names {
            let quoted = sql::quoted(name);
            let included = { self.included.iter() }.any(|other| other == name || *other == quoted);
            if included || self.predicate_columns.contains(attnum) {
                return Err(self.in_the_way(table, name));
            }
        }
        if !is_ours {
            return Ok(None);
        }
        let unique = if self.unique { "UNIQUE " } else { "" };
        let rest = format!("USING {} ({}){}", self.method, keys.join(", "), self.tail());
        Ok(Some(IndexStep {
            name: self.name.clone(),
            drop: None,
            create: None,
            online: Some(OnlineIndex {
                unique: self.unique,
                rest,
            }),
            summary: format!("{unique}({}){}", shown.join(", "), self.tail()),
        }))
    }

    fn in_the_way(&self, table: &TablePlan, column: &str) -> Obstacle {
        Obstacle {
            blocks: true,
            what: format!(
                "index {} reads {} otherwise than by its term",
                sql::shown(&self.name),
                sql::shown(column)
            ),
            cure: format!("{};", self.drop_sql(table)),
        }
    }

    /// Everything after the keys.
    fn tail(&self) -> String {
        let mut tail = String::new();
        if !self.included.is_empty() {
            tail.push_str(&format!(" INCLUDE ({})", self.included.join(", ")));
        }
        if self.nulls_not_distinct {
            tail.push_str(" NULLS NOT DISTINCT");
        }
        let options = self.options.iter().filter_map(|o| o.split_once('='));
        let options: Vec<String> = options
            .map(|(name, value)| format!("{name} = {}", sql::literal(value)))
            .collect();
        if !options.is_empty() {
            tail.push_str(&format!(" WITH ({})", options.join(", ")));
        }
        if let Some(tablespace) = &self.tablespace {
            tail.push_str(&format!(" TABLESPACE {tablespace}"));
        }
        if let Some(predicate) = &self.predicate {
            tail.push_str(&format!(" WHERE {predicate}"));
        }
        tail
    }

    /// Whether a search for the column's term can use this index, as it is or as it will be: the term is the
    /// first key, or only scope columns stand before it.
    pub(super) fn covers(
        &self,
        want: &Wanted,
        number: u32,
        sealing: &BTreeMap<i16, ColumnPlan>,
    ) -> bool {
        // A concurrent build that was broken off is no index.
        if !self.valid || self.predicate.is_some() || self.key_columns(sealing).any(|c| !c.equality)
        {
            return false;
        }
        let is_term = |attnum: i16, text: &str| {
            sealing.get(&attnum).is_some_and(|c| c.name == want.column)
                || text == sql::eq_term(number, &want.column)
                || text == sql::eq_term(number, &sql::quoted(&want.column))
        };
        let is_scope = |text: &str| {
            want.scope_columns
                .iter()
                .any(|c| text == c || text == sql::quoted(c))
        };
        let first = self
            .keys
            .iter()
            .find(|(attnum, text, _)| is_term(*attnum, text) || !is_scope(text));
        first.is_some_and(|(attnum, text, _)| is_term(*attnum, text))
    }
}
