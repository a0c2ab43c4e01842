//! The messages around the data: pipelines, failures in the middle, several copies in one string, a client that leaves.

use anyhow::{Result, ensure};
use pgveil_tests::wire::{Message, Wire};

use crate::{alone, difference, extended, fail_if_any, twin};

fn alike(cases: &[(&str, Vec<Message>, usize)]) -> Result<()> {
    let _alone = alone();
    let mut sessions = twin()?.sessions("app")?;
    let mut wrong = Vec::new();
    for (name, messages, readies) in cases {
        let found = difference(&mut sessions, messages, *readies)?;
        wrong.extend(found.map(|found| format!("{name}\n{found}")));
    }
    fail_if_any(wrong)
}

const INTO: &str = "COPY people (id, email) FROM STDIN";

fn data(text: &str) -> Message {
    Message::copy_data(text.as_bytes())
}

fn show() -> Message {
    Message::query("SELECT id, email FROM people WHERE id > 9 ORDER BY id")
}

#[test]
fn every_order_of_messages_is_answered_as_the_server_answers_it() -> Result<()> {
    let done = Message::copy_done;
    let sync = Message::sync;
    let with = |sql: &str, rest: Vec<Message>| {
        let mut all = extended(sql);
        all.extend(rest);
        all
    };
    alike(&[
        ("no data", vec![Message::query(INTO), done(), show()], 2),
        (
            "given up",
            vec![
                Message::query(INTO),
                data("10\ta\n"),
                Message::copy_fail("changed my mind"),
                show(),
            ],
            2,
        ),
        (
            "given up within a row",
            vec![
                Message::query(INTO),
                data("10\ta\n11"),
                Message::copy_fail("no"),
                show(),
            ],
            2,
        ),
        (
            "given up in a pipeline",
            with(
                INTO,
                vec![data("10\ta\n"), Message::copy_fail("no"), sync(), show()],
            ),
            2,
        ),
        (
            "data without a copy",
            vec![data("10\ta\n"), done(), Message::copy_fail("x"), show()],
            1,
        ),
        (
            "data after the end",
            vec![
                Message::query(INTO),
                data("10\ta\n"),
                done(),
                data("11\tb\n"),
                done(),
                show(),
            ],
            2,
        ),
        (
            "two copies in one string",
            vec![
                Message::query(
                    "COPY people (id, email) FROM STDIN; COPY secrets FROM STDIN CSV; SELECT count(*) FROM secrets",
                ),
                data("10\ta\n"),
                done(),
                data("x\n"),
                data("y"),
                done(),
                show(),
            ],
            2,
        ),
        (
            "a plain copy before a protected one",
            vec![
                Message::query(
                    "COPY open FROM STDIN; COPY secrets FROM STDIN; COPY open FROM STDIN",
                ),
                data("7\tx\n"),
                done(),
                data("x\n"),
                done(),
                data("8\ty\n"),
                done(),
                Message::query("SELECT * FROM open ORDER BY id"),
            ],
            2,
        ),
        (
            "a bad row in the first of two copies",
            vec![
                Message::query("COPY people (id, age) FROM STDIN; COPY secrets FROM STDIN"),
                data("10\tx\n"),
                done(),
                data("x\n"),
                done(),
                show(),
            ],
            2,
        ),
        (
            "an error before the copy",
            vec![
                Message::query("SELECT 1/0; COPY people (id, email) FROM STDIN"),
                data("10\ta\n"),
                done(),
                show(),
            ],
            2,
        ),
        (
            "a table that is not there",
            vec![
                Message::query("COPY nowhere FROM STDIN; COPY people (id, email) FROM STDIN"),
                data("10\ta\n"),
                done(),
                show(),
            ],
            2,
        ),
        (
            "syncs and flushes within the data",
            with(
                INTO,
                vec![
                    sync(),
                    data("10\ta"),
                    Message::flush(),
                    sync(),
                    data("\n11\tb\n"),
                    sync(),
                    done(),
                    sync(),
                    show(),
                ],
            ),
            2,
        ),
        (
            "more in the pipeline",
            with(
                INTO,
                vec![
                    data("10\ta\n"),
                    done(),
                    Message::parse("", "SELECT email FROM people WHERE email = $1", &[]),
                    Message::bind_text(&[Some("a")]),
                    Message::execute("", 0),
                    sync(),
                    show(),
                ],
            ),
            2,
        ),
        (
            "an error in the pipeline skips to the sync",
            with(
                INTO,
                vec![
                    data("x\ta\n"),
                    data("11\tb\n"),
                    done(),
                    Message::parse("", "SELECT 1", &[]),
                    Message::bind_text(&[]),
                    Message::execute("", 0),
                    sync(),
                    show(),
                ],
            ),
            2,
        ),
        (
            "a bad value in the pipeline",
            with(
                "COPY people (id, age) FROM STDIN",
                vec![data("10\tx\n"), data("11\t1\n"), done(), sync(), show()],
            ),
            2,
        ),
        (
            "an error before the copy in the pipeline",
            {
                let mut all = extended("SELECT 1/0");
                all.extend(with(INTO, vec![data("10\ta\n"), done(), sync(), show()]));
                all
            },
            2,
        ),
        (
            "out and in",
            vec![
                Message::query(
                    "COPY secrets TO STDOUT; COPY secrets FROM STDIN; COPY secrets TO STDOUT CSV",
                ),
                data("in\n"),
                done(),
                show(),
            ],
            2,
        ),
        (
            "a prepared copy runs twice",
            {
                let run = |id: &str| {
                    vec![
                        Message::bind_text(&[]),
                        Message::execute("", 0),
                        data(id),
                        done(),
                        sync(),
                    ]
                };
                let mut all = vec![Message::parse("", INTO, &[])];
                all.extend(run("10\ta\n"));
                all.extend(run("11\tb\n"));
                all.push(show());
                all
            },
            3,
        ),
    ])
}

#[test]
fn a_failed_transaction_refuses_copies() -> Result<()> {
    alike(&[(
        "aborted",
        vec![
            Message::query("SELECT 1/0"),
            Message::query(INTO),
            data("10\ta\n"),
            Message::copy_done(),
            Message::query("COPY people TO STDOUT"),
        ],
        3,
    )])
}

#[test]
fn a_client_that_leaves_in_the_middle_commits_nothing() -> Result<()> {
    let _alone = alone();
    let target = twin()?.proxy.target("app");
    let mut wire = Wire::connect(&target)?;
    wire.send(&[Message::query(INTO), data("900\tgone\n901\thalf")])?;
    wire.until(b'G', 1)?;
    wire.close_write()?;
    wire.rest();
    let mut wire = Wire::connect(&target)?;
    let found = wire.query("SELECT count(*) FROM people WHERE id IN (900, 901)")?;
    ensure!(found.contains("DataRow [\"0\"]"), "{found}");
    Ok(())
}

#[test]
fn a_row_of_megabytes_goes_through_in_pieces() -> Result<()> {
    let long = "wide \u{e9} ".repeat(300_000);
    let row = format!("{long}\nshort\n");
    let shown =
        Message::query("SELECT id, length(plain), email FROM people WHERE id > 9 ORDER BY id");
    let whole = vec![
        Message::query("COPY secrets FROM STDIN"),
        data(&row),
        Message::copy_done(),
        Message::query("COPY (SELECT secret FROM secrets WHERE secret IS NOT NULL) TO STDOUT CSV"),
    ];
    let plain = vec![
        Message::query("COPY people (id, plain, email) FROM STDIN CSV"),
        data(&format!("10,\"{long}\n\",x\n")),
        Message::copy_done(),
        shown,
        Message::query("COPY people TO STDOUT"),
    ];
    alike(&[("a long value", whole, 2), ("a long plain field", plain, 3)])
}

#[test]
fn files_on_the_server_are_refused() -> Result<()> {
    let mut wire = Wire::connect(&twin()?.proxy.target("app"))?;
    for sql in [
        "COPY people TO '/tmp/people'",
        "COPY people FROM '/tmp/people'",
        "COPY people FROM PROGRAM 'cat'",
        "COPY (SELECT email FROM people) TO PROGRAM 'cat'",
    ] {
        let said = wire.query(sql)?;
        ensure!(said.contains("ErrorResponse ERROR 0A000"), "{sql}\n{said}");
        ensure!(said.ends_with("ReadyForQuery I"), "{sql}\n{said}");
    }
    Ok(())
}

#[test]
fn a_row_without_a_scope_is_refused_in_its_place() -> Result<()> {
    let mut wire = Wire::connect(&twin()?.proxy.target("app"))?;
    let said = wire.exchange(
        &[
            Message::query("COPY tenants (tenant_id, body, id) FROM STDIN"),
            data("1\tx\t100\n\\N\ty\t101\n"),
            Message::copy_done(),
        ],
        1,
    )?;
    ensure!(said.contains("ErrorResponse ERROR PV001"), "{said}");
    let said = wire.query("COPY tenants (body, id) FROM STDIN")?;
    ensure!(said.contains("ErrorResponse ERROR PV001"), "{said}");
    Ok(())
}
