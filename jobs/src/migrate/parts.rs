//! The tables that hold the rows of a table under way: the table itself, or, where it is partitioned, its leaves, whose list is
//! read anew for each pass. What is known of each is noted with the trigger that has watched over it since: a partition that is
//! attached, or attached again, has another one. It reads and writes no rows of theirs.

use std::collections::HashMap;

use tokio_postgres::{Client, Row};

use super::{Migration, Phase, names};
use crate::{JobError, sql, walk::Cursor};

/// Of an ordinary table the server gives no tree.
const TREE: &str = "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind <> 'p', t.parent, \
    (SELECT g.oid FROM pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid AND g.tgname = $2) \
    FROM (SELECT relid::oid AS oid, parentrelid::oid AS parent, level FROM pg_catalog.pg_partition_tree($1::oid::regclass) \
        UNION SELECT $1, NULL, 0) AS t \
    JOIN pg_catalog.pg_class c ON c.oid = t.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    ORDER BY t.level, c.oid";
const NOTED: &str = "SELECT part, fence, verified FROM pgveil.migrated_parts WHERE migration = $1";
const NOTE: &str = "INSERT INTO pgveil.migrated_parts (migration, part, fence, verified) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (migration, part) DO UPDATE SET fence = excluded.fence, verified = excluded.verified";
const FENCE_ALL: &str = "INSERT INTO pgveil.migrated_parts (migration, part, fence) \
    SELECT $1, t.relid, g.oid FROM pg_catalog.pg_partition_tree($2::oid::regclass) t \
    JOIN pg_catalog.pg_trigger g ON g.tgrelid = t.relid AND g.tgname = $3 WHERE t.isleaf \
    ON CONFLICT (migration, part) DO UPDATE SET fence = excluded.fence";
const FILES: &str = "UPDATE pgveil.migrated_parts SET file = pg_catalog.pg_relation_filenode(part) \
    WHERE migration = $1 AND part IN (SELECT relid FROM pg_catalog.pg_partition_tree($2::oid::regclass))";
/// Those that are in no tree any more, and have a column of this name still.
const LEFT: &str = "SELECT n.nspname::text, c.relname::text FROM pgveil.migrated_parts p \
    JOIN pg_catalog.pg_class c ON c.oid = p.part JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE p.migration = $1 AND p.part NOT IN (SELECT relid FROM pg_catalog.pg_partition_tree($2::oid::regclass)) \
    AND EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attname = $3 AND NOT a.attisdropped) \
    ORDER BY 1, 2";

/// A table under way, or one of its partitions.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) oid: u32,
    pub(super) schema: String,
    name: String,
    /// It has rows of its own.
    pub(super) is_leaf: bool,
    /// What it is a partition of.
    pub(super) parent: Option<u32>,
    /// The trigger that watches over it.
    fence: Option<u32>,
    /// Its triggers have watched over it since its copies were right, or were none.
    pub(super) is_known: bool,
    /// And every row of it has been verified.
    pub(super) is_verified: bool,
}

/// Where a walk goes on in a leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Resume {
    /// At its first row.
    Start,
    /// Behind this place.
    Behind(Cursor),
    /// It is through with it.
    Through,
}

impl Resume {
    /// The place; `None`: its first row.
    pub(super) fn place(self) -> Option<Cursor> {
        match self {
            Self::Behind(cursor) => Some(cursor),
            Self::Start | Self::Through => None,
        }
    }
}

impl Part {
    /// `"schema"."table"`.
    pub(super) fn quoted(&self) -> String {
        sql::qualified(&self.schema, &self.name)
    }

    /// `schema.table`.
    pub(super) fn shown(&self) -> String {
        sql::shown_qualified(&self.schema, &self.name)
    }

    /// Its bare name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is a partition, and not the table itself.
    pub(super) fn is_partition(&self) -> bool {
        self.parent.is_some()
    }

    /// Where a walk over all leaves, in the order of their OIDs, goes on in this one.
    pub(super) fn resume(&self, cursor: Option<&str>) -> Resume {
        let Some(cursor) = cursor else {
            return Resume::Start;
        };
        if !self.is_partition() {
            return Resume::Behind(Cursor::new(cursor.to_owned()));
        }
        let (oid, within) = match cursor.split_once(' ') {
            Some((oid, within)) => (oid, Some(within)),
            None => (cursor, None),
        };
        // What is no cursor of such a walk counts as none.
        let oid: u32 = oid.parse().unwrap_or_default();
        match within {
            _ if self.oid > oid => Resume::Start,
            Some(within) if self.oid == oid => Resume::Behind(Cursor::new(within.to_owned())),
            _ => Resume::Through,
        }
    }

    /// The cursor of that walk at this place of this one; `None`: at its end.
    pub(super) fn cursor(&self, within: Option<&Cursor>) -> Option<String> {
        if !self.is_partition() {
            return within.map(|within| within.as_str().to_owned());
        }
        Some(match within {
            Some(within) => format!("{} {}", self.oid, within.as_str()),
            None => self.oid.to_string(),
        })
    }

    /// Notes that it is known from now on.
    pub(super) async fn note(
        &self,
        client: &Client,
        migration: &Migration,
        is_verified: bool,
    ) -> Result<(), JobError> {
        if !self.is_partition() {
            return Ok(());
        }
        let noted = client
            .execute(NOTE, &[&migration.id, &self.oid, &self.fence, &is_verified])
            .await;
        noted.map(drop).map_err(noting())
    }
}

/// The table, its partitions and theirs, from above.
pub(super) async fn all(client: &Client, migration: &Migration) -> Result<Vec<Part>, JobError> {
    let rows = client
        .query(TREE, &[&migration.oid, &names::watching()])
        .await
        .map_err(noting())?;
    let mut parts: Vec<Part> = { rows.iter().map(part) }
        .collect::<Result<_, _>>()
        .map_err(noting())?;
    if parts.iter().all(|part| part.is_leaf) {
        let through = !matches!(
            migration.phase,
            Phase::Backfill | Phase::Index | Phase::Verify
        );
        for part in &mut parts {
            (part.is_known, part.is_verified) = (true, through);
        }
        return Ok(parts);
    }
    let rows = client.query(NOTED, &[&migration.id]).await;
    let rows = rows.map_err(noting())?;
    let noted = rows
        .iter()
        .map(|row| Ok((row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?))));
    let noted: HashMap<u32, (u32, bool)> = { noted }
        .collect::<Result<_, tokio_postgres::Error>>()
        .map_err(noting())?;
    for part in &mut parts {
        let noted = noted.get(&part.oid);
        part.is_known = noted.is_some_and(|(fence, _)| Some(*fence) == part.fence);
        part.is_verified = part.is_known && noted.is_some_and(|(_, verified)| *verified);
    }
    Ok(parts)
}

/// Those with rows, in the order of their OIDs.
pub(super) async fn leaves(client: &Client, migration: &Migration) -> Result<Vec<Part>, JobError> {
    let mut parts = all(client, migration).await?;
    parts.retain(|part| part.is_leaf);
    parts.sort_by_key(|part| part.oid);
    Ok(parts)
}

/// Whether nothing came that has not been verified.
pub(super) async fn are_verified(client: &Client, migration: &Migration) -> Result<bool, JobError> {
    let leaves = leaves(client, migration).await?;
    Ok(leaves.iter().all(|leaf| leaf.is_verified))
}

/// With the table locked, and its triggers made anew: these watch over what is known already.
pub(super) async fn fence(client: &Client, (id, table): (i64, u32)) -> Result<(), JobError> {
    let known = "SELECT to_regclass('pgveil.migrated_parts') IS NOT NULL";
    let known = client.query_one(known, &[]).await.map_err(noting())?;
    // An earlier pgveil began it, of a table without partitions.
    if !known.try_get::<_, bool>(0).map_err(noting())? {
        return Ok(());
    }
    let fenced = client
        .execute(FENCE_ALL, &[&id, &table, &names::watching()])
        .await;
    fenced.map(drop).map_err(noting())
}

/// Notes in which files the plaintext of partitions was.
pub(super) async fn note_files(client: &Client, migration: &Migration) -> Result<(), JobError> {
    let noted = client
        .execute(FILES, &[&migration.id, &migration.oid])
        .await;
    noted.map(drop).map_err(noting())
}

/// Partitions that were detached meanwhile and have a column of pgveil's own.
pub(super) async fn left_with(
    client: &Client,
    migration: &Migration,
    column: &str,
) -> Result<Vec<String>, JobError> {
    let rows = client
        .query(LEFT, &[&migration.id, &migration.oid, &column])
        .await
        .map_err(noting())?;
    let shown = |row: &Row| {
        let (schema, name): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        Ok(sql::shown_qualified(&schema, &name))
    };
    let found = rows.iter().map(shown);
    { found.collect::<Result<_, tokio_postgres::Error>>() }.map_err(noting())
}

fn part(row: &Row) -> Result<Part, tokio_postgres::Error> {
    Ok(Part {
        oid: row.try_get(0)?,
        schema: row.try_get(1)?,
        name: row.try_get(2)?,
        is_leaf: row.try_get(3)?,
        parent: row.try_get(4)?,
        fence: row.try_get(5)?,
        is_known: false,
        is_verified: false,
    })
}

fn noting() -> impl FnOnce(tokio_postgres::Error) -> JobError {
    JobError::while_doing("read or note the partitions of a migrated table")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(oid: u32, parent: Option<u32>) -> Part {
        Part {
            oid,
            schema: "public".to_owned(),
            name: "t".to_owned(),
            is_leaf: true,
            parent,
            fence: None,
            is_known: false,
            is_verified: false,
        }
    }

    #[test]
    fn a_walk_goes_on_in_the_leaf_where_it_was_and_behind_it() {
        let alone = part(7, None);
        let at = Cursor::new("[\"a b\"]".to_owned());
        let cursor = alone.cursor(Some(&at));
        assert_eq!(cursor.as_deref(), Some("[\"a b\"]"));
        assert_eq!(alone.resume(cursor.as_deref()), Resume::Behind(at.clone()));
        assert_eq!(alone.cursor(None), None);

        let [before, within, behind] = [5, 7, 9].map(|oid| part(oid, Some(1)));
        let cursor = within.cursor(Some(&at));
        assert_eq!(before.resume(cursor.as_deref()), Resume::Through);
        assert_eq!(within.resume(cursor.as_deref()), Resume::Behind(at));
        assert_eq!(behind.resume(cursor.as_deref()), Resume::Start);
        let end = within.cursor(None);
        assert_eq!(within.resume(end.as_deref()), Resume::Through);
        assert_eq!(behind.resume(end.as_deref()), Resume::Start);
        for part in [before, within, behind] {
            assert_eq!(part.resume(None), Resume::Start);
            assert_eq!(part.resume(Some("none of ours")), Resume::Start);
        }
    }
}
