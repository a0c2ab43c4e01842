//! Texts that look like values: valid ones, rare spellings, and near misses. The same on every run.

pub(crate) struct Grammar(u64);

const MONTHS: &[&str] = &[
    "jan", "January", "FEB", "mar", "april", "May", "jun", "July", "aug", "sept", "Oct",
    "november", "Dec",
];
const ZONES: &[&str] = &[
    "Z",
    "UTC",
    "+00",
    "-07",
    "+05:30",
    "-03:30:15",
    "+0530",
    "+1559",
    "-16",
    "EST",
    "PDT",
    "CET",
    "MSK",
    "zulu",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kathmandu",
    "<+03>-03",
    "UTC-3",
    "EST5EDT",
    "Etc/GMT+5",
    "MET DST",
    "gmt",
    "Nowhere/Land",
    "+99",
    "LMT",
    "MSD",
    "VET",
    "YEKT",
    "ALMST",
    "EST5EDT4,M3.2.0,M11.1.0",
    "Japan",
];
const UNITS: &[&str] = &[
    "y",
    "year",
    "years",
    "yr",
    "mon",
    "mons",
    "month",
    "months",
    "w",
    "week",
    "weeks",
    "d",
    "day",
    "days",
    "h",
    "hour",
    "hours",
    "hr",
    "m",
    "min",
    "mins",
    "minute",
    "minutes",
    "s",
    "sec",
    "secs",
    "second",
    "seconds",
    "ms",
    "msec",
    "millisecond",
    "us",
    "usec",
    "microseconds",
    "dec",
    "decade",
    "decades",
    "c",
    "century",
    "centuries",
    "mil",
    "millennium",
    "millennia",
    "quarter",
    "ago",
    "timezone",
    "decs",
    "mils",
    "hrs",
    "yrs",
    "cent",
    "usecs",
    "useconds",
    "msecs",
    "mseconds",
    "milliseconds",
    "microsecondly",
];
const NOISE: &[&str] = &[
    "a", "Z", "0", "1", "9", " ", "  ", ":", "-", "+", ".", "/", ",", "e", "T", "P", "t", "x",
    "\"", "'", "\\", "é", "日", "\t", "{", "}", "[", "]", "(", "_", "%", "@", "j", "y", "\n", "#",
];

impl Grammar {
    pub(crate) fn new(seed: &str) -> Self {
        Self(seed.bytes().fold(0x9e37_79b9_7f4a_7c15, |state, byte| {
            (state.rotate_left(7) ^ u64::from(byte)).wrapping_mul(0x9fb2_1c65_1e98_df25)
        }))
    }

    /// A text for a type.
    pub(crate) fn text(&mut self, type_name: &str) -> String {
        if let Some(element) = type_name.strip_suffix("[]") {
            let text = self.array(element);
            return match self.below(8) {
                0 => self.mutated(text),
                _ => text,
            };
        }
        let bits = self.next();
        let base = match type_name.split(['(', ' ']).next().unwrap_or_default() {
            "bool" => self.truth(),
            "int2" => self.integer(16),
            "int4" => self.integer(32),
            "int8" => self.integer(64),
            "float4" => self.float(f64::from(f32::from_bits(bits as u32))),
            "float8" => self.float(f64::from_bits(bits)),
            "numeric" => self.decimal(),
            "date" => self.date(),
            "timestamp" | "timestamptz" => self.timestamp(),
            "time" | "timetz" => self.time_of_day(),
            "interval" => self.interval(),
            "inet" | "cidr" => self.network(),
            "macaddr" | "macaddr8" => self.mac(),
            "uuid" => self.uuid(),
            "bytea" => self.bytea(),
            "json" | "jsonb" => self.json(3),
            _ => self.words(),
        };
        match self.below(5) {
            0 => self.mutated(base),
            _ => base,
        }
    }

    /// SplitMix64.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn pick(&mut self, from: &[&str]) -> String {
        let index = self.below(from.len() as u64) as usize;
        from[index].to_owned()
    }

    pub(super) fn digits(&mut self, most: u64) -> String {
        let count = 1 + self.below(most);
        (0..count)
            .map(|_| char::from(b'0' + self.below(10) as u8))
            .collect()
    }

    /// One or two characters gone, added, doubled or swapped.
    fn mutated(&mut self, text: String) -> String {
        let mut chars: Vec<char> = text.chars().collect();
        for _ in 0..=self.below(2) {
            let at = self.below(chars.len() as u64 + 1) as usize;
            match self.below(4) {
                0 if at < chars.len() => {
                    chars.remove(at);
                }
                1 if at < chars.len() => chars[at] = self.noise(),
                2 if at + 1 < chars.len() => chars.swap(at, at + 1),
                _ => chars.insert(at, self.noise()),
            }
        }
        chars.into_iter().collect()
    }

    fn noise(&mut self) -> char {
        self.pick(NOISE).chars().next().unwrap_or(' ')
    }

    fn year(&mut self) -> String {
        match self.below(6) {
            0 => self.digits(2),
            1 => self.digits(6),
            2 => format!("{:04}", 1 + self.below(300)),
            _ => (1850 + self.below(250)).to_string(),
        }
    }

    fn date(&mut self) -> String {
        let (year, month, day) = (self.year(), 1 + self.below(12), 1 + self.below(31));
        let name = self.pick(MONTHS);
        let separator = self.pick(&["-", "/", ".", " ", "-"]);
        let plain = match self.below(18) {
            0..=4 => format!("{year}{separator}{month:02}{separator}{day:02}"),
            5 => format!("{month}{separator}{day}{separator}{year}"),
            6 => format!("{day}{separator}{month}{separator}{year}"),
            7 => format!("{name} {day}, {year}"),
            8 => format!("{day}{separator}{name}{separator}{year}"),
            9 => format!("{year}{separator}{name}{separator}{day}"),
            10 => format!("{year:0>4}{month:02}{day:02}"),
            11 => format!("{year}.{:03}", self.below(370)),
            12 => format!("J{}", 2_400_000 + self.below(200_000)),
            13 => self.pick(&[
                "infinity",
                "-infinity",
                "epoch",
                "today",
                "now",
                "allballs",
                "J0",
                "julian 2451187",
            ]),
            14 => format!("{name} {day}"),
            15 => format!("{year}-{month:02}"),
            16 => format!(
                "{} {name} {day} {year}",
                self.pick(&["Mon", "tuesday", "Thurs", "sat,"])
            ),
            _ => format!("{name}-{day}-{year}"),
        };
        match self.below(12) {
            0 => format!("{plain} BC"),
            1 => format!("{plain} AD"),
            2 => format!("{plain} {}", self.clock()),
            _ => plain,
        }
    }

    fn clock(&mut self) -> String {
        let (hour, minute, second) = (self.below(25), self.below(60), self.below(61));
        match self.below(12) {
            0 => format!("{hour}:{minute:02}"),
            1..=4 => format!("{hour:02}:{minute:02}:{second:02}"),
            5 | 6 => format!("{hour:02}:{minute:02}:{second:02}.{}", self.digits(8)),
            7 => format!("{hour:02}{minute:02}{second:02}"),
            8 => format!("{hour:02}{minute:02}"),
            9 => format!(
                "{}:{minute:02} {}",
                1 + hour % 13,
                self.pick(&["am", "PM", "pm"])
            ),
            10 => format!("{hour:02}{minute:02}{second:02}.{}", self.digits(6)),
            _ => self.pick(&[
                "24:00:00",
                "allballs",
                "23:59:60",
                "12:00:00.9999999",
                "now",
                "24:00:01",
                "00:00",
            ]),
        }
    }

    fn time_of_day(&mut self) -> String {
        let clock = self.clock();
        match self.below(10) {
            0..=2 => clock,
            3..=6 => {
                let space = self.pick(&["", " "]);
                format!("{clock}{space}{}", self.pick(ZONES))
            }
            7 => format!("T{clock}"),
            8 => format!("{} {clock} {}", self.date(), self.pick(ZONES)),
            _ => format!("{} {clock}", self.date()),
        }
    }

    fn timestamp(&mut self) -> String {
        let date = self.date();
        let joint = self.pick(&[" ", " ", "T", " T", "  ", ", "]);
        let clock = self.clock();
        match self.below(9) {
            0 => date,
            1 | 2 => format!("{date}{joint}{clock}"),
            3 => format!("{clock} {date}"),
            4 => format!("{date}{joint}{clock}{}", self.pick(ZONES)),
            5 => format!("{date}{joint}{clock} {} BC", self.pick(ZONES)),
            6 => format!("J{}.{}", 2_400_000 + self.below(200_000), self.digits(6)),
            _ => format!("{date}{joint}{clock} {}", self.pick(ZONES)),
        }
    }

    fn amount(&mut self) -> String {
        let sign = self.pick(&["", "", "", "-", "+", "- "]);
        let whole = match self.below(8) {
            0 => self.digits(12),
            1 => self.digits(20),
            _ => self.digits(3),
        };
        match self.below(4) {
            0 => format!("{sign}{whole}.{}", self.digits(9)),
            _ => format!("{sign}{whole}"),
        }
    }

    fn interval(&mut self) -> String {
        if self.below(30) == 0 {
            return self.pick(&[
                "infinity",
                "-infinity",
                "+infinity",
                "inf",
                " Infinity ",
                "- infinity",
                "@ infinity",
                "infinity ago",
                "infinity 1 day",
                "1 day infinity",
                "1 infinity",
                "infinity month",
                "-infinity timezone",
                "1 day ago 2 hours",
                "day 1",
                "1 day hour",
                "day hour 1",
                "1 day ago ago",
                "P0x1Y",
                "PT0x10S",
            ]);
        }
        match self.below(10) {
            0 | 1 => self.iso_interval(),
            2 => {
                let sign = self.pick(&["", "-", "+"]);
                format!(
                    "{sign}{}-{} {} {}",
                    self.below(20),
                    self.below(13),
                    self.amount(),
                    self.clock()
                )
            }
            3 => {
                let sign = self.pick(&["", "-", "+"]);
                format!("{sign}{}-{}", self.below(3000), self.below(14))
            }
            4 => {
                let (days, sign) = (self.amount(), self.pick(&["", "-", "+"]));
                format!("{days} {sign}{}", self.clock())
            }
            5 => format!(
                "{}:{:02}:{:02}.{}",
                self.digits(9),
                self.below(60),
                self.below(60),
                self.digits(7)
            ),
            _ => {
                let mut text = self.pick(&["", "", "@ "]);
                for _ in 0..=self.below(4) {
                    let space = self.pick(&[" ", "", " "]);
                    text.push_str(&format!("{}{space}{} ", self.amount(), self.pick(UNITS)));
                }
                if self.below(4) == 0 {
                    text.push_str(&self.clock());
                }
                if self.below(6) == 0 {
                    text.push_str(" ago");
                }
                text
            }
        }
    }

    fn iso_interval(&mut self) -> String {
        match self.below(6) {
            0 => format!(
                "P{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
                self.below(3000),
                self.below(14),
                self.below(32),
                self.below(30),
                self.below(70),
                self.below(70)
            ),
            1 => format!("P{}T{:06}", self.digits(9), self.below(250_000)),
            2 => format!("PT{}", self.digits(8)),
            _ => {
                let mut text = "P".to_owned();
                for unit in ["Y", "M", "W", "D"] {
                    if self.below(2) == 0 {
                        text.push_str(&format!("{}{unit}", self.iso_amount()));
                    }
                }
                if self.below(2) == 0 {
                    text.push('T');
                    for unit in ["H", "M", "S"] {
                        if self.below(2) == 0 {
                            text.push_str(&format!("{}{unit}", self.iso_amount()));
                        }
                    }
                }
                text
            }
        }
    }

    fn iso_amount(&mut self) -> String {
        let sign = self.pick(&["", "", "-"]);
        match self.below(8) {
            0 => format!("{sign}{}.{}", self.digits(4), self.digits(8)),
            1 => format!("{sign}{}e{}", self.digits(3), self.below(14) as i64 - 5),
            2 => format!("{sign}{}", self.digits(17)),
            3 => format!("{sign}.{}", self.digits(3)),
            _ => format!("{sign}{}", self.digits(3)),
        }
    }

    fn v4(&mut self) -> String {
        let count = if self.below(4) == 0 {
            1 + self.below(5)
        } else {
            4
        };
        let octets: Vec<String> = (0..count)
            .map(|_| match self.below(12) {
                0 => self.digits(4),
                1 => format!("{:03}", self.below(256)),
                2 => "0".to_owned(),
                _ => self.below(260).to_string(),
            })
            .collect();
        octets.join(".")
    }

    fn v6(&mut self) -> String {
        let mut groups: Vec<String> = (0..8)
            .map(|_| match self.below(3) {
                0 => "0".to_owned(),
                1 => format!("{:x}", self.below(0x10000)),
                _ => format!("{:04X}", self.below(0x1000)),
            })
            .collect();
        match self.below(6) {
            0 => return groups.join(":"),
            1 => {
                let v4 = self.v4();
                return self.pick(&["::", "::ffff:", "::1:", "1:2:3:4:5:6:", "64:ff9b::"]) + &v4;
            }
            2 => {
                return self.pick(&[
                    "::",
                    "::1",
                    "1::",
                    "fe80::1",
                    "::ffff:0:0",
                    "0:0:0:0:0:0:0:1",
                    "::0:0:0",
                    "::2:3",
                ]);
            }
            _ => {}
        }
        let from = self.below(8) as usize;
        let count = 1 + self.below(8 - from as u64) as usize;
        groups.splice(from..from + count, [String::new()]);
        let mut text = groups.join(":");
        if from == 0 {
            text.insert(0, ':');
        }
        if from + count == 8 {
            text.push(':');
        }
        text
    }

    fn network(&mut self) -> String {
        let address = match self.below(8) {
            0 => format!("0x{:x}", self.next() >> self.below(56)),
            1..=3 => self.v6(),
            4 => format!("{}.0.0.0", self.below(256)),
            5 => self.pick(&[
                "10",
                "10.1",
                "192.168",
                "224",
                "224.0.0.0",
                "240.1",
                "128.9.0.0",
                "10.0.0.0",
                "172.16.0",
            ]),
            _ => self.v4(),
        };
        match self.below(3) {
            0 => address,
            1 => format!("{address}/{}", self.below(140)),
            _ => format!("{address}/{}", self.below(33)),
        }
    }

    fn mac(&mut self) -> String {
        let hex: Vec<String> = (0..8).map(|_| format!("{:02x}", self.below(256))).collect();
        let hex = hex.concat();
        let (short, long) = (&hex[..12], &hex[..]);
        let by = |text: &str, width: usize, separator: &str| {
            let parts: Vec<String> = text
                .as_bytes()
                .chunks(width)
                .map(|part| String::from_utf8_lossy(part).into_owned())
                .collect();
            parts.join(separator)
        };
        match self.below(11) {
            0 => by(short, 2, ":"),
            1 => by(short, 2, "-"),
            2 => by(short, 6, ":"),
            3 => by(short, 6, "-"),
            4 => by(short, 4, "."),
            5 => by(short, 4, "-"),
            6 => short.to_owned(),
            7 => by(long, 2, ":"),
            8 => by(long, 4, "."),
            9 => format!(
                "{:x}:{:x}:{:x}:{:x}:{:x}:{:x}",
                self.below(300),
                self.below(16),
                1,
                2,
                3,
                self.below(16)
            ),
            _ => format!(" {} ", by(short, 2, ":")),
        }
    }

    fn array(&mut self, element: &str) -> String {
        let dimensions: Vec<u64> = (0..=(self.below(12) / 8 * (1 + self.below(3))))
            .map(|_| 1 + self.below(3))
            .collect();
        let bounds: String = if self.below(6) == 0 {
            let bounds: Vec<String> = dimensions
                .iter()
                .map(|count| {
                    let lower = self.below(7) as i64 - 3;
                    format!("[{lower}:{}]", lower + *count as i64 - 1)
                })
                .collect();
            bounds.concat() + "="
        } else {
            String::new()
        };
        match self.below(20) {
            0 => "{}".to_owned(),
            1 => self.pick(&[
                "{{1,2},{3}}",
                "{{},{}}",
                "{1,{2}}",
                "[1:2]={1}",
                "{\"a\"b}",
                "{a}b",
                "{,}",
                "{a\\,b}",
                "[3]={1,2,3}",
            ]),
            _ => bounds + &self.level(element, &dimensions),
        }
    }

    fn level(&mut self, element: &str, dimensions: &[u64]) -> String {
        let Some((count, inner)) = dimensions.split_first() else {
            return self.element(element);
        };
        let members: Vec<String> = (0..*count).map(|_| self.level(element, inner)).collect();
        let comma = self.pick(&[",", ",", ", ", " ,"]);
        format!("{{{}}}", members.join(&comma))
    }

    fn element(&mut self, element: &str) -> String {
        if self.below(8) == 0 {
            return self.pick(&["NULL", "null", "\"NULL\"", "\"\""]);
        }
        let text = self.text(element);
        if text.is_empty() || self.below(2) == 0 || text.contains([',', '{', '}', '"', '\\']) {
            format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
        } else {
            text
        }
    }

    fn bytea(&mut self) -> String {
        match self.below(3) {
            0 => format!("\\x{:016x}{:02x}", self.next(), self.below(256)),
            1 => (0..self.below(8))
                .map(|_| format!("\\{:03o}", self.below(256)))
                .collect::<Vec<_>>()
                .concat(),
            _ => self.words().replace('\\', "\\\\"),
        }
    }

    fn words(&mut self) -> String {
        (0..self.below(12)).map(|_| self.pick(NOISE)).collect()
    }

    fn json(&mut self, depth: u64) -> String {
        match self.below(if depth == 0 { 4 } else { 6 }) {
            0 => self.pick(&["null", "true", "false", "1e5", "-0", "0.10"]),
            1 => format!("{}.{}", 1 + self.below(1_000_000), self.digits(6)),
            2 | 3 => format!(
                "\"{}\"",
                self.pick(&[
                    "",
                    "a",
                    "é",
                    "\\n",
                    "\\u00e9",
                    "\\\"",
                    "\\ud83d\\ude00",
                    "日"
                ])
            ),
            4 => {
                let items: Vec<String> = (0..self.below(4)).map(|_| self.json(depth - 1)).collect();
                format!("[{}]", items.join(", "))
            }
            _ => {
                let items: Vec<String> = (0..self.below(4))
                    .map(|_| {
                        let key = self.pick(&["a", "b", "aa", "é", ""]);
                        format!("\"{key}\": {}", self.json(depth - 1))
                    })
                    .collect();
                format!("{{{}}}", items.join(","))
            }
        }
    }
}
