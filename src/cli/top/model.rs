//! The state of the terminal view: keys and news lead to a new state and to effects.
//!
//! Everything here is pure: the time is an argument, and what is to be asked or changed is returned as an [`Effect`].
//!
//! # Invariants
//! * A change names the row that was selected when the dialog opened, whatever the table does meanwhile.
//! * An answer that belongs to another question than the open one is dropped.

use super::dialog::{Act, Dialog, Expectation, Kind, Outcome, Step, Verb};
use super::operation::Choice;
use super::press::Press;
use super::rows::{Row, Sorting, View};
use super::world::World;
use crate::cli::terminal::Key;
use crate::cli::text::shown;
use std::time::Duration;

/// News from the proxy.
#[derive(Clone, Debug)]
pub(super) enum News {
    /// A poll succeeded.
    Seen(Box<World>),
    /// A poll failed: the reason.
    Lost(String),
    /// What is expected of a change.
    Expected(u64, Result<Expectation, String>),
    /// A change was answered: a warning, or the reason of a failure.
    Changed(u64, Result<Option<String>, String>),
}

/// What the shell has to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Effect {
    Quit,
    /// Ask what is expected of a change.
    Ask(u64, Act),
    /// Do it.
    Act(u64, Act),
}

/// The state of the view.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) view: View,
    pub(super) world: Option<World>,
    /// When `world` came, and why the last poll failed.
    pub(super) seen: Duration,
    pub(super) lost: Option<String>,
    pub(super) sortings: [Sorting; 4],
    filters: [String; 4],
    pub(super) is_filtering: bool,
    pub(super) dialog: Option<Dialog>,
    pub(super) shows_help: bool,
    /// A line for the operator, until the next key.
    pub(super) notice: Option<String>,
    /// Whether there is a token.
    pub(super) may_change: bool,
    /// Rows on the screen: set when it is drawn.
    pub(super) page: usize,
    selected: [Option<String>; 4],
    tickets: u64,
}

/// News older than this counts as stale: three polls were missed.
const STALE: Duration = Duration::from_millis(3_500);
/// Characters of a filter.
const FILTER_MAX: usize = 64;

impl Model {
    /// The state before any news.
    pub(super) fn new(may_change: bool) -> Model {
        Model {
            view: View::Services,
            world: None,
            seen: Duration::ZERO,
            lost: None,
            sortings: [Sorting { column: None, is_falling: false }; 4],
            filters: [const { String::new() }; 4],
            is_filtering: false,
            dialog: None,
            shows_help: false,
            notice: None,
            may_change,
            page: 10,
            selected: [const { None }; 4],
            tickets: 0,
        }
    }

    /// The age of the news.
    pub(super) fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.seen)
    }

    /// Whether the figures are not those of now.
    pub(super) fn is_stale(&self, now: Duration) -> bool {
        self.world.is_some() && (self.lost.is_some() || self.age(now) > STALE)
    }

    /// The rows of the table.
    pub(super) fn rows(&self, now: Duration) -> Vec<Row> {
        let Some(world) = &self.world else { return Vec::new() };
        self.view.rows(world, self.age(now), self.filter(), self.sorting())
    }

    /// What the rows of the table must contain.
    pub(super) fn filter(&self) -> &str {
        &self.filters[self.view.index()]
    }

    /// How the table is sorted.
    pub(super) fn sorting(&self) -> Sorting {
        self.sortings[self.view.index()]
    }

    /// The place of the selected row: the first, where the selected one is gone.
    pub(super) fn position(&self, rows: &[Row]) -> Option<usize> {
        let selected = self.selected[self.view.index()].as_ref();
        let found = selected.and_then(|name| rows.iter().position(|row| row.name == *name));
        found.or((!rows.is_empty()).then_some(0))
    }

    /// Takes news in.
    pub(super) fn hear(&mut self, news: News, now: Duration) {
        match news {
            News::Seen(world) => {
                (self.world, self.seen, self.lost) = (Some(*world), now, None);
            }
            News::Lost(reason) => self.lost = Some(reason),
            News::Expected(ticket, expected) => {
                if let Some(dialog) = self.dialog.as_mut().filter(|open| open.ticket == ticket) {
                    dialog.expected = Some(expected);
                }
            }
            News::Changed(ticket, answer) => self.changed(ticket, answer),
        }
    }

    fn changed(&mut self, ticket: u64, answer: Result<Option<String>, String>) {
        let open = self.dialog.as_mut().filter(|open| open.ticket == ticket);
        let told = match answer {
            Ok(None) => None,
            Ok(Some(warning)) => Some(format!("In force, with a warning: {warning}")),
            Err(reason) => Some(format!("Failed: {reason}")),
        };
        match (open, told) {
            (Some(dialog), None) => {
                self.notice = dialog.act().map(|act| done(&act));
                self.dialog = None;
            }
            (Some(dialog), Some(told)) => dialog.step = Step::Told(told),
            // The dialog was closed before the answer came.
            (None, told) => self.notice = Some(told.unwrap_or("The change is in force".to_owned())),
        }
    }

    /// Follows a key.
    pub(super) fn press(&mut self, key: Key, now: Duration) -> Vec<Effect> {
        if key == Key::Interrupt {
            return vec![Effect::Quit];
        }
        self.notice = None;
        if self.dialog.is_some() {
            return self.press_dialog(key);
        }
        if self.shows_help {
            self.shows_help = false;
            return Vec::new();
        }
        if self.is_filtering {
            self.press_filter(key);
            return Vec::new();
        }
        match key {
            Key::Char('q') => return vec![Effect::Quit],
            Key::Char('?' | 'h') => self.shows_help = true,
            Key::Char('/') => self.is_filtering = true,
            Key::Escape => self.filters[self.view.index()].clear(),
            Key::Char('s') => self.sort_by_next(),
            Key::Char('r') => {
                let sorting = &mut self.sortings[self.view.index()];
                sorting.is_falling = !sorting.is_falling;
            }
            Key::Char('d') => return self.begin(Verb::Drain, now),
            Key::Char('u') => return self.begin(Verb::Undrain, now),
            Key::Char('p') => return self.begin(Verb::Dial, now),
            Key::Char('D') => return self.begin(Verb::Drill, now),
            Key::Char('S') => return self.begin(Verb::Shift, now),
            Key::Char('x') => return self.abort(now),
            Key::Char(digit @ '1'..='4') => {
                self.view = View::ALL[usize::from(digit as u8 - b'1')];
            }
            Key::Tab | Key::Right => self.turn(1),
            Key::BackTab | Key::Left => self.turn(View::ALL.len() - 1),
            Key::Up | Key::Char('k') => self.step(-1, now),
            Key::Down | Key::Char('j') => self.step(1, now),
            Key::PageUp => self.step(-(self.page as isize), now),
            Key::PageDown => self.step(self.page as isize, now),
            Key::Home => self.step(isize::MIN / 2, now),
            Key::End => self.step(isize::MAX / 2, now),
            Key::Char(_) | Key::Enter | Key::Backspace | Key::Interrupt => {}
        }
        Vec::new()
    }

    fn turn(&mut self, by: usize) {
        self.view = View::ALL[(self.view.index() + by) % View::ALL.len()];
    }

    /// Sorts by the next column; after the last one in the order of the API. Figures begin with the greatest.
    fn sort_by_next(&mut self) {
        let columns = self.view.columns();
        let sorting = &mut self.sortings[self.view.index()];
        let next = sorting.column.map_or(0, |column| column + 1);
        sorting.column = (next < columns.len()).then_some(next);
        sorting.is_falling = columns.get(next).is_some_and(|column| column.is_figure);
    }

    fn step(&mut self, by: isize, now: Duration) {
        let rows = self.rows(now);
        let Some(at) = self.position(&rows) else { return };
        let last = rows.len() - 1;
        let next = at.saturating_add_signed(by).min(last);
        self.selected[self.view.index()] = rows.get(next).map(|row| row.name.clone());
    }

    fn press_filter(&mut self, key: Key) {
        let filter = &mut self.filters[self.view.index()];
        match key {
            Key::Char(c) if filter.len() < FILTER_MAX => filter.push(c),
            Key::Backspace => drop(filter.pop()),
            Key::Enter => self.is_filtering = false,
            Key::Escape => {
                filter.clear();
                self.is_filtering = false;
            }
            Key::Char(_) | Key::Up | Key::Down | Key::Left | Key::Right => {}
            Key::PageUp | Key::PageDown | Key::Home | Key::End => {}
            Key::Tab | Key::BackTab | Key::Interrupt => {}
        }
    }

    /// Opens the dialog of a change.
    fn begin(&mut self, verb: Verb, now: Duration) -> Vec<Effect> {
        let kind = match (verb, self.view) {
            (Verb::Drill | Verb::Drain | Verb::Undrain | Verb::Dial, View::Sites) => Ok(Kind::Site),
            (Verb::Drain | Verb::Undrain | Verb::Dial, View::Clusters) => Ok(Kind::Cluster),
            (Verb::Shift, View::Services) => Ok(Kind::Service),
            (Verb::Drill, _) => Err("Select a site (1) first"),
            (Verb::Shift, _) => Err("Select a service (2) first"),
            (Verb::Drain | Verb::Undrain | Verb::Dial, View::Services | View::Events) => {
                Err("Select a cluster (3) or a site (1) first")
            }
        };
        let kind = match kind {
            Ok(kind) => kind,
            Err(notice) => {
                self.notice = Some(notice.to_owned());
                return Vec::new();
            }
        };
        let rows = self.rows(now);
        let (Some(world), Some(row)) =
            (&self.world, self.position(&rows).and_then(|at| rows.get(at)))
        else {
            return Vec::new();
        };
        let refusal = match self.refusal(now) {
            Some(refusal) => Some(refusal),
            None if kind == Kind::Site && world.clusters_of(&row.name).next().is_none() => {
                Some("This proxy has no clusters in that site")
            }
            None if matches!(verb, Verb::Drill | Verb::Shift) && world.running().is_some() => {
                Some("Another operation is running: x aborts it")
            }
            None => None,
        };
        if let Some(refusal) = refusal {
            self.notice = Some(refusal.to_owned());
            return Vec::new();
        }
        if let Verb::Drill | Verb::Shift = verb {
            let service = world.services.iter().find(|service| service.name == row.name);
            let choice = match verb == Verb::Drill {
                true => Some(Choice::drill()),
                false => service.and_then(|service| Choice::shift(&service.order)),
            };
            match choice {
                Some(choice) => self.dialog = Some(Dialog::operation(&row.name, choice)),
                None => self.notice = Some("That service has one cluster alone".to_owned()),
            }
            return Vec::new();
        }
        let dial = match kind {
            Kind::Cluster => world.clusters.iter().find(|cluster| cluster.name == row.name),
            Kind::Site | Kind::Service => world.clusters_of(&row.name).next(),
        };
        let dial = dial.and_then(|cluster| cluster.dial_percent).unwrap_or(100);
        let dialog = Dialog::new(verb, kind, &row.name, dial);
        let asks = dialog.act().filter(|_| verb != Verb::Dial);
        self.dialog = Some(dialog);
        asks.map(|act| self.ask(act)).into_iter().collect()
    }

    /// Why nothing can be changed now.
    fn refusal(&self, now: Duration) -> Option<&'static str> {
        match () {
            () if !self.may_change => Some("Read only: give the token by --token-file"),
            () if self.is_stale(now) => Some("Cut off from the proxy: nothing can be changed"),
            () => None,
        }
    }

    /// Aborts the running operation, without a question: its traffic returns.
    fn abort(&mut self, now: Duration) -> Vec<Effect> {
        let running = self.world.as_ref().and_then(World::running).map(|operation| operation.id);
        let refusal = self.refusal(now).or(running.is_none().then_some("No operation is running"));
        if let Some(refusal) = refusal {
            self.notice = Some(refusal.to_owned());
            return Vec::new();
        }
        let ticket = self.ticket();
        running.map(|id| Effect::Act(ticket, Act::Abort(id))).into_iter().collect()
    }

    fn ask(&mut self, act: Act) -> Effect {
        Effect::Ask(self.ticket(), act)
    }

    /// A new ticket, for the open dialog.
    fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        if let Some(dialog) = &mut self.dialog {
            dialog.ticket = self.tickets;
        }
        self.tickets
    }

    fn press_dialog(&mut self, key: Key) -> Vec<Effect> {
        let press = match key {
            Key::Char(c) => Press::Char(c),
            Key::Backspace => Press::Erase,
            Key::Enter => Press::Enter,
            Key::Escape => Press::Escape,
            Key::Right | Key::Up => Press::More,
            Key::Left | Key::Down => Press::Less,
            Key::PageUp | Key::PageDown | Key::Home | Key::End => return Vec::new(),
            Key::Tab | Key::BackTab | Key::Interrupt => return Vec::new(),
        };
        let Some(dialog) = &mut self.dialog else { return Vec::new() };
        match dialog.press(press) {
            Outcome::Stay => Vec::new(),
            Outcome::Close => {
                if dialog.step == Step::Doing {
                    self.notice = Some("The change was sent; its answer is awaited".to_owned());
                }
                self.dialog = None;
                Vec::new()
            }
            Outcome::Ask(act) => vec![self.ask(act)],
            Outcome::Act(act) => vec![Effect::Act(self.ticket(), act)],
        }
    }
}

/// What was done, as a sentence.
fn done(act: &Act) -> String {
    match act {
        Act::Dial(change) => {
            let name = shown(&change.name);
            match change.percent {
                Some(0) => format!("{name} is drained"),
                Some(percent) => format!("{name} is dialled to {percent} %"),
                None => format!("{name}: the dial of the file is in force"),
            }
        }
        Act::Begin(operation) => operation.begun(),
        Act::Abort(_) => "The operation is aborted".to_owned(),
    }
}
