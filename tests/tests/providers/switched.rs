//! A running proxy while somebody at AWS switches the key of one of two tenants: disabled, to be deleted, rotated, exchanged,
//! away, and slow. What the other tenant has is never touched.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use pgveil_tests::{kms::Aws, postgres::TempPostgres, proxy::Proxy, site::Site};

use crate::fault::{Fault, Reply, forward};

const TABLE: &str = "CREATE TABLE notes (id int PRIMARY KEY, tenant text, body text)";
const POLICY: &str = r#"public.notes  scope = "tenant:{tenant}"  body: text"#;
/// How long an unwrapped key lives.
const TTL: Duration = Duration::from_secs(2);
/// What a loaded machine may take besides.
const SLACK: Duration = Duration::from_secs(20);

/// The way to AWS.
const OPEN: u8 = 0;
const CUT: u8 = 1;
/// Longer than any request of pgveil's waits.
const SLOW: u8 = 2;

fn body(proxy: &Proxy, tenant: &str) -> Result<String> {
    proxy.psql(
        "app",
        &format!("SELECT body FROM notes WHERE tenant = '{tenant}'"),
    )
}

/// Reads until the answer is so; says how long that took. Meanwhile the other tenant is served.
fn until(proxy: &Proxy, wanted: impl Fn(&str) -> bool) -> Result<(String, Duration)> {
    let begin = Instant::now();
    loop {
        let answer = body(proxy, "acme")?;
        let took = begin.elapsed();
        if wanted(&answer) {
            return Ok((answer, took));
        }
        ensure!(took < TTL + SLACK, "still {answer}\n{}", proxy.log());
        ensure!(body(proxy, "globex")? == "theirs");
    }
}

fn denied(answer: &str) -> bool {
    answer.contains("PV002") && answer.contains("denies")
}

fn away(answer: &str) -> bool {
    answer.contains("PV002") && answer.contains("unavailable")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_switched_at_aws_is_obeyed_within_the_time_that_a_key_lives() -> Result<()> {
    let Some(emulator) = Aws::whole()? else {
        return Ok(());
    };
    let way = Arc::new(AtomicU8::new(OPEN));
    let (how, behind) = (Arc::clone(&way), emulator.endpoint.clone());
    let relay = Fault::plain(move |request| match how.load(Ordering::SeqCst) {
        CUT => Reply::Close,
        SLOW => Reply::Hang,
        _ => forward(&behind, request).unwrap_or(Reply::Close),
    })
    .await?;
    tokio::task::block_in_place(|| switched(&emulator, &relay.address, &way))
}

fn switched(emulator: &Aws, address: &str, way: &AtomicU8) -> Result<()> {
    let (key, next) = (emulator.key()?, emulator.key()?);
    let database = TempPostgres::fresh_database()?;
    database.run(TABLE)?;
    let mut site = Site::new(&database, POLICY)?;
    site.set("cache", "ttl", &format!("\"{}s\"", TTL.as_secs()))?;
    site.append(&format!(
        "\n[provider.aws]\nkind = \"aws-kms\"\nregion = \"eu-central-1\"\nendpoint = \"{address}\"\n\
         [[override]]\nscope = \"tenant:acme\"\nprovider = \"aws\"\nkey = \"{key}\"\n"
    ))?;
    site.apply()?;
    let proxy = site.serve()?;
    proxy.psql(
        "app",
        "INSERT INTO notes VALUES (1, 'acme', 'ours'), (2, 'globex', 'theirs')",
    )?;
    let ours = |answer: &str| answer == "ours";
    until(&proxy, ours)?;

    // Disabled: unreadable once the key's time in memory is over; enabled, it is readable again by itself.
    emulator.run(&format!("kms.disable_key(KeyId='{key}')"))?;
    let (refused, took) = until(&proxy, denied)?;
    println!("a disabled key's data was unreadable after {took:?}: {refused}");
    let insert = proxy.psql("app", "INSERT INTO notes VALUES (3, 'acme', 'more')")?;
    ensure!(insert.contains("PV002"), "{insert}");
    emulator.run(&format!("kms.enable_key(KeyId='{key}')"))?;
    until(&proxy, ours)?;

    emulator.run(&format!(
        "kms.schedule_key_deletion(KeyId='{key}', PendingWindowInDays=7)"
    ))?;
    until(&proxy, denied)?;
    emulator.run(&format!(
        "kms.cancel_key_deletion(KeyId='{key}')\nkms.enable_key(KeyId='{key}')"
    ))?;
    until(&proxy, ours)?;

    emulator.run(&format!("kms.rotate_key_on_demand(KeyId='{key}')"))?;
    drop(proxy);
    let proxy = site.serve()?;
    until(&proxy, ours)?;

    // Nobody answers, and then not in time: closed, and nobody else waits for it.
    for how in [CUT, SLOW] {
        way.store(how, Ordering::SeqCst);
        until(&proxy, away)?;
        way.store(OPEN, Ordering::SeqCst);
        until(&proxy, ours)?;
    }

    // Another key, with both there; then the old one may go.
    let passphrase = site.etc().join("passphrase");
    std::fs::write(&passphrase, "correct horse battery staple\n")?;
    let passphrase = passphrase.to_str().context("a UTF-8 path")?;
    let enroll = ["enroll", "ada", "--new-passphrase-file", passphrase];
    site.command("step-up", &enroll)?.ok()?;
    // One, or two where the rotation has brought the next one by now.
    let set = ["set", "tenant:acme", "--provider", "aws", "--key", &next];
    let said = site
        .command(
            "scopes",
            &[&set[..], &["--passphrase-file", passphrase]].concat(),
        )?
        .ok()?;
    let moved = ["Keys wrapped anew: 1", "Keys wrapped anew: 2"];
    ensure!(moved.iter().any(|moved| said.contains(moved)), "{said}");
    emulator.run(&format!("kms.disable_key(KeyId='{key}')"))?;
    drop(proxy);
    let proxy = site.serve()?;
    until(&proxy, ours)?;
    let kek =
        database.admin("SELECT DISTINCT kek_id FROM pgveil.keys WHERE scope = 'tenant:acme'")?;
    ensure!(kek == next, "{kek}");
    let leaked = database.run("SELECT string_agg(body::text, ' ') FROM notes")?;
    ensure!(!leaked.contains(&hex::encode("ours")), "{leaked}");
    Ok(())
}
