//! Time zones: names of the IANA database and POSIX specifications, resolved as the server does. Knows no abbreviation.

use jiff::{
    Timestamp,
    civil::DateTime,
    tz::{AmbiguousOffset, TimeZone},
};

use super::calendar::{CYCLE_DAYS, EPOCH_UNIX_SECONDS};

/// Seconds of the 400 years after which the calendar repeats.
const CYCLE: i64 = CYCLE_DAYS * 86_400;
/// 9000-01-01 in seconds from 2000: what is later is looked up so many cycles earlier.
const FAR: i64 = 7_000 * 365 * 86_400;

/// 2020-01-01 in seconds of the Unix epoch.
const SETTLED_SINCE: i64 = 1_577_836_800;

/// A time zone. Offsets are seconds east of UTC, times are seconds from 2000-01-01.
#[derive(Clone, Debug)]
pub(super) enum Zone {
    /// An offset and its abbreviation.
    Fixed(i64, String),
    /// With the abbreviations of a POSIX specification, winter's and summer's, in place of the zone's own.
    Named(TimeZone, Option<[String; 2]>),
}

/// Changes of a zone's offset that are looked at; a rule goes on for ever.
const MOST_CHANGES: usize = 1_000;

/// What an abbreviation means in a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The zone has never used it.
    None,
    /// Seconds east of UTC and whether it is summer time, whenever it was used.
    One(i64, bool),
    /// Not always the same.
    ByDate,
    /// It is used, and cannot be told here.
    Unknown,
}

impl Zone {
    /// A zone's name in any case, or a POSIX specification (`<+03>-03`, `UTC-3`). A specification with daylight
    /// saving must state its rule.
    pub(super) fn find(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("UTC") || name.eq_ignore_ascii_case("GMT") {
            return Some(Self::Fixed(0, name.to_ascii_uppercase()));
        }
        let looks_like_a_name = name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"/_+-".contains(&byte));
        if looks_like_a_name
            && !name.is_empty()
            && let Ok(zone) = jiff::tz::db().get(name)
        {
            return Some(Self::Named(zone, None));
        }
        posix(name)
    }

    /// The offset in force at an instant.
    pub(super) fn offset_at(&self, instant: i64) -> Option<i64> {
        match self {
            Self::Fixed(offset, _) => Some(*offset),
            Self::Named(zone, _) => {
                let unix = near(instant).checked_add(EPOCH_UNIX_SECONDS)?;
                let at = Timestamp::from_second(unix).ok()?;
                Some(i64::from(zone.to_offset(at).seconds()))
            }
        }
    }

    /// The abbreviation in force at an instant.
    pub(super) fn abbreviation_at(&self, instant: i64) -> Option<String> {
        match self {
            Self::Fixed(_, name) => Some(name.clone()),
            Self::Named(zone, names) => {
                let unix = near(instant).checked_add(EPOCH_UNIX_SECONDS)?;
                let info = zone.to_offset_info(Timestamp::from_second(unix).ok()?);
                Some(match names {
                    Some([winter, _]) if !info.dst().is_dst() => winter.clone(),
                    Some([_, summer]) => summer.clone(),
                    None => info.abbreviation().to_owned(),
                })
            }
        }
    }

    /// Whether the zone has ever used an abbreviation, in upper case.
    pub(super) fn knows(&self, abbreviation: &str) -> bool {
        match self {
            Self::Fixed(_, name) => name == abbreviation,
            Self::Named(_, Some(names)) => names.iter().any(|name| name == abbreviation),
            Self::Named(zone, None) => {
                zone.to_offset_info(Timestamp::MIN).abbreviation() == abbreviation
                    || zone
                        .following(Timestamp::MIN)
                        .take(MOST_CHANGES)
                        .any(|change| change.abbreviation() == abbreviation)
            }
        }
    }

    /// The offset that an abbreviation of this zone, in upper case, means at a local time: that of its last use until
    /// then, else of its first use after.
    pub(super) fn offset_of_abbreviation(&self, abbreviation: &str, local: i64) -> Option<i64> {
        let offset = self.offset_of(local)?;
        let Self::Named(zone, None) = self else {
            return Some(offset);
        };
        let unix = near(local.checked_sub(offset)?).checked_add(EPOCH_UNIX_SECONDS)?;
        let at = Timestamp::from_second(unix).ok()?;
        // The change at this very second counts as past.
        let behind = Timestamp::from_second(unix.checked_add(1)?).ok()?;
        let past = zone.preceding(behind).take(MOST_CHANGES);
        let future = zone.following(at).take(MOST_CHANGES);
        let found = past
            .chain(future)
            .find(|change| change.abbreviation() == abbreviation);
        Some(found.map_or(offset, |change| i64::from(change.offset().seconds())))
    }

    /// What an abbreviation, in upper case, means in this zone (`pg_timezone_abbrev_is_known`).
    pub(super) fn meaning(&self, abbreviation: &str) -> Meaning {
        if !self.knows(abbreviation) {
            return Meaning::None;
        }
        let zone = match self {
            Self::Fixed(offset, _) => return Meaning::One(*offset, false),
            // Winter's and summer's offsets are not told apart here.
            Self::Named(_, Some(_)) => return Meaning::Unknown,
            Self::Named(zone, None) => zone,
        };
        let first = zone.to_offset_info(Timestamp::MIN);
        let is_first = first.abbreviation() == abbreviation;
        let first = is_first.then(|| (first.offset(), first.dst().is_dst()));
        let changes = zone.following(Timestamp::MIN).take(MOST_CHANGES);
        let later = changes.filter(|change| change.abbreviation() == abbreviation);
        let later = later.map(|change| (change.offset(), change.dst().is_dst()));
        let mut meanings = first.into_iter().chain(later);
        match meanings.next() {
            None => Meaning::None,
            Some(one) if meanings.all(|other| other == one) => {
                Meaning::One(i64::from(one.0.seconds()), one.1)
            }
            Some(_) => Meaning::ByDate,
        }
    }

    /// The offset of a zone that never had another.
    pub(super) fn only_offset(&self) -> Option<i64> {
        self.offset_since(Timestamp::MIN)
    }

    /// The offset of a zone that has had no other since 2020: that of today, whichever day it is.
    pub(super) fn settled_offset(&self) -> Option<i64> {
        self.offset_since(Timestamp::from_second(SETTLED_SINCE).ok()?)
    }

    fn offset_since(&self, start: Timestamp) -> Option<i64> {
        match self {
            Self::Fixed(offset, _) => Some(*offset),
            Self::Named(zone, _) => {
                let offset = zone.to_offset(start);
                let stays = zone.following(start).all(|next| next.offset() == offset);
                stays.then(|| i64::from(offset.seconds()))
            }
        }
    }

    /// The offset meant by a local time. In the hour that a clock skips the offset before holds, in the hour
    /// that it repeats the one after.
    pub(super) fn offset_of(&self, local: i64) -> Option<i64> {
        match self {
            Self::Fixed(offset, _) => Some(*offset),
            Self::Named(zone, _) => {
                let offset = match zone.to_ambiguous_timestamp(civil(near(local))?).offset() {
                    AmbiguousOffset::Unambiguous { offset } => offset,
                    AmbiguousOffset::Gap { before, .. } => before,
                    AmbiguousOffset::Fold { after, .. } => after,
                };
                Some(i64::from(offset.seconds()))
            }
        }
    }
}

/// The same time of an earlier cycle, if it is beyond what the zone database answers for.
fn near(seconds: i64) -> i64 {
    if seconds < FAR {
        seconds
    } else {
        FAR - CYCLE + (seconds - FAR).rem_euclid(CYCLE)
    }
}

fn civil(local: i64) -> Option<DateTime> {
    let unix = local.checked_add(EPOCH_UNIX_SECONDS)?;
    Some(
        Timestamp::from_second(unix)
            .ok()?
            .to_zoned(TimeZone::UTC)
            .datetime(),
    )
}

/// Whether this is a POSIX specification with daylight saving but without a rule (`FOO5BAR`). The server has a default
/// rule, which depends on its installation.
pub(super) fn lacks_rule(name: &str) -> bool {
    let summer = skip_name(name).and_then(offset).map(|(_, rest)| rest);
    match summer
        .filter(|rest| !rest.contains(','))
        .and_then(skip_name)
    {
        Some("") => true,
        Some(rest) => offset(rest).is_some_and(|(_, rest)| rest.is_empty()),
        None => false,
    }
}

/// `name offset [name [offset] , rule]`. Names do not matter here. Offsets of POSIX are west of UTC.
fn posix(text: &str) -> Option<Zone> {
    let behind = skip_name(text)?;
    let (west, rest) = offset(behind)?;
    let winter_name = name_before(text, behind);
    if rest.is_empty() {
        return Some(Zone::Fixed(-west, winter_name));
    }
    let (head, rule) = rest.split_once(',')?;
    let summer_name = name_before(head, skip_name(head)?);
    let summer = match skip_name(head)? {
        "" => west - 3600,
        text => offset(text).filter(|(_, rest)| rest.is_empty())?.0,
    };
    let specification = format!("<STD>{}<DST>{},{rule}", clock(west), clock(summer));
    let zone = TimeZone::posix(&specification).ok()?;
    Some(Zone::Named(zone, Some([winter_name, summer_name])))
}

/// The abbreviation before what follows it, as the server has it: in upper case without brackets.
fn name_before(text: &str, behind: &str) -> String {
    let name = &text[..text.len() - behind.len()];
    name.trim_start_matches('<')
        .trim_end_matches('>')
        .to_ascii_uppercase()
}

fn clock(west: i64) -> String {
    let sign = if west < 0 { '-' } else { '+' };
    let west = west.abs();
    format!(
        "{sign}{}:{:02}:{:02}",
        west / 3600,
        west / 60 % 60,
        west % 60
    )
}

/// What follows a zone abbreviation, quoted by angle brackets or not. `None` if there is none.
fn skip_name(text: &str) -> Option<&str> {
    if let Some(quoted) = text.strip_prefix('<') {
        return quoted.split_once('>').map(|(_, rest)| rest);
    }
    let end = text
        .find(|c: char| c.is_ascii_digit() || matches!(c, ',' | '+' | '-'))
        .unwrap_or(text.len());
    (end > 0).then(|| &text[end..])
}

/// `[+-]hh[:mm[:ss]]` and what follows.
fn offset(text: &str) -> Option<(i64, &str)> {
    let (sign, mut rest) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let mut seconds = 0;
    for (unit, most) in [(3600, 167), (60, 59), (1, 60)] {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let value: i64 = rest[..digits].parse().ok().filter(|value| *value <= most)?;
        seconds += value * unit;
        rest = &rest[digits..];
        match rest.strip_prefix(':') {
            Some(after) if unit > 1 => rest = after,
            _ => break,
        }
    }
    Some((sign * seconds, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_posix_specifications() {
        let offset = |name: &str| Zone::find(name).and_then(|zone| zone.offset_at(0));
        assert_eq!(offset("<+03>-03"), Some(10_800));
        assert_eq!(offset("UTC-3"), Some(10_800));
        assert_eq!(offset("<-0330>+03:30"), Some(-12_600));
        assert_eq!(offset("FOO5:06:07"), Some(-18_367));
        assert_eq!(offset("EST5EDT,M3.2.0,M11.1.0"), Some(-18_000));
        assert_eq!(offset("europe/BERLIN"), Some(3600));
        assert_eq!(offset("FOO5BAR"), None);
        assert!(
            lacks_rule("FOO5BAR")
                && lacks_rule("FOO5BAR4")
                && !lacks_rule("UTC-3")
                && !lacks_rule("Mars/City")
        );
        assert_eq!(offset("Nowhere/Land"), None);
        assert_eq!(offset(""), None);
        assert_eq!(offset("UTC+999"), None);
    }

    #[test]
    fn resolves_skipped_and_repeated_hours() {
        let berlin = Zone::find("Europe/Berlin").unwrap();
        let seconds = |days: i64, hour: i64, minute: i64| days * 86_400 + hour * 3600 + minute * 60;
        // 2021-03-28 and 2021-10-31.
        assert_eq!(berlin.offset_of(seconds(7757, 2, 30)), Some(3600));
        assert_eq!(berlin.offset_of(seconds(7974, 2, 30)), Some(3600));
        assert_eq!(berlin.offset_of(seconds(7974, 1, 30)), Some(7200));
        // Far in the future, the rule goes on.
        assert_eq!(
            berlin.offset_at(seconds(7757 + 146_097 * 100, 12, 0)),
            Some(7200)
        );
    }

    #[test]
    fn abbreviations_mean_what_they_were_used_for() {
        let meaning = |zone: &str, name: &str| Zone::find(zone).unwrap().meaning(name);
        assert_eq!(meaning("Europe/Berlin", "CET"), Meaning::One(3600, false));
        assert_eq!(meaning("Europe/Berlin", "CEST"), Meaning::One(7200, true));
        assert_eq!(
            meaning("America/New_York", "EDT"),
            Meaning::One(-14_400, true)
        );
        assert_eq!(meaning("Europe/Moscow", "MSK"), Meaning::ByDate);
        assert_eq!(meaning("Europe/Berlin", "EST"), Meaning::None);
        assert_eq!(meaning("UTC", "UTC"), Meaning::One(0, false));
        assert_eq!(meaning("EST5EDT,M3.2.0,M11.1.0", "EDT"), Meaning::Unknown);
    }
}
