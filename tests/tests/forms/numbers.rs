//! Numbers, truth values and UUIDs as texts: at the edges of their types, in every base, with signs, blanks and underscores in
//! right and wrong places.

use super::grammar::Grammar;

impl Grammar {
    pub(super) fn truth(&mut self) -> String {
        let word = self.pick(&[
            "true", "false", "t", "f", "yes", "no", "y", "n", "on", "off", "of", "o", "1", "0",
            "TRUE", "tr", "fals", "ye", "2", "", "truee", "01",
        ]);
        self.surrounded(word)
    }

    /// Up to `most`, and around the edges of the type of so many bits.
    pub(super) fn integer(&mut self, bits: u32) -> String {
        let edge = 1_i128 << (bits - 1);
        let value = match self.below(6) {
            0 => edge,
            1 => edge - 1,
            2 => edge + 1,
            3 => edge * 10,
            _ => i128::from(self.next() >> self.below(64)),
        };
        let sign = self.pick(&["", "", "-", "+", "--", "- "]);
        let digits = match self.below(8) {
            0 => format!("0x{value:x}"),
            1 => format!("0X{value:X}"),
            2 => format!("0o{value:o}"),
            3 => format!("0b{value:b}"),
            4 => format!("000{value}"),
            _ => value.to_string(),
        };
        let digits = self.underscored(digits);
        self.surrounded(format!("{sign}{digits}"))
    }

    pub(super) fn float(&mut self, any: f64) -> String {
        let text = match self.below(6) {
            0 => any.to_string(),
            1 => format!("{any:e}"),
            2 => self.plain_decimal(),
            3 => {
                let digits = self.digits(25);
                format!(
                    "{}.{digits}e{}",
                    self.below(10),
                    self.below(700) as i64 - 350
                )
            }
            _ => self.pick(&[
                "NaN",
                "nan",
                "+NaN",
                "-NaN",
                "Infinity",
                "+Infinity",
                "-inf",
                "inf",
                "+inf",
                "infinit",
                "0",
                "-0",
                "-0.0",
                "1e308",
                "1.7976931348623157e308",
                "1.7976931348623159e308",
                "1e309",
                "1e400",
                "-1e400",
                "4.9e-324",
                "2.4e-324",
                "1e-400",
                "1e-45",
                "7e-46",
                "3.4028235e38",
                "3.4028236e38",
                "1e39",
                "0x1p3",
                "0x1F",
                "0x",
                "1e",
                "1e+",
                ".",
                "-.",
                "1.",
                ".5",
                "1e5.5",
                "1_000.5",
                "16777217",
                "9007199254740993",
                "0.1",
                "NaN(1)",
                "1d",
                "1f",
                "",
            ]),
        };
        self.surrounded(text)
    }

    pub(super) fn decimal(&mut self) -> String {
        let text = self.plain_decimal();
        let text = self.underscored(text);
        self.surrounded(text)
    }

    fn plain_decimal(&mut self) -> String {
        let sign = self.pick(&["", "", "-", "+"]);
        let (whole, part) = (self.digits(20), self.digits(20));
        match self.below(9) {
            0 => format!("{sign}{whole}"),
            1 | 2 => format!("{sign}{}.{part}", &whole[..1.max(whole.len() / 4)]),
            3 => format!("{sign}.{part}"),
            4 => self.pick(&[
                "NaN",
                "nan ",
                "inf",
                "-Infinity",
                "+inf",
                "infinity",
                "-NaN",
                "0.00",
                "-0.00",
                "1e5",
                "1e-5",
                "99999999.994",
                "99999999.995",
                "-99999999.995",
                "99949",
                "99950",
                "-99951",
                "9999.5",
                "0.099995",
                "0.0999949",
                "1e131071",
                "1e131072",
                "1e131073",
                "1e-16383",
                "1e-16384",
                "1e-16385",
                "1e400",
                "1e-400",
                "1e2147483648",
                "1e-2147483649",
                "1e",
                "1e+",
                "1e+5",
                ".",
                "-",
                "+.",
                "1.",
                "1..2",
                "1e5e5",
                "0x1F",
                "0b101",
                "0o17",
                "0xg",
                "0x",
                "0x_1",
                "0x1.5",
                "0xFFFFFFFFFFFFFFFFFFFF",
            ]),
            // Rounding at a digit that modifiers cut off.
            5 => format!(
                "{sign}{}.{}5",
                self.below(1_000_000),
                "9".repeat(self.below(6) as usize)
            ),
            6 => format!(
                "{sign}{}{}",
                self.pick(&["4", "49", "5", "50", "9949", "995"]),
                self.digits(4)
            ),
            7 => format!("{sign}0.{}{part}", "0".repeat(self.below(30) as usize)),
            _ => format!("{sign}{whole}.{part}e{}", self.below(60) as i64 - 30),
        }
    }

    pub(super) fn uuid(&mut self) -> String {
        let hex = format!("{:016x}{:016x}", self.next(), self.next());
        let hex = if self.below(3) == 0 {
            hex.to_uppercase()
        } else {
            hex
        };
        let groups = |sizes: &[usize]| {
            let mut rest = hex.as_str();
            let mut parts = Vec::new();
            for size in sizes {
                let (part, after) = rest.split_at(*size);
                parts.push(part);
                rest = after;
            }
            parts.join("-")
        };
        match self.below(7) {
            0 => hex.clone(),
            1 => format!("{{{}}}", groups(&[8, 4, 4, 4, 12])),
            2 => groups(&[4, 4, 4, 4, 4, 4, 4, 4]),
            3 => groups(&[2, 6, 4, 4, 4, 12]),
            4 => format!("{{{hex}}}"),
            _ => groups(&[8, 4, 4, 4, 12]),
        }
    }

    /// An underscore or two, now and then.
    fn underscored(&mut self, mut text: String) -> String {
        for _ in 0..self.below(12).saturating_sub(9) {
            let at = self.below(text.len() as u64 + 1) as usize;
            if text.is_char_boundary(at) {
                text.insert(at, '_');
            }
        }
        text
    }

    /// Blanks around it, now and then.
    fn surrounded(&mut self, text: String) -> String {
        match self.below(10) {
            0 => format!(
                "{}{text}",
                self.pick(&[" ", "\t", "\n", "\r", "\u{b}", "\u{c}", "\u{a0}"])
            ),
            1 => format!(
                "{text}{}",
                self.pick(&[" ", "\t\n", "\r", "\u{b}", "\u{c}", "\u{a0}", " x"])
            ),
            _ => text,
        }
    }
}
