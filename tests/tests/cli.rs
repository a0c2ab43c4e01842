//! The command line: `init` never overwrites, `check` names file, line and cure, `explain` shows what would be sent, help and
//! completions are there, exit codes are as documented.

use std::{fs, io, os::unix::fs::PermissionsExt, process::Command};

use anyhow::{Result, ensure};
use pgveil_tests::{
    postgres::TempPostgres,
    site::{Ran, Site, binary, run},
};

const POLICY: &str = r#"public.people  scope = "platform"  email: text, search = ["equality"]"#;

#[test]
fn init_writes_three_files_and_never_overwrites() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let etc = dir.path().join("etc");
    let etc_text = etc.to_string_lossy().into_owned();
    run(&["init", &etc_text])?.ok()?;
    for name in ["pgveil.toml", "policy.toml", "root.key"] {
        ensure!(etc.join(name).is_file(), "{name} is missing");
    }
    let mode = fs::metadata(etc.join("root.key"))?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "{mode:o}");
    for name in ["pgveil.toml", "policy.toml"] {
        ensure!(
            fs::read_to_string(etc.join(name))?
                .lines()
                .filter(|line| line.starts_with('#'))
                .count()
                > 5
        );
    }
    for kept in ["root.key", "policy.toml", "pgveil.toml"] {
        let etc = dir.path().join(format!("has-{kept}"));
        fs::create_dir(&etc)?;
        fs::write(etc.join(kept), "mine")?;
        let again = run(&["init", &etc.to_string_lossy()])?;
        ensure!(
            again.code == Some(1) && again.stderr.contains(kept),
            "with {kept}: {again:?}"
        );
        ensure!(
            fs::read_dir(&etc)?.count() == 1,
            "with {kept}, files were written"
        );
        ensure!(fs::read_to_string(etc.join(kept))? == "mine");
    }
    Ok(())
}

/// As in `pgveil ... | head`.
#[test]
fn output_that_nobody_reads_ends_it_without_a_word() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let etc = dir.path().join("etc");
    let (reader, writer) = io::pipe()?;
    drop(reader);
    let mut command = Command::new(binary()?);
    let done = command.arg("init").arg(&etc).stdout(writer).output()?;
    ensure!(
        done.status.code() == Some(141) && done.stderr.is_empty(),
        "{done:?}"
    );
    ensure!(etc.join("root.key").is_file());
    Ok(())
}

#[test]
fn what_init_writes_is_understood() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let etc = dir.path().join("etc");
    run(&["init", &etc.to_string_lossy()])?.ok()?;
    let checked = run(&[
        "check",
        "--config",
        &etc.join("pgveil.toml").to_string_lossy(),
    ])?;
    // Whether or not a server answers at the default address: the files themselves hold no mistake.
    ensure!(!checked.stderr.contains("unknown"), "{}", checked.stderr);
    ensure!(
        !checked.stderr.contains("not supported yet"),
        "{}",
        checked.stderr
    );
    Ok(())
}

/// What `check` says of a policy, and its exit code.
fn checked(policy: &str) -> Result<(Option<i32>, String)> {
    let database = TempPostgres::fresh_database()?;
    database.run("CREATE TABLE people (id int, tenant int, email text, age int)")?;
    let site = Site::new(&database, policy)?;
    let ran = site.command("check", &[])?;
    Ok((ran.code, format!("{}{}", ran.stdout, ran.stderr)))
}

#[test]
fn check_names_file_line_and_cure() -> Result<()> {
    let table = "[[table]]\nname = \"public.people\"\nscope = \"platform\"\n";
    let broken = [
        (
            "[[table]]\nname = \"public.peple\"\nscope = \"platform\"\n[table.column.email]\ntype = \"text\"\n",
            "policy.toml:2",
            "people",
        ),
        (
            &format!("{table}[table.column.emial]\ntype = \"text\"\n"),
            "policy.toml:4",
            "email",
        ),
        (
            &format!("{table}[table.column.email]\ntype = \"txt\"\n"),
            "policy.toml:5",
            "text",
        ),
        (
            &format!("{table}[table.column.email]\ntype = \"text\"\nserach = [\"equality\"]\n"),
            "policy.toml:6",
            "search",
        ),
        (
            &format!("{table}[table.column.email]\ntype = \"text\"\nsearch = [\"order\"]\n"),
            "policy.toml:6",
            "not supported yet",
        ),
        (
            &format!("{table}[table.column.email]\ntype = \"int4\"\n"),
            "policy.toml:5",
            "text",
        ),
        (
            "[[table]]\nname = \"public.people\"\nscope = \"tenant:{tenat}\"\n[table.column.email]\ntype = \"text\"\n",
            "policy.toml:3",
            "tenant",
        ),
        (
            "[[table]]\nname = \"public.people\"\nscope = \"tenant:{email}\"\n[table.column.email]\ntype = \"text\"\n",
            "policy.toml:3",
            "protected",
        ),
        ("[[table]\nname = 1\n", "policy.toml:1", ""),
    ];
    for (policy, place, word) in broken {
        let (code, said) = checked(policy)?;
        ensure!(code == Some(1), "exit code {code:?}\n{policy}\n{said}");
        ensure!(
            said.contains(place) && said.contains(word) && said.contains("cure:"),
            "{policy}\n{said}"
        );
    }
    Ok(())
}

#[test]
fn check_names_what_is_wrong_in_the_settings() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    let broken = [
        ("", "lisen", "\"127.0.0.1:0\"", "listen"),
        ("upstream", "tls", "\"maybe\"", "prefer"),
        ("cache", "ttl", "\"5 parsecs\"", "ttl"),
        ("rotation", "kek_perod", "\"365d\"", "kek_period"),
        ("defaults", "provider", "\"nobody\"", "main"),
        (
            "keystore",
            "url",
            "\"env:PGVEIL_NO_SUCH_VARIABLE\"",
            "PGVEIL_NO_SUCH_VARIABLE",
        ),
    ];
    for (section, key, value, word) in broken {
        let mut site = Site::new(&database, "")?;
        site.set(section, key, value)?;
        let ran = site.command("check", &[])?;
        ensure!(
            ran.code == Some(1),
            "{key}: exit code {:?}\n{}",
            ran.code,
            ran.stderr
        );
        ensure!(
            ran.stderr.contains("pgveil.toml:") && ran.stderr.contains(word),
            "{key}: {}",
            ran.stderr
        );
    }
    Ok(())
}

#[test]
fn check_finds_nothing_wrong_after_apply() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    database.run("CREATE TABLE people (id int, email text)")?;
    let site = Site::new(&database, POLICY)?;
    site.apply()?;
    let said = site.command("check", &[])?.ok()?;
    ensure!(said.ends_with("pgveil.toml: in order\n"), "{said}");
    Ok(())
}

#[test]
fn check_tells_programs_where_and_what() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    database.run("CREATE TABLE people (id int, email text)")?;
    let mut site = Site::new(&database, POLICY)?;
    site.apply()?;
    let found = |site: &Site<'_>| -> Result<(Option<i32>, serde_json::Value)> {
        let ran = site.command("check", &["--json"])?;
        Ok((ran.code, serde_json::from_str(&ran.stdout)?))
    };
    let (code, said) = found(&site)?;
    ensure!(
        code == Some(0) && said["in_order"] == true && said["errors"] == serde_json::json!([]),
        "{said:#}"
    );
    // A file that cannot be read is a finding too.
    site.set("cache", "ttl", "\"5 parsecs\"")?;
    let (code, said) = found(&site)?;
    let error = &said["errors"][0];
    let file = error["file"].as_str().unwrap_or_default();
    ensure!(
        code == Some(1) && said["in_order"] == false && file.ends_with("pgveil.toml"),
        "{said:#}"
    );
    ensure!(
        error["line"].is_u64() && error["cure"].is_string() && error["message"].is_string(),
        "{said:#}"
    );
    Ok(())
}

#[test]
fn plan_changes_nothing_and_apply_does_it_once() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    database.run("CREATE TABLE people (id int, email text); INSERT INTO people VALUES (1, 'ada@example.com')")?;
    let site = Site::new(&database, POLICY)?;
    let planned = site.command("plan", &[])?;
    ensure!(
        planned.stdout.contains("people") && planned.stdout.contains("email"),
        "{}{}",
        planned.stdout,
        planned.stderr
    );
    ensure!(database.run("SELECT email FROM people")? == "ada@example.com");
    ensure!(database.admin("SELECT to_regnamespace('pgveil') IS NULL")? == "t");
    let json = |ran: Ran| -> Result<serde_json::Value> { Ok(serde_json::from_str(&ran.ok()?)?) };
    let plan = json(site.command("plan", &["--json"])?)?;
    let column = &plan["tables"][0]["columns"][0];
    ensure!(
        plan["nothing_to_do"] == false
            && plan["schema"]["step"] == "install"
            && plan["tables"][0]["table"] == "public.people"
            && column["to"] == "pgveil.sealed_text",
        "{plan:#}"
    );
    let asked = site.command("apply", &[])?;
    ensure!(
        asked.code != Some(0) && database.run("SELECT email FROM people")? == "ada@example.com",
        "{asked:?}"
    );
    site.apply()?;
    ensure!(database.run("SELECT substr(email, 1, 4) FROM people")? == "\\x50475601");
    ensure!(site.serve()?.psql("app", "SELECT email FROM people")? == "ada@example.com");
    site.apply()?;
    let plan = json(site.command("plan", &["--json"])?)?;
    ensure!(
        plan["nothing_to_do"] == true && plan["blocked"] == false,
        "{plan:#}"
    );
    Ok(())
}

#[test]
fn explain_shows_what_would_be_sent() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    database.run("CREATE TABLE people (id int, email text)")?;
    let site = Site::new(&database, POLICY)?;
    site.apply()?;
    let found = site.explain("SELECT id FROM people WHERE email = 'ada@example.com'")?;
    ensure!(found.contains("eq_term"), "{found}");
    let refused = site.command("explain", &["SELECT upper(email) FROM people"])?;
    ensure!(
        refused.code == Some(1)
            && format!("{}{}", refused.stdout, refused.stderr).contains("0A000"),
        "{refused:?}"
    );
    ensure!(database.run("SELECT count(*) FROM people")? == "0");
    Ok(())
}

#[test]
fn help_version_and_completions_are_there() -> Result<()> {
    let help = run(&["--help"])?.ok()?;
    for word in [
        "init",
        "check",
        "plan",
        "apply",
        "serve",
        "explain",
        "demo",
        "Examples",
        "Exit codes",
    ] {
        ensure!(help.contains(word), "--help does not say {word}:\n{help}");
    }
    for command in ["init", "check", "plan", "apply", "serve", "explain", "demo"] {
        let said = run(&[command, "--help"])?.ok()?;
        ensure!(said.contains("Example"), "{command} --help has no example");
    }
    ensure!(run(&["--version"])?.ok()?.starts_with("pgveil "));
    for shell in ["bash", "zsh", "fish"] {
        ensure!(run(&["completions", shell])?.ok()?.contains("pgveil"));
    }
    Ok(())
}

#[test]
fn exit_codes_are_as_documented() -> Result<()> {
    ensure!(run(&["dance"])?.code == Some(2));
    ensure!(run(&["serve", "--no-such-flag"])?.code == Some(2));
    let missing = run(&["serve", "--config", "/nowhere/pgveil.toml"])?;
    ensure!(missing.code == Some(1), "{missing:?}");
    ensure!(
        missing.stderr.contains("/nowhere/pgveil.toml") && missing.stdout.is_empty(),
        "{missing:?}"
    );
    Ok(())
}

#[test]
fn output_that_nobody_reads_is_no_panic() -> Result<()> {
    let binary = pgveil_tests::site::binary()?;
    let script = format!(
        "'{}' --help | head -n 1 >/dev/null; echo ${{PIPESTATUS[0]}}",
        binary.display()
    );
    let output = std::process::Command::new("bash")
        .args(["-c", &script])
        .output()?;
    ensure!(
        !String::from_utf8_lossy(&output.stderr).contains("panicked"),
        "{output:?}"
    );
    Ok(())
}

/// Verbs that print for people only, or lines of JSON by themselves.
const WITHOUT_JSON: [&str; 9] = [
    "init",
    "plan",
    "serve",
    "explain",
    "demo",
    "completions",
    "audit export",
    "jobs watch",
    "kms serve",
];

#[test]
fn every_verb_has_an_example_and_prints_json() -> Result<()> {
    let (mut open, mut seen) = (vec![Vec::new()], 0);
    while let Some(path) = open.pop() {
        let args: Vec<&str> = { path.iter().map(String::as_str) }
            .chain(["--help"])
            .collect();
        let help = run(&args)?.ok()?;
        let name = path.join(" ");
        let commands: Vec<&str> = { help.lines() }
            .skip_while(|line| *line != "Commands:")
            .skip(1)
            .take_while(|line| !line.is_empty())
            .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
            .filter_map(|line| line.split_whitespace().next())
            .filter(|command| *command != "help")
            .collect();
        if commands.is_empty() {
            seen += 1;
            ensure!(help.contains("\nExample"), "{name} has no example");
            let prints = help.contains("--json");
            let is_exempt = WITHOUT_JSON.contains(&name.as_str());
            ensure!(prints || is_exempt, "{name} prints no JSON");
        }
        open.extend(commands.iter().map(|command| {
            let mut path = path.clone();
            path.push((*command).to_owned());
            path
        }));
    }
    ensure!(seen > 50, "{seen} verbs");
    Ok(())
}
