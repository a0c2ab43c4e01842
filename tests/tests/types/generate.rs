//! Text forms of pseudo-random values, the same on every run. It looks at no clock: a failure can be repeated.

pub(crate) struct Generator(u64);

impl Generator {
    pub(crate) fn new(seed: &str) -> Self {
        Self(seed.bytes().fold(0x9e37_79b9_7f4a_7c15, |state, byte| {
            state.rotate_left(7) ^ u64::from(byte)
        }))
    }

    /// A text form for the type of `table`; by chance it may be bad input too, which must then be refused alike.
    pub(crate) fn value(&mut self, table: &str) -> String {
        match table {
            "t_bool" => self.pick(&["true", "false", "T", "F", "of", "yE"]),
            "t_int2" => (self.next() as i16).to_string(),
            "t_int4" => (self.next() as i32).to_string(),
            "t_int8" => (self.next() as i64).to_string(),
            "t_float4" => f32::from_bits(self.next() as u32).to_string(),
            "t_float8" => f64::from_bits(self.next()).to_string(),
            "t_numeric" => self.decimal(40),
            "t_numeric_p_s" => self.decimal(9),
            "t_date" => self.date(),
            "t_timestamp" => format!("{} {}", self.date(), self.time()),
            "t_timestamptz" => format!(
                "{} {}{:+03}",
                self.date(),
                self.time(),
                self.below(30) as i64 - 15
            ),
            "t_time" | "t_time_p" => self.time(),
            "t_timetz" => format!("{}{:+03}", self.time(), self.below(30) as i64 - 15),
            "t_interval" | "t_interval_fields" => format!(
                "{} mons {} days {}",
                self.below(500) as i64 - 250,
                self.below(500) as i64 - 250,
                self.time()
            ),
            "t_inet" => format!(
                "{}.{}.7.1/{}",
                self.below(256),
                self.below(260),
                self.below(34)
            ),
            "t_cidr" => format!(
                "{}.{}.0.0/{}",
                self.below(256),
                self.below(260),
                10 + self.below(23)
            ),
            "t_macaddr" => format!("{:012x}", self.next() >> 16),
            "t_macaddr8" => format!("{:016x}", self.next()),
            "t_text_array" => format!("{{{},{}}}", self.quoted(), self.quoted()),
            "t_varchar_array" => format!("{{{}}}", self.quoted()),
            "t_int4_array" => format!("{{{},NULL,{}}}", self.next() as i32, self.next() as i32),
            "t_numeric_array" => format!("{{{},{}}}", self.decimal(4), self.decimal(9)),
            "t_timestamptz_array" => format!("{{\"{} {}\"}}", self.date(), self.time()),
            "t_uuid" => format!("{:016x}{:016x}", self.next(), self.next()),
            "t_bytea" => format!("\\x{:016x}{:02x}", self.next(), self.below(256)),
            "t_json" | "t_jsonb" => self.json(3),
            "t_varchar_n" | "t_bpchar_n" => self.text(6),
            _ => self.text(30),
        }
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn pick(&mut self, from: &[&str]) -> String {
        let index = self.below(from.len() as u64) as usize;
        from[index].to_owned()
    }

    fn digits(&mut self, most: u64) -> String {
        let count = 1 + self.below(most);
        (0..count)
            .map(|_| char::from(b'0' + self.below(10) as u8))
            .collect()
    }

    fn decimal(&mut self, most: u64) -> String {
        let sign = self.pick(&["", "-", "+"]);
        let (whole, part) = (self.digits(most), self.digits(most));
        match self.below(4) {
            0 => format!("{sign}{whole}"),
            1 => format!("{sign}{whole}.{part}"),
            2 => format!("{sign}.{part}"),
            _ => format!("{sign}{whole}.{part}e{}", self.below(20) as i64 - 10),
        }
    }

    fn date(&mut self) -> String {
        let year = self.pick(&[
            "1", "99", "1582", "1899", "1969", "1999", "2000", "2024", "2038", "2100", "9999",
            "20000",
        ]);
        format!(
            "{year:0>4}-{:02}-{:02}",
            1 + self.below(12),
            1 + self.below(29)
        )
    }

    fn time(&mut self) -> String {
        format!(
            "{:02}:{:02}:{:02}.{}",
            self.below(24),
            self.below(60),
            self.below(60),
            self.digits(7)
        )
    }

    fn text(&mut self, most: u64) -> String {
        let count = self.below(most);
        (0..count)
            .map(|_| {
                self.pick(&[
                    "a", "Z", "0", " ", "'", "\"", "\\", "%", "é", "日", "😀", "\n", "$", ";", "-",
                ])
            })
            .collect()
    }

    fn quoted(&mut self) -> String {
        let text = self.text(5).replace('\\', "\\\\").replace('"', "\\\"");
        format!("\"{text}\"")
    }

    fn json(&mut self, depth: u64) -> String {
        match self.below(if depth == 0 { 4 } else { 6 }) {
            0 => self.pick(&["null", "true", "false"]),
            1 => self.decimal_json(),
            2 | 3 => format!(
                "\"{}\"",
                self.text(8)
                    .replace('\\', "\\\\")
                    .replace('"', "\\\"")
                    .replace('\n', "\\n")
            ),
            4 => {
                let items: Vec<String> = (0..self.below(4)).map(|_| self.json(depth - 1)).collect();
                format!("[{}]", items.join(", "))
            }
            _ => {
                let items: Vec<String> = (0..self.below(4))
                    .map(|_| {
                        format!(
                            "\"{}\": {}",
                            self.pick(&["a", "b", "aa", "é", ""]),
                            self.json(depth - 1)
                        )
                    })
                    .collect();
                format!("{{{}}}", items.join(","))
            }
        }
    }

    fn decimal_json(&mut self) -> String {
        let sign = self.pick(&["", "-"]);
        format!("{sign}{}.{}", 1 + self.below(1_000_000), self.digits(6))
    }
}
