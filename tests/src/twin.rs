//! The same SQL on plaintext Postgres and through pgveil: the answers must be the same, or the second a refusal.
//! Two databases of one server hold the same tables and rows; only one of them is protected.

mod verdict;

use anyhow::{Context, Result, bail};

pub use self::verdict::{Expect, Verdict, compare, judge};
use crate::{
    generate::{Form, Script},
    postgres::{Database, TempPostgres},
    proxy::Proxy,
    psql::Target,
    site::Site,
    wire::{Bind, Message, Reply, Wire, error_field},
};

/// Two databases, and a proxy before the second.
#[derive(Debug)]
pub struct Twin<'a> {
    /// Plaintext, asked directly.
    pub plain: Database<'a>,
    /// The protected one, asked through the proxy.
    pub veiled: Database<'a>,
    /// Its installation.
    pub site: Site<'a>,
    /// The proxy.
    pub proxy: Proxy,
}

/// One statement with its parameters in text form.
#[derive(Clone, Debug)]
pub struct Case<'a> {
    /// The statement; parameters are `$1`...
    pub sql: &'a str,
    /// Text forms of the parameters.
    pub params: Vec<Option<&'a str>>,
    /// The types that Parse declares for them.
    pub oids: Vec<u32>,
}

impl<'a> Case<'a> {
    /// A statement without parameters.
    pub fn new(sql: &'a str) -> Self {
        Self {
            sql,
            params: Vec::new(),
            oids: Vec::new(),
        }
    }

    /// A statement with parameters.
    pub fn with(sql: &'a str, params: &[Option<&'a str>]) -> Self {
        Self {
            sql,
            params: params.to_vec(),
            oids: Vec::new(),
        }
    }
}

/// How a case is sent. The number is the format code of parameters and results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A simple Query.
    Simple,
    /// Parse, Describe, Bind, Describe, Execute, Sync with these formats of parameters and of results.
    Extended(i16, i16),
}

impl<'a> Twin<'a> {
    /// Makes both databases from `schema`, protects one by `policy`, then loads `rows` into both the way an application would.
    pub fn new(server: &'a TempPostgres, schema: &str, policy: &str, rows: &str) -> Result<Self> {
        let veiled = server.database()?;
        veiled.run(schema)?;
        // A copy: types that are not built in have the same OIDs on both sides.
        let plain = veiled.copy()?;
        let (site, proxy) = Proxy::start(&veiled, policy)?;
        let (direct, through) = (plain.psql("app", rows)?, proxy.psql("app", rows)?);
        if direct != through {
            bail!("loading the rows differs\ndirectly:\n{direct}\nthrough pgveil:\n{through}");
        }
        Ok(Self {
            plain,
            veiled,
            site,
            proxy,
        })
    }

    /// A session on each side.
    pub fn sessions(&self, role: &str) -> Result<Sessions> {
        Sessions::open(&self.plain.target(role), &self.proxy.target(role))
    }
}

/// A direct session and one through pgveil, asked the same things.
#[derive(Debug)]
pub struct Sessions {
    direct: Wire,
    veiled: Wire,
}

impl Sessions {
    /// Opens both.
    pub fn open(direct: &Target, veiled: &Target) -> Result<Self> {
        Ok(Self {
            direct: Wire::connect(direct)?,
            veiled: Wire::connect(veiled)?,
        })
    }

    /// Sends the same messages to both; `count` ReadyForQuery messages end the answer.
    pub fn exchange(
        &mut self,
        messages: &[Message],
        count: usize,
    ) -> Result<(Vec<Reply>, Vec<Reply>)> {
        self.direct.send(messages)?;
        let direct = self.direct.until_ready(count).context("directly")?;
        self.veiled.send(messages)?;
        let veiled = self.veiled.until_ready(count).context("through pgveil")?;
        Ok((direct, veiled))
    }

    /// Runs a statement on both in a transaction that is rolled back, in every mode that can carry it; returns what is
    /// wrong, or nothing.
    pub fn compare(&mut self, case: &Case<'_>, expect: Expect) -> Result<Option<String>> {
        for mode in modes(case) {
            let messages = match self.messages(case, mode)? {
                Some(messages) => messages,
                None => continue,
            };
            let (direct, veiled) = self
                .in_transaction(&messages)
                .with_context(|| format!("{} ({mode:?})", case.sql))?;
            if let Some(wrong) = judge(case.sql, expect, &direct, &veiled) {
                return Ok(Some(format!(
                    "{} {:?} ({mode:?})\n{wrong}",
                    case.sql, case.params
                )));
            }
        }
        Ok(None)
    }

    /// Runs a statement on both, in whatever transaction they are; `None` if this mode cannot carry it.
    pub fn step(
        &mut self,
        case: &Case<'_>,
        mode: Mode,
    ) -> Result<Option<(Vec<Reply>, Vec<Reply>)>> {
        match self.messages(case, mode)? {
            Some(messages) => self.exchange(&messages, 1).map(Some),
            None => Ok(None),
        }
    }

    /// Runs a script on both, in a transaction that is rolled back, in every mode that can carry its form.
    pub fn play(&mut self, script: &Script, form: Form) -> Result<Verdict> {
        let modes: &[Mode] = match form {
            Form::Literals => &[Mode::Simple, Mode::Extended(0, 1)],
            Form::Params => &[
                Mode::Extended(0, 0),
                Mode::Extended(0, 1),
                Mode::Extended(1, 1),
            ],
            Form::Wrapped => &[Mode::Simple],
        };
        let mut verdict = Verdict::Same;
        for mode in modes {
            let mut messages = Vec::new();
            for (index, sql) in script.statements.iter().enumerate() {
                let case = if index == 0 {
                    Case {
                        oids: script.oids.clone(),
                        ..Case::with(sql, &script.params)
                    }
                } else {
                    Case::new(sql)
                };
                match self.messages(&case, *mode)? {
                    Some(more) => messages.extend(more),
                    None => return Ok(verdict),
                }
            }
            messages.extend(script.after.iter().map(|sql| Message::query(sql)));
            let steps = script.statements.len() + script.after.len();
            let (direct, veiled) = self.in_transaction_of(&messages, steps)?;
            if form == Form::Wrapped {
                // PREPARE does not roll back.
                self.exchange(&[Message::query("DEALLOCATE ALL")], 1)?;
            }
            match compare(script.ordered, script.several, &direct, &veiled) {
                Verdict::Same => {}
                refused @ Verdict::Refused(_) => verdict = refused,
                Verdict::Wrong(wrong) => return Ok(Verdict::Wrong(format!("({mode:?})\n{wrong}"))),
            }
        }
        Ok(verdict)
    }

    /// One write and one read a side: begin, the messages, rollback.
    fn in_transaction(&mut self, messages: &[Message]) -> Result<(Vec<Reply>, Vec<Reply>)> {
        self.in_transaction_of(messages, 1)
    }

    /// The same for messages that are answered by `steps` ReadyForQuery.
    fn in_transaction_of(
        &mut self,
        messages: &[Message],
        steps: usize,
    ) -> Result<(Vec<Reply>, Vec<Reply>)> {
        let mut all = vec![Message::query("begin")];
        all.extend_from_slice(messages);
        all.push(Message::query("rollback"));
        let (direct, veiled) = self.exchange(&all, steps + 2)?;
        Ok((between(direct), between(veiled)))
    }

    /// `None`: the server cannot name the parameters' types, so there is no binary form to send.
    fn messages(&mut self, case: &Case<'_>, mode: Mode) -> Result<Option<Vec<Message>>> {
        let Mode::Extended(params, results) = mode else {
            return Ok(Some(vec![Message::query(case.sql)]));
        };
        let text: Vec<Option<Vec<u8>>> = case
            .params
            .iter()
            .map(|value| value.map(|text| text.as_bytes().to_vec()))
            .collect();
        let values = if params == 0 {
            text
        } else {
            match self.binary_params(case)? {
                Some(values) => values,
                None => return Ok(None),
            }
        };
        let values: Vec<Option<&[u8]>> = values.iter().map(|value| value.as_deref()).collect();
        let bind = Bind {
            formats: &[params],
            params: &values,
            results: &[results],
            ..Bind::default()
        };
        Ok(Some(vec![
            Message::parse("", case.sql, &case.oids),
            Message::describe_statement(""),
            Message::bind(&bind),
            Message::describe_portal(""),
            Message::execute("", 0),
            Message::sync(),
        ]))
    }

    /// The send forms of the parameters, as Postgres itself makes them for the types that it infers.
    fn binary_params(&mut self, case: &Case<'_>) -> Result<Option<Vec<Option<Vec<u8>>>>> {
        let Some(oids) = self.parameter_types(case)? else {
            return Ok(None);
        };
        let mut values = Vec::new();
        for (oid, text) in oids.iter().zip(&case.params) {
            values.push(match text {
                Some(text) => match send_form(&mut self.direct, *oid, text)? {
                    Some(bytes) => Some(bytes),
                    None => return Ok(None),
                },
                None => None,
            });
        }
        Ok(Some(values))
    }

    fn parameter_types(&mut self, case: &Case<'_>) -> Result<Option<Vec<u32>>> {
        let messages = [
            Message::parse("", case.sql, &case.oids),
            Message::describe_statement(""),
            Message::sync(),
        ];
        self.direct.send(&messages)?;
        let replies = self.direct.until_ready(1)?;
        let Some(found) = replies.iter().find(|reply| reply.tag == b't') else {
            return Ok(None);
        };
        let oids = found.body[2..].chunks_exact(4);
        Ok(Some(
            oids.map(|oid| oid.try_into().map_or(0, u32::from_be_bytes))
                .collect(),
        ))
    }
}

/// What was said between the first ReadyForQuery and the rollback's CommandComplete.
fn between(mut replies: Vec<Reply>) -> Vec<Reply> {
    let first = replies
        .iter()
        .position(|reply| reply.tag == b'Z')
        .map_or(0, |index| index + 1);
    replies.truncate(replies.len().saturating_sub(2));
    replies.split_off(first)
}

/// A value's binary form, asked from the server; `None` when the text is no value of that type.
pub fn send_form(wire: &mut Wire, oid: u32, text: &str) -> Result<Option<Vec<u8>>> {
    let bind = Bind {
        params: &[Some(text.as_bytes())],
        results: &[1],
        ..Bind::default()
    };
    wire.send(&[
        Message::parse("", "SELECT $1", &[oid]),
        Message::bind(&bind),
        Message::execute("", 0),
        Message::sync(),
    ])?;
    let replies = wire.until_ready(1)?;
    let row = replies.iter().find(|reply| reply.tag == b'D');
    Ok(row
        .and_then(|reply| reply.body.get(6..))
        .map(<[u8]>::to_vec))
}

fn modes(case: &Case<'_>) -> Vec<Mode> {
    let extended = [
        Mode::Extended(0, 0),
        Mode::Extended(0, 1),
        Mode::Extended(1, 1),
    ];
    if case.params.is_empty() {
        vec![Mode::Simple, extended[0], extended[1]]
    } else {
        extended.to_vec()
    }
}

/// The SQLSTATE of the first error among `replies`.
pub fn sqlstate(replies: &[Reply]) -> Option<String> {
    replies
        .iter()
        .find(|reply| reply.tag == b'E')
        .and_then(|reply| error_field(reply, b'C'))
}
