//! Equality terms: the tag in a sealed value that lets Postgres compare without reading. Leakage: docs/sealed-value.md.
//!
//! Which form of a plaintext is canonical is the logical type's business (`pgveil-policy`).

use hmac::Mac;
use pgveil_policy::ruleset::TermContext;

use crate::IndexKey;

/// Bytes of an equality term: HMAC-SHA-256 cut to 128 bits.
pub const EQUALITY_BYTES: usize = 16;

const EQUALITY_LABEL: &[u8] = b"pgveil eq v1\0";
const COLUMN_KIND: u8 = 0;
const GROUP_KIND: u8 = 1;

/// The equality term of a plaintext in canonical form: the first 16 bytes of
/// `HMAC-SHA-256(key, "pgveil eq v1\0" ‖ kind ‖ u32be length ‖ column id or group name ‖ canonical)`.
pub fn equality(key: &IndexKey, context: &TermContext, canonical: &[u8]) -> [u8; EQUALITY_BYTES] {
    let mut mac = key.mac.clone();
    mac.update(EQUALITY_LABEL);
    match context {
        TermContext::Column(column) => update_named(&mut mac, COLUMN_KIND, &column.0.to_be_bytes()),
        TermContext::Group(name) => update_named(&mut mac, GROUP_KIND, name.as_bytes()),
    }
    mac.update(canonical);
    let tag = mac.finalize().into_bytes();
    let mut term = [0; EQUALITY_BYTES];
    term.copy_from_slice(&tag[..EQUALITY_BYTES]);
    term
}

fn update_named(mac: &mut impl Mac, kind: u8, name: &[u8]) {
    let length = u32::try_from(name.len()).expect("names are far shorter than 4 GiB");
    mac.update(&[kind]);
    mac.update(&length.to_be_bytes());
    mac.update(name);
}

#[cfg(test)]
mod tests {
    use pgveil_policy::plan::ColumnId;

    use super::*;

    fn term(key: u8, context: &TermContext, canonical: &[u8]) -> [u8; EQUALITY_BYTES] {
        equality(&IndexKey::new(&[key; 32]), context, canonical)
    }

    #[test]
    fn a_term_depends_on_key_context_and_plaintext_and_on_nothing_else() {
        let column = TermContext::Column(ColumnId(1));
        let here = term(1, &column, b"ada");
        assert_eq!(here, term(1, &column, b"ada"));
        assert_ne!(here, term(2, &column, b"ada"));
        assert_ne!(here, term(1, &TermContext::Column(ColumnId(2)), b"ada"));
        assert_ne!(here, term(1, &column, b"adb"));
    }

    #[test]
    fn a_group_is_no_column_and_its_name_is_length_prefixed() {
        let group = |name: &str| TermContext::Group(name.to_owned());
        let column = TermContext::Column(ColumnId(u32::from_be_bytes(*b"mail")));
        assert_ne!(term(1, &column, b""), term(1, &group("mail"), b""));
        assert_ne!(
            term(1, &group("mails"), b"x"),
            term(1, &group("mail"), b"sx")
        );
    }
}
