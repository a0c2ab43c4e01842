//! Where what policy wants meets what keys do: makes the sealed values and search terms of a plan's slots,
//! and opens the values of a result. The only file of the proxy in which plaintext and keys meet.

mod ahead;
mod array;
mod codec;
mod computed;
mod document;
mod elements;
mod fetched;
mod inside;
mod members;
mod moment;
mod opening;
mod per_scope;
mod refusing;
mod row;

pub mod sealing;

use std::{borrow::Cow, sync::Arc};

use pgveil_config::{ScopePath, SearchKey};
use pgveil_keys::{
    DataKey, DekId, IndexKey, Keys, nonce,
    sealed::{self, Terms},
    term,
};
use pgveil_policy::{
    Refusal, Ruleset,
    plan::{ClientParam, Make, Operand, ScopePart, Slot},
    ruleset::{Generation, Protected},
    template,
    types::{
        Conversion, Converted, FormatSettings, InputError, LogicalType, Record, Value, convert,
    },
};

use self::refusing::{
    damaged, does_not_fit, no_longer_in_policy, not_exact, not_sealed, scope_null, session_unset,
    unknown_column,
};
pub use self::{
    ahead::Ahead,
    inside::{open_holder, type_oid},
    opening::{Lens, Opened, Opening, Scratch, Unsealed, open_field},
    per_scope::{AskedScopes, too_many_values},
    refusing::{input_refusal, key_refusal},
};
use super::{scoped::Scoped, view::View};
use crate::engine::{Engine, Prepared};

/// A Bind's parameter values as the client sent them.
#[derive(Debug, Default)]
pub struct Parameters<'a> {
    /// Values in order; `None` is NULL.
    pub values: Vec<Option<&'a [u8]>>,
    /// Format codes: none, one for all, or one each.
    pub formats: Vec<i16>,
    /// Types as the client declared them in Parse; 0 or missing: not declared.
    pub declared: &'a [u32],
}

impl Parameters<'_> {
    /// The format of one parameter: 0 text, 1 binary.
    pub fn format(&self, index: usize) -> i16 {
        format_code(&self.formats, index)
    }
}

/// The protocol's rule for format codes: none means text, one stands for all.
pub fn format_code(codes: &[i16], index: usize) -> i16 {
    match codes {
        [] => 0,
        [one] => *one,
        many => many.get(index).copied().unwrap_or(0),
    }
}

/// What a slot became: NULL, a `bytea`, or the elements of a `bytea[]`.
#[derive(Debug)]
pub enum Made {
    /// NULL.
    Null,
    /// A sealed value or a term.
    Bytes(Vec<u8>),
    /// Terms.
    Array(Vec<Option<Vec<u8>>>),
}

/// Makes slots for one execution of a plan.
pub struct Maker<'a> {
    /// Keys and settings.
    pub engine: &'a Engine,
    /// The ruleset the plan was made under.
    pub rules: &'a Ruleset,
    /// The plan.
    pub prepared: &'a Prepared,
    /// The session now.
    pub view: &'a View,
    /// The client's parameters; empty in the simple protocol.
    pub params: Parameters<'a>,
    /// What the plan's scope queries found.
    pub asked: &'a [AskedScopes],
    /// Of its keys.
    pub ahead: Ahead,
}

impl Maker<'_> {
    /// All slots of the plan, in order.
    ///
    /// # Errors
    /// Bad input in Postgres's own words; `PV001` for a scope that cannot be resolved; `PV002` when a key
    /// cannot be had.
    pub async fn make_all(&self) -> Result<Vec<Made>, Refusal> {
        let mut made = Vec::with_capacity(self.prepared.plan.slots.len());
        for (index, slot) in self.prepared.plan.slots.iter().enumerate() {
            made.push(self.make(index, slot).await?);
        }
        Ok(made)
    }

    async fn make(&self, index: usize, slot: &Slot) -> Result<Made, Refusal> {
        let column = self
            .rules
            .columns
            .get(&slot.column)
            .ok_or_else(unknown_column)?;
        match slot.make {
            Make::Seal | Make::SealBare => {
                let wanted = match slot.make {
                    Make::SealBare => column.logical.without_modifiers(),
                    _ => column.logical,
                };
                let why = Conversion::Assignment;
                let value = self.value(&slot.operand, wanted, why);
                if slot.exact {
                    let bare = self.value(&slot.operand, wanted.without_modifiers(), why)?;
                    if value.as_ref().ok() != Some(&bare) {
                        return Err(not_exact(column));
                    }
                }
                let Some(value) = value? else {
                    return Ok(Made::Null);
                };
                let Converted::Value(value) = value else {
                    return Err(does_not_fit(column));
                };
                let scope = self.scope(index, slot)?;
                self.seal(column, &scope, &value).await.map(Made::Bytes)
            }
            Make::EqualityTerm => {
                // A comparison does not apply the column's modifiers: `varchar(3) = 'abcd'` is false, not an error.
                let wanted = column.logical.operand();
                match self.value(&slot.operand, wanted, Conversion::Comparison)? {
                    None => Ok(Made::Null),
                    Some(value) => {
                        let scope = self.scope(index, slot)?;
                        self.term(column, &scope, &value).await.map(Made::Bytes)
                    }
                }
            }
            Make::EqualityTerms => {
                let wanted = column.logical.operand();
                let elements = self.elements(&slot.operand, wanted, Conversion::Comparison)?;
                let Some(elements) = elements else {
                    return Ok(Made::Null);
                };
                let scope = self.scope(index, slot)?;
                let mut terms = Vec::with_capacity(elements.len());
                for element in elements {
                    terms.push(match element {
                        Some(value) => Some(self.term(column, &scope, &value).await?),
                        None => None,
                    });
                }
                Ok(Made::Array(terms))
            }
            Make::SealElements => self.seal_elements(index, slot, column).await,
            Make::SealPerScope => self.seal_per_scope(slot, column).await,
            Make::SealElementsPerScope => self.seal_elements_per_scope(slot, column).await,
            Make::SealFetched => self.seal_fetched(slot, column).await,
            Make::SealMembers => self.seal_members(slot).await,
        }
    }

    async fn seal(
        &self,
        column: &Protected,
        scope: &Scoped,
        value: &Value,
    ) -> Result<Vec<u8>, Refusal> {
        let fitted = sealing::fitted(column, value, &self.view.session.format);
        let fitted = fitted.map_err(input_refusal)?;
        let value = fitted.as_ref().unwrap_or(value);
        let terms = self.terms(column, scope, value).await?;
        let mut out = Vec::new();
        loop {
            let scope = scope.sealing(column);
            let key = match self.engine.keys.cached_sealing_key(scope) {
                Some(key) => key,
                None => {
                    self.keys_ahead().await;
                    sealing_key(&self.engine.keys, scope).await?
                }
            };
            let sealed = sealed::seal(
                &key,
                column.id,
                &terms,
                &nonce::next(),
                value.as_bytes(),
                &mut out,
            );
            // Another thread took its last use in between: the next one is there, or is an error.
            if sealed.is_ok() {
                return Ok(out);
            }
        }
    }

    async fn term(
        &self,
        column: &Protected,
        scope: &Scoped,
        value: &Converted,
    ) -> Result<Vec<u8>, Refusal> {
        match value {
            Converted::Value(value) => self
                .equality(column, scope, value)
                .await
                .map(|t| t.to_vec()),
            // Random bytes match no term: the comparison is false, as it is on plaintext.
            Converted::NeverEqual => {
                let mut term = nonce::next().to_vec();
                term.extend_from_slice(&nonce::next()[..4]);
                Ok(term)
            }
        }
    }

    /// What a new value bears.
    async fn terms(
        &self,
        column: &Protected,
        scope: &Scoped,
        value: &Value,
    ) -> Result<Terms, Refusal> {
        if !column.terms {
            return Ok(Terms::NONE);
        }
        let number = column.generation.number;
        let term = self.equality(column, scope, value).await?;
        let Some(other) = &column.also else {
            return Ok(Terms::one(number, term));
        };
        let (scope, newest) = key_of(other.search_key(), other.generation, scope.other());
        let key = index_key(&self.engine.keys, &scope, newest).await?;
        let canonical = column.logical.canonical(value.as_bytes());
        let another = term::equality(&key, &other.context(column.id), &canonical);
        Ok(Terms::two(
            (number, term),
            (other.generation.number, another),
        ))
    }

    async fn equality(
        &self,
        column: &Protected,
        scope: &Scoped,
        value: &Value,
    ) -> Result<[u8; 16], Refusal> {
        let (scope, newest) = key_of(column.search_key, column.generation, scope.compared());
        let key = match self.engine.keys.cached_index_key(&scope, newest) {
            Some(key) => key,
            None => {
                self.keys_ahead().await;
                index_key(&self.engine.keys, &scope, newest).await?
            }
        };
        Ok(term::equality(
            &key,
            &column.context,
            &column.logical.canonical(value.as_bytes()),
        ))
    }

    /// A slot's plaintext in the wanted type.
    fn value(
        &self,
        operand: &Operand,
        wanted: LogicalType,
        why: Conversion,
    ) -> Result<Option<Converted>, Refusal> {
        match operand {
            Operand::Literal(value) => Ok(value.clone().map(Converted::Value)),
            Operand::Argument(value, from) => {
                let value = value.clone();
                value
                    .map(|value| adapt(value, *from, wanted, why, &self.view.session.format))
                    .transpose()
                    .map_err(input_refusal)
            }
            Operand::Array(_)
            | Operand::ArgumentArray(..)
            | Operand::SpelledEach(_)
            | Operand::Split(..) => Err(Refusal::new(
                "42804",
                "invalid-input",
                "an array stands where a single value is wanted",
            )),
            // Each row has its own.
            Operand::Fetched(_) => Err(unknown_column()),
            Operand::Moment(timed) => self.moment(timed, wanted, why),
            Operand::Computed(expression) => self.computed(expression, wanted, why),
            Operand::Spelled(expression) => self.spelled(expression, wanted),
            Operand::Param(index) => {
                let value = self.parameter(*index, wanted, why);
                value.map_err(input_refusal)
            }
        }
    }

    /// A client's parameter in the wanted type.
    fn parameter(
        &self,
        index: usize,
        wanted: LogicalType,
        why: Conversion,
    ) -> Result<Option<Converted>, InputError> {
        let Some(bytes) = self.params.values.get(index).copied().flatten() else {
            return Ok(None);
        };
        let from = self.arrives_as(index, wanted);
        // A string that is cast is read as its text, whose form is the same in both formats.
        let is_text = self.declared(index).is_some_and(LogicalType::is_string) && !from.is_string();
        let binary = self.params.format(index) != 0 && !is_text;
        let settings = &self.view.session.format;
        let value = decode(bytes, binary, from, settings)?;
        match self.cast_to(index) {
            Some(to) => adapt(cast(&value, from, to, settings)?, to, wanted, why, settings),
            None => adapt(value, from, wanted, why, settings),
        }
        .map(Some)
    }

    fn elements(
        &self,
        operand: &Operand,
        wanted: LogicalType,
        why: Conversion,
    ) -> Result<Option<Vec<Option<Converted>>>, Refusal> {
        match operand {
            Operand::Array(values) => Ok(Some(
                values
                    .iter()
                    .map(|v| v.clone().map(Converted::Value))
                    .collect(),
            )),
            Operand::Literal(None) | Operand::Argument(None, _) => Ok(None),
            Operand::Split(text, between) => self.split(text, between, wanted, why),
            Operand::SpelledEach(texts) => {
                let texts = self.elements(texts, LogicalType::Text, why)?;
                Ok(texts.map(|texts| self.spelled_each(texts, wanted)))
            }
            Operand::Literal(Some(_))
            | Operand::Argument(Some(_), _)
            | Operand::Computed(..)
            | Operand::Fetched(_)
            | Operand::Spelled(..)
            | Operand::Moment(_) => Err(Refusal::new(
                "42804",
                "invalid-input",
                "a single value stands where an array is wanted",
            )),
            Operand::ArgumentArray(values, from) => {
                let settings = &self.view.session.format;
                let adapted = |value: &Value| adapt(value.clone(), *from, wanted, why, settings);
                let values = values.iter().map(|v| v.as_ref().map(adapted).transpose());
                values
                    .collect::<Result<_, _>>()
                    .map(Some)
                    .map_err(input_refusal)
            }
            Operand::Param(index) => {
                let Some(bytes) = self.params.values.get(*index).copied().flatten() else {
                    return Ok(None);
                };
                let settings = &self.view.session.format;
                let from = match self.prepared.plan.client_params.get(*index) {
                    Some(ClientParam::Array(logical)) => logical.without_modifiers(),
                    _ => wanted,
                };
                let values = if self.params.format(*index) == 0 {
                    from.array_input(bytes, settings)
                } else {
                    from.array_recv(bytes, settings)
                };
                values
                    .and_then(|values| {
                        values
                            .into_iter()
                            .map(|v| v.map(|v| adapt(v, from, wanted, why, settings)).transpose())
                            .collect()
                    })
                    .map(Some)
                    .map_err(input_refusal)
            }
        }
    }

    /// The type in which a client's parameter arrives.
    fn arrives_as(&self, index: usize, wanted: LogicalType) -> LogicalType {
        match self.prepared.plan.client_params.get(index) {
            Some(ClientParam::Converted { from } | ClientParam::Cast { from, .. }) => *from,
            // The declared type speaks where the client declared one; what the client was told otherwise.
            _ => self
                .declared(index)
                .filter(|declared| declared.without_modifiers() != wanted.without_modifiers())
                .filter(|declared| wanted.is_string() || !declared.is_string())
                .unwrap_or(wanted),
        }
    }

    /// What a client's parameter is cast to before anything else.
    fn cast_to(&self, index: usize) -> Option<LogicalType> {
        match self.prepared.plan.client_params.get(index) {
            Some(ClientParam::Cast { to, .. }) => Some(*to),
            _ => None,
        }
    }

    /// The type that the client declared a parameter with.
    fn declared(&self, index: usize) -> Option<LogicalType> {
        let oid = self.params.declared.get(index)?;
        LogicalType::from_oid(*oid, -1)
    }

    /// The scope of a slot's keys.
    ///
    /// # Errors
    /// `PV001` if it cannot be resolved.
    pub fn slot_scope(&self, index: usize) -> Result<Scoped, Refusal> {
        match self.prepared.plan.slots.get(index) {
            Some(slot) => self.scope(index, slot).map(Cow::into_owned),
            None => Err(unknown_column()),
        }
    }

    /// The key that a slot's values are sealed with now, in this scope.
    ///
    /// # Errors
    /// `PV002` when it cannot be had.
    pub async fn sealing_key(&self, index: usize, scope: &Scoped) -> Result<DekId, Refusal> {
        let slot = self.prepared.plan.slots.get(index);
        let column = slot.and_then(|slot| self.rules.columns.get(&slot.column));
        let scope = scope.sealing(column.ok_or_else(unknown_column)?);
        let key = sealing_key(&self.engine.keys, scope).await?;
        Ok(key.id())
    }

    fn scope(&self, index: usize, slot: &Slot) -> Result<Cow<'_, Scoped>, Refusal> {
        self.scope_of(index, slot, &[], &[])
    }

    /// A slot's scope, for the row that has these elements of the arrays beside the slot's own, or these values
    /// in the columns that a scope query asked for.
    fn scope_of(
        &self,
        index: usize,
        slot: &Slot,
        row: &[Option<&Converted>],
        asked: &[Option<String>],
    ) -> Result<Cow<'_, Scoped>, Refusal> {
        if let Some(Some(scope)) = self.prepared.scopes.get(index) {
            return Ok(Cow::Borrowed(scope));
        }
        let scope = self.scope_from(&slot.scope, row, asked, None)?;
        if let Some(column) = self.rules.columns.get(&slot.column)
            && !is_passed_on(slot)
        {
            self.view.scopes.check(column, scope.sealing(column))?;
        }
        Ok(Cow::Owned(scope))
    }

    /// The same of its parts; `record` is the one that a member stands in.
    fn scope_from(
        &self,
        parts: &[ScopePart],
        row: &[Option<&Converted>],
        asked: &[Option<String>],
        record: Option<&Record<'_>>,
    ) -> Result<Scoped, Refusal> {
        let mut row = row.iter();
        let mut path = String::new();
        for part in parts {
            match part {
                ScopePart::Text(text) => path.push_str(text),
                ScopePart::Session(name) => {
                    let value = self
                        .view
                        .settings
                        .get(name)
                        .ok_or_else(|| session_unset(name))?;
                    path.push_str(&template::encode(value));
                }
                ScopePart::Row(operand, logical) => {
                    let Some(Converted::Value(value)) =
                        self.value(operand, *logical, Conversion::Assignment)?
                    else {
                        return Err(scope_null());
                    };
                    path.push_str(&scope_text(*logical, &value)?);
                }
                ScopePart::Element(_, logical) => {
                    let Some(Some(Converted::Value(value))) = row.next() else {
                        return Err(scope_null());
                    };
                    path.push_str(&scope_text(*logical, value)?);
                }
                ScopePart::Member(name, logical) => {
                    let member = record.and_then(|record| record.member(name));
                    let text = member.map(|member| member.given.text(*logical));
                    let text = text.transpose().map_err(input_refusal)?.flatten();
                    let text = text.ok_or_else(scope_null)?;
                    let value = logical
                        .input(&text, &self.view.session.format)
                        .map_err(input_refusal)?;
                    path.push_str(&scope_text(*logical, &value)?);
                }
                ScopePart::Asked {
                    column, logical, ..
                } => {
                    let text = asked.get(*column).and_then(Option::as_ref);
                    let text = text.ok_or_else(scope_null)?;
                    let value = logical
                        .input(text.as_bytes(), &self.view.session.format)
                        .map_err(input_refusal)?;
                    path.push_str(&scope_text(*logical, &value)?);
                }
            }
        }
        Scoped::parse(&path).map_err(|error| {
            Refusal::new(
                "PV001",
                "scope-not-resolved",
                "the scope of a protected value cannot be resolved",
            )
            .detail(error.to_string())
        })
    }
}

/// Whether a value is sealed with keys of no row's, to be shown only.
fn is_passed_on(slot: &Slot) -> bool {
    slot.make == Make::SealBare && matches!(slot.scope.as_slice(), [ScopePart::Text(_)])
}

fn decode(
    bytes: &[u8],
    binary: bool,
    from: LogicalType,
    settings: &FormatSettings,
) -> Result<Value, InputError> {
    if binary {
        from.recv(bytes, settings)
    } else {
        from.input(bytes, settings)
    }
}

/// An explicit cast: a text is read, a number or a time rounded.
fn cast(
    value: &Value,
    from: LogicalType,
    to: LogicalType,
    settings: &FormatSettings,
) -> Result<Value, InputError> {
    if from.is_string() && !to.is_string() {
        // Its send form is its text.
        return to.input(value.as_bytes(), settings);
    }
    match convert(value, from, to, Conversion::Assignment, settings)? {
        Converted::Value(value) => Ok(value),
        Converted::NeverEqual => Err(InputError::new("22003", "value out of range".to_owned())),
    }
}

fn adapt(
    value: Value,
    from: LogicalType,
    wanted: LogicalType,
    why: Conversion,
    settings: &FormatSettings,
) -> Result<Converted, InputError> {
    if from == wanted {
        return Ok(Converted::Value(value));
    }
    convert(&value, from, wanted, why, settings)
}

async fn sealing_key(keys: &Keys, scope: &ScopePath) -> Result<Arc<DataKey>, Refusal> {
    match keys.cached_sealing_key(scope) {
        Some(key) => Ok(key),
        None => keys.sealing_key(scope).await.map_err(|e| key_refusal(&e)),
    }
}

/// Whose index key makes terms, and the newest that may be meant.
fn key_of(
    search_key: SearchKey,
    generation: Generation,
    scope: &ScopePath,
) -> (Cow<'_, ScopePath>, u64) {
    let scope = match search_key {
        SearchKey::Scope => Cow::Borrowed(scope),
        SearchKey::Shared => Cow::Owned(ScopePath::platform()),
    };
    (scope, generation.newest_key)
}

async fn index_key(keys: &Keys, scope: &ScopePath, newest: u64) -> Result<Arc<IndexKey>, Refusal> {
    match keys.cached_index_key(scope, newest) {
        Some(key) => Ok(key),
        None => { keys.index_key(scope, newest).await }.map_err(|e| key_refusal(&e)),
    }
}

/// Puts a key into the cache so that [`open_field`] finds it.
///
/// # Errors
/// `PV002` when it cannot be had, `PV003` when no such key ever existed.
pub async fn fetch_key(keys: &Keys, dek: DekId) -> Result<(), Refusal> {
    keys.opening_key(dek)
        .await
        .map(|_| ())
        .map_err(|e| key_refusal(&e))
}

fn scope_text(logical: LogicalType, value: &Value) -> Result<String, Refusal> {
    let text = logical
        .scope_text(value)
        .filter(|text| !text.is_empty())
        .ok_or_else(scope_null)?;
    Ok(template::encode(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_format_code_stands_for_all_and_none_for_text() {
        assert_eq!(format_code(&[], 3), 0);
        assert_eq!(format_code(&[1], 3), 1);
        assert_eq!(format_code(&[0, 1], 1), 1);
    }
}
