//! The last look of a job that only looks at values: at the rows that were written while it walked. One whose key was changed
//! meanwhile may have come to a place that the walk had behind it. It writes nothing.
//!
//! Whoever has begun since the walk writes values that fit; but it may also have moved one, in its row, that was there before.
//! A row that nobody has written since then has kept its place, and was looked at.

use pgveil_keys::database::Database;

use crate::{
    JobError,
    held::{self, Held, is_sealed_and},
    remake::{At, Remake, Trouble},
    uses::BEGIN,
    walk::Walk,
};

/// Rows that are fetched at a time.
const ROWS: usize = 100;
/// What does not pass is named so often.
const MAX_FAULTS: usize = 20;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) values: i64,
    pub(super) faulty: i64,
    pub(super) faults: Vec<String>,
    /// Why something could not be looked at.
    pub(super) later: Option<String>,
}

/// `horizon`: transactions from this number on have begun after the walk could begin.
pub(super) async fn look(
    client: &Database,
    kind: &dyn Remake,
    horizon: u64,
) -> Result<Seen, JobError> {
    client.batch_execute(BEGIN).await.map_err(looking())?;
    let seen = look_in_transaction(client, kind, horizon).await;
    let ended = client.batch_execute("ROLLBACK").await;
    let seen = seen?;
    ended.map_err(looking())?;
    Ok(seen)
}

/// In one snapshot. It lasts as long as it takes to open what was written during one walk.
async fn look_in_transaction(
    client: &Database,
    kind: &dyn Remake,
    horizon: u64,
) -> Result<Seen, JobError> {
    let mut seen = Seen::default();
    for held in held::columns(client).await.map_err(looking())? {
        let at = At {
            relation: held.oid,
            column: &held.column,
        };
        let of = if held.is_array {
            "held.element".to_owned()
        } else {
            format!("t.{}::pg_catalog.bytea", held.column)
        };
        let wanted = kind.wants(at, &of);
        if held.is_view || wanted == "false" {
            continue;
        }
        look_at_column(client, kind, (&held, &of, &wanted), horizon, &mut seen).await?;
    }
    Ok(seen)
}

async fn look_at_column(
    client: &Database,
    kind: &dyn Remake,
    (held, value, wanted): (&Held, &str, &str),
    horizon: u64,
    seen: &mut Seen,
) -> Result<(), JobError> {
    let walk = Walk::over_by(client, held.oid).await?;
    let elements = if held.is_array {
        format!(
            ", unnest(t.{}::pg_catalog.bytea[]) AS held(element)",
            held.column
        )
    } else {
        String::new()
    };
    // An age says nothing of a row that was frozen long ago: then it is looked at once more, which harms nobody.
    let declare = format!(
        "DECLARE recent NO SCROLL CURSOR FOR SELECT {}, {value} FROM ONLY {} AS t{elements} \
         WHERE age(t.xmin) <= age('{horizon}'::xid8::xid) AND {}",
        walk.place(),
        held.table,
        is_sealed_and(value, wanted)
    );
    client.batch_execute(&declare).await.map_err(looking())?;
    let fetch = format!("FETCH {ROWS} FROM recent");
    loop {
        let rows = client.query_typed(&fetch, &[]).await.map_err(looking())?;
        let mut page: Vec<(String, Vec<u8>)> = Vec::with_capacity(rows.len());
        for row in &rows {
            let place = row.try_get(0).map_err(looking())?;
            page.push((place, row.try_get(1).map_err(looking())?));
        }
        let values: Vec<&[u8]> = page.iter().map(|(_, value)| value.as_slice()).collect();
        kind.prepare(&values).await;
        for (place, value) in &page {
            seen.values += 1;
            let at = At {
                relation: held.oid,
                column: &held.column,
            };
            match kind.remake(at, &[], value).await {
                Ok(_) => {}
                Err(Trouble::Later(why)) => seen.later = Some(why),
                Err(Trouble::Faulty(why)) => {
                    seen.faulty += 1;
                    if seen.faults.len() < MAX_FAULTS {
                        let (table, place) = (walk.shown(), walk.shown_place(place));
                        let column = &held.column;
                        seen.faults
                            .push(format!("{table}.{column}, row with {place}: {why}"));
                    }
                }
            }
        }
        if rows.len() < ROWS {
            break;
        }
    }
    client
        .batch_execute("CLOSE recent")
        .await
        .map_err(looking())
}

fn looking() -> impl FnOnce(tokio_postgres::Error) -> JobError {
    JobError::while_doing("look at rows that were written meanwhile")
}
