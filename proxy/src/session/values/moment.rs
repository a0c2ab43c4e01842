//! What the server said of its time and its users, as values.

use pgveil_policy::{
    Refusal,
    plan::Moment,
    types::{Conversion, Converted, LogicalType, Value},
};

use super::{Maker, adapt, input_refusal};

impl Maker<'_> {
    /// The value in the wanted type.
    pub(super) fn moment(
        &self,
        moment: Moment,
        wanted: LogicalType,
        why: Conversion,
    ) -> Result<Converted, Refusal> {
        let mut answered = self.prepared.plan.scope_queries.iter().zip(self.asked);
        let answer = answered.find_map(|(query, asked)| {
            let at = query.moments.iter().position(|asked| *asked == moment)?;
            asked.only(at)
        });
        let bytes = answer.and_then(|digits| hex::decode(digits).ok());
        let value = Value::from_send_form(bytes.ok_or_else(not_asked)?);
        let settings = &self.view.session.format;
        adapt(value, moment.logical(), wanted, why, settings).map_err(input_refusal)
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
