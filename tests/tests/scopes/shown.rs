//! What `pgveil scopes` shows of settings that somebody changed in the keystore.

use anyhow::{Result, ensure};
use pgveil_keys::audit::Operation;
use pgveil_tests::{postgres::TempPostgres, site::Site};

use super::{POLICY, TABLE, token};

#[test]
fn what_was_changed_in_the_keystore_is_not_shown_without_a_word() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    database.run(TABLE)?;
    let site = Site::new(&database, POLICY)?;
    site.apply()?;
    let scope = "tenant:acme";
    let token = token(&site, Operation::OverrideSet, scope)?;
    let set = ["set", scope, "--key", "acme", "--token", &token];
    site.command("scopes", &set)?.ok()?;
    let commands = [
        &["show", scope][..],
        &["show", scope, "--json"],
        &["list"],
        &["overrides"],
    ];
    for command in commands {
        let ran = site.command("scopes", command)?;
        ensure!(ran.code == Some(0) && ran.stderr.is_empty(), "{ran:?}");
    }
    database.admin("CREATE TABLE public.saved AS SELECT * FROM pgveil.overrides")?;
    for (does, says) in [
        (
            "UPDATE pgveil.overrides SET kek_id = 'mine'",
            "does not fit",
        ),
        (
            "DELETE FROM pgveil.overrides",
            "the row of tenant:acme is gone",
        ),
    ] {
        database.admin(does)?;
        for command in commands {
            let ran = site.command("scopes", command)?;
            ensure!(
                ran.code == Some(1) && ran.stderr.contains(says) && ran.stderr.contains("cure: "),
                "{command:?}: {ran:?}"
            );
        }
        let offline = site.command("scopes", &["show", scope, "--offline"])?;
        ensure!(offline.code == Some(0), "{offline:?}");
        database.admin(
            "DELETE FROM pgveil.overrides; INSERT INTO pgveil.overrides SELECT * FROM public.saved",
        )?;
    }
    site.command("scopes", &["show", scope])?.ok()?;
    Ok(())
}
