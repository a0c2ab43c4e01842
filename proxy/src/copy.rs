//! How COPY writes rows: text, CSV and binary, cut exactly where PostgreSQL cuts them (copyfromparse.c, copyto.c).
//! It knows no policy, no keys and no sockets.

pub mod binary;
pub mod fields;
pub mod lines;
