//! The words that intervals know.

/// A unit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Microsecond,
    Millisecond,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Year,
    Decade,
    Century,
    Millennium,
}

/// What a word means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Unit(Unit),
    Ago,
    /// A unit that no number may have: `quarter`, `timezone`.
    Useless,
}

/// The server looks at so many characters of a word.
const SIGNIFICANT: usize = 10;

/// The meaning of a word in lower case.
pub(super) fn find(word: &str) -> Option<Word> {
    use Unit::*;
    let word = word.get(..SIGNIFICANT).unwrap_or(word);
    Some(Word::Unit(match word {
        "ago" => return Some(Word::Ago),
        "us" | "usec" | "usecond" | "useconds" | "usecs" | "microsecon" => Microsecond,
        "ms" | "msec" | "msecond" | "mseconds" | "msecs" | "millisecon" => Millisecond,
        "s" | "sec" | "second" | "seconds" | "secs" => Second,
        "m" | "min" | "mins" | "minute" | "minutes" => Minute,
        "h" | "hour" | "hours" | "hr" | "hrs" => Hour,
        "d" | "day" | "days" => Day,
        "w" | "week" | "weeks" => Week,
        "mon" | "mons" | "month" | "months" => Month,
        "y" | "year" | "years" | "yr" | "yrs" => Year,
        "dec" | "decade" | "decades" | "decs" => Decade,
        "c" | "cent" | "centuries" | "century" => Century,
        "mil" | "millennia" | "millennium" | "mils" => Millennium,
        "qtr" | "quarter" | "timezone" | "timezone_h" | "timezone_m" => return Some(Word::Useless),
        _ => return None,
    }))
}
