//! Checks one value against what its key takes. Reports what is wrong; never repeats a secret.

use std::{path::PathBuf, time::Duration};

use toml::{
    Spanned,
    de::{DeInteger, DeTable, DeValue},
};

use crate::{
    form::{Form, duration, show_duration},
    known::{Key, Kind, Word},
    nearest::nearest,
    reader::Reader,
    source::{shown, start},
};

/// A checked value.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// Text, a word, or a secret as written.
    Text(String),
    /// A resolved path.
    File(PathBuf),
    /// A switch.
    Switch(bool),
    /// A number within its bounds.
    Count(u64),
    /// A duration within its bounds.
    Time(Duration),
    /// Words or names, each once.
    Words(Vec<String>),
    /// The key that stands in the table, and its value.
    Choice(&'static str, Box<Value>),
}

/// A key and where it stands, for messages.
#[derive(Clone, Copy)]
struct Subject<'p> {
    key: &'static Key,
    place: &'p str,
}

impl Subject<'_> {
    /// `` `ttl` in [cache] ``
    fn name(self) -> String {
        format!("`{}`{}", self.key.name, self.place)
    }

    /// `` write `ttl = "5m"` ``
    fn sample(self) -> String {
        format!("write `{} = {}`", self.key.name, self.key.need.sample())
    }
}

impl Reader<'_> {
    /// The value of a key and where it stands; `None` if it is wrong, and then that was reported.
    pub(crate) fn value(
        &mut self,
        key: &'static Key,
        value: &Spanned<DeValue<'_>>,
        place: &str,
    ) -> Option<(Value, usize)> {
        let subject = Subject { key, place };
        let at = start(value);
        let checked = match (&key.kind, value.get_ref()) {
            (Kind::Text(form), DeValue::String(text)) => self.text(subject, *form, text, at),
            (Kind::Secret, DeValue::String(text)) => self.secret(subject, text, at),
            (Kind::File, DeValue::String(text)) => self.path(subject, text, at),
            (Kind::Switch, DeValue::Boolean(on)) => Some(Value::Switch(*on)),
            (Kind::Count { min, max, why }, DeValue::Integer(number)) => {
                self.count(subject, *min..=*max, why, number, at)
            }
            (Kind::Time { min, max }, DeValue::String(text)) => {
                self.time(subject, *min..=*max, text, at)
            }
            (Kind::OneOf(_) | Kind::Variant(_), DeValue::String(word)) => {
                self.word(subject, word, at).map(Value::Text)
            }
            (Kind::SomeOf(_) | Kind::Names(_), DeValue::Array(list)) => self.list(subject, list),
            (Kind::Choice(keys), DeValue::Table(table)) => self.choice(subject, keys, table, at),
            (kind, other) => {
                let message = format!(
                    "{} must be {}, not {}",
                    subject.name(),
                    kind.noun(),
                    with_article(other)
                );
                self.report(at, message, subject.sample());
                None
            }
        };
        checked.map(|value| (value, at))
    }

    fn text(&mut self, subject: Subject<'_>, form: Form, text: &str, at: usize) -> Option<Value> {
        match form.check(text) {
            Ok(()) => Some(Value::Text(text.to_owned())),
            Err(misfit) => {
                let message = format!("{} {}", subject.name(), misfit.what);
                self.report(at, message, misfit.cure.unwrap_or_else(|| subject.sample()));
                None
            }
        }
    }

    fn secret(&mut self, subject: Subject<'_>, text: &str, at: usize) -> Option<Value> {
        if let Some(name) = text.strip_prefix("env:") {
            if name.is_empty() || name.contains(['=', '\0']) {
                let message = format!(
                    "{} must name an environment variable after `env:`",
                    subject.name()
                );
                self.report(
                    at,
                    message,
                    format!("write `{} = \"env:PGVEIL_SECRET\"`", subject.key.name),
                );
                return None;
            }
            return Some(Value::Text(text.to_owned()));
        }
        // The value may be a secret: no message repeats it.
        self.text(subject, Form::Any, text, at)
    }

    fn path(&mut self, subject: Subject<'_>, text: &str, at: usize) -> Option<Value> {
        self.text(subject, Form::Any, text, at)?;
        Some(Value::File(self.resolve(text)))
    }

    fn count(
        &mut self,
        subject: Subject<'_>,
        bounds: std::ops::RangeInclusive<u64>,
        why: &str,
        number: &DeInteger<'_>,
        at: usize,
    ) -> Option<Value> {
        // Anything too long for i128 is out of bounds whatever it is.
        let read = i128::from_str_radix(number.as_str(), number.radix()).ok();
        let count = read
            .and_then(|read| u64::try_from(read).ok())
            .filter(|count| bounds.contains(count));
        if count.is_none() {
            let (min, max) = (bounds.start(), bounds.end());
            let because = if why.is_empty() {
                String::new()
            } else {
                format!(" ({why})")
            };
            let message = format!(
                "{} must be a whole number from {min} to {max}{because}",
                subject.name()
            );
            self.report(at, message, subject.sample());
        }
        count.map(Value::Count)
    }

    fn time(
        &mut self,
        subject: Subject<'_>,
        bounds: std::ops::RangeInclusive<Duration>,
        text: &str,
        at: usize,
    ) -> Option<Value> {
        let Some(time) = duration(text) else {
            let message = format!(
                "{} must be a whole number and a unit of ms, s, m, h, d, not `{}`",
                subject.name(),
                shown(text)
            );
            self.report(at, message, subject.sample());
            return None;
        };
        if !bounds.contains(&time) {
            let (min, max) = (show_duration(*bounds.start()), show_duration(*bounds.end()));
            let message = format!("{} must be from {min} to {max}", subject.name());
            self.report(at, message, subject.sample());
            return None;
        }
        Some(Value::Time(time))
    }

    /// One of the key's words, supported today.
    fn word(&mut self, subject: Subject<'_>, text: &str, at: usize) -> Option<String> {
        let words = subject.key.kind.words();
        let Some(word) = words.iter().find(|word| word.word == text) else {
            self.unknown_word(subject, &words, text, at);
            return None;
        };
        if let Some(cure) = word.support.later() {
            let message = format!(
                "\"{}\" for {} is not supported yet",
                word.word,
                subject.name()
            );
            self.report(at, message, cure);
            return None;
        }
        Some(text.to_owned())
    }

    fn unknown_word(
        &mut self,
        subject: Subject<'_>,
        words: &[&'static Word],
        text: &str,
        at: usize,
    ) {
        let guess = nearest(text, words.iter().map(|word| word.word));
        let message = format!("{} does not know \"{}\"", subject.name(), shown(text));
        if let Some(guess) = guess {
            self.report(
                at,
                format!("{message}; did you mean \"{guess}\"?"),
                format!("write \"{guess}\""),
            );
        } else {
            self.report(
                at,
                message,
                format!("it must be {}", subject.key.kind.noun()),
            );
        }
    }

    fn list(&mut self, subject: Subject<'_>, list: &[Spanned<DeValue<'_>>]) -> Option<Value> {
        let mut words: Vec<String> = Vec::with_capacity(list.len());
        let mut right = true;
        for item in list {
            match self.item(subject, item) {
                Some(word) if words.contains(&word) => {
                    let message = format!("{} names \"{}\" twice", subject.name(), shown(&word));
                    self.report(start(item), message, "keep one of the two");
                }
                Some(word) => words.push(word),
                None => right = false,
            }
        }
        right.then_some(Value::Words(words))
    }

    fn item(&mut self, subject: Subject<'_>, item: &Spanned<DeValue<'_>>) -> Option<String> {
        let at = start(item);
        let DeValue::String(text) = item.get_ref() else {
            let noun = subject.key.kind.noun();
            let message = format!(
                "{} must be {noun}, and holds {}",
                subject.name(),
                with_article(item.get_ref())
            );
            self.report(at, message, subject.sample());
            return None;
        };
        if matches!(subject.key.kind, Kind::SomeOf(_)) {
            return self.word(subject, text, at);
        }
        self.text(subject, Form::Any, text, at)
            .map(|_| text.to_string())
    }

    fn choice(
        &mut self,
        subject: Subject<'_>,
        keys: &'static [Key],
        table: &DeTable<'_>,
        at: usize,
    ) -> Option<Value> {
        let place = format!(" in {}", subject.name());
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| start(key));
        let mut chosen = None;
        for (name, value) in &entries {
            let Some(key) = keys.iter().find(|key| key.name == name.get_ref()) else {
                let guess = nearest(name.get_ref(), keys.iter().map(|key| key.name));
                let guess = guess
                    .map(|near| format!("; did you mean `{near}`?"))
                    .unwrap_or_default();
                let message = format!("unknown key `{}`{place}{guess}", shown(name.get_ref()));
                self.report(start(name), message, subject.sample());
                return None;
            };
            chosen = Some((key.name, self.value(key, value, &place)?.0));
        }
        if entries.len() != 1 {
            let names: Vec<_> = keys.iter().map(|key| format!("`{}`", key.name)).collect();
            let message = format!(
                "{} must hold exactly one of {}",
                subject.name(),
                names.join(", ")
            );
            self.report(at, message, subject.sample());
            return None;
        }
        chosen.map(|(name, value)| Value::Choice(name, Box::new(value)))
    }
}

/// The kind of a TOML value in a sentence.
fn with_article(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
