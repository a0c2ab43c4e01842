//! Ids of protected columns, and rows that a superuser of the database writes.

use anyhow::{Context, Result, bail, ensure};
use pgveil_keys::{
    Keystore,
    database::Database,
    keystore::{
        KeystoreError,
        registry::{self, NewColumn, Registry},
    },
};
use pgveil_policy::{
    plan::ColumnId,
    ruleset::{Change, RegisteredColumn, ShownAt},
};

use super::{Site, connect};

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

/// In a transaction with its record, as `apply` does it.
pub(super) async fn commit<T>(
    client: &Database,
    registry: &Registry,
    work: impl AsyncFnOnce() -> Result<T, KeystoreError>,
) -> Result<T> {
    client.batch_execute("BEGIN").await?;
    let done = match work().await {
        Ok(done) => done,
        Err(error) => {
            client.batch_execute("ROLLBACK").await?;
            return Err(error.into());
        }
    };
    registry.seal(&**client, "a test").await?;
    client.batch_execute("COMMIT").await?;
    Ok(done)
}

#[tokio::test]
async fn ids_start_at_one_and_are_never_reused() -> Result<()> {
    let site = Site::new().await?;
    let keystore = site.keystore().await?;
    let client = connect(&site.database).await?;
    let at = &*client;
    let registry = keystore.registry().await?;
    let first = commit(&client, &registry, async || {
        registry.register(at, &column("email")).await
    })
    .await?;
    ensure!(first == ColumnId(1));
    let again = registry.register(at, &column("email")).await;
    ensure!(again.is_err(), "it is registered");
    let retired = commit(&client, &registry, async || {
        Ok((
            registry.retire(at, first).await?,
            registry.retire(at, first).await?,
        ))
    })
    .await?;
    ensure!(retired == (true, false));
    let second = commit(&client, &registry, async || {
        registry.register(at, &column("email")).await
    })
    .await?;
    ensure!(second > first);

    // As another process reads it.
    let registry = site.keystore().await?.registry().await?;
    let live = registry.list(at).await?;
    ensure!(live.len() == 1 && live[0].id == second && live[0].logical_type == "varchar(11)");
    ensure!(
        live[0].equality
            && !live[0].shared_key
            && live[0].equality_group.as_deref() == Some("emails")
    );
    let history = registry.history(at).await?;
    let retired: Vec<_> = history
        .iter()
        .map(|registration| (registration.column.id, registration.retired))
        .collect();
    ensure!(retired == [(first, true), (second, false)]);
    ensure!((history[0].table_oid, history[0].attnum) == (16384, 2));
    ensure!(registry::history_unjudged(at).await? == history);
    ensure!(keystore.log().verify().await?.is_ok());
    let told = site.database.admin(
        "SELECT string_agg(operation, ' ' ORDER BY seq) FROM pgveil.audit WHERE operation = 'policy.apply'",
    )?;
    ensure!(told == "policy.apply policy.apply policy.apply", "{told}");
    Ok(())
}

/// Two columns, of which one was changed in every way that there is.
async fn two_columns(site: &Site, client: &Database) -> Result<std::sync::Arc<Keystore>> {
    let keystore = site.keystore().await?;
    let registry = keystore.registry().await?;
    commit(client, &registry, async || {
        let at = &**client;
        let id = registry.register(at, &column("email")).await?;
        let other = NewColumn {
            logical_type: "int4".into(),
            equality: false,
            ..column("ssn")
        };
        registry.register(at, &other).await?;
        let shown = ShownAt {
            attnum: 2,
            before: vec!["a".into(), "b".into()],
        };
        registry.shown_at(at, id, Some(&shown)).await?;
        let names = ("public", "persons", "email");
        registry.moved(at, id, names, (16385, 3)).await
    })
    .await?;
    site.database
        .admin("CREATE TABLE public.before AS SELECT * FROM pgveil.columns")?;
    commit(client, &registry, async || {
        let at = &**client;
        let now = registry.list(at).await?.remove(0);
        let ending = RegisteredColumn {
            change: Some(Change::EndingTerms),
            ..now.clone()
        };
        registry.describe(at, &now, &ending).await
    })
    .await?;
    site.database
        .admin("CREATE TABLE public.was AS SELECT * FROM pgveil.columns")?;
    Ok(keystore)
}

#[tokio::test]
async fn no_word_of_a_registered_column_can_be_changed() -> Result<()> {
    let site = Site::new().await?;
    let client = connect(&site.database).await?;
    let keystore = two_columns(&site, &client).await?;
    let columns = site.database.admin(
        "SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute \
         WHERE attrelid = 'pgveil.columns'::regclass AND attnum > 0",
    )?;
    for (set, says) in [
        ("schema_name = 'private'", "does not fit"),
        ("table_name = 'others'", "does not fit"),
        ("column_name = 'ssn2'", "does not fit"),
        ("table_oid = 99", "does not fit"),
        ("attnum = 9", "does not fit"),
        ("logical_type = 'text'", "does not fit"),
        ("equality = NOT equality", "does not fit"),
        ("shared_key = true", "does not fit"),
        ("equality_group = NULL", "does not fit"),
        ("scope_template = 'tenant:mine'", "does not fit"),
        ("created_at = now()", "does not fit"),
        ("retired_at = now()", "does not fit"),
        ("change = 'dropping terms'", "does not fit"),
        ("change_type = 'int8', change = 'widening'", "does not fit"),
        ("searched = NOT searched", "does not fit"),
        ("revision = revision + 1", "does not fit"),
        ("shown_at = 4", "does not fit"),
        ("shown_before = '{ab}', shown_at = 2", "does not fit"),
        ("term_number = 7", "does not fit"),
        ("newest_key = newest_key + 1", "does not fit"),
        (
            "other_number = 7, other_newest_key = 1, other_shared_key = true, change = 'turning'",
            "does not fit",
        ),
        (
            "other_newest_key = 1, other_number = 7, other_shared_key = false, change = 'turned'",
            "does not fit",
        ),
        (
            "other_shared_key = true, other_number = 0, other_newest_key = 0, change = 'clearing'",
            "does not fit",
        ),
        (
            "other_group = 'g', other_number = 0, other_newest_key = 0, other_shared_key = true, change = 'turning'",
            "does not fit",
        ),
        (
            "other_scope = 'tenant:mine', other_number = 0, other_newest_key = 0, other_shared_key = true, change = 'turning'",
            "does not fit",
        ),
        ("audit_seq = audit_seq + 1", "does not fit"),
        ("mac = substr(mac, 1, 31)", "does not fit"),
        (
            "mac = (SELECT mac FROM public.was WHERE id = 2)",
            "does not fit",
        ),
        ("mac = NULL", "no MAC"),
    ] {
        let name = set.split(' ').next().context("a column")?;
        ensure!(NAMED.contains(&name), "{name}");
        let update = format!("UPDATE pgveil.columns SET {set} WHERE id = 1");
        is_refused(&site, &client, &keystore, (&update, says)).await?;
    }
    // A column that is added to the table stands in this list, or its MAC is not over it.
    for column in columns.split(' ') {
        ensure!(NAMED.contains(&column), "{column} is not tried");
    }
    Ok(())
}

/// `id` is of the next test.
const NAMED: [&str; 28] = [
    "term_number",
    "newest_key",
    "other_number",
    "other_newest_key",
    "other_shared_key",
    "other_group",
    "other_scope",
    "mac",
    "id",
    "schema_name",
    "table_name",
    "column_name",
    "table_oid",
    "attnum",
    "logical_type",
    "equality",
    "shared_key",
    "equality_group",
    "scope_template",
    "created_at",
    "retired_at",
    "change",
    "change_type",
    "searched",
    "revision",
    "shown_at",
    "shown_before",
    "audit_seq",
];

#[tokio::test]
async fn registered_columns_are_not_planted_swapped_taken_away_or_put_back() -> Result<()> {
    let site = Site::new().await?;
    let client = connect(&site.database).await?;
    let keystore = two_columns(&site, &client).await?;
    let names = "schema_name, table_name, column_name, table_oid, attnum, logical_type, equality, shared_key, scope_template";
    let plant = format!(
        "INSERT INTO pgveil.columns ({names}, audit_seq, mac) SELECT schema_name, table_name, 'mine', table_oid, attnum, \
         logical_type, equality, shared_key, scope_template, audit_seq, mac FROM public.was WHERE id = 1"
    );
    let swap = "UPDATE pgveil.columns c SET logical_type = w.logical_type, equality = w.equality, mac = w.mac, \
        audit_seq = w.audit_seq FROM public.was w WHERE w.id = 3 - c.id";
    let replay = "DELETE FROM pgveil.columns WHERE id = 1; \
        INSERT INTO pgveil.columns OVERRIDING SYSTEM VALUE SELECT * FROM public.before WHERE id = 1";
    for (does, says) in [
        (plant.as_str(), "does not fit"),
        (swap, "does not fit"),
        ("DELETE FROM pgveil.columns WHERE id = 2", "is gone"),
        (replay, "put it back"),
    ] {
        is_refused(&site, &client, &keystore, (does, says)).await?;
    }
    // Without the list of changes the older row has a right MAC; the audit log knows that the list was longer.
    site.database.admin(&format!(
        "{replay}; DELETE FROM pgveil.row_changes WHERE row_name = '1' AND audit_seq > (SELECT audit_seq FROM pgveil.columns WHERE id = 1)"
    ))?;
    ensure!(keystore.log().verify().await?.is_err());
    Ok(())
}

#[tokio::test]
async fn a_trigger_that_changes_what_is_registered_is_found() -> Result<()> {
    let site = Site::new().await?;
    let client = connect(&site.database).await?;
    let keystore = two_columns(&site, &client).await?;
    site.database.admin(
        "CREATE FUNCTION public.twist() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN NEW.logical_type := 'text'; NEW.equality := false; RETURN NEW; END $$; \
         CREATE TRIGGER twist BEFORE INSERT ON pgveil.columns FOR EACH ROW EXECUTE FUNCTION public.twist()",
    )?;
    let registry = keystore.registry().await?;
    commit(&client, &registry, async || {
        registry.register(&*client, &column("phone")).await
    })
    .await?;
    let read = keystore.registry().await?.list(&*client).await;
    ensure!(says(&read, "does not fit"), "{read:?}");
    Ok(())
}

fn says<T>(read: &Result<T, KeystoreError>, words: &str) -> bool {
    matches!(read, Err(KeystoreError::Damaged { table: "pgveil.columns", reason }) if reason.contains(words))
}

/// Nothing is read, nothing is changed, `check` names it; and all is well once it is undone.
async fn is_refused(
    site: &Site,
    client: &Database,
    keystore: &Keystore,
    (does, words): (&str, &str),
) -> Result<()> {
    site.database.admin(does)?;
    let registry = keystore.registry().await?;
    let read = registry.history(&**client).await;
    if !says(&read, words) {
        bail!("{does}: {read:?} does not say {words:?}");
    }
    let named = keystore.refused_rows().await?;
    ensure!(!named.is_empty(), "{does}: `check` names nothing");
    site.database.admin(
        "DELETE FROM pgveil.columns; INSERT INTO pgveil.columns OVERRIDING SYSTEM VALUE SELECT * FROM public.was",
    )?;
    registry.history(&**client).await?;
    Ok(())
}

#[tokio::test]
async fn a_registry_from_before_macs_gets_them_once() -> Result<()> {
    let site = Site::new().await?;
    let client = connect(&site.database).await?;
    two_columns(&site, &client).await?;
    let bare = "UPDATE pgveil.columns SET mac = NULL, audit_seq = NULL";
    site.database.admin(bare)?;
    let keystore = site.keystore().await?;
    // The audit log knows better.
    ensure!(!keystore.columns_lack_macs().await?);
    site.database.admin(
        "ALTER TABLE pgveil.audit DISABLE TRIGGER append_only; DELETE FROM pgveil.audit; DELETE FROM pgveil.audit_head; \
         DELETE FROM pgveil.audit_keys; DELETE FROM pgveil.row_changes; ALTER TABLE pgveil.audit ENABLE TRIGGER append_only",
    )?;
    let keystore = site.keystore().await?;
    ensure!(keystore.columns_lack_macs().await?);
    let registry = keystore.registry().await?;
    commit(&client, &registry, async || {
        registry.take_up(&*client).await
    })
    .await?;
    ensure!(keystore.registry().await?.history(&*client).await?.len() == 2);
    ensure!(!keystore.columns_lack_macs().await?);
    site.database.admin(bare)?;
    ensure!(!keystore.columns_lack_macs().await?);
    Ok(())
}
