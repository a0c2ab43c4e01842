//! Column values as the bytes of their binary (send) form, whatever their type; and types of ours that are nothing but what such
//! bytes say. It knows none of the forms.

use std::error::Error;

use bytes::BytesMut;
use postgres_types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// The binary form of a value that is not NULL.
#[derive(Clone, Copy)]
pub(crate) struct Raw<'a>(pub(crate) &'a [u8]);

impl std::fmt::Debug for Raw<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Raw(..)")
    }
}

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl ToSql for Raw<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// Lets a type be read from, and sent as, the binary form of one type of the server: by its `parse` and its `put`.
macro_rules! in_binary_form {
    ($ours:ty, $servers:expr) => {
        impl<'a> postgres_types::FromSql<'a> for $ours {
            fn from_sql(
                servers: &postgres_types::Type,
                raw: &'a [u8],
            ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
                Self::parse(raw).ok_or_else(|| format!("no {servers}").into())
            }

            fn accepts(servers: &postgres_types::Type) -> bool {
                *servers == $servers
            }
        }

        impl postgres_types::ToSql for $ours {
            fn to_sql(
                &self,
                _: &postgres_types::Type,
                out: &mut bytes::BytesMut,
            ) -> Result<postgres_types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
                self.put(out);
                Ok(postgres_types::IsNull::No)
            }

            fn accepts(servers: &postgres_types::Type) -> bool {
                *servers == $servers
            }

            postgres_types::to_sql_checked!();
        }
    };
}
pub(crate) use in_binary_form;
