//! The harness itself: a server starts on a free port, keeps databases apart, asks for passwords as told,
//! and leaves nothing behind when it is dropped or when its owner is killed.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use pgveil_tests::{
    leash::Leash,
    postgres::{Auth, Options, PASSWORD, TempPostgres},
};

#[test]
fn a_database_is_owned_by_app_and_hidden_from_the_others() -> Result<()> {
    let (one, two) = (
        TempPostgres::fresh_database()?,
        TempPostgres::fresh_database()?,
    );
    one.run("CREATE TABLE only_here (id int)")?;
    ensure!(two.run("SELECT to_regclass('only_here') IS NULL")? == "t");
    ensure!(one.run("SELECT current_user")? == "app");
    Ok(())
}

#[tokio::test]
async fn connects_over_tcp_under_each_password_method() -> Result<()> {
    for auth in [Auth::Password, Auth::Md5, Auth::Scram] {
        let server = TempPostgres::start(&Options::default().auth(auth))?;
        let database = server.database()?;
        let client = database.connect("app").await?;
        let row = client.query_one("SELECT current_user::text", &[]).await?;
        ensure!(row.get::<_, String>(0) == "app");
        let wrong = database.url("app").replace(PASSWORD, "wrong");
        let refused = tokio_postgres::connect(&wrong, tokio_postgres::NoTls).await;
        ensure!(refused.is_err(), "{auth:?} let a wrong password in");
    }
    Ok(())
}

#[test]
fn two_servers_run_beside_each_other() -> Result<()> {
    let (one, two) = (
        TempPostgres::start(&Options::default())?,
        TempPostgres::start(&Options::default())?,
    );
    ensure!(one.port() != two.port());
    ensure!(one.admin("postgres", "SELECT 1")? == "1" && two.admin("postgres", "SELECT 1")? == "1");
    Ok(())
}

#[test]
fn nothing_is_left_after_a_drop() -> Result<()> {
    let server = TempPostgres::start(&Options::default())?;
    let (dir, port) = (server.data_dir(), server.port());
    drop(server);
    ensure!(!dir.exists());
    ensure!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    Ok(())
}

/// Started by the test below as a process of its own; by itself it does nothing.
#[test]
fn owner_to_be_killed() -> Result<()> {
    if std::env::var_os("PGVEIL_TEST_OWNER").is_none() {
        return Ok(());
    }
    let server = TempPostgres::start(&Options::default())?;
    println!("DATA {}", server.data_dir().display());
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}

#[test]
fn nothing_is_left_when_the_owner_is_killed() -> Result<()> {
    let me = std::env::current_exe()?;
    let mut owner = Command::new(me)
        .args(["--exact", "owner_to_be_killed", "--nocapture"])
        .env("PGVEIL_TEST_OWNER", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = std::io::BufReader::new(owner.stdout.take().context("piped")?);
    let line = std::io::BufRead::lines(stdout)
        .map_while(Result::ok)
        .find_map(|line| line.split_once("DATA ").map(|(_, dir)| PathBuf::from(dir)))
        .context("the owner printed no directory")?;
    ensure!(line.exists());
    owner.kill()?;
    owner.wait()?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while line.exists() {
        ensure!(
            Instant::now() < deadline,
            "{} is still there",
            line.display()
        );
        std::thread::yield_now();
    }
    Ok(())
}

#[test]
fn a_leashed_program_ends_with_its_leash_and_reports_its_own_end() -> Result<()> {
    let log = || tempfile::tempfile();
    let sleeper = Leash::new("sleep".as_ref(), &["1000"], "KILL").start(log()?)?;
    let pid = sleeper.pid();
    ensure!(!sleeper.has_ended());
    drop(sleeper);
    ensure!(!PathBuf::from(format!("/proc/{pid}")).exists());
    let short = Leash::new("echo".as_ref(), &["hello"], "KILL").start(log()?)?;
    ensure!(short.line(Duration::from_secs(10))?.as_deref() == Some("hello"));
    ensure!(short.wait_for_end(Duration::from_secs(10)));
    Ok(())
}
