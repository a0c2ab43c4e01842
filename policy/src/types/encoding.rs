//! The server's check of text that a client sends: UTF-8 without NUL. Knows no type.

use super::InputError;

/// The text, or `22021` in Postgres's words.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, InputError> {
    let valid = std::str::from_utf8(bytes);
    let nul = memchr::memchr(0, bytes);
    let bad_at = match (&valid, nul) {
        (Ok(text), None) => return Ok(text),
        (Ok(_), Some(nul)) => nul,
        (Err(error), nul) => nul.unwrap_or(usize::MAX).min(error.valid_up_to()),
    };
    Err(invalid_sequence(&bytes[bad_at..]))
}

/// Quotes as many bytes as the first one promises, as `report_invalid_encoding` does.
fn invalid_sequence(bytes: &[u8]) -> InputError {
    let promised = match bytes.first() {
        Some(0xc0..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf7) => 4,
        _ => 1,
    };
    let quoted: Vec<String> = bytes
        .iter()
        .take(promised)
        .map(|byte| format!("0x{byte:02x}"))
        .collect();
    InputError::new(
        "22021",
        format!(
            "invalid byte sequence for encoding \"UTF8\": {}",
            quoted.join(" ")
        ),
    )
}

/// C's `isspace` in the C locale.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// Without white space at both ends.
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_ascii() && is_space(c as u8))
}
