//! Whether what is shown of settings at run time is what pgveil wrote. It is shown either way, so that it can be looked at while a
//! provider is away; nothing goes by it.

use std::{path::Path, process::ExitCode};

use crate::app;

/// Says on standard error which rows are refused. Whoever looks at the exit code knows that what was shown does not hold.
pub(super) async fn tell(config: &Path) -> ExitCode {
    let judged = match app::keystore(config).await {
        Ok((_, keystore)) => keystore
            .judged_overrides()
            .await
            .map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match judged {
        Ok(judged) if judged.refused.is_empty() => ExitCode::SUCCESS,
        Ok(judged) => {
            for (_, error) in &judged.refused {
                eprintln!("pgveil: what is shown is not what was set: {error}");
            }
            eprintln!(
                "  cure: {}; processes that run go by what they knew before",
                judged.refused[0].1.cure()
            );
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!(
                "pgveil: what was set at run time is shown as it stands there, and could not be judged: {error}"
            );
            ExitCode::SUCCESS
        }
    }
}
