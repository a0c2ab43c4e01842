//! Tables for people: columns as wide as they must be, no lines; colours where a terminal is.

use std::{env, io::IsTerminal, time::Duration};

/// Words of states, by what they want of whoever reads them.
const WELL: [&str; 6] = ["open", "active", "completed", "done", "works", "follows"];
const SOON: [&str; 8] = [
    "decrypt_only",
    "queued",
    "running",
    "paused",
    "disabled",
    "deactivated",
    "unavailable",
    "locked",
];
const WRONG: [&str; 7] = [
    "sealed",
    "failed",
    "expired",
    "refused",
    "denied",
    "broken",
    "destroyed",
];

const BOLD: &str = "1";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";

/// `1 scope`, `2 scopes`.
pub(super) fn counted(count: impl Into<u64>, what: &str) -> String {
    match count.into() {
        1 => format!("1 {what}"),
        several => format!("{several} {what}s"),
    }
}

/// A time that is left: `3d 4h`, `2h 5m`, `1m 10s`, `9s`.
pub(super) fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        86_400.. => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
        3600.. => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        60.. => format!("{}m {}s", seconds / 60, seconds % 60),
        _ => format!("{seconds}s"),
    }
}

/// A version of a KEK, without the name of the KEK where a provider's word for it begins with that; `-` where it says no more,
/// as AWS, whose wrappings name the key only.
pub(super) fn version_of(kek: &str, version: &str) -> String {
    if version == kek {
        return "-".to_owned();
    }
    let short = version
        .strip_prefix(kek)
        .and_then(|rest| rest.rsplit('/').next());
    short
        .filter(|short| !short.is_empty())
        .unwrap_or(version)
        .to_owned()
}

/// Prints a heading and rows. All rows have as many cells as the heading.
pub(super) fn print(heading: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let heading: Vec<String> = heading.iter().map(|cell| (*cell).to_owned()).collect();
    let rows: Vec<Vec<String>> = rows
        .map(|row| row.iter().map(|cell| plain(cell)).collect())
        .collect();
    print!("{}", laid_out(&heading, &rows, has_colours()));
}

/// <https://no-color.org>
fn has_colours() -> bool {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    std::io::stdout().is_terminal()
        && set("NO_COLOR").is_none()
        && set("TERM").is_none_or(|term| term != "dumb")
}

/// Names of roles and keys are others' words: none of them moves the cursor.
fn plain(cell: &str) -> String {
    let shown = |c: char| {
        if c.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    cell.chars().map(shown).collect()
}

fn colour(cell: &str) -> Option<&'static str> {
    [(WELL.as_slice(), GREEN), (&SOON, YELLOW), (&WRONG, RED)]
        .into_iter()
        .find_map(|(words, colour)| words.contains(&cell).then_some(colour))
}

fn laid_out(heading: &[String], rows: &[Vec<String>], colours: bool) -> String {
    let all = || std::iter::once(heading).chain(rows.iter().map(Vec::as_slice));
    let width = |column: usize| {
        let cells = all().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let mut out = String::new();
    for (at, row) in all().enumerate() {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let how = if at == 0 { Some(BOLD) } else { colour(cell) };
            match how.filter(|_| colours && !cell.is_empty()) {
                Some(how) => line += &format!("\u{1b}[{how}m{cell}\u{1b}[0m"),
                None => line.push_str(cell),
            }
            let missing = width.saturating_sub(cell.chars().count());
            line.extend(std::iter::repeat_n(' ', missing + 2));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        assert_eq!(
            laid_out(
                &row(["A", "B"]),
                &[row(["größer", "x"]), row(["", "y"])],
                false
            ),
            "A       B\ngrößer  x\n        y\n"
        );
    }

    #[test]
    fn a_version_is_shown_without_its_key() {
        let google = "projects/p/locations/l/keyRings/r/cryptoKeys/k";
        let version = format!("{google}/cryptoKeyVersions/7");
        assert_eq!(version_of(google, &version), "7");
        assert_eq!(version_of("alias/acme", "arn:aws:kms:x"), "arn:aws:kms:x");
        assert_eq!(version_of("arn:aws:kms:x", "arn:aws:kms:x"), "-");
        assert_eq!(version_of("platform", "2"), "2");
    }

    #[test]
    fn colours_take_no_room_and_words_of_others_no_effect() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        assert_eq!(
            laid_out(&row(["A", "B"]), &[row(["sealed", "x"])], true),
            "\u{1b}[1mA\u{1b}[0m       \u{1b}[1mB\u{1b}[0m\n\u{1b}[31msealed\u{1b}[0m  x\n"
        );
        assert_eq!(plain("a\u{1b}[2J\nb"), "a\u{fffd}[2J\u{fffd}b");
    }
}
