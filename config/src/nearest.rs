//! "Did you mean ...?": the known word that a mistyped one most likely stands for.

/// No word that people mistype is longer (bytes); it bounds the work on hostile input.
const MAX_WORD_BYTES: usize = 128;

/// The candidate nearest to `word`, or `None` if none is near enough to be worth a guess:
/// at most one edit (insert, delete, replace, swap of neighbours) in three characters, two for short words
/// that share their first letter. Upper and lower case, `-` and `_` count as equal.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.is_empty() || word.len() > MAX_WORD_BYTES {
        return None;
    }
    let folded = fold(word);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= MAX_WORD_BYTES)
        .map(|candidate| (distance(&folded, &fold(candidate)), candidate))
        .filter_map(|(distance, candidate)| Some((distance?, candidate)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn fold(word: &str) -> String {
    word.to_lowercase().replace('-', "_")
}

/// The number of edits between two folded words, if few enough.
fn distance(word: &str, candidate: &str) -> Option<usize> {
    let edits = strsim::damerau_levenshtein(word, candidate);
    let length = word.chars().count().max(candidate.chars().count());
    let allowed = match length {
        0..=2 => 0,
        3..=5 if word.chars().next() == candidate.chars().next() => 2,
        3..=5 => 1,
        _ => length / 3,
    };
    (edits <= allowed).then_some(edits)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_the_word_that_was_meant() {
        let known = [
            "listen",
            "policy",
            "upstream",
            "tls",
            "root_key_file",
            "ttl",
        ];
        for (word, meant) in [
            ("lisen", Some("listen")),
            ("Listen", Some("listen")),
            ("pollicy", Some("policy")),
            ("upsteam", Some("upstream")),
            ("root-key-file", Some("root_key_file")),
            ("tsl", Some("tls")),
            ("ttls", Some("tls")),
            ("banana", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), meant, "{word}");
        }
    }
}
