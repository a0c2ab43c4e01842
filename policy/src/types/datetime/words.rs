//! The words that dates and times know, besides zones.

/// What a word means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Month(i64),
    Weekday,
    /// `at`, `on`.
    Nothing,
    Am,
    Pm,
    Ad,
    Bc,
    /// `T` between date and time.
    IsoTime,
    Epoch,
    Infinity,
    MinusInfinity,
    /// Midnight UTC.
    Allballs,
    /// `now`: it needs a clock.
    Now,
    /// `today`, `tomorrow`, `yesterday`: they need a calendar.
    Today,
    /// `dst` after a zone.
    SummerTime,
    /// `J` before a Julian day.
    Julian,
    /// Labels of the form `y2001m02d04`, which newer servers do not read.
    Label,
}

/// The meaning of a word in lower case.
pub(super) fn find(word: &str) -> Option<Word> {
    Some(match word {
        "jan" | "january" => Word::Month(1),
        "feb" | "february" => Word::Month(2),
        "mar" | "march" => Word::Month(3),
        "apr" | "april" => Word::Month(4),
        "may" => Word::Month(5),
        "jun" | "june" => Word::Month(6),
        "jul" | "july" => Word::Month(7),
        "aug" | "august" => Word::Month(8),
        "sep" | "sept" | "september" => Word::Month(9),
        "oct" | "october" => Word::Month(10),
        "nov" | "november" => Word::Month(11),
        "dec" | "december" => Word::Month(12),
        "sun" | "sunday" | "mon" | "monday" | "tue" | "tues" | "tuesday" | "wed" | "weds"
        | "wednesday" | "thu" | "thur" | "thurs" | "thursday" | "fri" | "friday" | "sat"
        | "saturday" => Word::Weekday,
        "at" | "on" => Word::Nothing,
        "am" => Word::Am,
        "pm" => Word::Pm,
        "ad" => Word::Ad,
        "bc" => Word::Bc,
        "t" => Word::IsoTime,
        "epoch" => Word::Epoch,
        "infinity" => Word::Infinity,
        "-infinity" => Word::MinusInfinity,
        "allballs" => Word::Allballs,
        "now" => Word::Now,
        "today" | "tomorrow" | "yesterday" => Word::Today,
        "dst" => Word::SummerTime,
        "j" | "jd" | "julian" => Word::Julian,
        "d" | "dow" | "doy" | "h" | "isodow" | "isoyear" | "m" | "mm" | "s" | "y" => Word::Label,
        _ => return None,
    })
}
