//! What of a row of `pgveil.migrations` never changes, under a MAC: which columns of which table are sealed or opened online.
//! Whoever plants such a row, or turns one round, would have pgveil open what nobody gave a token for.

use super::Registry;
use crate::{audit::secrets::same, canonical::Canonical, keystore::KeystoreError};

const LABEL: &[u8] = b"migrations";

/// A migration as it was begun, with its columns in the order of their ids.
#[derive(Clone, Debug)]
pub struct Begun<'a> {
    /// Ordinal.
    pub id: i64,
    /// `seal` or `open`.
    pub way: &'a str,
    /// Schema and table.
    pub table: (&'a str, &'a str),
    /// `pg_class.oid`.
    pub table_oid: u32,
    /// Its columns.
    pub columns: Vec<BegunColumn<'a>>,
}

/// One column of it.
#[derive(Clone, Debug)]
pub struct BegunColumn<'a> {
    /// The id in sealed values.
    pub id: u32,
    /// The name that applications know.
    pub name: &'a str,
    /// Attribute numbers of the plaintext and of the sealed values. Of columns that are dropped, none is used again: what has
    /// ended cannot be put back.
    pub places: (i16, i16),
    /// Whether the plaintext was NOT NULL.
    pub not_null: bool,
}

impl Begun<'_> {
    fn bytes(&self) -> Canonical {
        let mut bytes = Canonical::default();
        let (schema, table) = self.table;
        bytes
            .number(self.id)
            .text(self.way)
            .text(schema)
            .text(table);
        bytes.number(i64::from(self.table_oid));
        bytes.number(self.columns.len() as i64);
        for column in &self.columns {
            let (plain, sealed) = column.places;
            bytes.number(i64::from(column.id)).text(column.name);
            bytes.number(i64::from(plain)).number(i64::from(sealed));
            bytes.number(i64::from(column.not_null));
        }
        bytes
    }
}

impl Registry {
    /// What is stored beside a migration.
    pub fn mac_of_migration(&self, begun: &Begun<'_>) -> [u8; 32] {
        self.secrets.mac_row(LABEL, begun.bytes().as_ref())
    }

    /// Refuses one that pgveil did not begin like this.
    pub fn judge_migration(
        &self,
        begun: &Begun<'_>,
        mac: Option<&[u8]>,
    ) -> Result<(), KeystoreError> {
        let fits = mac.is_some_and(|mac| same(&self.mac_of_migration(begun), mac));
        if fits {
            return Ok(());
        }
        let (schema, table) = begun.table;
        let (id, why) = (
            begun.id,
            match mac {
                None => "has no MAC",
                Some(_) => "does not fit its MAC",
            },
        );
        Err(KeystoreError::Damaged {
            table: "pgveil.migrations",
            reason: format!(
                "migration {id} of {schema}.{table} {why}: pgveil did not begin it like this"
            ),
        })
    }
}
