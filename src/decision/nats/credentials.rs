//! The text of a NATS credentials file: a user's JWT and the seed of its key, or such a seed alone.

use std::fmt;

/// Who this proxy is to a NATS server. The seed is a secret.
#[derive(Clone, Eq, PartialEq)]
pub struct Credentials {
    /// The user's JWT, where accounts are managed by JWTs.
    pub jwt: Option<String>,
    /// The seed of the user's key (`SU...`), which signs the server's nonce.
    pub seed: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads a file as `nsc` writes it, or a line with a seed alone. The seed's checksum is not verified here.
    #[must_use]
    pub fn read(text: &str) -> Option<Credentials> {
        let is_seed = |line: &&str| {
            let base32 = |byte: u8| byte.is_ascii_uppercase() || (b'2'..=b'7').contains(&byte);
            line.len() == 58 && line.starts_with("SU") && line.bytes().all(base32)
        };
        let lines = || text.lines().map(str::trim);
        let seed = lines().find(is_seed)?.to_owned();
        let begin = lines().position(|line| line.contains("BEGIN NATS USER JWT"));
        let jwt = match begin {
            None => None,
            // A file that promises a JWT has one.
            Some(at) => Some(lines().nth(at + 1).filter(|line| is_jwt(line))?.to_owned()),
        };
        Some(Credentials { jwt, seed })
    }
}

fn is_jwt(line: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.=".contains(&byte);
    line.matches('.').count() == 2 && line.bytes().all(valid)
}

#[cfg(test)]
mod tests {
    use super::Credentials;

    const SEED: &str = "SUABCDEFGHIJKLMNOPQRSTUVWXYZ234567ABCDEFGHIJKLMNOPQRSTUVWX";

    #[test]
    fn a_file_has_a_jwt_and_a_seed_or_a_seed_alone() {
        let whole = |jwt: &str| {
            format!(
                "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
                 -----BEGIN USER NKEY SEED-----\r\n{SEED}\r\n------END USER NKEY SEED------\n"
            )
        };
        let read = |text: &str| Credentials::read(text).map(|found| (found.jwt, found.seed));
        let seed = SEED.to_owned();
        assert_eq!(read(&whole("a.b-_.c")), Some((Some("a.b-_.c".to_owned()), seed.clone())));
        assert_eq!(read(&format!("{SEED}\n")), Some((None, seed)));
        for text in ["", "password", &SEED[1..], &SEED.to_lowercase(), &whole(""), &whole("a.b")] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn the_seed_is_not_printed() {
        let found = Credentials::read(SEED).unwrap();
        assert!(!format!("{found:?}").contains("SUA"));
    }
}
