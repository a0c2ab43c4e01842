//! Providers that answer five seconds late, behind a relay of bytes: each is given up in time, an outage is asked after by one
//! request at a time, whoever has keys elsewhere notices nothing, and it ends by itself.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use pgveil_tests::{
    kms::{Aws, Bao, KeyServer, ROOT_TOKEN},
    postgres::TempPostgres,
    proxy::Proxy,
    site::Site,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

use crate::{
    azure::Vault,
    contract::{KEY, configured, context, is_unavailable},
    gcp::{self, Google},
    served::{Callers, Served},
};

/// How late answers are: later than any request of pgveil's waits.
const LATE: Duration = Duration::from_secs(5);
/// How long an unwrapped key lives.
const TTL: Duration = Duration::from_secs(1);
/// After which a test that waits has failed: no measure of anything.
const HANGS: Duration = Duration::from_mins(3);

/// What a relay does with answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answers {
    /// Hands them on.
    Prompt,
    /// Hands them on five seconds later.
    Late,
    /// Keeps them until it is prompt again.
    Kept,
}

/// A relay of bytes to a provider, whose answers can be held back.
struct Relay {
    address: SocketAddr,
    answers: watch::Sender<Answers>,
    task: JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Relay {
    /// In front of `https://HOST:PORT` or `http://HOST:PORT`, which it answers with its own port in it.
    async fn before(url: &str) -> Result<(Self, String)> {
        let (scheme, place) = url.split_once("://").context("a scheme")?;
        let place = place.split('/').next().unwrap_or_default();
        let behind: SocketAddr = place.parse()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (answers, set) = watch::channel(Answers::Prompt);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let set = set.clone();
                tokio::spawn(async move { carry(client, behind, set).await.ok() });
            }
        });
        let relay = Self {
            address,
            answers,
            task,
        };
        let url = format!(
            "{scheme}://{}{}",
            relay.address,
            &url[scheme.len() + 3 + place.len()..]
        );
        Ok((relay, url))
    }

    fn set(&self, answers: Answers) {
        self.answers.send_replace(answers);
    }
}

async fn carry(
    client: TcpStream,
    behind: SocketAddr,
    mut set: watch::Receiver<Answers>,
) -> Result<()> {
    let server = TcpStream::connect(behind).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let there = async {
        let mut piece = vec![0; 1 << 14];
        loop {
            let length = from_client.read(&mut piece).await?;
            if length == 0 {
                return to_server.shutdown().await;
            }
            to_server.write_all(&piece[..length]).await?;
        }
    };
    let back = async {
        let mut piece = vec![0; 1 << 14];
        loop {
            let length = from_server.read(&mut piece).await?;
            if length == 0 {
                return to_client.shutdown().await;
            }
            let now = *set.borrow();
            let prompt = set.wait_for(|answers| *answers == Answers::Prompt);
            match now {
                Answers::Prompt => {}
                Answers::Late => drop(timeout(LATE, prompt).await),
                Answers::Kept => drop(prompt.await),
            }
            to_client.write_all(&piece[..length]).await?;
        }
    };
    tokio::try_join!(there, back).map(drop).map_err(Into::into)
}

/// Every provider that a process can be had for, each behind a relay of its own.
struct All {
    /// What it is called in sections, its section, a key.
    sections: Vec<(&'static str, String, String)>,
    relays: Vec<Relay>,
    _google: Google,
    _azure: Vault,
    _aws: Option<Aws>,
    _bao: Option<Bao>,
    _served: Served,
    _server: KeyServer,
}

impl All {
    async fn start() -> Result<Self> {
        let (mut sections, mut relays) = (Vec::new(), Vec::new());
        let google = Google::start().await?;
        let (relay, url) = Relay::before(google.address()).await?;
        let section = format!("kind = \"gcp-kms\"\nendpoint = \"{url}\"\n");
        sections.push(("google", section, gcp::key("a")));
        relays.push(relay);
        let azure = Vault::start().await?;
        let (relay, url) = Relay::before(azure.address()).await?;
        sections.push(("azure", azure.section(&url), "rsa".to_owned()));
        relays.push(relay);
        let served = Served::new(Callers::Both)?;
        let server = served.site.serve_keys()?;
        served.key("a")?;
        let own = format!("https://127.0.0.1:{}", server.port);
        let (relay, url) = Relay::before(&own).await?;
        let section = served.own_section(&server)?.replace(&own, &url);
        sections.push(("outside", section, "a".to_owned()));
        relays.push(relay);
        let bao = Bao::start()?;
        if let Some(bao) = &bao {
            bao.run(&["write", "-f", "transit/keys/a", "derived=true"])?;
            let (relay, url) = Relay::before(&bao.address).await?;
            let section = format!(
                "kind = \"vault-transit\"\naddress = \"{url}\"\ntoken = \"{ROOT_TOKEN}\"\n"
            );
            sections.push(("vault", section, "a".to_owned()));
            relays.push(relay);
        }
        let aws = Aws::start()?;
        if let Some(aws) = &aws {
            let (relay, url) = Relay::before(&aws.endpoint).await?;
            let section =
                format!("kind = \"aws-kms\"\nregion = \"eu-central-1\"\nendpoint = \"{url}\"\n");
            sections.push(("aws", section, aws.key()?));
            relays.push(relay);
        }
        Ok(Self {
            sections,
            relays,
            _google: google,
            _azure: azure,
            _aws: aws,
            _bao: bao,
            _served: served,
            _server: server,
        })
    }

    fn set(&self, answers: Answers) {
        for relay in &self.relays {
            relay.set(answers);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_does_not_answer_is_given_up() -> Result<()> {
    let all = All::start().await?;
    let here = context("tenant:acme");
    for ((name, section, kek), relay) in all.sections.iter().zip(&all.relays) {
        let provider = configured(section).await?;
        let wrapped = provider.wrap(kek, &KEY, &here).await?;
        relay.set(Answers::Kept);
        // Nothing comes back before this is over.
        let answer = timeout(HANGS, provider.unwrap(kek, &wrapped, &here));
        let answer = answer.await.with_context(|| format!("{name} hangs"))?;
        ensure!(is_unavailable(&answer), "{name}: {answer:?}");
        // What comes now is nobody's answer.
        relay.set(Answers::Prompt);
        let opened = provider.unwrap(kek, &wrapped, &here).await;
        ensure!(opened?.as_slice() == KEY, "{name}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_providers_stop_their_own_scopes_only_and_are_asked_after_by_one() -> Result<()> {
    let all = All::start().await?;
    tokio::task::block_in_place(|| served(&all))
}

fn body(proxy: &Proxy, tenant: &str) -> Result<String> {
    proxy.psql(
        "app",
        &format!("SELECT body FROM notes WHERE tenant = '{tenant}'"),
    )
}

fn served(all: &All) -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    database.run("CREATE TABLE notes (id int PRIMARY KEY, tenant text, body text)")?;
    let policy = r#"public.notes  scope = "tenant:{tenant}"  body: text"#;
    let mut site = Site::new(&database, policy)?;
    site.set("cache", "ttl", &format!("\"{}s\"", TTL.as_secs()))?;
    site.set("admin", "listen", "\"127.0.0.1:0\"")?;
    for (name, section, kek) in &all.sections {
        // The second tenant of each would rather read on.
        site.append(&format!(
            "\n[provider.{name}]\n{section}\
             [[override]]\nscope = \"tenant:{name}\"\nprovider = \"{name}\"\nkey = \"{kek}\"\n\
             [[override]]\nscope = \"tenant:{name}-open\"\nprovider = \"{name}\"\nkey = \"{kek}\"\nfailure = \"open\"\n"
        ))?;
    }
    site.apply()?;
    let proxy = site.serve()?;
    let mut rows = vec!["(0, 'globex', 'theirs')".to_owned()];
    for (at, (name, ..)) in (1..).zip(&all.sections) {
        rows.push(format!(
            "({at}, '{name}', 'ours'), ({at}00, '{name}-open', 'open')"
        ));
    }
    proxy.psql(
        "app",
        &format!("INSERT INTO notes VALUES {}", rows.join(", ")),
    )?;
    all.set(Answers::Late);
    let refusals = AtomicUsize::new(0);
    std::thread::scope(|threads| {
        let handles: Vec<_> = { all.sections.iter() }
            .map(|(name, ..)| threads.spawn(|| refused(&proxy, name, &refusals)))
            .collect();
        // Meanwhile whoever has keys elsewhere is served, and does not wait until the others are refused.
        let mut meanwhile = 0;
        while handles.iter().any(|handle| !handle.is_finished()) {
            let before = refusals.load(Ordering::SeqCst);
            let answer = body(&proxy, "globex")?;
            ensure!(answer == "theirs", "{answer}");
            meanwhile += usize::from(refusals.load(Ordering::SeqCst) == before);
        }
        for handle in handles {
            handle
                .join()
                .map_err(|_| anyhow::anyhow!("it panicked"))??;
        }
        ensure!(
            meanwhile > 0,
            "another scope was served only when the others were refused"
        );
        Ok(())
    })?;
    all.set(Answers::Prompt);
    let begin = Instant::now();
    for (name, ..) in &all.sections {
        while body(&proxy, name)? != "ours" {
            ensure!(begin.elapsed() < HANGS, "{name}:\n{}", proxy.log());
        }
    }
    Ok(())
}

/// One tenant whose provider is slow: refused once its key's time is over, and then without asking each time.
fn refused(proxy: &Proxy, tenant: &str, refusals: &AtomicUsize) -> Result<()> {
    let begin = Instant::now();
    let mut refused = 0;
    while refused < 4 {
        let answer = body(proxy, tenant)?;
        ensure!(begin.elapsed() < HANGS, "{tenant}: still {answer}");
        if answer == "ours" {
            continue;
        }
        ensure!(
            answer.contains("PV002") && answer.contains("unavailable") && answer.contains(tenant),
            "{answer}"
        );
        refusals.fetch_add(1, Ordering::SeqCst);
        refused += 1;
    }
    // Now it is an outage: what is asked for meanwhile is not asked of the provider, but for one in a while.
    let before = unwraps(proxy, tenant)?;
    for _ in 0..10 {
        let answer = body(proxy, tenant)?;
        ensure!(answer.contains("PV002"), "{answer}");
    }
    let asked = unwraps(proxy, tenant)? - before;
    ensure!(asked < 10, "{tenant}: {asked} requests in an outage");
    let open = body(proxy, &format!("{tenant}-open"))?;
    ensure!(open == "open", "{tenant}-open: {open}");
    Ok(())
}

/// How often a provider was asked to unwrap a key.
fn unwraps(proxy: &Proxy, provider: &str) -> Result<u64> {
    let (_, page) = proxy.http("/metrics")?;
    let line =
        format!("pgveil_provider_requests_total{{provider=\"{provider}\",verb=\"unwrap\"}} ");
    let count = page.lines().find_map(|found| found.strip_prefix(&line));
    Ok(count.context("the metric is missing")?.parse()?)
}
