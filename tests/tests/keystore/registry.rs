//! Ids of protected columns.

use anyhow::{Result, ensure};
use pgveil_keys::keystore::registry::{self, NewColumn};
use pgveil_policy::plan::ColumnId;

use super::{connect, installed};

fn column(name: &str) -> NewColumn {
    NewColumn {
        schema: "public".into(),
        table: "people".into(),
        column: name.into(),
        table_oid: 16384,
        attnum: 2,
        logical_type: "varchar(11)".into(),
        equality: true,
        shared_key: false,
        equality_group: Some("emails".into()),
        scope: "platform".into(),
    }
}

#[tokio::test]
async fn ids_start_at_one_and_are_never_reused() -> Result<()> {
    let database = installed().await?;
    let mut client = connect(&database).await?;
    let first = registry::register(&*client, &column("email")).await?;
    ensure!(first == ColumnId(1));
    ensure!(
        registry::register(&*client, &column("email"))
            .await
            .is_err(),
        "it is registered"
    );
    ensure!(registry::retire(&*client, first).await? && !registry::retire(&*client, first).await?);

    let transaction = client.transaction().await?;
    let second = registry::register(&transaction, &column("email")).await?;
    transaction.commit().await?;
    ensure!(second > first);

    let live = registry::list(&*client).await?;
    ensure!(live.len() == 1 && live[0].id == second && live[0].logical_type == "varchar(11)");
    ensure!(
        live[0].equality
            && !live[0].shared_key
            && live[0].equality_group.as_deref() == Some("emails")
    );
    let history = registry::history(&*client).await?;
    let retired: Vec<_> = history
        .iter()
        .map(|registration| (registration.column.id, registration.retired))
        .collect();
    ensure!(retired == [(first, true), (second, false)]);
    ensure!((history[0].table_oid, history[0].attnum) == (16384, 2));
    Ok(())
}
