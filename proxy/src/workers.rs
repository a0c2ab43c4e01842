//! The threads that sessions run on, each with an event loop of its own: what arrives for a session wakes one thread
//! and no other. It knows nothing of what runs there.
//!
//! One work-stealing loop for all would wake a second thread to look for work with nearly every message, which costs
//! more than relaying the message (`make bench`).

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

/// Running threads; dropping it ends them, and what runs on them.
#[derive(Debug)]
pub struct Workers {
    loops: Vec<(Handle, oneshot::Sender<()>)>,
    next: AtomicUsize,
}

impl Workers {
    /// Starts one thread per processor.
    ///
    /// # Errors
    /// If a thread or its event loop cannot be made.
    pub fn start() -> io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, usize::from);
        let loops = (0..count).map(Self::one).collect::<io::Result<_>>()?;
        Ok(Self {
            loops,
            next: AtomicUsize::new(0),
        })
    }

    fn one(index: usize) -> io::Result<(Handle, oneshot::Sender<()>)> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        thread::Builder::new()
            .name(format!("sessions-{index}"))
            .spawn(move || {
                // Ends when the sender is dropped; it never sends.
                let _ = runtime.block_on(stopped);
            })?;
        Ok((handle, stop))
    }

    /// The event loop for the next session, in turn.
    pub fn next(&self) -> &Handle {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        &self.loops[turn % self.loops.len()].0
    }
}
