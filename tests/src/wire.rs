//! A raw client: sends exactly the messages it is told to, in one write, and prints exactly what comes back, a line
//! a message. It has no opinion on order: that is what the tests are about. Cleartext passwords only.

mod message;
mod transcript;

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, bail};

pub use self::{
    message::{Bind, Message, startup},
    transcript::{Reply, describe, error_field},
};
use crate::{postgres::PASSWORD, psql::Target};

/// How long a reply may take.
const READ_LIMIT: Duration = Duration::from_mins(1);
/// Protocol 3.0 in a startup message.
pub const PROTOCOL_3_0: u32 = 0x0003_0000;
/// PostgreSQL 18's, with longer cancel keys.
pub const PROTOCOL_3_2: u32 = 0x0003_0002;

/// One connection.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    /// What the server said between the startup message and the first ReadyForQuery.
    pub greeting: Vec<Reply>,
}

impl Wire {
    /// Opens a TCP connection and sends nothing.
    pub fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(READ_LIMIT))?;
        stream.set_write_timeout(Some(READ_LIMIT))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            greeting: Vec::new(),
        })
    }

    /// Opens a connection and logs in, up to the first ReadyForQuery.
    pub fn connect(target: &Target) -> Result<Self> {
        Self::connect_with(target, &[])
    }

    /// The same with further startup parameters.
    pub fn connect_with(target: &Target, parameters: &[(&str, &str)]) -> Result<Self> {
        Self::connect_in(PROTOCOL_3_0, target, parameters)
    }

    /// The same in another version of the protocol, if the server speaks it.
    pub fn connect_in(version: u32, target: &Target, parameters: &[(&str, &str)]) -> Result<Self> {
        let mut wire = Self::open(target.port)?;
        let mut all = vec![
            ("user", target.role.as_str()),
            ("database", target.database.as_str()),
        ];
        all.extend_from_slice(parameters);
        wire.send_raw(&startup(version, &all))?;
        loop {
            let reply = wire.receive()?;
            let asks_password = reply.tag == b'R' && reply.body == [0, 0, 0, 3];
            let done = reply.tag == b'Z';
            if reply.tag == b'E' {
                bail!("login refused: {}", describe(&reply));
            }
            wire.greeting.push(reply);
            if asks_password {
                wire.send(&[Message::password(PASSWORD)])?;
            }
            if done {
                return Ok(wire);
            }
        }
    }

    /// Sends messages in one write.
    pub fn send(&mut self, messages: &[Message]) -> Result<()> {
        let bytes: Vec<u8> = messages.iter().flat_map(Message::bytes).collect();
        self.send_raw(&bytes)
    }

    /// Sends bytes.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("send")
    }

    /// Receives one message.
    pub fn receive(&mut self) -> Result<Reply> {
        let mut header = [0; 5];
        self.stream
            .read_exact(&mut header)
            .context("receive a header")?;
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        let mut body = vec![
            0;
            length
                .checked_sub(4)
                .context("a frame shorter than its own length")?
        ];
        self.stream
            .read_exact(&mut body)
            .context("receive a body")?;
        Ok(Reply {
            tag: header[0],
            body,
        })
    }

    /// Receives one byte, as the answer to an SSLRequest or GSSENCRequest is; `None` when the peer closed.
    pub fn receive_byte(&mut self) -> Result<Option<u8>> {
        let mut byte = [0];
        Ok((self.stream.read(&mut byte)? == 1).then_some(byte[0]))
    }

    /// Receives everything up to and including `count` ReadyForQuery messages.
    pub fn until_ready(&mut self, count: usize) -> Result<Vec<Reply>> {
        self.until(b'Z', count)
    }

    /// Receives everything up to and including `count` messages with this tag.
    pub fn until(&mut self, tag: u8, count: usize) -> Result<Vec<Reply>> {
        let mut replies = Vec::new();
        let mut seen = 0;
        while seen < count {
            let reply = self
                .receive()
                .with_context(|| format!("after:\n{}", transcript(&replies)))?;
            seen += usize::from(reply.tag == tag);
            replies.push(reply);
        }
        Ok(replies)
    }

    /// All bytes until the peer closes.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // A reset after the last message is as good as a close.
        let _ = self.stream.read_to_end(&mut bytes);
        bytes
    }

    /// Reads until the peer closes or resets the connection; an error if it does neither in time.
    pub fn ends(&mut self) -> Result<()> {
        let mut sink = [0; 8192];
        loop {
            match self.stream.read(&mut sink) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if is_time_out(&error) => return Err(error.into()),
                Err(_) => return Ok(()),
            }
        }
    }

    /// Receives messages until the peer closes.
    pub fn until_closed(&mut self) -> Result<Vec<Reply>> {
        let bytes = self.rest();
        let mut replies = Vec::new();
        let mut rest = bytes.as_slice();
        while rest.len() >= 5 {
            let length = u32::from_be_bytes([rest[1], rest[2], rest[3], rest[4]]) as usize;
            let body = rest
                .get(5..=length)
                .context("the last message was cut off")?;
            replies.push(Reply {
                tag: rest[0],
                body: body.to_vec(),
            });
            rest = &rest[length + 1..];
        }
        Ok(replies)
    }

    /// Sends messages that hold `count` Syncs or Queries and returns the printed answer.
    pub fn exchange(&mut self, messages: &[Message], count: usize) -> Result<String> {
        self.send(messages)?;
        Ok(transcript(&self.until_ready(count)?))
    }

    /// Sends one simple Query and returns the printed answer.
    pub fn query(&mut self, sql: &str) -> Result<String> {
        self.exchange(&[Message::query(sql)], 1)
    }

    /// Nothing more will be sent.
    pub fn close_write(&self) -> Result<()> {
        Ok(self.stream.shutdown(Shutdown::Write)?)
    }

    /// The process id and secret key that the server named.
    pub fn cancel_key(&self) -> Result<&[u8]> {
        let key = self.greeting.iter().find(|reply| reply.tag == b'K');
        Ok(&key.context("no BackendKeyData")?.body)
    }
}

fn is_time_out(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    matches!(error.kind(), TimedOut | WouldBlock)
}

/// Prints messages, a line each.
pub fn transcript(replies: &[Reply]) -> String {
    replies.iter().map(describe).collect::<Vec<_>>().join("\n")
}
