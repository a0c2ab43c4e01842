//! What `Describe` and `Close` name: a prepared statement or a portal.

/// A statement or a portal by name; the empty name is the unnamed one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target<'a> {
    /// `S`.
    Statement(&'a [u8]),
    /// `P`.
    Portal(&'a [u8]),
}

impl<'a> Target<'a> {
    /// Of a kind byte; `None` if it is neither.
    pub(super) fn new(kind: u8, name: &'a [u8]) -> Option<Self> {
        match kind {
            b'S' => Some(Self::Statement(name)),
            b'P' => Some(Self::Portal(name)),
            _ => None,
        }
    }

    pub(super) fn kind(self) -> u8 {
        match self {
            Self::Statement(_) => b'S',
            Self::Portal(_) => b'P',
        }
    }

    /// The name alone.
    pub fn name(self) -> &'a [u8] {
        match self {
            Self::Statement(name) | Self::Portal(name) => name,
        }
    }
}
