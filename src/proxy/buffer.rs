//! Read buffers, pooled per thread: an idle connection holds no buffer.

use std::cell::RefCell;
use std::thread::LocalKey;

/// The size of a buffer, in bytes.
pub const SIZE: usize = 32 * 1024;
/// The size of a large buffer, for long bodies.
pub const BULK: usize = 64 * 1024;
/// The size of a medium buffer, for slow receivers.
pub const MODEST: usize = 8 * 1024;
/// The size of a small buffer, for the start of a message whose rest is awaited.
const SMALL: usize = 2 * 1024;
/// Free buffers of each size that a thread keeps.
const KEPT: usize = 256;
/// Free large buffers that a thread keeps.
const KEPT_BULK: usize = 64;

/// Free buffers.
type Shelf = RefCell<Vec<Box<[u8]>>>;

thread_local! {
    static BULK_FREE: Shelf = const { RefCell::new(Vec::new()) };
    static LARGE_FREE: Shelf = const { RefCell::new(Vec::new()) };
    static MODEST_FREE: Shelf = const { RefCell::new(Vec::new()) };
}

/// The pool for buffers of this size; `None` if they are not pooled.
fn shelf(size: usize) -> Option<&'static LocalKey<Shelf>> {
    match size {
        BULK => Some(&BULK_FREE),
        SIZE => Some(&LARGE_FREE),
        MODEST => Some(&MODEST_FREE),
        _ => None,
    }
}

/// A borrowed buffer: unread bytes, and free space after them.
#[derive(Debug)]
pub struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// Borrows an empty buffer.
    #[must_use]
    pub fn lend() -> Buffer {
        Buffer { bytes: lend_bytes(SIZE), start: 0, end: 0 }
    }

    /// Borrows an empty buffer for a read of at most `most` bytes, of the smallest sufficient size.
    #[must_use]
    pub fn lend_for(most: usize) -> Buffer {
        let sizes = [SMALL, MODEST, SIZE];
        let size = sizes.into_iter().find(|size| most <= *size).unwrap_or(BULK);
        Buffer { bytes: lend_bytes(size), start: 0, end: 0 }
    }

    /// The unread bytes.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Whether there are no unread bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Moves a few bytes into a small buffer, and returns the large one to the pool.
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

    /// The free space; moves the unread bytes to the front if there is none after them.
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

    /// Doubles a full buffer, up to `most` bytes.
    pub fn widen(&mut self, most: usize) {
        if self.space().is_empty() && self.bytes.len() < most {
            let wider = (self.bytes.len() * 2).min(most);
            self.move_to(vec![0; wider].into_boxed_slice());
        }
    }

    /// Marks `count` bytes of the space as filled.
    pub fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    /// Marks the first `count` bytes as used.
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
    let most = if bytes.len() == BULK { KEPT_BULK } else { KEPT };
    // If the thread is ending, its pool is gone and the buffer is freed.
    let keep = |free: &Shelf| {
        let mut free = free.borrow_mut();
        if free.len() < most {
            free.push(bytes);
        }
    };
    if shelf.try_with(keep).is_err() {
        tracing::trace!("buffer freed: the pool of its thread has ended");
    }
}

/// Buffers for heads and frames to send: vectors, so that writers can append.
const SCRATCH: usize = 2 * 1024;
/// A vector that has grown beyond this is not kept.
const SCRATCH_MAX: usize = 32 * 1024;

thread_local! {
    static SCRATCHES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Borrows an empty vector with capacity for a head.
#[must_use]
pub fn lend_scratch() -> Vec<u8> {
    let kept = SCRATCHES.with(|kept| kept.borrow_mut().pop());
    kept.unwrap_or_else(|| Vec::with_capacity(SCRATCH))
}

/// Returns a vector to the pool.
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
        for size in [SMALL, MODEST, SIZE, BULK] {
            assert_eq!(Buffer::lend_for(size).bytes.len(), size);
            assert_eq!(Buffer::lend_for(size / 2 + 1).bytes.len(), size);
        }
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
