//! Keys under another KEK than the one that holds for their scope: `pgveil check` says which, how many, and what to do. Moving
//! them is tested elsewhere.

use anyhow::{Result, ensure};
use pgveil_keys::audit::Operation;
use pgveil_tests::{postgres::TempPostgres, site::Site};

use super::{POLICY, TABLE, token};

const OWN: &str = "\n[[override]]\nscope = \"tenant:acme\"\nkey = \"acme\"\n";

#[test]
fn check_names_keys_that_stand_under_another_kek_than_the_one_that_holds() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let mut site = Site::new(&database, POLICY)?;
    site.append(OWN)?;
    site.apply()?;
    site.serve()?.psql(
        "app",
        "INSERT INTO notes VALUES (1, 'acme', 'prod', 'a'), (2, 'globex', 'prod', 'b')",
    )?;
    let said = site.command("check", &[])?.ok()?;
    ensure!(said.ends_with("pgveil.toml: in order\n"), "{said}");

    // Another key in the files: what is there stays where it is, and opens. The audit log's key is among the three.
    site.set("defaults", "key", "\"second\"")?;
    let check = || site.command("check", &[]);
    let said = check()?.ok()?;
    for words in [
        "warning: ",
        "3 keys, the first of tenant:globex/env:prod, stand under key \"platform\" of provider \"main\", while key \"second\" of provider \"main\" holds",
        "run `pgveil keys rewrap platform`",
        "pgveil.toml: in order, with 1 warning\n",
    ] {
        ensure!(said.contains(words), "{words}: {said}");
    }
    site.command("keys", &["rewrap", "platform"])?.ok()?;
    let said = check()?.ok()?;
    ensure!(said.ends_with("pgveil.toml: in order\n"), "{said}");

    // Set at run time, and the keys left behind.
    let right = token(&site, Operation::OverrideSet, "tenant:acme")?;
    let set = ["set", "tenant:acme", "--key", "other", "--keep-wrapped"];
    site.command("scopes", &[&set[..], &["--token", &right]].concat())?
        .ok()?;
    let said = check()?.ok()?;
    ensure!(
        said.contains("2 keys, the first of tenant:acme/env:prod, stand under key \"acme\"")
            && said.contains("run `pgveil keys rewrap tenant:acme`"),
        "{said}"
    );
    // The former one does not open them any more: that is no warning.
    let recorded = || database.admin("SELECT count(*) FROM pgveil.audit");
    site.kms(&["deactivate", "acme"])?.ok()?;
    let before = recorded()?;
    let gone = check()?;
    ensure!(
        gone.code == Some(1)
            && gone.stderr.contains("stand under key \"acme\"")
            && gone.stderr.contains("the former one does not unwrap key ")
            && gone
                .stderr
                .contains("`pgveil keys rewrap tenant:acme` tells"),
        "{}{}",
        gone.stdout,
        gone.stderr
    );
    ensure!(recorded()? == before, "a check records nothing");
    Ok(())
}
