//! EXPLAIN in all its spellings: the statement inside is judged as if it stood alone; what comes back is its plan.

use std::ops::Range;

use sqlparser::tokenizer::Token as Kind;

use super::{
    Protocol,
    kept::{Judged, Names},
    params::Parameters,
    refusals,
    statement::{Changes, Door, Verdict},
};
use crate::{
    Refusal, explanation,
    plan::{ClientParam, Edit, Effect, Output, Replacement},
    text::{Verb, verb},
};

impl Door<'_> {
    /// `EXPLAIN [ANALYZE] [VERBOSE] statement`, `EXPLAIN (options) statement`.
    pub(super) fn explain(
        &self,
        statement: &Range<usize>,
        names: &Names<'_>,
    ) -> Result<Judged, Refusal> {
        let inner = self.explained(statement)?;
        if let Some(json) = self.asks_pgveil(statement)? {
            return Ok(self.explain_rewriting(&inner, names, json, statement));
        }
        self.check_dynamic(statement)?;
        let judged = match verb(self.tokens, &inner) {
            Some(Verb::Execute {
                name,
                list,
                arguments,
            }) => self.execute(name, &list, &arguments, names)?,
            Some(Verb::Declare { query, .. }) => self.inner_query(&query)?.into(),
            _ if !self.names_protected(&inner) => Verdict::Relay.into(),
            _ => self.judge_named(&inner, true)?.into(),
        };
        let effect = match judged.effect {
            executes @ Effect::Execute { .. } => executes,
            // EXPLAIN declares and prepares nothing.
            _ => Effect::None,
        };
        let verdict = match judged.verdict {
            Verdict::Relay => Verdict::Relay,
            Verdict::Copied(..) => return Err(refusals::construct("EXPLAIN of this")),
            Verdict::Changed(changes) => Verdict::Changed(Box::new(Changes {
                output: Output::Explained,
                tag: None,
                ..*changes
            })),
        };
        Ok(Judged {
            effect,
            ..verdict.into()
        })
    }

    /// The statement that is explained.
    fn explained(&self, statement: &Range<usize>) -> Result<Range<usize>, Refusal> {
        let tokens = self.tokens;
        let mut at = statement.start + 1;
        let options = matches!(tokens.kind(at), Kind::LParen)
            && !["select", "with", "values", "table"]
                .iter()
                .any(|word| tokens.is_word(at + 1, word))
            && !matches!(tokens.kind(at + 1), Kind::LParen);
        if options {
            at = tokens.behind_pair(at)?;
        }
        while ["analyze", "analyse", "verbose"]
            .iter()
            .any(|word| tokens.is_word(at, word))
        {
            at += 1;
        }
        Ok(at.min(statement.end)..statement.end)
    }

    /// `EXPLAIN (PGVEIL [, FORMAT TEXT | JSON])`: whether the answer is wanted as JSON.
    fn asks_pgveil(&self, statement: &Range<usize>) -> Result<Option<bool>, Refusal> {
        let tokens = self.tokens;
        let open = statement.start + 1;
        let Some(close) = tokens
            .pair(open)
            .filter(|_| matches!(tokens.kind(open), Kind::LParen))
        else {
            return Ok(None);
        };
        let starts = (open + 1..close)
            .filter(|at| *at == open + 1 || matches!(tokens.kind(at - 1), Kind::Comma));
        let starts: Vec<usize> = starts.collect();
        if !starts.iter().any(|at| tokens.is_word(*at, "pgveil")) {
            return Ok(None);
        }
        let mut json = false;
        for at in starts {
            let ends = |at: usize| at == close || matches!(tokens.kind(at), Kind::Comma);
            let value = tokens.name(at + 1).filter(|_| ends(at + 2));
            match value.as_deref() {
                None if tokens.is_word(at, "pgveil") && ends(at + 1) => {}
                Some("on" | "true") if tokens.is_word(at, "pgveil") => {}
                Some("text") if tokens.is_word(at, "format") => json = false,
                Some("json") if tokens.is_word(at, "format") => json = true,
                _ => {
                    let what = "an option of EXPLAIN (PGVEIL) other than FORMAT TEXT or JSON";
                    return Err(refusals::construct(what).at(tokens.range(at).start));
                }
            }
        }
        Ok(Some(json))
    }

    /// The statement becomes a query of constants that says how it would be rewritten, or why it is refused.
    fn explain_rewriting(
        &self,
        inner: &Range<usize>,
        names: &Names<'_>,
        json: bool,
        statement: &Range<usize>,
    ) -> Judged {
        let sql = &self.tokens.sql[self.tokens.bytes(inner)];
        let planned = self
            .rules
            .analyse_in(sql, self.view, names, self.protocol, self.oids);
        let planned = planned.and_then(|plan| {
            let refused = plan.statements.iter().find_map(|s| s.refused.clone());
            refused.map_or(Ok(plan), Err)
        });
        let (rows, client) = match planned {
            Ok(plan) => {
                let rows = explanation::of_plan(&plan, sql, self.protocol, self.rules);
                (rows, plan.client_params)
            }
            Err(refusal) => {
                let count = match self.protocol {
                    Protocol::Simple => 0,
                    Protocol::Extended => self.parameter_count(),
                };
                let client = (0..count).map(ClientParam::Server).collect();
                (explanation::of_refusal(&refusal), client)
            }
        };
        let edit = Edit {
            range: self.tokens.bytes(statement),
            with: Replacement::Text(explanation::query(&rows, json)),
        };
        let changes = Changes {
            scope_queries: Vec::new(),
            edits: vec![edit],
            slots: Vec::new(),
            parameters: Parameters {
                server: Vec::new(),
                client,
                untold: Vec::new(),
            },
            output: Output::Explained,
            notes: Vec::new(),
            tag: Some("EXPLAIN"),
        };
        Judged {
            answers_itself: true,
            ..Verdict::Changed(Box::new(changes)).into()
        }
    }
}
