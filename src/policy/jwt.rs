//! Signed tokens by the `Bearer` scheme (RFC 6750, RFC 7519): the jsonwebtoken crate verifies them, with keys from a
//! key set file (RFC 7517).
//!
//! A key verifies only with its own algorithms, whatever the token claims: otherwise a public RSA key could be
//! used as a shared secret.

use super::{PolicyRequest, Refused, read};
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use std::path::Path;

/// Tolerated difference between clocks, in seconds.
const LEEWAY: u64 = 30;
/// The most keys of a file that are used.
const KEYS_MAX: usize = 1_000;
/// The most keys that are tried for one token: a token need not name its key.
const TRIED_MAX: usize = 32;

/// The keys of a file, and the claims that tokens must have.
pub struct Keys {
    keys: Vec<Key>,
    unused: Vec<String>,
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
    /// Reads a key set. Keys that cannot verify tokens (for encryption, of an unknown type or curve) are skipped
    /// (RFC 7517 §5).
    ///
    /// # Errors
    /// When the file is not a key set, or none of its keys can verify tokens.
    pub fn read(path: &Path, issuer: Option<&str>, audience: Option<&str>) -> Result<Keys, String> {
        let keys = Keys::parse(&read(path)?, issuer, audience);
        keys.map_err(|why| format!("`{}`: {why}", path.display()))
    }

    fn parse(text: &str, issuer: Option<&str>, audience: Option<&str>) -> Result<Keys, String> {
        let set: KeySet = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let count = set.keys.len();
        let (mut keys, mut unused) = (Vec::new(), Vec::new());
        for (index, written) in set.keys.into_iter().enumerate() {
            match key(written, issuer, audience) {
                Ok(_) if keys.len() >= KEYS_MAX => {
                    unused.push(format!("key {index}: beyond the limit of {KEYS_MAX} keys"));
                }
                Ok(key) => keys.push(key),
                Err(why) => unused.push(format!("key {index}: {why}")),
            }
        }
        if keys.is_empty() {
            return Err(format!("none of the {count} keys can verify tokens: {}", shown(&unused)));
        }
        Ok(Keys { keys, unused })
    }

    /// Keys of the file that are skipped, with the reasons, as text.
    #[must_use]
    pub fn unused(&self) -> Option<String> {
        (!self.unused.is_empty()).then(|| shown(&self.unused))
    }

    /// Whether a request has a valid token.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn verify(&self, request: &PolicyRequest<'_>) -> Result<(), Refused> {
        let challenge =
            |why: &str| Refused::Unauthorized(format!("Bearer realm=\"tidegate\"{why}"));
        let token = (request.field)("authorization").and_then(bearer);
        let token = token.ok_or_else(|| challenge(""))?;
        if self.holds(token) { Ok(()) } else { Err(challenge(", error=\"invalid_token\"")) }
    }

    fn holds(&self, token: &str) -> bool {
        let Ok(header) = decode_header(token) else { return false };
        // Critical extensions must be implemented, and this proxy implements none (RFC 7515 §4.1.11).
        if header.crit.is_some() {
            return false;
        }
        let candidates = self.keys.iter().filter(|key| {
            let named = header.kid.is_none() || key.id.is_none() || key.id == header.kid;
            named && key.terms.algorithms.contains(&header.alg)
        });
        candidates.take(TRIED_MAX).any(|key| {
            let claims = decode::<serde_json::Value>(token, &key.key, &key.terms);
            claims.is_ok_and(|token| {
                // The crate also accepts a list; RFC 7519 §4.1.1 requires one string.
                token.claims.get("iss").is_none_or(serde_json::Value::is_string)
            })
        })
    }
}

#[derive(serde::Deserialize)]
struct KeySet {
    keys: Vec<serde_json::Value>,
}

fn key(
    written: serde_json::Value,
    issuer: Option<&str>,
    audience: Option<&str>,
) -> Result<Key, String> {
    let jwk: Jwk = serde_json::from_value(written).map_err(|error| error.to_string())?;
    match &jwk.common.public_key_use {
        None | Some(PublicKeyUse::Signature) => {}
        Some(PublicKeyUse::Encryption | PublicKeyUse::Other(_)) => {
            return Err("`use` is not `sig`".to_owned());
        }
    }
    let operations = jwk.common.key_operations.as_ref();
    if operations.is_some_and(|listed| !listed.contains(&KeyOperations::Verify)) {
        return Err("`key_ops` lacks `verify`".to_owned());
    }
    let algorithms = algorithms(&jwk)?;
    let key = DecodingKey::from_jwk(&jwk).map_err(|error| error.to_string())?;
    Ok(Key { id: jwk.common.key_id, key, terms: terms(algorithms, issuer, audience) })
}

/// The first few of a list of reasons.
fn shown(reasons: &[String]) -> String {
    const SHOWN_MAX: usize = 5;
    let first = reasons.iter().take(SHOWN_MAX).map(String::as_str).collect::<Vec<_>>().join("; ");
    match reasons.len().saturating_sub(SHOWN_MAX) {
        0 => first,
        more => format!("{first}; and {more} more"),
    }
}

pub(super) fn bearer(field: &[u8]) -> Option<&str> {
    let (scheme, token) = std::str::from_utf8(field).ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// The algorithms of a key: the algorithm that the key names, or the algorithms of its type.
fn algorithms(jwk: &Jwk) -> Result<Vec<Algorithm>, String> {
    use Algorithm as A;
    let of_kind = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => {
            vec![A::RS256, A::RS384, A::RS512, A::PS256, A::PS384, A::PS512]
        }
        AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
            EllipticCurve::P256 => vec![A::ES256],
            EllipticCurve::P384 => vec![A::ES384],
            _ => return Err("unsupported curve: allowed are P-256 and P-384".to_owned()),
        },
        AlgorithmParameters::OctetKeyPair(pair) => match pair.curve {
            EllipticCurve::Ed25519 => vec![A::EdDSA],
            _ => return Err("unsupported curve: allowed is Ed25519".to_owned()),
        },
        AlgorithmParameters::OctetKey(_) => vec![A::HS256, A::HS384, A::HS512],
        _ => return Err("unsupported key type (`kty`)".to_owned()),
    };
    match jwk.common.key_algorithm {
        None => Ok(of_kind),
        Some(said) => match algorithm(said).filter(|said| of_kind.contains(said)) {
            Some(said) => Ok(vec![said]),
            None => Err(format!("`alg: {said}` does not fit this key type")),
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

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
    const KEY: &str =
        r#"{"kty":"oct","kid":"s","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}"#;

    fn token(header: &Header, issuer: serde_json::Value) -> String {
        let claims = json!({ "iss": issuer, "exp": 4_000_000_000_u64 });
        encode(header, &claims, &EncodingKey::from_secret(SECRET)).unwrap()
    }

    fn header() -> Header {
        Header { kid: Some("s".to_owned()), ..Header::default() }
    }

    fn with(others: &[&str]) -> Result<Keys, String> {
        let mut keys = others.to_vec();
        keys.push(KEY);
        Keys::parse(&format!("{{\"keys\": [{}]}}", keys.join(",")), Some("me"), None)
    }

    #[test]
    fn an_unusable_key_does_not_affect_the_others() {
        for other in [
            r#"{"kty":"RSA","kid":"e","use":"enc","alg":"RSA-OAEP","n":"AQAB","e":"AQAB"}"#,
            r#"{"kty":"OKP","crv":"X25519","kid":"x","x":"hSDwCYkwp1R0i33ctD73Wg2_Og0mOBr066SpjqqbTmo"}"#,
            r#"{"kty":"EC","crv":"secp256k1","kid":"c","x":"AA","y":"AA"}"#,
            r#"{"kty":"AKP","kid":"m","alg":"ML-DSA-65","pub":"AAAA"}"#,
            r#"{"kty":"oct","kid":"a","alg":"RS256","k":"AAAA"}"#,
            r#"{"kty":"oct","kid":"o","key_ops":["encrypt"],"k":"AAAA"}"#,
            r#"{"kid":"nothing"}"#,
            "7",
        ] {
            let keys = with(&[other]).unwrap_or_else(|why| panic!("{other}: {why}"));
            assert!(keys.holds(&token(&header(), json!("me"))), "{other}");
            assert!(keys.unused().is_some_and(|why| why.starts_with("key 0: ")), "{other}");
        }
        let none = Keys::parse(r#"{"keys": [{"kty":"AKP","pub":"AAAA"}]}"#, None, None);
        assert!(none.unwrap_err().contains("none of the 1 keys can verify tokens: key 0: "));
    }

    #[test]
    fn a_key_for_encryption_verifies_no_token() {
        let key = KEY.replace("\"kid\"", "\"use\":\"enc\",\"kid\"");
        let other = r#"{"kty":"oct","kid":"o","k":"AAAA"}"#;
        let keys = Keys::parse(&format!("{{\"keys\": [{key},{other}]}}"), None, None).unwrap();
        assert!(!keys.holds(&token(&header(), json!("me"))));
    }

    #[test]
    fn a_large_set_is_used_and_a_token_that_names_no_key_tries_few() {
        let others: Vec<String> =
            (0..99).map(|index| format!(r#"{{"kty":"oct","kid":"{index}","k":"AAAA"}}"#)).collect();
        let keys = with(&others.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        assert!(keys.holds(&token(&header(), json!("me"))));
        assert!(!keys.holds(&token(&Header::default(), json!("me"))), "it is the hundredth");
    }

    #[test]
    fn critical_extensions_and_lists_of_issuers_are_refused() {
        let keys = with(&[]).unwrap();
        assert!(keys.holds(&token(&header(), json!("me"))));
        let critical = Header { crit: Some(vec!["b64".to_owned()]), ..header() };
        assert!(!keys.holds(&token(&critical, json!("me"))));
        assert!(!keys.holds(&token(&header(), json!(["me", "you"]))));
        assert!(!keys.holds(&token(&header(), json!("you"))));
    }
}
