//! Indexes on the new terms beside those on the former ones, under names of their own until the former ones go. It writes no
//! rows; the server builds and drops them while the tables are used.

use pgveil_config::Settings;
use pgveil_keys::database::Database;
use pgveil_policy::ruleset::{Change, RegisteredColumn};

use crate::{JobError, connect, sql};

/// Waits for whatever must end; a name is looked up along no path.
const SET_UP: &str = "SET search_path = pg_catalog, pg_temp; SET statement_timeout = 0; SET lock_timeout = 0; \
    SET idle_in_transaction_session_timeout = '1min'";
/// Indexes of tables with these columns, by a table's oid; a partition's part of an index goes with the index.
const INDEXES: &str = "SELECT c.oid, n.nspname, c.relname, quote_ident(c.relname), i.indisvalid, i.indisunique, \
        c.relkind = 'I', pg_get_indexdef(c.oid), coalesce(s.spcname, '') \
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
    LEFT JOIN pg_tablespace s ON s.oid = c.reltablespace \
    WHERE i.indrelid = ANY ($1) AND NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = c.oid) ORDER BY c.oid";
/// Of columns: their tables, and partitions and other heirs of these, which may have indexes of their own.
const TABLES: &str = "WITH RECURSIVE tables AS (SELECT oid FROM pg_class WHERE oid = ANY ($1) \
        UNION SELECT h.inhrelid FROM pg_inherits h JOIN tables ON tables.oid = h.inhparent) \
    SELECT array_agg(oid) FROM tables";

/// An index of one of the tables.
struct Index {
    oid: u32,
    schema: String,
    name: String,
    quoted: String,
    valid: bool,
    unique: bool,
    partitioned: bool,
    definition: String,
    tablespace: String,
}

impl Index {
    fn path(&self) -> String {
        format!("{}.{}", sql::quoted(&self.schema), self.quoted)
    }

    /// The same on the new terms, as the server prints definitions. `None`: it is on no former term of these columns.
    fn on_new_terms(&self, columns: &[&RegisteredColumn], number: u32) -> Option<String> {
        rewritten(&self.definition, columns, number)
    }

    /// SQL that makes it under this name.
    fn sql(&self, definition: &str, name: &str) -> Option<String> {
        let unique = if self.unique { "UNIQUE " } else { "" };
        let head = format!("CREATE {unique}INDEX {} ON ", self.quoted);
        let rest = definition.strip_prefix(&head)?;
        // The server makes those of a partitioned table's partitions with it, and not concurrently.
        let (how, rest) = if self.partitioned {
            ("", rest.strip_prefix("ONLY ").unwrap_or(rest))
        } else {
            ("CONCURRENTLY ", rest)
        };
        let name = sql::quoted(name);
        Some(format!("CREATE {unique}INDEX {how}{name} ON {rest}"))
    }

    fn drop_sql(&self, name: &str) -> String {
        let how = if self.partitioned {
            ""
        } else {
            "CONCURRENTLY "
        };
        format!("DROP INDEX {how}{}", sql::qualified(&self.schema, name))
    }
}

/// What stands beside the index with this oid until that goes.
fn new_name(number: u32, oid: u32) -> String {
    format!("pgveil_terms_{number}_{oid}")
}

/// What that is called while it goes.
fn former_name(number: u32, oid: u32) -> String {
    format!("pgveil_gone_{number}_{oid}")
}

/// Every index on former terms has one on new terms beside it; unique ones too.
pub(super) async fn make(
    settings: &Settings,
    columns: &[&RegisteredColumn],
    number: u32,
) -> Result<(), JobError> {
    let client = open(settings).await?;
    let made = make_all(&client, columns, number).await;
    client.close().await;
    made
}

async fn make_all(
    client: &Database,
    columns: &[&RegisteredColumn],
    number: u32,
) -> Result<(), JobError> {
    let indexes = read(client, columns).await?;
    for index in &indexes {
        // One whose turn has come, and that somebody has dropped meanwhile, is not wanted any more.
        let of = index
            .name
            .strip_prefix(new_name(number, 0)[..].trim_end_matches('0'));
        let of = of.and_then(|oid| oid.parse::<u32>().ok());
        if of.is_some_and(|oid| !indexes.iter().any(|other| other.oid == oid)) {
            run(client, &index.drop_sql(&index.name), index).await?;
        }
    }
    for index in &indexes {
        let Some(definition) = index.on_new_terms(columns, number) else {
            continue;
        };
        // An index that is none, and one that goes, need no other.
        let goes = index.name == former_name(number, index.oid);
        if !index.valid && !index.partitioned || goes {
            continue;
        }
        let name = new_name(number, index.oid);
        let there = indexes.iter().find(|other| other.name == name);
        if let Some(there) = there {
            if there.valid {
                continue;
            }
            // Somebody was killed while it was made.
            run(client, &there.drop_sql(&name), there).await?;
        }
        let Some(sql) = index.sql(&definition, &name) else {
            continue;
        };
        let space = format!(
            "SELECT pg_catalog.set_config('default_tablespace', {}, false)",
            sql::literal(&index.tablespace)
        );
        run(client, &space, index).await?;
        run(client, &sql, index).await?;
    }
    Ok(())
}

/// Indexes on new terms get the names of those on former ones, and these are dropped.
pub(super) async fn drop_former(
    settings: &Settings,
    columns: &[&RegisteredColumn],
    number: u32,
) -> Result<(), JobError> {
    let client = open(settings).await?;
    let dropped = drop_all(&client, columns, number).await;
    client.close().await;
    dropped
}

async fn drop_all(
    client: &Database,
    columns: &[&RegisteredColumn],
    number: u32,
) -> Result<(), JobError> {
    let indexes = read(client, columns).await?;
    for index in &indexes {
        if index.on_new_terms(columns, number).is_none() {
            continue;
        }
        let (new, former) = (new_name(number, index.oid), former_name(number, index.oid));
        let there = indexes.iter().any(|other| other.name == new && other.valid);
        if there && index.name != former {
            // Both or neither: nobody finds the table without an index of that name.
            let renames = format!(
                "BEGIN; ALTER INDEX {} RENAME TO {}; ALTER INDEX {} RENAME TO {}; COMMIT",
                index.path(),
                sql::quoted(&former),
                sql::qualified(&index.schema, &new),
                index.quoted
            );
            if let Err(error) = run(client, &renames, index).await {
                let _ = client.batch_execute("ROLLBACK").await;
                return Err(error);
            }
        }
        let name = if there { &former } else { &index.name };
        run(client, &index.drop_sql(name), index).await?;
    }
    Ok(())
}

async fn open(settings: &Settings) -> Result<Database, JobError> {
    let client = connect(settings).await?;
    let set = client.batch_execute(SET_UP).await;
    set.map_err(JobError::while_doing("prepare a connection for indexes"))?;
    Ok(client)
}

async fn run(client: &Database, sql: &str, index: &Index) -> Result<(), JobError> {
    let done = client.batch_execute(sql).await;
    done.map_err(JobError::while_doing(format!(
        "make anew index {} on search terms",
        sql::shown_qualified(&index.schema, &index.name)
    )))
}

async fn read(client: &Database, columns: &[&RegisteredColumn]) -> Result<Vec<Index>, JobError> {
    let doing = || JobError::while_doing("read the indexes on search terms");
    let places: Vec<u32> = columns.iter().map(|column| column.place.0).collect();
    let row = client
        .query_one(TABLES, &[&places])
        .await
        .map_err(doing())?;
    let tables: Option<Vec<u32>> = row.try_get(0).map_err(doing())?;
    let rows = client.query(INDEXES, &[&tables.unwrap_or_default()]).await;
    let index = |row: &tokio_postgres::Row| {
        Ok(Index {
            oid: row.try_get(0)?,
            schema: row.try_get(1)?,
            name: row.try_get(2)?,
            quoted: row.try_get(3)?,
            valid: row.try_get(4)?,
            unique: row.try_get(5)?,
            partitioned: row.try_get(6)?,
            definition: row.try_get(7)?,
            tablespace: row.try_get(8)?,
        })
    };
    let indexes: Result<_, tokio_postgres::Error> =
        rows.map_err(doing())?.iter().map(index).collect();
    indexes.map_err(doing())
}

/// A definition on the terms of a number in the place of the columns' former ones.
fn rewritten(definition: &str, columns: &[&RegisteredColumn], number: u32) -> Option<String> {
    const TERM: &str = "pgveil.eq_term(";
    let (mut out, mut rest, mut changed) = (String::new(), definition, false);
    while let Some(at) = rest.find(TERM) {
        let (before, behind) = rest.split_at(at + TERM.len());
        out.push_str(before);
        let digits = behind.len()
            - behind
                .trim_start_matches(|c: char| c.is_ascii_digit())
                .len();
        let numbered = behind[digits..].strip_prefix(", ").filter(|_| digits > 0);
        let (former, of) = match numbered {
            Some(of) => (behind[..digits].parse().ok()?, of),
            None => (0, behind),
        };
        let is_its = |column: &&&RegisteredColumn| {
            former != number && is_former(column, former) && names(of, &column.column)
        };
        if columns.iter().find(is_its).is_some() {
            if number > 0 {
                out.push_str(&format!("{number}, "));
            }
            (rest, changed) = (of, true);
        } else {
            rest = behind;
        }
    }
    out.push_str(rest);
    changed.then_some(out)
}

/// Whether a column's terms of this number are those that it has, or had, beside the new ones.
fn is_former(column: &RegisteredColumn, number: u32) -> bool {
    let other = column.change.as_ref().and_then(Change::other_terms);
    column.generation.number == number
        || other.is_some_and(|other| other.generation.number == number)
}

/// Whether what stands there, `(email)::bytea` as the server prints it, is the column.
fn names(text: &str, column: &str) -> bool {
    let text = text.trim_start_matches('(');
    [sql::shown(column), sql::quoted(column)]
        .iter()
        .any(|name| {
            let rest = text.strip_prefix(name.as_str());
            rest.is_some_and(|rest| rest.starts_with(')') || rest.starts_with("::"))
        })
}

#[cfg(test)]
mod tests {
    use pgveil_policy::{
        plan::ColumnId,
        ruleset::{Generation, OtherTerms},
    };

    use super::*;

    fn column(name: &str, number: u32, other: u32) -> RegisteredColumn {
        let generation = |number| Generation {
            number,
            newest_key: 0,
        };
        RegisteredColumn {
            id: ColumnId(1),
            schema: "public".into(),
            table: "people".into(),
            column: name.into(),
            logical_type: "text".into(),
            equality: true,
            shared_key: false,
            equality_group: None,
            scope: None,
            generation: generation(number),
            place: (1, 2),
            shown: None,
            change: Some(Change::Turning(OtherTerms {
                generation: generation(other),
                shared_key: false,
                equality_group: None,
                scope: None,
            })),
            searched: true,
        }
    }

    #[test]
    fn a_definition_goes_over_to_the_new_terms_of_its_columns_only() {
        let (email, odd) = (column("email", 0, 9), column("E-mail", 7, 9));
        let columns = [&email, &odd];
        let definition = "CREATE UNIQUE INDEX i ON public.people USING btree (tenant, pgveil.eq_term((email)::bytea), \
            pgveil.eq_term(7, (\"E-mail\")::bytea), pgveil.eq_term((phone)::bytea))";
        let expected = "CREATE UNIQUE INDEX i ON public.people USING btree (tenant, pgveil.eq_term(9, (email)::bytea), \
            pgveil.eq_term(9, (\"E-mail\")::bytea), pgveil.eq_term((phone)::bytea))";
        assert_eq!(
            rewritten(definition, &columns, 9).as_deref(),
            Some(expected)
        );
        assert_eq!(rewritten(expected, &columns, 9), None);
        let other =
            "CREATE INDEX i ON public.people USING btree (pgveil.eq_term((email_2)::bytea))";
        assert_eq!(rewritten(other, &columns, 9), None);
    }
}
