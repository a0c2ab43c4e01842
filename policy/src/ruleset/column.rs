//! Checks of one `[table.column.NAME]` entry: the column that it names, its type, and what is asked of it.

use pgveil_config::{ColumnRule, Mask, SearchKey, TableRule};

use super::{Pending, PendingColumn, compile::Findings, renames::Renames, words::Words};
use crate::{
    catalog::{Catalog, Column, Relation},
    template::ScopeTemplate,
    types::{LogicalType, type_of_domain},
};

/// An entry whose names are all known.
pub(super) struct Resolved<'a> {
    pub(super) rule: &'a ColumnRule,
    pub(super) relation: &'a Relation,
    pub(super) column: &'a Column,
    pub(super) logical: LogicalType,
    pub(super) scope: ScopeTemplate,
    /// The session's scope must be the row's.
    pub(super) session_must_match: bool,
    /// The template as written.
    pub(super) scope_text: &'a str,
}

impl<'a> Resolved<'a> {
    /// Schema, table, column.
    pub(super) fn key(&self) -> (&'a str, &'a str, &'a str) {
        (
            &self.relation.schema,
            &self.relation.name,
            &self.column.name,
        )
    }

    /// Table OID and attribute number.
    pub(super) fn place(&self) -> (u32, i16) {
        (self.relation.oid, self.column.attnum)
    }

    /// The scope that the session must have, if the policy asks for that.
    pub(super) fn session(&self) -> Option<ScopeTemplate> {
        self.session_must_match.then(|| self.scope.of_session())
    }

    pub(super) fn display_name(&self) -> String {
        let (schema, table, column) = self.key();
        format!("{schema}.{table}.{column}")
    }

    /// Whether the column stands under a domain of pgveil.
    pub(super) fn is_sealed(&self) -> bool {
        self.column.sealed_domain().is_some()
    }

    /// Whether rows of one table can have terms that do not match although the values are equal.
    pub(super) fn has_terms_by_row(&self) -> bool {
        self.rule.search.equality
            && self.rule.search_key == SearchKey::Scope
            && !self.scope.columns().is_empty()
    }

    /// The same column in every partition and other heir of the table, where it may have another number.
    pub(super) fn heirs(&self, catalog: &'a Catalog) -> Vec<Resolved<'a>> {
        let heirs = catalog.heirs(self.relation.oid).into_iter();
        let column = |relation: &'a Relation| {
            Some(Resolved {
                rule: self.rule,
                relation,
                column: relation.column(&self.column.name)?,
                logical: self.logical,
                scope: self.scope.clone(),
                session_must_match: self.session_must_match,
                scope_text: self.scope_text,
            })
        };
        heirs.filter_map(column).collect()
    }

    pub(super) fn pending(&self, state: Pending) -> PendingColumn {
        let (schema, table, column) = self.key();
        PendingColumn {
            schema: schema.to_owned(),
            table: table.to_owned(),
            column: column.to_owned(),
            table_oid: self.relation.oid,
            attnum: self.column.attnum,
            logical: Some(self.logical),
            state,
        }
    }
}

/// Looks the column up, by its present or its former name. A name that looks like a mistake is a finding; any other that
/// is not there is a column to come.
pub(super) fn find<'a>(
    table: &TableRule,
    rule: &ColumnRule,
    relation: Option<&'a Relation>,
    renames: &Renames,
    findings: &mut Findings,
) -> Option<(&'a Relation, &'a Column)> {
    let relation = relation?;
    let found = relation
        .column(&rule.name)
        .or_else(|| renames.column(relation, &table.schema, &table.name, &rule.name));
    if let Some(column) = found {
        return Some((relation, column));
    }
    let others = relation.columns.iter().map(|column| column.name.as_str());
    let others = others.filter(|name| !table.columns.iter().any(|rule| rule.name == *name));
    let near = findings.meant(&rule.name, others);
    if !near.is_empty() {
        findings.add(
            &rule.at,
            format!("{}.{} has no column {}{near}", relation.schema, relation.name, rule.name),
            "correct the name (it is spelt as the catalog spells it, case included), or create the column first",
        );
    }
    None
}

/// What can be said of an entry without its column.
pub(super) fn check_rule(
    table: &TableRule,
    rule: &ColumnRule,
    logical: LogicalType,
    scope: Option<&ScopeTemplate>,
    findings: &mut Findings,
) {
    let name = format!("{}.{}", table.schema, table.name);
    check_search(&name, rule, logical, scope, findings);
    check_mask(&name, rule, logical, findings);
}

/// Checks the column that an entry names.
pub(super) fn resolve<'a>(
    table: &'a TableRule,
    rule: &'a ColumnRule,
    relation: &'a Relation,
    column: &'a Column,
    (logical, catalog): (LogicalType, &Catalog),
    scope: &ScopeTemplate,
    findings: &mut Findings,
) -> Resolved<'a> {
    let table_name = format!("{}.{}", relation.schema, relation.name);
    check_default(relation, column, rule, findings);
    check_type(&table_name, column, rule, (logical, catalog), findings);
    Resolved {
        rule,
        relation,
        column,
        logical,
        scope: scope.clone(),
        session_must_match: table.session_must_match,
        scope_text: &table.scope,
    }
}

pub(super) fn logical_type(
    rule: &ColumnRule,
    catalog: &Catalog,
    findings: &mut Findings,
) -> Option<LogicalType> {
    match catalog.parse_type(&rule.logical_type) {
        Ok(logical) => Some(logical),
        Err(unknown) => {
            let near = unknown
                .nearest
                .map(|name| format!("; did you mean `{name}`?"));
            let near = near.unwrap_or_default();
            findings.add(
                &rule.type_at,
                format!("{:?} is not a type that pgveil can protect{near}", rule.logical_type),
                "bool, int2, int4, int8, float4, float8, numeric(p,s), text, varchar(n), bpchar(n), bytea, date, time, \
                 timetz, timestamp, timestamptz, interval, uuid, json, jsonb, inet, cidr, macaddr and macaddr8 are \
                 supported, enum types of the database (schema.name), and arrays of these",
            );
            None
        }
    }
}

/// The column as it is now must already show what the policy says that applications see.
fn check_type(
    table: &str,
    column: &Column,
    rule: &ColumnRule,
    (logical, catalog): (LogicalType, &Catalog),
    findings: &mut Findings,
) {
    let name = format!("{table}.{}", column.name);
    if let Some(domain) = column.sealed_domain() {
        if domain != logical.domain() {
            let domain = type_of_domain(domain);
            findings.add(
                &rule.type_at,
                format!("{name} is sealed as {domain}, but the policy says {logical}"),
                format!(
                    "write type = {domain:?} with the modifiers it had; another type comes with rewrap (not supported yet)"
                ),
            );
        }
        return;
    }
    match catalog.type_of(column.type_oid, column.typmod) {
        Some(found) if found == logical => {}
        Some(found) => findings.add(
            &rule.type_at,
            format!("{name} is {found}, but the policy says {logical}"),
            format!("write type = \"{found}\", or change the column first (ALTER TABLE ... ALTER COLUMN ... TYPE)"),
        ),
        None => findings.add(
            &rule.type_at,
            format!("{name} is of type {}, which pgveil cannot protect yet", column.type_name),
            "leave the column unprotected for now, or change its type first",
        ),
    }
}

/// What the server would compute by itself cannot be sealed.
pub(super) fn check_default(
    relation: &Relation,
    column: &Column,
    rule: &ColumnRule,
    findings: &mut Findings,
) {
    let name = format!("{}.{}.{}", relation.schema, relation.name, column.name);
    let mut add = |what: &str, cure: &str| findings.add(&rule.at, format!("{name} {what}"), cure);
    if column.generated {
        add(
            "is a generated column: the server computes it, so it cannot be sealed",
            "protect the columns that it is computed from, and drop it",
        );
    } else if column.identity {
        add(
            "is an identity column: the server computes it, so it cannot be sealed",
            "leave it unprotected, or drop the identity (ALTER COLUMN ... DROP IDENTITY)",
        );
    } else if column
        .default
        .as_deref()
        .is_some_and(|default| !is_null(default))
    {
        add(
            "has a default: the server would store it in plaintext",
            "drop it (ALTER COLUMN ... DROP DEFAULT) and let the application write the value",
        );
    }
    let computed = relation
        .columns
        .iter()
        .filter(|other| other.generated && other.attnum != column.attnum);
    for other in computed {
        let expression = other.default.as_deref().unwrap_or_default();
        if Words::of(expression).mentions(&column.name) {
            add(
                &format!(
                    "is read by the generated column {}, which cannot be computed from a sealed value",
                    other.name
                ),
                "drop the generated column and let the application compute it",
            );
        }
    }
}

/// `NULL::text`, as pg_get_expr prints DEFAULT NULL.
fn is_null(default: &str) -> bool {
    let rest = default
        .get(..4)
        .filter(|word| word.eq_ignore_ascii_case("null"));
    rest.is_some() && (default.len() == 4 || default[4..].starts_with("::"))
}

fn check_search(
    table: &str,
    rule: &ColumnRule,
    logical: LogicalType,
    scope: Option<&ScopeTemplate>,
    findings: &mut Findings,
) {
    let name = format!("{table}.{}", rule.name);
    if !rule.search.equality {
        if let Some(group) = &rule.equality_group {
            findings.add(
                &rule.at,
                format!("{name} is in equality group {group:?}, but has no equality search"),
                "add search = [\"equality\"], or remove `equality_group`",
            );
        }
        return;
    }
    if !logical.supports_equality() {
        findings.add(
            &rule.at,
            format!("{name} asks for equality search, but Postgres has no `=` for {logical}"),
            "remove \"equality\" from `search`, or use jsonb",
        );
    }
    let by_session = scope.is_some_and(|scope| !scope.sessions().is_empty());
    if by_session && rule.search_key == SearchKey::Scope {
        findings.add(
            &rule.at,
            format!(
                "{name} asks for equality search under a scope of the session: a statement sees rows of every \
                 scope, but search terms would match in the session's own only"
            ),
            "add search_key = \"shared\", or read the scope from a column of the row",
        );
    }
}

fn check_mask(table: &str, rule: &ColumnRule, logical: LogicalType, findings: &mut Findings) {
    let is_text = matches!(
        logical,
        LogicalType::Text | LogicalType::Varchar(_) | LogicalType::Bpchar(_)
    );
    if rule.mask != Mask::Null && !is_text {
        findings.add(
            &rule.at,
            format!("{table}.{} has a mask of characters, but is {logical}", rule.name),
            "remove `mask` (other roles then see NULL): only text, varchar and bpchar can be masked",
        );
    }
}
