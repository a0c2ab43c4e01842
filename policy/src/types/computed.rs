//! Functions of text that need not see the server: of a text given, they make what PostgreSQL's own make of it. Knows no
//! statement; what it does not know is not here.

use std::fmt;

use zeroize::Zeroizing;

use super::{FormatSettings, InputError, LogicalType, Value};

/// Longest text that is made of a shorter one.
const MAX_BYTES: usize = 256 << 20;

/// The value whose text form this is. `None`: no value is written so, even if one could be read from it.
pub fn spelled(logical: LogicalType, text: &str, settings: &FormatSettings) -> Option<Value> {
    let value = logical.input(text.as_bytes(), settings).ok()?;
    let mut written = Zeroizing::new(Vec::with_capacity(text.len()));
    logical
        .output(value.as_bytes(), settings, &mut written)
        .ok()?;
    (*written == text.as_bytes()).then_some(value)
}

/// Texts joined, and functions of them.
#[derive(Clone, PartialEq, Eq)]
pub enum TextExpression {
    /// A literal; `None` is NULL.
    Given(Option<Zeroizing<String>>),
    /// A client parameter (from 0) that is a text.
    Param(usize),
    /// What a function makes of a text; NULL of NULL.
    Made(TextFunction, Box<Self>),
    /// `a || b`: NULL if one of them is.
    Joined(Vec<Self>),
    /// `COALESCE(a, b)`: the first that is not NULL.
    First(Vec<Self>),
    /// `NULLIF(a, b)`: NULL if both are equal.
    Unless(Box<Self>, Box<Self>),
    /// `concat(a, b)`, `concat_ws(separator, a, b)`: without those that are NULL, but NULL without a separator.
    Listed(Box<Self>, Vec<Self>),
}

/// A function of one text.
#[derive(Clone, PartialEq, Eq)]
pub enum TextFunction {
    /// `lower(x)`
    Lower,
    /// `upper(x)`
    Upper,
    /// `trim(...)`, `btrim(x, characters)`, `ltrim`, `rtrim`
    Trim {
        /// At its start.
        leading: bool,
        /// At its end.
        trailing: bool,
        /// Which characters go.
        characters: Zeroizing<String>,
    },
    /// `replace(x, from, to)`
    Replace {
        /// What goes.
        from: Zeroizing<String>,
        /// What comes.
        to: Zeroizing<String>,
    },
    /// `left(x, n)`: so many characters, or all but so many.
    Left(i32),
    /// `right(x, n)`: so many characters, or all but so many.
    Right(i32),
    /// `substring(x from start for length)`; characters are counted from 1.
    Slice {
        /// The first character, which may be before the text.
        start: i32,
        /// How many; `None` for all the rest.
        length: Option<i32>,
    },
    /// `split_part(x, delimiter, field)`
    Field {
        /// What stands between fields.
        delimiter: Zeroizing<String>,
        /// From 1.
        field: usize,
    },
}

/// Literals are not printed.
impl fmt::Debug for TextFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl TextFunction {
    /// What it is called.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Lower => "lower",
            Self::Upper => "upper",
            Self::Trim { .. } => "trim",
            Self::Replace { .. } => "replace",
            Self::Left(_) => "left",
            Self::Right(_) => "right",
            Self::Slice { .. } => "substring",
            Self::Field { .. } => "split_part",
        }
    }

    /// What it makes of a text.
    ///
    /// # Errors
    /// A text of which only the server's locale knows what becomes of it.
    pub fn apply(
        &self,
        text: &str,
        settings: &FormatSettings,
    ) -> Result<Zeroizing<String>, InputError> {
        let cased = |made: fn(&str) -> String| {
            if text.is_ascii() && settings.ascii_case {
                return Ok(Zeroizing::new(made(text)));
            }
            Err(InputError::unsupported(format!(
                "{}() of a text with other characters than ASCII is not computed for a protected column",
                self.name()
            )))
        };
        match self {
            Self::Lower => cased(str::to_ascii_lowercase),
            Self::Upper => cased(str::to_ascii_uppercase),
            Self::Trim {
                leading,
                trailing,
                characters,
            } => {
                let goes = |c: char| characters.contains(c);
                let text = if *leading {
                    text.trim_start_matches(goes)
                } else {
                    text
                };
                let text = if *trailing {
                    text.trim_end_matches(goes)
                } else {
                    text
                };
                Ok(Zeroizing::new(text.to_owned()))
            }
            Self::Replace { from, to } => {
                if from.is_empty() {
                    return Ok(Zeroizing::new(text.to_owned()));
                }
                let pieces: Vec<&str> = text.split(from.as_str()).collect();
                joined(&pieces, to)
            }
            Self::Left(count) => {
                let end = behind_characters(text, counted(text, *count));
                Ok(Zeroizing::new(text[..end].to_owned()))
            }
            Self::Right(count) => {
                let all = text.chars().count();
                let start = behind_characters(text, all - counted(text, *count));
                Ok(Zeroizing::new(text[start..].to_owned()))
            }
            Self::Slice { start, length } => {
                let first = i64::from(*start);
                let end = length.map(|length| first + i64::from(length));
                let place = |at: i64| usize::try_from(at - 1).unwrap_or(0);
                let from = behind_characters(text, place(first));
                let to = end.map_or(text.len(), |end| behind_characters(text, place(end)));
                Ok(Zeroizing::new(text[from..to.max(from)].to_owned()))
            }
            Self::Field { delimiter, field } => {
                let found = match (delimiter.is_empty(), *field) {
                    (true, 1) => Some(text),
                    (true, _) => None,
                    (false, field) => text.split(delimiter.as_str()).nth(field - 1),
                };
                Ok(Zeroizing::new(found.unwrap_or_default().to_owned()))
            }
        }
    }
}

/// How many characters of a text are meant: so many, or all but so many.
fn counted(text: &str, count: i32) -> usize {
    let all = text.chars().count();
    let wanted = count.unsigned_abs() as usize;
    if count < 0 {
        all.saturating_sub(wanted)
    } else {
        wanted.min(all)
    }
}

/// The byte behind so many characters, or the end.
fn behind_characters(text: &str, count: usize) -> usize {
    let mut starts = text.char_indices();
    starts.nth(count).map_or(text.len(), |(at, _)| at)
}

/// Texts with another between them.
fn joined(texts: &[&str], between: &str) -> Result<Zeroizing<String>, InputError> {
    let gaps = between.len().saturating_mul(texts.len().saturating_sub(1));
    let length = { texts.iter() }.fold(gaps, |sum, text| sum.saturating_add(text.len()));
    if length > MAX_BYTES {
        return Err(InputError::new("54000", "requested length too large"));
    }
    // As long as it gets, so that no part of it is left behind in memory.
    let mut all = Zeroizing::new(String::with_capacity(length));
    for (index, text) in texts.iter().enumerate() {
        if index > 0 {
            all.push_str(between);
        }
        all.push_str(text);
    }
    Ok(all)
}

/// Literals are not printed.
impl fmt::Debug for TextExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(None) => f.write_str("NULL"),
            Self::Given(Some(_)) => f.write_str("'...'"),
            Self::Param(param) => write!(f, "${}", param + 1),
            Self::Made(function, text) => write!(f, "{function:?}({text:?})"),
            Self::Joined(texts) => f.debug_tuple("||").field(texts).finish(),
            Self::First(texts) => f.debug_tuple("coalesce").field(texts).finish(),
            Self::Unless(text, other) => {
                let mut unless = f.debug_tuple("nullif");
                unless.field(text).field(other).finish()
            }
            Self::Listed(separator, texts) => {
                let mut listed = f.debug_tuple("concat");
                listed.field(separator).field(texts).finish()
            }
        }
    }
}

impl TextExpression {
    /// Its value, given its parameters'. `None` is NULL.
    ///
    /// # Errors
    /// A text of which only the server's locale knows what becomes of it, or one that is too long.
    pub fn value(
        &self,
        param: &dyn Fn(usize) -> Result<Option<Zeroizing<String>>, InputError>,
        settings: &FormatSettings,
    ) -> Result<Option<Zeroizing<String>>, InputError> {
        let all = |texts: &[Self]| {
            let values = texts.iter().map(|text| text.value(param, settings));
            values.collect::<Result<Vec<_>, _>>()
        };
        match self {
            Self::Given(text) => Ok(text.clone()),
            Self::Param(index) => param(*index),
            Self::Made(function, text) => match text.value(param, settings)? {
                Some(text) => function.apply(&text, settings).map(Some),
                None => Ok(None),
            },
            Self::Joined(texts) => {
                let values = all(texts)?;
                let texts: Option<Vec<&str>> = { values.iter() }
                    .map(|value| value.as_ref().map(|text| text.as_str()))
                    .collect();
                texts.map(|texts| joined(&texts, "")).transpose()
            }
            Self::First(texts) => Ok(all(texts)?.into_iter().flatten().next()),
            Self::Unless(text, other) => {
                let (text, other) = (text.value(param, settings)?, other.value(param, settings)?);
                Ok(text.filter(|text| other.as_ref() != Some(text)))
            }
            Self::Listed(separator, texts) => {
                let Some(separator) = separator.value(param, settings)? else {
                    return Ok(None);
                };
                let values = all(texts)?;
                let texts: Vec<&str> = { values.iter().flatten() }
                    .map(|text| text.as_str())
                    .collect();
                joined(&texts, &separator).map(Some)
            }
        }
    }

    /// Calls `f` with everything in it, itself included.
    pub fn each<'e>(&'e self, f: &mut dyn FnMut(&'e Self)) {
        f(self);
        match self {
            Self::Given(_) | Self::Param(_) => {}
            Self::Made(_, text) => text.each(f),
            Self::Joined(texts) | Self::First(texts) => {
                for text in texts {
                    text.each(f);
                }
            }
            Self::Unless(text, other) => {
                text.each(f);
                other.each(f);
            }
            Self::Listed(separator, texts) => {
                separator.each(f);
                for text in texts {
                    text.each(f);
                }
            }
        }
    }

    /// Whether a literal can be part of what it makes.
    pub fn holds_literal(&self) -> bool {
        let mut found = false;
        self.each(&mut |part| {
            found |= match part {
                Self::Given(text) => text.is_some(),
                Self::Made(TextFunction::Replace { to, .. }, _) => !to.is_empty(),
                Self::Param(_)
                | Self::Made(..)
                | Self::Joined(_)
                | Self::First(_)
                | Self::Unless(..)
                | Self::Listed(..) => false,
            }
        });
        found
    }

    /// Whether any parameter is part of it.
    pub(super) fn has_params(&self) -> bool {
        let mut found = false;
        self.each(&mut |part| found |= matches!(part, Self::Param(_)));
        found
    }

    /// Whether this parameter is part of it.
    pub fn uses(&self, param: usize) -> bool {
        let mut found = false;
        self.each(&mut |part| found |= matches!(part, Self::Param(n) if *n == param));
        found
    }

    /// Whether it is NULL exactly when its only parameter is.
    pub fn follows_its_parameter(&self) -> bool {
        let (mut params, mut strict) = (Vec::new(), true);
        self.each(&mut |part| match part {
            Self::Param(param) if !params.contains(param) => params.push(*param),
            Self::Given(None) | Self::First(_) | Self::Unless(..) | Self::Listed(..) => {
                strict = false;
            }
            Self::Param(_) | Self::Given(Some(_)) | Self::Made(..) | Self::Joined(_) => {}
        });
        strict && params.len() == 1
    }

    /// The same with values in the place of parameters.
    pub fn filled(&self, values: &dyn Fn(usize) -> Option<Zeroizing<String>>) -> Self {
        let all = |texts: &[Self]| texts.iter().map(|text| text.filled(values)).collect();
        match self {
            Self::Given(text) => Self::Given(text.clone()),
            Self::Param(param) => Self::Given(values(*param)),
            Self::Made(function, text) => {
                Self::Made(function.clone(), Box::new(text.filled(values)))
            }
            Self::Joined(texts) => Self::Joined(all(texts)),
            Self::First(texts) => Self::First(all(texts)),
            Self::Unless(text, other) => Self::Unless(
                Box::new(text.filled(values)),
                Box::new(other.filled(values)),
            ),
            Self::Listed(separator, texts) => {
                Self::Listed(Box::new(separator.filled(values)), all(texts))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trim(leading: bool, trailing: bool, characters: &str) -> TextFunction {
        TextFunction::Trim {
            leading,
            trailing,
            characters: Zeroizing::new(characters.to_owned()),
        }
    }

    #[test]
    fn makes_of_texts_what_the_server_makes() {
        let replace = |from: &str, to: &str| TextFunction::Replace {
            from: Zeroizing::new(from.to_owned()),
            to: Zeroizing::new(to.to_owned()),
        };
        let slice = |start, length| TextFunction::Slice { start, length };
        let field = |delimiter: &str, field| TextFunction::Field {
            delimiter: Zeroizing::new(delimiter.to_owned()),
            field,
        };
        // Taken from PostgreSQL 15.
        for (function, text, expected) in [
            (TextFunction::Lower, "Ada@Example.COM", "ada@example.com"),
            (TextFunction::Upper, "Ada_1[`{z", "ADA_1[`{Z"),
            (trim(true, true, " "), "  a b \t ", "a b \t"),
            (trim(true, false, "xy"), "yxaxy", "axy"),
            (trim(false, true, "é "), "aé é", "a"),
            (trim(true, true, ""), " a ", " a "),
            (replace("", "x"), "ab", "ab"),
            (replace("aa", "a"), "aaaaa", "aaa"),
            (replace("é", ""), "éaéé", "a"),
            (TextFunction::Left(2), "éaé", "éa"),
            (TextFunction::Left(9), "éaé", "éaé"),
            (TextFunction::Left(-1), "éaé", "éa"),
            (TextFunction::Left(-9), "éaé", ""),
            (TextFunction::Left(i32::MIN), "éaé", ""),
            (TextFunction::Right(2), "éaé", "aé"),
            (TextFunction::Right(0), "éaé", ""),
            (TextFunction::Right(-1), "éaü", "aü"),
            (TextFunction::Right(-3), "éaü", ""),
            (slice(2, None), "éaü", "aü"),
            (slice(2, Some(1)), "éaü", "a"),
            (slice(-1, Some(3)), "éaü", "é"),
            (slice(-5, Some(3)), "éaü", ""),
            (slice(-5, None), "éaü", "éaü"),
            (slice(2, Some(0)), "éaü", ""),
            (slice(2, Some(i32::MAX)), "éaü", "aü"),
            (slice(i32::MIN, Some(i32::MAX)), "éaü", ""),
            (slice(9, Some(1)), "éaü", ""),
            (field("@", 1), "ada@example.com", "ada"),
            (field("@", 2), "ada@example.com", "example.com"),
            (field("@", 3), "ada@example.com", ""),
            (field("", 1), "ab", "ab"),
            (field("", 2), "ab", ""),
            (field("é", 2), "aébé", "b"),
        ] {
            let made = function.apply(text, &FormatSettings::default()).unwrap();
            assert_eq!(*made, expected, "{function:?} {text}");
        }
    }

    #[test]
    fn joins_texts_as_the_server_does() {
        use TextExpression::{First, Given, Joined, Listed, Made, Param, Unless};
        let of = |text: &str| Given(Some(Zeroizing::new(text.to_owned())));
        let value = |expression: &TextExpression| {
            let param = |index: usize| Ok((index == 0).then(|| Zeroizing::new("A b".to_owned())));
            let made = expression.value(&param, &FormatSettings::default());
            made.unwrap().map(|text| text.to_string())
        };
        // The second parameter is NULL.
        for (expression, expected) in [
            (Joined(vec![Param(0), of("-"), Param(0)]), Some("A b-A b")),
            (Joined(vec![Param(0), Param(1)]), None),
            (Joined(vec![Param(0), Given(None)]), None),
            (
                Listed(Box::new(of("")), vec![Param(0), Param(1), of("x")]),
                Some("A bx"),
            ),
            (
                Listed(Box::new(of(", ")), vec![Param(1), of(""), Param(0)]),
                Some(", A b"),
            ),
            (Listed(Box::new(of("")), vec![Param(1)]), Some("")),
            (Listed(Box::new(Param(1)), vec![Param(0)]), None),
            (First(vec![Param(1), of("x"), Param(0)]), Some("x")),
            (First(vec![Param(1), Given(None)]), None),
            (Unless(Box::new(Param(0)), Box::new(of("A b"))), None),
            (Unless(Box::new(Param(0)), Box::new(Param(1))), Some("A b")),
            (
                Made(
                    TextFunction::Lower,
                    Box::new(Joined(vec![Param(0), of("C")])),
                ),
                Some("a bc"),
            ),
        ] {
            assert_eq!(value(&expression).as_deref(), expected, "{expression:?}");
        }
        assert!(Joined(vec![Param(0), of("x")]).follows_its_parameter());
        assert!(!Joined(vec![Param(0), Param(1)]).follows_its_parameter());
        assert!(!Listed(Box::new(of("")), vec![Param(0)]).follows_its_parameter());
    }

    #[test]
    fn leaves_to_the_server_what_its_locale_decides() {
        let settings = FormatSettings::default();
        assert!(TextFunction::Lower.apply("É", &settings).is_err());
        assert!(TextFunction::Upper.apply("ß", &settings).is_err());
        let turkish = FormatSettings {
            ascii_case: false,
            ..settings
        };
        assert!(TextFunction::Lower.apply("I", &turkish).is_err());
        assert!(trim(true, true, " ").apply("É ", &turkish).is_ok());
    }
}
