//! Known answers of RFC 7677, both sides against each other, and every message spoilt.

use super::{client::Leg, *};

const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";
const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";

fn verifier() -> Verifier {
    let salt = BASE64.decode(SALT).unwrap();
    let (client_key, server_key) = keys_of_password("pencil", &salt, 4096);
    Verifier::of_keys(salt, 4096, &client_key, server_key)
}

#[test]
fn answers_as_in_rfc_7677() {
    let first = ClientFirst::read(
        MECHANISM,
        format!("n,,n=user,r={CLIENT_NONCE}").as_bytes(),
        false,
    )
    .unwrap();
    let verifier = verifier();
    let exchange = first.challenge(SERVER_NONCE, &verifier.salt, verifier.iterations);
    assert_eq!(
        exchange.challenge,
        format!("r={CLIENT_NONCE}{SERVER_NONCE},s={SALT},i=4096")
    );
    let last = format!(
        "c=biws,r={CLIENT_NONCE}{SERVER_NONCE},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    );
    let proven = exchange.prove(last.as_bytes(), &verifier, None).unwrap();
    assert_eq!(
        proven.last,
        "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    );
}

#[test]
fn verifiers_are_read_as_the_server_keeps_them() {
    let made = verifier();
    let text = format!(
        "SCRAM-SHA-256$4096:{SALT}${}:{}",
        BASE64.encode(made.stored_key.as_slice()),
        BASE64.encode(made.server_key.as_slice())
    );
    let read = Verifier::parse(&text).unwrap();
    assert!(read.stored_key == made.stored_key && read.server_key == made.server_key);
    for wrong in [
        "",
        "md5abc",
        "SCRAM-SHA-256$0:a$b:c",
        "SCRAM-SHA-256$1:AAAA$AAAA:AAAA",
        &text[..60],
    ] {
        assert!(Verifier::parse(wrong).is_none(), "{wrong}");
    }
}

/// A whole login with these bindings; the keys that the server learnt.
fn login(leg: Leg, binding: Option<&[u8]>, wrong: bool) -> Result<Key, ScramError> {
    let verifier = verifier();
    let (mut client_key, server_key) = keys_of_password("pencil", &verifier.salt, 4096);
    if wrong {
        client_key[0] ^= 1;
    }
    let asking = Asking::new("abc".into(), leg);
    let first = ClientFirst::read(
        asking.mechanism(),
        asking.first().as_bytes(),
        binding.is_some(),
    )?;
    let exchange = first.challenge("def", &verifier.salt, verifier.iterations);
    let challenge = asking.hear(exchange.challenge.as_bytes())?;
    let (last, awaited) = asking.answer(&challenge, &client_key, &server_key);
    let proven = exchange.prove(last.as_bytes(), &verifier, binding)?;
    assert!(awaited.is(proven.last.as_bytes()) && !awaited.is(b"v=AAAA") && !awaited.is(b"e=no"));
    assert_eq!(*proven.client_key, *client_key);
    Ok(proven.client_key)
}

#[test]
fn the_proof_gives_the_key_for_the_other_leg() {
    assert!(login(Leg::Unbound, None, false).is_ok());
    assert!(login(Leg::NotOffered, None, false).is_ok());
    assert!(login(Leg::Unbound, Some(b"hash"), false).is_ok());
    assert!(login(Leg::Bound(b"hash".to_vec()), Some(b"hash"), false).is_ok());
    let error = |leg, binding, wrong| login(leg, binding, wrong).unwrap_err();
    assert_eq!(error(Leg::Unbound, None, true), ScramError::Wrong);
    assert_eq!(
        error(Leg::NotOffered, Some(&b"hash"[..]), false),
        ScramError::Downgrade
    );
    assert_eq!(
        error(Leg::Bound(b"other".to_vec()), Some(&b"hash"[..]), false),
        ScramError::Binding
    );
    assert!(matches!(
        error(Leg::Bound(b"hash".to_vec()), None, false),
        ScramError::Unsupported(_)
    ));
}

#[test]
fn no_spoilt_message_is_taken_or_panics() {
    let verifier = verifier();
    let (client_key, server_key) = keys_of_password("pencil", &verifier.salt, 4096);
    let asking = Asking::new("abc".into(), Leg::Unbound);
    let first = asking.first();
    let begin = |message: &[u8]| ClientFirst::read(MECHANISM, message, false);
    for end in 0..first.len() - 2 {
        assert!(begin(&first.as_bytes()[..end]).is_err(), "{end}");
    }
    for wrong in [
        &b"n,a=x,n=,r=abc"[..],
        b"n,,m=x,n=,r=abc",
        b"x,,n=,r=abc",
        b"n,,n=,r=",
        b"n,,n=,r=a\x7f",
        b"n,,r=abc",
        b"n,,n=,r=abc,?",
        b"n,,n=,r=abc\0",
        b"\xff",
        b"p=tls-unique,,n=,r=abc",
        b"n",
    ] {
        assert!(begin(wrong).is_err());
    }
    let exchange =
        begin(first.as_bytes())
            .unwrap()
            .challenge("def", &verifier.salt, verifier.iterations);
    let challenge = asking.hear(exchange.challenge.as_bytes()).unwrap();
    let (last, _) = asking.answer(&challenge, &client_key, &server_key);
    assert!(exchange.prove(last.as_bytes(), &verifier, None).is_ok());
    for at in 0..last.len() {
        assert!(
            exchange
                .prove(&last.as_bytes()[..at], &verifier, None)
                .is_err()
        );
        for byte in [0, b',', b'=', b'A', 0xff, last.as_bytes()[at] ^ 1] {
            let mut spoilt = last.clone().into_bytes();
            if std::mem::replace(&mut spoilt[at], byte) != byte {
                assert!(
                    exchange.prove(&spoilt, &verifier, None).is_err(),
                    "{at} {byte}"
                );
            }
        }
    }
    assert!(
        exchange
            .prove(format!("{last},").as_bytes(), &verifier, None)
            .is_err()
    );
    assert!(
        exchange
            .prove(format!("{last},x=y").as_bytes(), &verifier, None)
            .is_err()
    );
    let text = exchange.challenge.clone();
    for at in 0..text.len() {
        let _ = asking.hear(&text.as_bytes()[..at]);
    }
    for wrong in [
        "r=abc,s=AAAA,i=1",
        "r=abcd,s=AAA,i=1",
        "r=abcd,s=AAAA,i=0",
        "r=abcd,s=AAAA,i=x",
        "r=xabc,s=AAAA,i=1",
        "r=abcd,s=AAAA,i=1,x=y",
    ] {
        assert!(asking.hear(wrong.as_bytes()).is_err(), "{wrong}");
    }
}

#[test]
fn a_password_that_is_not_ascii_is_prepared() {
    // U+FF50 is a wide "p"; U+00AD is nothing.
    let (plain, _) = keys_of_password("pencil", b"salt", 2);
    let (wide, _) = keys_of_password("\u{ff50}en\u{ad}cil", b"salt", 2);
    assert_eq!(*plain, *wide);
}
