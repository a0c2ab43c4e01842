//! The simple protocol: one string, any number of statements, spliced in place and never re-joined.

use std::{fmt::Write, sync::Arc};

use pgveil_policy::{
    Refusal,
    analysis::Protocol,
    plan::{Effect, Output},
    scan::Scan,
    splice::PositionMap,
};
use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use super::{ClientSide, effects_of, ends_transaction, state_unreadable};
use crate::{
    engine::{Prepared, Rules},
    messages::Query,
    session::{
        SessionError,
        ledger::{Owed, QueryOwed},
        refuse::STAND_IN,
        values::{Made, Maker, Parameters},
        view::View,
    },
};

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> ClientSide<R, W> {
    pub(super) async fn query(&mut self) -> Result<(), SessionError> {
        self.shared.engine.know_names().await;
        let Some(frame) = self.reader.current() else {
            return Ok(());
        };
        let engine = Arc::clone(&self.shared.engine);
        let (scan, ends, effects, sql) = match Query::read(frame.body) {
            Ok(query) => {
                let scan = engine.rules().set.scan(query.sql);
                let looked_at = self.is_looked_at(scan);
                let effects = if looked_at {
                    Vec::new()
                } else {
                    effects_of(scan, query.sql)
                };
                let sql = looked_at
                    .then(|| Zeroizing::new(String::from_utf8_lossy(query.sql).into_owned()));
                let exact = sql.as_ref().is_none_or(|sql| sql.as_bytes() == query.sql);
                (
                    scan,
                    ends_transaction(query.sql),
                    effects,
                    sql.map(|sql| (sql, exact)),
                )
            }
            // The server says what is wrong with it; but it need not see what may be plaintext.
            Err(malformed) => {
                let refusal = Refusal::new("08P01", "malformed-message", malformed.to_string());
                return self.refuse_query(refusal);
            }
        };
        self.note_effects(scan, ends);
        {
            let mut ledger = self.shared.ledger();
            ledger.statements.remove(&[][..]);
            ledger.portals.remove(&[][..]);
        }
        self.unsynced = false;
        match sql {
            None => {
                self.owe(Some(Owed::Query(Box::new(QueryOwed {
                    effects,
                    ..QueryOwed::default()
                }))));
                self.reader.pass();
                Ok(())
            }
            Some((_, false)) => self.refuse_query(not_utf8()),
            Some((sql, true)) => self.protected_query(sql, scan).await,
        }
    }

    async fn protected_query(
        &mut self,
        sql: Zeroizing<String>,
        scan: Scan,
    ) -> Result<(), SessionError> {
        let ground = match self.ground().await? {
            Ok(ground) => ground,
            Err(refusal) => return self.refuse_query(refusal),
        };
        if scan.settings || scan.catalog {
            // It was noted before the probe ran, which read the state before it.
            self.note_effects(scan, true);
        }
        let Some(view) = ground.view else {
            return self.refuse_query(state_unreadable());
        };
        let engine = Arc::clone(&self.shared.engine);
        let prepared = match engine.prepare(&ground.rules, &sql, &view, Protocol::Simple, &[]) {
            Ok(prepared) => prepared,
            Err(refusal) => return self.refuse_query_at(&sql, refusal),
        };
        if prepared.plan.is_identity()
            && prepared
                .plan
                .statements
                .iter()
                .all(|s| s.output == Output::Unknown && matches!(s.effect, Effect::None))
        {
            self.owe(Some(Owed::Query(Box::default())));
            self.reader.pass();
            return Ok(());
        }
        let made = Maker {
            engine: &engine,
            rules: &ground.rules.set,
            prepared: &prepared,
            view: &view,
            params: Parameters::default(),
        }
        .make_all()
        .await;
        match made {
            Ok(made) => self.send_query(&sql, &prepared, &ground.rules, view, &made),
            Err(refusal) => self.refuse_query_at(&sql, refusal),
        }
    }

    fn send_query(
        &mut self,
        sql: &str,
        prepared: &Arc<Prepared>,
        rules: &Arc<Rules>,
        view: Arc<View>,
        made: &[Made],
    ) -> Result<(), SessionError> {
        if declares(prepared) {
            self.shared.ledger().names_used = true;
        }
        let spliced = prepared
            .plan
            .splice(sql, &mut |slot, out| put_literal(&made[slot], out));
        let refused = prepared
            .plan
            .statements
            .iter()
            .position(|s| s.refused.is_some());
        let refusal = |at: usize| prepared.plan.statements[at].refused.clone();
        let swap = refused.and_then(|at| Some((at, Box::new(located(sql, refusal(at)?)))));
        let owed = QueryOwed {
            prepared: Some(Arc::clone(prepared)),
            map: Some(spliced.map),
            view: Some(view),
            ruleset: Some(Arc::clone(&rules.set)),
            swap,
            ..QueryOwed::default()
        };
        self.owe(Some(Owed::Query(Box::new(owed))));
        let queue = self.upstream.settle(&mut self.reader);
        let written = Query {
            sql: spliced.text.as_bytes(),
        }
        .write(queue);
        if let Err(too_long) = written {
            let refusal = Refusal::new("54000", "too-long", too_long.to_string());
            Query {
                sql: STAND_IN.as_bytes(),
            }
            .write(queue)
            .expect("the stand-in is short");
            if let Some(Owed::Query(owed)) = self.shared.ledger().owed.back_mut() {
                owed.swap = Some((0, Box::new(refusal)));
            }
        }
        self.reader.skip();
        Ok(())
    }

    fn refuse_query_at(&mut self, sql: &str, refusal: Refusal) -> Result<(), SessionError> {
        self.refuse_query(located(sql, refusal))
    }

    /// The whole string is replaced by a stand-in, whose error becomes this refusal.
    pub(super) fn refuse_query(&mut self, refusal: Refusal) -> Result<(), SessionError> {
        self.shared.count_refusal(&refusal);
        let owed = QueryOwed {
            swap: Some((0, Box::new(refusal))),
            map: Some(PositionMap::default()),
            ..QueryOwed::default()
        };
        self.owe(Some(Owed::Query(Box::new(owed))));
        self.unsynced = false;
        let queue = self.upstream.settle(&mut self.reader);
        Query {
            sql: STAND_IN.as_bytes(),
        }
        .write(queue)
        .expect("the stand-in is short");
        self.reader.skip();
        Ok(())
    }
}

/// Whether something protected is kept by name.
fn declares(prepared: &Prepared) -> bool {
    let mut effects = prepared.plan.statements.iter().map(|s| &s.effect);
    effects.any(|effect| matches!(effect, Effect::Declare { rows, .. } if *rows != Output::Unknown))
}

/// Turns a byte offset into Postgres's character position, once the text is at hand.
pub(super) fn located(sql: &str, mut refusal: Refusal) -> Refusal {
    refusal.position = refusal
        .position
        .map(|byte| crate::session::refuse::character_position(sql, byte));
    refusal
}

pub(super) fn put_literal(made: &Made, out: &mut String) {
    // Writing to a String does not fail.
    let _ = match made {
        Made::Null => write!(out, "NULL::pg_catalog.bytea"),
        Made::Bytes(bytes) => write!(out, "'\\x{}'::pg_catalog.bytea", hex::encode(bytes)),
        Made::Array(elements) => {
            out.push_str("ARRAY[");
            for (index, element) in elements.iter().enumerate() {
                let comma = if index == 0 { "" } else { "," };
                let _ = match element {
                    Some(bytes) => {
                        write!(out, "{comma}'\\x{}'::pg_catalog.bytea", hex::encode(bytes))
                    }
                    None => write!(out, "{comma}NULL"),
                };
            }
            write!(out, "]::pg_catalog.bytea[]")
        }
    };
}

fn not_utf8() -> Refusal {
    Refusal::new(
        "22021",
        "not-utf8",
        "invalid byte sequence for encoding \"UTF8\"",
    )
    .detail(
        "The statement names something protected, and pgveil reads such statements in UTF-8 only.",
    )
    .hint("Set client_encoding to UTF8.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_written_with_their_type() {
        let mut out = String::new();
        put_literal(&Made::Bytes(vec![0xab]), &mut out);
        put_literal(&Made::Null, &mut out);
        put_literal(&Made::Array(vec![Some(vec![1]), None]), &mut out);
        assert_eq!(
            out,
            "'\\xab'::pg_catalog.byteaNULL::pg_catalog.byteaARRAY['\\x01'::pg_catalog.bytea,NULL]::pg_catalog.bytea[]"
        );
    }
}
