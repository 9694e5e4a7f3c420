//! SIMD within a register (SWAR): scanning eight bytes at a time. Byte-wise scanning is most of the cost of parsing a
//! head, and a head is too short for the start-up cost of a general search.

use super::chars::VALUE;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// The high bit of each byte of `word` that is `byte`, and no other bit.
fn marks(word: u64, byte: u8) -> u64 {
    let other = word ^ (ONES * u64::from(byte));
    !((other & !HIGHS).wrapping_add(!HIGHS) | other | !HIGHS)
}

/// Whether a byte of `word` may be invalid in a field value: below a space (including tab) or DEL.
fn is_suspect(word: u64) -> bool {
    let below = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
    below | marks(word, 0x7f) != 0
}

/// The position of the first `byte`.
#[must_use]
pub fn find(bytes: &[u8], byte: u8) -> Option<usize> {
    each(bytes, byte).next()
}

/// The positions of `byte`, in order.
pub fn each(bytes: &[u8], byte: u8) -> impl Iterator<Item = usize> {
    let (words, tail) = bytes.as_chunks::<8>();
    let after = words.len() * 8;
    let mut words = words.iter().enumerate();
    let (mut at, mut left) = (0, 0);
    let in_words = std::iter::from_fn(move || {
        while left == 0 {
            let (index, word) = words.next()?;
            (at, left) = (index * 8, marks(u64::from_le_bytes(*word), byte));
        }
        let place = at + left.trailing_zeros() as usize / 8;
        left &= left - 1;
        Some(place)
    });
    let in_tail = tail.iter().enumerate().filter(move |(_, other)| **other == byte);
    in_words.chain(in_tail.map(move |(place, _)| after + place))
}

/// The number of letters and hyphens at the start, counted in whole words of eight bytes only. Most field names have
/// no other bytes.
#[must_use]
pub fn letters_len(bytes: &[u8]) -> usize {
    let (words, _) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // Compared in seven bits and lower case: at least `a` and at most `z`.
        let lower = (word | (ONES * 0x20)) & !HIGHS;
        let letters = (lower + ONES * (0x80 - 0x61)) & !(lower + ONES * (0x80 - 0x7b));
        let others = !((letters | marks(word, b'-')) & !word) & HIGHS;
        if others != 0 {
            return index * 8 + others.trailing_zeros() as usize / 8;
        }
    }
    words.len() * 8
}

/// The number of bytes at the start that are valid in a field value.
#[must_use]
pub fn value_len(bytes: &[u8]) -> usize {
    let end = |piece: &[u8]| piece.iter().position(|byte| !VALUE[usize::from(*byte)]);
    let (words, tail) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        if is_suspect(u64::from_le_bytes(*word))
            && let Some(at) = end(word)
        {
            return index * 8 + at;
        }
    }
    words.len() * 8 + end(tail).unwrap_or(tail.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_and_byte_searches_agree() {
        // Each byte at each position of a word and after it. The neighbouring bytes are those that a
        // borrow of the subtraction could affect.
        for fill in [b' ', b'a', b'\t', 0x7e, 0x80, 0xff] {
            for at in 0..20 {
                for byte in 0..=255 {
                    let mut text = [fill; 20];
                    text[at] = byte;
                    let slowly = text.iter().position(|byte| !VALUE[usize::from(*byte)]);
                    assert_eq!(value_len(&text), slowly.unwrap_or(20), "{byte:#x} at {at}");
                    for wanted in [byte, b'\n', 0, 0xff] {
                        let slowly = text.iter().position(|byte| *byte == wanted);
                        assert_eq!(find(&text, wanted), slowly, "{byte:#x} at {at}");
                        let all = text.iter().enumerate().filter(|(_, byte)| **byte == wanted);
                        assert!(each(&text, wanted).eq(all.map(|(at, _)| at)), "{byte:#x} at {at}");
                    }
                    let is_letter = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'-';
                    let slowly = text.iter().position(|byte| !is_letter(byte));
                    assert_eq!(
                        letters_len(&text),
                        slowly.unwrap_or(16).min(16),
                        "{byte:#x} at {at}"
                    );
                }
            }
        }
    }
}
