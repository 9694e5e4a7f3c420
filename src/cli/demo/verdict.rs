//! The promises of the demo, judged by what the clients saw.
//!
//! # Invariants
//! * What a key interrupted is not judged, and the demo does not succeed before everything was judged once.

use super::load::Window;
use super::script::Measure;
use std::time::Duration;

/// A promise, what was seen of it, and whether it was kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Promise {
    pub(super) text: &'static str,
    pub(super) seen: String,
    pub(super) kept: bool,
}

/// The promises that were judged.
#[derive(Debug, Default)]
pub(super) struct Verdict(Vec<Promise>);

/// From the first request to the first that spills, at most.
const FIRST_SPILL_MAX: Duration = Duration::from_secs(5);
/// The share of the cloud above which a window counts as spilling.
const SPILLS: f64 = 0.05;

/// Whether a window spills.
pub(super) fn spills(window: &Window) -> bool {
    window.count() > 0 && cloud_share(window) > SPILLS
}

/// The share of the good responses that came from a cloud.
pub(super) fn cloud_share(window: &Window) -> f64 {
    window.share("cloud-near") + window.share("cloud-far")
}

/// Judges the responses of a phase.
pub(super) fn judge(measure: Measure, seen: &Window) -> Promise {
    let home = seen.share("idc");
    let percent = home * 100.0;
    let has_any = seen.count() > 0;
    match measure {
        Measure::Low => Promise {
            text: "at half load the data centre serves",
            seen: format!("{percent:.1} % at home (98 % or more), {}", seen.errors_seen()),
            kept: home >= 0.98 && seen.errors == 0,
        },
        Measure::High => {
            let (cloud, p99) = (cloud_share(seen), seen.quantile(0.99));
            Promise {
                text: "the excess spills into the cloud, and nobody is refused",
                seen: format!(
                    "{:.1} % in the cloud (15-45 %), p99 {:.0} ms (under 200), {}",
                    cloud * 100.0,
                    p99 * 1e3,
                    seen.errors_seen()
                ),
                kept: (0.15..=0.45).contains(&cloud) && p99 < 0.2 && seen.errors == 0,
            }
        }
        Measure::Back => Promise {
            text: "the traffic comes back by itself",
            seen: format!("{percent:.1} % at home (95 % or more)"),
            kept: home >= 0.95,
        },
        Measure::Outage => Promise {
            text: "an outage costs idempotent requests nothing",
            seen: format!("{} in {} requests", seen.errors_seen(), seen.count()),
            kept: has_any && seen.errors == 0,
        },
        Measure::Home => Promise {
            text: "the traffic is back within 5 s, gently",
            seen: format!("{percent:.1} % at home (95 % or more), {}", seen.errors_seen()),
            kept: home >= 0.95 && seen.errors == 0,
        },
    }
}

/// Judges when the first request spilled, counted from the first request of all.
pub(super) fn judge_first_spill(after: Option<Duration>) -> Promise {
    Promise {
        text: "the first spill comes within 5 s",
        seen: after.map_or("none was seen".to_owned(), |after| {
            format!("{:.1} s after the first request", after.as_secs_f64())
        }),
        kept: after.is_some_and(|after| after <= FIRST_SPILL_MAX),
    }
}

/// Judges the answer to a request for sensitive data while the data centre is dead.
pub(super) fn judge_sensitive(answer: &str) -> Promise {
    Promise {
        text: "sensitive data does not leave, even during the outage",
        seen: format!("/sensitive is answered {answer}"),
        kept: answer == "503 no_healthy_cluster",
    }
}

/// Judges what the operator did by keys.
pub(super) fn judge_hands(seen: &Window) -> Promise {
    Promise {
        text: "your own flood and outage cost nothing",
        seen: format!("{} in {} requests", seen.errors_seen(), seen.count()),
        kept: seen.errors == 0,
    }
}

impl Verdict {
    /// Adds a promise.
    pub(super) fn add(&mut self, promise: Promise) {
        self.0.push(promise);
    }

    /// Whether all that was judged was kept.
    pub(super) fn is_kept(&self) -> bool {
        self.0.iter().all(|promise| promise.kept)
    }

    /// All promises as lines.
    pub(super) fn lines(&self, is_whole: bool) -> Vec<String> {
        let mut lines = vec![String::new(), "What you saw:".to_owned()];
        lines.extend(self.0.iter().map(|Promise { text, seen, kept }| {
            format!("  [{}] {text}: {seen}", if *kept { "ok" } else { "NO" })
        }));
        let sum = match (self.is_kept(), is_whole) {
            (true, true) => "All came true.",
            (true, false) => "Stopped before the end: the rest was not judged.",
            (false, _) => "Not all came true.",
        };
        lines.extend([String::new(), sum.to_owned()]);
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A window with so many responses of the data centre, of the near cloud, and errors.
    fn window(home: usize, cloud: usize, errors: usize, seconds: f64) -> Window {
        let mut window = Window::default();
        (0..home).for_each(|_| window.add(seconds, Ok("idc".to_owned())));
        (0..cloud).for_each(|_| window.add(seconds, Ok("cloud-near".to_owned())));
        (0..errors).for_each(|_| window.add(seconds, Err("503 overloaded".to_owned())));
        window
    }

    #[test]
    fn each_promise_is_broken_by_what_it_excludes() {
        use Measure::{Back, High, Home, Low, Outage};
        #[rustfmt::skip]
        let table = [
            (Low,    window(100, 0, 0, 0.02),  true),
            (Low,    window(97, 3, 0, 0.02),   false),
            (Low,    window(100, 0, 1, 0.02),  false),
            (Low,    window(0, 0, 0, 0.0),     false),
            (High,   window(77, 23, 0, 0.15),  true),
            (High,   window(90, 10, 0, 0.15),  false),
            (High,   window(50, 50, 0, 0.15),  false),
            (High,   window(77, 23, 0, 0.25),  false),
            (High,   window(77, 23, 1, 0.15),  false),
            (Back,   window(95, 5, 0, 0.02),   true),
            (Back,   window(94, 6, 0, 0.02),   false),
            (Outage, window(0, 100, 0, 0.05),  true),
            (Outage, window(0, 100, 1, 0.05),  false),
            (Outage, window(0, 0, 0, 0.0),     false),
            (Home,   window(96, 4, 0, 0.02),   true),
            (Home,   window(90, 10, 0, 0.02),  false),
            (Home,   window(96, 4, 1, 0.02),   false),
        ];
        for (measure, window, kept) in table {
            assert_eq!(judge(measure, &window).kept, kept, "{measure:?} {window:?}");
        }
        let broken = judge(Outage, &window(0, 100, 2, 0.05)).seen;
        assert_eq!(broken, "2 errors (the first: 503 overloaded) in 102 requests");
        for (after, kept) in [(Some(4_900), true), (Some(5_100), false), (None, false)] {
            assert_eq!(judge_first_spill(after.map(Duration::from_millis)).kept, kept);
        }
        assert!(judge_sensitive("503 no_healthy_cluster").kept && !judge_sensitive("200").kept);
        assert!(
            judge_hands(&window(1, 1, 0, 0.1)).kept && !judge_hands(&window(1, 1, 1, 0.1)).kept
        );
        assert!(spills(&window(90, 10, 0, 0.1)) && !spills(&window(100, 0, 0, 0.1)));
    }

    #[test]
    fn the_verdict_names_what_was_not_kept_and_what_was_not_judged() {
        let mut verdict = Verdict::default();
        verdict.add(judge(Measure::Low, &window(100, 0, 0, 0.02)));
        assert!(verdict.is_kept());
        let last = |verdict: &Verdict, is_whole| verdict.lines(is_whole).pop().unwrap();
        assert_eq!(last(&verdict, true), "All came true.");
        assert!(last(&verdict, false).contains("was not judged"));
        verdict.add(judge_sensitive("200"));
        assert!(!verdict.is_kept());
        assert_eq!(last(&verdict, true), "Not all came true.");
        assert!(verdict.lines(true).iter().any(|line| line.starts_with("  [NO] sensitive")));
    }
}
