//! What the readers of arrays, rows and documents share: a cursor over bytes that nobody vouches for, and how a walk
//! over the values inside ends early.

use pgveil_keys::DekId;
use pgveil_policy::Refusal;

/// What becomes of one value inside: its new form is appended. `false`: it is shown as NULL.
pub(super) type Each<'e> = dyn FnMut(&[u8], &mut Vec<u8>) -> Result<bool, Stop> + 'e;

/// The end of a walk, or why it came early.
pub(super) type Step = Result<(), Stop>;

/// Why a walk ended early.
#[derive(Debug)]
pub(super) enum Stop {
    /// The value cannot be shown.
    Refused(Box<Refusal>),
    /// This key is needed first.
    NeedsKey(DekId),
}

/// The server sent something that is no such value: an array, a row, a document.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl From<Malformed> for Stop {
    fn from(Malformed(what): Malformed) -> Self {
        let message = "pgveil and the server disagree about which columns are protected";
        let refusal = Refusal::new("PV003", "witnesses-disagree", message)
            .detail(format!(
                "What the server sent is not the {what} that the analysis expects."
            ))
            .hint("The catalog may just have changed: try again. If it stays, report it.");
        refusal.into()
    }
}

/// Reads big-endian numbers and values off the front.
pub(super) struct Cursor<'b> {
    rest: &'b [u8],
    what: &'static str,
}

impl<'b> Cursor<'b> {
    pub(super) fn new(bytes: &'b [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    fn take(&mut self, count: usize) -> Result<&'b [u8], Malformed> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(Malformed(self.what))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        let bytes = self.take(4)?.try_into().map_err(|_| Malformed(self.what))?;
        Ok(u32::from_be_bytes(bytes))
    }

    pub(super) fn i32(&mut self) -> Result<i32, Malformed> {
        self.u32().map(u32::cast_signed)
    }

    /// A length and so many bytes; -1 is NULL.
    pub(super) fn value(&mut self) -> Result<Option<&'b [u8]>, Malformed> {
        match self.i32()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| Malformed(self.what))?;
                self.take(length).map(Some)
            }
        }
    }

    pub(super) fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed(self.what))
        }
    }
}

/// What C's `isspace` says of ASCII.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | 9..=13)
}

#[cfg(test)]
pub(super) mod testing {
    use super::{Each, Step};

    /// What a walk yields that opens values by writing them in capitals, and hides the value `hide`; `None` if it is
    /// refused.
    pub(in super::super) fn opened(
        walk: impl FnOnce(&mut Vec<u8>, &mut Each<'_>) -> Step,
    ) -> Option<String> {
        let mut out = Vec::new();
        let mut each = |value: &[u8], out: &mut Vec<u8>| {
            out.extend_from_slice(&value.to_ascii_uppercase());
            Ok(value != b"hide")
        };
        walk(&mut out, &mut each).ok()?;
        Some(String::from_utf8_lossy(&out).into_owned())
    }

    pub(in super::super) fn refused(step: Step) -> bool {
        step.is_err()
    }
}
