//! The process's signals and their meanings.

use tokio::signal::unix::{SignalKind, signal};

/// The meaning of a signal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Signal {
    /// Drain, then end.
    Stop,
    /// Reload the configuration.
    Reload,
    /// Reopen the log files.
    Reopen,
    /// Start a successor.
    Upgrade,
}

/// The signals of the process; `None` if this proxy does not handle signals.
#[derive(Debug)]
pub(super) struct Signals(Option<[tokio::signal::unix::Signal; 5]>);

impl Signals {
    /// Signals that never arrive.
    pub(super) fn none() -> Signals {
        Signals(None)
    }

    /// Waits for a stop signal.
    pub(super) async fn stop(&mut self) {
        while self.next().await != Signal::Stop {}
    }

    /// Registers for the signals; `ours` is true if this proxy handles them.
    pub(super) fn new(ours: bool) -> Signals {
        if !ours {
            return Signals(None);
        }
        let all = [
            SignalKind::terminate(),
            SignalKind::interrupt(),
            SignalKind::hangup(),
            SignalKind::user_defined1(),
            SignalKind::user_defined2(),
        ]
        .map(signal);
        match all {
            [Ok(terminate), Ok(interrupt), Ok(hangup), Ok(user1), Ok(user2)] => {
                Signals(Some([terminate, interrupt, hangup, user1, user2]))
            }
            _ => {
                tracing::error!(
                    "signal handlers not installed: SIGTERM, SIGINT, SIGHUP, SIGUSR1 and SIGUSR2 are ignored"
                );
                Signals(None)
            }
        }
    }

    /// The next signal; never returns if this proxy does not handle signals.
    pub(super) async fn next(&mut self) -> Signal {
        let Some([terminate, interrupt, hangup, user1, user2]) = &mut self.0 else {
            return std::future::pending().await;
        };
        tokio::select! {
            // Stop first.
            biased;
            _ = terminate.recv() => Signal::Stop,
            _ = interrupt.recv() => Signal::Stop,
            _ = hangup.recv() => Signal::Reload,
            _ = user1.recv() => Signal::Reopen,
            _ = user2.recv() => Signal::Upgrade,
        }
    }
}
