//! Asking a service whether a request may pass: 2xx is yes, 401 asks for credentials, anything else is no.
//!
//! Who cannot be asked lets nobody in.

use super::{Asked, Refused};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;

/// For all of it: connecting, asking, the answer's head.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Fields of the request that the service is shown.
const SHOWN: [&str; 4] = ["authorization", "cookie", "user-agent", "x-request-id"];

/// The service.
#[derive(Debug)]
pub struct Service {
    authority: String,
    target: String,
}

impl Service {
    /// By its host and port, and its path.
    #[must_use]
    pub fn new(authority: &str, target: &str) -> Service {
        Service { authority: authority.to_owned(), target: target.to_owned() }
    }

    /// Asks it.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn ask(&self, asked: &Asked<'_>) -> Result<(), Refused> {
        let answer = tokio::time::timeout(ANSWER_MAX, Box::pin(self.exchange(asked))).await;
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                tracing::debug!(%error, service = self.authority, "nobody could be asked");
                return Err(Refused::Unavailable);
            }
            Err(_) => return Err(Refused::Unavailable),
        };
        match answer.status().as_u16() {
            200..300 => Ok(()),
            401 => {
                let told = answer.headers().get("www-authenticate");
                let told = told.and_then(|told| told.to_str().ok()).unwrap_or("Bearer");
                Err(Refused::Unauthorized(told.to_owned()))
            }
            500.. => Err(Refused::Unavailable),
            _ => Err(Refused::Forbidden),
        }
    }

    async fn exchange(&self, asked: &Asked<'_>) -> io::Result<http::Response<()>> {
        let stream = TcpStream::connect(&self.authority).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let request = self.request(asked).map_err(io::Error::other)?;
        let answering = sender.send_request(request);
        tokio::pin!(connection, answering);
        // The connection moves only while it is polled: both, until there is an answer.
        let answer = tokio::select! {
            biased;
            answer = &mut answering => answer,
            ended = &mut connection => {
                ended.map_err(io::Error::other)?;
                answering.await
            }
        };
        let (parts, _unread) = answer.map_err(io::Error::other)?.into_parts();
        Ok(http::Response::from_parts(parts, ()))
    }

    fn request(&self, asked: &Asked<'_>) -> http::Result<http::Request<Empty<Bytes>>> {
        let mut request = http::Request::get(&self.target)
            .header("host", &self.authority)
            .header("connection", "close")
            .header("x-forwarded-for", asked.client.to_string())
            .header("x-forwarded-method", asked.method)
            .header("x-forwarded-host", asked.host)
            .header("x-forwarded-uri", asked.target);
        for name in SHOWN {
            if let Some(value) = (asked.field)(name) {
                request = request.header(name, value);
            }
        }
        request.body(Empty::new())
    }
}
