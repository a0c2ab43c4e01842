//! A replication connection: what the server sends is relayed, since it ships what the disks hold. What the client
//! sends is looked at: SQL that names something protected does not reach the server, for it may hold plaintext, and a
//! walsender cannot be asked what an analysis has to know.

use std::pin::pin;

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};

use super::{End, SessionError, Streams, pump};
use crate::{
    engine::Engine,
    frame::{FrameReader, FrameWriter, Next},
    messages::{Parse, Query, tag::client as tag},
};

/// What the server is asked in the place of a refused statement, so that the error comes in its place and leaves the
/// state that the server says. A walsender for physical replication refuses it in its own words.
const REFUSAL: &str = "DO $pgveil$ BEGIN RAISE EXCEPTION USING ERRCODE = '0A000', \
    MESSAGE = 'pgveil does not run SQL that names protected tables on a replication connection', \
    HINT = 'Use an ordinary connection; point subscriptions at the server itself. See docs/errors.md#replication-sql.'; \
    END $pgveil$";

/// First words of the replication protocol's commands (repl_scanner.l). What begins so is never run as SQL.
const COMMANDS: [&[u8]; 10] = [
    b"IDENTIFY_SYSTEM",
    b"BASE_BACKUP",
    b"START_REPLICATION",
    b"CREATE_REPLICATION_SLOT",
    b"DROP_REPLICATION_SLOT",
    b"ALTER_REPLICATION_SLOT",
    b"READ_REPLICATION_SLOT",
    b"TIMELINE_HISTORY",
    b"UPLOAD_MANIFEST",
    b"SHOW",
];

/// Runs a replication connection to its end.
///
/// # Errors
/// Why it had to end.
pub async fn run<CR, CW, UR, UW>(
    streams: Streams<CR, CW, UR, UW>,
    engine: &Engine,
    mut drain: watch::Receiver<bool>,
) -> Result<End, SessionError>
where
    CR: AsyncRead + Unpin,
    CW: AsyncWrite + Unpin,
    UR: AsyncRead + Unpin,
    UW: AsyncWrite + Unpin,
{
    let (mut from_upstream, answered) = streams.upstream.into_parts();
    let mut to_client = streams.to_client.into_inner();
    let (mut client, mut to_upstream) = (streams.client, streams.to_upstream);
    let both = async {
        let (mut there, mut back) = (
            pin!(hand_on(&mut client, &mut to_upstream, engine)),
            pin!(pump(&mut from_upstream, &mut to_client, &answered)),
        );
        tokio::select! {
            left = &mut there => match left {
                Ok(()) => back.await.map_err(SessionError::ClientGone).map(|()| End::ClientLeft),
                Err(error) => Err(error),
            },
            ended = &mut back => ended.map_err(SessionError::ClientGone).map(|()| End::ServerClosed),
        }
    };
    tokio::select! {
        ended = both => ended,
        _ = drain.wait_for(|draining| *draining) => Ok(End::Drained),
    }
}

async fn hand_on<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    client: &mut FrameReader<R>,
    upstream: &mut FrameWriter<W>,
    engine: &Engine,
) -> Result<(), SessionError> {
    loop {
        let passes = match client.next().map_err(SessionError::Client)? {
            Next::Frame(frame) => match frame.tag {
                tag::QUERY => {
                    Query::read(frame.body).is_ok_and(|query| may_pass(engine, query.sql))
                }
                // A walsender refuses the extended protocol and function calls; so it need not see what is in them.
                tag::PARSE | tag::BIND | tag::FUNCTION_CALL => {
                    let queue = upstream.settle(client);
                    Parse::write(queue, b"", b"", [].into_iter())
                        .map_err(|_| SessionError::NameTooLong)?;
                    client.skip();
                    continue;
                }
                _ => true,
            },
            Next::Large(header) if header.tag == tag::COPY_DATA => true,
            Next::Large(_) | Next::Wait => {
                upstream
                    .flush(client)
                    .await
                    .map_err(SessionError::Upstream)?;
                if client.fill().await.map_err(SessionError::Client)? == 0 {
                    // The server may be gone already; the session ends either way.
                    let _ = upstream.shutdown().await;
                    return Ok(());
                }
                continue;
            }
        };
        if passes {
            client.pass();
        } else {
            tracing::info!(sqlstate = "0A000", reason = "replication-sql", "refused");
            let queue = upstream.settle(client);
            Query {
                sql: REFUSAL.as_bytes(),
            }
            .write(queue)
            .map_err(|_| SessionError::NameTooLong)?;
            client.skip();
        }
    }
}

/// A command of the replication protocol, or SQL that names nothing protected.
fn may_pass(engine: &Engine, sql: &[u8]) -> bool {
    is_command(sql) || !engine.rules().set.scan(sql).protected
}

fn is_command(sql: &[u8]) -> bool {
    let sql = sql.trim_ascii();
    let word = sql
        .split(|byte| !(byte.is_ascii_alphabetic() || *byte == b'_'))
        .next()
        .unwrap_or_default();
    // More than one statement is an error to the server, which would write it to its log.
    let single = memchr::memchr(b';', sql).is_none_or(|at| at + 1 == sql.len());
    single
        && COMMANDS
            .iter()
            .any(|command| command.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_from_sql() {
        for command in [
            "IDENTIFY_SYSTEM",
            " START_REPLICATION SLOT \"people\" LOGICAL 0/0 (publication_names 'people');",
            "base_backup ( LABEL 'people' )",
            "SHOW people",
        ] {
            assert!(is_command(command.as_bytes()), "{command}");
        }
        for sql in [
            "",
            "SELECT 1",
            "SHOWN",
            "SHOW x; INSERT INTO people VALUES ('secret')",
            "/* SHOW */ SELECT 1",
        ] {
            assert!(!is_command(sql.as_bytes()), "{sql}");
        }
    }
}
