//! Requests to an API server: credentials, lists and watches, each with a deadline and a bound of its answer.

use super::slices::{Page, SERVICE_LABEL, Slice};
use crate::decision::plan::Kubernetes;
use crate::discover::api_health::Fault;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use kube::client::{Body, ClientBuilder};
use kube::config::{Config, ExecInteractiveMode, KubeConfigOptions, Kubeconfig};
use kube::core::params::{ListParams, WatchParams};
use kube::core::request::Request as Requests;
use kube::core::{Status, WatchEvent};
use std::future::Future;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// The deadline of a connect.
const CONNECT: Duration = Duration::from_secs(5);
/// The deadline of credentials, which a plugin of the kubeconfig may have to fetch.
const CREDENTIALS: Duration = Duration::from_secs(20);
/// The deadline of a response head, and of a whole page.
const ANSWER: Duration = Duration::from_secs(15);
/// Slices in a page.
const PAGE_SLICES: u32 = 50;
/// Pages of a list.
const PAGES_MAX: usize = 100;
/// Bytes of a page.
const PAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of an event. An object of the API has at most 3 MiB.
const EVENT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The time after which the server ends a watch.
const WATCH_SECONDS: u32 = 240;
/// The longest silence of a watch. Servers send a bookmark each minute.
pub(super) const SILENCE: Duration = Duration::from_secs(100);
/// Bytes of a server's words in the log.
const WORDS_MAX: usize = 200;

/// Why the API server was of no use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Failure {
    pub(super) fault: Fault,
    pub(super) text: String,
}

impl Failure {
    pub(super) fn new(fault: Fault, text: impl Into<String>) -> Failure {
        Failure { fault, text: text.into() }
    }

    fn malformed(error: &serde_json::Error) -> Failure {
        Failure::new(Fault::Malformed, format!("malformed answer: {error}"))
    }

    fn timeout(what: &str) -> Failure {
        Failure::new(Fault::Timeout, format!("{what} in time"))
    }

    fn connect(error: &dyn std::error::Error) -> Failure {
        // The cause is the last of a chain of wrappers.
        let mut cause = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        Failure::new(Fault::Connect, words(&format!("no connection: {cause}")))
    }
}

/// An API server, with credentials.
#[derive(Clone)]
pub(super) struct Api {
    client: kube::Client,
    /// The namespace of the context, or of the own pod.
    pub(super) namespace: String,
    /// Whether the server is on this host.
    pub(super) is_local: bool,
}

/// Reads the kubeconfig or the pod's own credentials anew. Therefore a replaced token, certificate or kubeconfig is used
/// from the next connection on.
pub(super) async fn connect(source: &Kubernetes) -> Result<Api, Failure> {
    let source = source.clone();
    // The client reads files, and runs the plugin of a kubeconfig, without awaiting them.
    let reading = tokio::task::spawn_blocking(move || read(&source));
    let abort = reading.abort_handle();
    match tokio::time::timeout(CREDENTIALS, reading).await {
        Ok(Ok(read)) => read,
        Ok(Err(_)) => Err(Failure::new(Fault::Credentials, "reading the credentials failed")),
        Err(_) => {
            // A plugin that runs ends by itself; one that waits for a thread never starts.
            abort.abort();
            Err(Failure::new(Fault::Credentials, "no credentials in time"))
        }
    }
}

fn read(source: &Kubernetes) -> Result<Api, Failure> {
    let failure = |error: &dyn std::fmt::Display| {
        Failure::new(Fault::Credentials, words(&format!("no credentials: {error}")))
    };
    let mut config = match &source.kubeconfig {
        Some(path) => kubeconfig(path, source.context.as_deref()).map_err(|e| failure(&e))?,
        None => Config::incluster().map_err(|error| {
            let place = "without `kubeconfig` the proxy must run in a pod with a service account";
            failure(&format!("{place}: {error}"))
        })?,
    };
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENCE * 2);
    config.write_timeout = Some(ANSWER);
    // The caller retries, with back-off.
    config.default_retry = false;
    if let Some(plugin) = config.auth_info.exec.as_mut() {
        plugin.interactive_mode = Some(ExecInteractiveMode::Never);
    }
    let host = config.cluster_url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let is_local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let namespace = config.default_namespace.clone();
    let client = ClientBuilder::try_from(config).map_err(|error| failure(&error))?.build();
    Ok(Api { client, namespace, is_local })
}

fn kubeconfig(path: &Path, context: Option<&str>) -> Result<Config, String> {
    let file = Kubeconfig::read_from(path).map_err(|error| error.to_string())?;
    let context = context.map(str::to_owned);
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    // Nothing in this future waits.
    let loading = Config::from_custom_kubeconfig(file, &options);
    tokio::runtime::Handle::current().block_on(loading).map_err(|error| error.to_string())
}

impl Api {
    /// A server on this host behind a client.
    #[cfg(test)]
    pub(super) fn at(client: kube::Client) -> Api {
        let namespace = client.default_namespace().to_owned();
        Api { client, namespace, is_local: true }
    }

    /// The slices of a Service, and the version of the list.
    pub(super) async fn list(
        &self,
        namespace: &str,
        service: &str,
    ) -> Result<(Vec<Slice>, String), Failure> {
        let mut params = ListParams::default().labels(&selector(service)).limit(PAGE_SLICES);
        let mut all = Vec::new();
        for _ in 0..PAGES_MAX {
            let request = Requests::new(path(namespace)).list(&params);
            let page = within(ANSWER, "no list", self.page(request)).await?;
            all.extend(page.items);
            match page.metadata.r#continue.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => return Ok((all, page.metadata.resource_version)),
            }
        }
        Err(Failure::new(Fault::TooLarge, format!("a list of more than {PAGES_MAX} pages")))
    }

    async fn page(&self, request: Request) -> Result<Page, Failure> {
        let body = Limited::new(self.send(request).await?, PAGE_BYTES_MAX);
        let bytes = body.collect().await.map_err(|error| match error.is::<LengthLimitError>() {
            true => {
                let text = format!("a page of more than {PAGE_BYTES_MAX} bytes");
                Failure::new(Fault::TooLarge, text)
            }
            false => Failure::connect(&*error),
        })?;
        let page: Page = serde_json::from_slice(&bytes.to_bytes())
            .map_err(|error| Failure::malformed(&error))?;
        if page.kind != "EndpointSliceList" {
            let text = words(&format!("malformed answer: a list of kind {:?}", page.kind));
            return Err(Failure::new(Fault::Malformed, text));
        }
        Ok(page)
    }

    /// Begins a watch after this version.
    pub(super) async fn watch(
        &self,
        namespace: &str,
        service: &str,
        version: &str,
    ) -> Result<Events, Failure> {
        let params = WatchParams::default().labels(&selector(service)).timeout(WATCH_SECONDS);
        let request = Requests::new(path(namespace)).watch(&params, version);
        let body = within(ANSWER, "no answer to the watch", self.send(request)).await?;
        Ok(Events { body, bytes: Vec::new() })
    }

    async fn send(&self, request: Request) -> Result<Body, Failure> {
        let mut request = request
            .map_err(|error| Failure::new(Fault::Malformed, words(&error.to_string())))?
            .map(Body::from);
        let identity = http::HeaderValue::from_static("identity");
        request.headers_mut().insert(http::header::ACCEPT_ENCODING, identity);
        let response = self.client.send(request).await.map_err(|error| match &error {
            kube::Error::Auth(_) => {
                Failure::new(Fault::Credentials, words(&format!("no credentials: {error}")))
            }
            _ => Failure::connect(&error),
        })?;
        let status = response.status();
        match status.as_u16() {
            200 => Ok(response.into_body()),
            code => Err(refused(code, status.canonical_reason().unwrap_or_default())),
        }
    }
}

type Request = Result<http::Request<Vec<u8>>, kube::core::request::Error>;

fn refused(code: u16, text: &str) -> Failure {
    let fault = match code {
        401 => Fault::Unauthorized,
        403 => Fault::Forbidden,
        410 => Fault::Expired,
        _ => Fault::Status,
    };
    Failure::new(fault, words(&format!("the API server answers {code} {text}")))
}

async fn within<T>(
    span: Duration,
    what: &str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::time::timeout(span, work).await.unwrap_or_else(|_| Err(Failure::timeout(what)))
}

fn path(namespace: &str) -> String {
    format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices")
}

fn selector(service: &str) -> String {
    format!("{SERVICE_LABEL}={service}")
}

/// Bounded text of a server or library, on one line.
fn words(text: &str) -> String {
    let line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    line.take(WORDS_MAX).collect()
}

/// What a watch tells.
#[derive(Debug)]
pub(super) enum Told {
    /// A slice is new or has changed.
    Put(Slice),
    /// A slice is gone.
    Removed(Slice),
    /// A bookmark: nothing changed up to this version.
    Version(String),
}

/// The events of a watch.
pub(super) struct Events {
    body: Body,
    /// The beginning of the next event.
    bytes: Vec<u8>,
}

impl Events {
    /// The next events, at least one; `None` at the watch's end. If the future is dropped, no event is lost.
    pub(super) async fn next(&mut self) -> Option<Result<Vec<Told>, Failure>> {
        loop {
            let data = match self.body.frame().await? {
                Ok(frame) => frame.into_data().unwrap_or_default(),
                Err(error) => return Some(Err(Failure::connect(&error))),
            };
            let complete = memchr::memrchr(b'\n', &data).map_or(0, |at| self.bytes.len() + at + 1);
            self.bytes.extend_from_slice(&data);
            let rest = self.bytes.split_off(complete);
            let events = std::mem::replace(&mut self.bytes, rest);
            if self.bytes.len() > EVENT_BYTES_MAX {
                let text = format!("an event of more than {EVENT_BYTES_MAX} bytes");
                return Some(Err(Failure::new(Fault::TooLarge, text)));
            }
            let lines = events.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            let read: Result<Vec<Told>, Failure> = lines.map(event).collect();
            if read.as_ref().map_or(true, |events| !events.is_empty()) {
                return Some(read);
            }
        }
    }
}

fn event(line: &[u8]) -> Result<Told, Failure> {
    let event: WatchEvent<Slice> =
        serde_json::from_slice(line).map_err(|error| Failure::malformed(&error))?;
    Ok(match event {
        WatchEvent::Added(slice) | WatchEvent::Modified(slice) => Told::Put(slice),
        WatchEvent::Deleted(slice) => Told::Removed(slice),
        WatchEvent::Bookmark(bookmark) => Told::Version(bookmark.metadata.resource_version),
        WatchEvent::Error(status) => {
            let Status { code, message, .. } = *status;
            return Err(refused(code, &message));
        }
    })
}
