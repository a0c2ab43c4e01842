//! Somebody else rotates a key at its key manager while pgveil runs: the keys under it, and the rows of its tenant, follow by
//! themselves, and nobody else's do.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use pgveil_tests::{
    kms::{Aws, Bao, ROOT_TOKEN},
    postgres::{Database, TempPostgres},
    site::Site,
};

use crate::fault::{Fault, Reply, forward};

const TABLE: &str = "CREATE TABLE notes (id int PRIMARY KEY, tenant text, body text)";
const POLICY: &str = r#"public.notes  scope = "tenant:{tenant}"  body: text"#;
const EPOCHS: &str = "SELECT string_agg(DISTINCT k.scope || ' ' || k.epoch, ', ') FROM notes n \
    JOIN pgveil.keys k ON int8send(k.id) = substr(n.body::bytea, 9, 8)";
const LIMIT: Duration = Duration::from_mins(2);

/// Until what an administrator asks is answered so.
fn comes_to(database: &Database<'_>, sql: &str, right: &str) -> Result<()> {
    let limit = Instant::now() + LIMIT;
    loop {
        let said = database.admin(sql)?;
        if said == right {
            return Ok(());
        }
        if Instant::now() > limit {
            bail!("{sql}: {said}");
        }
    }
}

/// `provider`: its section, named `kms`, and `key`: that of tenant acme.
fn is_followed(provider: &str, key: &str, rotate: impl FnOnce() -> Result<()>) -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    database.run(TABLE)?;
    let mut site = Site::new(&database, POLICY)?;
    site.set("cache", "ttl", "\"1s\"")?;
    site.set("cache", "stale_max", "\"1s\"")?;
    site.set("reencrypt", "interval", "\"0s\"")?;
    site.append(&format!(
        "\n[provider.kms]\n{provider}\n[[override]]\nscope = \"tenant:acme\"\nprovider = \"kms\"\nkey = \"{key}\"\n"
    ))?;
    site.apply()?;
    let proxy = site.serve()?;
    let rows: Vec<String> = (1..=100)
        .map(|n| {
            let tenant = if n % 2 == 0 { "acme" } else { "globex" };
            format!("({n}, '{tenant}', 'body {n}')")
        })
        .collect();
    let filled = format!("INSERT INTO notes VALUES {}", rows.join(", "));
    ensure!(proxy.psql("app", &filled)? == "INSERT 0 100");
    let before = proxy.psql("app", "SELECT * FROM notes ORDER BY id")?;
    let seen =
        format!("SELECT count(*) FROM pgveil.keks WHERE kek_id = '{key}' AND next_version IS NULL");
    comes_to(&database, &seen, "1")?;
    ensure!(database.admin(EPOCHS)? == "tenant:acme 1, tenant:globex 1");

    rotate()?;
    // A key that works is looked at every minute, and by whoever starts.
    let other = site.serve()?;
    comes_to(
        &database,
        "SELECT string_agg(state, ',') FROM pgveil.jobs",
        "completed",
    )?;
    ensure!(database.admin(EPOCHS)? == "tenant:acme 2, tenant:globex 1");
    let followed = "SELECT count(*) FROM pgveil.audit WHERE operation = 'kek.rotate' AND encode(record, 'escape') LIKE '%\"followed\"%'";
    ensure!(database.admin(followed)? == "1");
    for proxy in [&proxy, &other] {
        ensure!(proxy.psql("app", "SELECT * FROM notes ORDER BY id")? == before);
    }
    ensure!(site.command("audit", &["verify"])?.code == Some(0));
    Ok(())
}

#[test]
fn a_rotation_in_a_transit_engine_reaches_the_rows() -> Result<()> {
    let Some(bao) = Bao::start()? else {
        return Ok(());
    };
    bao.run(&["write", "-f", "transit/keys/acme", "derived=true"])?;
    let provider = format!(
        "kind = \"vault-transit\"\naddress = \"{}\"\ntoken = \"{ROOT_TOKEN}\"",
        bao.address
    );
    is_followed(&provider, "acme", || {
        { bao.run(&["write", "-f", "transit/keys/acme/rotate"]) }.map(drop)
    })
}

/// The emulator rotates, and does not say which material is the present one, as AWS does: that is added to its answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_at_aws_reaches_the_rows() -> Result<()> {
    let Some(emulator) = Aws::whole()? else {
        return Ok(());
    };
    let material = Arc::new(AtomicU8::new(b'a'));
    let (present, behind) = (Arc::clone(&material), emulator.endpoint.clone());
    let relay = Fault::plain(move |request| {
        let target = request.header("x-amz-target").unwrap_or_default();
        let describes = target.ends_with("DescribeKey");
        match forward(&behind, request) {
            Ok(Reply::Answer(200, headers, body)) if describes => {
                let mut said: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
                let letter = char::from(present.load(Ordering::SeqCst));
                said["KeyMetadata"]["CurrentKeyMaterialId"] = letter.to_string().repeat(64).into();
                Reply::Answer(200, headers, said.to_string().into_bytes())
            }
            said => said.unwrap_or(Reply::Close),
        }
    })
    .await?;
    tokio::task::block_in_place(|| {
        let key = emulator.key()?;
        let provider = format!(
            "kind = \"aws-kms\"\nregion = \"eu-central-1\"\nendpoint = \"{}\"",
            relay.address
        );
        is_followed(&provider, &key, || {
            emulator.run(&format!("kms.rotate_key_on_demand(KeyId='{key}')"))?;
            material.store(b'b', Ordering::SeqCst);
            Ok(())
        })
    })
}
