//! Read buffers, lent by the thread and given back: an idle connection holds none.

use std::cell::RefCell;
use std::thread::LocalKey;

/// Bytes of a buffer.
pub const SIZE: usize = 32 * 1024;
/// Bytes of a modest one, for what another may be slow to take.
pub const MODEST: usize = 8 * 1024;
/// Bytes of a small one, for a beginning whose rest is awaited.
const SMALL: usize = 2 * 1024;
/// Buffers of a size that a thread keeps for later; what is beyond is freed.
const KEPT: usize = 256;

/// Buffers that are free.
type Shelf = RefCell<Vec<Box<[u8]>>>;

thread_local! {
    static LARGE_FREE: Shelf = const { RefCell::new(Vec::new()) };
    static MODEST_FREE: Shelf = const { RefCell::new(Vec::new()) };
}

/// Where a thread keeps buffers of this size; `None`: it does not.
fn shelf(size: usize) -> Option<&'static LocalKey<Shelf>> {
    match size {
        SIZE => Some(&LARGE_FREE),
        MODEST => Some(&MODEST_FREE),
        _ => None,
    }
}

/// A lent buffer: bytes that were read and not yet used, and the space behind them.
#[derive(Debug)]
pub struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// Lends an empty one.
    #[must_use]
    pub fn lend() -> Buffer {
        Buffer { bytes: lend_bytes(SIZE), start: 0, end: 0 }
    }

    /// Lends an empty one for a read of so many bytes at most; it is no larger than it need be.
    #[must_use]
    pub fn lend_for(most: usize) -> Buffer {
        let sizes = [SMALL, MODEST];
        let size = sizes.into_iter().find(|size| most <= *size).unwrap_or(SIZE);
        Buffer { bytes: lend_bytes(size), start: 0, end: 0 }
    }

    /// What was read and not yet used.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Whether all was used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Moves what little there is into a small buffer of its own, and gives the large one back.
    pub fn fit(&mut self) {
        if self.bytes.len() > SMALL && self.data().len() <= SMALL / 2 {
            self.move_to(vec![0; SMALL].into_boxed_slice());
        }
    }

    fn move_to(&mut self, mut bytes: Box<[u8]>) {
        let count = self.end - self.start;
        bytes[..count].copy_from_slice(self.data());
        give_back(std::mem::replace(&mut self.bytes, bytes));
        (self.start, self.end) = (0, count);
    }

    /// Space to read into; moves what is left to the front when there is no room behind it.
    pub fn space(&mut self) -> &mut [u8] {
        if self.bytes.len() < SIZE && self.end == self.bytes.len() {
            self.move_to(lend_bytes(SIZE));
        }
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.bytes[self.end..]
    }

    /// Makes room behind a head that fills it, up to `most` bytes in all: twice as much as there was.
    pub fn widen(&mut self, most: usize) {
        if self.space().is_empty() && self.bytes.len() < most {
            let wider = (self.bytes.len() * 2).min(most);
            self.move_to(vec![0; wider].into_boxed_slice());
        }
    }

    /// Notes that `count` bytes of the space were filled.
    pub fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    /// Notes that the first `count` bytes were used.
    pub fn used(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.bytes));
    }
}

fn lend_bytes(size: usize) -> Box<[u8]> {
    let free = shelf(size).and_then(|shelf| shelf.with(|free| free.borrow_mut().pop()));
    free.unwrap_or_else(|| vec![0; size].into_boxed_slice())
}

fn give_back(bytes: Box<[u8]>) {
    let Some(shelf) = shelf(bytes.len()) else { return };
    // The thread may be ending, and its pool gone; then the buffer simply is, too.
    let keep = |free: &Shelf| {
        let mut free = free.borrow_mut();
        if free.len() < KEPT {
            free.push(bytes);
        }
    };
    if shelf.try_with(keep).is_err() {
        tracing::trace!("buffer freed: the pool of its thread has ended");
    }
}

/// Heads and frames on their way out: lent as vectors, so that whoever writes can append.
const SCRATCH: usize = 2 * 1024;
/// A vector that has grown beyond this is not kept.
const SCRATCH_MAX: usize = 32 * 1024;

thread_local! {
    static SCRATCHES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Lends an empty vector with room for a head.
#[must_use]
pub fn lend_scratch() -> Vec<u8> {
    let kept = SCRATCHES.with(|kept| kept.borrow_mut().pop());
    kept.unwrap_or_else(|| Vec::with_capacity(SCRATCH))
}

/// Takes a vector back.
pub fn give_back_scratch(mut scratch: Vec<u8>) {
    if !(SCRATCH..=SCRATCH_MAX).contains(&scratch.capacity()) {
        return;
    }
    scratch.clear();
    SCRATCHES.with(|kept| {
        let mut kept = kept.borrow_mut();
        if kept.len() < KEPT {
            kept.push(scratch);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unread_bytes_survive_a_compaction() {
        let mut buffer = Buffer::lend();
        let space = buffer.space();
        space[SIZE - 3..].copy_from_slice(b"abc");
        buffer.filled(SIZE);
        buffer.used(SIZE - 3);

        let space = buffer.space().len();

        assert_eq!((buffer.data(), space), (&b"abc"[..], SIZE - 3));
    }

    #[test]
    fn a_small_read_borrows_a_small_buffer() {
        for (most, size) in [(1, SMALL), (SMALL, SMALL), (SMALL + 1, MODEST), (MODEST, MODEST)] {
            assert_eq!(Buffer::lend_for(most).bytes.len(), size, "{most}");
        }
        assert_eq!(Buffer::lend_for(MODEST + 1).bytes.len(), SIZE);
    }

    #[test]
    fn the_start_of_a_head_is_held_in_a_small_buffer_that_grows() {
        let mut buffer = Buffer::lend();
        buffer.space()[..3].copy_from_slice(b"abc");
        buffer.filled(3);
        buffer.fit();
        assert_eq!(buffer.space().len(), SMALL - 3);
        assert_eq!(buffer.data(), b"abc");
        buffer.space().fill(b'x');
        buffer.filled(SMALL - 3);
        assert_eq!(buffer.space().len(), SIZE - SMALL);
        assert!(buffer.data().starts_with(b"abcx") && buffer.data().len() == SMALL);
    }
}
