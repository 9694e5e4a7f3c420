//! The challenges that this proxy answers: those of its own orders, of the proxies that share its `state_dir`, and of the
//! other members of the fleet.

use super::{Certificates, files};
use crate::decision::acme::{CHALLENGES_MAX, Challenge};
use crate::tls::challenges::{Answer, PROTOCOL};
use crate::tls::provider;
use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// Challenges that this proxy answers at once, of whomever.
const ANSWERED_MAX: usize = 4 * CHALLENGES_MAX;
/// The interval between two looks for challenges.
const EVERY: Duration = Duration::from_millis(500);
/// The time until each proxy of the site answers a challenge: each reads the files at each [`EVERY`].
const SPREAD: Duration = Duration::from_secs(2);
/// The same with a fleet: reports are requested once a second, and of a proxy that has just started after a longer pause.
const FLEET_SPREAD: Duration = Duration::from_secs(6);

/// The time until each proxy of the site answers a new challenge.
pub(super) fn spread(certificates: &Certificates) -> Duration {
    if certificates.fleet.is_alone() { SPREAD } else { FLEET_SPREAD }
}

/// Looks for challenges, forever.
pub(super) async fn answer(certificates: Arc<Certificates>, folder: PathBuf) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let folder = folder.clone();
        // A shared file system may hang.
        let Ok(shown) = tokio::task::spawn_blocking(move || files::challenges(&folder)).await
        else {
            continue;
        };
        let (challenges, fleet) = (&certificates.shared.challenges, &certificates.fleet);
        let theirs = fleet.challenges();
        let all = gathered(challenges.own(), shown, theirs);
        let known = challenges.answered();
        if all.iter().eq(known.iter().map(|answer| &answer.challenge)) {
            continue;
        }
        let of = |challenge: Challenge| match known.iter().find(|one| one.challenge == challenge) {
            Some(known) => Some(known.clone()),
            None => built(challenge),
        };
        challenges.answer(all.into_iter().filter_map(of).collect());
    }
}

/// The challenges to answer. This proxy's own ones come first, so that too many of other proxies do not displace them.
fn gathered(
    own: Vec<Challenge>,
    shown: Vec<Challenge>,
    theirs: Vec<Challenge>,
) -> BTreeSet<Challenge> {
    own.into_iter().chain(shown).chain(theirs).take(ANSWERED_MAX).collect()
}

fn built(challenge: Challenge) -> Option<Answer> {
    match config(&challenge) {
        Ok(config) => Some(Answer { challenge, config: Arc::new(config) }),
        Err(error) => {
            tracing::warn!(error, domain = challenge.domain, "challenge not answered: {error}");
            None
        }
    }
}

/// TLS with a certificate for the domain that contains the digest of the key authorization (RFC 8737 §3).
fn config(challenge: &Challenge) -> Result<ServerConfig, String> {
    let text = |error: rcgen::Error| error.to_string();
    let mut params = CertificateParams::new(vec![challenge.domain.clone()]).map_err(text)?;
    params.distinguished_name = DistinguishedName::new();
    let digest = digest(&SHA256, challenge.key_authorization.as_bytes());
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest.as_ref())];
    let key = KeyPair::generate().map_err(text)?;
    let certificate = params.self_signed(&key).map_err(text)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = provider().key_provider.load_private_key(key).map_err(|error| error.to_string())?;
    // Not checked against its key, as it was just made with it: webpki does not know the extension.
    let certified = CertifiedKey::new(vec![certificate.der().clone()], key);
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_of_a_challenge_is_built_and_offers_only_its_protocol() {
        let challenge = Challenge {
            domain: "shop.example".to_owned(),
            key_authorization: "token.thumb".to_owned(),
        };
        let config = config(&challenge).unwrap();
        assert_eq!(config.alpn_protocols, [b"acme-tls/1"]);
    }

    #[test]
    fn too_many_challenges_of_others_do_not_displace_the_own_ones() {
        let challenge = |domain: &str, number: usize| Challenge {
            domain: domain.to_owned(),
            key_authorization: format!("{number}.thumb"),
        };
        let theirs = (0..10_000).map(|number| challenge("a.example", number)).collect();
        let own = challenge("z.example", 0);
        let all = gathered(vec![own.clone()], Vec::new(), theirs);
        assert!(all.contains(&own) && all.len() == ANSWERED_MAX, "{}", all.len());
    }
}
