//! What the live database holds, as far as names and types go. A value; `pgveil-jobs` reads it.

use std::{collections::HashMap, sync::Arc};

#[cfg(test)]
pub(crate) mod fixture;
pub mod session;
mod types;

pub use types::{SealedLabel, Type, enums_of};

/// The catalog at one moment.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// All relations with columns, `pg_catalog` and `information_schema` included.
    pub relations: Vec<Relation>,
    /// `(schema, name)` to index in `relations`.
    pub by_name: HashMap<(String, String), usize>,
    /// Relation OID to index in `relations`.
    pub by_oid: HashMap<u32, usize>,
    /// Functions outside `pg_catalog`, `information_schema` and `pgveil`.
    pub functions: Vec<Function>,
    /// The functions inside these, by their bare names.
    pub system_functions: Arc<HashMap<String, Columns>>,
    /// The database these were read from.
    pub database: String,
    /// All types but arrays and row types.
    pub types: Vec<Type>,
    /// `pgveil.enum_labels`.
    pub sealed_labels: Vec<SealedLabel>,
}

impl Catalog {
    /// Files the relations by name and OID.
    pub fn new(relations: Vec<Relation>, functions: Vec<Function>, database: String) -> Self {
        let by_name = |(at, relation): (usize, &Relation)| {
            ((relation.schema.clone(), relation.name.clone()), at)
        };
        let by_oid = |(at, relation): (usize, &Relation)| (relation.oid, at);
        Self {
            by_name: relations.iter().enumerate().map(by_name).collect(),
            by_oid: relations.iter().enumerate().map(by_oid).collect(),
            relations,
            functions,
            database,
            ..Self::default()
        }
    }

    /// The relation of this schema and name, both spelt as the catalog spells them.
    pub fn relation(&self, schema: &str, name: &str) -> Option<&Relation> {
        let at = self.by_name.get(&(schema.to_owned(), name.to_owned()))?;
        self.relations.get(*at)
    }

    /// All relations that inherit a table's columns, partitions included, at any depth.
    pub fn heirs(&self, oid: u32) -> Vec<&Relation> {
        let mut found: Vec<&Relation> = Vec::new();
        let mut parents = vec![oid];
        while let Some(parent) = parents.pop() {
            for relation in &self.relations {
                let is_known = found.iter().any(|known| known.oid == relation.oid);
                if relation.parents.contains(&parent) && !is_known {
                    parents.push(relation.oid);
                    found.push(relation);
                }
            }
        }
        found
    }

    /// The relation with this OID.
    pub fn relation_by_oid(&self, oid: u32) -> Option<&Relation> {
        self.relations.get(*self.by_oid.get(&oid)?)
    }
}

impl Relation {
    /// The column of this name, spelt as the catalog spells it.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The column with this attribute number.
    pub fn attribute(&self, attnum: i16) -> Option<&Column> {
        self.columns.iter().find(|column| column.attnum == attnum)
    }
}

impl Column {
    /// The bare name of the domain of schema `pgveil` that the column stands under, if it does:
    /// then it holds sealed values.
    pub fn sealed_domain(&self) -> Option<&str> {
        if self.base_type_oid != BYTEA || self.type_oid == BYTEA {
            return None;
        }
        let bare = self.type_name.strip_prefix("pgveil.")?;
        // format_type quotes what is no plain name: pgveil."sealed_text[]".
        let quoted = bare
            .strip_prefix('"')
            .and_then(|bare| bare.strip_suffix('"'));
        Some(quoted.unwrap_or(bare))
    }
}

/// `pg_type.oid` of bytea.
const BYTEA: u32 = 17;

/// A table, view, materialized view, foreign table, partitioned table or composite.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relation {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Schema name.
    pub schema: String,
    /// Relation name.
    pub name: String,
    /// `pg_class.relkind`: r, p, v, m, f.
    pub kind: char,
    /// Live columns by attribute number, or as applications know them (`reshaped`).
    pub columns: Vec<Column>,
    /// Whether the server has them in another order, or others besides: what shows all of them has to name them.
    pub reshaped: bool,
    /// Unique and exclusion indexes and the primary key.
    pub uniques: Vec<Unique>,
    /// OIDs of relations that this view or materialized view reads (`pg_depend` over `pg_rewrite`), one step.
    pub reads: Vec<u32>,
    /// OIDs of functions that this relation's view definition or rules call (`pg_depend` over `pg_rewrite`).
    pub calls: Vec<u32>,
    /// OIDs of the direct parents (inheritance and partitioning).
    pub parents: Vec<u32>,
    /// OIDs of functions that this relation's triggers call.
    pub trigger_functions: Vec<u32>,
    /// Whether rewrite rules other than a view's own exist.
    pub has_rules: bool,
    /// Whether triggers run INSTEAD OF writing to this view.
    pub has_instead_triggers: bool,
    /// What a view or materialized view selects, as `pg_get_viewdef` prints it.
    pub definition: Option<String>,
    /// By what a partitioned table is cut, as `pg_get_partkeydef` prints it.
    pub partition_key: Option<String>,
    /// Whether it is a partition.
    pub is_partition: bool,
}

impl Relation {
    /// A view or materialized view.
    pub fn is_view(&self) -> bool {
        matches!(self.kind, 'v' | 'm')
    }
}

/// A column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// `pg_attribute.attnum`.
    pub attnum: i16,
    /// Name as the catalog spells it.
    pub name: String,
    /// Type OID; for a domain the domain's own.
    pub type_oid: u32,
    /// The base type's OID under domains.
    pub base_type_oid: u32,
    /// `format_type` text, for people.
    pub type_name: String,
    /// `pg_attribute.atttypmod`.
    pub typmod: i32,
    /// NOT NULL.
    pub not_null: bool,
    /// The default or generation expression, as `pg_get_expr` prints it.
    pub default: Option<String>,
    /// `pg_attribute.attgenerated` is not empty.
    pub generated: bool,
    /// `pg_attribute.attidentity` is not empty.
    pub identity: bool,
}

/// A unique index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unique {
    /// Index name.
    pub name: String,
    /// Whether it is the primary key.
    pub primary: bool,
    /// Plain columns as attribute numbers; 0 for an expression.
    pub attnums: Vec<i16>,
    /// `pg_get_indexdef(index, n, true)` of every key.
    pub keys: Vec<String>,
    /// Whether it has a predicate, or is a primary key that is deferrable.
    pub partial: bool,
}

/// The number of the terms that an index key is, and what they are of: `(7, "email")` of `pgveil.eq_term(7, email)`. `None`:
/// it is no such key.
pub fn term_key(key: &str) -> Option<(u32, &str)> {
    let inner = key.strip_prefix("pgveil.eq_term(")?.strip_suffix(')')?;
    let numbered = inner.split_once(", ").and_then(|(number, of)| {
        let number = number.parse().ok()?;
        Some((number, of))
    });
    Some(numbered.unwrap_or((0, inner)))
}

/// What every function of a name yields in FROM: the names of the columns of its rows; empty: one value, which is named as the
/// call is. `None`: that differs, or only the call says it.
pub type Columns = Option<Vec<String>>;

/// A function, procedure or aggregate that is not the system's.
#[derive(Clone, Debug, Default)]
pub struct Function {
    /// `pg_proc.oid`.
    pub oid: u32,
    /// Schema name.
    pub schema: String,
    /// Name.
    pub name: String,
    /// The body, as text (`prosrc`, or the SQL-standard body printed).
    pub body: String,
    /// OID of the relation whose row type it returns, if it does.
    pub returns_relation: Option<u32>,
    /// `pg_language.lanname`.
    pub language: String,
    /// `pg_proc.prokind`: f, p, a, w.
    pub kind: char,
    /// `pg_proc.proretset`.
    pub returns_set: bool,
    /// The body is one that the server keeps parsed: its names are bound.
    pub parsed: bool,
    /// `pg_proc.proconfig`: what is set while it runs, as `name=value`.
    pub settings: Vec<String>,
    /// The system has functions of this name too.
    pub shadows: bool,
    /// `pg_proc.pronargdefaults`: so many of the last arguments may be left out.
    pub defaults: usize,
    /// Its parameters, in order; what it returns is the one of mode `r`.
    pub parameters: Vec<Parameter>,
}

/// A parameter of a function, or what it returns.
#[derive(Clone, Debug, Default)]
pub struct Parameter {
    /// `pg_proc.proargmodes`: i, o, b, v, t; `r`: what the function returns.
    pub mode: char,
    /// Its name and type. The name is empty where it has none.
    pub column: Column,
}

impl Function {
    /// What a caller gives, in order.
    pub fn arguments(&self) -> impl Iterator<Item = &Parameter> {
        let parameters = self.parameters.iter();
        parameters.filter(|parameter| matches!(parameter.mode, 'i' | 'b' | 'v'))
    }

    /// What it returns as columns with names of their own: OUT, INOUT and those of RETURNS TABLE.
    pub fn outputs(&self) -> impl Iterator<Item = &Parameter> {
        let parameters = self.parameters.iter();
        parameters.filter(|parameter| matches!(parameter.mode, 'o' | 'b' | 't'))
    }

    /// The type that it returns.
    pub fn returned(&self) -> Option<&Column> {
        let mut parameters = self.parameters.iter();
        let returned = parameters.find(|parameter| parameter.mode == 'r');
        returned.map(|returned| &returned.column)
    }

    /// Whether it can be called with so many arguments.
    pub fn takes(&self, count: usize) -> bool {
        let most = self.arguments().count();
        let variadic = self.arguments().any(|argument| argument.mode == 'v');
        (variadic && count > most) || (count <= most && count + self.defaults >= most)
    }
}
