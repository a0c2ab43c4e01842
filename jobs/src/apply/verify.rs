//! The second pass: every row of the rewritten table is opened again. It repairs nothing.

use tokio_postgres::Client;
use zeroize::Zeroizing;

use super::{
    digest::Digest,
    progress::Progress,
    rows::{Parts, Walk},
    sealing::Sealing,
};
use crate::{JobError, plan::TablePlan};

/// Opens every row with the keys of its own scope and digests the plaintexts, as the first pass did.
pub(super) async fn digest(
    client: &Client,
    table: &TablePlan,
    sealing: &Sealing<'_>,
    rows: u64,
) -> Result<Digest, JobError> {
    let mut walk = Walk::over(client, table).await?;
    let progress = Progress::rows("verifying", table, Some(rows));
    let mut digest = Digest::default();
    loop {
        let batch = walk.next().await?;
        if batch.is_empty() {
            break;
        }
        for row in &batch {
            let row = walk.parts(row)?;
            let opened = open(sealing, table, &row).await?;
            digest.add(
                row.identity,
                opened
                    .iter()
                    .map(|o| o.as_ref().map(|plain| plain.as_slice())),
            );
        }
        progress.advance(batch.len());
    }
    walk.close().await?;
    progress.done();
    Ok(digest)
}

async fn open(
    sealing: &Sealing<'_>,
    table: &TablePlan,
    row: &Parts<'_>,
) -> Result<Vec<Option<Zeroizing<Vec<u8>>>>, JobError> {
    if row.values.iter().all(Option::is_none) {
        return Ok(vec![None; row.values.len()]);
    }
    let scope = sealing
        .scope(&row.scope)
        .map_err(|_| JobError::VerificationFailed {
            table: table.shown(),
        })?;
    sealing.open(&scope, &row.values).await
}
