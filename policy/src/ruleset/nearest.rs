//! "Did you mean": the nearest of some names.

/// `; did you mean X?` for the candidate nearest to `word`, or nothing when none is near.
pub(super) fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> String {
    let near = |candidate: &str| {
        let distance = strsim::damerau_levenshtein(&word.to_lowercase(), &candidate.to_lowercase());
        // A third of the letters may be wrong: `emial` is near `email`, `id` is not near `age`.
        (distance * 3 <= word.chars().count().max(3)).then_some(distance)
    };
    candidates
        .into_iter()
        .filter_map(|candidate| Some((near(candidate)?, candidate)))
        .min()
        .map_or_else(String::new, |(_, candidate)| {
            format!("; did you mean `{candidate}`?")
        })
}
