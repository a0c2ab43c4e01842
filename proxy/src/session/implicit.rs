//! The implicit transaction: what stands between messages of the extended protocol and the Sync that ends them. From
//! PostgreSQL 18 on, a Query of one statement behind an Execute leaves it open; what pgveil executes on its own account must
//! not make it so, and must not end one that the client left open. Follows the server's answers; sends nothing.
//! See docs/decisions/0170-an-implicit-transaction-is-the-clients.md.

/// Command tags of statements behind which the server ends the transaction at once. Those that commit as they run (VACUUM,
/// CONCURRENTLY) are none of them: behind what they begin last, the server goes on as behind any other.
const APART: [&[u8]; 10] = [
    b"ALTER SYSTEM",
    b"COMMIT PREPARED",
    b"CREATE DATABASE",
    b"CREATE TABLESPACE",
    b"DISCARD ALL",
    b"DROP DATABASE",
    b"DROP TABLESPACE",
    b"RELEASE",
    b"ROLLBACK PREPARED",
    b"SAVEPOINT",
];

/// Command tags of statements behind which it does so in some forms and not in others: CONCURRENTLY that finds nothing to do
/// commits nothing by itself, and is ended behind.
const PERHAPS_APART: [&[u8]; 6] = [
    b"ALTER SUBSCRIPTION",
    b"CREATE INDEX",
    b"CREATE SUBSCRIPTION",
    b"DROP INDEX",
    b"DROP SUBSCRIPTION",
    b"REINDEX",
];

/// What the client has executed since the transaction began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Ran {
    #[default]
    Nothing,
    Something,
    /// Something that may have ended the transaction.
    Unknown,
}

/// What becomes of the transaction behind a Query of one statement, from PostgreSQL 18 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// The server does what it would do without pgveil.
    AsEver,
    /// It would be left open for what pgveil has executed alone.
    ToBeClosed,
    /// It cannot be told which.
    Unknown,
}

/// By the answers that have come.
#[derive(Debug, Default)]
pub struct Implicit {
    ran: Ran,
    /// Something of pgveil's own was executed in it.
    own: bool,
    /// It is none: a transaction block is open.
    block: bool,
    /// A Query has left it open.
    left_open: bool,
}

impl Implicit {
    /// A statement of the client's was completed, by an Execute or within a Query.
    pub fn completed(&mut self, tag: &[u8], by_execute: bool) {
        match tag {
            b"BEGIN" | b"START TRANSACTION" => self.block = true,
            b"COMMIT" | b"ROLLBACK" | b"PREPARE TRANSACTION" => *self = Self::default(),
            _ if !by_execute || APART.contains(&tag) => {}
            // Behind anything else the server would have refused the forms that commit by themselves.
            _ if PERHAPS_APART.contains(&tag) && self.ran != Ran::Something && !self.own => {
                self.ran = Ran::Unknown;
            }
            _ => self.ran = Ran::Something,
        }
    }

    /// A portal of the client's was suspended.
    pub fn suspended(&mut self) {
        self.ran = Ran::Something;
    }

    /// A query of pgveil's own was answered that had no Sync.
    pub fn asked(&mut self) {
        self.own = true;
    }

    /// The server is ready: behind a Query (or FunctionCall), or behind a Sync, which leaves no implicit transaction open.
    pub fn ready(&mut self, status: u8, query: bool) {
        let left_open = status == b'T'
            && query
            && !self.block
            && (self.left_open || self.own || self.ran != Ran::Nothing);
        if !left_open {
            *self = Self {
                block: status != b'I',
                ..Self::default()
            };
        }
        self.left_open = left_open;
    }

    /// Whether a transaction block is open.
    pub fn is_block(&self) -> bool {
        self.block
    }

    /// Whether the transaction is open though no block is and everything was answered.
    pub fn is_left_open(&self) -> bool {
        self.left_open
    }

    /// Whether something of pgveil's own was executed since the last Sync.
    pub fn has_asked(&self) -> bool {
        self.own
    }

    /// Whether no client would miss it: what was executed is pgveil's own, if anything was.
    pub fn is_nobodys(&self) -> bool {
        self.ran == Ran::Nothing && !self.block && !self.left_open
    }

    /// What becomes of it behind a Query of one statement.
    pub fn behind_query(&self) -> Behind {
        match self.ran {
            _ if !self.own || self.block || self.left_open => Behind::AsEver,
            Ran::Nothing => Behind::ToBeClosed,
            Ran::Something => Behind::AsEver,
            Ran::Unknown => Behind::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pgveil_alone_has_executed_is_closed() {
        let mut implicit = Implicit::default();
        assert_eq!(implicit.behind_query(), Behind::AsEver);
        implicit.asked();
        assert!(implicit.is_nobodys());
        assert_eq!(implicit.behind_query(), Behind::ToBeClosed);
        implicit.ready(b'I', true);
        assert_eq!(implicit.behind_query(), Behind::AsEver);
    }

    #[test]
    fn what_the_client_has_executed_stays_open() {
        let mut implicit = Implicit::default();
        implicit.completed(b"INSERT 0 1", true);
        implicit.asked();
        assert_eq!(implicit.behind_query(), Behind::AsEver);
        implicit.ready(b'T', true);
        assert!(implicit.is_left_open() && !implicit.is_nobodys());
        // The next Query leaves it open too, whatever pgveil asks before it.
        implicit.completed(b"SELECT 1", false);
        implicit.asked();
        assert_eq!(implicit.behind_query(), Behind::AsEver);
        implicit.ready(b'T', true);
        assert!(implicit.is_left_open());
        implicit.completed(b"ROLLBACK", false);
        implicit.ready(b'I', true);
        assert!(!implicit.is_left_open() && implicit.is_nobodys());
    }

    #[test]
    fn a_portal_that_waits_counts_as_executed() {
        let mut implicit = Implicit::default();
        implicit.suspended();
        implicit.asked();
        assert_eq!(implicit.behind_query(), Behind::AsEver);
    }

    #[test]
    fn a_block_is_no_implicit_transaction() {
        let mut implicit = Implicit::default();
        implicit.completed(b"BEGIN", true);
        implicit.completed(b"INSERT 0 1", true);
        implicit.asked();
        assert_eq!(implicit.behind_query(), Behind::AsEver);
        implicit.ready(b'T', true);
        assert!(implicit.is_block() && !implicit.is_left_open());
        implicit.ready(b'T', false);
        assert!(implicit.is_block());
        // ROLLBACK TO has the tag of ROLLBACK; COMMIT AND CHAIN that of COMMIT.
        implicit.completed(b"ROLLBACK", false);
        implicit.ready(b'T', true);
        assert!(implicit.is_block());
        implicit.ready(b'E', true);
        assert!(implicit.is_block());
    }

    #[test]
    fn what_commits_by_itself_leaves_nothing() {
        let mut implicit = Implicit::default();
        implicit.completed(b"DISCARD ALL", true);
        assert!(implicit.is_nobodys());
        implicit.completed(b"CREATE SUBSCRIPTION", true);
        implicit.asked();
        assert_eq!(implicit.behind_query(), Behind::Unknown);
        implicit.completed(b"INSERT 0 1", true);
        assert_eq!(implicit.behind_query(), Behind::AsEver);
        implicit.completed(b"COMMIT", true);
        assert!(implicit.is_nobodys() && !implicit.has_asked());
    }
}
