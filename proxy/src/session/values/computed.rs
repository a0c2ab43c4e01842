//! What functions make of parameters that are texts.

use pgveil_policy::{
    Refusal,
    types::{Conversion, Converted, InputError, LogicalType, TextExpression, Value, spelled},
};
use zeroize::Zeroizing;

use super::{Maker, adapt, input_refusal};

impl Maker<'_> {
    /// Such a text as a value of the wanted type.
    pub(super) fn computed(
        &self,
        expression: &TextExpression,
        wanted: LogicalType,
        why: Conversion,
    ) -> Result<Option<Converted>, Refusal> {
        let made = self.text_of(expression)?;
        made.map(|made| {
            let value = Value::from_send_form(made.as_bytes().to_vec());
            let settings = &self.view.session.format;
            adapt(value, LogicalType::Text, wanted, why, settings)
        })
        .transpose()
        .map_err(input_refusal)
    }

    /// The value that such a text spells.
    pub(super) fn spelled(
        &self,
        expression: &TextExpression,
        wanted: LogicalType,
    ) -> Result<Option<Converted>, Refusal> {
        let made = self.text_of(expression)?;
        Ok(made.map(|text| {
            let value = spelled(wanted, &text, &self.view.session.format);
            value.map_or(Converted::NeverEqual, Converted::Value)
        }))
    }

    /// The values that texts spell.
    pub(super) fn spelled_each(
        &self,
        texts: Vec<Option<Converted>>,
        wanted: LogicalType,
    ) -> Vec<Option<Converted>> {
        let settings = &self.view.session.format;
        let value = |text: Converted| {
            let Converted::Value(text) = text else {
                return Converted::NeverEqual;
            };
            let text = std::str::from_utf8(text.as_bytes()).ok();
            let value = text.and_then(|text| spelled(wanted, text, settings));
            value.map_or(Converted::NeverEqual, Converted::Value)
        };
        { texts.into_iter() }.map(|text| text.map(value)).collect()
    }

    /// The pieces of a text as values of the wanted type.
    pub(super) fn split(
        &self,
        text: &TextExpression,
        between: &TextExpression,
        wanted: LogicalType,
        why: Conversion,
    ) -> Result<Option<Vec<Option<Converted>>>, Refusal> {
        let (Some(text), Some(between)) = (self.text_of(text)?, self.text_of(between)?) else {
            return Ok(None);
        };
        let pieces: Vec<&str> = match (text.is_empty(), between.is_empty()) {
            (true, _) => Vec::new(),
            (false, true) => vec![&text],
            (false, false) => text.split(between.as_str()).collect(),
        };
        let settings = &self.view.session.format;
        let value = |piece: &str| {
            let value = Value::from_send_form(piece.as_bytes().to_vec());
            adapt(value, LogicalType::Text, wanted, why, settings).map(Some)
        };
        let values: Result<_, _> = pieces.into_iter().map(value).collect();
        values.map(Some).map_err(input_refusal)
    }

    fn text_of(&self, expression: &TextExpression) -> Result<Option<Zeroizing<String>>, Refusal> {
        let settings = &self.view.session.format;
        let param = |index: usize| {
            let Some(bytes) = self.params.values.get(index).copied().flatten() else {
                return Ok(None);
            };
            // The form of a text is the same in both formats.
            let value = LogicalType::Text.input(bytes, settings)?;
            let given = std::str::from_utf8(value.as_bytes());
            let given = given.map_err(|_| InputError::new("22021", "not a text in UTF-8"))?;
            Ok(Some(Zeroizing::new(given.to_owned())))
        };
        expression.value(&param, settings).map_err(input_refusal)
    }
}
