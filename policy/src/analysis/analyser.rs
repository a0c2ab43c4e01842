//! The state of one statement's analysis: edits, slots, row variables, facts, and the ledger of names.
//! The rules stand in the files beside this one.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    ops::Range,
    sync::Arc,
};

use sqlparser::ast::Ident;

use super::{
    Protocol, SessionView,
    conflict::Conflicting,
    edits::Edits,
    elements::ElementColumn,
    facts::Fact,
    found::Known,
    kind::{Cell, Kind, Sealed},
    meant::Wanted,
    namespace::{Column, Entry, Namespace, Reference, Scope},
    params::Role,
    protection::{Protection, Standing},
    records::{Call, Decided},
    refusals,
    scope::Part,
    source::SourceColumn,
    touched::Touched,
};
use crate::{
    Refusal,
    catalog::Relation,
    plan::{ScopeQuery, Slot},
    ruleset::{Held, Protected, Ruleset},
    text::{Tokens, quote_identifier},
    types::LogicalType,
};

/// One statement under analysis.
pub(super) struct Analyser<'a> {
    pub(super) rules: &'a Ruleset,
    pub(super) protection: &'a Protection<'a>,
    pub(super) view: &'a SessionView,
    pub(super) protocol: Protocol,
    /// Declared types of the client's parameters; 0: not declared.
    pub(super) oids: &'a [u32],
    pub(super) tokens: &'a Tokens<'a>,
    pub(super) edits: Edits,
    pub(super) slots: Vec<Slot>,
    /// What parameters are used for besides plain uses.
    pub(super) roles: Vec<Role>,
    /// What tells the types of parameters in their plain uses.
    pub(super) known: Known,
    pub(super) facts: Vec<Fact>,
    /// So many of them hold for all rows of the SELECT under analysis, not only where some condition is true.
    pub(super) row_facts: usize,
    pub(super) notes: Vec<String>,
    /// By row variable: its table.
    pub(super) instances: Vec<&'a Relation>,
    /// Row variables on the side of an outer join that is filled up with NULLs. What a fact says of them does not hold for
    /// such a row.
    pub(super) padded: HashSet<usize>,
    /// How many entries FROM lists had so far.
    entries: usize,
    /// By entry and column: what `unnest` takes out of a literal or parameter array.
    pub(super) element_columns: HashMap<(usize, usize), ElementColumn>,
    /// By entry and column: such columns, as far as scopes can be made of them.
    pub(super) source_columns: HashMap<(usize, usize), SourceColumn>,
    /// The columns that the SELECT under analysis is to yield values for.
    pub(super) wanted: Option<Wanted<'a>>,
    /// What is sealed now is used as plaintext would be besides being stored.
    pub(super) exact: bool,
    /// What the statement yields is shown to the client, and nothing else is done with it.
    pub(super) shows: bool,
    /// The list (its place in memory) that those rows are made by.
    pub(super) outermost: Option<usize>,
    /// The select list at hand is that one's.
    pub(super) shown: bool,
    /// What plain columns of the rows get that such a SELECT makes.
    pub(super) given: HashMap<String, Part>,
    /// Tokens that name the columns which INSERT and UPDATE write.
    pub(super) targets: HashSet<usize>,
    /// Tokens whose meaning is known.
    accounted: HashSet<usize>,
    /// Whether a table or view that holds or reads sealed values is used.
    pub(super) touched: bool,
    /// Names of sealed columns of the tables and views that the statement uses, as these have them.
    pub(super) sealed_names: HashSet<String>,
    /// And their types.
    pub(super) logicals: HashSet<LogicalType>,
    /// The text is a definition that is stored in the server, where it may have been rewritten already.
    pub(super) stored: bool,
    /// How many views of the session, and functions, stand around this text.
    pub(super) nested: usize,
    /// The text is part of a function's body.
    pub(super) in_body: bool,
    /// The names of what that function has besides tables, arguments first. Columns come before them.
    pub(super) variables: Namespace,
    /// What stopped the analysis of a body: this argument, from 0, is compared with that column.
    pub(super) wanted_argument: RefCell<Option<(usize, Arc<Protected>)>>,
    /// Steps that may still be read of the time under analysis, while one is ([`Analyser::moment`]).
    pub(super) steps_left: std::cell::Cell<Option<u32>>,
    /// The rows that the UPDATE under analysis touches, while what it assigns is analysed.
    pub(super) touched_rows: Option<Touched>,
    /// The rows of the SELECT whose rows are inserted, while it is analysed.
    pub(super) selected_rows: Option<Touched>,
    /// Items of that (their places in memory) that are made of plain columns, and sealed.
    pub(super) fetched_items: HashSet<usize>,
    /// The rows of the ON CONFLICT DO UPDATE under analysis, while what it assigns is analysed.
    pub(super) conflict: Option<Conflicting>,
    /// Tokens of sealed values that must not stand in the query for scopes, and what stands there.
    pub(super) hidden: Vec<(Range<usize>, &'static str)>,
    /// There are some that it cannot do without.
    pub(super) cannot_ask: bool,
    /// By entry and column: columns of sources that are written to protected columns.
    pub(super) assigned: HashSet<(usize, usize)>,
    /// Tokens of columns of which each row picks its scope's value.
    pub(super) picked: HashSet<usize>,
    /// By row variable: calls that make rows of a document.
    pub(super) calls: HashMap<usize, Call>,
    /// Members of documents that are written to protected columns, as far as this reading has seen.
    pub(super) wants: Vec<Decided>,
    /// The same, as an earlier reading of the statement has found.
    pub(super) decided: Vec<Decided>,
    /// What the server must be asked before the statement is sent.
    pub(super) scope_queries: Vec<ScopeQuery>,
}

impl<'a> Analyser<'a> {
    pub(super) fn new(
        rules: &'a Ruleset,
        protection: &'a Protection<'a>,
        view: &'a SessionView,
        protocol: Protocol,
        oids: &'a [u32],
        tokens: &'a Tokens<'a>,
    ) -> Self {
        Self {
            rules,
            protection,
            view,
            protocol,
            oids,
            tokens,
            edits: Edits::default(),
            slots: Vec::new(),
            roles: Vec::new(),
            known: Known::default(),
            facts: Vec::new(),
            row_facts: 0,
            notes: Vec::new(),
            instances: Vec::new(),
            padded: HashSet::new(),
            entries: 0,
            element_columns: HashMap::new(),
            source_columns: HashMap::new(),
            wanted: None,
            exact: false,
            shows: false,
            outermost: None,
            shown: false,
            given: HashMap::new(),
            targets: HashSet::new(),
            accounted: HashSet::new(),
            touched: false,
            sealed_names: HashSet::new(),
            logicals: HashSet::new(),
            stored: false,
            nested: 0,
            in_body: false,
            variables: Namespace::default(),
            wanted_argument: RefCell::new(None),
            steps_left: std::cell::Cell::new(None),
            touched_rows: None,
            selected_rows: None,
            fetched_items: HashSet::new(),
            conflict: None,
            hidden: Vec::new(),
            cannot_ask: false,
            assigned: HashSet::new(),
            picked: HashSet::new(),
            calls: HashMap::new(),
            wants: Vec::new(),
            decided: Vec::new(),
            scope_queries: Vec::new(),
        }
    }

    /// Whether a protected table is used.
    pub(super) fn touches(&self) -> bool {
        self.touched
    }

    /// Adds a sentence for `pgveil explain`.
    pub(super) fn note(&mut self, sentence: String) {
        if !self.notes.contains(&sentence) {
            self.notes.push(sentence);
        }
    }

    /// A number for a new entry of a FROM list.
    pub(super) fn next_entry(&mut self) -> usize {
        self.entries += 1;
        self.entries
    }

    /// A new row variable over a table.
    pub(super) fn instance_of(&mut self, relation: &'a Relation) -> usize {
        self.instances.push(relation);
        self.instances.len() - 1
    }

    /// The protected column, if it is one.
    pub(super) fn protected(&self, relation: &Relation, attnum: i16) -> Option<&'a Arc<Protected>> {
        self.rules.by_attribute.get(&(relation.oid, attnum))
    }

    /// The columns of a row variable.
    pub(super) fn columns_of(&mut self, instance: usize) -> Vec<Column> {
        let relation = self.instances[instance];
        let mut columns = Vec::with_capacity(relation.columns.len());
        for column in &relation.columns {
            let kind = match self.rules.held(relation, column) {
                Held::Protected(protected) => {
                    let sealed = Sealed::new(Arc::clone(protected), instance);
                    Kind::Sealed(sealed.from(relation.oid, column.attnum))
                }
                Held::Moved(from) => {
                    let nowhere = self.instance_of(&self.rules.nowhere);
                    let sealed = Sealed::moved(from, nowhere);
                    Kind::Sealed(sealed.from(relation.oid, column.attnum))
                }
                // What is strange was refused with its table.
                Held::Plain | Held::Strange => Kind::Plain(Some(Cell {
                    instance,
                    attnum: column.attnum,
                })),
            };
            columns.push(Column {
                name: Some(column.name.clone()),
                kind,
            });
        }
        columns
    }

    /// A table as an entry of FROM; one that holds sealed values is remembered.
    pub(super) fn table_entry(
        &mut self,
        relation: &'a Relation,
        alias: Option<String>,
    ) -> (Entry, usize) {
        let instance = self.instance_of(relation);
        let columns = self.columns_of(instance);
        if self.protection.standing(relation) == Standing::Protected {
            self.touch(relation, &columns);
        }
        let entry = Entry {
            id: self.next_entry(),
            schema: alias.is_none().then(|| relation.schema.clone()),
            name: Some(alias.unwrap_or_else(|| relation.name.clone())),
            columns,
            open: false,
            table: true,
            reshaped: relation.reshaped,
        };
        (entry, instance)
    }

    /// Marks an identifier as understood.
    pub(super) fn account(&mut self, ident: &Ident) {
        if let Some(at) = self.tokens.starting(ident.span.start) {
            self.accounted.insert(at);
        }
    }

    /// Marks tokens as understood.
    pub(super) fn account_tokens(&mut self, tokens: Range<usize>) {
        self.accounted.extend(tokens);
    }

    /// What a column reference means: in a function's body also one of its arguments or variables.
    pub(super) fn find(&self, idents: &[Ident], scope: &Scope<'_>) -> Result<Reference, Refusal> {
        scope.find(idents).or_else(|refusal| {
            let undefined = matches!(refusal.sqlstate, "42703" | "42P01");
            let variables = Scope {
                names: &self.variables,
                parent: None,
            };
            match variables.find(idents) {
                Ok(found) if undefined => Ok(found),
                _ => Err(refusal),
            }
        })
    }

    /// Looks a column reference up and writes it in full where it must be.
    pub(super) fn reference(
        &mut self,
        idents: &[Ident],
        scope: &Scope<'_>,
    ) -> Result<Reference, Refusal> {
        let at = idents
            .first()
            .and_then(|ident| self.tokens.starting(ident.span.start));
        let position = at.map_or(0, |at| self.tokens.range(at).start);
        let found = self
            .find(idents, scope)
            .map_err(|refusal| refusal.at(position))?;
        for ident in idents {
            self.account(ident);
        }
        let last = idents
            .last()
            .and_then(|ident| self.tokens.starting(ident.span.start));
        if let (Some(start), Some(last)) = (at, last) {
            self.know_column(start, last + 1, &found.kind);
        }
        if found.qualify && idents.len() == 1 {
            let entry = found
                .entry
                .as_deref()
                .ok_or_else(|| refusals::construct("JOIN USING here").at(position))?;
            self.edits
                .qualify(position, format!("{}.", quote_identifier(entry)));
        }
        Ok(found)
    }

    /// The type of a scope column, if it is one that scopes can be made of.
    pub(super) fn column_type(&self, cell: Cell) -> Option<LogicalType> {
        let made = self.source_columns.values().find(|made| made.cell == cell);
        if let Some(made) = made {
            return Some(made.logical);
        }
        if let Some(logical) = self.member_type(cell) {
            return Some(logical);
        }
        let relation = self.instances.get(cell.instance)?;
        let column = relation
            .columns
            .iter()
            .find(|column| column.attnum == cell.attnum)?;
        LogicalType::from_oid(column.base_type_oid, column.typmod)
    }

    /// Every word of the statement that spells a protected column of a table it uses must have been understood:
    /// whatever a rule forgot to look at is refused here.
    pub(super) fn check_ledger(
        &self,
        statement: &Range<usize>,
        left_out: &HashSet<usize>,
    ) -> Result<(), Refusal> {
        for at in statement.clone() {
            let known =
                self.accounted.contains(&at) || left_out.contains(&at) || self.tokens.is_syntax(at);
            if !known
                && self
                    .tokens
                    .name(at)
                    .is_some_and(|name| self.sealed_names.contains(&*name))
            {
                let what =
                    "A word has the name of a protected column, but its meaning here is not known";
                return Err(refusals::not_understood(what).at(self.tokens.range(at).start));
            }
        }
        Ok(())
    }

    /// Whether values of the tables used depend on settings that pgveil cannot follow.
    pub(super) fn check_settings(&self) -> Result<(), Refusal> {
        let dated = self
            .logicals
            .iter()
            .any(|logical| logical.depends_on_time_zone());
        match self.view.format.unsupported() {
            Some(refusal) if dated => Err(refusal),
            _ => Ok(()),
        }
    }
}
