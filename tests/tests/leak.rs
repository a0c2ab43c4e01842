//! No plaintext of a protected column reaches the server by any road: values, literals, parameters, errors, refused statements,
//! failed transactions. Canaries are sent along each road; then the data directory, the WAL and a log as talkative as
//! Postgres can be are searched for them raw, in hex and in base64. The proxy's own log, at its most talkative, too.

#[path = "leak/made.rs"]
mod made;
#[path = "leak/roads.rs"]
mod roads;
#[path = "leak/search.rs"]
mod search;

use anyhow::{Result, ensure};
use pgveil_tests::{
    postgres::{Options, TempPostgres},
    site::Site,
    wire::{Bind, Message, Wire},
};

use crate::search::Search;

const TABLES: &str = "
    CREATE TABLE vault (
        id int PRIMARY KEY,
        tenant int,
        secret text UNIQUE,
        code varchar(60),
        amount numeric,
        big int8,
        token uuid,
        doc jsonb,
        raw bytea,
        plain text NOT NULL DEFAULT 'plain'
    );
    CREATE TABLE by_tenant (id int, tenant text, secret text);
    CREATE TABLE open (id int, v text);
";
const POLICY: &str = r#"
public.vault  scope = "platform"
    secret: text, search = ["equality"]
    code: varchar(60), search = ["equality"], reveal = ["support"], mask = { keep_last = 2 }
    amount: numeric, search = ["equality"]
    big: int8, search = ["equality"]
    token: uuid, search = ["equality"]
    doc: jsonb
    raw: bytea
public.by_tenant  scope = "tenant:{tenant}"  secret: text, search = ["equality"]
public.fresh  scope = "platform"  secret: text, search = ["equality"]
"#;

/// How many leaks a failure tells.
const TOLD: usize = 20;

/// Sends every statement of a road by the simple protocol, each in a session's own implicit transaction; errors are part of it.
fn walk_simply(wire: &mut Wire, statements: &[String]) -> Result<()> {
    for sql in statements {
        wire.query(sql)?;
    }
    Ok(())
}

/// The same statements by the extended protocol.
fn walk_extended(wire: &mut Wire, statements: &[String]) -> Result<()> {
    for sql in statements {
        wire.send(&[
            Message::parse("", sql, &[]),
            Message::bind_text(&[]),
            Message::execute("", 0),
            Message::sync(),
        ])?;
        wire.until_ready(1)?;
    }
    Ok(())
}

/// Statements with parameters, in text and in binary.
fn walk_with_parameters(wire: &mut Wire, statements: &[(&str, Vec<String>)]) -> Result<()> {
    for (sql, params) in statements {
        for format in [0, 1] {
            let values: Vec<Option<&[u8]>> =
                params.iter().map(|text| Some(text.as_bytes())).collect();
            let bind = Bind {
                formats: &[format],
                params: &values,
                results: &[format],
                ..Bind::default()
            };
            wire.send(&[
                Message::parse("", sql, &[]),
                Message::bind(&bind),
                Message::execute("", 0),
                Message::sync(),
            ])?;
            wire.until_ready(1)?;
        }
    }
    Ok(())
}

#[test]
fn no_canary_is_found_in_any_file_of_the_server() -> Result<()> {
    let server = TempPostgres::start(&Options::default().talkative())?;
    let database = server.database()?;
    database.run(TABLES)?;
    let mut site = Site::new(&database, POLICY)?;
    site.set("log", "level", "\"trace\"")?;
    site.apply()?;
    let proxy = site.serve()?;
    let mut canaries = roads::Canaries::default();

    let mut wire = Wire::connect(&proxy.target("app"))?;
    walk_simply(&mut wire, &roads::statements(&mut canaries))?;
    walk_extended(&mut wire, &roads::statements(&mut canaries))?;
    walk_with_parameters(&mut wire, &roads::parameters(&mut canaries))?;
    for walk in [walk_simply, walk_extended] {
        let mut wire = Wire::connect(&proxy.target("app"))?;
        walk(&mut wire, &roads::kept(&mut canaries))?;
        let mut wire = Wire::connect(&proxy.target("app"))?;
        walk(&mut wire, &made::statements(&mut canaries))?;
    }
    let kept =
        "SELECT count(*) FROM pg_views WHERE viewname LIKE 'made%' AND definition LIKE '%eq_term%'";
    ensure!(
        database.admin(kept)? == "3",
        "the views were not made with terms"
    );
    for walk in [walk_simply, walk_extended] {
        let mut wire = Wire::connect(&proxy.target("app"))?;
        walk(&mut wire, &roads::made_within(&mut canaries))?;
    }
    for messages in roads::raw(&mut canaries) {
        let mut wire = Wire::connect(&proxy.target("app"))?;
        wire.send(&messages)?;
        wire.until_ready(1)?;
    }
    proxy.psql("app", &roads::script(&mut canaries))?;
    let stored = database.admin("SELECT count(*) FROM vault")?;
    ensure!(
        stored.parse::<u32>()? > 10,
        "the roads stored only {stored} rows: they do not lead where they should"
    );

    // Everything to the disk; the positive control shows that what is there is found. More than once: a page of the log may
    // end in the middle of it.
    for _ in 0..3 {
        database.run("INSERT INTO open VALUES (1, 'control-canary-stands-in-the-open')")?;
    }
    server.admin("postgres", "CHECKPOINT")?;
    let search = Search::new(canaries.all())?;
    let control = Search::new(&["control-canary-stands-in-the-open".to_owned()])?;
    for place in [
        server.data_dir(),
        server.data_dir().join("pg_wal"),
        server.log_file(),
    ] {
        ensure!(
            !control.in_path(&place)?.is_empty(),
            "the control is not found in {}",
            place.display()
        );
    }
    let mut found = search.in_path(&server.data_dir())?;
    found.extend(search.in_path(&server.log_file())?);
    found.extend(search.in_bytes(proxy.log().as_bytes(), "the log of pgveil"));
    ensure!(
        found.is_empty(),
        "{} leaks, the first:\n{}",
        found.len(),
        found[..found.len().min(TOLD)].join("\n")
    );
    Ok(())
}

#[test]
fn the_search_finds_each_form() -> Result<()> {
    use std::fmt::Write as _;
    let secret = "some-canary-text-1";
    let search = Search::new(&[secret.to_owned()])?;
    let mut hex = String::new();
    for byte in secret.bytes() {
        write!(hex, "{byte:02x}")?;
    }
    let base64 = |prefix: &str| search::base64(format!("{prefix}{secret}").as_bytes());
    let forms = [
        secret.to_owned(),
        hex.clone(),
        hex.to_uppercase(),
        base64(""),
        base64("a"),
        base64("ab"),
        base64("abc"),
    ];
    for form in forms {
        let text = format!("before {form} after");
        ensure!(
            !search.in_bytes(text.as_bytes(), "here").is_empty(),
            "{form} is not found"
        );
    }
    ensure!(search.in_bytes(b"some canary text 1", "here").is_empty());
    Ok(())
}
