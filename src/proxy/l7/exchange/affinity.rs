//! Session affinity: a cookie names the endpoint that served a client.
//!
//! The cookie is one AES block with the endpoint's identity and a hash of the service's name. Without the secret
//! nobody can read an address from the cookie, forge a cookie for another endpoint, or use the cookie of another
//! service, because 64 bits of the decrypted block must match. Proxies with the same secret accept each other's
//! cookies. An invalid cookie, and a cookie whose endpoint is down or may not serve the exchange, are ignored.

use super::request_key::cookie;
use crate::decision::endpoint::identity;
use crate::decision::plan::{Affinity, Secret};
use crate::decision::signal::EndpointSignals;
use crate::decision::units::{hash, mix};
use crate::http::request::RequestHead;
use crate::l7::connection_info::ConnectionInfo;
use crate::selection::Stay;
use aws_lc_rs::cipher::{
    AES_128, DecryptingKey, DecryptionContext, EncryptingKey, UnboundCipherKey,
};

/// Bytes of a cookie: one block.
const BLOCK: usize = 16;

/// The name and key of a service's cookies.
pub(super) struct Cookie<'a> {
    pub(super) affinity: &'a Affinity,
    pub(super) service: &'a str,
    pub(super) secret: Secret,
}

/// The endpoint in the request's affinity cookie.
pub(super) fn stay(cookies: &Cookie<'_>, head: &RequestHead) -> Option<Stay> {
    let affinity = cookies.affinity;
    let value = cookie(head, &affinity.cookie)?;
    let text = std::str::from_utf8(value).ok().filter(|text| text.len() == 2 * BLOCK)?;
    let block = u128::from_str_radix(text, 16).ok()?.to_be_bytes();
    let token = unseal(cookies.secret, cookies.service, block)?;
    Some(Stay { identity: token, across_clusters: affinity.across_clusters })
}

/// The identity of an endpoint in cookies.
fn token(endpoint: &EndpointSignals) -> u64 {
    mix(identity(endpoint))
}

/// The `Set-Cookie` line that names this endpoint; `None` if the client's cookie names it already.
pub(super) fn set_cookie(
    cookies: &Cookie<'_>,
    endpoint: &EndpointSignals,
    stay: Option<Stay>,
    info: &ConnectionInfo,
) -> Option<String> {
    let (affinity, token) = (cookies.affinity, token(endpoint));
    if stay.is_some_and(|stay| stay.identity == token) {
        return None;
    }
    let sealed = u128::from_be_bytes(seal(cookies.secret, cookies.service, token)?);
    let age = affinity.ttl.map(|ttl| format!("; Max-Age={}", ttl.as_secs())).unwrap_or_default();
    let secure = if info.scheme() == "https" { "; Secure" } else { "" };
    let name = &affinity.cookie;
    Some(format!(
        "set-cookie: {name}={sealed:032x}; Path=/{age}; HttpOnly; SameSite=Lax{secure}\r\n"
    ))
}

fn seal(secret: Secret, service: &str, token: u64) -> Option<[u8; BLOCK]> {
    let key = UnboundCipherKey::new(&AES_128, &secret.0).ok()?;
    let mut block = (u128::from(token) << 64 | u128::from(hash(service.as_bytes()))).to_be_bytes();
    EncryptingKey::ecb(key).ok()?.encrypt(&mut block).ok()?;
    Some(block)
}

fn unseal(secret: Secret, service: &str, mut block: [u8; BLOCK]) -> Option<u64> {
    let key = UnboundCipherKey::new(&AES_128, &secret.0).ok()?;
    DecryptingKey::ecb(key).ok()?.decrypt(&mut block, DecryptionContext::None).ok()?;
    let opened = u128::from_be_bytes(block);
    let is_ours = opened as u64 == hash(service.as_bytes());
    is_ours.then_some((opened >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_requires_the_secret() {
        let (secret, other) = (Secret([7; 16]), Secret([8; 16]));
        let sealed = seal(secret, "shop", 42).unwrap();
        assert_eq!(unseal(secret, "shop", sealed), Some(42));
        assert_eq!(unseal(secret, "orders", sealed), None, "of another service");
        assert_eq!(unseal(other, "shop", sealed), None, "by another secret");
        for bit in 0..128 {
            let changed = (u128::from_be_bytes(sealed) ^ 1 << bit).to_be_bytes();
            assert_eq!(unseal(secret, "shop", changed), None, "bit {bit}");
        }
        assert!(!sealed.windows(8).any(|part| part == 42_u64.to_be_bytes()));
    }
}
