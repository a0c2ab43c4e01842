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
    /// `now`, `today`, `tomorrow`, `yesterday`: they need a clock.
    Clock,
    /// `dst` after a zone.
    SummerTime,
    /// Labels of the form `y2001m02d04` and `J2451187`.
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
        "now" | "today" | "tomorrow" | "yesterday" => Word::Clock,
        "dst" => Word::SummerTime,
        "d" | "dow" | "doy" | "h" | "isodow" | "isoyear" | "j" | "jd" | "julian" | "m" | "mm"
        | "s" | "y" => Word::Label,
        _ => return None,
    })
}
