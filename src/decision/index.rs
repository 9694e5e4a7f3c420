//! Indices that cannot be confused: each kind is a type of its own, and a [`Table`] accepts only its own kind.
//!
//! An index is valid only with the plan it came from. With plain `usize`, the index of a class could select a
//! cluster: the mistake would compile and send traffic to the wrong cluster.
//!
//! # Cost
//! None: an index is a `usize`, and a table is a `Vec`.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Index, IndexMut};

/// An index type.
pub trait Key: Copy {
    /// The index of the row at this position.
    fn at(position: usize) -> Self;
    /// The position of its row.
    fn position(self) -> usize;
}

/// Declares index types, each with its documentation.
macro_rules! indices {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(pub usize);

        impl Key for $name {
            #[inline]
            fn at(position: usize) -> $name {
                $name(position)
            }

            #[inline]
            fn position(self) -> usize {
                self.0
            }
        }
    )+};
}

indices! {
    /// Index of a cluster in [`Plan::clusters`](super::plan::Plan::clusters).
    ClusterIndex,
    /// Index of a capacity group in [`Plan::groups`](super::plan::Plan::groups).
    GroupIndex,
    /// Index of an endpoint in [`ClusterSignals::endpoints`](super::signal::ClusterSignals::endpoints).
    EndpointIndex,
    /// Index of a class in [`Plan::classes`](super::plan::Plan::classes).
    ClassIndex,
    /// Index of a service in [`Plan::services`](super::plan::Plan::services).
    ServiceIndex,
    /// Index of a listener in [`Plan::listeners`](super::plan::Plan::listeners).
    ListenerIndex,
    /// Index of a route in [`RouteTable::routes`](super::route::RouteTable::routes).
    RouteIndex,
    /// Index of a policy in [`Plan::policies`](super::plan::Plan::policies).
    PolicyIndex,
}

/// A `Vec` whose rows are selected by one kind of index.
pub struct Table<I, T> {
    rows: Vec<T>,
    kind: PhantomData<fn(I)>,
}

impl<I: Key, T> Table<I, T> {
    /// An empty table with capacity for this many rows.
    #[must_use]
    pub fn with_capacity(rows: usize) -> Table<I, T> {
        Vec::with_capacity(rows).into()
    }

    /// Adds a row, and returns its index.
    pub fn push(&mut self, row: T) -> I {
        self.rows.push(row);
        I::at(self.rows.len() - 1)
    }

    /// The row, if the index is within the table.
    #[must_use]
    #[inline]
    pub fn get(&self, index: I) -> Option<&T> {
        self.rows.get(index.position())
    }

    /// The row, if the index is within the table.
    #[inline]
    pub fn get_mut(&mut self, index: I) -> Option<&mut T> {
        self.rows.get_mut(index.position())
    }

    /// All indices.
    pub fn indices(&self) -> impl DoubleEndedIterator<Item = I> + ExactSizeIterator + use<I, T> {
        (0..self.rows.len()).map(I::at)
    }

    /// All rows with their indices.
    pub fn enumerated(&self) -> impl DoubleEndedIterator<Item = (I, &T)> + ExactSizeIterator {
        self.rows.iter().enumerate().map(|(position, row)| (I::at(position), row))
    }

    /// The index of the first row for which `wanted` is true.
    pub fn find(&self, wanted: impl FnMut(&T) -> bool) -> Option<I> {
        self.rows.iter().position(wanted).map(I::at)
    }
}

impl<I: Key, T> Index<I> for Table<I, T> {
    type Output = T;

    #[inline]
    fn index(&self, index: I) -> &T {
        &self.rows[index.position()]
    }
}

impl<I: Key, T> IndexMut<I> for Table<I, T> {
    #[inline]
    fn index_mut(&mut self, index: I) -> &mut T {
        &mut self.rows[index.position()]
    }
}

impl<I, T> Deref for Table<I, T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        &self.rows
    }
}

impl<I, T> DerefMut for Table<I, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.rows
    }
}

impl<I, T> From<Vec<T>> for Table<I, T> {
    fn from(rows: Vec<T>) -> Table<I, T> {
        Table { rows, kind: PhantomData }
    }
}

impl<I, T> FromIterator<T> for Table<I, T> {
    fn from_iter<R: IntoIterator<Item = T>>(rows: R) -> Table<I, T> {
        Vec::from_iter(rows).into()
    }
}

impl<I, T> IntoIterator for Table<I, T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.into_iter()
    }
}

impl<'a, I, T> IntoIterator for &'a Table<I, T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.iter()
    }
}

impl<'a, I, T> IntoIterator for &'a mut Table<I, T> {
    type Item = &'a mut T;
    type IntoIter = std::slice::IterMut<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.iter_mut()
    }
}

impl<I, T> Default for Table<I, T> {
    fn default() -> Table<I, T> {
        Vec::new().into()
    }
}

impl<I, T: Clone> Clone for Table<I, T> {
    fn clone(&self) -> Table<I, T> {
        self.rows.clone().into()
    }
}

impl<I, T: PartialEq> PartialEq for Table<I, T> {
    fn eq(&self, other: &Table<I, T>) -> bool {
        self.rows == other.rows
    }
}

impl<I, T: std::fmt::Debug> std::fmt::Debug for Table<I, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.rows.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_selects_the_row_that_it_was_given_for() {
        let mut table: Table<ClusterIndex, &str> = Table::default();
        let indices = ["near", "far"].map(|name| table.push(name));
        table[indices[1]] = "cloud";

        assert_eq!(indices.map(|index| table[index]), ["near", "cloud"]);
        assert_eq!(table.find(|name| *name == "cloud"), Some(indices[1]));
        assert!(table.enumerated().eq(table.indices().zip(&table)));
        assert_eq!(table.get(ClusterIndex(2)), None);
    }
}
