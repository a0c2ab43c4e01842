//! `inet` and `cidr`: family, length of the prefix, address.

mod read;

use std::borrow::Cow;

use super::{DamagedValue, InputError, LogicalType, binary::Reader};

/// The server's `PGSQL_AF_INET` and `PGSQL_AF_INET6`.
const V4: u8 = 2;
const V6: u8 = 3;

/// An address with the length of its network's prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Network {
    bits: u8,
    /// 4 or 16 bytes.
    address: Vec<u8>,
}

impl Network {
    fn width(&self) -> u8 {
        (self.address.len() * 8) as u8
    }

    /// Whether nothing is set behind the prefix.
    fn is_network(&self) -> bool {
        let mut cut = self.clone();
        cut.clear_host();
        cut.address == self.address
    }

    fn clear_host(&mut self) {
        for (index, byte) in self.address.iter_mut().enumerate() {
            let kept = usize::from(self.bits).saturating_sub(index * 8).min(8);
            *byte &= !(0xff_u16 >> kept) as u8;
        }
    }

    /// The send form.
    fn encode(&self, kind: LogicalType) -> Vec<u8> {
        let family = if self.address.len() == 4 { V4 } else { V6 };
        let is_cidr = u8::from(kind == LogicalType::Cidr);
        let mut bytes = vec![family, self.bits, is_cidr, self.address.len() as u8];
        bytes.extend_from_slice(&self.address);
        bytes
    }

    fn decode(kind: LogicalType, reader: &mut Reader<'_>) -> Result<Self, InputError> {
        let name = kind.sql_name();
        let invalid =
            |what: &str| InputError::binary(format!("invalid {what} in external \"{name}\" value"));
        let byte = |reader: &mut Reader<'_>| match reader.array::<1>() {
            Ok([byte]) => Ok(byte),
            Err(_) => Err(InputError::new("08P01", "no data left in message")),
        };
        let family = byte(reader)?;
        let width = match family {
            V4 => 32,
            V6 => 128,
            _ => return Err(invalid("address family")),
        };
        let bits = byte(reader)?;
        if bits > width {
            return Err(invalid("bits"));
        }
        // Whether it is a cidr is not looked at.
        byte(reader)?;
        if byte(reader)? != width / 8 {
            return Err(invalid("length"));
        }
        let mut address = Vec::with_capacity(16);
        for _ in 0..width / 8 {
            address.push(byte(reader)?);
        }
        let network = Self { bits, address };
        if kind == LogicalType::Cidr && !network.is_network() {
            return Err(
                InputError::binary("invalid external \"cidr\" value".to_owned())
                    .detail("Value has bits set to right of mask."),
            );
        }
        Ok(network)
    }

    fn stored(kind: LogicalType, value: &[u8]) -> Result<Self, DamagedValue> {
        let mut reader = Reader::new(value);
        let network = Self::decode(kind, &mut reader)?;
        reader.end()?;
        Ok(network)
    }

    fn write(&self, always_bits: bool, out: &mut Vec<u8>) {
        match <[u8; 4]>::try_from(self.address.as_slice()) {
            Ok(address) => write_v4(address, out),
            Err(_) => write_v6(&self.address, out),
        }
        if always_bits || self.bits != self.width() {
            out.push(b'/');
            super::integer::write(self.bits.into(), out);
        }
    }
}

pub(super) fn input(kind: LogicalType, text: &str) -> Result<Vec<u8>, InputError> {
    let is_cidr = kind == LogicalType::Cidr;
    let read = read::network(text.as_bytes(), is_cidr);
    let network = read.ok_or_else(|| InputError::syntax(&kind.sql_name(), text))?;
    if is_cidr && !network.is_network() {
        return Err(
            InputError::new("22P02", format!("invalid cidr value: \"{text}\""))
                .detail("Value has bits set to right of mask."),
        );
    }
    Ok(network.encode(kind))
}

pub(super) fn recv(kind: LogicalType, bytes: &[u8]) -> Result<Vec<u8>, InputError> {
    let mut reader = Reader::new(bytes);
    let network = Network::decode(kind, &mut reader)?;
    reader.end()?;
    Ok(network.encode(kind))
}

pub(super) fn output(
    kind: LogicalType,
    value: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), DamagedValue> {
    Network::stored(kind, value)?.write(kind == LogicalType::Cidr, out);
    Ok(())
}

/// What a cast to text makes of it: always with the prefix' length.
pub(super) fn write_full(
    kind: LogicalType,
    value: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), DamagedValue> {
    Network::stored(kind, value)?.write(true, out);
    Ok(())
}

/// `inet` as `cidr` loses the host's part; `cidr` as `inet` stays.
pub(super) fn assign(
    value: &[u8],
    from: LogicalType,
    to: LogicalType,
) -> Result<Vec<u8>, DamagedValue> {
    let mut network = Network::stored(from, value)?;
    if to == LogicalType::Cidr {
        network.clear_host();
    }
    Ok(network.encode(to))
}

/// Without the byte that tells `cidr` from `inet`: their values are compared with each other.
pub(super) fn canonical(value: &[u8]) -> Cow<'_, [u8]> {
    match value {
        [family, bits, 1, rest @ ..] => {
            let mut bytes = vec![*family, *bits, 0];
            bytes.extend_from_slice(rest);
            Cow::Owned(bytes)
        }
        _ => Cow::Borrowed(value),
    }
}

fn write_v4(address: [u8; 4], out: &mut Vec<u8>) {
    for (index, byte) in address.into_iter().enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        super::integer::write(byte.into(), out);
    }
}

/// With the longest run of zero groups left out, and an IPv4 address within written as one.
fn write_v6(address: &[u8], out: &mut Vec<u8>) {
    let groups: Vec<u16> = address
        .chunks_exact(2)
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
        .collect();
    let run = longest_run(&groups);
    let mut index = 0;
    while index < groups.len() {
        if run.start == index && run.len() >= 2 {
            out.push(b':');
            index = run.end;
            if index == groups.len() {
                out.push(b':');
            }
            continue;
        }
        if index > 0 {
            out.push(b':');
        }
        let embeds_v4 = run.start == 0
            && match run.len() {
                6 => true,
                7 => groups[7] != 1,
                5 => groups[5] == 0xffff,
                _ => false,
            };
        if index == 6 && embeds_v4 {
            let last = <[u8; 4]>::try_from(&address[12..]).unwrap_or_default();
            return write_v4(last, out);
        }
        out.extend_from_slice(format!("{:x}", groups[index]).as_bytes());
        index += 1;
    }
}

/// The first of the longest runs of zero groups.
fn longest_run(groups: &[u16]) -> std::ops::Range<usize> {
    let mut best = 0..0;
    let mut start = 0;
    for (index, group) in groups.iter().enumerate() {
        if *group != 0 {
            start = index + 1;
        } else if index + 1 - start > best.len() {
            best = start..index + 1;
        }
    }
    best
}
