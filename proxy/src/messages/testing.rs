//! What every message's tests ask. Only for tests.

use bytes::BytesMut;

/// The body of the single frame that `write` appends, after checking its header.
pub(crate) fn body_of(tag: u8, write: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::new();
    write(&mut out);
    assert_eq!(out[0], tag);
    assert_eq!(
        u32::from_be_bytes(out[1..5].try_into().unwrap()) as usize,
        out.len() - 1
    );
    out[5..].to_vec()
}

/// `accepts` takes `body`, and neither any beginning of it nor it with a byte more. Then random bytes,
/// which only must not panic.
pub(crate) fn exactly(body: &[u8], accepts: impl Fn(&[u8]) -> bool) {
    assert!(accepts(body), "the body itself is refused");
    for end in 0..body.len() {
        assert!(
            !accepts(&body[..end]),
            "cut to {end} of {} bytes it is taken",
            body.len()
        );
    }
    for extra in [0, 1, b'a', 0xff] {
        assert!(
            !accepts(&[body, &[extra]].concat()),
            "a trailing {extra} is taken"
        );
    }
    never_panics(body, accepts);
}

/// Every byte of `body` in turn replaced by every value, and its ends cut.
pub(crate) fn never_panics(body: &[u8], accepts: impl Fn(&[u8]) -> bool) {
    for at in 0..body.len() {
        for value in 0..=u8::MAX {
            let mut changed = body.to_vec();
            changed[at] = value;
            accepts(&changed);
            accepts(&changed[..at]);
            accepts(&changed[at..]);
        }
    }
}
