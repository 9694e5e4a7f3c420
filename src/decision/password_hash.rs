//! The hashes of passwords that Tidegate accepts.

/// The greatest bcrypt cost accepted: each step doubles the time, and this cost takes about a second.
const BCRYPT_COST_MAX: u32 = 14;

/// Whether a hash in a password file is accepted.
///
/// # Errors
/// What is wrong with it.
pub fn check(hash: &str) -> Result<(), String> {
    if ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix)) {
        let parts: bcrypt::HashParts = hash.parse().map_err(|error| format!("{error}"))?;
        return match parts.get_cost() > BCRYPT_COST_MAX {
            true => {
                Err(format!("bcrypt cost above {BCRYPT_COST_MAX}: each check would take seconds"))
            }
            false => Ok(()),
        };
    }
    if hash.starts_with("$argon2") {
        return argon2::PasswordHash::new(hash).map(drop).map_err(|error| error.to_string());
    }
    Err("hash is neither bcrypt nor argon2: `htpasswd -B` writes bcrypt".to_owned())
}
