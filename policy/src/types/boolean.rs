//! `boolean`.

use super::{DamagedValue, InputError, binary, encoding};

/// Unique prefixes of true, false, yes, no, on and off; 1 and 0. Any case.
pub(super) fn input(text: &str) -> Result<Vec<u8>, InputError> {
    let word = encoding::trim(text).to_ascii_lowercase();
    let is_prefix_of = |full: &str| !word.is_empty() && full.starts_with(word.as_str());
    let value = match word.as_str() {
        "on" | "1" => true,
        "of" | "off" | "0" => false,
        _ if is_prefix_of("true") || is_prefix_of("yes") => true,
        _ if is_prefix_of("false") || is_prefix_of("no") => false,
        _ => return Err(InputError::syntax("boolean", text)),
    };
    Ok(vec![u8::from(value)])
}

/// Any byte but 0 is true.
pub(super) fn recv(bytes: &[u8]) -> Result<Vec<u8>, InputError> {
    if bytes.is_empty() {
        return Err(InputError::new("08P01", "no data left in message"));
    }
    let [byte] = binary::exactly(bytes)?;
    Ok(vec![u8::from(byte != 0)])
}

pub(super) fn read(value: &[u8]) -> Result<bool, DamagedValue> {
    match binary::stored(value)? {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(DamagedValue),
    }
}

pub(super) fn output(value: &[u8], out: &mut Vec<u8>) -> Result<(), DamagedValue> {
    out.push(if read(value)? { b't' } else { b'f' });
    Ok(())
}
