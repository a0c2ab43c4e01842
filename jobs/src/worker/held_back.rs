//! Values that a job cannot remake for now, told by the data keys that their headers name: each key is tried once, and no row is
//! read for it. A scope that is sealed, a provider that is away. It ends no job and writes nothing.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, stream};
use pgveil_keys::{DekId, Keys, database::Database};

use crate::{
    JobError,
    held::{Held, is_sealed_and},
    remake::{At, Remake, Trouble, trouble},
    uses::BEGIN,
};

/// More keys than this are not tried: the rows of the others' values are read again.
const MAX_KEYS: usize = 1000;
/// Keys that are tried side by side.
const AT_ONCE: usize = 16;
/// Between two tries of held keys there is a second for so many of them.
const TRIED_PER_S: usize = 20;
const PAUSES_S: (f64, f64) = (2.0, 30.0);

/// What cannot be done for now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct HeldBack {
    /// Data keys that cannot be had, though they may be at another time.
    pub(super) keys: Vec<u64>,
    /// Values that are to be remade and name one.
    pub(super) values: i64,
    /// Why, for people.
    pub(super) why: String,
}

impl HeldBack {
    /// The same, for a column of type bigint.
    pub(super) fn ids(&self) -> Vec<i64> {
        let ids = self.keys.iter().filter_map(|id| i64::try_from(*id).ok());
        ids.collect()
    }

    /// How long until they are tried again.
    pub(super) fn pause_s(&self) -> f64 {
        let tried = u32::try_from(self.keys.len() / TRIED_PER_S).unwrap_or(u32::MAX);
        f64::from(tried).clamp(PAUSES_S.0, PAUSES_S.1)
    }
}

/// Of values that were counted, those whose keys cannot be had now.
pub(super) async fn look<'a>(
    client: &Database,
    kind: &dyn Remake,
    keys: &Keys,
    columns: impl Iterator<Item = &'a Held>,
) -> Result<HeldBack, JobError> {
    let named = name(client, kind, columns).await?;
    let tried: Vec<u64> = named.keys().copied().take(MAX_KEYS).collect();
    let mut held = try_all(keys, tried).await;
    held.values = held.keys.iter().filter_map(|id| named.get(id)).sum();
    Ok(held)
}

/// Which of these keys still cannot be had.
pub(super) async fn try_all(keys: &Keys, ids: Vec<u64>) -> HeldBack {
    let tried = stream::iter(ids).map(async |id| (id, keys.opening_key(DekId(id)).await));
    let mut tried = std::pin::pin!(tried.buffered(AT_ONCE));
    let mut held = HeldBack::default();
    let mut reasons = BTreeSet::new();
    while let Some((id, key)) = tried.next().await {
        // What was destroyed is found by those who read its values.
        let Err(Trouble::Later(why)) = key.map_err(trouble) else {
            continue;
        };
        held.keys.push(id);
        reasons.insert(why);
    }
    let others = reasons.len().saturating_sub(1);
    held.why = reasons.pop_first().unwrap_or_default();
    if others > 0 {
        held.why = format!("{}, and {others} more like it", held.why);
    }
    held
}

/// How many values that are to be remade name which key.
async fn name<'a>(
    client: &Database,
    kind: &dyn Remake,
    columns: impl Iterator<Item = &'a Held>,
) -> Result<BTreeMap<u64, i64>, JobError> {
    let counting = || JobError::while_doing("count which data keys the values left by a pass name");
    client.batch_execute(BEGIN).await.map_err(counting())?;
    let mut named = BTreeMap::new();
    let counted = async {
        for held in columns {
            for row in client.query(&statement(held, kind), &[]).await? {
                let (key, values): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
                *named.entry(key.unsigned_abs()).or_default() += values;
            }
        }
        Ok(())
    };
    let counted = counted.await;
    let ended = client.batch_execute("ROLLBACK").await;
    counted.map_err(counting())?;
    ended.map_err(counting())?;
    Ok(named)
}

fn statement(held: &Held, kind: &dyn Remake) -> String {
    let (relation, column) = (held.oid, held.column.as_str());
    let (value, elements) = if held.is_array {
        let elements = format!(", unnest(t.{column}::pg_catalog.bytea[]) AS held(element)");
        ("held.element".to_owned(), elements)
    } else {
        (format!("t.{column}::pg_catalog.bytea"), String::new())
    };
    let counted = kind.counts(At { relation, column }, &value);
    // A number below zero is no key's; nobody sealed with it.
    format!(
        "SELECT ('x' || encode(substr({value}, 9, 8), 'hex'))::bit(64)::bigint AS key, count(*) \
         FROM ONLY {} AS t{elements} WHERE {} GROUP BY 1",
        held.table,
        is_sealed_and(&value, &counted)
    )
}
