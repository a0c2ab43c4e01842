//! A checkpoint: the signed statement that the log ended, at some time, with a certain record. One line of text, so that it
//! can be kept anywhere. Signing keys are in [`super::secrets`].

use super::{
    chain::Tip,
    record::Hash,
    secrets::{PublicKey, Secrets, Signature, signed_by},
};

/// A checkpoint is made at least every so many records ...
pub const EVERY_RECORDS: u64 = 1000;
/// ... and no later than this after a record, in microseconds.
pub const EVERY_US: u64 = 60_000_000;
/// No line is longer.
pub const MAX_LINE_BYTES: usize = 512;

const NAME: &str = "pgveil-audit-checkpoint v1";
const SIGNATURE: &str = " signature=";

/// What a line says. That the line is signed was checked by whoever made this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The key that signed it.
    pub key: PublicKey,
    /// The end of the log.
    pub tip: Tip,
    /// The record at which the checkpoint before this one stands; 0 for the first.
    pub after: u64,
    /// When, in microseconds since 1970.
    pub at_us: u64,
}

impl Checkpoint {
    /// Signs the end of the log.
    pub(super) fn sign(secrets: &Secrets, tip: Tip, after: u64, at_us: u64) -> String {
        let key = *secrets.public_key();
        let body = Self {
            key,
            tip,
            after,
            at_us,
        }
        .body();
        let signature = hex::encode(secrets.sign(body.as_bytes()));
        format!("{body}{SIGNATURE}{signature}")
    }

    /// Reads a line; `None` if it is none, is not written as [`Checkpoint::sign`] writes it, or `key` did not sign it.
    pub fn open(line: &str, key: &PublicKey) -> Option<Self> {
        if line.len() > MAX_LINE_BYTES {
            return None;
        }
        let (body, signature) = line.rsplit_once(SIGNATURE)?;
        let checkpoint = Self::parse(body)?;
        let signature: Signature = bytes(signature)?;
        let sound = checkpoint.key == *key
            && checkpoint.body() == body
            && signed_by(key, body.as_bytes(), &signature);
        sound.then_some(checkpoint)
    }

    fn body(&self) -> String {
        format!(
            "{NAME} key={} seq={} after={} at={} link={}",
            hex::encode(self.key),
            self.tip.seq,
            self.after,
            self.at_us,
            hex::encode(self.tip.link)
        )
    }

    fn parse(body: &str) -> Option<Self> {
        let mut words = body.strip_prefix(NAME)?.strip_prefix(' ')?.split(' ');
        let mut word = |name: &str| words.next()?.strip_prefix(name)?.strip_prefix('=');
        let key = bytes(word("key")?)?;
        let seq = word("seq")?.parse().ok()?;
        let after = word("after")?.parse().ok()?;
        let at_us = word("at")?.parse().ok()?;
        let link = bytes(word("link")?)?;
        let tip = Tip { seq, link };
        words.next().is_none().then_some(Self {
            key,
            tip,
            after,
            at_us,
        })
    }

    /// What its link is.
    pub fn link(&self) -> &Hash {
        &self.tip.link
    }
}

/// Lower-case hexadecimal digits only: one spelling.
pub(super) fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    (!text.bytes().any(|byte| byte.is_ascii_uppercase())).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> (String, PublicKey) {
        let secrets = Secrets::derive(1, &[7; 32]);
        let tip = Tip {
            seq: 1000,
            link: [9; 32],
        };
        let line = Checkpoint::sign(&secrets, tip, 900, 1_700_000_000_000_000);
        (line, *secrets.public_key())
    }

    #[test]
    fn a_line_is_read_back() {
        let (line, key) = line();
        let checkpoint = Checkpoint::open(&line, &key).unwrap();
        assert_eq!((checkpoint.tip.seq, checkpoint.link()), (1000, &[9; 32]));
    }

    #[test]
    fn no_byte_of_a_line_can_be_changed_left_out_or_added() {
        let (line, key) = line();
        for at in 0..line.len() {
            for bit in 0..8 {
                let mut changed = line.clone().into_bytes();
                changed[at] ^= 1 << bit;
                if let Ok(changed) = String::from_utf8(changed) {
                    assert_eq!(Checkpoint::open(&changed, &key), None, "{changed}");
                }
            }
            let mut shorter = line.clone();
            shorter.remove(at);
            assert_eq!(Checkpoint::open(&shorter, &key), None, "{shorter}");
            let mut longer = line.clone();
            longer.insert(at, ' ');
            assert_eq!(Checkpoint::open(&longer, &key), None, "{longer}");
        }
        assert_eq!(Checkpoint::open(&format!("{line} "), &key), None);
    }

    #[test]
    fn another_key_is_not_believed() {
        let (line, _) = line();
        let other = Secrets::derive(1, &[8; 32]);
        assert_eq!(Checkpoint::open(&line, other.public_key()), None);
    }
}
