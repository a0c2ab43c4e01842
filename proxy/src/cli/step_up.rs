//! What verbs that need step-up are given: the token. Getting one is `pgveil step-up`'s business.

use std::{io::Read, path::PathBuf};

use clap::Args;
use pgveil_keys::step_up::Token;
use zeroize::Zeroizing;

use super::Found;

/// The longest token file that is read.
const MAX_BYTES: u64 = 4096;

/// The right to do what needs step-up.
#[derive(Debug, Args)]
pub struct StepUp {
    /// The file with the step-up token; `-` reads standard input
    #[arg(long = "token", value_name = "FILE")]
    token: Option<PathBuf>,
}

impl StepUp {
    /// The token, as `pgveil step-up token` printed it.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    pub fn token(&self) -> anyhow::Result<Token> {
        let Some(path) = &self.token else {
            return Err(Found(
                "this needs a step-up token; get one with `pgveil step-up token OPERATION SCOPE` and give it as --token FILE"
                    .to_owned(),
            )
            .into());
        };
        let mut text = Zeroizing::new(String::new());
        let read = if path.as_os_str() == "-" {
            std::io::stdin().take(MAX_BYTES).read_to_string(&mut text)
        } else {
            std::fs::File::open(path)
                .and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text))
        };
        read.map_err(|error| Found(format!("{}: {error}", path.display())))?;
        Token::parse(&text).map_err(|error| Found(format!("{error}; {}", error.cure())).into())
    }
}
