//! The policy compiled against a catalog: what the analysis asks. Immutable; a change makes a new one.

//! It decides nothing about statements.

mod change;
mod column;
mod compile;
mod declared;
mod dependents;
#[cfg(test)]
pub(crate) mod fixture;
mod group;
mod guard;
mod held;
mod history;
mod nearest;
mod pending;
mod renames;
mod shape;
mod table;
#[cfg(test)]
mod tests;
mod unfit;
mod unique;
pub(crate) mod words;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, OnceLock},
};

use pgveil_config::{Diagnostic, Mask, PolicyFile, SearchKey};

use crate::{
    Refusal,
    analysis::{SessionView, own_names, view::Shape},
    catalog::{Catalog, Relation, enums_of},
    plan::ColumnId,
    scan::{
        Scanner,
        relations::{self, RelationName},
    },
    template::ScopeTemplate,
    types::LogicalType,
};

pub use change::{Change, NewTerms, Step, Wanted};
pub use declared::Declared;
pub use dependents::Dependents;
pub use guard::Guard;
pub(crate) use held::Held;
pub use pending::{Pending, PendingColumn};
pub use shape::{KEPT, SHADOW, ShownAt, is_hidden};
pub use unfit::Unfit;
pub use words::takes_rows;

/// One row of `pgveil.columns`: what a column id has meant since it was made. Never reused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredColumn {
    /// The id in sealed values.
    pub id: ColumnId,
    /// Schema, table and column when it was last seen.
    pub schema: String,
    /// Table.
    pub table: String,
    /// Column.
    pub column: String,
    /// The logical type its values were sealed as, modifiers included, as text.
    pub logical_type: String,
    /// Whether values carry equality terms.
    pub equality: bool,
    /// Whether terms are made with the shared key.
    pub shared_key: bool,
    /// The equality group, if any.
    pub equality_group: Option<String>,
    /// The scope template, verbatim, under which its terms were made; `None` where that was not recorded.
    pub scope: Option<String>,
    /// Which terms those are.
    pub generation: Generation,
    /// Where it was when it was registered, by which a renamed column is found: table OID and attribute number.
    pub place: (u32, i16),
    /// Where applications see it, if it stands elsewhere: it was migrated online.
    pub shown: Option<ShownAt>,
    /// What becomes of its values, where not all of them are so yet.
    pub change: Option<Change>,
    /// Values bear, or once bore, terms as they are described here: copies may, for ever.
    pub searched: bool,
}

/// A protected column.
#[derive(Clone, Debug)]
pub struct Protected {
    /// Its id.
    pub id: ColumnId,
    /// Table OID.
    pub table_oid: u32,
    /// Attribute number.
    pub attnum: i16,
    /// Schema, table, column.
    pub schema: String,
    /// Table.
    pub table: String,
    /// Column.
    pub name: String,
    /// What applications see.
    pub logical: LogicalType,
    /// What new values fit besides: another length or precision while that is being changed.
    pub written: LogicalType,
    /// Every value has an equality term.
    pub equality: bool,
    /// New values get an equality term.
    pub terms: bool,
    /// Which index key.
    pub search_key: SearchKey,
    /// Columns with equal context, key and generation have comparable terms.
    pub context: TermContext,
    /// Which of its terms are compared.
    pub generation: Generation,
    /// New values bear these too.
    pub also: Option<OtherTerms>,
    /// The scope of its values; two of them, joined by [`ScopeTemplate::and`], while its terms go from one to the other.
    pub scope: ScopeTemplate,
    /// New values are sealed for the second one.
    pub seals_other: bool,
    /// The scope that the session must have for them, if the policy asks for that.
    pub session: Option<ScopeTemplate>,
    /// Roles that see plaintext; `None`: all.
    pub reveal: Option<Vec<String>>,
    /// What the others see.
    pub mask: Mask,
    /// The column itself is gone (`table_oid` and `attnum` are 0), but values that it sealed may have been moved.
    /// Where the policy does not name it any more, nobody may see them.
    pub retired: bool,
}

impl Protected {
    /// `schema.table.column`, for people.
    pub fn display_name(&self) -> String {
        format!("{}.{}.{}", self.schema, self.table, self.name)
    }

    /// Whether equal values of both have equal terms, if they are of one scope, and under one number.
    pub fn terms_match(&self, other: &Self) -> bool {
        self.context == other.context
            && self.search_key == other.search_key
            && self.generation == other.generation
    }

    /// Whether that stays so: values may be moved from one to the other as they are.
    pub fn terms_will_match(&self, other: &Self) -> bool {
        let next = |column: &Self| {
            let also = column.also.as_ref();
            also.map(|also| (also.generation, also.shared_key, also.context(column.id)))
        };
        self.terms_match(other) && next(self) == next(other)
    }
}

/// What an equality term is bound to besides the plaintext (docs/sealed-value.md).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TermContext {
    /// Only this column.
    Column(ColumnId),
    /// All columns of an equality group.
    Group(String),
}

/// Which of the terms that a column may have in the course of time: another index key, scope or context makes others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Generation {
    /// What tells them from others in a value, and in the server's functions; 0: terms without a number.
    pub number: u32,
    /// A scope's key for them is its newest index key with an id up to this, else its oldest.
    pub newest_key: u64,
}

/// Terms that values of a column bear, or get, beside those that are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherTerms {
    /// Which.
    pub generation: Generation,
    /// Made with the shared key.
    pub shared_key: bool,
    /// In this group.
    pub equality_group: Option<String>,
    /// With the keys of this scope otherwise, verbatim.
    pub scope: Option<String>,
}

impl OtherTerms {
    /// Which index key.
    pub fn search_key(&self) -> SearchKey {
        if self.shared_key {
            SearchKey::Shared
        } else {
            SearchKey::Scope
        }
    }

    /// What they are bound to, as terms of this column.
    pub fn context(&self, id: ColumnId) -> TermContext {
        let group = self.equality_group.clone();
        group.map_or(TermContext::Column(id), TermContext::Group)
    }
}

/// The compiled policy.
#[derive(Debug)]
pub struct Ruleset {
    /// Counts up with every new ruleset of the process; part of cache keys.
    pub version: u64,
    /// The catalog it was compiled against.
    pub catalog: Arc<Catalog>,
    /// All protected columns, retired ones that values may still name included.
    pub columns: HashMap<ColumnId, Arc<Protected>>,
    /// `(table OID, attnum)` of protected columns.
    pub by_attribute: HashMap<(u32, i16), Arc<Protected>>,
    /// Columns that `pgveil apply` has to convert first, by table.
    pub pending: Vec<PendingColumn>,
    /// Tables that do not fit the policy any more.
    pub unfit: Vec<Unfit>,
    /// All columns that the policy names, existing ones and others.
    pub declared: Vec<Declared>,
    /// What the policy wants of values that are not so yet.
    pub wanted: Vec<Wanted>,
    /// Tables whose columns may be others by the time a statement arrives, by OID.
    pub guards: Vec<Arc<Guard>>,
    /// What reads protected or pending relations without naming them in the statement.
    pub dependents: Dependents,
    /// By table OID, in the order of attribute numbers.
    tables: HashMap<u32, Vec<Arc<Protected>>>,
    /// OIDs of partitions and other heirs of protected tables.
    heirs: BTreeSet<u32>,
    /// OIDs of tables outside the policy that hold sealed values.
    moved: BTreeSet<u32>,
    /// OIDs of tables of which a trigger may change a column that scopes are taken from, and that column.
    rescoped: HashMap<u32, String>,
    /// What views and materialized views show, by OID, looked at when it is asked for.
    views: HashMap<u32, OnceLock<Result<Shape, Refusal>>>,
    /// The row variable of values of which no row is known.
    pub(crate) nowhere: Relation,
    /// See `names`.
    names: BTreeSet<String>,
    /// The bare names of all relations of the catalog.
    relation_names: HashSet<Box<str>>,
    /// Bare names of all functions, the system's included.
    function_names: HashSet<Box<str>>,
    scanner: Scanner,
}

impl Ruleset {
    /// Whether a protected column is of an enum type, or of arrays of one.
    pub fn seals_enums(&self) -> bool {
        let types = self.columns.values().map(|column| column.logical);
        !enums_of(types).is_empty()
    }

    /// Compiles the policy against the catalog and the history of its columns (every row that `pgveil.columns` ever
    /// had: values that a retired column sealed may have been moved). All or nothing: every finding at
    /// once, in the order of the file. Columns that are not yet converted are no finding, but `pending`.
    pub fn compile(
        policy: &PolicyFile,
        catalog: Arc<Catalog>,
        registered: &[RegisteredColumn],
        version: u64,
    ) -> Result<Self, Vec<Diagnostic>> {
        let under_way = guard::under_way(&catalog);
        let catalog = shape::shown(catalog, registered);
        let (compiled, findings, _) =
            compile::compile(policy, &catalog, registered, compile::Names::Checked);
        if !findings.is_empty() {
            return Err({ findings.into_iter() }
                .map(|finding| finding.diagnostic)
                .collect());
        }
        Ok(Self::assemble(
            compiled,
            Vec::new(),
            catalog,
            &under_way,
            version,
        ))
    }

    /// The same for a policy that is in force: what is not there any more, or not yet, is no mistake in the policy, however
    /// much another name looks like it. Whoever is in the middle of a migration makes one table after the other. Tables that
    /// were changed so that they do not fit it are `unfit`: they are refused, and all else is served.
    pub fn recompile(
        policy: &PolicyFile,
        catalog: Arc<Catalog>,
        registered: &[RegisteredColumn],
        version: u64,
    ) -> Self {
        let under_way = guard::under_way(&catalog);
        let catalog = shape::shown(catalog, registered);
        let (mut compiled, findings, renames) =
            compile::compile(policy, &catalog, registered, compile::Names::Known);
        let unfit = unfit::tables(policy, &catalog, &renames, &findings);
        unfit::set_apart(&mut compiled, &unfit);
        Self::assemble(compiled, unfit, catalog, &under_way, version)
    }

    fn assemble(
        compiled: compile::Compiled,
        unfit: Vec<Unfit>,
        catalog: Arc<Catalog>,
        under_way: &BTreeSet<u32>,
        version: u64,
    ) -> Self {
        let compile::Compiled {
            columns,
            pending,
            declared,
            inherited,
            wanted,
            plain,
        } = compiled;
        let mut tables: HashMap<u32, Vec<Arc<Protected>>> = HashMap::new();
        for column in columns.iter().filter(|column| !column.retired) {
            let of_table = tables.entry(column.table_oid).or_default();
            of_table.push(Arc::clone(column));
        }
        for of_table in tables.values_mut() {
            of_table.sort_by_key(|column| column.attnum);
        }
        let is_plain = |oid: &u32| plain.iter().any(|column| column.place.0 == *oid);
        let sealed = columns.iter().filter(|column| {
            let oid = column.table_oid;
            !column.retired && (under_way.contains(&oid) || is_plain(&oid))
        });
        let sealed = sealed.map(|c| (c.table_oid, c.attnum, c.name.clone()));
        let guards = guard::guards(&catalog, &plain, sealed);
        let mut roots: BTreeSet<u32> = tables.keys().copied().collect();
        roots.extend(pending.iter().map(|column| column.table_oid));
        let unfit_oids: BTreeSet<u32> = unfit.iter().flat_map(|table| table.oids.clone()).collect();
        roots.extend(&unfit_oids);
        let heirs: BTreeSet<u32> = inherited.iter().map(|(oid, ..)| *oid).collect();
        let mut moved = moved(&catalog, &tables, &heirs);
        moved.retain(|oid| !unfit_oids.contains(oid));
        roots.extend(heirs.iter().chain(&moved));
        let dependents = Dependents::find(&catalog, &roots, &BTreeSet::new(), &moved);
        let rescoped = rescoped(&catalog, &tables);
        let mut names = dependents.names(&catalog, &roots);
        // So that they are not made with plaintext columns.
        names.extend(
            declared
                .iter()
                .filter(|column| !column.exists)
                .map(|column| column.table.clone()),
        );
        names.extend(unfit.iter().map(|table| table.table.clone()));
        // What only reads a table that is plaintext still is left to the server, under its guard.
        let guarded = guards.iter().flat_map(|guard| guard.names.iter().cloned());
        let scanned = names.iter().cloned().chain(guarded).collect();
        let scanner = Scanner::new(&scanned, &catalog);
        names.extend(guards.iter().map(|guard| guard.table.clone()));
        let parts = guards.iter().flat_map(|guard| &guard.partitions);
        let parts = parts.filter_map(|oid| catalog.relation_by_oid(*oid));
        names.extend(parts.map(|relation| relation.name.clone()));
        let by_attribute = columns
            .iter()
            .filter(|column| !column.retired)
            .map(|column| ((column.table_oid, column.attnum), Arc::clone(column)))
            .chain(
                inherited
                    .into_iter()
                    .map(|(oid, attnum, column)| ((oid, attnum), column)),
            )
            .collect();
        let views = dependents.relations.iter().filter(|oid| {
            let relation = catalog.relation_by_oid(**oid);
            relation.is_some_and(Relation::is_view)
        });
        let views = views.map(|oid| (*oid, OnceLock::new())).collect();
        let relation_names = catalog.relations.iter();
        let relation_names = relation_names.map(|r| r.name.as_str().into()).collect();
        let function_names = catalog.functions.iter().map(|f| f.name.as_str());
        let function_names = function_names
            .chain(catalog.system_functions.keys().map(String::as_str))
            .map(Into::into)
            .collect();
        Self {
            wanted,
            unfit,
            relation_names,
            function_names,
            version,
            catalog,
            columns: columns
                .into_iter()
                .map(|column| (column.id, column))
                .collect(),
            by_attribute,
            pending,
            declared,
            guards,
            dependents,
            tables,
            heirs,
            moved,
            views,
            rescoped,
            nowhere: Relation::default(),
            names,
            scanner,
        }
    }

    /// What column a sealed value names.
    pub fn column(&self, id: ColumnId) -> Option<&Arc<Protected>> {
        self.columns.get(&id)
    }

    /// The protected column at a table OID and attribute number, as RowDescription gives them.
    pub fn attribute(&self, table_oid: u32, attnum: i16) -> Option<&Arc<Protected>> {
        self.by_attribute.get(&(table_oid, attnum))
    }

    /// The relation of this schema and name, both spelt as the catalog spells them.
    pub fn relation(&self, schema: &str, name: &str) -> Option<&Relation> {
        self.catalog.relation(schema, name)
    }

    /// The protected columns of a table, in the order of the table.
    pub fn protected_columns(&self, table_oid: u32) -> &[Arc<Protected>] {
        self.tables.get(&table_oid).map_or(&[], Vec::as_slice)
    }

    /// Whether a table holds sealed values, or has pending columns.
    pub fn is_protected_relation(&self, oid: u32) -> bool {
        self.tables.contains_key(&oid)
            || self.heirs.contains(&oid)
            || self.moved.contains(&oid)
            || self.is_pending_table(oid)
            || self.guards.iter().any(|guard| guard.is_of(oid))
    }

    /// What a view or materialized view of the catalog shows, or why that cannot be known. `None`: it reads nothing
    /// protected.
    pub(crate) fn shape(&self, view: &Relation) -> Option<&Result<Shape, Refusal>> {
        let shape = self.views.get(&view.oid)?;
        Some(shape.get_or_init(|| Shape::of(self, view)))
    }

    /// The relations and functions that a text may name and that are neither in the catalog nor among `own`: made, or named
    /// so, since it was read, or a session's own. `None`: it cannot be told.
    pub fn unknown_relations(&self, sql: &[u8], own: &[Relation]) -> Option<Vec<RelationName>> {
        let is_own = |schema: Option<&str>, name: &str| {
            own.iter().any(|relation| {
                relation.name == name
                    && schema.is_none_or(|schema| {
                        relation.schema == schema
                            || schema == "pg_temp" && relation.schema.starts_with("pg_temp_")
                    })
            })
        };
        relations::unknown(
            sql,
            &|schema, name| {
                let known = match schema {
                    Some(schema) => self.relation(schema, name).is_some(),
                    None => self.relation_names.contains(name),
                };
                known || is_own(schema, name)
            },
            &|name| self.function_names.contains(name),
        )
    }

    /// Whether a function is in the catalog.
    pub fn knows_function(&self, oid: u32) -> bool {
        self.catalog
            .functions
            .iter()
            .any(|function| function.oid == oid)
    }

    /// Whether a relation is in the catalog or among `own`.
    pub fn knows_relation(&self, own: &[Relation], oid: u32) -> bool {
        own.iter().any(|relation| relation.oid == oid) || self.catalog.by_oid.contains_key(&oid)
    }

    /// The greatest OID of a relation when the catalog was read.
    pub fn newest_relation(&self) -> u32 {
        let oids = self.catalog.relations.iter().map(|relation| relation.oid);
        oids.max().unwrap_or_default()
    }

    /// Whether a field that the server reports for this column holds sealed values; `None` for a relation that is
    /// neither in the catalog nor among `own`, and for a view of which that cannot be known.
    pub fn holds_sealed(&self, own: &[Relation], table_oid: u32, attnum: i16) -> Option<bool> {
        let relation = own.iter().find(|relation| relation.oid == table_oid);
        let is_own = relation.is_some();
        let relation = relation.or_else(|| self.catalog.relation_by_oid(table_oid))?;
        let column = relation.attribute(attnum)?;
        if !relation.is_view() {
            return Some(!matches!(self.held(relation, column), Held::Plain));
        }
        let in_domain = column.sealed_domain().is_some();
        if is_own {
            return in_domain.then_some(true);
        }
        match self.shape(relation) {
            None => Some(in_domain),
            Some(Ok(shape)) => shape.is_sealed(relation, attnum),
            Some(Err(_)) => None,
        }
    }

    /// Whether a relation is no protected one, but reads one (a view, a child or parent of a table).
    pub fn is_dependent_relation(&self, oid: u32) -> bool {
        self.dependents.relations.contains(&oid)
    }

    /// Whether a function of this bare name, in any schema, may read something protected.
    pub fn is_dependent_function(&self, name: &str) -> bool {
        self.dependents.function_names.contains(name)
    }

    /// Whether a function of this bare name, in any schema, may run SQL that is given to it as text.
    pub fn runs_text(&self, name: &str) -> bool {
        self.dependents.text_runners.contains(name)
    }

    /// The column that scopes of a table's values are taken from and that a trigger of the table may change.
    pub(crate) fn rescoped(&self, oid: u32) -> Option<&str> {
        self.rescoped.get(&oid).map(String::as_str)
    }

    /// Whether writing to a relation runs a function that may read something protected (a trigger, a default, a rule).
    pub fn has_dependent_writes(&self, oid: u32) -> bool {
        self.dependents.written.contains(&oid)
    }

    /// Tables with protected columns, by schema and name. Pending ones are not among them.
    pub fn protected_tables(&self) -> Vec<&Relation> {
        let tables = self.tables.keys();
        self.sorted(tables.copied().collect())
    }

    fn sorted(&self, oids: BTreeSet<u32>) -> Vec<&Relation> {
        let mut relations: Vec<&Relation> = oids
            .into_iter()
            .filter_map(|oid| self.catalog.relation_by_oid(oid))
            .collect();
        relations.sort_by_key(|relation| (&relation.schema, &relation.name));
        relations
    }

    /// The columns that the policy names in a table, whether they exist or not.
    pub fn declared_in(&self, schema: &str, table: &str) -> Vec<&Declared> {
        let columns = self.declared.iter();
        columns
            .filter(|column| column.schema == schema && column.table == table)
            .collect()
    }

    /// Whether the policy names a column of this table that does not exist.
    pub fn is_to_come(&self, schema: &str, table: &str) -> bool {
        self.absent()
            .any(|column| column.schema == schema && column.table == table)
            || self.is_unfit_to_come(schema, table)
    }

    /// Columns that the policy names and that do not exist: they get their types when they are made through pgveil.
    pub fn absent(&self) -> impl Iterator<Item = &Declared> {
        self.declared.iter().filter(|column| !column.exists)
    }

    /// The bare names that make a statement protected: protected and pending tables, and their dependents.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The bare names of those of a session's own relations that hold or read sealed values.
    pub fn own_names(&self, view: &SessionView) -> Vec<String> {
        own_names(self, view)
    }

    pub(crate) fn scanner(&self) -> &Scanner {
        &self.scanner
    }
}

/// Tables, and their heirs, of which a trigger may change a column that a scope is taken from.
fn rescoped(catalog: &Catalog, tables: &HashMap<u32, Vec<Arc<Protected>>>) -> HashMap<u32, String> {
    let mut found = HashMap::new();
    for (oid, columns) in tables {
        let scopes: BTreeSet<&str> = { columns.iter() }
            .flat_map(|column| column.scope.columns())
            .collect();
        if scopes.is_empty() {
            continue;
        }
        let family = catalog.relation_by_oid(*oid).into_iter();
        let family: Vec<&Relation> = family.chain(catalog.heirs(*oid)).collect();
        let triggers = family
            .iter()
            .flat_map(|relation| &relation.trigger_functions);
        let bodies = triggers.filter_map(|trigger| {
            let mut functions = catalog.functions.iter();
            functions.find(|function| function.oid == *trigger)
        });
        let changed = { bodies }.find_map(|function| {
            let mut scopes = scopes.iter();
            scopes.find(|scope| words::changes_column(&function.body, scope))
        });
        if let Some(changed) = changed {
            // A row of a parent may go to any of them.
            found.extend(
                family
                    .iter()
                    .map(|relation| (relation.oid, (*changed).to_owned())),
            );
        }
    }
    found
}

/// Tables outside the policy with columns under a domain of pgveil, copies of protected ones for example.
fn moved(
    catalog: &Catalog,
    tables: &HashMap<u32, Vec<Arc<Protected>>>,
    heirs: &BTreeSet<u32>,
) -> BTreeSet<u32> {
    let relations = catalog.relations.iter().filter(|relation| {
        matches!(relation.kind, 'r' | 'p' | 'f')
            && !tables.contains_key(&relation.oid)
            && !heirs.contains(&relation.oid)
            && relation
                .columns
                .iter()
                .any(|column| column.sealed_domain().is_some())
    });
    relations.map(|relation| relation.oid).collect()
}
