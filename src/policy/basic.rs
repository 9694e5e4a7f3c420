//! Passwords by the `Basic` scheme (RFC 7617): a file of bcrypt or argon2 hashes, as `htpasswd -B` writes it.
//!
//! Hashing is slow by design. It runs outside the workers, a few hashes at a time; each policy and each client has a
//! share of them ([`super::turns`]). A correct password is cached for a while under a keyed digest.

use super::turns::Turns;
use super::{PolicyRequest, Refused, read};
use crate::decision::password_hash;
use crate::decision::units::Timestamp;
use crate::os::clock;
use aws_lc_rs::hmac;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a correct password is cached, and how many passwords are cached.
const BELIEVED: Duration = Duration::from_secs(300);
const BELIEVED_MAX: usize = 4_096;

/// The users of a password file.
pub struct Users {
    hashes: BTreeMap<String, Arc<str>>,
    /// A hash for unknown user names: refusing them must take as long as refusing a wrong password.
    decoy: Arc<str>,
    secret: hmac::Key,
    believed: Mutex<BTreeMap<Vec<u8>, Timestamp>>,
    turns: Turns,
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Users").field("count", &self.hashes.len()).finish_non_exhaustive()
    }
}

impl Users {
    /// Reads a password file.
    ///
    /// # Errors
    /// The number of the first invalid line, and the reason.
    pub fn read(path: &Path) -> Result<Users, String> {
        let text = read(path)?;
        let mut hashes = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |why: &str| format!("`{}` line {}: {why}", path.display(), number + 1);
            let (user, hash) =
                line.split_once(':').ok_or_else(|| wrong("not of the form `user:hash`"))?;
            password_hash::check(hash).map_err(|why| wrong(&why))?;
            if user.is_empty() || hashes.insert(user.to_owned(), Arc::from(hash)).is_some() {
                return Err(wrong("user name is empty or a duplicate"));
            }
        }
        let decoy = hashes.values().next().cloned();
        let decoy = decoy.ok_or_else(|| format!("`{}` has no users", path.display()))?;
        let secret = hmac::Key::generate(hmac::HMAC_SHA256, &aws_lc_rs::rand::SystemRandom::new());
        let secret = secret.map_err(|_| "no random numbers from the system".to_owned())?;
        Ok(Users { hashes, decoy, secret, believed: Mutex::default(), turns: Turns::default() })
    }

    /// Whether a request has the password of a user.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn verify(&self, request: &PolicyRequest<'_>) -> Result<(), Refused> {
        let challenge = || Refused::Unauthorized("Basic realm=\"tidegate\"".to_owned());
        let supplied =
            (request.field)("authorization").and_then(credentials).ok_or_else(challenge)?;
        let digest = hmac::sign(&self.secret, supplied.as_bytes());
        if self.believes(digest.as_ref()) {
            return Ok(());
        }
        let (user, password) = supplied.split_once(':').ok_or_else(challenge)?;
        let known = self.hashes.get(user);
        let (hash, password) = (known.unwrap_or(&self.decoy).clone(), password.to_owned());
        if self.hashed(request.client, hash, password).await? && known.is_some() {
            self.believe(digest.as_ref());
            return Ok(());
        }
        Err(challenge())
    }

    /// Whether a password matches this hash; computed outside the worker.
    async fn hashed(
        &self,
        client: IpAddr,
        hash: Arc<str>,
        password: String,
    ) -> Result<bool, Refused> {
        let turn = self.turns.wait(client).await?;
        let compare = move || {
            // The hash computation holds the turn: it continues after the client has disconnected.
            let _turn = turn;
            compare(&hash, &password)
        };
        tokio::task::spawn_blocking(compare).await.map_err(|_| Refused::Unavailable)
    }

    fn believes(&self, digest: &[u8]) -> bool {
        let believed = self.believed.lock().unwrap_or_else(PoisonError::into_inner);
        believed.get(digest).is_some_and(|since| clock::now().since(*since) < BELIEVED)
    }

    fn believe(&self, digest: &[u8]) {
        let mut believed = self.believed.lock().unwrap_or_else(PoisonError::into_inner);
        if believed.len() >= BELIEVED_MAX {
            believed.clear();
        }
        believed.insert(digest.to_vec(), clock::now());
    }
}

/// User and password of an `Authorization` field value.
pub(super) fn credentials(field: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(field).ok()?;
    let (scheme, encoded) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    String::from_utf8(base64(encoded.trim())?).ok()
}

/// Base 64 (RFC 4648 §4), with or without its padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    use base64::Engine;
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&base64::alphabet::STANDARD, config).decode(text).ok()
}

fn compare(hash: &str, password: &str) -> bool {
    if hash.starts_with("$argon2") {
        use argon2::PasswordVerifier;
        let parsed = argon2::PasswordHash::new(hash);
        let verifier = argon2::Argon2::default();
        return parsed.is_ok_and(|h| verifier.verify_password(password.as_bytes(), &h).is_ok());
    }
    bcrypt::verify(password, hash).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::password_hash::check;

    #[test]
    fn credentials_are_read_as_they_are_written_and_nothing_else_is() {
        assert_eq!(credentials(b"Basic bWU6c2VjcmV0").as_deref(), Some("me:secret"));
        assert_eq!(credentials(b"basic bWU6czp0").as_deref(), Some("me:s:t"));
        for wrong in [&b"Basic"[..], b"Bearer bWU6c2VjcmV0", b"Basic !!!!", b"Basic /////w=="] {
            assert_eq!(credentials(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_hash_that_is_weak_unknown_or_too_costly_is_refused() {
        let bcrypt = bcrypt::hash("secret", 4).unwrap();
        assert!(
            check(&bcrypt).is_ok() && compare(&bcrypt, "secret") && !compare(&bcrypt, "Secret")
        );
        let argon2 = "$argon2id$v=19$m=16,t=2,p=1$c2FsdHNhbHQ$Ws5mTGjMkAWlpa8zMjA9Ug";
        assert!(check(argon2).is_ok() && !compare(argon2, "wrong"));
        for wrong in ["{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "$apr1$x$y", "secret", "$2y$04$short"] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
        assert!(check(&bcrypt.replacen("$04$", "$20$", 1)).is_err());
    }
}
