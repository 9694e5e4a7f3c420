//! The methods of KEDA's external scaler.
//!
//! The metric of a scaled object is its number of replicas, and its target is 1, so an autoscaler neither divides nor
//! multiplies. Every proxy answers with the sum over the fleet, since KEDA asks one proxy after the other.

use super::call::{Answer, Code, Gone, READ, Status, deadline, read};
use super::figures::Row;
use super::message::{self, METRIC, Scaled};
use super::{Figures, Scaling};
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Method as Verb, Request, StatusCode};
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};

/// The methods of the service, in the order of their counters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Method {
    IsActive,
    StreamIsActive,
    GetMetricSpec,
    StreamMetricSpec,
    GetMetrics,
    Other,
}

impl Method {
    pub(super) const ALL: [Method; 6] = [
        Method::IsActive,
        Method::StreamIsActive,
        Method::GetMetricSpec,
        Method::StreamMetricSpec,
        Method::GetMetrics,
        Method::Other,
    ];

    /// The method's name in paths and metrics.
    pub(super) fn label(self) -> &'static str {
        match self {
            Method::IsActive => "IsActive",
            Method::StreamIsActive => "StreamIsActive",
            Method::GetMetricSpec => "GetMetricSpec",
            Method::StreamMetricSpec => "StreamMetricSpec",
            Method::GetMetrics => "GetMetrics",
            Method::Other => "other",
        }
    }

    fn of(path: &str) -> Method {
        let name = path.strip_prefix("/externalscaler.ExternalScaler/").unwrap_or_default();
        let known = Method::ALL.into_iter().find(|method| method.label() == name);
        known.unwrap_or(Method::Other)
    }
}

/// Serves one call.
pub(super) async fn serve(
    scaling: Arc<Scaling>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let (head, mut body) = request.into_parts();
    let mut answer = Answer::new(respond);
    let content_type = head.headers.get(http::header::CONTENT_TYPE);
    if head.method != Verb::POST {
        return answer.refuse_http(StatusCode::METHOD_NOT_ALLOWED);
    }
    if !crate::http::grpc::is_grpc(content_type.map(http::HeaderValue::as_bytes)) {
        return answer.refuse_http(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let method = Method::of(head.uri.path());
    let due = deadline(&head.headers);
    let status = match run(&scaling, method, &mut body, &mut answer, due).await {
        Ok(status) => status,
        Err(Gone) => return scaling.counters.count(method, Code::Cancelled),
    };
    scaling.counters.count(method, status.code);
    if answer.end(&status).is_err() {
        tracing::debug!(method = method.label(), "scaler: status not sent: the client has gone");
    }
}

async fn run(
    scaling: &Scaling,
    method: Method,
    body: &mut RecvStream,
    answer: &mut Answer,
    due: Option<Instant>,
) -> Result<Status, Gone> {
    if method == Method::Other {
        let message = "the methods are those of externalscaler.ExternalScaler";
        return Ok(Status::new(Code::Unimplemented, message));
    }
    let complete = Instant::now() + READ;
    let request = match timeout_at(due.map_or(complete, |due| due.min(complete)), read(body)).await
    {
        Ok(Ok(request)) => request,
        Ok(Err(status)) => return Ok(status),
        Err(_) => return Ok(Status::late()),
    };
    let scaled = match scaled(method, &request) {
        Ok(scaled) => scaled,
        Err(status) => return Ok(status),
    };
    let row = match scaling.figures().row(&scaled) {
        Ok(row) => row,
        Err(problem) => return Ok(Status::new(Code::InvalidArgument, problem)),
    };
    match method {
        Method::IsActive | Method::GetMetrics if !scaling.figures().is_evidence(row) => {
            let message = "the proxy has just started: it has not measured the demand yet";
            return Ok(Status::new(Code::Unavailable, message));
        }
        Method::IsActive => answer.send(&message::is_active(row.is_active)).await?,
        Method::GetMetrics => answer.send(&message::metrics(row.replicas)).await?,
        Method::GetMetricSpec => answer.send(&message::metric_spec()).await?,
        Method::StreamIsActive | Method::StreamMetricSpec | Method::Other => {
            return stream(scaling, method, &scaled, answer, due).await;
        }
    }
    Ok(Status::ok())
}

/// The scaled object of a request.
fn scaled(method: Method, request: &[u8]) -> Result<Scaled, Status> {
    let wrong = |message: &str| Status::new(Code::InvalidArgument, message);
    if method != Method::GetMetrics {
        return Scaled::read(request).map_err(|_| wrong("the request is not a ScaledObjectRef"));
    }
    let read = message::read_metrics_request(request);
    let (scaled, metric) = read.map_err(|_| wrong("the request is not a GetMetricsRequest"))?;
    match metric.is_empty() || metric == METRIC {
        true => Ok(scaled),
        false => Err(wrong(&format!("the only metric is `{METRIC}`"))),
    }
}

/// Sends the first value, and each change, until the proxy drains: then the stream ends with `OK`, and KEDA connects
/// to another proxy.
async fn stream(
    scaling: &Scaling,
    method: Method,
    scaled: &Scaled,
    answer: &mut Answer,
    due: Option<Instant>,
) -> Result<Status, Gone> {
    let Ok(_permit) = scaling.streams.try_acquire() else {
        return Ok(Status::new(Code::ResourceExhausted, "too many streams"));
    };
    let (mut figures, mut ending) = (scaling.published.subscribe(), scaling.ending.subscribe());
    answer.begin()?;
    let mut told = None;
    loop {
        let next = match next(method, scaled, &figures.borrow_and_update()) {
            Ok(next) => next,
            Err(status) => return Ok(status),
        };
        if next.is_some() && next != told {
            answer.send(next.as_deref().unwrap_or_default()).await?;
            told = next;
        }
        tokio::select! {
            // The drain first, and then the deadline: the stream must end although values keep changing.
            biased;
            _ = ending.wait_for(|ending| *ending) => return Ok(Status::ok()),
            () = over(due) => return Ok(Status::late()),
            () = answer.reset() => return Err(Gone),
            changed = figures.changed() => if changed.is_err() {
                return Ok(Status::ok());
            },
        }
    }
}

/// The message of a stream for these figures; `None` while there is no evidence.
fn next(method: Method, scaled: &Scaled, figures: &Figures) -> Result<Option<Vec<u8>>, Status> {
    let row: Row =
        figures.row(scaled).map_err(|problem| Status::new(Code::InvalidArgument, problem))?;
    Ok(match method {
        Method::StreamMetricSpec => Some(message::metric_spec()),
        _ => figures.is_evidence(row).then(|| message::is_active(row.is_active)),
    })
}

async fn over(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
