//! The demo's output on a terminal.

use super::load::Window;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

/// Prints; a closed terminal does not end the demo.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
        tracing::trace!("line not printed: standard output is closed");
    }
}

/// Prints the proxy and the clusters.
pub(super) fn introduce(proxy: &SocketAddr, admin: &str) {
    say("Tidegate demo: everything on this machine, nothing to set up\n");
    say("  clients -> tidegate -> idc         10 slots of 20 ms, here: 500 requests/s");
    say("                      -> cloud-near  30 ms away");
    say("                      -> cloud-far   70 ms away\n");
    say(&format!("  proxy  http://{proxy}"));
    say(&format!("  admin  http://{admin}   (try: curl http://{admin}/api/v1/clusters)\n"));
    say("  requests/s   idc | near | far                                     p50     p99   errors");
}

/// Prints the title of an act.
pub(super) fn title(title: &str, rate: f64) {
    say(&format!("\n--- {title} ({rate:.0}/s)"));
}

/// Columns of the bar of shares.
const WIDTH: usize = 40;

/// Prints the results of a window.
pub(super) fn window(window: &Window, span: Duration) {
    let rate = window.count() as f64 / span.as_secs_f64();
    let (idc, near, far) =
        (window.share("idc"), window.share("cloud-near"), window.share("cloud-far"));
    let columns = |share: f64| (share * WIDTH as f64).round() as usize;
    let mut bar = "#".repeat(columns(idc)) + &"~".repeat(columns(near)) + &".".repeat(columns(far));
    bar.truncate(WIDTH);
    say(&format!(
        "  {rate:>8.0}   {:>4.0} {:>4.0} {:>4.0} % [{bar:<WIDTH$}] {:>6.1} {:>7.1} ms {:>4}",
        idc * 100.0,
        near * 100.0,
        far * 100.0,
        window.quantile(0.5) * 1e3,
        window.quantile(0.99) * 1e3,
        window.errors
    ));
}

/// The promises and their results.
#[derive(Debug, Default)]
pub(super) struct Verdict(Vec<(&'static str, String, bool)>);

impl Verdict {
    /// Adds a result.
    pub(super) fn check(&mut self, promise: &'static str, seen: String, kept: bool) {
        self.0.push((promise, seen, kept));
    }

    /// Prints all results; returns whether all promises hold.
    pub(super) fn print(&self) -> bool {
        say("\nWhat you saw:");
        for (promise, seen, kept) in &self.0 {
            say(&format!("  [{}] {promise}: {seen}", if *kept { "ok" } else { "NO" }));
        }
        let kept = self.0.iter().all(|(.., kept)| *kept);
        say(if kept { "\nAll came true." } else { "\nNot all came true." });
        kept
    }
}
