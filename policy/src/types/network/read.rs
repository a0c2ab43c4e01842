//! Reads the text of `inet` and `cidr`. They differ for IPv4: a `cidr` may leave out octets and the prefix' length, which
//! then is that of the address' class.

use super::Network;

/// The network, or `None` for what is none.
pub(super) fn network(text: &[u8], is_cidr: bool) -> Option<Network> {
    if text.contains(&b':') {
        v6(text)
    } else if is_cidr {
        v4_network(text)
    } else {
        v4_host(text)
    }
}

/// The decimal number that a text starts with (saturating), and what follows. `None` without digits.
fn number(text: &[u8]) -> Option<(u32, &[u8])> {
    let end = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(end);
    let value = digits.iter().fold(0_u32, |value, digit| {
        value
            .saturating_mul(10)
            .saturating_add(u32::from(digit - b'0'))
    });
    (end > 0).then_some((value, rest))
}

/// `/bits` and nothing else.
fn prefix(text: &[u8]) -> Option<u8> {
    let (bits, rest) = number(text)?;
    (rest.is_empty() && bits <= 32).then_some(bits as u8)
}

fn v4_host(text: &[u8]) -> Option<Network> {
    let mut address = Vec::new();
    let mut rest = text;
    let mut bits = None;
    while let Some((octet, behind)) = number(rest) {
        address.push(u8::try_from(octet).ok()?);
        if address.len() > 4 {
            return None;
        }
        match behind {
            [] => {
                rest = behind;
                break;
            }
            [b'/', length @ ..] => {
                bits = Some(prefix(length)?);
                rest = &[];
                break;
            }
            // A point at the end is let pass.
            [b'.', b'/', length @ ..] => {
                bits = Some(prefix(length)?);
                rest = &[];
                break;
            }
            [b'.', next @ ..] => rest = next,
            _ => return None,
        }
    }
    if !rest.is_empty() || address.is_empty() {
        return None;
    }
    let bits = match bits {
        None if address.len() == 4 => 32,
        None => return None,
        Some(bits) => bits,
    };
    if usize::from(bits / 8) > address.len() {
        return None;
    }
    address.resize(4, 0);
    Some(Network { bits, address })
}

fn v4_network(text: &[u8]) -> Option<Network> {
    let hexadecimal = match text {
        [b'0', b'x' | b'X', digits @ ..] => digits
            .first()
            .filter(|digit| digit.is_ascii_hexdigit())
            .map(|_| digits),
        _ => None,
    };
    let (mut address, rest) = match hexadecimal {
        Some(digits) => nibbles(digits)?,
        None => octets(text)?,
    };
    let bits = match rest {
        [] => None,
        [b'/', length @ ..] => Some(prefix(length)?),
        _ => return None,
    };
    let bits = bits.unwrap_or_else(|| by_class(&address));
    let needed = usize::from(bits).div_ceil(8);
    if address.len() > 4 || needed > 4 {
        return None;
    }
    address.resize(4, 0);
    Some(Network { bits, address })
}

/// Bytes of hexadecimal digits; an odd one is a high nibble.
fn nibbles(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let end = text
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let (digits, rest) = text.split_at(end);
    let nibble = |digit: u8| {
        char::from(digit)
            .to_digit(16)
            .map_or(0, |value| value as u8)
    };
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| nibble(pair[0]) << 4 | pair.get(1).map_or(0, |low| nibble(*low)))
        .collect();
    (bytes.len() <= 4).then_some((bytes, rest))
}

fn octets(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut address = Vec::new();
    let mut rest = text;
    loop {
        let (octet, behind) = number(rest)?;
        address.push(u8::try_from(octet).ok()?);
        if address.len() > 4 {
            return None;
        }
        match behind {
            [b'.', next @ ..] => rest = next,
            _ => return Some((address, behind)),
        }
    }
}

/// The prefix of the address' class, but no shorter than the octets that were given.
fn by_class(address: &[u8]) -> u8 {
    let first = address.first().copied().unwrap_or_default();
    let by_class = match first {
        240.. => 32,
        224.. => 8,
        192.. => 24,
        128.. => 16,
        _ => 8,
    };
    let bits = by_class.max(address.len() as u8 * 8);
    if bits == 8 && first == 224 { 4 } else { bits }
}

fn v6(text: &[u8]) -> Option<Network> {
    let mut groups: Vec<u8> = Vec::with_capacity(16);
    let mut gap = None;
    let mut bits = 128;
    let mut rest = text;
    if let [b':', behind @ ..] = rest {
        if behind.first() != Some(&b':') {
            return None;
        }
        rest = behind;
    }
    loop {
        let count = rest
            .iter()
            .take_while(|byte| byte.is_ascii_hexdigit())
            .count();
        if count > 4 {
            return None;
        }
        let (digits, behind) = rest.split_at(count);
        if let [b'.', ..] = behind
            && groups.len() <= 12
        {
            let (address, length) = embedded_v4(rest)?;
            groups.extend_from_slice(&address);
            bits = length.unwrap_or(128);
            break;
        }
        if count > 0 {
            if groups.len() + 2 > 16 {
                return None;
            }
            let group = digits.iter().fold(0_u16, |group, digit| {
                group << 4 | char::from(*digit).to_digit(16).unwrap_or_default() as u16
            });
            groups.extend_from_slice(&group.to_be_bytes());
        }
        rest = match behind {
            [] => break,
            [b':', next @ ..] if count == 0 => {
                if gap.replace(groups.len()).is_some() {
                    return None;
                }
                next
            }
            [b':', next @ ..] if !next.is_empty() => next,
            [b'/', length @ ..] => {
                bits = strict_prefix(length)?;
                break;
            }
            _ => return None,
        };
    }
    if let Some(gap) = gap {
        let missing = 16_usize
            .checked_sub(groups.len())
            .filter(|missing| *missing > 0)?;
        groups.splice(gap..gap, std::iter::repeat_n(0, missing));
    }
    (groups.len() == 16).then_some(Network {
        bits,
        address: groups,
    })
}

/// A number without leading zeros of at most `most`.
fn strict_number(text: &[u8], most: u32) -> Option<(u32, &[u8])> {
    let (value, rest) = number(text)?;
    let has_leading_zero = text[0] == b'0' && text.len() - rest.len() > 1;
    (!has_leading_zero && value <= most).then_some((value, rest))
}

fn strict_prefix(text: &[u8]) -> Option<u8> {
    let (bits, rest) = strict_number(text, 128)?;
    rest.is_empty().then_some(bits as u8)
}

/// An IPv4 address at the end, and the prefix' length. Octets may be missing at its end.
fn embedded_v4(text: &[u8]) -> Option<([u8; 4], Option<u8>)> {
    let mut address = [0; 4];
    let mut rest = text;
    for octet in &mut address {
        // An octet without digits is 0, but not at the end.
        let (value, behind) = match rest {
            [b'.' | b'/', ..] => (0, rest),
            _ => strict_number(rest, 255)?,
        };
        *octet = value as u8;
        match behind {
            [] => return Some((address, None)),
            [b'/', length @ ..] => return Some((address, Some(strict_prefix(length)?))),
            [b'.', next @ ..] => rest = next,
            _ => return None,
        }
    }
    None
}
