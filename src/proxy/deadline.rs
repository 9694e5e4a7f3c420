//! Deadlines that are cheap to set.
//!
//! A timer for every wait of every request would cost more than parsing the request. Instead, each wait writes its
//! deadline into a cell, and one tick per worker checks all cells. A deadline is late by at most one tick, which is
//! small compared with the shortest deadline (80 ms); connecting needs more precision and uses the runtime's timers.

use crate::decision::units::Timestamp;
use pin_project_lite::pin_project;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// The interval between two checks of the deadlines.
pub const TICK: Duration = Duration::from_millis(20);

/// The deadline of exchanges without a configured limit, so that every exchange is bounded.
pub const ENDLESS: Duration = Duration::from_secs(86_400);

/// A deadline has passed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Late;

#[derive(Debug)]
struct Waiting {
    idle: Cell<bool>,
    late: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// All deadlines of one worker, and its coarse clock.
#[derive(Debug, Default)]
pub struct Deadlines {
    now: Cell<u64>,
    /// The deadline of each wait, in one array: each tick checks thousands of them, and scattered cells would cause
    /// cache misses.
    due: RefCell<Vec<u64>>,
    cells: RefCell<Vec<Option<Rc<Waiting>>>>,
    free: RefCell<Vec<usize>>,
    /// Free cells for new watches: a client connection needs its second watch only during an exchange.
    spare: RefCell<Vec<(Rc<Waiting>, usize)>>,
}

/// The most spare cells.
const SPARE_MAX: usize = 1024;

/// A cell for waits with a deadline. Only one wait at a time uses it.
#[derive(Debug)]
pub struct Watch {
    cell: Rc<Waiting>,
    index: usize,
    all: Rc<Deadlines>,
}

const NEVER: u64 = u64::MAX;

impl Deadlines {
    /// A new cell.
    #[must_use]
    pub fn watch(self: &Rc<Deadlines>) -> Watch {
        if let Some((cell, index)) = self.spare.borrow_mut().pop() {
            return Watch { cell, index, all: self.clone() };
        }
        let cell = Rc::new(Waiting {
            idle: Cell::new(false),
            late: Cell::new(false),
            waker: RefCell::new(None),
        });
        let mut cells = self.cells.borrow_mut();
        let index = match self.free.borrow_mut().pop() {
            Some(index) => {
                cells[index] = Some(cell.clone());
                index
            }
            None => {
                cells.push(Some(cell.clone()));
                self.due.borrow_mut().push(NEVER);
                cells.len() - 1
            }
        };
        Watch { cell, index, all: self.clone() }
    }

    /// Advances the clock, and wakes the waits that are late.
    pub fn tick(&self, now: Timestamp) {
        let now = now.as_nanos();
        self.now.set(now);
        self.end(|index, due| due[index] <= now);
    }

    /// Ends all waits that are marked as idle: no exchange depends on them.
    pub fn end_idle(&self) {
        let cells = self.cells.borrow();
        let idle = |index: usize| cells[index].as_ref().is_some_and(|cell| cell.idle.get());
        self.end(|index, due| due[index] != NEVER && idle(index));
    }

    /// Ends the waits that `is_over` selects.
    fn end(&self, is_over: impl Fn(usize, &[u64]) -> bool) {
        let (mut due, cells) = (self.due.borrow_mut(), self.cells.borrow());
        for index in 0..due.len() {
            if is_over(index, &due) {
                due[index] = NEVER;
                if let Some(cell) = &cells[index] {
                    cell.end();
                }
            }
        }
    }

    fn set(&self, index: usize, due: u64) {
        if let Some(known) = self.due.borrow_mut().get_mut(index) {
            *known = due;
        }
    }

    /// The time of the last tick.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.now.get())
    }
}

impl Waiting {
    fn end(&self) {
        self.late.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl Watch {
    /// The time of the last tick.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.all.now()
    }

    /// Another cell of the same worker.
    #[must_use]
    pub fn another(&self) -> Watch {
        self.all.watch()
    }

    /// Marks later waits as idle, or not.
    pub fn set_idle(&self, idle: bool) {
        self.cell.idle.set(idle);
    }

    /// Waits for `future`, at most `span`.
    ///
    /// # Errors
    /// [`Late`] when the span passes first.
    pub fn within<F: Future>(&self, span: Duration, future: F) -> Within<'_, F> {
        Within { watch: self, span, armed: false, future }
    }

    fn arm(&self, span: Duration) {
        self.all.set(self.index, self.all.now().plus(span).as_nanos());
    }

    fn disarm(&self) {
        self.all.set(self.index, NEVER);
    }
}

pin_project! {
    /// A wait with a deadline. Written by hand: an `async fn` would keep the future twice, as its argument and pinned,
    /// in the memory of every idle connection.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless they are polled"]
    pub struct Within<'a, F> {
        watch: &'a Watch,
        span: Duration,
        armed: bool,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Within<'_, F> {
    type Output = Result<F::Output, Late>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (watch, cell) = (*this.watch, &this.watch.cell);
        if !*this.armed {
            cell.late.set(false);
        }
        if let Poll::Ready(output) = this.future.poll(context) {
            watch.disarm();
            return Poll::Ready(Ok(output));
        }
        if cell.late.get() {
            watch.disarm();
            return Poll::Ready(Err(Late));
        }
        if !*this.armed {
            *this.armed = true;
            watch.arm(*this.span);
        }
        let mut waker = cell.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.disarm();
        let mut spare = self.all.spare.borrow_mut();
        if spare.len() < SPARE_MAX {
            self.cell.idle.set(false);
            // It would keep the memory of its task.
            self.cell.waker.replace(None);
            spare.push((self.cell.clone(), self.index));
            return;
        }
        self.all.cells.borrow_mut()[self.index] = None;
        self.all.free.borrow_mut().push(self.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_wait_ends_at_its_deadline_and_not_before() {
        let all = Rc::new(Deadlines::default());
        let watch = all.watch();
        let mut wait = Box::pin(watch.within(Duration::from_secs(1), std::future::pending::<()>()));
        let at = |ms| Timestamp::START.plus(Duration::from_millis(ms));
        assert!(futures_poll(&mut wait).is_pending());
        all.tick(at(999));
        assert!(futures_poll(&mut wait).is_pending());
        all.tick(at(1_000));
        assert_eq!(futures_poll(&mut wait), Poll::Ready(Err(Late)));
        drop(wait);
        assert_eq!(watch.within(Duration::ZERO, async { 7 }).await, Ok(7));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_cell_is_used_again_without_a_trace_of_its_last_wait() {
        let all = Rc::new(Deadlines::default());
        let first = all.watch();
        first.set_idle(true);
        let mut wait = Box::pin(first.within(Duration::from_secs(1), std::future::pending::<()>()));
        assert!(futures_poll(&mut wait).is_pending());
        drop(wait);
        drop(first);
        let spare = all.spare.borrow()[0].clone();
        assert!(spare.0.waker.borrow().is_none(), "it keeps a task");
        assert_eq!(all.due.borrow()[spare.1], NEVER);
        drop(spare);
        let (second, third) = (all.watch(), all.watch());
        assert_eq!(all.cells.borrow().len(), 2);
        assert!(!second.cell.idle.get());
        drop((second, third));
        let many: Vec<Watch> = (0..=SPARE_MAX).map(|_| all.watch()).collect();
        drop(many);
        assert_eq!(all.cells.borrow().iter().flatten().count(), SPARE_MAX, "the rest is freed");
    }

    fn futures_poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        let mut context = Context::from_waker(Waker::noop());
        Pin::new(future).poll(&mut context)
    }
}
