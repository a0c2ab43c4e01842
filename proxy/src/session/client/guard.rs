//! The guard: before a statement that may come to a table under migration, in the statement's own transaction, the table's
//! lock is taken and the server says where its columns stand. Behind it the swap waits for the transaction. Plans nothing.
//! See docs/decisions/0094-the-table-is-served-over-the-swap.md.

use std::sync::Arc;

use pgveil_policy::{
    Refusal,
    analysis::{Course, CourseSession},
    ruleset::Guard,
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{ClientSide, probe::Ground};
use crate::{
    engine::Rules,
    messages::{BindBuilder, Close, Execute, Parse, Target, tag::client as tag, unit},
    session::{SessionError, Shared, ledger::Owed},
};

/// The name of its statement and portal, which are closed at once.
const NAME: &[u8] = b"pgveil guard";
/// CloseCompletes of one look at a table.
const CLOSES: usize = 4;
/// How often the rules are read again because the table was not what they say.
pub(super) const ATTEMPTS: usize = 4;
/// Columns that one look asks for; a table with more is looked at several times.
const COLUMNS: usize = 32;

/// How it went.
pub(super) enum Stood {
    /// The rules say what the tables are, and they stay so until the transaction ends.
    Holds(Ground),
    /// The statement must not be sent.
    Refused(Refusal),
    /// The client has been told an error of the server in the statement's place.
    Failed,
}

enum Looked {
    AsTheRulesSay,
    /// It has changed: the rules are to be read again.
    Otherwise,
    /// It has changed since the transaction began to look at the database.
    TooOld,
    Failed,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> ClientSide<R, W> {
    /// How a text is sent by these rules.
    pub(super) fn course(
        &self,
        rules: &Rules,
        sql: &str,
        own: bool,
        in_block: Option<bool>,
    ) -> Course {
        if rules.set.guards.is_empty() {
            return Course::Free;
        }
        let ledger = self.shared.ledger();
        let kept = |name: &str| {
            let statement = ledger.statements.get(name.as_bytes())?;
            let protected = statement.protected.as_ref()?;
            Some(protected.sql.to_string())
        };
        let session = CourseSession {
            own,
            in_block,
            kept: &kept,
        };
        rules.set.course(sql, &session)
    }

    /// Guards a statement of the extended protocol.
    pub(super) async fn guard_one(
        &mut self,
        mut ground: Ground,
        sql: &str,
    ) -> Result<Stood, SessionError> {
        for _ in 0..ATTEMPTS {
            if ground.view.is_none() {
                return Ok(Stood::Holds(ground));
            }
            let own = ground
                .view
                .as_ref()
                .is_some_and(|view| view.names_own(sql.as_bytes()));
            let guards = match self.course(&ground.rules, sql, own, self.known_block()) {
                Course::Free => return Ok(Stood::Holds(ground)),
                Course::Refused(refusal) => return Ok(Stood::Refused(refusal)),
                Course::Guarded(guards, _) => guards,
                Course::Cut(_) => ground.rules.set.guards.clone(),
            };
            match self.look_at(&guards).await? {
                Looked::AsTheRulesSay => return Ok(Stood::Holds(ground)),
                Looked::Otherwise => {}
                Looked::TooOld => return Ok(Stood::Refused(too_old())),
                Looked::Failed => return Ok(Stood::Failed),
            }
            ground = match self.ground().await? {
                Ok(ground) => ground,
                Err(refusal) => return Ok(Stood::Refused(refusal)),
            };
        }
        Ok(Stood::Refused(unsettled()))
    }

    /// Takes these guards. `None`: the rules are to be read again.
    pub(super) async fn guard_all(
        &mut self,
        guards: &[Arc<Guard>],
        ground: Ground,
    ) -> Result<Option<Stood>, SessionError> {
        Ok(match self.look_at(guards).await? {
            Looked::AsTheRulesSay => Some(Stood::Holds(ground)),
            Looked::Otherwise => None,
            Looked::TooOld => Some(Stood::Refused(too_old())),
            Looked::Failed => Some(Stood::Failed),
        })
    }

    /// In the simple protocol, once an error has been told in the place of the client's string: the server waits for a Sync.
    pub(super) fn end_failed(&mut self) {
        if !std::mem::take(&mut self.unsynced) {
            return;
        }
        self.owe(Some(Owed::Sync));
        self.shared.ledger().skipping = false;
        unit::write(self.upstream.settle(&mut self.reader), tag::SYNC);
    }

    /// Whether a transaction block is open, if nothing is under way. An implicit transaction that a Query has left open is
    /// none, nor is there none: the next string may end it.
    pub(super) fn known_block(&self) -> Option<bool> {
        let mut ledger = self.shared.ledger();
        let settled = ledger.front().is_none() && !ledger.implicit.is_left_open();
        let open = if self.unsynced {
            ledger.implicit.is_block()
        } else {
            ledger.status == b'T'
        };
        settled.then_some(open)
    }

    /// Waits until the server has answered all that it was asked, unless it waits itself for the data of a COPY.
    pub(super) async fn settle_all(&mut self) -> Result<(), SessionError> {
        let is_settled = |shared: &Shared| {
            let mut ledger = shared.ledger();
            ledger.front().is_none() || ledger.copy_in
        };
        if is_settled(&self.shared) {
            return Ok(());
        }
        unit::write(self.upstream.settle(&mut self.reader), tag::FLUSH);
        self.upstream
            .flush(&mut self.reader)
            .await
            .map_err(SessionError::Upstream)?;
        while !is_settled(&self.shared) {
            self.shared.drained.notified().await;
        }
        Ok(())
    }

    async fn look_at(&mut self, guards: &[Arc<Guard>]) -> Result<Looked, SessionError> {
        for guard in guards {
            for columns in guard.columns.chunks(COLUMNS) {
                let Some(rows) = self.ask_guarded(guard, columns).await? else {
                    return Ok(Looked::Failed);
                };
                let looked = judge(guard, columns, &rows);
                if matches!(looked, Looked::Otherwise) {
                    self.shared.engine.catalog_may_have_changed(false);
                }
                if !matches!(looked, Looked::AsTheRulesSay) {
                    return Ok(looked);
                }
            }
        }
        Ok(Looked::AsTheRulesSay)
    }

    async fn ask_guarded(
        &mut self,
        guard: &Guard,
        columns: &[(i16, String)],
    ) -> Result<Option<Vec<Vec<Option<Vec<u8>>>>>, SessionError> {
        self.unsynced = true;
        self.shared.ledger().probed = None;
        self.owe(Some(Owed::ScopeQuery {
            synced: false,
            closes: CLOSES,
        }));
        let queue = self.upstream.settle(&mut self.reader);
        write(queue, &lock_sql(guard), &names_sql(guard, columns));
        self.scopes_answered().await?.rows()
    }
}

/// That the server parses it takes the table's lock until the transaction ends, whoever may read the table.
fn lock_sql(guard: &Guard) -> String {
    format!(
        "SELECT FROM ONLY {}.{}",
        quoted(&guard.schema),
        quoted(&guard.table)
    )
}

/// What the columns are called: as the transaction sees the catalog, and in truth, under the lock.
fn names_sql(guard: &Guard, columns: &[(i16, String)]) -> String {
    let oid = guard.table_oid;
    let numbers: Vec<String> = columns
        .iter()
        .map(|(attnum, _)| format!("({attnum})"))
        .collect();
    format!(
        "SELECT a.attname::pg_catalog.text, o.names[1], o.names[2], o.names[3] \
         FROM (VALUES {}) AS v(n) \
         CROSS JOIN LATERAL (SELECT i.object_names FROM pg_catalog.pg_identify_object_as_address(\
           'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid, {oid}::pg_catalog.oid, v.n::pg_catalog.int4) i) AS o(names) \
         LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) {oid}::pg_catalog.oid \
           AND a.attnum OPERATOR(pg_catalog.=) v.n::pg_catalog.int2 AND NOT a.attisdropped \
         ORDER BY v.n USING OPERATOR(pg_catalog.<)",
        numbers.join(", ")
    )
}

fn judge(guard: &Guard, columns: &[(i16, String)], rows: &[Vec<Option<Vec<u8>>>]) -> Looked {
    let mut seen = true;
    if rows.len() != columns.len() {
        return Looked::Otherwise;
    }
    for ((_, column), row) in columns.iter().zip(rows) {
        let is =
            |at: usize, name: &str| row.get(at).and_then(Option::as_deref) == Some(name.as_bytes());
        if !(is(1, &guard.schema) && is(2, &guard.table) && is(3, column)) {
            return Looked::Otherwise;
        }
        seen &= is(0, column);
    }
    if seen {
        Looked::AsTheRulesSay
    } else {
        Looked::TooOld
    }
}

fn write(queue: &mut bytes::BytesMut, lock: &str, names: &str) {
    let short = "queries of pgveil's own are short";
    let statement = Target::Statement(NAME);
    Close { target: statement }.write(queue).expect(short);
    Parse::write(queue, NAME, lock.as_bytes(), [].into_iter()).expect(short);
    Close { target: statement }.write(queue).expect(short);
    Parse::write(queue, NAME, names.as_bytes(), [].into_iter()).expect(short);
    BindBuilder::begin(queue, NAME, NAME, [].into_iter())
        .end([].into_iter())
        .expect(short);
    Execute {
        portal: NAME,
        max_rows: 0,
    }
    .write(queue)
    .expect(short);
    for target in [Target::Portal(NAME), statement] {
        Close { target }.write(queue).expect(short);
    }
    unit::write(queue, tag::FLUSH);
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The rows that the transaction sees are older than the sealed values, or the plaintext, beside them.
fn too_old() -> Refusal {
    Refusal::new(
        "40001",
        "table-migrated-meanwhile",
        "could not serialize access due to the migration of a table",
    )
    .detail(
        "The transaction sees the database as it was before the table's columns changed places.",
    )
    .hint("The transaction might succeed if retried.")
}

pub(super) fn unsettled() -> Refusal {
    Refusal::new(
        "40001",
        "table-migrated-meanwhile",
        "could not serialize access due to the migration of a table",
    )
    .detail("The table's columns were not what pgveil's rules say, several times in a row.")
    .hint("Try again; if it stays, look at pgveil's log.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        Guard {
            table_oid: 7,
            schema: "public".to_owned(),
            table: "people".to_owned(),
            columns: vec![(2, "email".to_owned())],
            partitions: [].into(),
            names: ["people".to_owned()].into(),
        }
    }

    fn looked(row: [Option<&str>; 4]) -> &'static str {
        let row = row
            .map(|field| field.map(|text| text.as_bytes().to_vec()))
            .to_vec();
        match judge(&guard(), &guard().columns, &[row]) {
            Looked::AsTheRulesSay => "same",
            Looked::Otherwise => "otherwise",
            Looked::TooOld => "too old",
            Looked::Failed => "failed",
        }
    }

    #[test]
    fn the_truth_is_what_the_rules_are_compared_with_first() {
        let people = |seen, truth| [seen, Some("public"), Some("people"), truth];
        let (email, kept) = (Some("email"), Some("pgveil_plain_email"));
        assert_eq!(looked(people(email, email)), "same");
        assert_eq!(looked(people(kept, kept)), "otherwise");
        // An old snapshot that agrees with old rules does not make them right.
        assert_eq!(looked(people(email, kept)), "otherwise");
        assert_eq!(looked(people(kept, email)), "too old");
        assert_eq!(looked(people(None, email)), "too old");
        assert_eq!(looked([None, None, None, None]), "otherwise");
    }
}
