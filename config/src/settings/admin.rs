//! `[admin]`: pgveil's own HTTP, which clients of the database never see.

use crate::{
    fields::Fields,
    form::Form,
    known::{Key, Kind, Need, Section, Shape, Support},
};

/// Where health and metrics are asked for.
#[derive(Clone, Debug, Default)]
pub struct Admin {
    /// HOST:PORT; port 0 picks a free one. `None`: nothing is served.
    pub listen: Option<String>,
}

pub(super) static SECTION: Section = Section {
    name: "admin",
    header: "[admin]",
    shape: Shape::One,
    support: Support::Since("0.1"),
    meaning: "pgveil's own HTTP: `/healthz`, `/readyz` and `/metrics` (Prometheus). No value, no scope and no secret is shown, but the names of providers and KEKs are; there is no login and no TLS, so keep it on this machine or behind a proxy.",
    keys: &[Key {
        name: "listen",
        kind: Kind::Text(Form::Listen),
        need: Need::Optional("\"127.0.0.1:6433\""),
        support: Support::Since("0.1"),
        meaning: "HOST:PORT. Without it nothing is served. Port 0 picks a free port, which `pgveil serve` prints.",
    }],
    variants: &[],
    sections: &[],
};

pub(super) fn read(fields: &Fields<'_, '_>) -> Admin {
    Admin {
        listen: fields.text("listen"),
    }
}
