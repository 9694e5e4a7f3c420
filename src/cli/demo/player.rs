//! Plays the scenes, follows keys, and collects what the clients saw.
//!
//! A key interrupts the scene: its results would be those of the operator. When no key was pressed for a while, the demo
//! goes back to low tide and plays the scene again.

use super::load::{Load, Window};
use super::picture::Picture;
use super::script::{Act, CAPACITY, EBB, Measure, Phase, SCENES};
use super::show::{Hand, Output};
use super::toy::Toy;
use super::verdict::{
    Verdict, cloud_share, judge, judge_first_spill, judge_hands, judge_sensitive, spills,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// How often keys are read.
const TICK: Duration = Duration::from_millis(50);
/// The demand of a flood by key.
const BY_HAND: f64 = CAPACITY * 1.6;
/// Without a key for so long, the show goes on.
const HANDS: Duration = Duration::from_secs(20);
/// The way back to low tide after keys.
const SETTLES: u64 = 4;
/// Windows that the sparkline remembers.
const COURSE_MAX: usize = 240;

/// The demo while it runs.
#[derive(Debug)]
pub(super) struct Player {
    pub(super) load: Load,
    pub(super) idc: Toy,
    pub(super) output: Output,
    pub(super) picture: Picture,
    /// Becomes true when the process is asked to end.
    pub(super) ended: Arc<AtomicBool>,
    started: Instant,
    first_spill: Option<Duration>,
    /// Whether a key was pressed before the first spill was due.
    is_touched: bool,
    /// What clients see while the operator plays.
    by_hand: Option<Window>,
}

/// Why a phase or scene ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ending {
    Played,
    Interrupted,
    Stopped,
}

impl Player {
    /// A player before its first round.
    pub(super) fn new(
        (load, idc): (Load, Toy),
        output: Output,
        dashboard: String,
        ended: Arc<AtomicBool>,
    ) -> Player {
        let picture = Picture { dashboard, ..Picture::default() };
        let (started, first_spill, by_hand) = (Instant::now(), None, None);
        Player {
            load,
            idc,
            output,
            picture,
            ended,
            started,
            first_spill,
            is_touched: false,
            by_hand,
        }
    }

    /// Plays all scenes. Returns what was judged, and whether that is everything.
    ///
    /// # Errors
    /// The data centre cannot be revived.
    pub(super) async fn round(&mut self, is_first: bool) -> Result<(Verdict, bool), String> {
        let mut verdict = Verdict::default();
        if is_first {
            self.started = Instant::now();
        }
        let ending = self.scenes(is_first, &mut verdict).await?;
        if let Some(window) = self.by_hand.take() {
            verdict.add(judge_hands(&window));
        }
        Ok((verdict, ending == Ending::Played))
    }

    async fn scenes(&mut self, is_first: bool, verdict: &mut Verdict) -> Result<Ending, String> {
        for (number, scene) in SCENES.iter().enumerate() {
            loop {
                match self.scene(scene, verdict).await? {
                    Ending::Played => break,
                    Ending::Stopped => return Ok(Ending::Stopped),
                    Ending::Interrupted => match self.hands().await? {
                        Ending::Played | Ending::Interrupted => {}
                        Ending::Stopped => return Ok(Ending::Stopped),
                    },
                }
            }
            if is_first && number == 1 && !self.is_touched {
                verdict.add(judge_first_spill(self.first_spill));
            }
        }
        Ok(Ending::Played)
    }

    /// Plays a scene; adds its promises to the verdict only if it was played to its end.
    async fn scene(&mut self, scene: &[Phase], verdict: &mut Verdict) -> Result<Ending, String> {
        let mut promises = Vec::new();
        for phase in scene {
            match phase.act {
                Act::Nothing => {}
                Act::Kill => self.kill().await,
                Act::Revive => self.revive().await?,
            }
            self.caption(phase.caption, phase.rate);
            let (seen, ending) = self.watch(phase.seconds).await?;
            if ending != Ending::Played {
                return Ok(ending);
            }
            promises.extend(phase.measure.map(|measure| judge(measure, &seen)));
            if phase.measure == Some(Measure::Outage) {
                promises.push(judge_sensitive(&self.load.ask("/sensitive").await));
            }
        }
        promises.into_iter().for_each(|promise| verdict.add(promise));
        Ok(Ending::Played)
    }

    /// Sets the demand and the caption.
    fn caption(&mut self, caption: &str, rate: f64) {
        self.load.set_rate(rate);
        self.picture.offered = rate;
        if self.picture.caption != caption {
            let since = self.started.elapsed().as_secs();
            match self.output.is_live() {
                true => self.output.say(&format!("{since:>4} s  {caption}")),
                false => self.output.say(&format!("\n--- {caption} ({rate:.0}/s)")),
            }
            caption.clone_into(&mut self.picture.caption);
        }
    }

    async fn kill(&mut self) {
        self.idc.kill().await;
        self.picture.is_dead = true;
    }

    async fn revive(&mut self) -> Result<(), String> {
        if self.picture.is_dead {
            let revived = self.idc.revive().await;
            revived.map_err(|error| format!("the data centre cannot come back: {error}"))?;
            self.picture.is_dead = false;
        }
        Ok(())
    }

    /// Watches for some seconds, or until a key.
    async fn watch(&mut self, seconds: u64) -> Result<(Window, Ending), String> {
        let end = Instant::now() + Duration::from_secs(seconds);
        let each = Duration::from_millis(if self.output.is_live() { 250 } else { 500 });
        let mut whole = Window::default();
        let mut shown = Instant::now();
        loop {
            tokio::time::sleep(TICK).await;
            let now = Instant::now();
            if now >= shown + each || now >= end {
                let window = self.load.take();
                self.see(&window, now - shown);
                whole.merge(window);
                shown = now;
            }
            if self.ended.load(Ordering::Relaxed) {
                return Ok((whole, Ending::Stopped));
            }
            if let Some(hand) = self.output.hand() {
                self.is_touched |= self.first_spill.is_none();
                return Ok((whole, self.follow(hand).await?));
            }
            if now >= end {
                return Ok((whole, Ending::Played));
            }
        }
    }

    /// Follows a key.
    async fn follow(&mut self, hand: Hand) -> Result<Ending, String> {
        match hand {
            Hand::Quit => return Ok(Ending::Stopped),
            Hand::Flood if self.picture.offered > CAPACITY => {
                self.caption("You end the flood: the traffic comes home by itself.", EBB);
            }
            Hand::Flood => self.caption("You flood the data centre: the excess spills.", BY_HAND),
            Hand::Kill if self.picture.is_dead => {
                self.revive().await?;
                self.caption("You revive the data centre.", self.picture.offered);
            }
            Hand::Kill => {
                self.kill().await;
                self.caption("You kill the data centre: watch the errors.", self.picture.offered);
            }
        }
        Ok(Ending::Interrupted)
    }

    /// The operator plays, until no key was pressed for a while; then back to low tide.
    async fn hands(&mut self) -> Result<Ending, String> {
        loop {
            let mut until = Instant::now() + HANDS;
            while let Some(left) = until.checked_duration_since(Instant::now()) {
                self.picture.resumes_in = Some(left);
                match self.watch_hands(1).await? {
                    Ending::Played => {}
                    Ending::Interrupted => until = Instant::now() + HANDS,
                    Ending::Stopped => return Ok(Ending::Stopped),
                }
            }
            self.picture.resumes_in = None;
            self.revive().await?;
            self.caption("The show goes on: back to low tide first.", EBB);
            match self.watch_hands(SETTLES).await? {
                Ending::Interrupted => {}
                ending @ (Ending::Played | Ending::Stopped) => return Ok(ending),
            }
        }
    }

    /// Watches what the operator causes.
    async fn watch_hands(&mut self, seconds: u64) -> Result<Ending, String> {
        let (seen, ending) = self.watch(seconds).await?;
        self.by_hand.get_or_insert_default().merge(seen);
        Ok(ending)
    }

    /// Takes a window into the picture, and shows it.
    fn see(&mut self, window: &Window, span: Duration) {
        let seconds = span.as_secs_f64().max(1e-3);
        let rate =
            |name: &str| window.by_cluster.get(name).map_or(0.0, |count| *count as f64 / seconds);
        let is_beyond = self.picture.offered > CAPACITY;
        if self.first_spill.is_none() && is_beyond && spills(window) {
            self.first_spill = Some(self.started.elapsed());
        }
        let picture = &mut self.picture;
        picture.served = ["idc", "cloud-near", "cloud-far"].map(rate);
        (picture.p50, picture.p99) = (window.quantile(0.5), window.quantile(0.99));
        picture.errors = (window.errors, picture.errors.1 + window.errors);
        picture.count += window.count();
        picture.course.push((window.count() > 0).then(|| cloud_share(window)));
        if picture.course.len() > COURSE_MAX {
            picture.course.remove(0);
        }
        self.output.show(&self.picture, span);
    }
}
