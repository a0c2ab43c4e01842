//! A KEK that is gone: what would be lost is told, and only what is accepted is given up.

use anyhow::{Result, ensure};
use pgveil_keys::audit::Operation;
use pgveil_tests::{postgres::TempPostgres, site::Site};

use super::token;

const TABLE: &str = "CREATE TABLE memos (id int PRIMARY KEY, tenant text NOT NULL, body text)";
const POLICY: &str = r#"public.memos  scope = "tenant:{tenant}"  body: text"#;
const OWN: &str = "\n[[override]]\nscope = \"tenant:acme\"\nkey = \"acme\"\n";

#[test]
fn what_a_lost_kek_takes_with_it_is_told_and_nothing_done_until_it_is_accepted() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let mut site = Site::new(&database, POLICY)?;
    site.set("cache", "ttl", "\"1s\"")?;
    site.append(OWN)?;
    site.apply()?;
    site.serve()?.psql(
        "app",
        "INSERT INTO memos VALUES (1, 'acme', 'a'), (2, 'acme', 'b'), (3, 'globex', 'c')",
    )?;
    let destroy = ["destroy-version", "acme", "1", "--confirm", "acme"];
    let refused = site.kms(&destroy)?;
    ensure!(
        refused.code == Some(1)
            && refused.stderr.contains("1 data key")
            && refused.stderr.contains("tenant:acme"),
        "{refused:?}"
    );
    site.kms(&[&destroy[..], &["--accept-loss"]].concat())?
        .ok()?;

    // Another KEK cannot take the keys over, and it is said what to do.
    let with = |command: &str, operation: Operation, args: &[&str]| {
        let token = token(&site, operation, "tenant:acme")?;
        site.command(command, &[args, &["--token", &token]].concat())
    };
    let set = ["set", "tenant:acme", "--key", "second"];
    let refused = with("scopes", Operation::OverrideSet, &set)?;
    ensure!(
        refused.code == Some(1) && refused.stderr.contains("--keep-wrapped"),
        "{}",
        refused.stderr
    );
    let set = [&set[..], &["--keep-wrapped"]].concat();
    with("scopes", Operation::OverrideSet, &set)?.ok()?;

    let state = || {
        database.admin(
            "SELECT string_agg(scope || ' ' || epoch || ' ' || state || ' ' || kek_id, '; ' ORDER BY scope, epoch) FROM pgveil.keys",
        )
    };
    let before = state()?;
    ensure!(
        before == "tenant:acme 1 active acme; tenant:globex 1 active platform",
        "{before}"
    );
    let told = site.command("keys", &["rewrap", "tenant:acme"])?;
    ensure!(
        told.code == Some(1)
            && told.stdout.contains("public.memos.body")
            && told.stderr.contains("2 values could not be read")
            && told.stderr.contains("nothing was changed"),
        "{}{}",
        told.stdout,
        told.stderr
    );
    let told = site.command("keys", &["rewrap", "tenant:acme", "--json"])?;
    let told: serde_json::Value = serde_json::from_str(&told.stdout)?;
    ensure!(
        told["lost"]["values"] == 2 && told["lost"]["keys"][0]["key"] == "acme",
        "{told:#}"
    );
    let accept = ["rewrap", "tenant:acme", "--accept-loss"];
    let unconfirmed = site.command("keys", &accept)?;
    ensure!(
        unconfirmed.code == Some(1) && unconfirmed.stderr.contains("--confirm tenant:acme"),
        "{}",
        unconfirmed.stderr
    );
    let accept = [&accept[..], &["--confirm", "tenant:acme"]].concat();
    let bare = site.command("keys", &accept)?;
    ensure!(
        bare.code == Some(1) && bare.stderr.contains("step-up token"),
        "{}",
        bare.stderr
    );
    ensure!(state()? == before, "{}", state()?);

    let said = with("keys", Operation::DekRewrap, &accept)?.ok()?;
    ensure!(
        said.ends_with(
            "Keys wrapped anew: 0.\nKeys lost: 1; scopes that got a next data key: 1.\n"
        ),
        "{said}"
    );
    let after = state()?;
    ensure!(
        after
            == "tenant:acme 1 decrypt_only acme; tenant:acme 2 active second; tenant:globex 1 active platform",
        "{after}"
    );
    let recorded = database.admin(
        "SELECT count(*) FROM pgveil.audit WHERE operation = 'dek.rewrap' AND encode(record, 'escape') LIKE '%accepted_loss%\"values\":2%'",
    )?;
    ensure!(recorded == "1", "{recorded}");
    ensure!(site.command("audit", &["verify"])?.code == Some(0));

    // The scope goes on; what was lost is refused, and its wrapped key is still there.
    let proxy = site.serve()?;
    proxy.psql("app", "INSERT INTO memos VALUES (4, 'acme', 'd')")?;
    ensure!(proxy.psql("app", "SELECT body FROM memos WHERE id > 2 ORDER BY id")? == "c\nd");
    let lost = proxy.psql("app", "SELECT body FROM memos WHERE id = 1")?;
    ensure!(
        lost.contains("PV002") && lost.contains("version 1 is destroyed"),
        "{lost}"
    );
    let kept = database
        .admin("SELECT count(*) FROM pgveil.keys WHERE wrapped IS NOT NULL AND kek_id = 'acme'")?;
    ensure!(kept == "1", "{kept}");
    Ok(())
}
