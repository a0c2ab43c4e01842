//! Sealed values: properties, and every way of damaging one. Known answers are in `tests/vectors.rs`.

use std::sync::Arc;

use pgveil_config::ScopePath;
use proptest::prelude::*;

use super::*;
use crate::{nonce, term::EQUALITY_BYTES, usage::Usage};

const COLUMN: ColumnId = ColumnId(3);
const TERM: [u8; EQUALITY_BYTES] = [0xEE; EQUALITY_BYTES];

fn key_with(id: u64, byte: u8, leased: u64) -> DataKey {
    DataKey::new(
        DekId(id),
        ScopePath::platform(),
        &[byte; 32],
        Arc::new(Usage::leased(leased)),
        crate::key::Term::endless(),
    )
}

fn key() -> DataKey {
    key_with(7, 0x11, 1)
}

fn terms(equality: bool) -> Terms {
    if equality {
        Terms::one(0, TERM)
    } else {
        Terms::NONE
    }
}

/// Of each form.
fn all_terms() -> [Terms; 5] {
    let other = [0xDD; EQUALITY_BYTES];
    [
        Terms::NONE,
        Terms::one(0, TERM),
        Terms::one(7, TERM),
        Terms::two((0, TERM), (7, other)),
        Terms::two((7, TERM), (9, other)),
    ]
}

fn sealed(equality: bool, plaintext: &[u8]) -> Vec<u8> {
    sealed_with(&terms(equality), plaintext)
}

fn sealed_with(terms: &Terms, plaintext: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    seal(&key(), COLUMN, terms, &nonce::next(), plaintext, &mut out).unwrap();
    out
}

fn open(bytes: &[u8]) -> Result<Vec<u8>, Damaged> {
    let mut out = Vec::new();
    Envelope::parse(bytes)?.open(&key(), &mut out)?;
    Ok(out)
}

#[test]
fn sizes_are_those_of_the_format() {
    assert_eq!(sealed(false, b"").len(), 45);
    assert_eq!(sealed(true, b"").len(), 61);
    for (terms, bytes) in all_terms().into_iter().zip([45, 61, 65, 81, 85]) {
        let value = sealed_with(&terms, b"abc");
        assert_eq!(value.len(), bytes + 3);
        assert_eq!(value.len(), sealed_len(&terms, 3));
        assert_eq!(marked_len(&value), bytes - TAG_BYTES);
    }
}

#[test]
fn every_flipped_bit_of_a_sealed_value_is_refused() {
    for terms in all_terms() {
        let good = sealed_with(&terms, b"ada@example.com");
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                assert!(open(&bad).is_err(), "byte {at} bit {bit}");
            }
        }
    }
}

#[test]
fn every_truncation_and_extension_is_refused() {
    for terms in all_terms() {
        let good = sealed_with(&terms, b"ada@example.com");
        for length in 0..good.len() {
            assert!(open(&good[..length]).is_err(), "cut to {length}");
        }
        assert!(open(&[&good[..], &[0]].concat()).is_err());
    }
}

#[test]
fn what_is_wrong_is_told_apart() {
    let good = sealed(true, b"x");
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    assert_eq!(
        open(b"ada@example.com, a long enough text for a value"),
        Err(Damaged::NotSealed)
    );
    assert_eq!(open(b""), Err(Damaged::NotSealed));
    assert_eq!(open(b"PGV"), Err(Damaged::NotSealed));
    assert_eq!(open(b"PGV\x01"), Err(Damaged::Cut));
    assert_eq!(
        open(&with(3, 2)),
        Err(Damaged::UnknownVersion { version: 2 })
    );
    assert_eq!(
        open(&with(16, 0b1_0001)),
        Err(Damaged::UnknownTerms { bits: 0b1_0001 })
    );
    assert_eq!(
        open(&with(16, 0b0011)),
        Err(Damaged::UnsupportedTerms { bits: 0b0011 })
    );
    assert_eq!(
        open(&with(16, 0b0100)),
        Err(Damaged::UnsupportedTerms { bits: 0b0100 })
    );
    assert_eq!(
        open(&with(15, 8)),
        Err(Damaged::OtherKey {
            named: DekId(8),
            given: DekId(7)
        })
    );
    assert_eq!(
        open(&with(7, 4)),
        Err(Damaged::NotAuthentic {
            column: ColumnId(4),
            dek: DekId(7)
        })
    );
    assert_eq!(open(&good[..44]), Err(Damaged::Cut));
}

#[test]
fn the_term_cannot_be_cut_off() {
    let good = sealed(true, b"x");
    let mut without = good.clone();
    without[16] = 0;
    assert!(open(&without).is_err(), "the term read as nonce");
    without.drain(17..33);
    assert!(open(&without).is_err(), "the term removed");
}

#[test]
fn another_key_of_the_same_id_does_not_open() {
    let good = sealed(false, b"x");
    let mut out = Vec::new();
    let refused = Envelope::parse(&good)
        .unwrap()
        .open(&key_with(7, 0x12, 0), &mut out);
    assert!(matches!(refused, Err(Damaged::NotAuthentic { .. })));
    assert!(out.is_empty());
}

#[test]
fn a_failed_open_leaves_the_buffer_as_it_was() {
    let mut bad = sealed(false, b"secret");
    *bad.last_mut().unwrap() ^= 1;
    let mut out = b"before".to_vec();
    Envelope::parse(&bad)
        .unwrap()
        .open(&key(), &mut out)
        .unwrap_err();
    assert_eq!(out, b"before");
}

#[test]
fn a_key_without_a_lease_seals_nothing_but_opens() {
    let last = key_with(7, 0x11, 1);
    let mut out = Vec::new();
    seal(&last, COLUMN, &Terms::NONE, &nonce::next(), b"x", &mut out).unwrap();
    let length = out.len();
    let refused = seal(&last, COLUMN, &Terms::NONE, &nonce::next(), b"x", &mut out);
    assert_eq!(refused, Err(UsedUp { dek: DekId(7) }));
    assert_eq!(out.len(), length);
    assert_eq!(open(&out), Ok(b"x".to_vec()));
}

#[test]
fn keys_print_nothing_of_themselves() {
    assert_eq!(format!("{:?}", key()), "DataKey { id: 7, .. }");
    assert_eq!(
        format!("{:?}", crate::IndexKey::new(&[1; 32])),
        "IndexKey(..)"
    );
}

proptest! {
    #[test]
    fn what_was_sealed_opens_to_the_same(
        plaintext in prop::collection::vec(any::<u8>(), 0..600),
        at in 0..5_usize,
        column in any::<u32>(),
        before in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let (mut sealed, terms) = (before.clone(), all_terms()[at]);
        seal(&key(), ColumnId(column), &terms, &nonce::next(), &plaintext, &mut sealed).unwrap();
        prop_assert!(sealed.starts_with(&before));
        let envelope = Envelope::parse(&sealed[before.len()..]).unwrap();
        prop_assert_eq!(envelope.column, ColumnId(column));
        prop_assert_eq!(envelope.terms, terms);
        prop_assert_eq!(envelope.plaintext_len(), plaintext.len());
        let mut opened = before.clone();
        envelope.open(&key(), &mut opened).unwrap();
        prop_assert_eq!(&opened[before.len()..], &plaintext[..]);
    }

    #[test]
    fn no_bytes_panic_and_none_open_by_chance(bytes in prop::collection::vec(any::<u8>(), 0..200), header in any::<bool>()) {
        let mut bytes = bytes;
        if header && bytes.len() > 17 {
            bytes[..4].copy_from_slice(&MAGIC);
            bytes[16] &= 0b1_1001;
        }
        prop_assert!(open(&bytes).is_err());
    }

    #[test]
    fn sealing_the_same_twice_shows_nothing_alike(plaintext in prop::collection::vec(any::<u8>(), 16..64)) {
        let (one, two) = (sealed(false, &plaintext), sealed(false, &plaintext));
        prop_assert_ne!(&one[17..29], &two[17..29]);
        prop_assert_ne!(&one[29..], &two[29..]);
    }
}
