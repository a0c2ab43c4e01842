//! What in the server looks at sealed columns by itself, so that it sees ciphertext: triggers, row security policies, checks,
//! functions. Nothing of it can leak or store plaintext (the domains see to that), but it does not do what it did. Only warns.

use pgveil_config::{ColumnRule, Diagnostic, PolicyFile};
use pgveil_policy::{
    catalog::{Catalog, Relation},
    ruleset::takes_rows,
};
use tokio_postgres::{Client, Row};

use crate::{JobError, migrate::names, sql};

/// Finds them for all columns of the policy that are sealed, in the order of the policy.
pub(crate) async fn of_policy(
    client: &Client,
    catalog: &Catalog,
    policy: &PolicyFile,
) -> Result<Vec<Diagnostic>, JobError> {
    let mut found: Vec<Diagnostic> = Vec::new();
    for rule in &policy.tables {
        let Some(table) = catalog.relation(&rule.schema, &rule.name) else {
            continue;
        };
        for relation in std::iter::once(table).chain(catalog.heirs(table.oid)) {
            let sealed: Vec<Sealed<'_>> = rule
                .columns
                .iter()
                .filter_map(|rule| {
                    let column = relation.column(&rule.name)?;
                    let attnum = column.attnum;
                    column.sealed_domain().map(|_| Sealed { rule, attnum })
                })
                .collect();
            if sealed.is_empty() {
                continue;
            }
            let mut here = of_columns(client, relation, &sealed).await?;
            here.extend(of_triggers(client, relation, &sealed).await?);
            for diagnostic in here {
                if !found.contains(&diagnostic) {
                    found.push(diagnostic);
                }
            }
        }
    }
    Ok(found)
}

/// A sealed column.
struct Sealed<'a> {
    rule: &'a ColumnRule,
    attnum: i16,
}

impl Sealed<'_> {
    fn warning(&self, message: String, cure: &str) -> Diagnostic {
        Diagnostic {
            at: Some(self.rule.at.clone()),
            message,
            cure: cure.to_owned(),
        }
    }
}

/// What the server has on record as dependent on the columns.
async fn of_columns(
    client: &Client,
    relation: &Relation,
    sealed: &[Sealed<'_>],
) -> Result<Vec<Diagnostic>, JobError> {
    let doing = || JobError::while_doing(format!("read what depends on {}", shown(relation)));
    let attnums: Vec<i16> = sealed.iter().map(|column| column.attnum).collect();
    let rows = client
        .query(
            include_str!("plan/dependents.sql"),
            &[&relation.oid, &attnums],
        )
        .await
        .map_err(doing())?;
    let mut found = Vec::new();
    for row in &rows {
        found.extend(dependent(row, sealed).map_err(doing())?);
    }
    Ok(found)
}

fn dependent(
    row: &Row,
    sealed: &[Sealed<'_>],
) -> Result<Option<Diagnostic>, tokio_postgres::Error> {
    let attnum: i16 = row.try_get("attnum")?;
    let kind: String = row.try_get("kind")?;
    let name: &str = row.try_get("name")?;
    // What stands beside a table while it is migrated: it looks at nothing but NULL and its own.
    if names::is_own(name) {
        return Ok(None);
    }
    let name = sql::shown(name);
    let place: Option<String> = row.try_get("place")?;
    let place = place.unwrap_or_default();
    let definition: Option<String> = row.try_get("definition")?;
    let definition = definition.unwrap_or_default();
    let Some(column) = sealed.iter().find(|column| column.attnum == attnum) else {
        return Ok(None);
    };
    let reads = sql::shown(&column.rule.name);
    Ok(match kind.as_str() {
        "policy" => Some(column.warning(
            format!("row security policy {name} of {place} reads {reads}: it sees ciphertext, so that it lets other rows through, or none"),
            "compare a column that is not protected, or DROP POLICY",
        )),
        // UPDATE OF looks at no value.
        "trigger" | "constraint t" if definition.contains(" WHEN (") => Some(column.warning(
            format!("trigger {name} of {place} may read {reads} in its WHEN: it sees ciphertext, which differs even where the value does not"),
            "let WHEN read columns that are not protected, or leave it out",
        )),
        "constraint c" => {
            let condition = definition
                .strip_prefix("CHECK (")
                .and_then(|text| text.strip_suffix(')'));
            let harmless = condition
                .is_some_and(|text| crate::plan::is_null_test(text, &column.rule.name));
            (!harmless).then(|| {
                column.warning(
                    format!("CHECK constraint {name} of {place} reads {reads}: it sees ciphertext"),
                    "ALTER TABLE ... DROP CONSTRAINT, and check in the application",
                )
            })
        }
        _ => None,
    })
}

/// Triggers whose functions mention a column, or take rows as a whole: by the words of their bodies.
async fn of_triggers(
    client: &Client,
    relation: &Relation,
    sealed: &[Sealed<'_>],
) -> Result<Vec<Diagnostic>, JobError> {
    let doing = || JobError::while_doing(format!("read the triggers of {}", shown(relation)));
    let rows = client
        .query(
            "SELECT t.tgname::text, p.oid::regproc::text, \
             coalesce(pg_get_function_sqlbody(p.oid), p.prosrc, '') || ' ' || encode(t.tgargs, 'escape') \
             FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid WHERE t.tgrelid = $1 AND NOT t.tgisinternal ORDER BY 1",
            &[&relation.oid],
        )
        .await
        .map_err(doing())?;
    let mut found = Vec::new();
    for row in &rows {
        let name: String = row.try_get(0).map_err(doing())?;
        if names::is_own(&name) {
            continue;
        }
        let function: String = row.try_get(1).map_err(doing())?;
        let body: String = row.try_get(2).map_err(doing())?;
        let (name, table) = (sql::shown(&name), shown(relation));
        let mut mentioned = sealed
            .iter()
            .filter(|column| sql::mentions(&body, &column.rule.name))
            .peekable();
        if mentioned.peek().is_none() && takes_rows(&body) {
            found.push(sealed[0].warning(
                format!("trigger {name} of {table} ({function}) takes whole rows: protected columns are ciphertext in them"),
                "what it keeps of them is ciphertext, and shown as such; to read it through pgveil, copy the columns into columns of the same types",
            ));
        }
        for column in mentioned {
            found.push(column.warning(
                format!(
                    "trigger {name} of {table} ({function}) mentions {}: it sees ciphertext",
                    sql::shown(&column.rule.name)
                ),
                "let it copy the value as it is, into a column of the same type; what computes with the value belongs into the application",
            ));
        }
    }
    Ok(found)
}

fn shown(relation: &Relation) -> String {
    sql::shown_qualified(&relation.schema, &relation.name)
}
