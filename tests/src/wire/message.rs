//! What a client can say. Builders only; nothing is checked, so that wrong messages can be made too.

/// One message with its tag.
#[derive(Clone, Debug)]
pub struct Message {
    tag: u8,
    body: Vec<u8>,
}

/// A Bind in the making.
#[derive(Clone, Debug, Default)]
pub struct Bind<'a> {
    /// Portal name.
    pub portal: &'a str,
    /// Statement name.
    pub statement: &'a str,
    /// Parameter format codes: none, one for all, or one each.
    pub formats: &'a [i16],
    /// Parameter values.
    pub params: &'a [Option<&'a [u8]>],
    /// Result format codes.
    pub results: &'a [i16],
}

impl Message {
    /// Any tag and body.
    pub fn new(tag: u8, body: Vec<u8>) -> Self {
        Self { tag, body }
    }

    /// A simple Query.
    pub fn query(sql: &str) -> Self {
        Self::new(b'Q', cstr(sql))
    }

    /// Parse.
    pub fn parse(name: &str, sql: &str, oids: &[u32]) -> Self {
        let mut body = cstr(name);
        body.extend(cstr(sql));
        body.extend((oids.len() as i16).to_be_bytes());
        for oid in oids {
            body.extend(oid.to_be_bytes());
        }
        Self::new(b'P', body)
    }

    /// Bind.
    pub fn bind(bind: &Bind<'_>) -> Self {
        let mut body = cstr(bind.portal);
        body.extend(cstr(bind.statement));
        body.extend(codes(bind.formats));
        body.extend((bind.params.len() as i16).to_be_bytes());
        for value in bind.params {
            match value {
                Some(bytes) => {
                    body.extend((bytes.len() as i32).to_be_bytes());
                    body.extend(*bytes);
                }
                None => body.extend((-1_i32).to_be_bytes()),
            }
        }
        body.extend(codes(bind.results));
        Self::new(b'B', body)
    }

    /// Binds the unnamed statement to the unnamed portal, all in text.
    pub fn bind_text(params: &[Option<&str>]) -> Self {
        let params: Vec<_> = params
            .iter()
            .map(|value| value.map(str::as_bytes))
            .collect();
        Self::bind(&Bind {
            params: &params,
            ..Bind::default()
        })
    }

    /// Describe a statement.
    pub fn describe_statement(name: &str) -> Self {
        Self::new(b'D', [b"S", cstr(name).as_slice()].concat())
    }

    /// Describe a portal.
    pub fn describe_portal(name: &str) -> Self {
        Self::new(b'D', [b"P", cstr(name).as_slice()].concat())
    }

    /// Close a statement.
    pub fn close_statement(name: &str) -> Self {
        Self::new(b'C', [b"S", cstr(name).as_slice()].concat())
    }

    /// Close a portal.
    pub fn close_portal(name: &str) -> Self {
        Self::new(b'C', [b"P", cstr(name).as_slice()].concat())
    }

    /// Execute, with a row limit (0: none).
    pub fn execute(portal: &str, max_rows: i32) -> Self {
        let mut body = cstr(portal);
        body.extend(max_rows.to_be_bytes());
        Self::new(b'E', body)
    }

    /// Sync.
    pub fn sync() -> Self {
        Self::new(b'S', Vec::new())
    }

    /// Flush.
    pub fn flush() -> Self {
        Self::new(b'H', Vec::new())
    }

    /// Terminate.
    pub fn terminate() -> Self {
        Self::new(b'X', Vec::new())
    }

    /// CopyData.
    pub fn copy_data(bytes: &[u8]) -> Self {
        Self::new(b'd', bytes.to_vec())
    }

    /// CopyDone.
    pub fn copy_done() -> Self {
        Self::new(b'c', Vec::new())
    }

    /// CopyFail.
    pub fn copy_fail(reason: &str) -> Self {
        Self::new(b'f', cstr(reason))
    }

    /// FunctionCall of a function by its OID, arguments and result in text.
    pub fn function_call(oid: u32, args: &[&str]) -> Self {
        let mut body = oid.to_be_bytes().to_vec();
        body.extend(codes(&[0]));
        body.extend((args.len() as i16).to_be_bytes());
        for arg in args {
            body.extend((arg.len() as i32).to_be_bytes());
            body.extend(arg.as_bytes());
        }
        body.extend(0_i16.to_be_bytes());
        Self::new(b'F', body)
    }

    /// A cleartext password.
    pub fn password(password: &str) -> Self {
        Self::new(b'p', cstr(password))
    }

    /// The bytes on the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.tag];
        bytes.extend((self.body.len() as u32 + 4).to_be_bytes());
        bytes.extend(&self.body);
        bytes
    }
}

/// A message without a tag: its version or request code, then names and values.
pub fn startup(code: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = code.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend(cstr(name));
        body.extend(cstr(value));
    }
    if code >> 16 == 3 {
        body.push(0);
    }
    let mut bytes = (body.len() as u32 + 4).to_be_bytes().to_vec();
    bytes.extend(body);
    bytes
}

fn cstr(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

fn codes(codes: &[i16]) -> Vec<u8> {
    let mut bytes = (codes.len() as i16).to_be_bytes().to_vec();
    for code in codes {
        bytes.extend(code.to_be_bytes());
    }
    bytes
}
