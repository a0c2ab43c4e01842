//! Makes the row of choices behind a failing statement small.

/// The smallest row of choices found that still fails. `fails` is asked at most `most` times.
pub fn smallest(choices: &[u32], most: usize, mut fails: impl FnMut(&[u32]) -> bool) -> Vec<u32> {
    let mut best = choices.to_vec();
    let mut asked = 0;
    let mut attempt = |best: &mut Vec<u32>, candidate: Vec<u32>| -> bool {
        if asked >= most || candidate == *best {
            return false;
        }
        asked += 1;
        let smaller = fails(&candidate);
        if smaller {
            *best = candidate;
        }
        smaller
    };
    loop {
        let before = best.clone();
        // Leave out runs of choices, long ones first.
        let mut length = (best.len() / 2).max(1);
        while length > 0 {
            let mut at = 0;
            while at < best.len() {
                let end = (at + length).min(best.len());
                let mut candidate = best[..at].to_vec();
                candidate.extend_from_slice(&best[end..]);
                if !attempt(&mut best, candidate) {
                    at += length;
                }
            }
            length /= 2;
        }
        // Make single ones plain, or smaller.
        for at in 0..best.len() {
            let now = best.get(at).copied().unwrap_or(0);
            for smaller in [0, now / 2, now.saturating_sub(1)] {
                if best.get(at).is_some_and(|now| smaller < *now) {
                    let mut candidate = best.clone();
                    candidate[at] = smaller;
                    attempt(&mut best, candidate);
                }
            }
        }
        if best == before {
            return best;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::smallest;

    #[test]
    fn finds_the_one_choice_that_matters() {
        let row = [3, 9, 0, 7, 4, 4, 8, 1];
        let small = smallest(&row, 1000, |row| row.iter().any(|n| *n >= 7));
        assert_eq!(small, [7].map(|n: u32| n));
    }
}
