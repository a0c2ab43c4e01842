//! Scope templates: `tenant:{tenant_id}/project:crm/env:{session.env}`. Parses and checks them; it does not
//! resolve them (a plan's slot does) and does not know whether a column exists (the ruleset does).

#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use pgveil_config::ScopePath;

/// A parsed template: fixed texts, columns of the row and session settings, in order.
///
/// Whatever the placeholders hold, encoded by [`encode`], the concatenation is one of the five scope levels.
/// A placeholder that holds NULL or the empty string resolves to nothing: that is the caller's `PV001`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeTemplate {
    /// In order; neighbours of kind `Text` are merged.
    pub parts: Vec<TemplatePart>,
}

/// One part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplatePart {
    /// Fixed text, for example `tenant:`.
    Text(String),
    /// `{column}` of the row.
    Column(String),
    /// `{session.NAME}`; setting names are folded to lower case, as Postgres folds them.
    Session(String),
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct TemplateError {
    /// Byte offset into the template.
    pub at: usize,
    /// What is wrong, in a clause without a full stop.
    pub what: String,
}

impl TemplateError {
    fn new(at: usize, what: impl Into<String>) -> Self {
        Self {
            at,
            what: what.into(),
        }
    }
}

/// The levels of a path after the tenant, in their only order.
const LEVELS: [&str; 3] = ["tenant", "project", "env"];

impl ScopeTemplate {
    /// Parses a template and proves that it can only yield `platform` or
    /// `tenant:T[/project:P][/env:E]`, where each name holds at most one placeholder
    /// (two in one name would let different rows share a scope: `a-b` + `c` and `a` + `b-c`).
    pub fn parse(template: &str) -> Result<Self, TemplateError> {
        let pieces = split(template)?;
        check_levels(&pieces)?;
        Ok(Self {
            parts: pieces.into_iter().map(|piece| piece.part).collect(),
        })
    }

    /// Names of the row's columns that the template reads, each once, in order of appearance.
    pub fn columns(&self) -> Vec<&str> {
        self.named(|part| match part {
            TemplatePart::Column(name) => Some(name),
            _ => None,
        })
    }

    /// Names of the settings (`pgveil.NAME`) that the template reads, each once, in order of appearance.
    pub fn sessions(&self) -> Vec<&str> {
        self.named(|part| match part {
            TemplatePart::Session(name) => Some(name),
            _ => None,
        })
    }

    /// The same with the session's settings in the place of the row's columns: `{tenant_id}` becomes
    /// `{session.tenant_id}`.
    pub fn of_session(&self) -> Self {
        let of_session = |part: &TemplatePart| match part {
            TemplatePart::Column(name) => TemplatePart::Session(name.to_ascii_lowercase()),
            part => part.clone(),
        };
        Self {
            parts: self.parts.iter().map(of_session).collect(),
        }
    }

    /// Two scopes of one row, one behind the other: what needs the scope needs what both are taken from. [`parted`] takes apart
    /// what it yields.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let between = std::iter::once(TemplatePart::Text(BETWEEN.to_string()));
        let parts = self.parts.iter().cloned().chain(between);
        Self {
            parts: parts.chain(other.parts.iter().cloned()).collect(),
        }
    }

    /// The first column whose name no setting can have.
    pub fn column_without_setting(&self) -> Option<&str> {
        let mut columns = self.columns().into_iter();
        columns.find(|name| !is_setting_name(name))
    }

    /// Whether every row and session has the same scope.
    pub fn is_fixed(&self) -> bool {
        self.parts
            .iter()
            .all(|part| matches!(part, TemplatePart::Text(_)))
    }

    /// Whether a row can be in this scope; with `below`, in it or in one below it.
    pub fn may_yield(&self, scope: &ScopePath, below: bool) -> bool {
        if below && *scope == ScopePath::platform() {
            return true;
        }
        let template = self.to_string();
        let own: Vec<&str> = template.split('/').collect();
        let fits = |level: &str| {
            own.iter().any(|own| match own.split_once('{') {
                None => *own == level,
                Some((before, rest)) => {
                    let behind = rest.split_once('}').map_or("", |(_, behind)| behind);
                    level.len() > before.len() + behind.len()
                        && level.starts_with(before)
                        && level.ends_with(behind)
                }
            })
        };
        let levels: Vec<&str> = scope.as_str().split('/').collect();
        levels.iter().all(|level| fits(level)) && (below || levels.len() == own.len())
    }

    fn named(&self, name_of: fn(&TemplatePart) -> Option<&String>) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for name in self.parts.iter().filter_map(name_of) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }
}

impl std::fmt::Display for ScopeTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            TemplatePart::Text(text) => f.write_str(text),
            TemplatePart::Column(name) => write!(f, "{{{name}}}"),
            TemplatePart::Session(name) => write!(f, "{{session.{name}}}"),
        })
    }
}

/// Between two scopes; in none of them.
const BETWEEN: char = '|';

/// The scope, and the other one if there are two ([`ScopeTemplate::and`]).
pub fn parted(path: &str) -> (&str, Option<&str>) {
    let two = path.split_once(BETWEEN);
    two.map_or((path, None), |(one, other)| (one, Some(other)))
}

/// Encodes a value for a scope name: every UTF-8 byte outside `[A-Za-z0-9._-]` becomes `%XX`, upper-case.
///
/// Injective, and never yields `/` or `:`, so a value can never reach another level or another tenant's name.
/// The empty string encodes to itself, which is no name: refuse it before (`PV001`).
pub fn encode(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for &byte in value.as_bytes() {
        if is_plain(byte) {
            out.push(byte as char);
        } else {
            write!(out, "%{byte:02X}").expect("writing to a String does not fail");
        }
    }
    out
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// A part and where it begins.
struct Piece {
    at: usize,
    part: TemplatePart,
}

/// Splits into fixed texts and placeholders.
fn split(template: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < template.len() {
        let rest = &template[at..];
        let piece_len = if let Some(inner) = rest.strip_prefix('{') {
            let end = inner
                .find(['{', '}'])
                .filter(|&end| inner.as_bytes()[end] == b'}');
            let end =
                end.ok_or_else(|| TemplateError::new(at, "a placeholder is not closed by `}`"))?;
            let part = placeholder(at + 1, &inner[..end])?;
            pieces.push(Piece { at, part });
            end + 2
        } else {
            let end = rest.find(['{', '}']).unwrap_or(rest.len());
            if end == 0 {
                return Err(TemplateError::new(at, "`}` without `{`"));
            }
            let part = TemplatePart::Text(rest[..end].to_owned());
            pieces.push(Piece { at, part });
            end
        };
        at += piece_len;
    }
    Ok(pieces)
}

fn placeholder(at: usize, name: &str) -> Result<TemplatePart, TemplateError> {
    if let Some(setting) = name.strip_prefix("session.") {
        if !is_setting_name(setting) {
            return Err(TemplateError::new(
                at,
                format!("`{name}` is not `session.` and the name of a setting"),
            ));
        }
        return Ok(TemplatePart::Session(setting.to_ascii_lowercase()));
    }
    if name.is_empty() {
        return Err(TemplateError::new(at, "a placeholder names nothing"));
    }
    Ok(TemplatePart::Column(name.to_owned()))
}

/// What Postgres accepts after the dot of a custom setting (`valid_custom_variable_name` in guc.c), ASCII only.
fn is_setting_name(name: &str) -> bool {
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    starts
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$')
}

/// Where the walk over the pieces stands.
#[derive(Default)]
struct Walk {
    /// Index into `LEVELS` of the level whose name is being read.
    level: Option<usize>,
    /// Something of that name has been read.
    named: bool,
    /// A placeholder of that name has been read.
    has_placeholder: bool,
}

fn check_levels(pieces: &[Piece]) -> Result<(), TemplateError> {
    if let [
        Piece {
            part: TemplatePart::Text(text),
            ..
        },
    ] = pieces
        && text == "platform"
    {
        return Ok(());
    }
    let mut walk = Walk::default();
    let mut end = 0;
    for piece in pieces {
        end = match &piece.part {
            TemplatePart::Text(text) => {
                walk.text(piece.at, text)?;
                piece.at + text.len()
            }
            TemplatePart::Column(_) | TemplatePart::Session(_) => {
                walk.placeholder(piece.at)?;
                piece.at + 1
            }
        };
    }
    walk.finish_name(end)
}

impl Walk {
    fn placeholder(&mut self, at: usize) -> Result<(), TemplateError> {
        if self.level.is_none() {
            return Err(TemplateError::new(
                at,
                "a scope begins with `platform` or `tenant:`, not with a placeholder",
            ));
        }
        if self.has_placeholder {
            return Err(TemplateError::new(
                at,
                "a name holds at most one placeholder (or different rows could share a scope)",
            ));
        }
        self.has_placeholder = true;
        self.named = true;
        Ok(())
    }

    /// Fixed text: the rest of a name, then any number of `/level:name`.
    fn text(&mut self, at: usize, text: &str) -> Result<(), TemplateError> {
        let mut offset = at;
        for (nth, segment) in text.split('/').enumerate() {
            let starts_level = nth > 0 || self.level.is_none();
            let mut name = segment;
            let mut name_at = offset;
            if starts_level {
                if self.level.is_some() {
                    self.finish_name(offset - 1)?;
                }
                name = self.begin_level(offset, segment)?;
                name_at = offset + segment.len() - name.len();
            }
            check_name_text(name_at, name)?;
            self.named |= !name.is_empty();
            offset += segment.len() + 1;
        }
        Ok(())
    }

    /// Reads `level:` and returns the rest of the segment.
    fn begin_level<'a>(&mut self, at: usize, segment: &'a str) -> Result<&'a str, TemplateError> {
        let expected = &LEVELS[self.level.map_or(0, |level| level + 1)..];
        let Some((word, name)) = segment.split_once(':') else {
            let what = match (segment, self.level) {
                ("platform", _) => "`platform` stands alone".to_owned(),
                (_, None) => "a scope begins with `platform` or `tenant:`".to_owned(),
                _ => format!("`{segment}` is not a level and a name (`env:prod`)"),
            };
            return Err(TemplateError::new(at, what));
        };
        let Some(found) = LEVELS.iter().position(|level| *level == word) else {
            return Err(TemplateError::new(
                at,
                format!("`{word}` is not a level: tenant, project or env"),
            ));
        };
        if !expected.contains(&word) || (self.level.is_none() && found != 0) {
            return Err(TemplateError::new(
                at,
                "levels stand in the order tenant, project, env, each at most once, and begin with tenant",
            ));
        }
        *self = Self {
            level: Some(found),
            ..Self::default()
        };
        Ok(name)
    }

    fn finish_name(&self, at: usize) -> Result<(), TemplateError> {
        match self.level {
            None => Err(TemplateError::new(
                at,
                "a scope begins with `platform` or `tenant:`",
            )),
            Some(level) if !self.named => Err(TemplateError::new(
                at,
                format!("`{}:` has no name", LEVELS[level]),
            )),
            Some(_) => Ok(()),
        }
    }
}

/// Fixed text of a name is already in canonical form: what [`encode`] yields for some text.
fn check_name_text(at: usize, text: &str) -> Result<(), TemplateError> {
    if encode_is_identity(text) || decode(text).is_some_and(|decoded| encode(&decoded) == text) {
        return Ok(());
    }
    let bad = text
        .char_indices()
        .find(|(_, c)| !c.is_ascii() || !is_plain(*c as u8));
    let (offset, bad) = bad.expect("text of plain characters only is its own encoding");
    Err(TemplateError::new(
        at + offset,
        format!(
            "`{bad}` cannot stand in a name: letters, digits, `.`, `_`, `-`, others as UTF-8 in %XX (upper-case)"
        ),
    ))
}

fn encode_is_identity(text: &str) -> bool {
    text.bytes().all(is_plain)
}

/// Undoes `%XX`; `None` when an escape is cut short, is not hexadecimal or does not make UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = tail;
            continue;
        }
        let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
        if !digits.bytes().all(|d| d.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).ok()
}
