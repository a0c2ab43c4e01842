//! What a role sees of a value that it may not see.

use pgveil_config::Mask;

/// The masked text, `None` for NULL. Characters count, not bytes.
pub fn mask(value_text: &str, mask: Mask) -> Option<String> {
    let count = value_text.chars().count();
    let (from, to) = match mask {
        Mask::Null => return None,
        Mask::KeepLast(n) => (0, count.saturating_sub(n as usize)),
        Mask::KeepFirst(n) => ((n as usize).min(count), count),
    };
    let hidden = from..to;
    Some(
        value_text
            .chars()
            .enumerate()
            .map(|(index, c)| if hidden.contains(&index) { '*' } else { c })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_only_what_the_policy_says() {
        assert_eq!(
            mask("ada@example.com", Mask::KeepLast(8)).unwrap(),
            "*******mple.com"
        );
        assert_eq!(mask("Zoë", Mask::KeepFirst(1)).unwrap(), "Z**");
        assert_eq!(mask("ab", Mask::KeepLast(4)).unwrap(), "ab");
        assert_eq!(mask("ab", Mask::KeepFirst(4)).unwrap(), "ab");
        assert_eq!(mask("ab", Mask::KeepLast(0)).unwrap(), "**");
        assert_eq!(mask("ab", Mask::Null), None);
    }
}
