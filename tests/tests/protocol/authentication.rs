//! Logins that end at pgveil: it judges the client's proof, and logs in to the server as the same role without knowing
//! a password.

use std::fs;

use anyhow::{Result, ensure};
use pgveil_tests::{
    postgres::{Auth, Certificate, Database, Options, PASSWORD, TempPostgres},
    proxy::Proxy,
    psql::Target,
    site::Site,
};

use crate::{
    POLICY, TABLES,
    papers::{Papers, offer_tls_to_clients, quoted, write},
};

const LOOK_UP: &str = "
    CREATE FUNCTION public.pgveil_verifier(role text) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
        SET search_path = pg_catalog, pg_temp
        AS $$ SELECT rolpassword FROM pg_catalog.pg_authid WHERE rolname = role AND rolcanlogin $$;
    REVOKE ALL ON FUNCTION public.pgveil_verifier(text) FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION public.pgveil_verifier(text) TO pgveil;
";

/// A site that ends logins, with the verifiers that the server has now.
fn site_with_userlist<'a>(database: &Database<'a>, roles: &[&str]) -> Result<Site<'a>> {
    let mut lines = String::new();
    for role in roles {
        let verifier = database.admin(&format!(
            "SELECT rolpassword FROM pg_authid WHERE rolname = '{role}'"
        ))?;
        lines.push_str(&format!("\"{role}\" \"{verifier}\"\n"));
    }
    site_with_lines(database, &lines)
}

fn site_with_lines<'a>(database: &Database<'a>, lines: &str) -> Result<Site<'a>> {
    database.run(TABLES)?;
    let mut site = Site::new(database, POLICY)?;
    site.set("auth", "mode", "\"terminate\"")?;
    write(&site.etc(), "userlist.txt", lines)?;
    site.set("auth", "userlist_file", "\"userlist.txt\"")?;
    Ok(site)
}

fn scram_server() -> Result<TempPostgres> {
    TempPostgres::start(&Options::default().auth(Auth::Scram))
}

fn with_password(target: Target, password: &str) -> Target {
    // The last of two counts.
    target.with("password", password)
}

/// What a failed login says, without the address.
fn refusal(target: &Target) -> Result<String> {
    let said = target.psql("SELECT 1")?;
    Ok(said
        .split_once("FATAL:")
        .map_or(said.clone(), |(_, text)| text.trim().to_owned()))
}

#[test]
fn the_role_logs_in_upstream_by_the_key_that_its_proof_gave_away() -> Result<()> {
    let server = scram_server()?;
    let database = server.database()?;
    let site = site_with_userlist(&database, &["app", "analyst"])?;
    site.apply()?;
    let proxy = site.serve()?;
    for role in ["app", "analyst"] {
        let said = proxy.psql(role, "SELECT current_user, session_user")?;
        ensure!(said == format!("{role}|{role}"), "{said}");
    }
    let said = proxy.psql(
        "app",
        "INSERT INTO people VALUES (1, 'ada@example.com', 1); SELECT email FROM people WHERE email = 'ada@example.com'",
    )?;
    ensure!(said == "INSERT 0 1\nada@example.com", "{said}");
    Ok(())
}

#[test]
fn a_login_fails_as_it_does_directly_and_in_the_servers_log() -> Result<()> {
    let server = scram_server()?;
    let database = server.database()?;
    // A role that the file does not name, one that the server does not have, one with a password of its own time.
    let site = site_with_userlist(&database, &["app", "support"])?;
    database.admin("ALTER ROLE support PASSWORD 'changed'")?;
    site.apply()?;
    let proxy = site.serve()?;
    for (role, password) in [
        ("app", "wrong"),
        ("analyst", "wrong"),
        ("ghost", PASSWORD),
        ("support", "wrong"),
    ] {
        let direct = refusal(&with_password(database.target(role), password))?;
        let veiled = refusal(&with_password(proxy.target(role), password))?;
        ensure!(
            direct == veiled && direct.contains("password authentication failed"),
            "{role}: directly {direct}, through pgveil {veiled}"
        );
    }
    let failures = fs::read_to_string(server.log_file())?
        .matches("password authentication failed for user \"app\"")
        .count();
    ensure!(failures == 2, "the server counted {failures}");
    // What was changed at the server does not log in by what pgveil still has.
    for password in ["changed", PASSWORD] {
        let stale = refusal(&with_password(proxy.target("support"), password))?;
        ensure!(stale.contains("password authentication failed"), "{stale}");
    }
    ensure!(proxy.log().contains("password was changed"));
    Ok(())
}

#[test]
fn verifiers_come_by_a_query() -> Result<()> {
    let server = scram_server()?;
    let database = server.database()?;
    database.admin(LOOK_UP)?;
    let mut site = Site::new(&database, POLICY)?;
    database.run(TABLES)?;
    site.set("auth", "mode", "\"terminate\"")?;
    site.set("auth", "query", "\"SELECT public.pgveil_verifier($1)\"")?;
    site.apply()?;
    let proxy = site.serve()?;
    ensure!(proxy.psql("analyst", "SELECT current_user")? == "analyst");
    database.admin("ALTER ROLE analyst PASSWORD 'new one'")?;
    let new = with_password(proxy.target("analyst"), "new one");
    ensure!(new.psql("SELECT current_user")? == "analyst");
    ensure!(refusal(&proxy.target("analyst"))?.contains("password authentication failed"));
    database.admin("DROP FUNCTION public.pgveil_verifier(text)")?;
    let failed = refusal(&new)?;
    ensure!(failed.contains("pgveil cannot look up"), "{failed}");
    Ok(())
}

#[test]
fn a_server_that_trusts_pgveil_has_it_judge_alone() -> Result<()> {
    let server = TempPostgres::start(&Options::default())?;
    let database = server.database()?;
    let site = site_with_userlist(&database, &["app"])?;
    site.apply()?;
    let proxy = site.serve()?;
    ensure!(proxy.psql("app", "SELECT current_user")? == "app");
    for (role, password) in [("app", "wrong"), ("analyst", PASSWORD), ("ghost", PASSWORD)] {
        let said = refusal(&with_password(proxy.target(role), password))?;
        ensure!(
            said == format!("password authentication failed for user \"{role}\""),
            "{said}"
        );
    }
    Ok(())
}

#[test]
fn passwords_that_the_server_wants_to_see_are_relayed() -> Result<()> {
    for auth in [Auth::Password, Auth::Md5] {
        let server = TempPostgres::start(&Options::default().auth(auth))?;
        let database = server.database()?;
        let site = site_with_lines(&database, "")?;
        site.apply()?;
        let proxy = site.serve()?;
        ensure!(
            proxy.psql("app", "SELECT current_user")? == "app",
            "{auth:?}"
        );
        let wrong = refusal(&with_password(proxy.target("app"), "wrong"))?;
        ensure!(wrong.contains("password authentication failed"), "{wrong}");
    }
    Ok(())
}

fn tls_server(papers: &Papers) -> Result<TempPostgres> {
    TempPostgres::start(
        &Options::default()
            .auth(Auth::Scram)
            .tls(papers.certificate.clone()),
    )
}

fn secured(target: Target, binding: &str) -> Target {
    target
        .with("sslmode", "require")
        .with("channel_binding", binding)
}

#[test]
fn both_legs_are_bound_to_their_own_tls() -> Result<()> {
    let (papers, own) = (Papers::new()?, Papers::new()?);
    let server = tls_server(&papers)?;
    let database = server.database()?;
    let mut site = site_with_userlist(&database, &["app"])?;
    offer_tls_to_clients(&mut site, &own)?;
    site.set("upstream", "tls", "\"verify-full\"")?;
    site.set("upstream", "ca_file", &quoted(&papers.ca_file))?;
    site.set("upstream", "channel_binding", "\"require\"")?;
    site.apply()?;
    let proxy = site.serve()?;
    for binding in ["disable", "prefer", "require"] {
        let said = secured(proxy.target("app"), binding).psql("SELECT current_user")?;
        ensure!(said == "app", "{binding}: {said}");
    }
    let plain = proxy.target("app").with("sslmode", "disable");
    ensure!(plain.psql("SELECT current_user")? == "app");
    drop(proxy);

    site.set("auth", "channel_binding", "\"require\"")?;
    let proxy = site.serve()?;
    ensure!(secured(proxy.target("app"), "require").psql("SELECT current_user")? == "app");
    for target in [
        secured(proxy.target("app"), "disable"),
        proxy.target("app").with("sslmode", "disable"),
    ] {
        let said = target.psql("SELECT 1")?;
        ensure!(
            said.contains("requires channel binding") || said.contains("mechanism"),
            "{said}"
        );
    }
    Ok(())
}

#[test]
fn a_server_without_binding_is_refused_where_it_is_required() -> Result<()> {
    let papers = Papers::new()?;
    let server = TempPostgres::start(&Options::default().tls(papers.certificate.clone()))?;
    let database = server.database()?;
    let mut site = site_with_userlist(&database, &["app"])?;
    site.set("upstream", "tls", "\"require\"")?;
    site.set("upstream", "channel_binding", "\"require\"")?;
    site.apply()?;
    let said = refusal(&site.serve()?.target("app"))?;
    ensure!(said.contains("does not offer channel binding"), "{said}");
    Ok(())
}

fn showing(target: Target, certificate: &Certificate) -> Target {
    target
        .with("sslmode", "require")
        .with("sslcert", &certificate.cert_file.to_string_lossy())
        .with("sslkey", &certificate.key_file.to_string_lossy())
}

fn trust_clients(site: &mut Site<'_>, own: &Papers, word: &str) -> Result<()> {
    offer_tls_to_clients(site, own)?;
    site.set("client_tls", "client_ca_file", &quoted(&own.ca_file))?;
    site.set("auth", "certificates", &format!("\"{word}\""))
}

#[test]
fn a_certificate_takes_the_place_of_a_password() -> Result<()> {
    let (own, other) = (Papers::new()?, Papers::new()?);
    let server = scram_server()?;
    let database = server.database()?;
    let lines = format!("\"app\" \"{PASSWORD}\"\n\"support\" \"{PASSWORD}\"\n");
    let mut site = site_with_lines(&database, &lines)?;
    trust_clients(&mut site, &own, "login")?;
    site.apply()?;
    let proxy = site.serve()?;
    let by_certificate = |proxy: &Proxy, role: &str, certificate: &Certificate| {
        showing(with_password(proxy.target(role), ""), certificate).psql("SELECT current_user")
    };
    let app = own.client("app")?;
    ensure!(by_certificate(&proxy, "app", &app)? == "app");
    let wrong = by_certificate(&proxy, "support", &app)?;
    ensure!(
        wrong.contains("certificate authentication failed for user \"support\""),
        "{wrong}"
    );
    let foreign = by_certificate(&proxy, "app", &other.client("app")?)?;
    ensure!(foreign.contains("error"), "{foreign}");
    // Without a certificate, the password counts; it is checked by what the file has.
    ensure!(proxy.psql("app", "SELECT current_user")? == "app");
    let none = refusal(&with_password(proxy.target("app"), "wrong"))?;
    ensure!(none.contains("password authentication failed"), "{none}");
    drop(proxy);

    write(
        &site.etc(),
        "certificates.map",
        "\"app\" \"support\" # the other one\n",
    )?;
    site.set("auth", "certificate_map_file", "\"certificates.map\"")?;
    let proxy = site.serve()?;
    ensure!(by_certificate(&proxy, "support", &app)? == "support");
    ensure!(by_certificate(&proxy, "app", &app)?.contains("certificate authentication failed"));
    Ok(())
}

#[test]
fn a_certificate_may_be_needed_besides_the_password() -> Result<()> {
    let own = Papers::new()?;
    let server = scram_server()?;
    let database = server.database()?;
    let mut site = Site::new(&database, POLICY)?;
    database.run(TABLES)?;
    trust_clients(&mut site, &own, "require")?;
    site.apply()?;
    let proxy = site.serve()?;
    let app = own.client("app")?;
    let bound = |target: Target| showing(target, &app).with("channel_binding", "disable");
    ensure!(bound(proxy.target("app")).psql("SELECT current_user")? == "app");
    let wrong = refusal(&bound(with_password(proxy.target("app"), "wrong")))?;
    ensure!(wrong.contains("password authentication failed"), "{wrong}");
    let none = refusal(&proxy.target("app").with("sslmode", "require"))?;
    ensure!(
        none.contains("requires a valid client certificate"),
        "{none}"
    );
    Ok(())
}

#[test]
fn the_server_may_know_pgveil_by_its_certificate() -> Result<()> {
    let (papers, own) = (Papers::new()?, Papers::new()?);
    let server = tls_server(&papers)?;
    let database = server.database()?;
    // Whoever holds this certificate may be any role.
    let data = server.data_dir();
    fs::write(data.join("root.crt"), fs::read(&papers.ca_file)?)?;
    fs::write(
        data.join("pg_hba.conf"),
        "local all all trust\nhost all pgveil 127.0.0.1/32 scram-sha-256\nhostssl all all 127.0.0.1/32 cert map=proxy\n",
    )?;
    fs::write(
        data.join("pg_ident.conf"),
        "proxy the-proxy /^(.*)$\nproxy the-proxy app\nproxy the-proxy support\n",
    )?;
    make_readable(&server)?;
    database.admin("ALTER SYSTEM SET ssl_ca_file = 'root.crt'")?;
    database.admin("SELECT pg_reload_conf()")?;
    let ours = papers.client("the-proxy")?;
    let mut site = site_with_userlist(&database, &["app"])?;
    trust_clients(&mut site, &own, "login")?;
    site.set("upstream", "tls", "\"verify-full\"")?;
    site.set("upstream", "ca_file", &quoted(&papers.ca_file))?;
    site.set("upstream", "cert_file", &quoted(&ours.cert_file))?;
    site.set("upstream", "key_file", &quoted(&ours.key_file))?;
    site.apply()?;
    let proxy = site.serve()?;
    let by_certificate = showing(
        with_password(proxy.target("support"), ""),
        &own.client("support")?,
    );
    let said = by_certificate.psql("SELECT current_user")?;
    ensure!(said == "support", "{said}");
    ensure!(proxy.psql("app", "SELECT current_user")? == "app");
    let wrong = refusal(&with_password(proxy.target("app"), "wrong"))?;
    ensure!(wrong.contains("password authentication failed"), "{wrong}");
    Ok(())
}

/// What we wrote in the data directory is the server's to read.
fn make_readable(server: &TempPostgres) -> Result<()> {
    if let Some(user) = server.user() {
        for name in ["root.crt", "pg_hba.conf", "pg_ident.conf"] {
            std::os::unix::fs::chown(server.data_dir().join(name), Some(user.uid), Some(user.gid))?;
        }
    }
    Ok(())
}
