//! Whether the transaction at hand is to stay open behind pgveil's own queries, and that a Query ends it where it would
//! without them. Plans nothing. See docs/decisions/0170-an-implicit-transaction-is-the-clients.md.

use pgveil_policy::Refusal;
use tokio::io::{AsyncRead, AsyncWrite};

use super::ClientSide;
use crate::{
    messages::{tag::client as tag, unit},
    session::{SessionError, implicit::Behind, ledger::Owed, view::View},
};

/// The release from which on a Query of one statement leaves open what an Execute has begun.
const LEAVES_OPEN: u32 = 18;

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> ClientSide<R, W> {
    /// A Query is sent: it ends what messages without Sync have begun, or leaves it open.
    pub(super) fn queried(&mut self) {
        self.may_be_open |= std::mem::take(&mut self.unsynced);
    }

    /// Before a Query or FunctionCall behind messages without Sync: waits for the server's answers to them. If one of them has
    /// failed, the server skips what is at hand too.
    pub(super) async fn is_skipped(&mut self) -> Result<bool, SessionError> {
        if self.unsynced {
            self.settle_all().await?;
        }
        Ok(self.skips())
    }

    /// After a question of pgveil's own that stands before a Query: whether it has failed, and the client was told so in the
    /// Query's place.
    pub(super) fn has_failed(&mut self) -> bool {
        let failed = self.shared.ledger().skipping;
        if failed {
            self.end_failed();
        }
        failed
    }

    /// Whether a Sync of pgveil's own would end what the client has begun.
    pub(super) async fn is_open(&mut self) -> Result<bool, SessionError> {
        if !self.unsynced && self.may_be_open {
            self.settle_all().await?;
            self.may_be_open = self.shared.ledger().implicit.is_left_open();
        }
        Ok(self.unsynced || self.may_be_open)
    }

    /// Before a Query: ends what pgveil alone has executed since the client's last Sync, or is about to (`asks`), so that the
    /// Query runs as it would have without. To be called when nothing is under way.
    pub(super) async fn end_own(
        &mut self,
        asks: bool,
    ) -> Result<Result<(), Refusal>, SessionError> {
        {
            let ledger = self.shared.ledger();
            let asks = asks || ledger.implicit.has_asked();
            if !(self.unsynced && asks) || ledger.copy_in || !ledger.implicit.is_nobodys() {
                return Ok(Ok(()));
            }
        }
        if self.bound {
            // The portal would go with the transaction, and it may be meant by name.
            if self.view.is_none() {
                let _ = self.ground().await?;
            }
            let view = self.view.as_ref();
            let leaves = view.is_some_and(|(view, _)| view.session.format.release >= LEAVES_OPEN);
            return Ok(if leaves { Err(bound()) } else { Ok(()) });
        }
        self.unsynced = false;
        self.owe(Some(Owed::Probe {
            synced: true,
            closes: 0,
        }));
        unit::write(self.upstream.settle(&mut self.reader), tag::SYNC);
        Ok(Ok(()))
    }

    /// Whether a Query of one statement has to be closed, so that it ends what pgveil alone has begun.
    pub(super) fn is_to_be_closed(&self, view: &View) -> Result<bool, Refusal> {
        let ledger = self.shared.ledger();
        if view.session.format.release < LEAVES_OPEN {
            return Ok(false);
        }
        match ledger.implicit.behind_query() {
            Behind::AsEver => Ok(false),
            Behind::ToBeClosed => Ok(true),
            Behind::Unknown => Err(unknown()),
        }
    }
}

fn bound() -> Refusal {
    Refusal::unsupported(
        "statement-not-supported",
        "a simple query follows a portal that was bound without Sync, and something that pgveil has asked the server",
    )
    .detail("The server would leave the transaction of the query open, which it would not without pgveil.")
    .hint("Send Sync first.")
}

fn unknown() -> Refusal {
    Refusal::unsupported(
        "statement-not-supported",
        "a simple query that names something protected follows a statement that may have ended its transaction",
    )
    .detail("The statement was executed without Sync, and pgveil cannot tell whether its transaction is still open.")
    .hint("Send Sync first.")
}
