//! Numbers of the labels of enum types: what a superuser of the database writes there is refused, and never another label.

use anyhow::{Result, bail, ensure};
use pgveil_keys::{
    Keystore,
    database::Database,
    keystore::{
        KeystoreError,
        registry::{self, Registry},
    },
};
use pgveil_policy::catalog::SealedLabel;

use super::{Site, connect, registry::commit};

pub(super) fn label(
    type_name: &str,
    number: i32,
    label: &str,
) -> Result<SealedLabel, anyhow::Error> {
    Ok(SealedLabel {
        schema: "public".to_owned(),
        type_name: type_name.to_owned(),
        oid: 50_000 + u32::try_from(number)?,
        label: label.to_owned(),
        number,
    })
}

/// Two types of two labels each.
pub(super) fn moods() -> Result<Vec<SealedLabel>> {
    Ok(vec![
        label("level", 1, "low")?,
        label("level", 2, "high")?,
        label("mood", 1, "sad")?,
        label("mood", 2, "ok")?,
    ])
}

pub(super) async fn record(
    client: &Database,
    registry: &Registry,
    labels: &[SealedLabel],
) -> Result<()> {
    commit(client, registry, async || {
        registry.record_labels(&**client, labels).await?;
        // Read where it was written, before the MACs are there.
        registry.labels(&**client).await.map(drop)
    })
    .await
}

/// What the type was called first stands in `public.before`, what it is called now in `public.was`.
async fn recorded(site: &Site, client: &Database) -> Result<std::sync::Arc<Keystore>> {
    let keystore = site.keystore().await?;
    let registry = keystore.registry().await?;
    record(client, &registry, &moods()?).await?;
    site.database
        .admin("CREATE TABLE public.before AS SELECT * FROM pgveil.enum_labels")?;
    record(client, &registry, &[label("mood", 2, "fine")?]).await?;
    site.database
        .admin("CREATE TABLE public.was AS SELECT * FROM pgveil.enum_labels")?;
    Ok(keystore)
}

#[tokio::test]
async fn labels_keep_their_numbers_and_follow_renames() -> Result<()> {
    let site = Site::new().await?;
    let client = connect(&site.database).await?;
    let keystore = recorded(&site, &client).await?;
    // As another process reads it.
    let registry = site.keystore().await?.registry().await?;
    let read = registry.labels(&*client).await?;
    let mut expected = moods()?;
    expected[3] = label("mood", 2, "fine")?;
    ensure!(read == expected, "{read:?}");
    ensure!(registry::labels_unjudged(&*client).await? == expected);
    record(&client, &registry, &[label("mood", 3, "great")?]).await?;
    ensure!(registry.labels(&*client).await?.len() == 5);
    ensure!(keystore.log().verify().await?.is_ok());
    ensure!(keystore.refused_rows().await?.is_empty());
    let told = site.database.admin(
        "SELECT string_agg(operation, ' ' ORDER BY seq) FROM pgveil.audit WHERE operation = 'label.record'",
    )?;
    ensure!(
        told == "label.record label.record label.record label.record",
        "{told}"
    );
    Ok(())
}

#[tokio::test]
async fn no_word_of_a_label_can_be_changed() -> Result<()> {
    let site = Site::new().await?;
    let client = connect(&site.database).await?;
    let keystore = recorded(&site, &client).await?;
    let columns = site.database.admin(
        "SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute \
         WHERE attrelid = 'pgveil.enum_labels'::regclass AND attnum > 0",
    )?;
    let tried = [
        ("type_schema = 'crm'", "does not fit"),
        ("type_name = 'other'", "does not fit"),
        ("label_oid = 50007", "does not fit"),
        ("label = 'sad'", "does not fit"),
        ("number = 7", "does not fit"),
        ("labels = labels + 1", "does not fit"),
        ("labels = NULL", "does not fit"),
        ("audit_seq = audit_seq + 1", "does not fit"),
        ("audit_seq = NULL", "no MAC"),
        ("mac = substr(mac, 1, 31)", "does not fit"),
        ("mac = NULL", "no MAC"),
    ];
    for (set, words) in tried {
        let update = format!(
            "UPDATE pgveil.enum_labels SET {set} WHERE type_name = 'mood' AND label = 'fine'"
        );
        // Its row_changes would miss a row of another name: the first to be found is said.
        let words = match set.split(' ').next() {
            Some("type_schema" | "type_name" | "number") => "is gone",
            _ => words,
        };
        is_refused(&site, &client, &keystore, (&update, words)).await?;
    }
    // A column that is added to the table stands in this list, or its MAC is not over it.
    for column in columns.split(' ') {
        let is_tried = |(set, _): &(&str, &str)| set.split(' ').next() == Some(column);
        ensure!(tried.iter().any(is_tried), "{column} is not tried");
    }
    Ok(())
}

#[tokio::test]
async fn labels_are_not_planted_swapped_taken_away_or_put_back() -> Result<()> {
    let site = Site::new().await?;
    let client = connect(&site.database).await?;
    let keystore = recorded(&site, &client).await?;
    // Numbers of two labels change places, and the MACs with them or not; so do the rows of two types.
    let swapped = |what: &str| {
        format!(
            "UPDATE pgveil.enum_labels k SET {what} FROM public.was w \
             WHERE k.type_name = 'mood' AND w.type_name = 'mood' AND w.number = 3 - k.number"
        )
    };
    let names = swapped("label = w.label, label_oid = w.label_oid");
    let whole =
        swapped("label = w.label, label_oid = w.label_oid, audit_seq = w.audit_seq, mac = w.mac");
    let types = "UPDATE pgveil.enum_labels SET type_name = CASE type_name WHEN 'mood' THEN 'x' ELSE 'y' END; \
         UPDATE pgveil.enum_labels SET type_name = CASE type_name WHEN 'x' THEN 'level' ELSE 'mood' END";
    let plant = "INSERT INTO pgveil.enum_labels SELECT type_schema, type_name, label_oid, label, 3, labels, audit_seq, mac \
         FROM public.was WHERE label = 'fine'";
    let replay = "DELETE FROM pgveil.enum_labels; INSERT INTO pgveil.enum_labels SELECT * FROM public.before";
    let forget = "DELETE FROM pgveil.row_changes WHERE table_name = 'enum_labels'";
    let taken = "DELETE FROM pgveil.enum_labels WHERE type_name = 'mood' AND number = 1";
    let taken_whole = format!("{taken}; {forget} AND row_name LIKE '%1'");
    for (does, words) in [
        (names.as_str(), "does not fit"),
        (&whole, "does not fit"),
        (types, "does not fit"),
        (plant, "does not fit"),
        (taken, "is gone"),
        // Nobody tells of the row any more, but those that are left.
        (&taken_whole, "another number of labels"),
        ("DELETE FROM pgveil.enum_labels", "is gone"),
        (replay, "put it back"),
    ] {
        is_refused(&site, &client, &keystore, (does, words)).await?;
    }
    Ok(())
}

/// All rows of a type are gone, and whatever names them: the audit log knows that labels had numbers, and none gets another.
#[tokio::test]
async fn hidden_labels_get_no_other_numbers() -> Result<()> {
    let site = Site::new().await?;
    let client = connect(&site.database).await?;
    recorded(&site, &client).await?;
    site.database.admin(
        "DELETE FROM pgveil.enum_labels WHERE type_name = 'mood'; \
         DELETE FROM pgveil.row_changes WHERE table_name = 'enum_labels' AND row_name LIKE '%mood%'",
    )?;
    let registry = site.keystore().await?.registry().await?;
    let other = record(&client, &registry, &[label("mood", 1, "fine")?]).await;
    let said = other.map_or_else(|error| error.to_string(), |()| "nothing".to_owned());
    ensure!(said.contains("rows are gone"), "{said}");
    let registry = site.keystore().await?.registry().await?;
    record(&client, &registry, &[label("level", 3, "higher")?]).await?;
    Ok(())
}

#[tokio::test]
async fn a_trigger_that_changes_what_is_recorded_is_found() -> Result<()> {
    let site = Site::new().await?;
    let client = connect(&site.database).await?;
    let registry = site.keystore().await?.registry().await?;
    site.database.admin(
        "CREATE FUNCTION public.twist() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN NEW.label := CASE NEW.label WHEN 'sad' THEN 'ok' ELSE 'sad' END; RETURN NEW; END $$; \
         CREATE TRIGGER twist BEFORE INSERT ON pgveil.enum_labels FOR EACH ROW EXECUTE FUNCTION public.twist()",
    )?;
    let twisted = record(&client, &registry, &moods()?).await;
    let said = twisted.map_or_else(|error| error.to_string(), |()| "nothing".to_owned());
    ensure!(said.contains("a trigger changes it"), "{said}");
    Ok(())
}

#[tokio::test]
async fn labels_from_before_macs_get_them_once() -> Result<()> {
    let site = Site::new().await?;
    let client = connect(&site.database).await?;
    let bare = "INSERT INTO pgveil.enum_labels (type_schema, type_name, label_oid, label, number) \
        VALUES ('public', 'mood', 50001, 'sad', 1), ('public', 'mood', 50002, 'ok', 2)";
    site.database.admin(bare)?;
    let keystore = site.keystore().await?;
    ensure!(keystore.labels_lack_macs().await?);
    let registry = keystore.registry().await?;
    ensure!(says(&registry.labels(&*client).await, "no MAC"));
    commit(&client, &registry, async || {
        registry.take_up_labels(&*client).await
    })
    .await?;
    let registry = site.keystore().await?.registry().await?;
    ensure!(registry.labels(&*client).await? == moods()?[2..]);
    ensure!(!keystore.labels_lack_macs().await?);
    // The audit log knows better, whatever is taken away beside.
    site.database.admin(
        "UPDATE pgveil.enum_labels SET mac = NULL, audit_seq = NULL, labels = NULL; DELETE FROM pgveil.row_changes",
    )?;
    ensure!(!keystore.labels_lack_macs().await?);
    Ok(())
}

fn says<T>(read: &Result<T, KeystoreError>, words: &str) -> bool {
    matches!(read, Err(KeystoreError::Damaged { table: "pgveil.enum_labels", reason }) if reason.contains(words))
}

/// Nothing is read, `check` names it; and all is well once it is undone.
async fn is_refused(
    site: &Site,
    client: &Database,
    keystore: &Keystore,
    (does, words): (&str, &str),
) -> Result<()> {
    site.database
        .admin("CREATE TABLE public.changes AS TABLE pgveil.row_changes")?;
    site.database.admin(does)?;
    let registry = keystore.registry().await?;
    let read = registry.labels(&**client).await;
    if !says(&read, words) {
        bail!("{does}: {read:?} does not say {words:?}");
    }
    let named = keystore.refused_rows().await?;
    ensure!(!named.is_empty(), "{does}: `check` names nothing");
    site.database.admin(
        "DELETE FROM pgveil.enum_labels; INSERT INTO pgveil.enum_labels SELECT * FROM public.was; \
         DELETE FROM pgveil.row_changes; INSERT INTO pgveil.row_changes SELECT * FROM public.changes; DROP TABLE public.changes",
    )?;
    registry.labels(&**client).await?;
    Ok(())
}
