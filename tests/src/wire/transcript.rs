//! Prints what a server says. Table OIDs are shown only as "of a table" (`T`) or not (`-`), and OIDs of
//! made types as `made`: two databases number theirs apart.

/// Objects that users make have OIDs from here (`FirstNormalObjectId`).
const FIRST_USER_OID: u32 = 16_384;

/// One message from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its tag.
    pub tag: u8,
    /// Its body without the length.
    pub body: Vec<u8>,
}

/// A field of an ErrorResponse or NoticeResponse: `C` is the SQLSTATE, `M` the message.
pub fn error_field(reply: &Reply, code: u8) -> Option<String> {
    reply
        .body
        .split(|byte| *byte == 0)
        .find_map(|field| match field {
            [first, text @ ..] if *first == code => {
                Some(String::from_utf8_lossy(text).into_owned())
            }
            _ => None,
        })
}

/// One message as one line.
pub fn describe(reply: &Reply) -> String {
    let mut body = Cursor(&reply.body);
    match reply.tag {
        b'1' => "ParseComplete".to_owned(),
        b'2' => "BindComplete".to_owned(),
        b'3' => "CloseComplete".to_owned(),
        b'n' => "NoData".to_owned(),
        b's' => "PortalSuspended".to_owned(),
        b'I' => "EmptyQueryResponse".to_owned(),
        b'c' => "CopyDone".to_owned(),
        b'C' => format!("CommandComplete {}", body.text()),
        b'Z' => format!("ReadyForQuery {}", String::from_utf8_lossy(&reply.body)),
        b'S' => format!("ParameterStatus {}={}", body.text(), body.text()),
        b'K' => "BackendKeyData".to_owned(),
        b'R' => format!("Authentication {}", body.int4()),
        b'v' => format!(
            "NegotiateProtocolVersion {:#010x} {:?}",
            body.int4(),
            body.strings4()
        ),
        b'A' => format!(
            "NotificationResponse pid={} {} {:?}",
            sign(body.int4()),
            body.text(),
            body.text()
        ),
        b't' => format!("ParameterDescription {}", body.oids()),
        b'T' => format!("RowDescription {}", body.columns()),
        b'D' => format!("DataRow [{}]", body.values()),
        b'V' => format!("FunctionCallResponse {}", body.value()),
        b'd' => format!("CopyData {}", show(&reply.body)),
        b'G' | b'H' | b'W' => format!("Copy{}Response {:?}", direction(reply.tag), reply.body),
        b'E' => format!("ErrorResponse {}", severity_and_code(reply)),
        b'N' => format!("NoticeResponse {}", severity_and_code(reply)),
        tag => format!("{:?} {}", tag as char, show(&reply.body)),
    }
}

fn severity_and_code(reply: &Reply) -> String {
    let field = |code| error_field(reply, code).unwrap_or_default();
    let mut line = format!("{} {} {}", field(b'V'), field(b'C'), field(b'M'));
    if let Some(position) = error_field(reply, b'P') {
        line.push_str(&format!(" at {position}"));
    }
    line
}

fn direction(tag: u8) -> &'static str {
    match tag {
        b'G' => "In",
        b'H' => "Out",
        _ => "Both",
    }
}

fn sign(pid: u32) -> char {
    if pid > 0 { '+' } else { '0' }
}

/// Readable text as it is, anything else in hex.
fn show(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => format!("{text:?}"),
        _ => {
            let mut line = String::from("x");
            for byte in bytes {
                line.push_str(&format!("{byte:02x}"));
            }
            line
        }
    }
}

/// The OID of a built-in type; types that somebody made are numbered by chance.
fn type_name(oid: u32) -> String {
    if oid < FIRST_USER_OID {
        oid.to_string()
    } else {
        "made".to_owned()
    }
}

/// Reads a body from the front; what is missing reads as zero or nothing, and shows as such.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(count.min(self.0.len()));
        self.0 = tail;
        head
    }

    fn int4(&mut self) -> u32 {
        self.take(4).try_into().map_or(0, u32::from_be_bytes)
    }

    fn int2(&mut self) -> i16 {
        self.take(2).try_into().map_or(0, i16::from_be_bytes)
    }

    fn text(&mut self) -> String {
        let end = self
            .0
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(self.0.len());
        let text = String::from_utf8_lossy(self.take(end)).into_owned();
        self.take(1);
        text
    }

    fn value(&mut self) -> String {
        match self.int4() as i32 {
            -1 => "null".to_owned(),
            length => show(self.take(length.max(0) as usize)),
        }
    }

    fn values(&mut self) -> String {
        let count = self.int2();
        (0..count)
            .map(|_| self.value())
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn oids(&mut self) -> String {
        let count = self.int2();
        (0..count)
            .map(|_| type_name(self.int4()))
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn strings4(&mut self) -> Vec<String> {
        let count = self.int4();
        (0..count).map(|_| self.text()).collect()
    }

    /// `name:type/typlen/typmod/format@T.attnum`
    fn columns(&mut self) -> String {
        let count = self.int2();
        (0..count)
            .map(|_| self.column())
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn column(&mut self) -> String {
        let name = self.text();
        let table = if self.int4() == 0 { '-' } else { 'T' };
        let attnum = self.int2();
        let oid = type_name(self.int4());
        let typlen = self.int2();
        let typmod = self.int4() as i32;
        let format = self.int2();
        format!("{name}:{oid}/{typlen}/{typmod}/{format}@{table}.{attnum}")
    }
}
