//! Frames: PostgreSQL's `tag, length, body` units, cut out of a byte stream by their headers alone.
//! What a body means is not known here; `messages` reads bodies.
//!
//! A frame is what its header says, no more and no less, so client, proxy and server always agree
//! where one ends. Which tags exist and how long each may be is PostgreSQL's own rule
//! (`SocketBackend` in postgres.c for clients, `pqParseInput3` in fe-protocol3.c for servers).

mod reader;
mod writer;

pub use reader::{FrameReader, Next};
pub use writer::FrameWriter;

use crate::messages::Report;

/// Bytes of a read buffer; a frame longer than this is [`Next::Large`] until it has arrived.
pub const READ_BUFFER_BYTES: usize = 32 * 1024;

/// A buffer that grew for big frames is given back above this, once it is empty.
pub const KEEP_BUFFER_BYTES: usize = 256 * 1024;

/// Tag and length of a frame.
pub const HEADER_BYTES: usize = 5;

/// `PQ_SMALL_MESSAGE_LIMIT`.
const CLIENT_SMALL_BYTES: usize = 10_000;
/// `PQ_LARGE_MESSAGE_LIMIT`: MaxAllocSize - 1.
const CLIENT_LARGE_BYTES: usize = 0x3fff_fffe;
/// `PG_MAX_AUTH_TOKEN_LENGTH`.
const LOGIN_BYTES: usize = 65_535;
/// What libpq takes for every message that is not one of its `VALID_LONG_MESSAGE_TYPE`s.
const SERVER_SMALL_BYTES: usize = 30_000;
/// A server's body is a `StringInfo` of less than MaxAllocSize; the length field counts itself on top.
const SERVER_LARGE_BYTES: usize = 0x3fff_ffff + 4;

/// Who sends, and in which phase: decides which tags exist and how long each may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// A client after its login.
    Client,
    /// A client that was asked for a password or a SASL message.
    Login,
    /// The server, in any phase.
    Server,
}

impl Sender {
    /// The greatest value of the length field for `tag` (it counts itself but not the tag); `None` for
    /// tags that this sender has no right to.
    fn limit(self, tag: u8) -> Option<usize> {
        match (self, tag) {
            (Self::Client, b'Q' | b'P' | b'B' | b'F' | b'd') => Some(CLIENT_LARGE_BYTES),
            (Self::Client, b'C' | b'D' | b'E' | b'H' | b'S' | b'X' | b'c' | b'f') => {
                Some(CLIENT_SMALL_BYTES)
            }
            (Self::Login, b'p') => Some(LOGIN_BYTES),
            // libpq's long types, and two whose contents have no short bound: a setting's value,
            // and 65,535 parameter types.
            (Self::Server, b'T' | b'D' | b'd' | b'V' | b'E' | b'N' | b'A' | b'S' | b't') => {
                Some(SERVER_LARGE_BYTES)
            }
            (
                Self::Server,
                b'1' | b'2' | b'3' | b'C' | b'G' | b'H' | b'I' | b'K' | b'R' | b'W' | b'Z' | b'c'
                | b'n' | b's' | b'v',
            ) => Some(SERVER_SMALL_BYTES),
            _ => None,
        }
    }
}

/// The first five bytes of a frame, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The message's type.
    pub tag: u8,
    /// Bytes after the header.
    pub body_len: usize,
}

impl Header {
    /// Reads a header from the start of `bytes`; `None` if it has not wholly arrived. An unknown tag is
    /// refused at its first byte, as PostgreSQL does.
    pub fn parse(sender: Sender, bytes: &[u8]) -> Result<Option<Self>, FrameError> {
        let Some(&tag) = bytes.first() else {
            return Ok(None);
        };
        let limit = sender
            .limit(tag)
            .ok_or(FrameError::UnknownTag { sender, tag })?;
        let Some(length) = bytes.get(1..HEADER_BYTES) else {
            return Ok(None);
        };
        let length =
            u32::from_be_bytes(length.try_into().expect("the slice is four bytes")) as usize;
        if length < 4 || length > limit {
            return Err(FrameError::InvalidLength {
                sender,
                tag,
                length,
            });
        }
        Ok(Some(Self {
            tag,
            body_len: length - 4,
        }))
    }

    /// Bytes of the whole frame.
    pub fn total_len(self) -> usize {
        HEADER_BYTES + self.body_len
    }
}

/// One whole frame, borrowed from a reader's buffer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The message's type.
    pub tag: u8,
    /// What `messages` reads.
    pub body: &'a [u8],
    /// Header and body.
    pub bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The frame that starts `bytes`, which must hold all of it.
    fn cut(header: Header, bytes: &'a [u8]) -> Self {
        let bytes = &bytes[..header.total_len()];
        Self {
            tag: header.tag,
            body: &bytes[HEADER_BYTES..],
            bytes,
        }
    }
}

impl std::fmt::Debug for Frame<'_> {
    /// Bodies may hold plaintext, so only their length is shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frame")
            .field("tag", &char::from(self.tag))
            .field("body_len", &self.body.len())
            .finish()
    }
}

/// Why no further frame can be read from a peer. All of them end the connection: after any of these
/// nobody knows where the next frame would begin.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// A type byte that this peer has no right to.
    #[error("invalid message type {tag} from {sender:?}")]
    UnknownTag {
        /// Who sent it.
        sender: Sender,
        /// The byte.
        tag: u8,
    },
    /// A length below four or above PostgreSQL's limit for the type.
    #[error("invalid message length {length} for type {tag} from {sender:?}")]
    InvalidLength {
        /// Who sent it.
        sender: Sender,
        /// The message's type.
        tag: u8,
        /// The length field.
        length: usize,
    },
    /// The peer closed the connection within a frame.
    #[error("connection closed within a message from {sender:?}")]
    Truncated {
        /// Who closed.
        sender: Sender,
    },
    /// The socket failed.
    #[error("connection lost: {0}")]
    Io(#[from] std::io::Error),
}

impl FrameError {
    /// What the client is told before its connection is closed. `None` where PostgreSQL closes without a
    /// word: it logs a bad length and a lost connection as COMMERROR, which never goes to the client.
    pub fn report(&self) -> Option<Report> {
        match self {
            Self::UnknownTag {
                sender: Sender::Client,
                tag,
            } => Some(Report::fatal(
                "08P01",
                format!("invalid frontend message type {tag}"),
            )),
            Self::UnknownTag {
                sender: Sender::Login,
                tag,
            } => Some(Report::fatal(
                "08P01",
                format!("expected password response, got message type {tag}"),
            )),
            Self::UnknownTag {
                sender: Sender::Server,
                tag,
            } => Some(
                Report::fatal("08P01", format!("invalid backend message type {tag}"))
                    .detail("The server behind pgveil sent a message that pgveil does not know."),
            ),
            Self::InvalidLength {
                sender: Sender::Server,
                tag,
                ..
            } => Some(Report::fatal(
                "08P01",
                format!("invalid length of backend message of type {tag}"),
            )),
            Self::Truncated {
                sender: Sender::Server,
            } => Some(Report::server_gone()),
            Self::InvalidLength { .. } | Self::Truncated { .. } | Self::Io(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_an_unknown_tag_at_its_first_byte() {
        let error =
            Header::parse(Sender::Client, b"X\0").and_then(|_| Header::parse(Sender::Client, b"Y"));
        let report = error.unwrap_err().report().unwrap();
        assert_eq!(report.message, "invalid frontend message type 89");
        assert_eq!(report.sqlstate, "08P01");
    }

    #[test]
    fn holds_each_type_to_the_limit_of_postgres() {
        for (sender, tag, limit) in [
            (Sender::Client, b'Q', 0x3fff_fffe_u32),
            (Sender::Client, b'S', 10_000),
            (Sender::Login, b'p', 65_535),
            (Sender::Server, b'D', 0x4000_0003),
            (Sender::Server, b'Z', 30_000),
        ] {
            let header = |length: u32| [&[tag][..], &length.to_be_bytes()].concat();
            for length in [0, 1, 2, 3, limit + 1, u32::MAX] {
                let error = Header::parse(sender, &header(length)).unwrap_err();
                assert!(
                    matches!(error, FrameError::InvalidLength { .. }),
                    "{tag} {length}"
                );
            }
            for length in [4, limit] {
                let body_len = length as usize - 4;
                assert_eq!(
                    Header::parse(sender, &header(length)).unwrap(),
                    Some(Header { tag, body_len })
                );
            }
        }
    }

    #[test]
    fn passwords_belong_to_the_login_only() {
        assert!(Header::parse(Sender::Client, b"p").is_err());
        assert!(Header::parse(Sender::Server, b"p").is_err());
        assert!(Header::parse(Sender::Login, b"p").unwrap().is_none());
        assert!(Header::parse(Sender::Login, b"Q").is_err());
    }

    #[test]
    fn a_bad_length_from_a_client_is_closed_without_a_word() {
        let error = Header::parse(Sender::Client, b"Q\0\0\0\x03").unwrap_err();
        assert!(error.report().is_none());
    }

    #[test]
    fn debug_shows_no_body() {
        let frame = Frame {
            tag: b'Q',
            body: b"secret\0",
            bytes: b"Q\0\0\0\x0bsecret\0",
        };
        assert_eq!(format!("{frame:?}"), "Frame { tag: 'Q', body_len: 7 }");
    }
}
