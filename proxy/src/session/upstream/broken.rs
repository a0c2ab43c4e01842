//! When an answer cannot be shown: the client is told, and the server's answers are followed unseen up to ReadyForQuery.

use pgveil_policy::Refusal;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Fate, UpstreamSide};
use crate::{
    messages::tag::server as tag,
    session::{SessionError, ledger::Owed, refuse::put_refusal},
};

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> UpstreamSide<R, W> {
    /// The client gets an error now, and nothing more until ReadyForQuery.
    pub(super) fn break_off(&mut self, refusal: Refusal) -> Result<Fate, SessionError> {
        self.shared.count_refusal(&refusal);
        put_refusal(self.client.settle(&mut self.reader), &refusal);
        self.broken = true;
        self.rules = None;
        Ok(Fate::Skip)
    }

    /// Follows the server's answers while none of them is shown.
    pub(super) fn swallow(&mut self, tag: u8) {
        match tag {
            tag::ERROR_RESPONSE => {
                let mut ledger = self.shared.ledger();
                if !matches!(ledger.front(), Some(Owed::Query(_) | Owed::FunctionCall))
                    && ledger.skip_to_sync()
                {
                    self.shared.probed.notify_one();
                }
            }
            tag::PARSE_COMPLETE | tag::BIND_COMPLETE | tag::CLOSE_COMPLETE => {
                let _ = self.confirmed(tag);
            }
            tag::COMMAND_COMPLETE => {
                let _ = self.complete();
            }
            tag::PORTAL_SUSPENDED | tag::EMPTY_QUERY_RESPONSE => {
                let _ = self.executed(tag);
            }
            tag::ROW_DESCRIPTION | tag::NO_DATA => self.described(None),
            tag::COPY_IN_RESPONSE => {
                // The client was told of an error and will send no data.
                let mut ledger = self.shared.ledger();
                ledger.begin_copy_in(None);
                ledger.fail_copy = true;
                self.shared.fail.notify_one();
                self.shared.drained.notify_waiters();
            }
            _ => {}
        }
        self.rules = None;
    }
}
