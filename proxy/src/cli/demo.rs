//! `pgveil demo`: a throw-away Postgres, the proxy in front of it, made-up customers, and the three views side by side.
//! It uses the same road as `init`, `apply` and `serve`; nothing in it is special but the data.

mod customers;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use pgveil_config::{PolicyFile, Settings};
use pgveil_providers::local::LocalProvider;
use pgveil_throwaway::{Options, TempPostgres};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::{app, listener::Listener, server::Server};

const DATABASE: &str = "shop";
/// Customers per INSERT: four parameters each, far below the protocol's 65,535.
const BATCH: usize = 100;
/// How long open sessions may take when the demo ends.
const DRAIN: Duration = Duration::from_secs(2);

const TABLE: &str = "CREATE TABLE customers (
    id        integer PRIMARY KEY,
    tenant_id integer NOT NULL,
    name      text NOT NULL,
    email     text NOT NULL,
    ssn       varchar(11),
    born      date,
    notes     jsonb
)";

const POLICY: &str = r#"[[table]]
name  = "public.customers"
scope = "tenant:{tenant_id}/project:shop/env:demo"

[table.column.email]
type       = "text"
search     = ["equality"]
search_key = "shared"            # one query may look across tenants
reveal     = ["app"]
mask       = { keep_last = 4 }

[table.column.ssn]
type   = "varchar(11)"
search = ["equality"]            # within a tenant: tenant_id = ... AND ssn = ...
reveal = ["app"]

[table.column.born]
type   = "date"
reveal = ["app"]

[table.column.notes]
type   = "jsonb"
reveal = ["app"]
"#;

/// Starts everything, shows it, and stays until Ctrl-C (or ends at once with `once`).
///
/// # Errors
/// If Postgres or the proxy cannot be started.
pub async fn run(rows: u32, once: bool) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shown = tokio::select! {
        shown = show(rows) => shown?,
        _ = interrupt.recv() => return Ok(ExitCode::from(130)),
        _ = terminate.recv() => return Ok(ExitCode::from(143)),
    };
    if !once {
        println!("\nBoth keep running until Ctrl-C; then everything is removed.");
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        println!("\nstopping");
    }
    shown.server.drain(DRAIN).await;
    Ok(ExitCode::SUCCESS)
}

/// What runs on after the show. Dropping it stops Postgres and removes all files.
struct Shown {
    server: Arc<Server>,
    _postgres: TempPostgres,
    _files: tempfile::TempDir,
}

async fn show(rows: u32) -> anyhow::Result<Shown> {
    let spinner = spinner("starting a throw-away PostgreSQL");
    let postgres =
        tokio::task::spawn_blocking(|| TempPostgres::start(&Options::default())).await??;
    spinner.finish_and_clear();
    postgres.admin("postgres", &format!("CREATE DATABASE {DATABASE} OWNER app"))?;
    postgres.admin(
        "postgres",
        &format!("GRANT CREATE ON DATABASE {DATABASE} TO pgveil"),
    )?;
    postgres.admin(
        DATABASE,
        &format!("SET SESSION AUTHORIZATION app; {TABLE}; GRANT SELECT ON customers TO analyst"),
    )?;

    let files = tempfile::tempdir()?;
    let config = write_config(files.path(), postgres.port())?;
    let settings = Settings::load(&config)?;
    let policy = PolicyFile::load(&settings.policy)?;
    pgveil_jobs::apply::apply(
        &settings,
        &policy,
        true,
        pgveil_jobs::apply::How::default(),
        |_| true,
    )
    .await?;

    let built = app::build(&config).await?;
    let engine = built.engine().await?;
    let listener = TcpListener::bind(&settings.listen).await?;
    let port = listener.local_addr()?.port();
    let server = Arc::new(Server::new(Arc::clone(&engine))?);
    built.start_background(&engine);
    tokio::spawn(Arc::clone(&server).accept(vec![Listener::Tcp(listener)]));

    let app = connect("app", port).await?;
    load(&app, rows).await?;
    let analyst = connect("analyst", port).await?;
    let direct = connect("app", postgres.port()).await?;
    side_by_side(&app, &analyst, &direct).await?;
    println!(
        "\nThe policy that does this: {}",
        files.path().join("policy.toml").display()
    );
    println!("Try it:");
    println!("  through pgveil   psql 'host=127.0.0.1 port={port} user=app dbname={DATABASE}'");
    println!("  as the analyst   psql 'host=127.0.0.1 port={port} user=analyst dbname={DATABASE}'");
    println!(
        "  directly         psql 'host=127.0.0.1 port={} user=app dbname={DATABASE}'",
        postgres.port()
    );
    Ok(Shown {
        server,
        _postgres: postgres,
        _files: files,
    })
}

fn write_config(dir: &Path, port: u16) -> anyhow::Result<PathBuf> {
    LocalProvider::create_root_key(&dir.join("root.key"))?;
    std::fs::write(dir.join("policy.toml"), POLICY)?;
    let config = dir.join("pgveil.toml");
    let text = format!(
        "listen = \"127.0.0.1:0\"\npolicy = \"policy.toml\"\n\
         [upstream]\naddress = \"127.0.0.1:{port}\"\ntls = \"disable\"\n\
         [keystore]\nurl = \"postgres://pgveil@127.0.0.1:{port}/{DATABASE}\"\n\
         [provider.main]\nkind = \"local\"\nroot_key_file = \"root.key\"\n\
         [defaults]\nprovider = \"main\"\nkey = \"platform\"\n"
    );
    std::fs::write(&config, text)?;
    Ok(config)
}

async fn connect(role: &str, port: u16) -> anyhow::Result<Client> {
    let url = format!("postgres://{role}@127.0.0.1:{port}/{DATABASE}");
    let (client, connection) = tokio_postgres::connect(&url, NoTls)
        .await
        .with_context(|| format!("connect as {role}"))?;
    tokio::spawn(connection);
    Ok(client)
}

async fn load(app: &Client, rows: u32) -> anyhow::Result<()> {
    let bar = ProgressBar::new(u64::from(rows)).with_style(ProgressStyle::with_template(
        "loading customers through pgveil {bar:40} {pos}/{len} {per_sec} {eta}",
    )?);
    let all: Vec<customers::Customer> = (1..=rows).map(customers::make).collect();
    for batch in all.chunks(BATCH) {
        app.batch_execute(&customers::insert(batch))
            .await
            .context("loading customers")?;
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    println!("{rows} made-up customers were inserted through pgveil with plain INSERT statements.");
    Ok(())
}

async fn side_by_side(app: &Client, analyst: &Client, direct: &Client) -> anyhow::Result<()> {
    let list = "SELECT id, name, email, ssn, born FROM customers ORDER BY id LIMIT 4";
    let stored = "SELECT id, name, left(email::bytea::text, 22) || '...' AS email, left(ssn::bytea::text, 22) || '...' AS ssn, \
                  left(born::bytea::text, 22) || '...' AS born FROM customers ORDER BY id LIMIT 4";
    let find = "SELECT id, name, email FROM customers WHERE email = 'ada.abara.1@example.com'";
    let count = "SELECT count(DISTINCT email) FROM customers";
    print_result("what the application sees (app, through pgveil)", list, app).await?;
    print_result(
        "what a second role sees (analyst, through pgveil)",
        list,
        analyst,
    )
    .await?;
    print_result("what the table really holds (directly)", stored, direct).await?;
    print_result(
        "equality search works on ciphertext (app, through pgveil)",
        find,
        app,
    )
    .await?;
    print_result(
        "so do DISTINCT, GROUP BY and joins (app, through pgveil)",
        count,
        app,
    )
    .await?;
    let refused = "SELECT id FROM customers ORDER BY email";
    println!("\n— what cannot be answered right is refused —\n  {refused}");
    match app.simple_query(refused).await {
        Ok(_) => anyhow::bail!("the demo expects a refusal here"),
        Err(error) => {
            let database = error
                .as_db_error()
                .context("a refusal is an error of the database protocol")?;
            println!("  ERROR {}: {}", database.code().code(), database.message());
            if let Some(hint) = database.hint() {
                println!("  HINT: {hint}");
            }
        }
    }
    Ok(())
}

async fn print_result(title: &str, sql: &str, client: &Client) -> anyhow::Result<()> {
    println!(
        "\n— {title} —\n  {}",
        sql.split_whitespace().collect::<Vec<_>>().join(" ")
    );
    let mut table: Vec<Vec<String>> = Vec::new();
    for message in client
        .simple_query(sql)
        .await
        .with_context(|| format!("{title}: {sql}"))?
    {
        if let SimpleQueryMessage::Row(row) = message {
            if table.is_empty() {
                table.push(row.columns().iter().map(|c| c.name().to_owned()).collect());
            }
            table.push(
                (0..row.len())
                    .map(|i| row.get(i).unwrap_or("NULL").to_owned())
                    .collect(),
            );
        }
    }
    let widths: Vec<usize> = (0..table.first().map_or(0, Vec::len))
        .map(|column| {
            table
                .iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    for row in &table {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        println!("  {}", cells.join("  ").trim_end());
    }
    Ok(())
}

fn spinner(message: &'static str) -> ProgressBar {
    let spinner = ProgressBar::new_spinner().with_message(message);
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}
