//! Asks the server for the forms of many texts in one query.

use anyhow::Result;
use pgveil_policy::types::FormatSettings;
use pgveil_tests::psql::Target;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

/// What becomes of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Value { shown: String, sent: String },
    Error { sqlstate: String, message: String },
}

impl Answer {
    /// The same. A literal's cast words errors about modifiers in another way than an assignment to a column.
    pub(crate) fn is_like(&self, other: &Self, word_by_word: bool) -> bool {
        match (self, other) {
            (
                Self::Error { sqlstate, .. },
                Self::Error {
                    sqlstate: theirs, ..
                },
            ) if !word_by_word => sqlstate == theirs,
            _ => self == other,
        }
    }
}

impl Answer {
    /// Both say that the input is bad.
    pub(crate) fn fails_like(&self, other: &Self) -> bool {
        let is_bad = |answer: &Self| matches!(answer, Self::Error { sqlstate, .. } if sqlstate.starts_with("22"));
        is_bad(self) && is_bad(other)
    }
}

pub(crate) struct Server {
    runtime: Runtime,
    client: Client,
    has_old_zones: bool,
}

/// Reads each text as a literal of the type. An error of one is the answer of that one.
const FUNCTIONS: &str = "
    CREATE FUNCTION pg_temp.forms(type_name text, texts text[])
        RETURNS TABLE (shown text, sent text, code text, message text) LANGUAGE plpgsql AS $$
    DECLARE
        one text;
        sender text;
    BEGIN
        EXECUTE format('SELECT typsend::regproc::text FROM pg_type WHERE oid = (SELECT pg_typeof(NULL::%s))', type_name)
            INTO sender;
        FOREACH one IN ARRAY texts LOOP
            BEGIN
                EXECUTE format('SELECT format(''%%s'', v), encode(%s(v), ''hex'') FROM (SELECT %L::%s AS v) AS x',
                    sender, one, type_name) INTO shown, sent;
                code := NULL;
                message := NULL;
            EXCEPTION WHEN OTHERS THEN
                shown := NULL;
                sent := NULL;
                code := SQLSTATE;
                message := SQLERRM;
            END;
            RETURN NEXT;
        END LOOP;
    END $$";

impl Server {
    pub(crate) fn connect(target: &Target) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let client = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&target.conninfo(), NoTls).await?;
            tokio::spawn(connection);
            client.batch_execute(FUNCTIONS).await?;
            let early = "SELECT '1850-01-01 00:00 EST5EDT'::timestamptz = '1850-01-01 05:00+00'";
            let old = client.query_one(early, &[]).await?.try_get(0)?;
            anyhow::Ok((client, old))
        })?;
        let (client, has_old_zones) = client;
        Ok(Self {
            runtime,
            client,
            has_old_zones,
        })
    }

    /// Zones of before IANA's release 2024b are links to cities in servers that bring later data along, and differ from what
    /// pgveil has in times of long ago.
    pub(crate) fn reads_otherwise(&self, text: &str) -> bool {
        let lower = text.to_ascii_lowercase();
        !self.has_old_zones
            && ["est5edt", "met", "cet"]
                .iter()
                .any(|zone| lower.contains(zone))
    }

    /// Begins with fresh settings, changes some, and says what they are.
    pub(crate) fn set(&mut self, changed: &[(&str, &str)]) -> Result<FormatSettings> {
        self.runtime.block_on(async {
            let mut sql = "RESET ALL; SET TimeZone = 'UTC';".to_owned();
            for (name, value) in changed {
                sql.push_str(&format!("SET {name} = '{value}';"));
            }
            self.client.batch_execute(&sql).await?;
            let row = self
                .client
                .query_one(
                    "SELECT current_setting('DateStyle'), current_setting('TimeZone'), \
                     current_setting('extra_float_digits')::int4, current_setting('bytea_output') = 'escape', \
                     current_setting('IntervalStyle'), current_setting('timezone_abbreviations'), \
                     current_setting('server_version_num')::int4",
                    &[],
                )
                .await?;
            let version: i32 = row.try_get(6)?;
            Ok(FormatSettings {
                date_style: row.try_get(0)?,
                time_zone: row.try_get(1)?,
                extra_float_digits: row.try_get(2)?,
                bytea_escape: row.try_get(3)?,
                interval_style: row.try_get(4)?,
                abbreviations: row.try_get(5)?,
                release: version.unsigned_abs() / 10_000,
                ascii_case: true,
            })
        })
    }

    pub(crate) fn ask(&mut self, type_name: &str, texts: &[String]) -> Result<Vec<Answer>> {
        self.runtime.block_on(async {
            let sql = "SELECT * FROM pg_temp.forms($1, $2)";
            let rows = self.client.query(sql, &[&type_name, &texts]).await?;
            rows.iter()
                .map(|row| {
                    let error: Option<String> = row.try_get(2)?;
                    Ok(match error {
                        Some(sqlstate) => Answer::Error {
                            sqlstate,
                            message: row.try_get(3)?,
                        },
                        None => Answer::Value {
                            shown: row.try_get(0)?,
                            sent: row.try_get(1)?,
                        },
                    })
                })
                .collect()
        })
    }

    pub(crate) fn equal(
        &mut self,
        type_name: &str,
        pairs: &[(String, String)],
    ) -> Result<Vec<bool>> {
        let (ones, others): (Vec<&str>, Vec<&str>) = pairs
            .iter()
            .map(|(one, other)| (one.as_str(), other.as_str()))
            .unzip();
        self.runtime.block_on(async {
            let sql = format!(
                "SELECT a::{type_name} = b::{type_name} FROM unnest($1::text[], $2::text[]) AS x(a, b)"
            );
            let rows = self.client.query(&sql, &[&ones, &others]).await?;
            rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
        })
    }
}
