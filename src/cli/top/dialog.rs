//! The dialog before a drain, an undrain, a dial, a drill or a shift: first what is expected, then the question, then the
//! act.
//!
//! # Invariants
//! * Nothing is changed before the proxy's expectation, or the reason why there is none, is on the screen.
//! * A change that sends nothing more to a cluster or site, and a drill, are confirmed by its name, any other by one key.

use super::operation::{Choice, Operation};
use super::press::Press;
use crate::cli::text::{ms, rate, shown, usd};
use serde::Deserialize;

/// What a change applies to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Cluster,
    Site,
    Service,
}

impl Kind {
    /// The kind in the paths of the API.
    pub(super) fn path(self) -> &'static str {
        match self {
            Kind::Cluster => "clusters",
            Kind::Site => "sites",
            Kind::Service => "services",
        }
    }
}

/// What an operator wants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verb {
    Drain,
    Undrain,
    Dial,
    Drill,
    Shift,
}

/// A change of a dial.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Change {
    pub(super) kind: Kind,
    pub(super) name: String,
    /// `None` is the dial of the file again.
    pub(super) percent: Option<u8>,
}

/// What the dialog asks about, and then does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Act {
    Dial(Change),
    Begin(Operation),
    /// Aborts the running operation: its traffic returns at once.
    Abort(u64),
}

/// `/api/v1/expect`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(super) struct Expectation {
    seconds: f64,
    services: Vec<OfService>,
    warnings: Vec<String>,
    assumed: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
struct OfService {
    name: String,
    demand_rps: f64,
    clusters: Vec<Moved>,
    now: Figures,
    after: Figures,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
struct Moved {
    name: String,
    now_rps: f64,
    after_rps: f64,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
struct Figures {
    refused_rps: f64,
    p99_ms: Option<f64>,
    usd_per_hour: f64,
}

/// A line of the expectation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) what: String,
    /// The figure now and the figure after the change; empty where the line is a sentence.
    pub(super) figures: Option<(String, String)>,
    /// Whether clients would notice.
    pub(super) is_bad: bool,
}

/// Where the dialog is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// The percentage is typed.
    Percent,
    /// The expectation is shown, or awaited.
    Confirm,
    /// The change was sent; the answer is awaited.
    Doing,
    /// The answer, where there is something to tell.
    Told(String),
}

/// The dialog.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Dialog {
    pub(super) verb: Verb,
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) step: Step,
    /// The percentage as typed.
    pub(super) entry: String,
    /// Of a drill or a shift.
    pub(super) choice: Option<Choice>,
    /// The name as typed.
    pub(super) typed: String,
    /// The expectation, or why there is none; `None` while it is awaited.
    pub(super) expected: Option<Result<Expectation, String>>,
    /// Which question or change the answer must belong to.
    pub(super) ticket: u64,
}

/// What a key in the dialog leads to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    Stay,
    Close,
    /// Ask for the expectation.
    Ask(Act),
    /// Do it.
    Act(Act),
}

impl Dialog {
    /// A dialog for a cluster or site whose dial is `dial` now.
    pub(super) fn new(verb: Verb, kind: Kind, name: &str, dial: u8) -> Dialog {
        Dialog {
            verb,
            kind,
            name: name.to_owned(),
            step: if verb == Verb::Dial { Step::Percent } else { Step::Confirm },
            entry: dial.to_string(),
            choice: None,
            typed: String::new(),
            expected: None,
            ticket: 0,
        }
    }

    /// A dialog for a drill of a site, or for a shift of a service.
    pub(super) fn operation(name: &str, choice: Choice) -> Dialog {
        let (verb, kind) = match choice.way() {
            Some(_) => (Verb::Shift, Kind::Service),
            None => (Verb::Drill, Kind::Site),
        };
        let choice = Some(choice);
        Dialog { step: Step::Percent, choice, ..Dialog::new(verb, kind, name, 100) }
    }

    /// What the dialog is about; `None` while the percentage is none.
    pub(super) fn act(&self) -> Option<Act> {
        let typed = || self.entry.parse().ok().filter(|percent| *percent <= 100);
        let percent = match self.verb {
            Verb::Drain => Some(0),
            Verb::Undrain => None,
            Verb::Dial => Some(typed()?),
            Verb::Drill | Verb::Shift => {
                let percent = typed().filter(|percent| *percent > 0)?;
                return Some(Act::Begin(self.choice.as_ref()?.operation(&self.name, percent)));
            }
        };
        Some(Act::Dial(Change { kind: self.kind, name: self.name.clone(), percent }))
    }

    /// Whether the name must be typed.
    pub(super) fn is_heavy(&self) -> bool {
        match self.act() {
            Some(Act::Dial(change)) => change.percent == Some(0),
            Some(Act::Begin(Operation::Drill { .. })) => true,
            Some(Act::Begin(Operation::Shift { .. }) | Act::Abort(_)) | None => false,
        }
    }

    /// Follows a key.
    pub(super) fn press(&mut self, press: Press) -> Outcome {
        match (&self.step, press) {
            (_, Press::Escape) | (Step::Told(_), Press::Enter) => return Outcome::Close,
            (Step::Percent, _) => return self.press_percent(press),
            (Step::Confirm, _) if self.expected.is_none() => {}
            (Step::Confirm, _) => return self.press_confirm(press),
            (Step::Doing | Step::Told(_), _) => {}
        }
        Outcome::Stay
    }

    fn press_percent(&mut self, press: Press) -> Outcome {
        let by = |entry: &str, step: i16| {
            let now: i16 = entry.parse().unwrap_or(0);
            (now + step).clamp(0, 100).to_string()
        };
        if self.choice.as_mut().is_some_and(|choice| choice.press(press)) {
            return Outcome::Stay;
        }
        match press {
            Press::Char(digit) if digit.is_ascii_digit() => {
                let longer = format!("{}{digit}", self.entry.trim_start_matches('0'));
                // A digit after a whole percentage begins a new one.
                let fits = longer.parse::<u8>().is_ok_and(|percent| percent <= 100);
                self.entry = if fits { longer } else { digit.to_string() };
            }
            Press::Erase => drop(self.entry.pop()),
            Press::More => self.entry = by(&self.entry, 5),
            Press::Less => self.entry = by(&self.entry, -5),
            Press::Enter => {
                if let Some(act) = self.act() {
                    self.step = Step::Confirm;
                    return Outcome::Ask(act);
                }
            }
            Press::Char(_) | Press::Escape => {}
        }
        Outcome::Stay
    }

    fn press_confirm(&mut self, press: Press) -> Outcome {
        /// Characters of a typed name.
        const TYPED_MAX: usize = 256;
        let is_ready = match (self.is_heavy(), press) {
            (true, Press::Char(c)) => {
                if self.typed.len() < TYPED_MAX {
                    self.typed.push(c);
                }
                false
            }
            (true, Press::Erase) => {
                self.typed.pop();
                false
            }
            (true, Press::Enter) => [self.name.clone(), shown(&self.name)].contains(&self.typed),
            (false, Press::Char('y' | 'Y')) => true,
            (_, _) => false,
        };
        match self.act().filter(|_| is_ready) {
            Some(act) => {
                self.step = Step::Doing;
                Outcome::Act(act)
            }
            None => Outcome::Stay,
        }
    }
}

/// Rates below this are not worth a line.
const SMALL_RPS: f64 = 0.5;
/// Changes below this part of the demand are not worth a line.
const SMALL: f64 = 0.02;

impl Expectation {
    /// What moves, what it costs, and what is assumed: warnings first.
    pub(super) fn lines(&self) -> Vec<Line> {
        let sentence =
            |is_bad: bool| move |text: &String| Line { what: shown(text), figures: None, is_bad };
        let mut lines: Vec<Line> = self.warnings.iter().map(sentence(true)).collect();
        let before = lines.len();
        self.services.iter().for_each(|service| service.lines(&mut lines));
        if lines.len() == before {
            lines.push(sentence(false)(&"No request goes there now: nothing moves.".to_owned()));
        }
        if !self.assumed.is_empty() {
            let told = format!("Simulated in {:.0} virtual seconds; assumed:", self.seconds);
            lines.push(sentence(false)(&told));
            lines.extend(self.assumed.iter().map(|text| sentence(false)(&format!("- {text}"))));
        }
        lines
    }
}

impl OfService {
    fn lines(&self, lines: &mut Vec<Line>) {
        let name = shown(&self.name);
        let mut push = |what: String, now: String, after: String, is_bad: bool| {
            lines.push(Line { what, figures: Some((now, after)), is_bad });
        };
        let least = SMALL * self.demand_rps;
        for to in &self.clusters {
            if (to.after_rps - to.now_rps).abs() > least.max(SMALL_RPS) {
                let (now, after) = (rate(Some(to.now_rps)), rate(Some(to.after_rps)));
                let what = format!("{} gets of {name}", shown(&to.name));
                push(what, format!("{now}/s"), format!("{after}/s"), false);
            }
        }
        if let Some((now, after)) = self.now.p99_ms.zip(self.after.p99_ms) {
            let told = |p99: f64| format!("{} ms", ms(Some(p99)));
            push(format!("p99 of {name}"), told(now), told(after), after > 2.0 * now);
        }
        let (now, after) = (self.now.refused_rps, self.after.refused_rps);
        if now.max(after) > least + SMALL_RPS {
            let told = |refused: f64| format!("{}/s", rate(Some(refused)));
            push(format!("refused of {name}"), told(now), told(after), after > now);
        }
        let (now, after) = (self.now.usd_per_hour, self.after.usd_per_hour);
        if now.max(after) > 0.005 {
            let told = |spend: f64| format!("{}/h", usd(Some(spend)));
            push(format!("spend of {name}"), told(now), told(after), false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn type_text(dialog: &mut Dialog, text: &str) {
        text.chars().for_each(|c| assert_eq!(dialog.press(Press::Char(c)), Outcome::Stay));
    }

    #[test]
    fn a_drain_is_confirmed_by_the_name_and_only_after_the_expectation() {
        let mut dialog = Dialog::new(Verb::Drain, Kind::Cluster, "idc", 100);
        type_text(&mut dialog, "idc");
        assert_eq!(dialog.press(Press::Enter), Outcome::Stay, "nothing is expected yet");
        assert_eq!(dialog.typed, "");

        dialog.expected = Some(Ok(Expectation::default()));
        type_text(&mut dialog, "idx");
        assert_eq!(dialog.press(Press::Enter), Outcome::Stay, "it is another name");
        dialog.press(Press::Erase);
        type_text(&mut dialog, "c");
        let change = Change { kind: Kind::Cluster, name: "idc".to_owned(), percent: Some(0) };
        assert_eq!(dialog.press(Press::Enter), Outcome::Act(Act::Dial(change)));
        assert_eq!(dialog.press(Press::Enter), Outcome::Stay, "it is done once");
    }

    #[test]
    fn an_undrain_is_confirmed_by_y() {
        let mut dialog = Dialog::new(Verb::Undrain, Kind::Site, "east", 0);
        dialog.expected = Some(Err("another simulation runs".to_owned()));
        assert_eq!(dialog.press(Press::Enter), Outcome::Stay);
        let change = Change { kind: Kind::Site, name: "east".to_owned(), percent: None };
        assert_eq!(dialog.press(Press::Char('y')), Outcome::Act(Act::Dial(change)));
    }

    #[test]
    fn a_dial_is_from_0_to_100_and_zero_needs_the_name() {
        let mut dialog = Dialog::new(Verb::Dial, Kind::Cluster, "idc", 100);
        let mut pressed = |press: Press| {
            dialog.press(press);
            dialog.entry.clone()
        };
        assert_eq!(pressed(Press::Less), "95");
        assert_eq!(pressed(Press::Char('7')), "7", "957 is no percentage");
        assert_eq!(pressed(Press::Char('5')), "75");
        assert_eq!(pressed(Press::Char('x')), "75");
        assert_eq!(pressed(Press::Erase), "7");
        assert_eq!(pressed(Press::Erase), "");
        assert_eq!(dialog.press(Press::Enter), Outcome::Stay, "nothing is no percentage");
        dialog.press(Press::Char('0'));
        assert!(dialog.is_heavy());
        dialog.press(Press::More);
        let change = Change { kind: Kind::Cluster, name: "idc".to_owned(), percent: Some(5) };
        assert_eq!(dialog.press(Press::Enter), Outcome::Ask(Act::Dial(change.clone())));
        dialog.expected = Some(Ok(Expectation::default()));
        assert_eq!(dialog.press(Press::Char('y')), Outcome::Act(Act::Dial(change)));
    }

    #[test]
    fn a_drill_is_composed_then_expected_then_confirmed_by_the_name() {
        let mut dialog = Dialog::operation("east", Choice::drill());
        assert_eq!((dialog.verb, dialog.kind), (Verb::Drill, Kind::Site));
        dialog.press(Press::More);
        dialog.press(Press::Char('4'));
        dialog.press(Press::Char('0'));
        let act =
            Act::Begin(Operation::Drill { site: "east".to_owned(), percent: 40, seconds: 300 });
        assert_eq!(dialog.press(Press::Enter), Outcome::Ask(act.clone()));
        assert_eq!(dialog.press(Press::Char('y')), Outcome::Stay, "nothing is expected yet");
        dialog.expected = Some(Ok(Expectation::default()));
        assert_eq!(dialog.press(Press::Char('y')), Outcome::Stay);
        assert_eq!(dialog.press(Press::Enter), Outcome::Stay, "`y` is not its name");
        dialog.press(Press::Erase);
        type_text(&mut dialog, "east");
        assert_eq!(dialog.press(Press::Enter), Outcome::Act(act));
    }

    #[test]
    fn a_shift_needs_a_percentage_and_one_key() {
        let order = ["idc", "near", "far"].map(str::to_owned);
        let mut dialog = Dialog::operation("shop", Choice::shift(&order).unwrap());
        (0..3).for_each(|_| drop(dialog.press(Press::Erase)));
        dialog.press(Press::Char('0'));
        assert_eq!(dialog.press(Press::Enter), Outcome::Stay, "nothing would move");
        (0..2).for_each(|_| drop(dialog.press(Press::Char('5'))));
        dialog.press(Press::Char('t'));
        let Outcome::Ask(act) = dialog.press(Press::Enter) else { panic!("{dialog:?}") };
        let [service, from, to] = ["shop", "idc", "far"].map(str::to_owned);
        let expected = Operation::Shift { service, from, to, percent: 55, seconds: 600 };
        assert_eq!(act, Act::Begin(expected));
        dialog.expected = Some(Err("another simulation runs".to_owned()));
        assert_eq!(dialog.press(Press::Char('y')), Outcome::Act(act));
    }

    #[test]
    fn an_expectation_says_what_moves_and_warns_first() {
        let expectation: Expectation = serde_json::from_str(
            r#"{"seconds": 14, "warnings": ["no other cluster"], "assumed": ["near takes all"], "services": [
              {"name": "shop", "demand_rps": 100, "clusters": [{"name": "idc", "now_rps": 100, "after_rps": 0},
                {"name": "near", "now_rps": 0, "after_rps": 99.8}, {"name": "far", "now_rps": 0, "after_rps": 0.2}],
               "now": {"refused_rps": 0, "p99_ms": 20, "usd_per_hour": 0},
               "after": {"refused_rps": 40, "p99_ms": 51, "usd_per_hour": 1.5}}]}"#,
        )
        .unwrap();
        let told: Vec<String> = expectation
            .lines()
            .into_iter()
            .map(|line| match line.figures {
                Some((now, after)) => format!("{}: {now} -> {after} {}", line.what, line.is_bad),
                None => line.what,
            })
            .collect();
        assert_eq!(
            told,
            [
                "no other cluster",
                "idc gets of shop: 100/s -> 0/s false",
                "near gets of shop: 0/s -> 100/s false",
                "p99 of shop: 20 ms -> 51 ms true",
                "refused of shop: 0/s -> 40/s true",
                "spend of shop: $0.00/h -> $1.50/h false",
                "Simulated in 14 virtual seconds; assumed:",
                "- near takes all",
            ]
        );
        let nothing = Expectation::default().lines();
        assert_eq!(nothing[0].what, "No request goes there now: nothing moves.");
    }
}
