//! Model checks of the lock-free cells: loom runs every interleaving, and every value that the memory model
//! permits for a load. Run by `make test`, or `cargo test --manifest-path tests/model/Cargo.toml`.

use loom::sync::atomic;

#[path = "../../../src/shared/seqlock.rs"]
pub mod seqlock;

#[cfg(test)]
mod tests {
    use super::seqlock::SeqLock;
    use loom::thread;
    use std::collections::BTreeSet;
    use std::sync::{Arc, Mutex};

    /// Values that a write stores together: a mixture of two writes appears as a pair that does not
    /// match.
    fn pair(number: u64) -> [u64; 2] {
        [number, number + 100]
    }

    #[test]
    fn a_reader_sees_a_whole_write_or_nothing() {
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let all = seen.clone();
        loom::model(move || {
            let cell = loom::sync::Arc::new(SeqLock::<2>::default());
            let (writer, reader) = (cell.clone(), cell.clone());
            let writing = thread::spawn(move || {
                writer.write(pair(1));
                writer.write(pair(2));
            });

            let read = thread::spawn(move || reader.read()).join().unwrap();

            if let Some(read) = read {
                assert!([pair(1), pair(2)].contains(&read), "parts of two writes: {read:?}");
            }
            all.lock().unwrap().insert(read);
            writing.join().unwrap();
            assert_eq!(
                cell.read(),
                Some(pair(2)),
                "the last write is read once the writer is done"
            );
        });
        let seen: Vec<_> = seen.lock().unwrap().iter().copied().collect();
        assert_eq!(seen, [None, Some(pair(1)), Some(pair(2))], "the model reaches every outcome");
    }

    #[test]
    fn a_reader_never_goes_back_to_an_older_write() {
        loom::model(|| {
            let cell = loom::sync::Arc::new(SeqLock::<2>::default());
            cell.write(pair(1));
            let (writer, reader) = (cell.clone(), cell.clone());
            let writing = thread::spawn(move || writer.write(pair(2)));

            let reading = thread::spawn(move || (reader.read(), reader.read()));

            let (first, second) = reading.join().unwrap();
            assert!(first != Some(pair(2)) || second == first, "{first:?}, then {second:?}");
            writing.join().unwrap();
        });
    }
}
