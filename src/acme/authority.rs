//! Orders from an authority that is slow, silent or lies, in virtual time.
//!
//! The authority is an HTTP client that answers itself, so that the whole order runs as in production, its deadline
//! included; only connections are missing.

use super::files;
use super::order::order_by;
use crate::decision::acme::{Acme, ChallengeKind, Directory, Domain, Failure};
use crate::tls::challenges::Challenges;
use bytes::Bytes;
use http::Request;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rcgen::{CertificateParams, KeyPair};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// How the authority fails.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Requests of this path are never answered.
    Silent(&'static str),
    /// Each answer takes this long.
    Slow(Duration),
    /// Requests of this path get this answer.
    Says(&'static str, &'static str),
    /// The library panics over the answer of this path.
    Panics(&'static str),
}

#[derive(Clone)]
struct Authority {
    fault: Fault,
    asked: Arc<Mutex<Vec<String>>>,
    /// The certificate that it issues: for the right name, with another key.
    chain: String,
}

const ORDER: &str = r#"{"status": "STATUS", "authorizations": ["https://a/authorization"],
    "finalize": "https://a/finalize", "certificate": "https://a/certificate"}"#;

impl Authority {
    async fn answer(self, path: String) -> Result<BytesResponse, Error> {
        self.asked.lock().unwrap().push(path.clone());
        match self.fault {
            Fault::Silent(silent) if silent == path => std::future::pending().await,
            Fault::Slow(pause) => tokio::time::sleep(pause).await,
            Fault::Panics(over) if over == path => panic!("over an answer"),
            Fault::Silent(_) | Fault::Says(..) | Fault::Panics(_) => {}
        }
        let body = match (self.fault, path.as_str()) {
            (Fault::Says(of, text), path) if of == path => text.to_owned(),
            (_, "/directory") => r#"{"newNonce": "https://a/nonce", "newAccount": "https://a/account",
                "newOrder": "https://a/new-order"}"#
                .to_owned(),
            (_, "/new-order") => ORDER.replace("STATUS", "pending"),
            (_, "/authorization") => r#"{"status": "pending", "identifier": {"type": "dns", "value": "a.example"},
                "challenges": [{"type": "http-01", "url": "https://a/challenge", "token": "t", "status": "pending"}]}"#
                .to_owned(),
            (_, "/challenge") => r#"{"type": "http-01", "url": "https://a/challenge", "token": "t", "status": "processing"}"#.to_owned(),
            (_, "/order") => {
                let asked = self.asked.lock().unwrap();
                let is_final = asked.iter().any(|path| path == "/finalize");
                ORDER.replace("STATUS", if is_final { "valid" } else { "ready" })
            }
            (_, "/finalize") => ORDER.replace("STATUS", "processing"),
            (_, "/certificate") => self.chain.clone(),
            (_, _) => String::new(),
        };
        let place = if path == "/account" { "https://a/account/1" } else { "https://a/order" };
        let response = http::Response::builder().header("replay-nonce", "n");
        let (parts, ()) = response.header("location", place).body(()).unwrap().into_parts();
        Ok(BytesResponse { parts, body: Box::new(Bytes::from(body)) })
    }
}

impl HttpClient for Authority {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        Box::pin(self.clone().answer(request.uri().path().to_owned()))
    }
}

/// A folder with an old certificate.
struct Site {
    folder: PathBuf,
    acme: Acme,
    domain: Domain,
}

const OLD: &[u8] = b"the old certificate";

impl Site {
    fn new() -> Site {
        let folder = std::env::temp_dir().join(format!("tidegate-orders-{}", std::process::id()));
        files::folder(&folder).unwrap();
        let domain = Domain { name: "a.example".to_owned(), file: folder.join("a.example.pem") };
        let url = "https://a/directory".to_owned();
        let acme = Acme {
            directory: Directory { url, ca: None, folder: folder.clone() },
            email: None,
            challenge: ChallengeKind::Http01,
            domains: vec![domain.clone()],
            folder: folder.clone(),
        };
        std::fs::write(&domain.file, OLD).unwrap();
        Site { folder, acme, domain }
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.folder).unwrap().flatten();
        let files = entries.filter(|entry| entry.path().is_file());
        let mut names: Vec<_> =
            files.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_ends_within_its_deadline_and_leaves_the_old_certificate_whatever_the_authority_does()
 {
    const PENDING: &str =
        r#"{"status": "pending", "authorizations": [], "finalize": "https://a/finalize"}"#;
    let site = Site::new();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    let chain = params.self_signed(&key).unwrap().pem();
    let unreachable = Failure::Unreachable;
    let (late, no_acme) = ("not over in 180s", "the answer is not of an ACME authority");
    let slow = Fault::Slow(Duration::from_secs(20));
    #[rustfmt::skip]
    let table = [
        // fault                                             failure        why      seconds
        (Fault::Silent("/directory"),                        unreachable,   late,    180),
        (Fault::Silent("/order"),                            unreachable,   late,    180),
        (Fault::Silent("/certificate"),                      unreachable,   late,    180),
        (slow,                                               unreachable,   late,    180),
        (Fault::Says("/directory", "<html>It works!</html>"), unreachable,  no_acme, 0),
        (Fault::Says("/directory", r#"{"newNonce": 1}"#),    unreachable,   no_acme, 0),
        (Fault::Says("/new-order", "[]"),                    unreachable,   no_acme, 0),
        (Fault::Says("/order", r#"{"status": "read"#),       unreachable,   no_acme, 2),
        (Fault::Says("/order", r#"{"status": "sometime"}"#), unreachable,   no_acme, 2),
        // The library ends its pauses of 0.5 s, 1 s and so on before one of 128 s: it has 75 s by the machine's clock.
        (Fault::Says("/order", PENDING),                     unreachable,   "did not complete the order in time", 129),
        (Fault::Says("/challenge", r#"{"token": []}"#),      unreachable,   no_acme, 2),
        (Fault::Panics("/order"),                            unreachable,   "panicked over an answer", 2),
        (Fault::Says("/certificate", "garbage"),             Failure::BadCertificate, "no certificate", 3),
        (Fault::Says("/nowhere", ""),                        Failure::BadCertificate, "does not match", 3),
    ];
    for (fault, failure, why, seconds) in table {
        let authority = Authority { fault, asked: Arc::default(), chain: chain.clone() };
        let (open, begun) = (Challenges::default(), Instant::now());
        let spread = Duration::from_secs(2);

        let result = order_by(authority, (&site.acme, &site.domain), &open, spread).await;

        let failed = result.unwrap_err();
        assert_eq!(failed.failure, failure, "{fault:?}: {}", failed.why);
        assert!(failed.why.contains(why), "{fault:?}: {}", failed.why);
        assert!(!failed.why.contains('\n') && failed.why.len() < 400, "{fault:?}: {}", failed.why);
        assert_eq!(begun.elapsed().as_secs(), seconds, "{fault:?}");
        assert_eq!(std::fs::read(&site.domain.file).unwrap(), OLD, "{fault:?}");
        assert_eq!(open.own(), [], "{fault:?}: no challenge stays open");
        assert_eq!(files::challenges(&site.folder), [], "{fault:?}");
        // The account is kept from order to order.
        site.files().iter().for_each(|name| {
            assert!(
                ["a.example.pem", "account.json"].contains(&name.as_str()),
                "{fault:?}: {name}"
            );
        });
    }
    std::fs::remove_dir_all(site.folder).unwrap();
}
