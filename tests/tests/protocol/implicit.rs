//! Messages without Sync, and Queries behind them: what is one transaction directly is one through pgveil, whatever pgveil asks
//! in between, and what stays open stays open.

use anyhow::{Result, ensure};
use pgveil_tests::{
    postgres::TempPostgres,
    twin::{Sessions, Twin},
    wire::{Bind, Message, transcript},
};

const TABLES: &str = "
    CREATE TABLE people (id int GENERATED ALWAYS AS IDENTITY, tenant text, email text, at timestamptz);
    CREATE TABLE open (v text);";
const POLICY: &str = r#"public.people  scope = "tenant:{tenant}"  email: text, search = ["equality"]  at: timestamptz"#;
const ROWS: &str = "INSERT INTO people (tenant, email) VALUES ('a', 'first@example.com')";

/// What others see.
const SEEN: &str = "SELECT (SELECT count(*) FROM people), (SELECT string_agg(v, ',') FROM open)";
const CLEAR: &str = "DELETE FROM people WHERE id > 1; DELETE FROM open";

/// What a client may do next.
const STEPS: [(&str, Step); 18] = [
    (
        "execute",
        Step::Run("INSERT INTO open VALUES ('executed')", 0),
    ),
    (
        "execute sealed",
        Step::Run(
            "INSERT INTO people (tenant, email) VALUES ('a', 'executed')",
            0,
        ),
    ),
    ("suspend", Step::Run("VALUES ('a'), ('b')", 1)),
    ("set", Step::Run("SET search_path = public", 0)),
    ("begin", Step::Run("BEGIN", 0)),
    ("parse", Step::Parse("SELECT email FROM people")),
    ("describe", Step::Describe("SELECT email FROM people")),
    ("empty", Step::Run("", 0)),
    ("copy", Step::Copy("COPY open FROM STDIN")),
    ("flush", Step::Flush),
    ("sync", Step::Sync),
    ("query", Step::Query("INSERT INTO open VALUES ('queried')")),
    (
        "query sealed",
        Step::Query("INSERT INTO people (tenant, email) VALUES ('a', 'queried')"),
    ),
    // The server is asked for its time, and for the scopes of rows.
    (
        "query of a time",
        Step::Query("INSERT INTO people (tenant, at) VALUES ('a', now())"),
    ),
    (
        "query of a scope",
        Step::Query("UPDATE people SET email = 'other' WHERE id = 1"),
    ),
    (
        "several",
        Step::Query(
            "INSERT INTO people (tenant, email) VALUES ('a', '1'); INSERT INTO open VALUES ('several')",
        ),
    ),
    ("error", Step::Query("SELECT 1 / 0, email FROM people")),
    ("rollback", Step::Query("ROLLBACK")),
];

/// Ends whatever may be open or failed.
const END: [(&str, Step); 3] = [
    ("rollback", Step::Query("ROLLBACK")),
    ("sync", Step::Sync),
    ("rollback", Step::Query("ROLLBACK")),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Parse, Bind, Execute of so many rows.
    Run(&'static str, i32),
    /// The same, and its data.
    Copy(&'static str),
    Parse(&'static str),
    /// Parse and Describe.
    Describe(&'static str),
    Flush,
    Sync,
    Query(&'static str),
}

impl Step {
    fn is_query(self) -> bool {
        matches!(self, Self::Query(_))
    }

    fn messages(self) -> Vec<Message> {
        match self {
            Self::Run(sql, rows) => vec![
                Message::parse("", sql, &[]),
                Message::bind_text(&[]),
                Message::execute("", rows),
            ],
            Self::Copy(sql) => vec![
                Message::parse("", sql, &[]),
                Message::bind_text(&[]),
                Message::execute("", 0),
                Message::copy_data(b"copied\n"),
                Message::copy_done(),
            ],
            Self::Describe(sql) => vec![
                Message::parse("", sql, &[]),
                Message::describe_statement(""),
            ],
            Self::Parse(sql) => vec![Message::parse("", sql, &[])],
            Self::Flush => vec![Message::flush()],
            Self::Sync => vec![Message::sync()],
            Self::Query(sql) => vec![Message::query(sql)],
        }
    }
}

/// What the server makes of the steps, so far as it decides which of them it answers.
#[derive(Default)]
struct Server {
    block: bool,
    failed: bool,
    skips: bool,
    /// Something was executed outside a block since the last transaction ended.
    ran: bool,
    /// The last step was a Query behind that: PostgreSQL 18 loses such a transaction with a Sync, and answers nothing after it.
    left_open: bool,
}

impl Server {
    /// Whether a ReadyForQuery answers it.
    fn answers(&mut self, name: &str, step: Step) -> bool {
        let open = std::mem::take(&mut self.left_open);
        match step {
            Step::Sync => {
                self.skips = false;
                self.ran = false;
                return true;
            }
            Step::Flush => self.left_open = open,
            _ if self.skips => {}
            Step::Run(..) | Step::Copy(_) | Step::Parse(_) | Step::Describe(_) if self.failed => {
                self.skips = true;
            }
            Step::Run("BEGIN", _) => self.block = true,
            Step::Run("", _) | Step::Parse(_) | Step::Describe(_) => {}
            Step::Run(..) | Step::Copy(_) => self.ran = true,
            Step::Query(_) => {
                match name {
                    "rollback" => *self = Self::default(),
                    "error" if self.block => self.failed = true,
                    "error" => self.ran = false,
                    "several" if !self.block => self.ran = false,
                    _ => {}
                }
                self.left_open = self.ran && !self.block;
                return true;
            }
        }
        false
    }
}

/// All of three steps that begin without Sync and are not silent to the end.
fn orders() -> impl Iterator<Item = [(&'static str, Step); 3]> {
    let begins = |step: Step| !step.is_query() && !matches!(step, Step::Flush | Step::Sync);
    let unsynced = STEPS.into_iter().filter(move |(_, step)| begins(*step));
    let pairs = unsynced.flat_map(|first| STEPS.map(|second| (first, second)));
    pairs.flat_map(|(first, second)| {
        let queries = STEPS.into_iter().filter(|(_, step)| step.is_query());
        queries.map(move |third| [first, second, third])
    })
}

struct Sides {
    sessions: Sessions,
    others: Sessions,
    refused: usize,
}

impl Sides {
    /// These steps, one at a time or in one write, and what ends whatever they leave, on both sides.
    fn same(&mut self, order: &[(&str, Step)], at_once: bool) -> Result<()> {
        let mut server = Server::default();
        let mut steps = Vec::new();
        for (name, step) in order.iter().chain(&END) {
            if server.left_open && *step == Step::Sync {
                return Ok(());
            }
            steps.push((step.messages(), usize::from(server.answers(name, *step))));
        }
        let (mut direct, mut veiled) = (String::new(), String::new());
        let (mut messages, mut readies) = (Vec::new(), 0);
        for (at, (more, answers)) in steps.into_iter().enumerate() {
            messages.extend(more);
            readies += answers;
            if at + 1 < order.len() + END.len() && (at_once || readies == 0) {
                continue;
            }
            let said = self.sessions.exchange(&messages, readies)?;
            direct.push_str(&transcript(&said.0));
            veiled.push_str(&transcript(&said.1));
            if direct == veiled {
                let (direct, veiled) = self.seen()?;
                ensure!(
                    direct == veiled,
                    "behind step {at} others see directly {direct}, and through pgveil {veiled}"
                );
            }
            (messages, readies) = (Vec::new(), 0);
        }
        let refused = direct != veiled && veiled.contains("ErrorResponse ERROR 0A000");
        self.refused += usize::from(refused);
        ensure!(
            refused || direct == veiled,
            "directly:\n{direct}\n\nthrough pgveil:\n{veiled}"
        );
        self.others.exchange(&[Message::query(CLEAR)], 1)?;
        Ok(())
    }

    fn seen(&mut self) -> Result<(String, String)> {
        let (direct, veiled) = self.others.exchange(&[Message::query(SEEN)], 1)?;
        Ok((transcript(&direct), transcript(&veiled)))
    }
}

#[test]
fn all_orders_of_steps_leave_the_same() -> Result<()> {
    let twin = Twin::new(TempPostgres::shared()?, TABLES, POLICY, ROWS)?;
    let mut sides = Sides {
        sessions: twin.sessions("app")?,
        others: twin.sessions("app")?,
        refused: 0,
    };
    let mut wrong = Vec::new();
    for (at, order) in orders().enumerate() {
        let at_once = at % 2 == 0;
        if let Err(error) = sides.same(&order, at_once) {
            let names = order.map(|(name, _)| name).join(", ");
            wrong.push(format!("{names} (at once: {at_once}): {error:#}"));
            sides.sessions = twin.sessions("app")?;
            sides.others.exchange(&[Message::query(CLEAR)], 1)?;
        }
    }
    ensure!(
        wrong.is_empty(),
        "{} wrong, {} refused\n{}",
        wrong.len(),
        sides.refused,
        wrong.join("\n\n")
    );
    ensure!(sides.refused == 0, "{} are refused", sides.refused);
    Ok(())
}

/// Statements that commit by themselves, behind which the server ends the transaction or goes on in it.
#[test]
fn what_commits_by_itself_is_followed_as_directly() -> Result<()> {
    let twin = Twin::new(TempPostgres::shared()?, TABLES, POLICY, ROWS)?;
    let mut others = twin.sessions("app")?;
    for first in [
        "VACUUM open",
        "CREATE INDEX first ON open (v)",
        "CREATE INDEX CONCURRENTLY second ON open (v)",
        "REINDEX TABLE open",
        "REINDEX TABLE CONCURRENTLY open",
        "CLUSTER open USING second",
        "DROP INDEX CONCURRENTLY first",
        "ALTER TABLE open ALTER v SET STATISTICS 1",
        "DISCARD ALL",
    ] {
        let mut sessions = twin.sessions("app")?;
        let mut messages = Step::Run(first, 0).messages();
        messages.push(Message::query("UPDATE people SET email = 'x' WHERE id = 1"));
        let (direct, veiled) = sessions.exchange(&messages, 1)?;
        let (direct, veiled) = (transcript(&direct), transcript(&veiled));
        if first.contains("INDEX") && veiled.contains("ErrorResponse ERROR 0A000") {
            // From PostgreSQL 18 on: whether the transaction has ended cannot be told.
            sessions.exchange(&[Message::query("COMMIT")], 1)?;
            let as_directly = match first {
                "CREATE INDEX first ON open (v)" => {
                    "DROP INDEX IF EXISTS first; CREATE INDEX first ON open (v)"
                }
                "CREATE INDEX CONCURRENTLY second ON open (v)" => {
                    "DROP INDEX IF EXISTS second; CREATE INDEX second ON open (v)"
                }
                "DROP INDEX CONCURRENTLY first" => "DROP INDEX IF EXISTS first",
                _ => continue,
            };
            others.exchange(&[Message::query(as_directly)], 1)?;
            continue;
        }
        ensure!(
            direct == veiled,
            "{first}\ndirectly:\n{direct}\n\nthrough pgveil:\n{veiled}"
        );
        ensure!(!direct.contains("ErrorResponse"), "{direct}");
        // Also where it was left open.
        let (direct, veiled) = sessions.exchange(&[Message::query("COMMIT")], 1)?;
        ensure!(transcript(&direct) == transcript(&veiled), "{first}");
        let (direct, veiled) = others.exchange(&[Message::query(SEEN)], 1)?;
        ensure!(transcript(&direct) == transcript(&veiled), "{first}");
    }
    Ok(())
}

fn bound(portal: &str, statement: &str, value: &str) -> Message {
    Message::bind(&Bind {
        portal,
        statement,
        formats: &[],
        params: &[Some(value.as_bytes())],
        results: &[],
    })
}

/// Messages, and how many ReadyForQuery answer them.
type Exchange = (Vec<Message>, usize);

/// Behind an error the server skips everything to Sync, be it the client's or a question of pgveil's own.
#[test]
fn what_the_server_skips_changes_nothing() -> Result<()> {
    let twin = Twin::new(TempPostgres::shared()?, TABLES, POLICY, ROWS)?;
    let fails = || Step::Run("SELECT 1 / 0", 0).messages();
    let sealed = "INSERT INTO people (tenant, email) VALUES ('a', $1)";
    let of_people = "SELECT id, email FROM people";
    // From here on the session has to be asked for its settings.
    let stale = || Message::query("SET work_mem = '1MB'");
    let queries = |sql: &[&str]| {
        sql.iter()
            .map(|sql| Message::query(sql))
            .collect::<Vec<_>>()
    };
    let executed = |value: &str| {
        vec![
            bound("", "", value),
            Message::execute("", 0),
            Message::sync(),
        ]
    };
    let cases: [(&str, Vec<Exchange>); 9] = [
        (
            "queries",
            vec![(
                [
                    fails(),
                    queries(&["SELECT 1", "UPDATE people SET email = 'x'"]),
                ]
                .concat(),
                0,
            )],
        ),
        (
            "a query that changes settings, and those behind it",
            vec![(
                [
                    fails(),
                    vec![stale()],
                    queries(&[of_people, "DELETE FROM people"]),
                ]
                .concat(),
                0,
            )],
        ),
        (
            "questions before a statement",
            vec![
                (vec![stale()], 1),
                ([fails(), Step::Run(of_people, 0).messages()].concat(), 0),
            ],
        ),
        (
            "a Parse of the unnamed statement, which lives on",
            vec![
                (vec![Message::parse("", sealed, &[]), Message::sync()], 1),
                (
                    vec![
                        Message::parse("x", "SELEC", &[]),
                        Message::parse("", "SELECT 1", &[]),
                        Message::sync(),
                    ],
                    1,
                ),
                (executed("skipped"), 1),
                (queries(&[of_people]), 1),
            ],
        ),
        (
            "nothing: a Parse that fails destroys the unnamed statement",
            vec![
                (vec![Message::parse("", sealed, &[]), Message::sync()], 1),
                (vec![Message::parse("", "SELEC", &[]), Message::sync()], 1),
                (executed("failed"), 1),
            ],
        ),
        (
            "nothing: DEALLOCATE ALL leaves the unnamed statement",
            vec![
                (
                    vec![
                        Message::parse("", sealed, &[]),
                        Message::parse("d", "DEALLOCATE ALL", &[]),
                        Message::bind(&Bind {
                            portal: "d",
                            statement: "d",
                            formats: &[],
                            params: &[],
                            results: &[],
                        }),
                        Message::execute("d", 0),
                        Message::sync(),
                    ],
                    1,
                ),
                (executed("deallocated"), 1),
                (queries(&[of_people]), 1),
            ],
        ),
        (
            "a Sync in the middle of a COPY",
            vec![
                (vec![stale()], 1),
                (
                    [
                        Step::Run("COPY open FROM STDIN", 0).messages(),
                        vec![
                            Message::sync(),
                            Message::copy_data(b"copied\n"),
                            Message::copy_done(),
                        ],
                        queries(&["SELECT 1 / 0, email FROM people"]),
                    ]
                    .concat(),
                    1,
                ),
            ],
        ),
        (
            "nothing: a portal of what SQL has prepared is fetched from",
            vec![
                (queries(&["PREPARE p (text) AS SELECT $1"]), 1),
                (vec![stale()], 1),
                (
                    vec![
                        bound("c", "p", "v"),
                        Message::query("FETCH ALL FROM c; SELECT email FROM people"),
                    ],
                    1,
                ),
            ],
        ),
        (
            "nothing: a portal that waits while the server is asked",
            vec![
                (vec![stale()], 1),
                (
                    vec![
                        Message::parse("", of_people, &[]),
                        Message::bind(&Bind {
                            portal: "c",
                            statement: "",
                            formats: &[],
                            params: &[],
                            results: &[],
                        }),
                        Message::query("INSERT INTO open VALUES ('behind')"),
                    ],
                    1,
                ),
            ],
        ),
    ];
    let mut others = twin.sessions("app")?;
    for (name, exchanges) in cases {
        let mut sessions = twin.sessions("app")?;
        let (mut refused, mut last) = (false, String::new());
        let end = END.iter().map(|(_, step)| (step.messages(), 1));
        // What is skipped to the end goes out with the Sync that ends it.
        let mut kept = Vec::new();
        for (messages, readies) in exchanges
            .into_iter()
            .chain([(vec![Message::sync()], 1)])
            .chain(end)
        {
            kept.extend(messages);
            if readies == 0 {
                continue;
            }
            let (direct, veiled) = sessions.exchange(&std::mem::take(&mut kept), readies)?;
            let (direct, veiled) = (transcript(&direct), transcript(&veiled));
            if !refused && direct != veiled && veiled.contains("ErrorResponse ERROR 0A000") {
                (refused, last) = (true, veiled.clone());
            }
            ensure!(
                refused || direct == veiled,
                "{name}\ndirectly:\n{direct}\n\nthrough pgveil:\n{veiled}"
            );
        }
        // On PostgreSQL 18, a Query behind what waits in a portal is refused.
        ensure!(
            !refused || name.contains("a portal"),
            "{name}: refused: {last}"
        );
        let (direct, veiled) = others.exchange(&[Message::query(SEEN)], 1)?;
        let (direct, veiled) = (transcript(&direct), transcript(&veiled));
        ensure!(
            refused || direct == veiled,
            "{name}: others see directly {direct}, and through pgveil {veiled}"
        );
        others.exchange(&[Message::query(CLEAR)], 1)?;
    }
    Ok(())
}
