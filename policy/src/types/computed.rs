//! Functions of text that need not see the server: of a text given, they make what PostgreSQL's own make of it. Knows no
//! statement; what it does not know is not here.

use std::fmt;

use zeroize::Zeroizing;

use super::{FormatSettings, InputError};

/// Longest text that is made of a shorter one.
const MAX_BYTES: usize = 256 << 20;

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
    /// `'text' || x`
    Behind(Zeroizing<String>),
    /// `x || 'text'`
    Before(Zeroizing<String>),
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
            Self::Behind(_) | Self::Before(_) => "||",
        }
    }

    /// Whether a literal is part of it.
    pub fn holds_literal(&self) -> bool {
        matches!(self, Self::Behind(_) | Self::Before(_))
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
        let joined = |first: &str, second: &str| {
            if first.len() + second.len() > MAX_BYTES {
                return Err(InputError::new("54000", "requested length too large"));
            }
            let mut text = Zeroizing::new(String::with_capacity(first.len() + second.len()));
            text.push_str(first);
            text.push_str(second);
            Ok(text)
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
            Self::Behind(first) => joined(first, text),
            Self::Before(second) => joined(text, second),
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
        let of = |text: &str| Zeroizing::new(text.to_owned());
        // Taken from PostgreSQL 15.
        for (function, text, expected) in [
            (TextFunction::Lower, "Ada@Example.COM", "ada@example.com"),
            (TextFunction::Upper, "Ada_1[`{z", "ADA_1[`{Z"),
            (trim(true, true, " "), "  a b \t ", "a b \t"),
            (trim(true, false, "xy"), "yxaxy", "axy"),
            (trim(false, true, "é "), "aé é", "a"),
            (trim(true, true, ""), " a ", " a "),
            (TextFunction::Behind(of("x")), "a", "xa"),
            (TextFunction::Before(of("x")), "a", "ax"),
        ] {
            let made = function.apply(text, &FormatSettings::default()).unwrap();
            assert_eq!(*made, expected, "{function:?} {text}");
        }
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
