//! The command line: one file per command. Exit codes: 0 done; 1 something found or refused, said on stderr;
//! 2 wrong arguments or a failure of pgveil itself.

pub mod apply;
mod ask;
pub mod audit;
pub mod check;
pub mod demo;
pub mod explain;
pub mod init;
pub mod jobs;
pub mod keks;
pub mod keys;
pub mod kms;
mod loss;
mod moved;
pub mod rotate;
pub mod scopes;
pub mod seal;
pub mod serve;
pub mod step_up;
mod table;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory, Parser, Subcommand};
use pgveil_config::{ScopePath, Settings};
use pgveil_keys::{
    Keystore,
    audit::{Actor, acting},
};

/// Transparent encryption for PostgreSQL: a proxy on the wire protocol.
#[derive(Debug, Parser)]
#[command(
    name = "pgveil",
    version,
    about = "Transparent encryption for PostgreSQL: columns named in a policy hold only ciphertext, applications go on with plaintext.",
    after_help = "Examples:
  pgveil init conf                              write pgveil.toml, policy.toml and root.key into conf/
  pgveil check --config conf/pgveil.toml        what is wrong, with file, line and cure
  pgveil plan  --config conf/pgveil.toml        what `apply` would change in the database
  pgveil apply --config conf/pgveil.toml --yes  install schema pgveil and convert the columns
  pgveil serve --config conf/pgveil.toml        run the proxy
  pgveil explain --config conf/pgveil.toml \"SELECT * FROM customers WHERE email = 'a@b.c'\"

Exit codes:
  0  done
  1  something is wrong or was refused; it is said on standard error
  2  wrong arguments, or pgveil itself failed"
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a commented pgveil.toml, policy.toml and a new root.key into a directory
    #[command(
        after_help = "Example:\n  pgveil init conf\n\nNothing is overwritten: if one of the files exists, nothing is written."
    )]
    Init {
        /// The directory; made if it does not exist
        dir: PathBuf,
    },
    /// Check the configuration and the policy against the live database
    #[command(
        after_help = "Example:\n  pgveil check --config conf/pgveil.toml\n\nExit code 1 if anything is wrong; warnings alone are exit code 0."
    )]
    Check(check::Check),
    /// Show what `apply` would change in the database, and what will not work any more
    #[command(
        after_help = "Example:\n  pgveil plan --config conf/pgveil.toml\n\nExit code 1 if something blocks `apply`."
    )]
    Plan {
        #[command(flatten)]
        config: WithConfig,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Install schema pgveil and convert the columns that the policy names
    #[command(
        after_help = "Example:\n  pgveil apply --config conf/pgveil.toml --yes\n\nEach table is converted in one transaction under an exclusive lock.\nWith --online it is written to meanwhile: docs/migration.md.\n\n  pgveil apply --decrypt public.people.email --operator ada --config conf/pgveil.toml\n\nbrings a column back to plaintext, while it is used."
    )]
    Apply {
        #[command(flatten)]
        config: WithConfig,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        how: apply::How,
        #[command(flatten)]
        way: apply::Way,
        #[command(flatten)]
        step_up: ask::StepUp,
    },
    /// Run the proxy
    #[command(
        after_help = "Example:\n  pgveil serve --config conf/pgveil.toml\n\nPrints `pgveil: listening on HOST:PORT` on standard output once it is ready.\nLogs go to standard error; [log] in the configuration sets level and format."
    )]
    Serve(WithConfig),
    /// Show how a statement would be rewritten, and why
    #[command(
        after_help = "Examples:\n  pgveil explain --config conf/pgveil.toml \"SELECT * FROM customers WHERE email = 'a@b.c'\"\n  pgveil explain --config conf/pgveil.toml --prepared 'SELECT * FROM customers WHERE email = $1'\n\nNothing is sent to the database but catalog queries."
    )]
    Explain {
        #[command(flatten)]
        config: WithConfig,
        /// Explain as a prepared statement (extended protocol)
        #[arg(long)]
        prepared: bool,
        /// The search path under which names are looked up
        #[arg(long, default_value = "public", value_delimiter = ',')]
        search_path: Vec<String>,
        /// The statement
        sql: String,
    },
    /// Keys: which there are, rewrapping, destruction
    Keys {
        #[command(flatten)]
        config: WithConfig,
        #[command(subcommand)]
        command: keys::Key,
    },
    /// Key encryption keys (KEKs) at their providers: versions, keys under each, rotation
    Keks {
        #[command(flatten)]
        config: WithConfig,
        #[command(subcommand)]
        command: keks::Kek,
    },
    /// Give a scope its next data key, and bring its values to it in the background
    #[command(after_help = rotate::ROTATE_HELP)]
    Rotate {
        #[command(flatten)]
        config: WithConfig,
        #[command(flatten)]
        rotate: rotate::Rotate,
    },
    /// Bring values that name retired data keys to the present ones, in the background
    #[command(after_help = rotate::REWRAP_HELP)]
    Rewrap {
        #[command(flatten)]
        config: WithConfig,
        #[command(flatten)]
        rewrap: rotate::Rewrap,
    },
    /// Jobs over tables: list, watch, pause, resume, cancel, run
    Jobs {
        #[command(flatten)]
        config: WithConfig,
        #[command(subcommand)]
        command: jobs::Job,
    },
    /// Scopes: which there are, and which key a scope uses
    Scopes {
        #[command(flatten)]
        config: WithConfig,
        #[command(subcommand)]
        command: scopes::Scope,
    },
    /// The local KMS: make, show, rotate, disable and destroy keys, use them by hand, serve them to others
    #[command(
        after_help = "The root key file of the provider and the keystore must be within reach: whoever has both can do everything. Grants keep\nusers of the command line from each other's keys; --as says who acts.\n\nExample:\n  pgveil kms list --config conf/pgveil.toml"
    )]
    Kms(kms::Kms),
    /// Seal a scope and all below it: its values can be neither read nor written
    #[command(
        after_help = "Example:\n  pgveil seal --config conf/pgveil.toml tenant:acme\n\nRunning proxies follow within a second. It needs no token; `unseal` does."
    )]
    Seal {
        #[command(flatten)]
        config: WithConfig,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// platform, or tenant:T with /project:P and /env:E behind it
        scope: String,
    },
    /// Take a scope's seal off; needs a step-up token
    #[command(
        after_help = "Example:\n  pgveil unseal --config conf/pgveil.toml tenant:acme --operator ada"
    )]
    Unseal {
        #[command(flatten)]
        config: WithConfig,
        #[command(flatten)]
        step_up: ask::StepUp,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// As `pgveil scopes list` shows it
        scope: String,
    },
    /// The audit log: list, verify, export
    Audit {
        #[command(flatten)]
        config: WithConfig,
        #[command(subcommand)]
        command: audit::Command,
    },
    /// Operators, and the tokens that dangerous verbs need
    StepUp {
        #[command(flatten)]
        config: WithConfig,
        #[command(subcommand)]
        command: step_up::Command,
    },
    /// Start a throw-away PostgreSQL and the proxy with sample data, until Ctrl-C
    #[command(
        after_help = "Example:\n  pgveil demo\n\nNeeds PostgreSQL's server programs on this machine (Debian: apt install postgresql); `make demo` installs them."
    )]
    Demo {
        /// How many customers to make up
        #[arg(long, default_value_t = 3000)]
        rows: u32,
        /// Show everything once and stop, instead of waiting for Ctrl-C
        #[arg(long)]
        once: bool,
    },
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  pgveil completions bash > /etc/bash_completion.d/pgveil")]
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
}

/// Where the configuration is.
#[derive(Clone, Debug, Args)]
pub struct WithConfig {
    /// The configuration file
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        default_value = "pgveil.toml"
    )]
    pub config: PathBuf,
}

/// Runs one command to its end. What it records in the audit log, it records of the person who runs it.
pub async fn run(arguments: Arguments) -> ExitCode {
    let actor = match &arguments.command {
        Command::Serve(_) | Command::Demo { .. } => Actor::pgveil(),
        _ => Actor::person(&operating_user()),
    };
    let done = acting(actor, dispatch(arguments.command)).await;
    done.unwrap_or_else(|error| {
        eprintln!("pgveil: {error:#}");
        ExitCode::from(
            if error.is::<Found>() || error.is::<pgveil_config::Diagnostics>() {
                1
            } else {
                2
            },
        )
    })
}

/// The name of the user that runs this, or its number: who acts is recorded by it. (libc would be asked for users of
/// directories, too: `pgveil kms --as`.)
fn operating_user() -> String {
    let uid = rustix::process::getuid().as_raw();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| uid.to_string())
}

async fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Init { dir } => init::run(&dir),
        Command::Check(check) => check::run(&check).await,
        Command::Plan { config, json } => apply::plan(&config.config, json).await,
        Command::Apply {
            config,
            yes,
            how,
            way,
            step_up,
        } => apply::run(&config.config, yes, &how, &way, &step_up).await,
        Command::Serve(with) => serve::run(&with.config).await,
        Command::Explain {
            config,
            prepared,
            search_path,
            sql,
        } => explain::run(&config.config, &sql, prepared, &search_path).await,
        Command::Keks { config, command } => keks::run(&config.config, command).await,
        Command::Keys { config, command } => keys::run(&config.config, command).await,
        Command::Rotate { config, rotate } => rotate::rotate(&config.config, &rotate).await,
        Command::Rewrap { config, rewrap } => rotate::rewrap(&config.config, &rewrap).await,
        Command::Jobs { config, command } => jobs::run(&config.config, command).await,
        Command::Scopes { config, command } => scopes::run(&config.config, command).await,
        Command::Kms(arguments) => kms::run(arguments).await,
        Command::Seal {
            config,
            json,
            scope,
        } => seal::seal(&config.config, &scope, json).await,
        Command::Unseal {
            config,
            step_up,
            json,
            scope,
        } => seal::unseal(&config.config, &scope, &step_up, json).await,
        Command::Audit { config, command } => audit::run(&config.config, command).await,
        Command::StepUp { config, command } => step_up::run(&config.config, command).await,
        Command::Demo { rows, once } => demo::run(rows, once).await,
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut Arguments::command(),
                "pgveil",
                &mut std::io::stdout(),
            );
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn connect(settings: &Settings) -> anyhow::Result<Keystore> {
    Keystore::connect(settings)
        .await
        .map_err(|error| Found(format!("{error}; {}", error.cure())).into())
}

fn parse_scope(text: &str) -> anyhow::Result<ScopePath> {
    ScopePath::parse(text).map_err(|error| Found(format!("{text:?} is no scope: {error}")).into())
}

/// Something was found wrong: exit code 1, not 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Found(pub String);
