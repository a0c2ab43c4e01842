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
    /// Operators since the last comma: `a || b || c`. Those behind a nested level stand above it, as those before it do.
    chain: usize,
    /// The deepest of the levels nested in it since then.
    nested: usize,
    /// The deepest of what stands between two commas.
    listed: usize,
    /// Set operations: `UNION` chains are not ended by commas.
    sets: usize,
}

impl Level {
    fn comma(&mut self) {
        self.listed = self.listed.max(self.chain + self.nested);
        (self.chain, self.nested) = (0, 0);
    }

    fn depth(mut self) -> usize {
        self.comma();
        self.sets + self.listed
    }
}

/// An upper bound of the depth of the tree of some tokens.
pub(crate) fn depth(tokens: &Tokens<'_>, statement: &Range<usize>) -> usize {
    let mut around = Vec::new();
    let mut level = Level::default();
    let close = |inner: Level, mut outer: Level| {
        outer.nested = outer.nested.max(inner.depth() + 1);
        outer
    };
    for index in statement.clone() {
        match tokens.kind(index) {
            Kind::LParen | Kind::LBracket => {
                level.chain += 1;
                around.push(std::mem::take(&mut level));
            }
            Kind::RParen | Kind::RBracket => {
                if let Some(outer) = around.pop() {
                    level = close(level, outer);
                }
            }
            Kind::Comma => level.comma(),
            Kind::Word(word) if word.quote_style.is_none() => match word.keyword {
                Keyword::UNION | Keyword::INTERSECT | Keyword::EXCEPT => level.sets += 1,
                Keyword::NoKeyword => {}
                _ => level.chain += 1,
            },
            Kind::Word(_)
            | Kind::SingleQuotedString(_)
            | Kind::Number(_, _)
            | Kind::Placeholder(_) => {}
            _ => level.chain += 1,
        }
    }
    around.into_iter().rev().fold(level, close).depth()
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

    #[test]
    fn what_stands_behind_a_nest_is_above_it() {
        let around = |n: usize, behind: &str| {
            let behind = format!("){behind}").repeat(n);
            depth_of(&format!("SELECT {}1{behind}", "(".repeat(n)))
        };
        let casts = "::int".repeat(200);
        assert!(around(30, &casts) > MAX_DEPTH);
        assert!(around(1_500, " + 1 + 1") > MAX_DEPTH);
        // What was never closed counts too.
        assert!(depth_of(&format!("SELECT {}", "1 + (".repeat(2_000))) > MAX_DEPTH);
    }
}
