//! The scope of a row, as it was resolved: two, while the terms of a column go from the keys of one to those of another. It
//! resolves none.

use pgveil_config::{ScopeError, ScopePath};
use pgveil_policy::{ruleset::Protected, template};

/// One scope, or the one whose terms are compared and the other one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scoped {
    compared: ScopePath,
    other: Option<ScopePath>,
}

impl Scoped {
    /// Of what a scope template yields.
    ///
    /// # Errors
    /// It is no scope.
    pub fn parse(path: &str) -> Result<Self, ScopeError> {
        let (compared, other) = template::parted(path);
        Ok(Self {
            compared: ScopePath::parse(compared)?,
            other: other.map(ScopePath::parse).transpose()?,
        })
    }

    /// Whose keys make the terms that are compared.
    pub fn compared(&self) -> &ScopePath {
        &self.compared
    }

    /// Whose keys make the terms beside them.
    pub fn other(&self) -> &ScopePath {
        self.other.as_ref().unwrap_or(&self.compared)
    }

    /// Whose keys seal a new value of the column.
    pub fn sealing(&self, column: &Protected) -> &ScopePath {
        if column.seals_other {
            self.other()
        } else {
            self.compared()
        }
    }
}
