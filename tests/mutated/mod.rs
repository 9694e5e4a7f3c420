//! Mutations of byte strings.

use tidegate::decision::units::Dice;

/// A seed with a few bytes changed, removed, doubled, or replaced by bytes of another seed.
#[allow(unreachable_pub, reason = "two tests have it")]
pub fn mutated(seed: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    const INTERESTING: &[u8] = b"\r\n\0 \t:;,=\"\\%/.?#0afFX\x7f\x80_-+";
    let mut bytes = seed.to_vec();
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len() + 1);
        match dice.below(5) {
            0 => bytes.insert(at, INTERESTING[dice.below(INTERESTING.len())]),
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 if at < bytes.len() => bytes[at] = INTERESTING[dice.below(INTERESTING.len())],
            3 => {
                let from = dice.below(other.len() + 1);
                let to = (from + dice.below(20)).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            _ => {
                let end = (at + dice.below(12)).min(bytes.len());
                let copied: Vec<u8> = bytes[at..end].to_vec();
                bytes.splice(at..at, copied);
            }
        }
    }
    bytes
}
