//! Long computations that must not delay the workers: on a core that both need, the kernel prefers the worker.

use rustix::process::{getpriority_process, setpriority_process};
use std::io;

/// The niceness of the computations (`sched(7)`): on a core that a worker keeps busy they get a tenth of it.
const NICENESS: i32 = 10;

/// Runs `work` in a thread of its own at low priority. A thread's priority can be lowered but not raised again without
/// privileges, so it is not one of the runtime's.
///
/// `None` if `work` panicked, or if there is no thread to be had.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let lowered = || {
        if let Err(error) = lower() {
            tracing::debug!(%error, "priority not lowered");
        }
        work()
    };
    let wait = || {
        let thread = std::thread::Builder::new().name("low-priority".to_owned()).spawn(lowered);
        thread.ok()?.join().ok()
    };
    tokio::task::spawn_blocking(wait).await.ok().flatten()
}

/// Lowers the priority of the calling thread, which is what Linux takes a process to be here (`setpriority(2)`).
fn lower() -> io::Result<()> {
    if getpriority_process(None)? < NICENESS {
        setpriority_process(None, NICENESS)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_priority_of_the_work_is_lower_and_that_of_its_caller_is_kept() {
        let before = getpriority_process(None).unwrap();
        let lowered = run(|| getpriority_process(None).unwrap()).await;
        assert_eq!(lowered, Some(NICENESS.max(before)));
        let blocking = || getpriority_process(None).unwrap();
        assert_eq!(tokio::task::spawn_blocking(blocking).await.unwrap(), before);
        assert_eq!(getpriority_process(None).unwrap(), before);
    }

    #[tokio::test]
    async fn a_panic_ends_the_work_alone() {
        assert_eq!(run(|| assert_eq!(1, 2)).await, None);
    }
}
