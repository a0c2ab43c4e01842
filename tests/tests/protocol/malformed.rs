//! Bytes that are no protocol: answered as Postgres does, never with a hang, a crash or somebody else's data.

use anyhow::{Result, ensure};
use pgveil_tests::{
    psql::Target,
    wire::{Message, Wire, error_field, startup},
};

use crate::twin;

/// What happens to a session that sends these bytes and nothing more: the SQLSTATEs it hears before the end.
fn codes(target: &Target, bytes: &[u8]) -> Result<Vec<String>> {
    let mut wire = Wire::connect(target)?;
    wire.send_raw(bytes)?;
    wire.close_write()?;
    let replies = wire.until_closed()?;
    Ok(replies
        .iter()
        .filter(|reply| reply.tag == b'E')
        .filter_map(|reply| error_field(reply, b'C'))
        .collect())
}

fn ended_alike(bytes: &[u8]) -> Result<()> {
    let twin = twin()?;
    let (direct, veiled) = (
        codes(&twin.plain.target("app"), bytes)?,
        codes(&twin.proxy.target("app"), bytes)?,
    );
    ensure!(
        direct == veiled,
        "{bytes:?}: directly {direct:?}, through pgveil {veiled:?}"
    );
    Ok(())
}

fn frame(tag: u8, length: u32, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

#[test]
fn wrong_lengths_and_unknown_tags_end_the_session_alike() -> Result<()> {
    let wrong = [
        frame(b'Q', 0, b""),
        frame(b'Q', 3, b""),
        frame(b'Q', 0xffff_ffff, b""),
        frame(b'Q', 0x7fff_ffff, b""),
        frame(b'?', 4, b""),
        frame(0, 4, b""),
        frame(b'S', 5, b"x"),
        frame(b'Q', 100, b"SELECT 1\0"),
    ];
    wrong.iter().try_for_each(|bytes| ended_alike(bytes))
}

#[test]
fn bodies_that_do_not_parse_are_errors_alike() -> Result<()> {
    let sync = Message::sync().bytes();
    let bodies: [(u8, &[u8]); 14] = [
        (b'Q', b"no terminator"),
        (b'Q', b"SELECT 1\0trailing\0"),
        (b'Q', b""),
        (b'P', b"name only"),
        (b'P', b"\0SELECT 1\0"),
        (b'P', b"\0SELECT 1\0\0\x05\0\0"),
        (b'B', b"\0\0\0\x01\0"),
        (b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xff"),
        (b'B', b"\0\0\0\x02\0\0\0\x01\0\0\0\x01\0\0\0\x01x\0\0"),
        (b'D', b"X\0"),
        (b'D', b"S"),
        (b'E', b"\0\0"),
        (b'C', b"Q\0"),
        (
            b'P',
            b"\0SELECT email FROM people WHERE email = $1\0\xff\xff",
        ),
    ];
    for (tag, body) in bodies {
        let mut bytes = Message::parse("", "SELECT $1::text", &[]).bytes();
        bytes.extend(frame(tag, body.len() as u32 + 4, body));
        bytes.extend(&sync);
        ended_alike(&bytes)?;
    }
    Ok(())
}

#[test]
fn text_that_is_no_utf8_is_an_error_alike() -> Result<()> {
    for body in [
        &b"SELECT '\xff'\0"[..],
        b"SELECT email FROM people WHERE email = '\xc3\x28'\0",
        b"SELECT email FROM people WHERE id = 1 -- \xff\0",
    ] {
        ended_alike(&frame(b'Q', body.len() as u32 + 4, body))?;
    }
    Ok(())
}

#[test]
fn a_broken_bind_to_a_protected_statement_is_an_error_alike() -> Result<()> {
    let parse = Message::parse("", "INSERT INTO people VALUES ($1, $2, $3)", &[]).bytes();
    let binds: [&[u8]; 6] = [
        b"\0\0\0\0\0\x03\0\0\0\x02",
        b"\0\0\0\0\0\x03\0\0\0\x01\x31\xff\xff\xff\xfe\0\0\0\0\0\0",
        b"\0\0\0\x01\0\x02\0\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0",
        b"\0\0\0\x02\0\0\0\0\0\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0",
        b"\0\0\0\0\0\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0trailing",
        b"",
    ];
    for body in binds {
        let mut bytes = parse.clone();
        bytes.extend(frame(b'B', body.len() as u32 + 4, body));
        bytes.extend(Message::execute("", 0).bytes());
        bytes.extend(Message::sync().bytes());
        ended_alike(&bytes)?;
    }
    Ok(())
}

#[test]
fn broken_startup_messages_close_the_connection() -> Result<()> {
    let port = twin()?.proxy.port();
    let huge = [&0x7fff_ffff_u32.to_be_bytes()[..], &[0, 3, 0, 0]].concat();
    let unterminated = [&[0, 0, 0, 14, 0, 3, 0, 0][..], b"user\0a"].concat();
    let short_cancel = startup(80_877_102, &[]);
    let broken: [&[u8]; 7] = [
        b"\0\0\0\0",
        b"\0\0\0\x07abc",
        b"GET / HTTP/1.0\r\n\r\n",
        &huge,
        &unterminated,
        &short_cancel,
        b"\x16\x03\x01\0\x05hello",
    ];
    for bytes in broken {
        let mut wire = Wire::open(port)?;
        wire.send_raw(bytes)?;
        wire.close_write()?;
        let replies = wire.until_closed()?;
        ensure!(
            replies.iter().all(|reply| reply.tag == b'E'),
            "{bytes:?}: {replies:?}"
        );
    }
    Wire::connect(&twin()?.proxy.target("app")).map(drop)
}
