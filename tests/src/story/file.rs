//! The text of a story: parsing and printing. It runs nothing.

use anyhow::{Context, Result, bail};

/// A whole story file.
#[derive(Debug, PartialEq)]
pub(super) struct Story {
    /// Everything before the first part, verbatim.
    pub(super) title: String,
    /// The parts in order.
    pub(super) parts: Vec<Part>,
}

/// One header and what stands under it.
#[derive(Debug, PartialEq)]
pub(super) struct Part {
    pub(super) kind: Kind,
    /// The header, verbatim.
    pub(super) header: String,
    /// What stands under it, without trailing blank lines.
    pub(super) body: String,
    /// Whether a blank line follows.
    spaced: bool,
}

/// What a part does.
#[derive(Debug, PartialEq)]
pub(super) enum Kind {
    Policy,
    Settings,
    Setup(String),
    As {
        role: String,
        sql: String,
    },
    Directly {
        role: String,
        sql: String,
    },
    Prepared {
        role: String,
        sql: String,
        params: Vec<Option<String>>,
    },
    Explain(String),
    Pgveil(Vec<String>),
    Restart,
}

impl Kind {
    /// Whether what stands under the header is what the part prints.
    pub(super) fn prints(&self) -> bool {
        !matches!(
            self,
            Kind::Policy | Kind::Settings | Kind::Setup(_) | Kind::Restart
        )
    }

    fn parse(header: &str) -> Result<Self> {
        let words = header.trim();
        Ok(match words {
            "policy" => return Ok(Kind::Policy),
            "settings" => return Ok(Kind::Settings),
            "restart" => return Ok(Kind::Restart),
            _ => match words.strip_prefix("pgveil ") {
                Some(args) => Kind::Pgveil(shell_words(args)),
                None => Self::with_sql(words)?,
            },
        })
    }

    fn with_sql(words: &str) -> Result<Self> {
        let (what, sql) = words.split_once(':').context("a header without a colon")?;
        let sql = sql.trim().to_owned();
        let role = |prefix: &str| what.strip_prefix(prefix).map(str::to_owned);
        if let Some(role) = role("prepared as ") {
            let (sql, params) = match sql.split_once(" -- params:") {
                Some((sql, params)) => (sql.to_owned(), literals(params)?),
                None => (sql, Vec::new()),
            };
            return Ok(Kind::Prepared { role, sql, params });
        }
        if let Some(role) = role("as ").or_else(|| role("in one session as ")) {
            return Ok(Kind::As { role, sql });
        }
        if let Some(role) = role("directly as ") {
            return Ok(Kind::Directly { role, sql });
        }
        Ok(match what {
            "setup directly" => Kind::Setup(sql),
            "directly" => Kind::Directly {
                role: "app".to_owned(),
                sql,
            },
            "explain" => Kind::Explain(sql),
            _ => bail!("no such part: {what}"),
        })
    }
}

impl Story {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut title = String::new();
        let mut parts: Vec<Part> = Vec::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if line.starts_with("-- ") {
                let mut header = line.to_owned();
                while !(header.ends_with(" --") || header.ends_with("\n--")) {
                    let next = lines
                        .next()
                        .with_context(|| format!("this header has no end: {line}"))?;
                    header.push('\n');
                    header.push_str(next);
                }
                let inside = &header[3..header.len() - 2];
                let kind = Kind::parse(inside).with_context(|| header.clone())?;
                parts.push(Part {
                    kind,
                    header,
                    body: String::new(),
                    spaced: false,
                });
            } else if let Some(part) = parts.last_mut() {
                part.body.push_str(line);
                part.body.push('\n');
            } else {
                title.push_str(line);
                title.push('\n');
            }
        }
        if !title.starts_with("# ") {
            bail!("a story begins with `# ` and a sentence that says what happens");
        }
        for part in &mut parts {
            let body = part.body.trim_end().to_owned();
            part.spaced = part.body.len() > body.len() + 1;
            part.body = body;
        }
        Ok(Self { title, parts })
    }

    pub(super) fn render(&self) -> String {
        let mut text = self.title.clone();
        for part in &self.parts {
            text.push_str(&part.header);
            text.push('\n');
            if !part.body.is_empty() {
                text.push_str(&part.body);
                text.push('\n');
            }
            if part.spaced {
                text.push('\n');
            }
        }
        text.trim_end().to_owned() + "\n"
    }
}

/// Lines of `section.key = toml`; the last dot before `=` parts section and key.
pub(super) fn settings(body: &str) -> Result<Vec<(String, String, String)>> {
    let lines = body.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| {
            let (path, value) = line.split_once('=').context("section.key = value")?;
            let (section, key) = path.trim().rsplit_once('.').unwrap_or(("", path.trim()));
            Ok((section.to_owned(), key.to_owned(), value.trim().to_owned()))
        })
        .collect()
}

/// `'it''s', 5, null`
fn literals(text: &str) -> Result<Vec<Option<String>>> {
    let mut values = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let value;
        (value, rest) = literal(rest)?;
        values.push(value);
        rest = rest.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    Ok(values)
}

fn literal(text: &str) -> Result<(Option<String>, &str)> {
    let Some(mut rest) = text.strip_prefix('\'') else {
        let end = text.find(',').unwrap_or(text.len());
        let word = text[..end].trim();
        return Ok((
            (!word.eq_ignore_ascii_case("null")).then(|| word.to_owned()),
            &text[end..],
        ));
    };
    let mut value = String::new();
    loop {
        let quote = rest.find('\'').context("a literal has no end")?;
        value.push_str(&rest[..quote]);
        rest = &rest[quote + 1..];
        match rest.strip_prefix('\'') {
            Some(after) => {
                value.push('\'');
                rest = after;
            }
            None => return Ok((Some(value), rest)),
        }
    }
}

/// Words parted by blanks; single or double quotes keep a word together.
fn shell_words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in text.trim().chars() {
        let word = words.last_mut().expect("there is always a last word");
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => word.push(c),
            None if c == '\'' || c == '"' => quote = Some(c),
            None if c == ' ' => words.push(String::new()),
            None => word.push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# A title.\n-- policy --\npublic.t  scope = \"platform\"\n\n-- as app: select 1,\n    2 --\n1|2\n\n\
        -- prepared as app: select $1 -- params: 'it''s', 5, null --\n";

    #[test]
    fn a_story_prints_as_it_was_read() {
        assert_eq!(Story::parse(TEXT).unwrap().render(), TEXT);
    }

    #[test]
    fn headers_say_what_happens() {
        let story = Story::parse(TEXT).unwrap();
        assert_eq!(
            story.parts[1].kind,
            Kind::As {
                role: "app".into(),
                sql: "select 1,\n    2".into()
            }
        );
        assert_eq!(story.parts[1].body, "1|2");
        let params = vec![Some("it's".to_owned()), Some("5".to_owned()), None];
        assert_eq!(
            story.parts[2].kind,
            Kind::Prepared {
                role: "app".into(),
                sql: "select $1".into(),
                params
            }
        );
    }

    #[test]
    fn refuses_a_story_without_a_title_and_an_unknown_part() {
        assert!(Story::parse("-- policy --\n").is_err());
        assert!(Story::parse("# T\n-- dance: x --\n").is_err());
        assert!(Story::parse("# T\n-- as app: no end\n").is_err());
    }

    #[test]
    fn settings_and_words_are_split() {
        let expected = vec![("log".to_owned(), "level".to_owned(), "\"info\"".to_owned())];
        assert_eq!(settings("log.level = \"info\"\n").unwrap(), expected);
        assert_eq!(
            shell_words("explain 'select 1'  --x"),
            ["explain", "select 1", "--x"]
        );
    }
}
