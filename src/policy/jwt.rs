//! Signed tokens by the `Bearer` scheme (RFC 6750, RFC 7519): the jsonwebtoken crate verifies, a file has the
//! keys (RFC 7517).
//!
//! A key verifies by its own algorithms alone, whatever a token says of itself: otherwise a public RSA key
//! could be taken for a shared secret.

use super::{Asked, Refused, read};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use std::path::Path;

/// How far clocks may be apart, in seconds.
const LEEWAY: u64 = 30;
/// Keys of a file, at most: a token that names none is tried with each.
const KEYS_MAX: usize = 32;

/// The keys of a file, and what tokens must say.
pub struct Keys {
    keys: Vec<Key>,
}

struct Key {
    id: Option<String>,
    key: DecodingKey,
    terms: Validation,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("count", &self.keys.len()).finish_non_exhaustive()
    }
}

impl Keys {
    /// Reads a file.
    ///
    /// # Errors
    /// When it is no key set, or one of its keys will not do.
    pub fn read(path: &Path, issuer: Option<&str>, audience: Option<&str>) -> Result<Keys, String> {
        let wrong = |why: String| format!("`{}`: {why}", path.display());
        let set: JwkSet =
            serde_json::from_str(&read(path)?).map_err(|error| wrong(error.to_string()))?;
        if set.keys.is_empty() || set.keys.len() > KEYS_MAX {
            return Err(wrong(format!(
                "it has {} keys: 1 to {KEYS_MAX} are taken",
                set.keys.len()
            )));
        }
        let key = |(index, jwk): (usize, &Jwk)| {
            let wrong = |why: String| wrong(format!("key {index}: {why}"));
            let algorithms = algorithms(jwk).map_err(wrong)?;
            let key = DecodingKey::from_jwk(jwk).map_err(|error| wrong(error.to_string()))?;
            Ok(Key {
                id: jwk.common.key_id.clone(),
                key,
                terms: terms(algorithms, issuer, audience),
            })
        };
        let keys = set.keys.iter().enumerate().map(key).collect::<Result<_, String>>()?;
        Ok(Keys { keys })
    }

    /// Whether a request has a token that holds now.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn verify(&self, asked: &Asked<'_>) -> Result<(), Refused> {
        let challenge =
            |why: &str| Refused::Unauthorized(format!("Bearer realm=\"tidegate\"{why}"));
        let token = (asked.field)("authorization").and_then(bearer);
        let token = token.ok_or_else(|| challenge(""))?;
        let invalid = || challenge(", error=\"invalid_token\"");
        let header = decode_header(token).map_err(|_| invalid())?;
        let mut candidates = self.keys.iter().filter(|key| {
            let named = header.kid.is_none() || key.id.is_none() || key.id == header.kid;
            named && key.terms.algorithms.contains(&header.alg)
        });
        let holds = |key: &Key| decode::<serde_json::Value>(token, &key.key, &key.terms).is_ok();
        if candidates.any(holds) { Ok(()) } else { Err(invalid()) }
    }
}

pub(super) fn bearer(field: &[u8]) -> Option<&str> {
    let (scheme, token) = std::str::from_utf8(field).ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// By which algorithms a key verifies: the one it says, or those of its kind.
fn algorithms(jwk: &Jwk) -> Result<Vec<Algorithm>, String> {
    use Algorithm as A;
    let of_kind = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => {
            vec![A::RS256, A::RS384, A::RS512, A::PS256, A::PS384, A::PS512]
        }
        AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
            EllipticCurve::P256 => vec![A::ES256],
            EllipticCurve::P384 => vec![A::ES384],
            _ => return Err("a curve other than P-256 and P-384".to_owned()),
        },
        AlgorithmParameters::OctetKeyPair(_) => vec![A::EdDSA],
        AlgorithmParameters::OctetKey(_) => vec![A::HS256, A::HS384, A::HS512],
        _ => return Err("a kind of key that is not known".to_owned()),
    };
    match jwk.common.key_algorithm {
        None => Ok(of_kind),
        Some(said) => match algorithm(said).filter(|said| of_kind.contains(said)) {
            Some(said) => Ok(vec![said]),
            None => Err(format!("`alg: {said}` is not for this kind of key")),
        },
    }
}

fn algorithm(said: KeyAlgorithm) -> Option<Algorithm> {
    said.to_string().parse().ok()
}

fn terms(algorithms: Vec<Algorithm>, issuer: Option<&str>, audience: Option<&str>) -> Validation {
    let mut terms = Validation::new(algorithms[0]);
    terms.algorithms = algorithms;
    terms.leeway = LEEWAY;
    terms.validate_nbf = true;
    let mut required = vec!["exp"];
    if let Some(issuer) = issuer {
        terms.set_issuer(&[issuer]);
        required.push("iss");
    }
    match audience {
        Some(audience) => {
            terms.set_audience(&[audience]);
            required.push("aud");
        }
        None => terms.validate_aud = false,
    }
    terms.set_required_spec_claims(&required);
    terms
}
