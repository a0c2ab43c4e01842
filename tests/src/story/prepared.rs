//! A statement by the extended protocol, printed as psql prints one. Parameters and results in text.

use anyhow::Result;

use crate::{
    psql::Target,
    wire::{Message, Reply, Wire, error_field},
};

pub(super) fn run(target: &Target, sql: &str, params: &[Option<String>]) -> Result<String> {
    let mut wire = Wire::connect(target)?;
    let params: Vec<Option<&str>> = params.iter().map(Option::as_deref).collect();
    wire.send(&[
        Message::parse("", sql, &[]),
        Message::bind_text(&params),
        Message::describe_portal(""),
        Message::execute("", 0),
        Message::sync(),
    ])?;
    let replies = wire.until_ready(1)?;
    let lines: Vec<String> = replies.iter().filter_map(line).collect();
    Ok(lines.join("\n"))
}

fn line(reply: &Reply) -> Option<String> {
    match reply.tag {
        b'D' => Some(row(&reply.body)),
        b'C' => {
            let tag = String::from_utf8_lossy(&reply.body)
                .trim_end_matches('\0')
                .to_owned();
            (!tag.starts_with("SELECT")).then_some(tag)
        }
        b'E' => Some(error(reply)),
        _ => None,
    }
}

fn error(reply: &Reply) -> String {
    let field = |code| error_field(reply, code);
    let mut text = format!(
        "{}:  {}: {}",
        field(b'S').unwrap_or_default(),
        field(b'C').unwrap_or_default(),
        field(b'M').unwrap_or_default()
    );
    for (code, name) in [(b'P', "POSITION"), (b'D', "DETAIL"), (b'H', "HINT")] {
        if let Some(value) = field(code) {
            text.push_str(&format!("\n{name}:  {value}"));
        }
    }
    text
}

/// `a|(null)|c`
fn row(body: &[u8]) -> String {
    let mut rest = body.get(2..).unwrap_or_default();
    let mut values = Vec::new();
    while let Some((length, tail)) = rest.split_at_checked(4) {
        let length = length.try_into().map_or(-1, i32::from_be_bytes);
        if length < 0 {
            values.push("(null)".to_owned());
            rest = tail;
        } else {
            let (value, tail) = tail.split_at((length as usize).min(tail.len()));
            values.push(String::from_utf8_lossy(value).into_owned());
            rest = tail;
        }
    }
    values.join("|")
}
