//! Bytes that somebody spoilt, from either side of a session: cut, flipped, lengthened, of unknown types. Whatever they
//! are, the session ends, the proxy lives, and others are served. The seed is fixed.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use anyhow::{Context, Result, ensure};
use pgveil_tests::{
    postgres::TempPostgres,
    proxy::Proxy,
    site::Site,
    wire::{Bind, Message, Wire},
};

use crate::{POLICY, ROWS, TABLES, fresh_twin};

/// Sessions spoilt by each test.
const ROUNDS: u64 = 200;

/// A generator of numbers that depends on its seed alone (xorshift64*).
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below.max(1)
    }
}

/// Spoils bytes in one of the ways that break protocols.
fn spoil(bytes: &mut Vec<u8>, dice: &mut Dice) {
    if bytes.is_empty() {
        return;
    }
    let at = dice.roll(bytes.len());
    match dice.roll(8) {
        0 => bytes.truncate(at),
        1 => bytes[at] ^= 1 << dice.roll(8),
        2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'Z', b'E'][dice.roll(7)],
        3 => {
            bytes.remove(at);
        }
        4 => bytes.insert(at, dice.roll(256) as u8),
        // Lengths and counts are big-endian numbers of two or four bytes.
        5 => {
            let value = [0_u32, 3, 5, 0x7fff_ffff, 0xffff_ffff, 0x8000_0000][dice.roll(6)];
            let end = (at + 4).min(bytes.len());
            bytes[at..end].copy_from_slice(&value.to_be_bytes()[..end - at]);
        }
        6 => {
            let piece = bytes[at..(at + 40).min(bytes.len())].to_vec();
            bytes.splice(at..at, piece);
        }
        // A NUL less, a NUL more.
        _ => match bytes[at..].iter().position(|byte| *byte == 0) {
            Some(found) => {
                bytes.remove(at + found);
            }
            None => bytes.insert(at, 0),
        },
    }
}

/// A conversation with something of everything.
fn conversation() -> Vec<Message> {
    let all = "SELECT id, email, age FROM people ORDER BY id";
    let by_email = "SELECT id, email FROM people WHERE email = $1";
    vec![
        Message::parse("a", by_email, &[25]),
        Message::describe_statement("a"),
        Message::bind(&Bind {
            statement: "a",
            params: &[Some(b"ada@example.com")],
            results: &[0, 1],
            ..Bind::default()
        }),
        Message::describe_portal(""),
        Message::execute("", 1),
        Message::execute("", 0),
        Message::sync(),
        Message::query("BEGIN; INSERT INTO people VALUES (77, 'x@example.com', 1); ROLLBACK"),
        Message::query(all),
        Message::parse("", "UPDATE people SET age = $1 WHERE id = $2", &[]),
        Message::bind_text(&[Some("12"), Some("4")]),
        Message::execute("", 0),
        Message::flush(),
        Message::close_statement("a"),
        Message::sync(),
        Message::function_call(1397, &["-5"]),
        Message::query("SELECT upper(email) FROM people"),
        Message::query("SELECT v FROM open"),
    ]
}

fn terminate() -> &'static [u8] {
    b"X\0\0\0\x04"
}

/// Sends bytes and reads to the end of the connection, which must come.
fn to_the_end(mut wire: Wire, bytes: &[u8]) -> Result<()> {
    // A proxy that has closed already may reset the connection.
    let _ = wire.send_raw(bytes);
    let _ = wire.close_write();
    wire.ends().context("the session hangs")
}

/// The proxy is alive, and nothing in it panicked.
fn is_well(proxy: &Proxy) -> Result<()> {
    let said = proxy.psql("app", "SELECT email FROM people WHERE id = 1")?;
    ensure!(said == "ada@example.com", "{said}");
    ensure!(!proxy.log().contains("panicked"), "{}", proxy.log());
    Ok(())
}

#[test]
fn what_a_client_spoils_ends_its_own_session_only() -> Result<()> {
    let twin = fresh_twin()?;
    let whole: Vec<u8> = conversation().iter().flat_map(Message::bytes).collect();
    for seed in 0..ROUNDS {
        let mut dice = Dice::new(seed);
        let mut bytes = whole.clone();
        for _ in 0..=dice.roll(3) {
            spoil(&mut bytes, &mut dice);
        }
        bytes.extend_from_slice(terminate());
        to_the_end(Wire::connect(&twin.proxy.target("app"))?, &bytes)
            .with_context(|| format!("seed {seed}"))?;
    }
    is_well(&twin.proxy)
}

#[test]
fn openings_that_a_client_spoils_are_closed() -> Result<()> {
    let twin = crate::twin()?;
    let target = twin.proxy.target("app");
    let mut whole = pgveil_tests::wire::startup(80_877_103, &[]);
    whole.extend(pgveil_tests::wire::startup(
        0x0003_0002,
        &[
            ("user", "app"),
            ("database", &target.database),
            ("_pq_.x", "1"),
        ],
    ));
    whole.extend(Message::query("SELECT 1").bytes());
    whole.extend_from_slice(terminate());
    for seed in 0..ROUNDS {
        let mut dice = Dice::new(seed);
        let mut bytes = whole.clone();
        spoil(&mut bytes, &mut dice);
        to_the_end(Wire::open(twin.proxy.port())?, &bytes)
            .with_context(|| format!("seed {seed}"))?;
    }
    is_well(&twin.proxy)
}

/// Stands between the proxy and the server and spoils what the server says.
struct Middleman {
    port: u16,
    /// Where in the server's bytes, and how; `None` to let them pass.
    plan: Arc<Mutex<Option<(usize, u64)>>>,
}

impl Middleman {
    fn start(server: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let plan = Arc::new(Mutex::new(None));
        let middleman = Self {
            port: listener.local_addr()?.port(),
            plan: Arc::clone(&plan),
        };
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(("127.0.0.1", server)) else {
                    return;
                };
                let plan = *plan.lock().expect("no holder panics");
                // Ends of connections are all that matters of these.
                let _ = between(near, far, plan);
            }
        });
        Ok(middleman)
    }

    fn plan(&self, plan: Option<(usize, u64)>) {
        *self.plan.lock().expect("no holder panics") = plan;
    }
}

fn between(near: TcpStream, far: TcpStream, plan: Option<(usize, u64)>) -> std::io::Result<()> {
    let (mut from_proxy, mut to_server) = (near.try_clone()?, far.try_clone()?);
    thread::spawn(move || {
        let _ = std::io::copy(&mut from_proxy, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    thread::spawn(move || back(near, far, plan));
    Ok(())
}

/// From the server to the proxy; when the bytes at the place have been spoilt and sent, the connection ends.
fn back(mut near: TcpStream, mut far: TcpStream, plan: Option<(usize, u64)>) {
    let mut seen = 0;
    let mut buffer = vec![0; 4096];
    while let Ok(count) = far.read(&mut buffer) {
        if count == 0 {
            break;
        }
        let mut bytes = buffer[..count].to_vec();
        let spoilt = plan.filter(|(place, _)| *place < seen + count);
        if let Some((_, seed)) = spoilt {
            let mut dice = Dice::new(seed);
            for _ in 0..=dice.roll(2) {
                spoil(&mut bytes, &mut dice);
            }
        }
        seen += count;
        if near.write_all(&bytes).is_err() || spoilt.is_some() {
            break;
        }
    }
    let _ = near.shutdown(Shutdown::Both);
    let _ = far.shutdown(Shutdown::Both);
}

#[test]
fn what_a_server_spoils_ends_that_session_only() -> Result<()> {
    let database = TempPostgres::fresh_database()?;
    database.run(TABLES)?;
    let middleman = Middleman::start(database.server().port())?;
    let mut site = Site::new(&database, POLICY)?;
    let address = format!("\"127.0.0.1:{}\"", middleman.port);
    site.set("upstream", "address", &address)?;
    site.apply()?;
    let proxy = site.serve()?;
    let said = proxy.psql("app", ROWS)?;
    ensure!(said.contains("INSERT 0 5"), "{said}");
    let whole: Vec<u8> = conversation()
        .iter()
        .flat_map(Message::bytes)
        .chain(terminate().iter().copied())
        .collect();
    let target = proxy.target("app");
    for seed in 0..ROUNDS {
        middleman.plan(Some((Dice::new(seed).roll(3000), seed)));
        let mut wire = Wire::open(proxy.port())?;
        let names = [("user", "app"), ("database", target.database.as_str())];
        wire.send_raw(&pgveil_tests::wire::startup(0x0003_0000, &names))?;
        to_the_end(wire, &whole).with_context(|| format!("seed {seed}"))?;
    }
    middleman.plan(None);
    is_well(&proxy)
}
