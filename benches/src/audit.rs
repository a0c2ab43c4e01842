//! How many records a second the audit log takes, by how many events wait to be recorded at once: of one process, and of two
//! that take turns. Each record is on disk when it counts.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use pgveil_config::{ScopePath, Settings};
use pgveil_keys::{
    Keystore, Scopes,
    audit::{Event, Log, Operation},
};
use pgveil_providers::local::KekStore;
use pgveil_tests::site::Site;
use pgveil_throwaway::{TempPostgres, postgres::Database};

/// Events that wait at once.
const AT_ONCE: [usize; 3] = [1, 16, 256];

/// Measures and prints.
pub(crate) fn run(quick: bool, seconds: u32) -> Result<()> {
    let long = if quick {
        Duration::from_millis(300)
    } else {
        Duration::from_secs(seconds.into())
    };
    let server = TempPostgres::start(&pgveil_throwaway::Options::default())?;
    let database = server.database()?;
    let site = Site::new(&database, "")?;
    site.apply()?;
    tokio::runtime::Runtime::new()?.block_on(measure(&database, &site, long))
}

async fn measure(database: &Database<'_>, site: &Site<'_>, long: Duration) -> Result<()> {
    let one = keystore(database, site).await?;
    let two = keystore(database, site).await?;
    println!("\nRecords of the audit log a second, each on disk");
    println!(
        "  {:>14}{:>14}{:>16}",
        "at once", "one process", "two together"
    );
    for at_once in AT_ONCE {
        let alone = records(&[&one], at_once, long).await?;
        let together = records(&[&one, &two], at_once, long).await?;
        println!("  {at_once:>14}{alone:>14.0}{together:>16.0}");
    }
    let sound = one.log().verify().await?;
    ensure!(sound.is_ok(), "{sound:?}");
    Ok(())
}

/// Records a second, of processes that each keep so many waiting.
async fn records(processes: &[&Arc<Keystore>], at_once: usize, long: Duration) -> Result<f64> {
    let begin = Instant::now();
    let mut writers = tokio::task::JoinSet::new();
    for process in processes {
        for _ in 0..at_once {
            writers.spawn(write(Arc::clone(process.log()), begin + long));
        }
    }
    let mut written = 0_u64;
    while let Some(done) = writers.join_next().await {
        written += done??;
    }
    Ok(written as f64 / begin.elapsed().as_secs_f64())
}

async fn write(log: Arc<Log>, until: Instant) -> Result<u64> {
    let mut written = 0;
    while Instant::now() < until {
        log.record(Event::new(Operation::ConfigLoad)).await?;
        written += 1;
    }
    Ok(written)
}

/// The keystore as a process of pgveil's has it.
async fn keystore(database: &Database<'_>, site: &Site<'_>) -> Result<Arc<Keystore>> {
    let text = format!(
        "policy = \"policy.toml\"\n[upstream]\naddress = \"127.0.0.1:1\"\ntls = \"disable\"\n\
         [keystore]\nurl = \"{}\"\n[provider.main]\nkind = \"local\"\nroot_key_file = \"root.key\"\n\
         [defaults]\nprovider = \"main\"\nkey = \"platform\"\n",
        database.url("pgveil")
    );
    let settings = Settings::parse(&text, &site.config())?;
    let keystore = Arc::new(Keystore::connect(&settings).await?);
    let keks: Arc<dyn KekStore> = keystore.clone();
    let providers = pgveil_providers::build(&settings, &keks).await?;
    let platform = Scopes::new(&settings).kek(&ScopePath::platform());
    keystore.log().use_providers(&providers, &platform);
    Ok(keystore)
}
