//! What cannot be undone asks for the name of what it is done to.

use std::io::{BufRead, IsTerminal, Write};

use crate::cli::Found;

/// Asks the terminal for `name`; `given` answers in its place.
///
/// # Errors
/// If the answer is another, or there is nobody to ask.
pub(super) fn ask(what: &str, name: &str, given: Option<&str>) -> anyhow::Result<()> {
    let answer = match given {
        Some(given) => given.to_owned(),
        None if std::io::stdin().is_terminal() => {
            let mut prompt = std::io::stderr();
            write!(prompt, "{what}\nType the key's name to go on: ")?;
            prompt.flush()?;
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line)?;
            line.trim_end_matches(['\r', '\n']).to_owned()
        }
        None => {
            return Err(Found(format!(
                "{what} There is no terminal to ask: add --confirm {name}"
            ))
            .into());
        }
    };
    if answer != name {
        return Err(Found(format!(
            "{answer:?} is not the name of the key; nothing was done"
        ))
        .into());
    }
    Ok(())
}
