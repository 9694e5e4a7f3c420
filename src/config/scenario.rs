//! A scenario of `tidegate simulate`: a word on the command line, or a YAML file.

use super::error::{Position, Problem, Problems, Severity};
use super::scalar::Amount;
use super::shape::{Spanned, decode_root, shape};
use super::yaml;
use std::time::Duration;

/// A scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The duration, in seconds.
    pub seconds: f64,
    /// Requests a second, if the scenario defines them.
    pub rate: Option<f64>,
    /// The mean service time in seconds, if the scenario defines it.
    pub service_time: Option<f64>,
    /// The events.
    pub steps: Vec<Step>,
}

/// An event with its time span.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The start, in seconds.
    pub at: f64,
    /// The end, in seconds.
    pub until: f64,
    /// The event.
    pub event: Event,
}

/// An event.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A cluster is down.
    Outage(String),
    /// Demand is this multiple of the usual demand.
    Demand(f64),
    /// Demand is this multiple of the nearest cluster's capacity.
    Overload(f64),
    /// A cluster's service time is this multiple of the usual one.
    Slow(String, f64),
    /// The round trip to a cluster is longer by this many milliseconds.
    Wan(String, f64),
}

const USUAL: (f64, f64, f64) = (60.0, 15.0, 40.0);
/// Words that name a scenario, for messages.
const WORDS: &str = "outage:CLUSTER, flash:10x, overload:1.3, slow:CLUSTER:3x, wan:CLUSTER:+80ms";

impl Scenario {
    /// Reads a word such as `outage:idc`.
    ///
    /// # Errors
    /// A message about the word.
    pub fn from_word(word: &str) -> Result<Scenario, String> {
        let (kind, rest) = word.split_once(':').unwrap_or((word, ""));
        let event = event(kind, rest).map_err(|why| format!("`{word}`: {why}"))?;
        let (seconds, at, mut until) = USUAL;
        if matches!(event, Event::Demand(_)) {
            until = at + 10.0;
        }
        let steps = vec![Step { at, until, event }];
        Ok(Scenario { seconds, rate: None, service_time: None, steps })
    }

    /// Reads the text of a file.
    pub fn from_text(text: &str) -> Result<Scenario, Vec<Problem>> {
        let mut problems = Problems::default();
        let (tree, wrongs) = yaml::parse(text);
        for wrong in wrongs {
            problems
                .push(Problem { hint: wrong.hint, ..Problem::error(wrong.at, "", wrong.message) });
        }
        let file = tree.and_then(|tree| decode_root::<ScenarioFile>(&tree, &mut problems));
        let scenario = file.map(|file| file.compile(&mut problems));
        let problems = problems.into_sorted();
        let failed = problems.iter().any(|problem| problem.severity == Severity::Error);
        scenario.filter(|_| !failed).ok_or(problems)
    }
}

fn event(kind: &str, rest: &str) -> Result<Event, String> {
    let times = |text: &str| -> Result<f64, String> {
        let number = text.trim_end_matches('x').parse::<f64>().ok();
        number
            .filter(|number| number.is_finite() && (0.01..=1_000.0).contains(number))
            .ok_or(format!("`{text}` is not a factor from 0.01 to 1000, such as 3x"))
    };
    let pair = || rest.rsplit_once(':').ok_or(format!("needs a cluster and a value: {WORDS}"));
    match kind {
        "outage" if !rest.is_empty() => Ok(Event::Outage(rest.to_owned())),
        "flash" => times(rest).map(Event::Demand),
        "overload" => times(rest).map(Event::Overload),
        "slow" => pair().and_then(|(name, by)| Ok(Event::Slow(name.to_owned(), times(by)?))),
        "wan" => pair().and_then(|(name, by)| {
            let ms = by.trim_start_matches('+').trim_end_matches("ms").parse::<f64>().ok();
            let ms = ms.filter(|ms| ms.is_finite() && (0.0..=10_000.0).contains(ms));
            let ms = ms.ok_or(format!("`{by}` is not a delay up to 10000, such as +80ms"))?;
            Ok(Event::Wan(name.to_owned(), ms))
        }),
        _ => Err(format!("not a scenario; the scenarios are {WORDS}")),
    }
}

shape! {
    /// A scenario's file.
    ScenarioFile {
        /// The duration.
        duration: Duration = "60s",
        /// Requests a second.
        rate: Amount = optional,
        /// The mean service time.
        service_time: Duration = optional,
        /// The events.
        steps: Vec<StepFile> = required,
    }
}

shape! {
    /// An event with its time span.
    StepFile {
        /// The start.
        from: Duration = "15s",
        /// The end; by default that of the scenario.
        until: Duration = optional,
        /// The event: one of the words.
        event: Spanned<String> = required,
    }
}

impl ScenarioFile {
    fn compile(self, problems: &mut Problems) -> Scenario {
        let seconds = self.duration.map_or(USUAL.0, |span| span.as_secs_f64());
        let mut wrong = |at: Position, path: String, message: &str| {
            problems.error(at, path, message);
        };
        if !(1.0..=3_600.0).contains(&seconds) {
            wrong(self.at, "duration".to_owned(), "must be from 1s to 1h");
        }
        let mut steps = Vec::new();
        for (index, step) in self.steps.iter().enumerate() {
            let path = format!("steps[{index}]");
            let at = step.at_moment();
            let until = step.until.map_or(seconds, |until| until.as_secs_f64());
            if at >= until || until > seconds {
                wrong(step.at, path.clone(), "must begin before its end and within the duration");
            }
            let (kind, rest) = step.event.value.split_once(':').unwrap_or((&step.event.value, ""));
            match event(kind, rest) {
                Ok(event) => steps.push(Step { at, until, event }),
                Err(why) => wrong(step.event.at, format!("{path}.event"), &why),
            }
        }
        let rate = self.rate.map(|rate| rate.0);
        if rate.is_some_and(|rate| !(0.1..=1e6).contains(&rate)) {
            wrong(self.at, "rate".to_owned(), "must be from 0.1 to 1000000");
        }
        let service_time = self.service_time.map(|span| span.as_secs_f64());
        Scenario { seconds, rate, service_time, steps }
    }
}

impl StepFile {
    fn at_moment(&self) -> f64 {
        self.from.map_or(USUAL.1, |at| at.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_parsed_and_unknown_words_list_the_choices() {
        let one = |word: &str| Scenario::from_word(word).map(|s| s.steps[0].event.clone());
        assert_eq!(one("outage:idc"), Ok(Event::Outage("idc".to_owned())));
        assert_eq!(one("flash:10x"), Ok(Event::Demand(10.0)));
        assert_eq!(one("slow:a:b:3x"), Ok(Event::Slow("a:b".to_owned(), 3.0)));
        assert_eq!(one("wan:idc:+80ms"), Ok(Event::Wan("idc".to_owned(), 80.0)));
        for bad in ["", "outage", "flash:fast", "slow:idc", "wan:idc:NaNms", "overload:-1", "x:y"] {
            assert!(one(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn all_problems_of_a_file_are_reported_with_their_lines() {
        let text = "duration: 60s\nsteps:\n- { from: 50s, until: 20s, event: outage:idc }\n- { event: flash:never }\n- { evnt: outage:idc }\n";
        let problems = Scenario::from_text(text).unwrap_err();
        let lines: Vec<usize> = problems.iter().map(|problem| problem.at.line).collect();
        assert!(lines.contains(&3) && lines.contains(&4) && lines.contains(&5), "{problems:#?}");
        let good = "rate: 500\nsteps:\n- { from: 5s, until: 20s, event: \"slow:idc:3x\" }\n";
        let scenario = Scenario::from_text(good).unwrap();
        assert_eq!((scenario.rate, scenario.steps[0].at), (Some(500.0), 5.0));
    }
}
