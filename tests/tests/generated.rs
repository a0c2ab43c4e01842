//! Random statements, directly on plaintext and through pgveil: the same answer, or a refusal; never a third. A fixed
//! seed and a few thousand statements here; `make differential` draws others, and more.
//!
//! `PGVEIL_SEED` and `PGVEIL_CASES` choose which; `PGVEIL_REFUSALS=1` prints what is refused and why.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
};

use anyhow::{Context, Result, bail};
use pgveil_tests::{
    generate::{Choices, Form, POLICY, ROWS, SCHEMA, Script, smallest, statement},
    postgres::TempPostgres,
    twin::{Sessions, Twin, Verdict},
};

const SEED: u64 = 1;
const CASES: u64 = 250;
const FORMS: [Form; 3] = [Form::Literals, Form::Params, Form::Wrapped];
/// So many failing statements are made small and told.
const TOLD: usize = 8;
/// How often a failing statement is tried in a smaller form.
const ATTEMPTS: usize = 400;

#[test]
fn random_statements_are_answered_right_or_refused() -> Result<()> {
    let twin = Twin::new(TempPostgres::shared()?, SCHEMA, POLICY, ROWS)?;
    let mut sessions = twin.sessions("app")?;
    let seed = number("PGVEIL_SEED", SEED)?;
    let mut account = Account::default();
    let mut wrong = BTreeMap::new();
    for index in 0..number("PGVEIL_CASES", CASES)? {
        for form in FORMS {
            let mut choices = Choices::seeded(seed.wrapping_mul(1_000_003).wrapping_add(index));
            let script = statement(&mut choices, form);
            let verdict = match sessions.play(&script, form) {
                Ok(verdict) => verdict,
                // A session that breaks is wrong too; the next statement needs a new one.
                Err(error) => {
                    sessions = twin.sessions("app")?;
                    Verdict::Wrong(format!("{error:#}"))
                }
            };
            account.add(&script, &verdict);
            if let Verdict::Wrong(first) = verdict {
                let (script, what) = small(&twin, &mut sessions, choices.made(), form, first)?;
                wrong.insert(
                    script.statements.join("; "),
                    format!("{:?} {what}", script.params),
                );
            }
        }
        if wrong.len() >= TOLD {
            break;
        }
    }
    println!("{}", account.report());
    if !wrong.is_empty() {
        let told: Vec<String> = wrong
            .iter()
            .map(|(sql, what)| format!("{sql}\n{what}"))
            .collect();
        bail!(
            "{} WRONG (seed {seed})\n\n{}",
            told.len(),
            told.join("\n\n")
        );
    }
    Ok(())
}

/// A number from the environment.
fn number(name: &str, otherwise: u64) -> Result<u64> {
    match env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name} is no number")),
        Err(_) => Ok(otherwise),
    }
}

/// The smallest statement found that still goes wrong, and how.
fn small(
    twin: &Twin<'_>,
    sessions: &mut Sessions,
    choices: &[u32],
    form: Form,
    first: String,
) -> Result<(Script, String)> {
    let mut what = first;
    let made = smallest(choices, ATTEMPTS, |candidate| {
        let script = statement(&mut Choices::replay(candidate), form);
        match sessions.play(&script, form) {
            Ok(Verdict::Wrong(wrong)) => {
                what = wrong;
                true
            }
            Ok(_) => false,
            Err(error) => {
                // A broken session is wrong too; the next attempt needs a new one.
                what = format!("{error:#}");
                if let Ok(fresh) = twin.sessions("app") {
                    *sessions = fresh;
                }
                true
            }
        }
    });
    Ok((statement(&mut Choices::replay(&made), form), what))
}

/// How many statements were answered, by the features that they use.
#[derive(Default)]
struct Account {
    features: BTreeMap<&'static str, (u64, u64)>,
    answered: u64,
    refused: u64,
    refusals: BTreeMap<String, (u64, String)>,
}

impl Account {
    fn add(&mut self, script: &Script, verdict: &Verdict) {
        let refused = match verdict {
            Verdict::Same => false,
            Verdict::Refused(_) => true,
            Verdict::Wrong(_) => return,
        };
        let distinct: BTreeSet<_> = script.features.iter().collect();
        for feature in distinct {
            let (answered, no) = self.features.entry(feature).or_default();
            *(if refused { no } else { answered }) += 1;
        }
        *(if refused {
            &mut self.refused
        } else {
            &mut self.answered
        }) += 1;
        if let Verdict::Refused(why) = verdict {
            let sql = script.statements.join("; ");
            let entry = self.refusals.entry(why.clone()).or_insert((0, sql.clone()));
            entry.0 += 1;
            if sql.len() < entry.1.len() {
                entry.1 = sql;
            }
        }
    }

    fn report(&self) -> String {
        let share = |answered: u64, refused: u64| 100 * answered / (answered + refused).max(1);
        let mut lines = vec![format!(
            "{} answered, {} refused: {} %",
            self.answered,
            self.refused,
            share(self.answered, self.refused)
        )];
        for (feature, (answered, refused)) in &self.features {
            let share = share(*answered, *refused);
            lines.push(format!(
                "{share:>4} %  {feature} ({answered} + {refused} refused)"
            ));
        }
        if env::var_os("PGVEIL_REFUSALS").is_some() {
            let mut refusals: Vec<_> = self.refusals.iter().collect();
            refusals.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
            for (why, (count, sql)) in refusals {
                lines.push(format!("{count:>5}  {why}\n       {sql}"));
            }
        }
        lines.join("\n")
    }
}
