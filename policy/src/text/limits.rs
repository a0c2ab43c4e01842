//! How deep a statement's syntax tree can become, counted from its tokens: the parser's tree is dropped and walked by recursion,
//! so hostile depth must never be built. Builds nothing itself.

use std::ops::Range;

use sqlparser::{keywords::Keyword, tokenizer::Token as Kind};

use super::Tokens;

/// Up to this depth a statement is analysed on the caller's stack: half of a Tokio worker's 2 MiB is enough, in a build without
/// optimisation.
pub(crate) const INLINE_DEPTH: usize = 60;

/// Deeper statements get a stack of their own, up to this depth; beyond it they are refused.
pub(crate) const MAX_DEPTH: usize = 4_000;

/// Nodes of one nesting level that can hang below each other.
#[derive(Clone, Copy, Default)]
struct Level {
    /// Operators since the last comma: `a || b || c`.
    chain: usize,
    /// Set operations: `UNION` chains are not ended by commas.
    sets: usize,
}

/// An upper bound of the depth of the tree of some tokens.
pub(crate) fn depth(tokens: &Tokens<'_>, statement: &Range<usize>) -> usize {
    let mut levels = vec![Level::default()];
    let (mut below, mut deepest) = (0, 0);
    for index in statement.clone() {
        let top = levels.len() - 1;
        match tokens.kind(index) {
            Kind::LParen | Kind::LBracket => {
                levels[top].chain += 1;
                below += levels[top].chain + levels[top].sets + 1;
                levels.push(Level::default());
            }
            Kind::RParen | Kind::RBracket if top > 0 => {
                levels.pop();
                below -= levels[top - 1].chain + levels[top - 1].sets + 1;
            }
            Kind::Comma => levels[top].chain = 0,
            Kind::Word(word) if word.quote_style.is_none() => match word.keyword {
                Keyword::UNION | Keyword::INTERSECT | Keyword::EXCEPT => levels[top].sets += 1,
                Keyword::NoKeyword => {}
                _ => levels[top].chain += 1,
            },
            Kind::Word(_)
            | Kind::SingleQuotedString(_)
            | Kind::Number(_, _)
            | Kind::Placeholder(_) => {}
            _ => levels[top].chain += 1,
        }
        let level = levels[levels.len() - 1];
        deepest = deepest.max(below + level.chain + level.sets);
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn depth_of(sql: &str) -> usize {
        let tokens = Tokens::read(sql).unwrap();
        depth(&tokens, &(0..tokens.len()))
    }

    #[test]
    fn wide_statements_are_not_deep() {
        let rows = vec!["(1, 'x', -5, $1::text)"; 10_000].join(", ");
        assert!(depth_of(&format!("INSERT INTO t VALUES {rows}")) < INLINE_DEPTH);
        let list = vec!["$1"; 10_000].join(", ");
        assert!(depth_of(&format!("SELECT 1 FROM t WHERE a IN ({list})")) < INLINE_DEPTH);
    }

    #[test]
    fn chains_and_nests_are_deep() {
        assert!(depth_of(&format!("SELECT {}", vec!["a"; 5000].join("||"))) > MAX_DEPTH);
        assert!(depth_of(&vec!["SELECT a, b"; 5000].join(" UNION ALL ")) > MAX_DEPTH);
        assert!(depth_of(&format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000))) > MAX_DEPTH);
        assert!(depth_of(&format!("SELECT a{}", "::int".repeat(5000))) > MAX_DEPTH);
    }
}
