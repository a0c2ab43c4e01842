//! What is a packet, and what PostgreSQL says of what is none.

use proptest::prelude::*;

use super::{testing::*, *};

fn message(parameters: &[(&str, &str)]) -> StartupMessage {
    match read(&startup(parameters)).unwrap() {
        Packet::Startup(message) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn keeps_a_startup_message_as_it_came() {
    let parameters = [
        ("user", "a"),
        ("_pq_.x", "1"),
        ("user", "ada"),
        ("database", ""),
        ("options", "-c pgveil.tenant=acme"),
    ];
    let message = message(&parameters);
    assert_eq!(message.raw(), startup(&parameters));
    assert_eq!(
        (message.user(), message.database()),
        (&b"ada"[..], &b"ada"[..])
    );
    assert_eq!(message.get("options"), Some(&b"-c pgveil.tenant=acme"[..]));
    assert_eq!(
        message.parameters().nth(1),
        Some((&b"_pq_.x"[..], &b"1"[..]))
    );
    assert_eq!(message.parameters().count(), 5);
    assert_eq!(message.minor_version(), 0);
}

#[test]
fn holds_the_layout_as_postgres_does() {
    let whole = startup(&[("user", "ada")]);
    for end in 8..whole.len() {
        assert_eq!(read(&whole[..end]), Err(PacketError::Layout), "{end}");
    }
    assert_eq!(
        read(&[&whole[..], b"\0"].concat()),
        Err(PacketError::Layout)
    );
    assert_eq!(read(&packet(3 << 16, b"user\0")), Err(PacketError::Layout));
    assert!(read(&packet(3 << 16, b"\0")).is_ok());
}

#[test]
fn holds_lengths_as_postgres_does() {
    for length in [0_u32, 4, 7, 10_005, u32::MAX] {
        assert_eq!(
            cut(&length.to_be_bytes()),
            Err(PacketError::Length(length as usize))
        );
    }
    assert_eq!(cut(&[0, 0, 0]), Ok(None));
    assert_eq!(cut(&10_004_u32.to_be_bytes()), Ok(None));
    let two = [ssl_request(), startup(&[])].concat();
    assert_eq!(cut(&two), Ok(Some(&ssl_request()[..])));
}

#[test]
fn takes_cancel_keys_of_4_to_256_bytes() {
    for (length, taken) in [
        (0, false),
        (3, false),
        (4, true),
        (32, true),
        (256, true),
        (257, false),
    ] {
        let raw = cancel_request(&vec![1; length]);
        let outcome = read(&raw);
        assert_eq!(
            outcome,
            if taken {
                Ok(Packet::Cancel(CancelRequest { raw }))
            } else {
                Err(PacketError::CancelLength(length + 12))
            }
        );
    }
}

#[test]
fn refuses_other_protocols_in_the_words_of_postgres() {
    let report = read(&packet(2 << 16, b"")).unwrap_err().report().unwrap();
    assert_eq!(
        report.message,
        "unsupported frontend protocol 2.0: server supports 3.0 to 3.2"
    );
    let report = repeated(&Packet::Ssl).report().unwrap();
    assert_eq!(
        report.message,
        "unsupported frontend protocol 1234.5679: server supports 3.0 to 3.2"
    );
    assert!(read(&packet((3 << 16) + 9999, b"\0")).is_ok());
}

#[test]
fn knows_walsenders() {
    for (value, replication) in [
        ("database", Replication::Database),
        ("true", Replication::Physical),
        ("on", Replication::Physical),
        ("1", Replication::Physical),
        ("o", Replication::Physical),
        ("OFF", Replication::No),
        ("f", Replication::No),
        ("n", Replication::No),
        ("0", Replication::No),
    ] {
        assert_eq!(
            message(&[("replication", value)]).replication(),
            replication,
            "{value}"
        );
    }
    assert_eq!(message(&[]).replication(), Replication::No);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), code in prop::sample::select(&[CANCEL_REQUEST, SSL_REQUEST, 3 << 16][..])) {
        if let Ok(Some(whole)) = cut(&bytes) {
            let _ = read(whole);
        }
        let _ = read(&bytes);
        let _ = read(&packet(code, &bytes));
    }
}
