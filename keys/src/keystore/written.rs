//! Whether a row under a MAC is one that pgveil wrote, and wrote last. What a MAC is over is the rows' own business.

use crate::audit::secrets::same;

/// What a row says of its being written.
pub(super) struct Written<'a> {
    pub(super) mac: Option<&'a [u8]>,
    /// The record of the audit log with which it was written.
    pub(super) seq: Option<i64>,
    /// The last record that names it.
    pub(super) last: Option<i64>,
}

impl Written<'_> {
    /// Why the row is refused, if it is; `authentic` is the MAC that it must have, were it written with that record.
    pub(super) fn judge(
        &self,
        authentic: impl FnOnce(i64) -> [u8; 32],
    ) -> Result<(), &'static str> {
        let (Some(mac), Some(seq)) = (self.mac, self.seq) else {
            return Err("it has no MAC: pgveil did not write it");
        };
        if !same(&authentic(seq), mac) {
            return Err(
                "its MAC does not fit: it was changed by somebody else than pgveil, or with another key of the audit log",
            );
        }
        if self.last.is_some_and(|last| last > seq) {
            return Err("it is an older row than the last that pgveil wrote: somebody put it back");
        }
        Ok(())
    }
}
