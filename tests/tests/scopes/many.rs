//! One result whose rows have keys of many scopes, read by a proxy that holds none of them.

use anyhow::{Result, ensure};
use pgveil_tests::{
    postgres::TempPostgres,
    site::Site,
    wire::{Message, Wire},
};

use super::{POLICY, TABLE};

#[test]
fn a_result_over_many_scopes_is_read_whole_in_every_way() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let site = Site::new(&database, POLICY)?;
    site.apply()?;
    // More than are loaded ahead at a time.
    let rows: Vec<String> = (0..150)
        .map(|n| format!("({n}, 'tenant {n}', 'prod', 'body {n}')"))
        .collect();
    let insert = format!("INSERT INTO notes VALUES {}", rows.join(", "));
    site.serve()?.psql("app", &insert)?;
    let scopes =
        database.admin("SELECT count(DISTINCT scope) FROM pgveil.keys WHERE purpose = 'data'")?;
    ensure!(scopes == "150", "{scopes}");
    let expected: Vec<String> = (0..150).map(|n| format!("body {n}")).collect();
    let expected = expected.join("\n");
    for statement in [
        "SELECT body FROM notes ORDER BY id",
        "SELECT unnest(array_agg(body ORDER BY id)) FROM notes",
        "COPY (SELECT body FROM notes ORDER BY id) TO STDOUT",
    ] {
        // A proxy that has just started holds no key.
        let read = site.serve()?.psql("app", statement)?;
        ensure!(read == expected, "{statement}: {read}");
    }
    Ok(())
}

/// Rows of so many new scopes in one statement, from the `first`th on.
fn insert(first: u32, count: u32) -> String {
    let rows: Vec<String> = (first..first + count)
        .map(|n| format!("({n}, 't{n}', 'prod', 'body {n}')"))
        .collect();
    format!("INSERT INTO notes VALUES {}", rows.join(", "))
}

#[test]
fn first_keys_of_many_scopes_are_stored_together() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let site = Site::new(&database, POLICY)?;
    site.apply()?;
    let proxy = site.serve()?;
    let keys_of = |like: &str| {
        database.admin(&format!(
            "SELECT count(*) || ' of ' || count(DISTINCT scope) FROM pgveil.keys WHERE scope LIKE '{like}'"
        ))
    };
    proxy.psql("app", &insert(1000, 400))?;
    let made = keys_of("tenant:t1%")?;
    ensure!(
        made == "800 of 400",
        "a data key and an index key each: {made}"
    );
    let transactions: u32 = database
        .admin(
            "SELECT count(DISTINCT xmin::text) FROM pgveil.key_changes WHERE key_id IN \
             (SELECT id FROM pgveil.keys WHERE scope LIKE 'tenant:t1%')",
        )?
        .parse()?;
    ensure!(
        transactions < 200,
        "800 keys in {transactions} transactions"
    );
    let found = proxy.psql(
        "app",
        "SELECT id FROM notes WHERE tenant = 't1399' AND env = 'prod' AND body = 'body 1399'",
    )?;
    ensure!(found == "1399", "{found}");

    // Two sessions at once make one key each for the same scopes, whoever is first.
    let (one, other) = std::thread::scope(|threads| {
        let one = threads.spawn(|| proxy.psql("app", &insert(2000, 100)));
        let other = insert(2000, 100).replace("(2", "(3");
        (one.join(), proxy.psql("app", &other))
    });
    one.map_err(|_| anyhow::anyhow!("it panicked"))??;
    other?;
    let made = keys_of("tenant:t2%")?;
    ensure!(made == "200 of 100", "{made}");
    let read = site
        .serve()?
        .psql("app", "SELECT count(body) FROM notes WHERE id >= 2000")?;
    ensure!(read == "200", "{read}");
    ensure!(site.command("audit", &["verify"])?.code == Some(0));
    Ok(())
}

#[test]
fn rows_of_a_copy_that_came_together_have_their_keys_together() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let site = Site::new(&database, POLICY)?;
    site.apply()?;
    let proxy = site.serve()?;
    let mut text = Vec::new();
    let mut binary = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for n in 0..200 {
        // Between them stand rows that need no key: they wait for nothing.
        let body = if n % 10 == 0 { "\\N" } else { "a body" };
        text.extend(format!("{n}\tt{n}\tprod\t{body}\n").into_bytes());
        binary.extend(4_i16.to_be_bytes());
        let (id, tenant) = (1000_i32 + n, format!("b{n}"));
        let fields: [&[u8]; 4] = [&id.to_be_bytes(), tenant.as_bytes(), b"prod", b"a body"];
        for field in fields {
            binary.extend((field.len() as i32).to_be_bytes());
            binary.extend(field);
        }
    }
    binary.extend((-1_i16).to_be_bytes());
    for (copy, data, tenants, keys) in [
        ("COPY notes FROM STDIN", text, "t", "360"),
        ("COPY notes FROM STDIN (FORMAT binary)", binary, "b", "400"),
    ] {
        let mut client = Wire::connect(&proxy.target("app"))?;
        client.send(&[Message::query(copy)])?;
        client.until(b'G', 1)?;
        let said = client.exchange(&[Message::copy_data(&data), Message::copy_done()], 1)?;
        ensure!(said.contains("COPY 200"), "{said}");
        let of = format!(
            "FROM pgveil.key_changes c JOIN pgveil.keys k ON k.id = c.key_id WHERE k.scope LIKE 'tenant:{tenants}%'"
        );
        let made = database.admin(&format!("SELECT count(DISTINCT k.id) {of}"))?;
        ensure!(made == keys, "{copy}: {made}");
        let transactions = database.admin(&format!("SELECT count(DISTINCT c.xmin::text) {of}"))?;
        ensure!(
            transactions.parse::<u32>()? < 100,
            "{copy}: {made} keys in {transactions} transactions"
        );
    }
    let read = proxy.psql("app", "SELECT count(body) FROM notes")?;
    ensure!(read == "380", "{read}");
    Ok(())
}

#[test]
fn one_scope_that_gets_no_key_keeps_no_other_from_its_own() -> Result<()> {
    let server = TempPostgres::shared()?;
    let database = server.database()?;
    database.run(TABLE)?;
    let site = Site::new(&database, POLICY)?;
    site.apply()?;
    database.admin(
        "CREATE FUNCTION public.stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$; \
         CREATE TRIGGER stop BEFORE INSERT ON pgveil.keys FOR EACH ROW \
         WHEN (NEW.scope = 'tenant:t1050/env:prod') EXECUTE FUNCTION public.stop()",
    )?;
    let proxy = site.serve()?;
    // In one session it is in the way; the other one does not notice.
    let (refused, stored) = std::thread::scope(|threads| {
        let refused = threads.spawn(|| proxy.psql("app", &insert(1000, 100)));
        (refused.join(), proxy.psql("app", &insert(2000, 100)))
    });
    let refused = refused.map_err(|_| anyhow::anyhow!("it panicked"))?;
    let said = refused
        .as_ref()
        .map_or_else(ToString::to_string, Clone::clone);
    ensure!(
        said.contains("PV002") || said.contains("not this one"),
        "{said}"
    );
    stored?;
    let rows = database.admin("SELECT min(id) || ' ' || count(*) FROM notes")?;
    ensure!(rows == "2000 100", "{rows}");
    database.admin("DROP FUNCTION public.stop() CASCADE")?;
    proxy.psql("app", &insert(1000, 100))?;
    let keys = database.admin("SELECT count(*) || ' ' || count(DISTINCT scope) FROM pgveil.keys WHERE scope LIKE 'tenant:t%'")?;
    ensure!(keys == "400 200", "{keys}");
    ensure!(site.command("audit", &["verify"])?.code == Some(0));
    Ok(())
}
