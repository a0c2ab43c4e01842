//! What the server said of its time and its users, as values.

use pgveil_policy::{
    Refusal,
    plan::{Moment, Start, Timed},
    types::{Conversion, Converted, GivenAs, InputError, LogicalType, Value},
};

use super::{Maker, adapt, input_refusal};

impl Maker<'_> {
    /// The value in the wanted type; `None` is NULL.
    pub(super) fn moment(
        &self,
        timed: &Timed,
        wanted: LogicalType,
        why: Conversion,
    ) -> Result<Option<Converted>, Refusal> {
        let start = match &timed.start {
            Start::Asked(moment) => Some(self.answered(*moment)?),
            Start::Param(param, logical) => self.given(*param, *logical).map_err(input_refusal)?,
            Start::Literal(read, _) => Some(read.as_ref().clone().map_err(input_refusal)?),
        };
        let Some(mut value) = start else {
            return Ok(None);
        };
        let mut logical = timed.start.logical();
        let settings = &self.view.session.format;
        let given: GivenAs<'_> = &|param, wanted| self.given(param, wanted);
        for step in &timed.steps {
            let made = step.apply(&value, logical, given, settings);
            let Some(made) = made.map_err(input_refusal)? else {
                return Ok(None);
            };
            value = made;
            logical = step.of(logical).unwrap_or(logical);
        }
        let value = adapt(value, logical, wanted, why, settings);
        value.map(Some).map_err(input_refusal)
    }

    /// What the server said of this.
    fn answered(&self, moment: Moment) -> Result<Value, Refusal> {
        let mut answered = self.prepared.plan.scope_queries.iter().zip(self.asked);
        let answer = answered.find_map(|(query, asked)| {
            let at = query.moments.iter().position(|asked| *asked == moment)?;
            asked.only(at)
        });
        let bytes = answer.and_then(|digits| hex::decode(digits).ok());
        bytes.map(Value::from_send_form).ok_or_else(not_asked)
    }

    /// A parameter of which something is computed.
    fn given(&self, param: usize, wanted: LogicalType) -> Result<Option<Value>, InputError> {
        match self.parameter(param, wanted, Conversion::Assignment)? {
            Some(Converted::Value(value)) => Ok(Some(value)),
            Some(Converted::NeverEqual) => Err(InputError::new("22003", "value out of range")),
            None => Ok(None),
        }
    }
}

fn not_asked() -> Refusal {
    Refusal::unsupported(
        "value-not-constant",
        "the server was not asked for its time or its user",
    )
    .detail("A value that only the server knows is sealed, and it cannot be asked in a statement of this form.")
    .hint("Compute the value in the application.")
}
