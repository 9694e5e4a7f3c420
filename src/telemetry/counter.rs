//! Counters with one writer: [`Count`], and [`PerVariant`] with one for each variant of an enum.
//!
//! A counter is named by its variant, never by a position: `retries[RetryResult::Denied].add(1)`. A new variant of
//! the enum gets its counter and its metrics label automatically.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::ops::Index;
use std::sync::atomic::{AtomicU64, Ordering};

/// A counter with one writer.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds `more` to the counter. Each counter has a single writer thread: the addition is not atomic.
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// The count.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds the count of `more`.
    pub(super) fn fold(&self, more: &Count) {
        self.add(more.get());
    }
}

/// An enum whose variants can each have a counter.
pub trait Variants: Copy + Debug + 'static {
    /// An array of as many counters as there are variants.
    type Counts: AsRef<[Count]> + Debug;

    /// All variants, in the order of their declaration.
    const ALL: &'static [Self];

    /// All counters at 0.
    fn zero() -> Self::Counts;

    /// The position in [`Variants::ALL`].
    fn index(self) -> usize;

    /// The value of the label in the metrics.
    fn label(self) -> &'static str;
}

/// One counter for each variant of `E`, all with a single writer.
#[derive(Debug)]
pub struct PerVariant<E: Variants>(E::Counts, PhantomData<E>);

impl<E: Variants> Default for PerVariant<E> {
    fn default() -> Self {
        PerVariant(E::zero(), PhantomData)
    }
}

impl<E: Variants> Index<E> for PerVariant<E> {
    type Output = Count;

    fn index(&self, variant: E) -> &Count {
        &self.0.as_ref()[variant.index()]
    }
}

impl<E: Variants> PerVariant<E> {
    /// Every variant with its count.
    pub fn iter(&self) -> impl Iterator<Item = (E, u64)> {
        E::ALL.iter().map(|variant| (*variant, self[*variant].get()))
    }

    /// Adds the counts of `more`.
    pub fn fold(&self, more: &PerVariant<E>) {
        for (count, more) in self.0.as_ref().iter().zip(more.0.as_ref()) {
            count.fold(more);
        }
    }
}

/// Implements [`Variants`] for enums that have an `ALL` in the order of declaration and a `label`.
macro_rules! variants {
    ($($name:ident),* $(,)?) => {$(
        impl $crate::counter::Variants for $name {
            type Counts = [$crate::counter::Count; $name::ALL.len()];

            const ALL: &'static [Self] = $name::ALL;

            fn zero() -> Self::Counts {
                std::array::from_fn(|_| $crate::counter::Count::default())
            }

            fn index(self) -> usize {
                self as usize
            }

            fn label(self) -> &'static str {
                $name::label(self)
            }
        }
    )*};
}
pub(super) use variants;
