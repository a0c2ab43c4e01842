//! FunctionCall: a function called by its OID, as drivers call those of large objects. Its arguments may hold plaintext
//! for a protected table, or SQL that does.

use pgveil_policy::{Refusal, scan::Scan};
use tokio::io::{AsyncRead, AsyncWrite};

use super::ClientSide;
use crate::{
    engine::Rules,
    session::{SessionError, ledger::Owed},
};

/// `FirstNormalObjectId`: below it are the system's own.
const FIRST_USER_OID: u32 = 16_384;

/// The system's functions of large objects, whose arguments are numbers and an object's bytes: `lo_create`, `lo_open`,
/// `lo_close`, `loread`, `lowrite`, `lo_lseek`, `lo_creat`, `lo_tell`, `lo_unlink`, `lo_truncate` and those of 64 bits.
/// Their OIDs are the same in every release (`pg_proc.dat`).
const LARGE_OBJECTS: [u32; 13] = [
    715, 952, 953, 954, 955, 956, 957, 958, 964, 1004, 3170, 3171, 3172,
];

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> ClientSide<R, W> {
    pub(super) async fn function_call(&mut self) -> Result<(), SessionError> {
        if self.is_skipped().await? {
            return Ok(());
        }
        if let Err(refusal) = self.end_own(false).await? {
            return self.refuse_query(refusal);
        }
        let rules = match self.shared.engine.current_rules().await {
            Ok(rules) => rules,
            Err(refusal) => return self.refuse_query(refusal),
        };
        let Some(frame) = self.reader.current() else {
            return Ok(());
        };
        // What is written into an object is no SQL.
        let words = match oid_of(frame.body) {
            Some(oid) if LARGE_OBJECTS.contains(&oid) => b"".as_slice(),
            _ => frame.body,
        };
        let scan = rules.set.scan(words);
        if scan.protected || is_protected(&rules, frame.body) {
            return self.refuse_query(protected_function());
        }
        // It may be set_config().
        let touched = Scan {
            settings: true,
            ..scan
        };
        self.note_effects(touched, false);
        self.owe(Some(Owed::FunctionCall));
        self.queried();
        self.reader.pass();
        Ok(())
    }
}

/// Whether the function has to do with something protected, or is too new to be known.
fn is_protected(rules: &Rules, body: &[u8]) -> bool {
    let Some(oid) = oid_of(body) else {
        // The server says what is wrong with it.
        return false;
    };
    let functions = &rules.set.catalog.functions;
    match functions.iter().find(|function| function.oid == oid) {
        Some(function) => rules.set.scan(function.name.as_bytes()).protected,
        None => oid >= FIRST_USER_OID,
    }
}

/// The function's OID.
fn oid_of(body: &[u8]) -> Option<u32> {
    body.first_chunk().map(|oid| u32::from_be_bytes(*oid))
}

fn protected_function() -> Refusal {
    Refusal::unsupported(
        "function-call-protected",
        "a function that has to do with protected tables cannot be called by its OID",
    )
    .detail(
        "A FunctionCall message is not analysed, and its arguments or its result may be protected.",
    )
    .hint("Call it in a SELECT.")
}
