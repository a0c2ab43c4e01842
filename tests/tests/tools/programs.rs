//! pgbench in its protocols, with protected columns in its scripts.

use anyhow::{Context, Result, ensure};
use pgveil_tests::psql::Target;

use crate::{run, twin};

/// Each client writes rows of its own, so that what is there afterwards is known.
const SCRIPT: &str = r"\set id :client_id * 100 + 10
BEGIN;
INSERT INTO people (id, email, age) VALUES (:id, 'of a client', 1) ON CONFLICT DO NOTHING;
UPDATE people SET age = 2 WHERE id = :id AND email = 'of a client';
SELECT email, age FROM people WHERE email = 'of a client' \gset seen_
END;
SELECT id FROM people WHERE age = 36 ORDER BY id LIMIT 1 \gset
UPDATE open SET v = :seen_age WHERE id = :id;
";
const PIPELINE: &str = r"\startpipeline
SELECT email FROM people WHERE id = 1;
INSERT INTO people (id, age) VALUES (50, 5) ON CONFLICT (id) DO UPDATE SET age = 6;
SELECT age FROM people WHERE age = 36;
\endpipeline
";
const ALL: &str = "SELECT * FROM people ORDER BY id; SELECT * FROM open ORDER BY id";

fn pgbench(target: &Target, args: &[&str]) -> Result<bool> {
    let Some((well, said)) = run(target, "pgbench", args)? else {
        return Ok(false);
    };
    ensure!(
        well && !said.contains("aborted"),
        "pgbench {args:?}\n{said}"
    );
    Ok(true)
}

#[test]
fn pgbench_runs_scripts_over_protected_columns_in_every_protocol() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (text, modes) in [
        (SCRIPT, &["simple", "extended", "prepared"][..]),
        (PIPELINE, &["extended", "prepared"]),
    ] {
        let file = folder.path().join("script.sql");
        std::fs::write(&file, text)?;
        let file = file.to_str().context("a path")?;
        for mode in modes {
            let twin = twin()?;
            let args = ["-n", "-t", "10", "-M", mode, "-f", file];
            for target in [twin.plain.target("app"), twin.proxy.target("app")] {
                if !pgbench(&target, &args)? {
                    return Ok(());
                }
            }
            let (direct, through) = (twin.plain.psql("app", ALL)?, twin.proxy.psql("app", ALL)?);
            ensure!(direct == through, "{mode}\n{direct}\n{through}");
        }
    }
    Ok(())
}
