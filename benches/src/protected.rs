//! The promise for protected columns: a point read within 15 % of the same on a plain column, both through pgveil. Beside it,
//! what encrypting in SQL costs (pgcrypto, direct), where keys and plaintext pass through the server.

use crate::{
    Table,
    pgbench::{Mode, Script, Trial},
    stage::{KEY, PHRASE, Stage},
};

const SECRET: &str = "'a secret of some forty to fifty characters'";

/// Reads and writes of one row, by one client.
pub(crate) fn tables(stage: &Stage) -> Vec<Table> {
    let modes = [Mode::Simple, Mode::Prepared];
    let table = |title, row: &dyn Fn(Mode) -> Vec<Trial>| Table {
        title,
        columns: vec!["plain", "sealed", "pgp_sym", "encrypt_iv"],
        throughput: false,
        rows: modes.iter().map(|mode| (mode.name(), row(*mode))).collect(),
    };
    vec![
        table("point read by primary key, one client: latency", &|mode| {
            reads(stage, mode)
        }),
        table("insert of one row, one client: latency", &|mode| {
            inserts(stage, mode)
        }),
        Table {
            title: "point read by the column itself, one client: latency",
            columns: vec!["plain", "sealed"],
            throughput: false,
            rows: modes
                .iter()
                .map(|mode| (mode.name(), searches(stage, *mode)))
                .collect(),
        },
    ]
}

/// Through pgveil, or directly.
fn trial(stage: &Stage, name: &str, direct: bool, mode: Mode, sql: &str) -> Trial {
    let script = format!("\\set id random(1, {})\n{sql};\n", stage.size.rows);
    let port = if direct {
        stage.direct()
    } else {
        stage.proxy.port()
    };
    stage.trial(name, port, mode, 1, Script::Text(script))
}

fn reads(stage: &Stage, mode: Mode) -> Vec<Trial> {
    let pgp = format!("SELECT pgp_sym_decrypt(secret, '{PHRASE}') FROM people_pgp WHERE id = :id");
    let iv = format!(
        "SELECT convert_from(decrypt_iv(secret, '{KEY}', iv, 'aes'), 'UTF8') FROM people_iv WHERE id = :id"
    );
    vec![
        trial(
            stage,
            "read plain",
            false,
            mode,
            "SELECT secret FROM people_plain WHERE id = :id",
        ),
        trial(
            stage,
            "read sealed",
            false,
            mode,
            "SELECT secret FROM people_sealed WHERE id = :id",
        ),
        trial(stage, "read pgp_sym_decrypt", true, mode, &pgp),
        trial(stage, "read decrypt_iv", true, mode, &iv),
    ]
}

fn inserts(stage: &Stage, mode: Mode) -> Vec<Trial> {
    let into = |table: &str| format!("INSERT INTO {table} VALUES (:id, :id, {SECRET})");
    let pgp =
        format!("INSERT INTO log_pgp VALUES (:id, :id, pgp_sym_encrypt({SECRET}, '{PHRASE}'))");
    let iv = format!(
        "INSERT INTO log_iv SELECT :id, :id, iv, encrypt_iv({SECRET}, '{KEY}', iv, 'aes') FROM (SELECT gen_random_bytes(16) AS iv) s"
    );
    vec![
        trial(stage, "insert plain", false, mode, &into("log_plain")),
        trial(stage, "insert sealed", false, mode, &into("log_sealed")),
        trial(stage, "insert pgp_sym_encrypt", true, mode, &pgp),
        trial(stage, "insert encrypt_iv", true, mode, &iv),
    ]
}

fn searches(stage: &Stage, mode: Mode) -> Vec<Trial> {
    let find = |table: &str| format!("SELECT id, account FROM {table} WHERE account = :id");
    vec![
        trial(stage, "find plain", false, mode, &find("people_plain")),
        trial(stage, "find sealed", false, mode, &find("people_sealed")),
    ]
}
