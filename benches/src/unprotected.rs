//! The promise for what the policy does not name: pgveil within 5 % of pgbouncer.

use crate::{
    Table,
    pgbench::{Mode, Script},
    stage::Stage,
};

const MODES: [Mode; 3] = [Mode::Simple, Mode::Extended, Mode::Prepared];

/// pgbench's select-only, one client (latency) and several (throughput).
pub(crate) fn tables(stage: &Stage, clients: u32) -> Vec<Table> {
    let mut roads = Vec::new();
    roads.extend(
        stage
            .pgbouncer
            .as_ref()
            .map(|pgbouncer| ("pgbouncer", pgbouncer.port)),
    );
    roads.push(("pgveil", stage.proxy.port()));
    roads.push(("direct", stage.direct()));
    let table = |title, clients, throughput| {
        let row = |mode: Mode| {
            let trials = roads
                .iter()
                .map(|(name, port)| stage.trial(name, *port, mode, clients, Script::SelectOnly));
            (mode.name(), trials.collect())
        };
        Table {
            title,
            columns: roads.iter().map(|(name, _)| *name).collect(),
            throughput,
            rows: MODES.map(row).into(),
        }
    };
    vec![
        table("unprotected point read, one client: latency", 1, false),
        table(
            "unprotected point read, many clients: throughput",
            clients,
            true,
        ),
    ]
}
