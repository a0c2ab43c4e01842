//! Table `pgveil.enum_labels`: as which numbers the labels of enum types are sealed. It is made with the first enum
//! column. Rows are added and follow renames; numbers never change.

use pgveil_policy::catalog::SealedLabel;
use tokio_postgres::GenericClient;

use super::KeystoreError;

/// For the role that owns the schema. Labels are no secret: `pg_enum` shows them to everybody.
const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS pgveil.enum_labels (
        type_schema text NOT NULL,
        type_name   text NOT NULL,
        label_oid   oid  NOT NULL,
        label       text NOT NULL,
        number      int4 NOT NULL,
        PRIMARY KEY (type_schema, type_name, number)
    );
    COMMENT ON TABLE pgveil.enum_labels IS
        'As which number a label of an enum type is sealed, whatever it is called. A deleted row makes values unreadable';
    COMMENT ON COLUMN pgveil.enum_labels.label_oid IS 'pg_enum.oid when the type was looked at last';
    COMMENT ON COLUMN pgveil.enum_labels.label IS 'What the label was called when the type was looked at last';
    GRANT SELECT ON pgveil.enum_labels TO PUBLIC;";

/// Makes the table, if it is not there.
pub async fn make(client: &impl GenericClient) -> Result<(), KeystoreError> {
    if !is_there(client).await? {
        client.batch_execute(TABLE).await?;
    }
    Ok(())
}

async fn is_there(client: &impl GenericClient) -> Result<bool, KeystoreError> {
    let there = client
        .query_one(
            // Not to_regclass('pgveil.enum_labels'), which asks for a right on the schema.
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_class \
                 WHERE relnamespace = pg_catalog.to_regnamespace('pgveil') AND relname = 'enum_labels')",
            &[],
        )
        .await?;
    Ok(there.try_get(0)?)
}

/// All that is on record; nothing, if there never was an enum column.
pub async fn list(client: &impl GenericClient) -> Result<Vec<SealedLabel>, KeystoreError> {
    if !is_there(client).await? {
        return Ok(Vec::new());
    }
    let rows = client
        .query(
            "SELECT type_schema, type_name, label_oid, label, number FROM pgveil.enum_labels \
             ORDER BY type_schema, type_name, number",
            &[],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(SealedLabel {
                schema: row.try_get(0)?,
                type_name: row.try_get(1)?,
                oid: row.try_get(2)?,
                label: row.try_get(3)?,
                number: row.try_get(4)?,
            })
        })
        .collect()
}

/// Adds labels, and notes what those that are known are called now.
pub async fn record(
    client: &impl GenericClient,
    labels: &[SealedLabel],
) -> Result<(), KeystoreError> {
    for label in labels {
        client
            .execute(
                "INSERT INTO pgveil.enum_labels AS known (type_schema, type_name, label_oid, label, number) \
                 VALUES ($1, $2, $3, $4, $5) ON CONFLICT (type_schema, type_name, number) \
                 DO UPDATE SET label_oid = EXCLUDED.label_oid, label = EXCLUDED.label",
                &[
                    &label.schema,
                    &label.type_name,
                    &label.oid,
                    &label.label,
                    &label.number,
                ],
            )
            .await?;
    }
    Ok(())
}
