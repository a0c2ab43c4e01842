//! The keys that a job has made useless are scheduled for destruction from the proof on, as soon as no replica can hold them.

use anyhow::{Context, Result, ensure};
use pgveil_tests::postgres::TempPostgres;

use crate::world::{epochs, once, quick, rotate, until};

const TABLE: &str = "CREATE TABLE notes (id int PRIMARY KEY, body text)";
const POLICY: &str = r#"public.notes  scope = "platform"  body: text"#;
const SCHEDULED: &str = "SELECT string_agg(epoch::text, ',' ORDER BY epoch) FROM pgveil.keys \
    WHERE purpose = 'data' AND state = 'decrypt_only' AND destroy_at > now() + interval '23 hours'";

#[test]
fn they_are_scheduled_when_no_replica_can_hold_them() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let mut site = quick(&database, POLICY)?;
    // Longer than a job takes to settle.
    site.set("cache", "stale_max", "\"4s\"")?;
    site.set("rotation", "destroy_retired_after", "\"1d\"")?;
    site.apply()?;
    let proxy = site.serve()?;
    proxy.psql("app", "INSERT INTO notes VALUES (1, 'a'), (2, 'b')")?;
    for rotation in 1..=2 {
        let job = rotate(&site, "platform", &[])?["job"].clone();
        once(&site, &job, "completed")?;
        let scheduled = until(|| {
            let listed = database.admin(SCHEDULED)?;
            Ok(listed.ends_with(&rotation.to_string()).then_some(()))
        });
        scheduled.with_context(|| format!("rotation {rotation}"))?;
    }
    ensure!(epochs(&database, "notes", "body")? == "platform 3: 2");
    let proofs = "SELECT count(*) FROM pgveil.audit WHERE operation = 'key.schedule-destruction' AND encode(record, 'escape') LIKE '%\"proof\"%'";
    ensure!(database.admin(proofs)? == "2");
    ensure!(site.command("audit", &["verify"])?.code == Some(0));
    Ok(())
}
