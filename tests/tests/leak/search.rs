//! Looks for byte strings in files, in every form that a server might write them. It knows nothing of pgveil.

use std::{fs, path::Path};

use aho_corasick::{AhoCorasick, MatchKind};
use anyhow::Result;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub(crate) struct Search {
    patterns: AhoCorasick,
    names: Vec<String>,
}

impl Search {
    /// Each needle raw, in hex of both cases, and in base64 at each of its three alignments.
    pub(crate) fn new(needles: &[String]) -> Result<Self> {
        let (mut patterns, mut names) = (Vec::new(), Vec::new());
        for needle in needles {
            for (form, bytes) in forms(needle.as_bytes()) {
                patterns.push(bytes);
                names.push(format!("{needle:?} ({form})"));
            }
        }
        let patterns = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostFirst)
            .build(patterns)?;
        Ok(Self { patterns, names })
    }

    /// Findings in a file, or in all files below a folder. Files that vanish meanwhile held nothing that stayed.
    pub(crate) fn in_path(&self, path: &Path) -> Result<Vec<String>> {
        if path.is_dir() {
            let mut found = Vec::new();
            for entry in fs::read_dir(path)? {
                found.extend(self.in_path(&entry?.path())?);
            }
            return Ok(found);
        }
        if !path.is_file() {
            return Ok(Vec::new());
        }
        let bytes = fs::read(path).unwrap_or_default();
        Ok(self.in_bytes(&bytes, &path.display().to_string()))
    }

    /// One finding per needle and form, with what stands around it.
    pub(crate) fn in_bytes(&self, bytes: &[u8], place: &str) -> Vec<String> {
        let mut seen = vec![false; self.names.len()];
        let mut found = Vec::new();
        for hit in self.patterns.find_iter(bytes) {
            let pattern = hit.pattern().as_usize();
            if !std::mem::replace(&mut seen[pattern], true) {
                let around =
                    &bytes[hit.start().saturating_sub(120)..(hit.end() + 40).min(bytes.len())];
                let around = String::from_utf8_lossy(around).replace(char::is_control, ".");
                found.push(format!("{} in {place}: {around}", self.names[pattern]));
            }
        }
        found
    }
}

fn forms(needle: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let hex = hex::encode(needle);
    let mut forms = vec![
        ("raw", needle.to_vec()),
        ("hex", hex.clone().into_bytes()),
        ("upper-case hex", hex.to_uppercase().into_bytes()),
    ];
    // Only the characters that no neighbour of the needle can change.
    for (alignment, name) in ["base64", "base64 at 1", "base64 at 2"]
        .into_iter()
        .enumerate()
    {
        let padded = [&[0; 2][..alignment], needle].concat();
        let text = base64(&padded).into_bytes();
        let start = [0, 2, 3][alignment];
        let end = padded.len() * 4 / 3;
        forms.push((name, text[start..end].to_vec()));
    }
    forms
}

/// Base64 of RFC 4648 with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk
            .iter()
            .fold(0_u32, |group, byte| group << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let sextet = (group >> (18 - 6 * place)) & 63;
            text.push(if place <= chunk.len() {
                char::from(ALPHABET[sextet as usize])
            } else {
                '='
            });
        }
    }
    text
}
