//! Scope queries: what the server is asked before a statement whose rows' scopes it does not tell. They go out at the
//! statement's own place, when its values are known: before Bind in the same transaction, or before Query. Their rows
//! are swallowed; their errors are the statement's.

use std::sync::Arc;

use pgveil_policy::Refusal;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{ClientSide, bound::put_bind, extended::server_oid, state_unreadable};
use crate::{
    engine::{Prepared, Rules},
    messages::{Bind, Close, Execute, Parse, Target, TooLong, tag::client as tag, unit},
    session::{
        SessionError,
        ledger::{Owed, PROBE_CLOSES, Probed},
        values::{Ahead, AskedScopes, Made, Maker, Parameters, too_many_values},
        view::View,
    },
};

/// The name under which they are prepared and bound; it is closed at once.
const NAME: &[u8] = b"pgveil scopes";

/// What stands behind the scope queries of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// The Bind at hand, whose parameters they have, in its pipeline.
    Bind,
    /// A Query, in the block that is open or in a transaction of its own.
    Query,
    /// A Query in the transaction that they begin, and that it ends.
    QueryInTheSame,
}

/// How the scope queries of a plan ended.
pub(super) enum Answered {
    /// What each found.
    Scopes(Vec<AskedScopes>),
    /// The statement must not be sent.
    Refused(Refusal),
    /// The client has been told an error of the server in the statement's place.
    Failed,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> ClientSide<R, W> {
    /// Asks a plan's scope queries.
    pub(super) async fn ask_scopes(
        &mut self,
        prepared: &Prepared,
        rules: &Arc<Rules>,
        view: &View,
        behind: Behind,
    ) -> Result<Answered, SessionError> {
        // Under a guard the transaction has begun already, and must not end here.
        let synced = behind == Behind::Query && !self.is_open().await?;
        let mut found = Vec::with_capacity(prepared.queries.len());
        for (query, sent) in prepared.plan.scope_queries.iter().zip(&prepared.queries) {
            {
                let ledger = self.shared.ledger();
                if ledger.skipping || (ledger.status == b'E' && ledger.owed.is_empty()) {
                    return Ok(Answered::Refused(state_unreadable()));
                }
            }
            let wrote = {
                let frame = self.reader.current();
                let bind = frame
                    .filter(|_| behind == Behind::Bind)
                    .and_then(|frame| Bind::read(frame.body).ok());
                let values: Vec<_> = bind.iter().flat_map(Bind::params).collect();
                let formats: Vec<i16> = bind.iter().flat_map(|b| b.formats.codes()).collect();
                let client = Parameters {
                    values,
                    formats,
                    declared: &[],
                };
                let of = |n: &usize| client.values.get(*n).copied().flatten();
                let params = Parameters {
                    values: query.params.iter().map(of).collect(),
                    formats: query.params.iter().map(|n| client.format(*n)).collect(),
                    declared: &query.declared,
                };
                let maker = Maker {
                    engine: &self.shared.engine,
                    rules: &rules.set,
                    prepared: sent,
                    view,
                    params,
                    asked: &[],
                    ahead: Ahead::default(),
                };
                match maker.make_all().await {
                    Ok(made) => {
                        let mut queue = bytes::BytesMut::new();
                        let params = &maker.params;
                        write(
                            &mut queue,
                            sent,
                            &query.sql,
                            &query.declared,
                            &made,
                            params,
                            synced,
                        )
                        .map(|()| queue)
                        .map_err(|error| Refusal::new("54000", "too-long", error.to_string()))
                    }
                    Err(refusal) => Err(refusal),
                }
            };
            let wrote = match wrote {
                Ok(wrote) => wrote,
                Err(refusal) => return Ok(Answered::Refused(refusal)),
            };
            self.unsynced |= !synced;
            self.shared.ledger().probed = None;
            self.owe(Some(Owed::ScopeQuery {
                synced,
                closes: PROBE_CLOSES,
            }));
            self.upstream.settle(&mut self.reader).unsplit(wrote);
            let rows = match self.scopes_answered().await? {
                Probed::Rows(rows) => rows,
                Probed::TooLarge => return Ok(Answered::Refused(too_many_values(query.most))),
                Probed::Failed => return Ok(Answered::Failed),
            };
            match AskedScopes::read(query, rows) {
                Ok(scopes) => found.push(scopes),
                Err(refusal) => return Ok(Answered::Refused(refusal)),
            }
        }
        Ok(Answered::Scopes(found))
    }

    /// Waits for the rows of a scope query.
    pub(super) async fn scopes_answered(&mut self) -> Result<Probed, SessionError> {
        self.upstream
            .flush(&mut self.reader)
            .await
            .map_err(SessionError::Upstream)?;
        loop {
            {
                let mut ledger = self.shared.ledger();
                // With a Sync of its own it is over when the server is ready again.
                let pending = ledger
                    .owed
                    .iter()
                    .any(|o| matches!(o, Owed::ScopeQuery { .. }));
                if !pending && let Some(probed) = ledger.probed.take() {
                    return Ok(probed);
                }
            }
            self.shared.probed.notified().await;
        }
    }
}

/// Close, Parse, Bind, Execute, Close, and Sync or Flush: as the probe.
fn write(
    queue: &mut bytes::BytesMut,
    sent: &Prepared,
    sql: &str,
    declared: &[u32],
    made: &[Made],
    params: &Parameters<'_>,
    synced: bool,
) -> Result<(), TooLong> {
    let text = sent.spliced.as_ref().map_or(sql, |s| s.text.as_str());
    let server = &sent.plan.server_params;
    let oids: Vec<u32> = server
        .iter()
        .map(|p| server_oid(sent, *p, declared))
        .collect();
    let oids = if server.is_empty() { declared } else { &oids };
    let statement = Target::Statement(NAME);
    Close { target: statement }.write(queue)?;
    Parse::write(queue, NAME, text.as_bytes(), oids.iter().copied())?;
    put_bind(queue, (NAME, NAME), sent, made, params).end([].into_iter())?;
    Execute {
        portal: NAME,
        max_rows: 0,
    }
    .write(queue)?;
    for target in [Target::Portal(NAME), statement] {
        Close { target }.write(queue)?;
    }
    unit::write(queue, if synced { tag::SYNC } else { tag::FLUSH });
    Ok(())
}
