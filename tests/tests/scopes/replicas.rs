//! Two proxies on one keystore: keys that both need at once, uses that both take, and what is done at one, seen by the other.

use std::{
    fmt::Write,
    pin::pin,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::{SinkExt, future::try_join_all};
use pgveil_keys::audit::Operation;
use pgveil_tests::{
    postgres::{Database, TempPostgres},
    proxy::Proxy,
    site::Site,
};
use tokio_postgres::Client;

use super::{LIMIT, POLICY, TABLE, body_of, token, until};

/// How long an unwrapped key lives.
const TTL: Duration = Duration::from_secs(2);
/// The least that one DEK may be allowed; and what both write: more than one may seal.
const MAX_USES: u64 = 65_536;
const ROWS_EACH: u64 = 40_000;

/// Acme and those below it have a KEK of their own.
const OVERRIDES: &str = r#"
[provider.vault]
kind = "local"
root_key_file = "vault.key"

[[override]]
scope = "tenant:acme"
provider = "vault"
key = "acme"
"#;

fn site(database: &Database<'static>) -> Result<(Site<'static>, [Proxy; 2])> {
    database.run(TABLE)?;
    let mut site = Site::new(database, POLICY)?;
    site.make_root_key("vault.key")?;
    site.append(OVERRIDES)?;
    site.set("cache", "ttl", &format!("\"{}s\"", TTL.as_secs()))?;
    site.set("rotation", "dek_max_usage", &MAX_USES.to_string())?;
    site.apply()?;
    let both = [site.serve()?, site.serve()?];
    Ok((site, both))
}

async fn write(client: &Client, rows: impl Iterator<Item = u64>, tenant: &str) -> Result<u64> {
    let sink = client.copy_in("COPY notes (id, tenant, env, body) FROM STDIN");
    let mut sink = pin!(sink.await?);
    let rows: Vec<u64> = rows.collect();
    for some in rows.chunks(1000) {
        let mut lines = String::new();
        for id in some {
            writeln!(lines, "{id}\t{tenant}\tprod\tnote {id}")?;
        }
        sink.send(Bytes::from(lines)).await?;
    }
    Ok(sink.finish().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_their_uses_are_shared() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    let (_site, both) = site(&database)?;
    // Twelve scopes that nobody has used, each asked for by both at once.
    let mut clients = Vec::new();
    for at in 0..24 {
        clients.push(both[at % 2].connect("app").await?);
    }
    let first = clients.iter().zip(0_u64..).map(|(client, id)| {
        let tenant = format!("t{}", id / 2);
        async move { write(client, id..=id, &tenant).await }
    });
    try_join_all(first).await?;
    let made = "SELECT count(*) || ' ' || count(DISTINCT scope || purpose) FROM pgveil.keys WHERE scope LIKE 'tenant:t%'";
    ensure!(
        database.admin(made)? == "24 24",
        "{}",
        database.admin(made)?
    );

    // More values than one DEK may seal, half of them at each: a DEK never seals more, nor more than is counted.
    let halves = [(0, 100_000), (1, 200_000)]
        .map(|(at, from)| write(&clients[at], from..from + ROWS_EACH, "acme"));
    let written: u64 = try_join_all(halves).await?.into_iter().sum();
    ensure!(written == 2 * ROWS_EACH, "{written}");
    let used = "SELECT k.uses || ' ' || count(*) FROM notes n JOIN pgveil.keys k ON int8send(k.id) = substr(n.body::bytea, 9, 8) \
        WHERE k.scope = 'tenant:acme/env:prod' GROUP BY k.id, k.uses";
    let rows = database.admin(used)?;
    ensure!(rows.lines().count() > 1, "one DEK sealed them all");
    let mut sealed = 0;
    for row in rows.lines() {
        let (uses, values) = row.split_once(' ').context("two numbers")?;
        let (uses, values): (u64, u64) = (uses.parse()?, values.parse()?);
        ensure!(
            values <= uses && uses <= MAX_USES,
            "{values} values, {uses} counted"
        );
        sealed += values;
    }
    ensure!(sealed == written, "{sealed} of {written}");
    // Each reads what the other wrote.
    for (at, from) in [(0, 200_000), (1, 100_000)] {
        let read = "SELECT body FROM notes WHERE id = $1";
        for id in [from, from + 39_999] {
            let row = clients[at].query_one(read, &[&id]).await?;
            ensure!(row.get::<_, String>(0) == format!("note {id}"));
        }
    }
    Ok(())
}

/// Which DEK sealed the value of this row.
fn key_of(database: &Database<'_>, id: u32) -> Result<String> {
    database.admin(&format!(
        "SELECT encode(substr(body::bytea, 9, 8), 'hex') FROM notes WHERE id = {id}"
    ))
}

fn put(proxy: &Proxy, id: u32, scope: (&str, &str)) -> Result<String> {
    let (tenant, env) = scope;
    proxy.psql(
        "app",
        &format!(
            "INSERT INTO notes VALUES ({id}, '{tenant}', '{env}', 'note') \
             ON CONFLICT (id) DO UPDATE SET body = excluded.body"
        ),
    )
}

#[test]
fn what_is_done_at_one_is_seen_by_the_other() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    let (site, [one, other]) = site(&database)?;
    for (id, proxy) in (1..).zip([&one, &other]) {
        put(proxy, id, ("acme", "prod"))?;
    }
    let old = key_of(&database, 1)?;
    ensure!(old == key_of(&database, 2)?);

    // A rotation: both seal with the next key before long, and never again with the old one.
    let right = token(&site, Operation::DekRotate, "tenant:acme/env:prod")?;
    let rotate = ["tenant:acme/env:prod", "--no-rewrap", "--token", &right];
    site.command("rotate", &rotate)?.ok()?;
    let mut next = Vec::new();
    for (id, proxy) in (1..).zip([&one, &other]) {
        let follows = until(|| {
            put(proxy, id, ("acme", "prod"))?;
            Ok(key_of(&database, id)? != old)
        })?;
        ensure!(follows, "a proxy goes on with the old key\n{}", proxy.log());
        next.push(key_of(&database, id)?);
    }
    ensure!(next[0] == next[1], "{next:?}");
    for (id, proxy) in (1..).zip([&one, &other]) {
        put(proxy, id, ("acme", "prod"))?;
        ensure!(key_of(&database, id)? == next[0]);
    }

    // A scope that is sealed by hand, and unsealed.
    site.command("seal", &["tenant:acme"])?.ok()?;
    for proxy in [&one, &other] {
        let sealed = until(|| Ok(body_of(proxy, "acme")?.contains("sealed")))?;
        ensure!(sealed, "{}", body_of(proxy, "acme")?);
    }
    let right = token(&site, Operation::ScopeUnseal, "tenant:acme")?;
    site.command("unseal", &["tenant:acme", "--token", &right])?
        .ok()?;
    for proxy in [&one, &other] {
        ensure!(until(|| Ok(body_of(proxy, "acme")? == "note\nnote"))?);
    }

    // A KEK that is taken away: nobody reads longer than a key lives. Each is asked about the time since, and both begin with
    // the key in memory.
    let vault = ["acme", "--provider", "vault"];
    let begin = Instant::now();
    site.kms(&[&["disable"], &vault[..]].concat())?.ok()?;
    for proxy in [&one, &other] {
        let denied = until(|| Ok(body_of(proxy, "acme")?.contains("denies")))?;
        ensure!(denied, "{}", body_of(proxy, "acme")?);
        let refused = put(proxy, 1, ("acme", "prod"))?;
        ensure!(refused.contains("PV002"), "{refused}");
    }
    ensure!(begin.elapsed() < TTL + LIMIT, "{:?}", begin.elapsed());
    site.kms(&[&["enable"], &vault[..]].concat())?.ok()?;
    for proxy in [&one, &other] {
        ensure!(until(|| Ok(body_of(proxy, "acme")? == "note\nnote"))?);
    }

    // What is set at run time: new scopes below have the other KEK, whichever proxy meets them first.
    let right = token(&site, Operation::OverrideSet, "tenant:globex")?;
    let set = [
        "set",
        "tenant:globex",
        "--provider",
        "vault",
        "--key",
        "globex",
    ];
    let set = [&set[..], &["--token", &right]].concat();
    site.command("scopes", &set)?.ok()?;
    for (proxy, name) in [(&one, "one"), (&other, "other")] {
        let mut id = 10;
        let follows = until(|| {
            id += 1;
            let env = format!("{name}{id}");
            put(proxy, id, ("globex", &env))?;
            let kek = format!(
                "SELECT DISTINCT provider || ' ' || kek_id FROM pgveil.keys WHERE scope = 'tenant:globex/env:{env}'"
            );
            Ok(database.admin(&kek)? == "vault globex")
        })?;
        ensure!(follows, "{name} does not follow");
    }
    let verified = site
        .command("audit", &["verify"])?
        .ok()
        .context("the log")?;
    ensure!(!verified.is_empty());
    Ok(())
}
