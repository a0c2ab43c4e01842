//! Fields as bytes that no other fields make: what MACs are over. Numbers have eight bytes, big-endian; texts and bytes
//! their length before them (u32, big-endian); what may be missing has a byte before it, 0 or 1.

/// Fields in a row.
#[derive(Default)]
pub(crate) struct Canonical(Vec<u8>);

impl Canonical {
    pub(crate) fn number(&mut self, number: i64) -> &mut Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.push(text.as_bytes())
    }

    pub(crate) fn maybe(&mut self, number: Option<i64>) -> &mut Self {
        self.is_there(number.is_some());
        match number {
            Some(number) => self.number(number),
            None => self,
        }
    }

    pub(crate) fn maybe_text(&mut self, text: Option<&str>) -> &mut Self {
        self.bytes(text.map(str::as_bytes))
    }

    pub(crate) fn bytes(&mut self, bytes: Option<&[u8]>) -> &mut Self {
        self.is_there(bytes.is_some());
        match bytes {
            Some(bytes) => self.push(bytes),
            None => self,
        }
    }

    fn is_there(&mut self, there: bool) {
        self.0.push(u8::from(there));
    }

    fn push(&mut self, part: &[u8]) -> &mut Self {
        let length = u32::try_from(part.len()).expect("a row is far shorter than 4 GiB");
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(part);
        self
    }
}

impl AsRef<[u8]> for Canonical {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_an_empty_text_and_a_shifted_boundary_differ() {
        let bytes = |build: fn(&mut Canonical)| {
            let mut canonical = Canonical::default();
            build(&mut canonical);
            canonical.0
        };
        let all = [
            bytes(|c| {
                c.text("ab").text("c");
            }),
            bytes(|c| {
                c.text("a").text("bc");
            }),
            bytes(|c| {
                c.maybe_text(None);
            }),
            bytes(|c| {
                c.maybe_text(Some(""));
            }),
            bytes(|c| {
                c.maybe(None);
            }),
            bytes(|c| {
                c.maybe(Some(0));
            }),
        ];
        assert_eq!(all[0], b"\0\0\0\x02ab\0\0\0\x01c");
        // An absent text and an absent number are told apart by where they stand.
        assert_eq!(all[2], all[4]);
        for (n, one) in all.iter().enumerate().filter(|(n, _)| *n != 4) {
            for other in &all[n + 1..] {
                assert!(n == 2 || one != other, "{one:?}");
            }
        }
    }
}
