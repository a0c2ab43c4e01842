//! The decimal digits of a float and the notation they are shown in, as the server chooses both.

use super::Float;

/// C's `%.*g`: at most so many digits, trailing zeros dropped.
pub(in crate::types) fn rounded(value: f64, digits: i32) -> String {
    let digits = digits.max(1);
    notation(&format!("{value:.*e}", digits as usize - 1), digits)
}

/// Shortest digits, in Rust's exponent form, that lie strictly between the midpoints to the neighbours. Rust also takes
/// a decimal on a midpoint if it reads back; Postgres does not rely on the reader's rule for ties and goes on.
pub(super) fn shortest(float: Float) -> String {
    let text = match float {
        Float::Single(value) => format!("{value:e}"),
        Float::Double(value) => format!("{value:e}"),
    };
    if !is_midpoint(float, &text) {
        return even_on_tie(float, text);
    }
    let digits = text
        .bytes()
        .take_while(|byte| *byte != b'e')
        .filter(u8::is_ascii_digit)
        .count();
    (digits..17)
        .map(|decimals| format!("{:.decimals$e}", float.wide()))
        .find(|longer| !is_midpoint(float, longer))
        .unwrap_or(text)
}

/// Of two decimals that are equally near Rust takes the greater one, Postgres the one with the even last digit.
fn even_on_tie(float: Float, text: String) -> String {
    let Some((mantissa, rest)) = text.split_once('e') else {
        return text;
    };
    let Some(last @ (b'1' | b'3' | b'5' | b'7' | b'9')) = mantissa.bytes().last() else {
        return text;
    };
    let Some((digits, power)) = integer_and_power(&text) else {
        return text;
    };
    let (integer, binary) = float.parts();
    if !equal(digits * 10 - 5, power - 1, integer, binary) {
        return text;
    }
    let even = format!(
        "{}{}e{rest}",
        &mantissa[..mantissa.len() - 1],
        char::from(last - 1)
    );
    // Below a power of two it may be nearer to the neighbour.
    let reads_back = match float {
        Float::Single(value) => even.parse() == Ok(value),
        Float::Double(value) => even.parse() == Ok(value),
    };
    if reads_back && !is_midpoint(float, &even) {
        even
    } else {
        text
    }
}

/// Whether a decimal (up to 17 digits) is exactly halfway between a float and its neighbour.
fn is_midpoint(float: Float, scientific: &str) -> bool {
    let (mantissa, exponent) = float.parts();
    let Some((digits, power)) = integer_and_power(scientific) else {
        return false;
    };
    if mantissa == 0 {
        return false;
    }
    let above = (2 * mantissa + 1, exponent - 1);
    let below = (2 * mantissa - 1, exponent - 1);
    // The neighbour below a power of two is closer.
    let below = if mantissa.is_power_of_two() {
        (4 * mantissa - 1, exponent - 2)
    } else {
        below
    };
    [above, below]
        .into_iter()
        .any(|(integer, binary)| equal(digits, power, integer, binary))
}

/// `d.dde±x` as an integer times a power of ten.
fn integer_and_power(scientific: &str) -> Option<(u128, i32)> {
    let (mantissa, exponent) = scientific.split_once('e')?;
    let (whole, fraction) = mantissa
        .trim_start_matches('-')
        .split_once('.')
        .unwrap_or((mantissa.trim_start_matches('-'), ""));
    let digits = format!("{whole}{fraction}").parse().ok()?;
    Some((
        digits,
        exponent.parse::<i32>().ok()? - fraction.len() as i32,
    ))
}

/// Whether `digits × 10^power = integer × 2^binary`.
fn equal(digits: u128, power: i32, integer: u128, binary: i32) -> bool {
    let fives = 5_u128.checked_pow(power.unsigned_abs());
    let (left, right) = if power >= 0 {
        (
            fives.and_then(|fives| digits.checked_mul(fives)),
            Some(integer),
        )
    } else {
        (
            Some(digits),
            fives.and_then(|fives| integer.checked_mul(fives)),
        )
    };
    // What overflows has more odd digits than the other side can have.
    let (Some(left), Some(right)) = (left, right) else {
        return false;
    };
    let twos = |n: u128| n.trailing_zeros() as i32;
    left != 0
        && left >> twos(left) == right >> twos(right)
        && twos(left) + power == twos(right) + binary
}

/// Rewrites `d.ddde±x` with trailing zeros dropped: fixed notation for exponents from -4 to below `threshold`.
pub(super) fn notation(scientific: &str, threshold: i32) -> String {
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    let digits = match digits.trim_end_matches('0') {
        "" => "0",
        trimmed => trimmed,
    };
    if exponent < -4 || exponent >= threshold {
        let point = if digits.len() > 1 { "." } else { "" };
        let exponent_sign = if exponent < 0 { '-' } else { '+' };
        return format!(
            "{sign}{}{point}{}e{exponent_sign}{:02}",
            &digits[..1],
            &digits[1..],
            exponent.abs()
        );
    }
    if exponent < 0 {
        let zeros = "0".repeat((-exponent - 1) as usize);
        return format!("{sign}0.{zeros}{digits}");
    }
    let whole = exponent as usize + 1;
    if digits.len() <= whole {
        return format!("{sign}{digits}{}", "0".repeat(whole - digits.len()));
    }
    format!("{sign}{}.{}", &digits[..whole], &digits[whole..])
}
