//! Who does something: a person at the command line, a session of a client, or pgveil by itself. Whether they may is
//! decided elsewhere.

use std::{fs, future::Future, process};

/// The longest name of an actor or an address in a record, in bytes; the rest is cut off.
pub const MAX_NAME_BYTES: usize = 256;

/// Who, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// `os:USER`, `session:ROLE` or `pgveil@HOST:PID`.
    pub name: String,
    /// The host of the command line, the client's address, or empty for pgveil itself.
    pub address: String,
}

tokio::task_local! {
    /// For whom the current task works.
    static ACTING: Actor;
}

/// Runs something for somebody: what it records in the audit log, it records of them.
pub async fn acting<F: Future>(actor: Actor, work: F) -> F::Output {
    ACTING.scope(actor, work).await
}

impl Actor {
    /// A person at the command line.
    pub fn person(user: &str) -> Self {
        Self {
            name: format!("os:{user}"),
            address: host(),
        }
    }

    /// A session of a client: the role that logged in.
    pub fn session(role: &str, address: impl ToString) -> Self {
        Self {
            name: format!("session:{role}"),
            address: address.to_string(),
        }
    }

    /// This process by itself.
    pub fn pgveil() -> Self {
        Self {
            name: instance(),
            address: String::new(),
        }
    }

    /// For whom the current task works; this process if for nobody.
    pub fn current() -> Self {
        ACTING
            .try_with(Clone::clone)
            .unwrap_or_else(|_| Self::pgveil())
    }
}

/// This process among the replicas: `pgveil@HOST:PID`.
pub fn instance() -> String {
    format!("pgveil@{}:{}", host(), process::id())
}

/// The name of this machine, as its kernel has it.
fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_acts_for_whom_it_was_told_and_otherwise_for_pgveil() {
        let ada = Actor::session("ada", "192.0.2.1");
        let seen = acting(ada.clone(), async { Actor::current() }).await;
        assert_eq!(seen, ada);
        assert!(Actor::current().name.starts_with("pgveil@"));
    }
}
