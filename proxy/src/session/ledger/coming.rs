//! Whether data of the client's may be for a COPY FROM STDIN that the server has not begun yet.

use pgveil_policy::{Plan, copy::CopyRows, plan::Output};

use super::{Ledger, Owed, PortalNamed, QueryOwed};

/// Whether a COPY FROM STDIN is about to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Coming {
    /// None can: the server would ignore its data.
    None,
    /// Perhaps one without protected columns.
    Unknown,
    /// One with protected columns, unless the server refuses it.
    Protected,
}

impl Ledger {
    /// Whether data that comes while the server is not in copy-in mode may yet be wanted.
    pub fn coming_copy(&mut self) -> Coming {
        let ended = self.copy_ended;
        let mut coming = Coming::None;
        // Makes room for the front.
        self.front();
        for (place, owed) in self.owed.iter().enumerate() {
            let ended = ended && place == 0;
            let next = match owed {
                Owed::Query(query) => query.coming_copy(ended),
                Owed::Execute { .. } if ended => Coming::None,
                Owed::Execute { portal } => match portal {
                    PortalNamed::Bound(portal) => match &portal.statement.protected {
                        Some(protected) => of_plan(&protected.prepared.plan, 0),
                        None => Coming::Unknown,
                    },
                    PortalNamed::Other(_) => Coming::Unknown,
                },
                _ => Coming::None,
            };
            coming = coming.max(next);
        }
        coming
    }
}

impl QueryOwed {
    /// `ended`: the data of the current statement has been sent.
    fn coming_copy(&self, ended: bool) -> Coming {
        if self.failed {
            return Coming::None;
        }
        match &self.prepared {
            Some(prepared) => of_plan(&prepared.plan, self.statement + usize::from(ended)),
            None if self.swap.is_some() => Coming::None,
            None => Coming::Unknown,
        }
    }
}

/// What the statements from `first` on may begin.
fn of_plan(plan: &Plan, first: usize) -> Coming {
    let rest = plan.statements.iter().skip(first);
    let coming = rest.map(|statement| match &statement.copy {
        _ if statement.refused.is_some() => Coming::None,
        Some(copy) if matches!(copy.rows, CopyRows::Out(_)) => Coming::None,
        Some(_) => Coming::Protected,
        None if statement.output == Output::Unknown => Coming::Unknown,
        None => Coming::None,
    });
    coming.max().unwrap_or(Coming::None)
}
