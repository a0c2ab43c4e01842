//! Random rows and options, from a fixed seed: what went in through pgveil comes out as it does from a plaintext twin, and
//! what one of them wrote the other one reads.

use anyhow::Result;
use pgveil_tests::wire::Message;

use crate::{alone, difference, fail_if_any, twin};

/// xorshift64*: the same everywhere.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() as usize) % bound
    }

    fn one<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    fn text(&mut self) -> String {
        let parts = [
            "a", "b", "x", "5", "0", ",", ";", "|", "\"", "'", "\\", "\\.", "\\N", "\t", "é", "☃",
            " ", "nil", "", "$", "\n", "\r", "\\x41", "\u{1}",
        ];
        (0..self.below(6)).map(|_| self.one(&parts)).collect()
    }
}

struct Style {
    options: String,
    csv: bool,
    delimiter: char,
    quote: char,
    escape: char,
    null: &'static str,
}

fn style(draw: &mut Draw) -> Style {
    let null = draw.one(&["", "\\N", "nil", "NULL"]);
    if draw.below(2) == 0 {
        let delimiter = draw
            .one(&["\t", ",", "|", ";", "$"])
            .chars()
            .next()
            .unwrap_or(',');
        let options = format!(
            "DELIMITER E'{}', NULL '{null}'",
            if delimiter == '\t' {
                "\\t".to_owned()
            } else {
                delimiter.to_string()
            }
        );
        return Style {
            options,
            csv: false,
            delimiter,
            quote: '"',
            escape: '\\',
            null,
        };
    }
    let delimiter = draw
        .one(&[",", ";", "|", "x", "5"])
        .chars()
        .next()
        .unwrap_or(',');
    let quote = draw
        .one(&["\"", "$", "a", "0"])
        .chars()
        .next()
        .unwrap_or('"');
    let escape = draw
        .one(&["\"", "\\", "!", "0"])
        .chars()
        .next()
        .unwrap_or('"');
    let options = format!(
        "FORMAT csv, DELIMITER '{delimiter}', QUOTE '{quote}', ESCAPE '{escape}', NULL '{null}'"
    );
    Style {
        options,
        csv: true,
        delimiter,
        quote,
        escape,
        null,
    }
}

impl Style {
    /// A field somewhat like what the server writes; not every one is right, and both sides must say the same of those too.
    fn field(&self, value: Option<&str>, draw: &mut Draw) -> String {
        let Some(value) = value else {
            return self.null.to_owned();
        };
        if self.csv {
            let is_special =
                |c: char| c == self.delimiter || c == self.quote || c == '\n' || c == '\r';
            if !value.chars().any(is_special) && value != self.null && draw.below(2) == 0 {
                return value.to_owned();
            }
            let mut out = self.quote.to_string();
            for c in value.chars() {
                if c == self.quote || c == self.escape {
                    out.push(self.escape);
                }
                out.push(c);
            }
            out.push(self.quote);
            return out;
        }
        let mut out = String::new();
        for c in value.chars() {
            match c {
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                c if c == '\\' || c == self.delimiter => {
                    out.push('\\');
                    out.push(c);
                }
                c => out.push(c),
            }
        }
        out
    }
}

#[test]
fn what_goes_in_comes_out() -> Result<()> {
    let _alone = alone();
    let mut sessions = twin()?.sessions("app")?;
    let mut draw = Draw(0x5eed_0022);
    let mut wrong = Vec::new();
    for round in 0..150 {
        let into = style(&mut draw);
        let end = draw.one(&["\n", "\r\n", "\r"]);
        let mut data = String::new();
        for row in 0..draw.below(6) {
            let (email, ssn, plain) = (draw.text(), draw.text(), draw.text());
            let null = draw.below(5);
            let email = format!("{round}.{row}{email}");
            let delimiter = into.delimiter;
            data.push_str(&format!("{}{delimiter}", 100 + row));
            data.push_str(&into.field((null != 0).then_some(email.as_str()), &mut draw));
            data.push(delimiter);
            data.push_str(&into.field((null != 1).then_some(ssn.as_str()), &mut draw));
            data.push(delimiter);
            data.push_str(&into.field((null != 2).then_some(plain.as_str()), &mut draw));
            if draw.below(40) == 0 {
                data.push(delimiter);
            }
            data.push_str(if draw.below(40) == 0 { "\n" } else { end });
        }
        if draw.below(10) == 0 {
            data.truncate(data.trim_end_matches(['\n', '\r']).len());
        }
        let sql = format!(
            "COPY people (id, email, ssn, plain) FROM STDIN ({})",
            into.options
        );
        let mut messages = vec![Message::query(&sql)];
        let piece = draw.below(40) + 1;
        messages.extend(data.as_bytes().chunks(piece).map(Message::copy_data));
        messages.push(Message::copy_done());
        let mut readies = 1;
        for _ in 0..2 {
            let out = style(&mut draw);
            let quotes = match (out.csv, draw.below(3)) {
                (true, 0) => ", FORCE_QUOTE *",
                (true, 1) => ", FORCE_QUOTE *, HEADER",
                _ => "",
            };
            let sql = format!(
                "COPY (SELECT id, email, ssn, plain FROM people ORDER BY id) TO STDOUT ({}{quotes})",
                out.options
            );
            messages.push(Message::query(&sql));
            readies += 1;
        }
        messages.push(Message::query(
            "COPY (SELECT * FROM people ORDER BY id) TO STDOUT (FORMAT binary)",
        ));
        let found = difference(&mut sessions, &messages, readies + 1)?;
        wrong.extend(found.map(|found| format!("{sql}\n{data:?} by {piece}\n{found}")));
    }
    fail_if_any(wrong)
}
