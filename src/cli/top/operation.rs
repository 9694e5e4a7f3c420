//! A drill of a site or a shift of a service, as it is composed before it is begun.

use super::press::Press;
use crate::admin::client::escaped;
use crate::cli::text::{shown, span};
use serde_json::json;
use std::time::Duration;

/// The durations to choose from, in seconds.
const DRILLS: &[u64] = &[30, 60, 300, 1_800];
const SHIFTS: &[u64] = &[60, 600, 1_800, 7_200];

/// The target of a shift, and how long the operation takes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Choice {
    spans: &'static [u64],
    span: usize,
    /// The clusters of a shift, the nearest first: the source, then the possible targets. Empty for a drill.
    order: Vec<String>,
    to: usize,
}

impl Choice {
    /// Of a drill.
    pub(super) fn drill() -> Choice {
        Choice { spans: DRILLS, span: 1, order: Vec::new(), to: 0 }
    }

    /// Of a shift of a service with these clusters, the nearest first; `None` where there is no target.
    pub(super) fn shift(order: &[String]) -> Option<Choice> {
        let order = order.to_vec();
        (order.len() > 1).then_some(Choice { spans: SHIFTS, span: 1, order, to: 1 })
    }

    /// Follows a key: arrows change the duration, `t` the target. Whether the key was one of these.
    pub(super) fn press(&mut self, press: Press) -> bool {
        match press {
            Press::More => self.span = (self.span + 1).min(self.spans.len() - 1),
            Press::Less => self.span = self.span.saturating_sub(1),
            Press::Char('t') if self.order.len() > 1 => {
                self.to = self.to % (self.order.len() - 1) + 1;
            }
            Press::Char(_) | Press::Erase | Press::Enter | Press::Escape => return false,
        }
        true
    }

    fn seconds(&self) -> u64 {
        self.spans.get(self.span).copied().unwrap_or(60)
    }

    /// The duration in words.
    pub(super) fn lasts(&self) -> String {
        span(Duration::from_secs(self.seconds()))
    }

    /// Source and target of a shift, as they are shown.
    pub(super) fn way(&self) -> Option<(String, String)> {
        let (from, to) = self.order.first().zip(self.order.get(self.to))?;
        Some((shown(from), shown(to)))
    }

    /// The operation that moves so many percent of this site or service.
    pub(super) fn operation(&self, name: &str, percent: u8) -> Operation {
        let (name, seconds) = (name.to_owned(), self.seconds());
        match self.order.first().zip(self.order.get(self.to)) {
            None => Operation::Drill { site: name, percent, seconds },
            Some((from, to)) => {
                let (from, to) = (from.clone(), to.clone());
                Operation::Shift { service: name, from, to, percent, seconds }
            }
        }
    }
}

/// An operation to begin.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Operation {
    Drill { site: String, percent: u8, seconds: u64 },
    Shift { service: String, from: String, to: String, percent: u8, seconds: u64 },
}

impl Operation {
    /// The body of the request that begins it.
    pub(super) fn body(&self) -> String {
        let body = match self {
            Operation::Drill { site, percent, seconds } => {
                json!({"kind": "drill", "site": site, "for_s": seconds, "percent": percent})
            }
            Operation::Shift { service, from, to, percent, seconds } => json!({
                "kind": "shift", "service": service, "from": from, "to": to, "over_s": seconds, "percent": percent,
            }),
        };
        body.to_string()
    }

    /// The query for what is expected at its height.
    pub(super) fn query(&self) -> String {
        match self {
            Operation::Drill { site, percent, .. } => {
                format!("kind=sites&name={}&percent={}", escaped(site), 100 - percent.min(&100))
            }
            Operation::Shift { service, from, to, percent, .. } => {
                let [service, from, to] = [service, from, to].map(|name| escaped(name));
                format!("kind=services&name={service}&from={from}&to={to}&percent={percent}")
            }
        }
    }

    /// That it has begun, as a sentence.
    pub(super) fn begun(&self) -> String {
        let (what, name) = match self {
            Operation::Drill { site, .. } => ("drill", site),
            Operation::Shift { service, .. } => ("shift", service),
        };
        format!("The {what} of {} has begun; the proxy ends it by itself", shown(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_choose_the_time_and_the_target() {
        let mut drill = Choice::drill();
        assert!(!drill.press(Press::Char('t')), "a drill has no target");
        assert!(drill.press(Press::Less) && drill.press(Press::Less));
        let site = "a b".to_owned();
        let operation = drill.operation(&site, 40);
        assert_eq!(operation, Operation::Drill { site, percent: 40, seconds: 30 });
        assert_eq!(operation.query(), "kind=sites&name=a%20b&percent=60");
        assert_eq!(operation.body(), r#"{"for_s":30,"kind":"drill","percent":40,"site":"a b"}"#);

        let order = ["idc", "near", "far"].map(str::to_owned);
        assert_eq!(Choice::shift(&order[..1]), None);
        let mut shift = Choice::shift(&order).unwrap();
        let mut targets = Vec::new();
        for _ in 0..3 {
            targets.push(shift.way().unwrap().1);
            assert!(shift.press(Press::Char('t')));
        }
        assert_eq!(targets, ["near", "far", "near"], "never the source");
        (0..9).for_each(|_| assert!(shift.press(Press::More)));
        assert_eq!(shift.lasts(), "2 h 0 min");
        let operation = shift.operation("shop", 100);
        assert_eq!(operation.query(), "kind=services&name=shop&from=idc&to=far&percent=100");
        assert!(operation.body().contains(r#""over_s":7200"#), "{}", operation.body());
    }
}
