//! The packets that open a connection: they have a length and a code, but no tag. Only their bytes are
//! judged here (`ProcessStartupPacket` in backend_startup.c); what to answer is `startup`'s business.

use crate::messages::{Report, backend_key_data::SECRET_BYTES};

/// `MAX_STARTUP_PACKET_LENGTH`, and the length field that it does not count.
const PACKET_BYTES: usize = 10_000 + 4;

const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;

/// What a packet's code says it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet {
    Ssl,
    GssEnc,
    Cancel(CancelRequest),
    Startup(StartupMessage),
}

/// Why a packet is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Shorter than its code or longer than PostgreSQL takes.
    #[error("invalid length of startup packet: {0}")]
    Length(usize),
    /// `CancelRequest` with a key of no known length.
    #[error("invalid length of cancel request packet: {0}")]
    CancelLength(usize),
    /// Protocol 2, or no PostgreSQL client at all.
    #[error("unsupported frontend protocol {}.{}", .0 >> 16, .0 & 0xffff)]
    Version(u32),
    /// The parameters do not end where the packet ends.
    #[error("invalid startup packet layout: expected terminator as last byte")]
    Layout,
}

impl PacketError {
    /// Whether the client understands errors of protocol 2 only.
    pub(super) fn is_before_protocol_3(&self) -> bool {
        matches!(self, Self::Version(version) if version >> 16 < 3)
    }

    /// What the client is told; PostgreSQL only logs bad lengths.
    pub fn report(&self) -> Option<Report> {
        match self {
            Self::Length(_) | Self::CancelLength(_) => None,
            Self::Version(_) => Some(Report::fatal(
                "0A000",
                format!("{self}: server supports 3.0 to 3.2"),
            )),
            Self::Layout => Some(Report::fatal("08P01", self.to_string())),
        }
    }
}

/// Cuts the first packet out of `bytes`; `None` if it has not wholly arrived.
pub(super) fn cut(bytes: &[u8]) -> Result<Option<&[u8]>, PacketError> {
    let Some(length) = bytes.first_chunk() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*length) as usize;
    if !(8..=PACKET_BYTES).contains(&length) {
        return Err(PacketError::Length(length));
    }
    Ok(bytes.get(..length))
}

/// Reads a packet that `cut` gave.
pub(super) fn read(packet: &[u8]) -> Result<Packet, PacketError> {
    let (_, rest) = packet
        .split_first_chunk::<4>()
        .ok_or(PacketError::Length(packet.len()))?;
    let (code, body) = rest
        .split_first_chunk::<4>()
        .ok_or(PacketError::Length(packet.len()))?;
    match u32::from_be_bytes(*code) {
        CANCEL_REQUEST => CancelRequest::read(packet, body).map(Packet::Cancel),
        SSL_REQUEST if body.is_empty() => Ok(Packet::Ssl),
        GSSENC_REQUEST if body.is_empty() => Ok(Packet::GssEnc),
        SSL_REQUEST | GSSENC_REQUEST => Err(PacketError::Length(packet.len())),
        version if version >> 16 == 3 => {
            StartupMessage::read(packet, version, body).map(Packet::Startup)
        }
        version => Err(PacketError::Version(version)),
    }
}

/// A code that was spent already and so is taken for a version, as PostgreSQL does.
pub(super) fn repeated(packet: &Packet) -> PacketError {
    PacketError::Version(if *packet == Packet::Ssl {
        SSL_REQUEST
    } else {
        GSSENC_REQUEST
    })
}

/// A `CancelRequest`, to be forwarded as it is.
#[derive(Clone, PartialEq, Eq)]
pub struct CancelRequest {
    raw: Vec<u8>,
}

impl CancelRequest {
    fn read(packet: &[u8], body: &[u8]) -> Result<Self, PacketError> {
        let is_key = body
            .len()
            .checked_sub(4)
            .is_some_and(|secret| SECRET_BYTES.contains(&secret));
        if is_key {
            Ok(Self {
                raw: packet.to_vec(),
            })
        } else {
            Err(PacketError::CancelLength(packet.len()))
        }
    }

    /// The packet itself.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }
}

impl std::fmt::Debug for CancelRequest {
    /// The key is a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CancelRequest").finish_non_exhaustive()
    }
}

/// What `replication` in the startup message asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replication {
    /// An ordinary session.
    No,
    /// A walsender without a database.
    Physical,
    /// A walsender of a database, which takes SQL too.
    Database,
}

/// A `StartupMessage` of protocol 3: the bytes, to be sent on verbatim, and what they say.
#[derive(Clone, PartialEq, Eq)]
pub struct StartupMessage {
    raw: Vec<u8>,
    version: u32,
    /// In the client's order, repeated names and `_pq_.` options included.
    parameters: Vec<(Vec<u8>, Vec<u8>)>,
}

impl StartupMessage {
    fn read(packet: &[u8], version: u32, body: &[u8]) -> Result<Self, PacketError> {
        let mut parameters = Vec::new();
        let mut rest = body;
        loop {
            match string(&mut rest)? {
                [] => break,
                name => parameters.push((name.to_vec(), string(&mut rest)?.to_vec())),
            }
        }
        if rest.is_empty() {
            Ok(Self {
                raw: packet.to_vec(),
                version,
                parameters,
            })
        } else {
            Err(PacketError::Layout)
        }
    }

    /// The packet itself.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The minor version of protocol 3 that the client asks for.
    pub fn minor_version(&self) -> u16 {
        self.version as u16
    }

    /// Name and value of each parameter, in the client's order.
    pub fn parameters(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.parameters
            .iter()
            .map(|(name, value)| (&name[..], &value[..]))
    }

    /// The value that counts for `name`: the last.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.parameters()
            .filter(|parameter| parameter.0 == name.as_bytes())
            .last()
            .map(|parameter| parameter.1)
    }

    /// Who connects. Empty if the client did not say, which the server refuses.
    pub fn user(&self) -> &[u8] {
        self.get("user").unwrap_or_default()
    }

    /// To which database: the user's own if none is named.
    pub fn database(&self) -> &[u8] {
        self.get("database")
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| self.user())
    }

    /// Whether this is a walsender's connection. A value that means neither is the server's to refuse.
    pub fn replication(&self) -> Replication {
        match self.get("replication") {
            None => Replication::No,
            Some(b"database") => Replication::Database,
            Some(value) if is_false(value) => Replication::No,
            Some(_) => Replication::Physical,
        }
    }
}

impl std::fmt::Debug for StartupMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StartupMessage")
            .field("user", &String::from_utf8_lossy(self.user()))
            .field("database", &String::from_utf8_lossy(self.database()))
            .finish_non_exhaustive()
    }
}

/// Takes a string off the front.
fn string<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], PacketError> {
    let end = memchr::memchr(0, rest).ok_or(PacketError::Layout)?;
    let string = &rest[..end];
    *rest = &rest[end + 1..];
    Ok(string)
}

/// `parse_bool`: a prefix of `false` or `no`, `off`, or 0.
fn is_false(value: &[u8]) -> bool {
    let value = value.to_ascii_lowercase();
    let prefix_of = |word: &[u8], least: usize| value.len() >= least && word.starts_with(&value);
    prefix_of(b"false", 1) || prefix_of(b"no", 1) || prefix_of(b"off", 2) || value == b"0"
}

#[cfg(test)]
pub(crate) mod testing {
    //! Packets as clients send them.

    /// A packet of a code and what follows it.
    pub(crate) fn packet(code: u32, body: &[u8]) -> Vec<u8> {
        [
            &(body.len() as u32 + 8).to_be_bytes()[..],
            &code.to_be_bytes(),
            body,
        ]
        .concat()
    }

    /// A `StartupMessage` of protocol 3.0.
    pub(crate) fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
        let mut body = Vec::new();
        for (name, value) in parameters {
            body.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
        }
        body.push(0);
        packet(3 << 16, &body)
    }

    pub(crate) fn ssl_request() -> Vec<u8> {
        packet(super::SSL_REQUEST, b"")
    }

    pub(crate) fn gssenc_request() -> Vec<u8> {
        packet(super::GSSENC_REQUEST, b"")
    }

    pub(crate) fn cancel_request(key: &[u8]) -> Vec<u8> {
        packet(
            super::CANCEL_REQUEST,
            &[&77_u32.to_be_bytes()[..], key].concat(),
        )
    }
}

#[cfg(test)]
mod tests;
