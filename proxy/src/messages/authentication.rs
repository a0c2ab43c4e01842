//! `Authentication...`: what the server asks of a client before the session.

use bytes::BytesMut;

use super::{Malformed, body::Body, builder::short, tag::server::AUTHENTICATION};

/// A step of the server's side of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication<'a> {
    /// The client is in.
    Ok,
    /// Kerberos V5, as servers before 9.3 asked for it.
    KerberosV5,
    /// The password itself.
    CleartextPassword,
    /// The password hashed with the user's name and this salt.
    Md5Password([u8; 4]),
    /// GSSAPI.
    Gss,
    /// A further GSSAPI or SSPI token.
    GssContinue(&'a [u8]),
    /// SSPI.
    Sspi,
    /// SASL with one of these mechanisms.
    Sasl(Mechanisms<'a>),
    /// A SASL challenge.
    SaslContinue(&'a [u8]),
    /// The outcome of SASL.
    SaslFinal(&'a [u8]),
    /// A code that PostgreSQL 18 does not have.
    Unassigned(u32),
}

/// The SASL mechanisms that a server offers, in its order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mechanisms<'a>(&'a [u8]);

impl<'a> Mechanisms<'a> {
    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.0
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
    }

    fn read(body: &mut Body<'a>) -> Result<Self, Malformed> {
        let all = body.rest();
        while !body.string()?.is_empty() {}
        Ok(Self(&all[..all.len() - body.rest().len()]))
    }
}

impl<'a> Authentication<'a> {
    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut body = Body::new(body);
        let message = match body.u32()? {
            0 => Self::Ok,
            2 => Self::KerberosV5,
            3 => Self::CleartextPassword,
            5 => Self::Md5Password(body.u32()?.to_be_bytes()),
            7 => Self::Gss,
            8 => return Ok(Self::GssContinue(body.rest())),
            9 => Self::Sspi,
            10 => Self::Sasl(Mechanisms::read(&mut body)?),
            11 => return Ok(Self::SaslContinue(body.rest())),
            12 => return Ok(Self::SaslFinal(body.rest())),
            code => return Ok(Self::Unassigned(code)),
        };
        body.end()?;
        Ok(message)
    }

    /// Appends `AuthenticationSASL` with these mechanisms.
    pub fn write_sasl<'n>(out: &mut BytesMut, names: impl Iterator<Item = &'n [u8]>) {
        short(out, AUTHENTICATION, |frame| {
            frame.u32(10);
            names.for_each(|name| frame.string(name));
            frame.u8(0);
        });
    }

    /// Appends `AuthenticationSASLContinue`. SCRAM's messages are short.
    pub fn write_sasl_continue(out: &mut BytesMut, message: &[u8]) {
        Self::write(out, 11, message);
    }

    /// Appends `AuthenticationSASLFinal`.
    pub fn write_sasl_final(out: &mut BytesMut, message: &[u8]) {
        Self::write(out, 12, message);
    }

    /// Appends an `Authentication` of `code` with `rest` behind it.
    pub(crate) fn write(out: &mut BytesMut, code: u32, rest: &[u8]) {
        short(out, AUTHENTICATION, |frame| {
            frame.u32(code);
            frame.bytes(rest);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::testing::{body_of, exactly, never_panics};

    #[test]
    fn fixed_steps_are_read_exactly() {
        for (code, rest, step) in [
            (0, &b""[..], Authentication::Ok),
            (2, b"", Authentication::KerberosV5),
            (3, b"", Authentication::CleartextPassword),
            (5, b"salt", Authentication::Md5Password(*b"salt")),
            (7, b"", Authentication::Gss),
            (9, b"", Authentication::Sspi),
        ] {
            let body = body_of(AUTHENTICATION, |out| Authentication::write(out, code, rest));
            assert_eq!(Authentication::read(&body).unwrap(), step);
            for end in 0..body.len() {
                assert!(Authentication::read(&body[..end]).is_err());
            }
            assert!(Authentication::read(&[&body[..], b"x"].concat()).is_err());
            never_panics(&body, |body| Authentication::read(body).is_ok());
        }
    }

    #[test]
    fn mechanisms_round_trip_exactly() {
        let names = [&b"SCRAM-SHA-256-PLUS"[..], b"SCRAM-SHA-256"];
        let body = body_of(AUTHENTICATION, |out| {
            Authentication::write_sasl(out, names.into_iter());
        });
        let Authentication::Sasl(mechanisms) = Authentication::read(&body).unwrap() else {
            panic!()
        };
        assert_eq!(mechanisms.names().collect::<Vec<_>>(), names);
        let is_sasl =
            |body: &[u8]| matches!(Authentication::read(body), Ok(Authentication::Sasl(_)));
        exactly(&body, is_sasl);
    }

    #[test]
    fn tokens_are_opaque() {
        let body = body_of(AUTHENTICATION, |out| {
            Authentication::write(out, 11, b"r=nonce");
        });
        assert_eq!(
            Authentication::read(&body).unwrap(),
            Authentication::SaslContinue(b"r=nonce")
        );
    }
}
