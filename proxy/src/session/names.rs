//! What a session keeps by name in SQL: cursors that DECLARE made, statements that PREPARE made. Follows the server's answers, so that it is as the
//! server is when a row description arrives. Plans nothing.

use std::{collections::HashMap, sync::Arc};

use pgveil_policy::{
    Refusal, Ruleset,
    analysis::{Kept, Protocol, Remembered, no_such_statement},
    plan::{Effect, Output, PreparedStatement},
};

use super::{
    ledger::{Ledger, Owed, Portal, PortalNamed, ProtectedStatement, Statement},
    results::Described,
    view::View,
};
use crate::engine::{Engine, Prepared, Rules};

/// Cursors remembered for one session. Of one more FETCH shows nothing protected.
const MAX_CURSORS: usize = 4096;

/// Whose rows: a statement of a plan, or the cursor that it declares.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The plan.
    pub prepared: Arc<Prepared>,
    /// Index of the statement in it.
    pub statement: usize,
    /// The session as it was.
    pub view: Option<Arc<View>>,
    /// The ruleset of the plan.
    pub ruleset: Arc<Ruleset>,
}

impl Planned {
    /// What the rows are.
    pub fn output(&self) -> &Output {
        let statement = self.prepared.plan.statements.get(self.statement);
        match statement.map(|s| (&s.output, &s.effect)) {
            Some((_, Effect::Declare { rows, .. })) => rows,
            Some((output, _)) => output,
            None => &Output::Unknown,
        }
    }

    /// A prepared statement's rows.
    pub fn of_statement(statement: &Statement) -> Option<Self> {
        let protected = statement.protected.as_ref()?;
        Some(Self {
            prepared: Arc::clone(&protected.prepared),
            statement: 0,
            view: Some(Arc::clone(&protected.view)),
            ruleset: Arc::clone(&protected.ruleset),
        })
    }

    /// A bound portal's rows.
    pub fn of_portal(portal: &Portal) -> Option<Self> {
        let planned = Self::of_statement(&portal.statement)?;
        Some(Self {
            view: portal.view.clone().or(planned.view),
            ..planned
        })
    }
}

/// A cursor of the session.
#[derive(Debug)]
struct Cursor {
    planned: Planned,
    /// WITH HOLD.
    hold: bool,
    /// Its transaction has been committed.
    committed: bool,
}

/// The cursors that SQL declared and that may return something protected.
#[derive(Debug, Default)]
pub struct Cursors {
    by_name: HashMap<Vec<u8>, Cursor>,
    /// Since the last ReadyForQuery the server said ROLLBACK or reported an error.
    rolled_back: bool,
}

impl Cursors {
    /// A cursor was declared; `None` if it returns nothing protected.
    fn declare(&mut self, name: &[u8], hold: bool, planned: Option<Planned>) {
        self.by_name.remove(name);
        let Some(planned) = planned else { return };
        if self.by_name.len() >= MAX_CURSORS {
            tracing::warn!(
                limit = MAX_CURSORS,
                "a session has too many cursors open; one is not followed"
            );
            return;
        }
        let cursor = Cursor {
            planned,
            hold,
            committed: false,
        };
        self.by_name.insert(name.to_vec(), cursor);
    }

    /// A cursor was closed, or all were.
    pub fn close(&mut self, name: Option<&[u8]>) {
        match name {
            Some(name) => drop(self.by_name.remove(name)),
            None => self.by_name.clear(),
        }
    }

    /// The server reported an error.
    pub fn failed(&mut self) {
        self.rolled_back = true;
    }

    /// The end of a statement, by its command tag.
    pub fn completed(&mut self, tag: &[u8]) {
        match tag {
            b"COMMIT" => self.keep(),
            // Maybe only to a savepoint; then the transaction goes on.
            b"ROLLBACK" => self.rolled_back = true,
            _ => {}
        }
    }

    /// ReadyForQuery. Outside a transaction only what was declared WITH HOLD in a transaction that was committed is left.
    pub fn ready(&mut self, idle: bool) {
        let rolled_back = std::mem::take(&mut self.rolled_back);
        if !idle || self.by_name.is_empty() {
            return;
        }
        if !rolled_back {
            self.keep();
        }
        self.by_name.retain(|_, cursor| cursor.committed);
    }

    fn keep(&mut self) {
        self.by_name.retain(|_, cursor| cursor.hold);
        for cursor in self.by_name.values_mut() {
            cursor.committed = true;
        }
    }
}

/// What PREPARE made, as Parse would have made it.
fn kept(statement: &PreparedStatement, planned: &Planned, view: &Arc<View>) -> Statement {
    let plan = Arc::clone(&statement.plan);
    Statement {
        scan: planned.ruleset.scan(statement.sql.as_bytes()),
        effects: Vec::new(),
        relayed: None,
        protected: Some(ProtectedStatement {
            sql: statement.sql.clone(),
            declared: statement.declared.clone(),
            prepared: Arc::new(Prepared::new(plan, &statement.sql, Protocol::Extended)),
            view: Arc::clone(view),
            ruleset: Arc::clone(&planned.ruleset),
            literals: Vec::new(),
        }),
        described: Described::default(),
        ends_transaction: false,
    }
}

/// What a session has prepared, for planning a statement that executes it.
pub struct KeptBy<'a> {
    /// The session.
    pub ledger: &'a Ledger,
    /// For planning again after the catalog changed.
    pub engine: &'a Engine,
    /// The rules in force.
    pub rules: &'a Rules,
    /// The session now.
    pub view: &'a View,
}

impl Kept for KeptBy<'_> {
    fn prepared(&self, name: &str) -> Option<Result<Remembered, Refusal>> {
        let Some(statement) = self.ledger.statements.get(name.as_bytes()) else {
            let scan = |text: &[u8]| self.rules.set.scan(text).protected;
            if self.ledger.beside.may_be_protected(name.as_bytes(), scan) {
                return Some(Err(plan_changed()));
            }
            let withheld = self.ledger.withheld.contains(name.as_bytes());
            return withheld.then(|| Err(no_such_statement(name)));
        };
        let protected = statement.protected.as_ref()?;
        Some(self.usable(protected).map(|()| Remembered {
            plan: Arc::clone(&protected.prepared.plan),
            declared: protected.declared.clone(),
        }))
    }
}

impl KeptBy<'_> {
    /// Whether a statement still means what it meant when it was prepared.
    ///
    /// # Errors
    /// What the client must be told otherwise.
    pub fn usable(&self, protected: &ProtectedStatement) -> Result<(), Refusal> {
        let prepared = &protected.prepared;
        let same_names = reads_names_only(prepared) || self.view.resolves_like(&protected.view);
        if same_names && self.rules.set.version == protected.ruleset.version {
            return Ok(());
        }
        let again = self.engine.prepare(
            self.rules,
            &protected.sql,
            self.view,
            self,
            Protocol::Extended,
            &protected.declared,
        );
        // What the analysis says now must be what was prepared; a plan's Debug form holds no plaintext.
        match again {
            Ok(now) if format!("{now:?}") == format!("{prepared:?}") => Ok(()),
            _ if same_names => Err(plan_changed()),
            _ => Err(other_search_path()),
        }
    }

    /// Whether what a statement executes by name still is what it was when the statement was parsed.
    ///
    /// # Errors
    /// What the client must be told otherwise.
    pub fn executes_the_same(&self, statement: &Statement) -> Result<(), Refusal> {
        let planned = statement.protected.iter();
        let planned = planned.flat_map(|p| p.prepared.plan.statements.iter().map(|s| &s.effect));
        for effect in statement.effects.iter().chain(planned) {
            if let Effect::Execute { name, plan } = effect {
                let now = self.prepared(name).transpose()?;
                let same = match (&now, plan) {
                    (None, None) => true,
                    (Some(now), Some(then)) => Arc::ptr_eq(&now.plan, then),
                    _ => false,
                };
                if !same {
                    return Err(plan_changed());
                }
            }
        }
        Ok(())
    }
}

/// Whether a statement names no relation, only what the session keeps: it means the same under every search path.
fn reads_names_only(prepared: &Prepared) -> bool {
    prepared.plan.statements.iter().all(|s| {
        matches!(s.output, Output::Cursor(_))
            || matches!(
                s.effect,
                Effect::Close(_)
                    | Effect::Deallocate(_)
                    | Effect::DiscardAll
                    | Effect::Execute { .. }
            )
    })
}

fn other_search_path() -> Refusal {
    Refusal::unsupported(
        "search-path-changed",
        "the prepared statement was planned under another search path",
    )
    .detail("Its names may mean other tables now.")
    .hint("Prepare it again.")
}

/// The plan of a prepared statement does not hold any more.
pub fn plan_changed() -> Refusal {
    Refusal::unsupported(
        "cached-plan-changed",
        "cached plan must not change result type",
    )
    .detail("The catalog, a key or another prepared statement changed after the statement was prepared.")
    .hint("Prepare it again.")
}

impl Ledger {
    /// The rows that the row description at hand is about.
    pub fn described(&mut self) -> Option<Planned> {
        let planned = match self.front()? {
            Owed::Query(query) => Planned {
                prepared: query.prepared.clone()?,
                statement: query.statement,
                view: query.view.clone(),
                ruleset: query.ruleset.clone()?,
            },
            Owed::DescribeStatement(Some(statement)) => Planned::of_statement(statement)?,
            Owed::DescribePortal(PortalNamed::Bound(portal)) => Planned::of_portal(portal)?,
            Owed::DescribePortal(PortalNamed::Other(name)) => {
                let name = name.clone();
                return self.cursor(&name);
            }
            _ => return None,
        };
        Some(self.follow(planned))
    }

    /// FETCH returns what its cursor returns, shown as the session is now.
    pub fn follow(&self, planned: Planned) -> Planned {
        let Output::Cursor(name) = planned.output() else {
            return planned;
        };
        match self.cursor(name.as_bytes()) {
            Some(cursor) => Planned {
                view: planned.view,
                ..cursor
            },
            None => planned,
        }
    }

    /// A cursor, whoever made it: DECLARE, or a Bind to a portal of that name.
    pub fn cursor(&self, name: &[u8]) -> Option<Planned> {
        let declared = self.cursors.by_name.get(name).map(|c| c.planned.clone());
        declared.or_else(|| Planned::of_portal(self.portals.get(name)?))
    }

    /// The server has run a statement: what its plan, or its words, say that it did to the session's names.
    pub fn took_effect(&mut self, planned: Option<Planned>, plain: Option<&Effect>) {
        if let Some(effect) = plain {
            self.apply(effect, None);
        }
        if let Some(planned) = planned {
            let plan = Arc::clone(&planned.prepared);
            if let Some(statement) = plan.plan.statements.get(planned.statement) {
                self.apply(&statement.effect, Some(&planned));
            }
        }
    }

    /// The server has run a statement: what it did to the session's names.
    pub fn apply(&mut self, effect: &Effect, planned: Option<&Planned>) {
        match effect {
            Effect::None => {}
            Effect::Declare { name, hold, rows } => {
                let shown = planned.filter(|_| *rows != Output::Unknown);
                self.cursors.declare(name.as_bytes(), *hold, shown.cloned());
                self.portals.remove(name.as_bytes());
            }
            Effect::Execute { .. } => {}
            Effect::Prepare {
                name,
                statement,
                text,
            } => {
                self.forget_statements(Some(name.as_bytes()));
                self.withheld.remove(name.as_bytes());
                if statement.is_none() {
                    self.beside.keep(name.as_bytes(), text.0.as_bytes());
                }
                if let (Some(statement), Some(planned)) = (statement, planned)
                    && let Some(view) = &planned.view
                {
                    let made = kept(statement, planned, view);
                    self.statements
                        .insert(name.clone().into_bytes(), Arc::new(made));
                }
            }
            Effect::Close(name) => self.cursors.close(name.as_deref().map(str::as_bytes)),
            Effect::Deallocate(name) => {
                self.forget_statements(name.as_deref().map(str::as_bytes));
            }
            Effect::DiscardAll => {
                self.forget_statements(None);
                self.portals.clear();
                self.cursors.close(None);
            }
        }
    }
}
