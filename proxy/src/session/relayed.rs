//! The texts of prepared statements that were relayed: under another policy they may name something protected. Judges nothing.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use zeroize::Zeroizing;

/// A longer text is not kept.
const MAX_RELAYED_BYTES: usize = 256 * 1024;
/// Statements of PREPARE whose texts are kept for one session, and their bytes.
const MAX_BESIDE: usize = 4096;
const MAX_BESIDE_BYTES: usize = 16 << 20;
/// No rules have this version.
const NO_RULES: u64 = 0;

/// The text of a statement that was relayed.
pub struct Relayed {
    /// `None`: it is too long to be kept.
    sql: Option<Zeroizing<Vec<u8>>>,
    declared: Vec<u32>,
    /// The version of the rules by which nothing protected is in it.
    known: AtomicU64,
}

impl Relayed {
    /// The version is that of the rules by which nothing protected is in it.
    pub fn new(sql: &[u8], declared: Vec<u32>, version: u64) -> Self {
        let kept = sql.len() <= MAX_RELAYED_BYTES;
        Self {
            sql: kept.then(|| Zeroizing::new(sql.to_vec())),
            declared,
            known: AtomicU64::new(version),
        }
    }

    /// The text, in the client's encoding. `None`: it was too long to be kept, and nobody can say what other rules make of it.
    pub fn sql(&self) -> Option<&[u8]> {
        self.sql.as_ref().map(|sql| sql.as_slice())
    }

    /// Parameter types as the client declared them.
    pub fn declared(&self) -> &[u32] {
        &self.declared
    }

    /// Whether it was looked at by these rules.
    pub fn is_known_to(&self, version: u64) -> bool {
        self.known.load(Ordering::Relaxed) == version
    }

    /// It was, and nothing protected is in it.
    pub fn known_to(&self, version: u64) {
        self.known.store(version, Ordering::Relaxed);
    }
}

/// What SQL's PREPARE made of texts that were relayed, by name.
#[derive(Debug, Default)]
pub struct Beside {
    statements: HashMap<Vec<u8>, Relayed>,
    bytes: usize,
    /// There were too many: some are not here.
    lost: bool,
    /// The version of the rules by which nothing protected is in any of them.
    known: u64,
}

impl Beside {
    /// The server keeps it now.
    pub fn keep(&mut self, name: &[u8], text: &[u8]) {
        self.known = NO_RULES;
        if self.bytes + text.len() > MAX_BESIDE_BYTES || self.statements.len() >= MAX_BESIDE {
            self.lost = true;
            return;
        }
        let relayed = Relayed {
            sql: Some(Zeroizing::new(text.to_vec())),
            declared: Vec::new(),
            known: AtomicU64::new(NO_RULES),
        };
        self.bytes += text.len();
        self.statements.insert(name.to_vec(), relayed);
    }

    /// The server forgot one, or all.
    pub fn forget(&mut self, only: Option<&[u8]>) {
        let Some(name) = only else {
            *self = Self::default();
            return;
        };
        if let Some(Some(sql)) = self.statements.remove(name).map(|gone| gone.sql) {
            self.bytes -= sql.len();
        }
    }

    /// Whether all were looked at by these rules.
    pub fn is_known_to(&self, version: u64) -> bool {
        self.known == version || (self.statements.is_empty() && !self.lost)
    }

    /// Looks at those that were not looked at by these rules. True if one may be protected.
    pub fn look_again(&mut self, version: u64, is_protected: impl Fn(&[u8]) -> bool) -> bool {
        for statement in self.statements.values() {
            if statement.is_known_to(version) {
                continue;
            }
            if statement.sql().is_none_or(&is_protected) {
                return true;
            }
            statement.known_to(version);
        }
        self.known = version;
        self.lost
    }

    /// Whether this name may mean something protected, as somebody says of texts.
    pub fn may_be_protected(&self, name: &[u8], is_protected: impl Fn(&[u8]) -> bool) -> bool {
        match self.statements.get(name) {
            Some(statement) => statement.sql().is_none_or(is_protected),
            None => self.lost,
        }
    }
}

impl std::fmt::Debug for Relayed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relayed").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_prepared_beside_is_looked_at_once_by_each_rules() {
        let mut beside = Beside::default();
        assert!(beside.is_known_to(1));
        beside.keep(b"a", b"PREPARE a AS TABLE people");
        assert!(!beside.is_known_to(1));
        assert!(!beside.look_again(1, |_| false));
        assert!(beside.is_known_to(1));
        let names = |text: &[u8]| text.ends_with(b"people");
        // Known to these rules: nobody asks again.
        assert!(!beside.look_again(1, names));
        assert!(beside.look_again(2, names));
        assert!(beside.may_be_protected(b"a", names));
        assert!(!beside.may_be_protected(b"b", names));
        beside.forget(Some(b"a"));
        assert!(!beside.may_be_protected(b"a", names));
        assert_eq!(beside.bytes, 0);
    }

    #[test]
    fn what_is_too_much_to_be_kept_may_be_anything_until_all_is_forgotten() {
        let mut beside = Beside::default();
        for n in 0..=MAX_BESIDE {
            beside.keep(n.to_string().as_bytes(), b"PREPARE n AS SELECT 1");
        }
        assert!(beside.look_again(1, |_| false));
        assert!(!beside.may_be_protected(b"1", |_| false));
        assert!(beside.may_be_protected(MAX_BESIDE.to_string().as_bytes(), |_| false));
        beside.forget(None);
        assert!(!beside.look_again(1, |_| false));
    }
}
