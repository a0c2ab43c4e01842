//! Names a row for people: by its primary key, else by its place. Never shows a column that will be sealed.

use tokio_postgres::Client;

use super::raw::Raw;
use crate::{plan::TablePlan, sql};

/// `id = 42`, or `ctid = (0,7)`.
pub(crate) async fn of(client: &Client, table: &TablePlan, place: &[u8]) -> String {
    by_primary_key(client, table, place)
        .await
        .unwrap_or_else(|| by_place(place))
}

/// A primary key that is to be sealed blocks the plan, so what it shows stays plaintext anyway.
async fn by_primary_key(client: &Client, table: &TablePlan, place: &[u8]) -> Option<String> {
    if table.primary_key.is_empty() {
        return None;
    }
    let parts: Vec<String> = table
        .primary_key
        .iter()
        .map(|c| {
            format!(
                "{} || {}::text",
                sql::literal(&format!("{} = ", sql::shown(c))),
                sql::quoted(c)
            )
        })
        .collect();
    let text = format!(
        "SELECT concat_ws(', ', {}) FROM {} WHERE oidsend(tableoid) || tidsend(ctid) = $1",
        parts.join(", "),
        table.quoted()
    );
    let row = client.query_one(&text, &[&Raw(place)]).await.ok()?;
    row.try_get(0).ok()
}

/// The table's OID (4 bytes), and `tid`'s binary form: block number (4 bytes), offset number (2 bytes).
fn by_place(place: &[u8]) -> String {
    let number = |bytes: Option<&[u8]>| {
        bytes
            .unwrap_or_default()
            .iter()
            .fold(0u64, |n, b| n << 8 | u64::from(*b))
    };
    format!(
        "ctid = ({},{})",
        number(place.get(4..8)),
        number(place.get(8..10))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_place() {
        assert_eq!(by_place(&[0, 0, 64, 0, 0, 0, 1, 2, 0, 7]), "ctid = (258,7)");
        assert_eq!(by_place(&[]), "ctid = (0,0)");
    }
}
