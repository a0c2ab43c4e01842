//! `Bind`: values for a prepared statement, making a portal.

use bytes::BytesMut;

use super::{Formats, Malformed, TooLong, body::Body, builder::FrameBuilder, tag::client::BIND};

/// A portal to make.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Bind<'a> {
    /// Empty for the unnamed portal.
    pub portal: &'a [u8],
    /// Empty for the unnamed statement.
    pub statement: &'a [u8],
    /// How the parameters are written.
    pub formats: Formats<'a>,
    /// How the client wants the result's columns.
    pub result_formats: Formats<'a>,
    count: u16,
    params: &'a [u8],
}

impl<'a> Bind<'a> {
    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut body = Body::new(body);
        let portal = body.string()?;
        let statement = body.string()?;
        let formats = Formats::read(&mut body)?;
        let count = body.u16()?;
        if formats.len() > 1 && formats.len() != usize::from(count) {
            return Err(Malformed::ParameterFormats {
                formats: formats.len() as u16,
                parameters: count,
            });
        }
        let params = body.rest();
        for _ in 0..count {
            body.value()?;
        }
        let params = &params[..params.len() - body.rest().len()];
        let result_formats = Formats::read(&mut body)?;
        body.end()?;
        Ok(Self {
            portal,
            statement,
            formats,
            result_formats,
            count,
            params,
        })
    }

    /// The parameters in order; `None` is NULL.
    pub fn params(&self) -> impl ExactSizeIterator<Item = Option<&'a [u8]>> + 'a {
        let mut params = Body::new(self.params);
        (0..self.count).map(move |_| params.value().expect("`read` walked all parameters"))
    }
}

/// Appends a `Bind`: each parameter once, then `end`.
#[derive(Debug)]
pub struct BindBuilder<'a> {
    frame: FrameBuilder<'a>,
    count_at: usize,
    count: u16,
}

impl<'a> BindBuilder<'a> {
    /// Begins one whose parameters have these format codes: none, one for all, or one for each.
    pub fn begin(
        out: &'a mut BytesMut,
        portal: &[u8],
        statement: &[u8],
        formats: impl ExactSizeIterator<Item = i16>,
    ) -> Self {
        let mut frame = FrameBuilder::begin(out, BIND);
        frame.string(portal);
        frame.string(statement);
        codes(&mut frame, formats);
        let count_at = frame.body_len();
        frame.u16(0);
        Self {
            frame,
            count_at,
            count: 0,
        }
    }

    /// The next parameter; `None` is NULL. There are at most 65,535.
    pub fn param(&mut self, value: Option<&[u8]>) {
        self.count = self.count.saturating_add(1);
        self.frame.value(value);
    }

    /// The next parameter, appended by `write` itself.
    pub fn param_with(&mut self, write: impl FnOnce(&mut BytesMut)) {
        self.count = self.count.saturating_add(1);
        self.frame.value_with(write);
    }

    /// Ends it with the codes for the result's columns.
    pub fn end(
        mut self,
        result_formats: impl ExactSizeIterator<Item = i16>,
    ) -> Result<(), TooLong> {
        self.frame.patch_u16(self.count_at, self.count);
        codes(&mut self.frame, result_formats);
        self.frame.end()
    }
}

fn codes(frame: &mut FrameBuilder<'_>, codes: impl ExactSizeIterator<Item = i16>) {
    let count = u16::try_from(codes.len()).unwrap_or(u16::MAX);
    frame.u16(count);
    codes
        .take(usize::from(count))
        .for_each(|code| frame.i16(code));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::testing::{body_of, exactly};

    fn sample() -> Vec<u8> {
        body_of(BIND, |out| {
            let mut bind = BindBuilder::begin(out, b"p", b"s", [0, 1, 0].into_iter());
            bind.param(Some(b"ada"));
            bind.param(None);
            bind.param_with(|out| out.extend_from_slice(b""));
            bind.end([1].into_iter()).unwrap();
        })
    }

    #[test]
    fn round_trips_exactly() {
        let body = sample();
        let bind = Bind::read(&body).unwrap();
        assert_eq!((bind.portal, bind.statement), (&b"p"[..], &b"s"[..]));
        assert_eq!(
            bind.params().collect::<Vec<_>>(),
            [Some(&b"ada"[..]), None, Some(b"")]
        );
        assert_eq!(bind.formats.codes().collect::<Vec<_>>(), [0, 1, 0]);
        assert_eq!(bind.result_formats.codes().collect::<Vec<_>>(), [1]);
        exactly(&body, |body| {
            Bind::read(body).map(|bind| bind.params().count()).is_ok()
        });
    }

    #[test]
    fn a_value_longer_than_the_frame_is_refused() {
        let body = b"\0\0\0\0\0\x01\0\0\xff\xffab\0\0";
        assert_eq!(Bind::read(body).err(), Some(Malformed::InsufficientData));
        let negative = b"\0\0\0\0\0\x01\xff\xff\xff\xfeab\0\0";
        assert_eq!(
            Bind::read(negative).err(),
            Some(Malformed::InsufficientData)
        );
    }

    #[test]
    fn counts_must_agree() {
        let body = b"\0\0\0\x02\0\0\0\0\0\x01\0\0\0\x01x\0\0";
        let error = Bind::read(body).err().unwrap();
        assert_eq!(
            error.to_string(),
            "bind message has 2 parameter formats but 1 parameters"
        );
    }
}
