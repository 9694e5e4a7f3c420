//! One client: its keep-alive connection, and the outcome of each of its requests.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// The client's timeout without a byte.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The sender of requests, by address.
#[derive(Clone, Copy, PartialEq)]
pub enum Who {
    /// Many clients: each connection has its own address, from 127.0.1.1 on, up to 250.
    Others,
    /// One client, 127.0.0.2, with all its connections.
    One,
}

impl Who {
    /// The address of the connection with this number.
    pub fn address(self, number: usize) -> Ipv4Addr {
        match self {
            Who::Others => Ipv4Addr::new(127, 0, 1, 1 + (number % 250) as u8),
            Who::One => Ipv4Addr::new(127, 0, 0, 2),
        }
    }
}

/// The outcome of one request.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// An endpoint with this name answered, with any status.
    Served(String),
    /// The proxy answered with this status, and Tidegate's reason.
    Refused(String),
    /// No complete response arrived.
    Failed(String),
}

/// An error, and whether the request may have been processed, so that a client does not repeat it.
struct Lost {
    error: io::Error,
    acted_on: bool,
}

/// A client that requests one path.
pub struct Client {
    from: Ipv4Addr,
    to: SocketAddr,
    path: String,
    kept: Option<TcpStream>,
}

impl Client {
    pub fn new(from: Ipv4Addr, to: SocketAddr, path: &str) -> Client {
        Client { from, to, path: path.to_owned(), kept: None }
    }

    /// Sends a GET. A kept connection that turns out to be closed is replaced once, as browsers do.
    pub fn get(&mut self) -> Outcome {
        let kept = self.kept.is_some();
        let mut result = self.attempt();
        if kept && result.as_ref().is_err_and(|lost| !lost.acted_on) {
            result = self.attempt();
        }
        result.unwrap_or_else(|lost| Outcome::Failed(lost.error.to_string()))
    }

    fn attempt(&mut self) -> Result<Outcome, Lost> {
        let mut stream = match self.kept.take() {
            Some(stream) => stream,
            None => {
                let connected = connect(self.from, self.to);
                connected.map_err(|error| Lost { error, acted_on: true })?
            }
        };
        let sent = send(&mut stream, &self.path);
        sent.map_err(|error| Lost { error, acted_on: false })?;
        let mut answer = Vec::new();
        let (end, head) = loop {
            if let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
                break (end + 4, String::from_utf8_lossy(&answer[..end]).into_owned());
            }
            more(&mut stream, &mut answer)?;
        };
        let field = |name: &str| {
            let mut pairs = head.lines().filter_map(|line| line.split_once(':'));
            pairs.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
        };
        let length = field("content-length").and_then(|text| text.parse::<usize>().ok());
        while answer.len() < end + length.unwrap_or(0) {
            more(&mut stream, &mut answer)?;
        }
        let closes = field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        // Without a length the body ends with the connection.
        if !closes && length.is_some() {
            self.kept = Some(stream);
        }
        let status = head.lines().next().unwrap_or_default().split(' ').nth(1).unwrap_or_default();
        Ok(match field("x-who") {
            Some(who) => Outcome::Served(who.to_owned()),
            None => {
                let reason = field("tidegate-refusal").unwrap_or_default();
                Outcome::Refused(format!("{status} {reason}").trim().to_owned())
            }
        })
    }
}

fn more(stream: &mut TcpStream, answer: &mut Vec<u8>) -> Result<(), Lost> {
    let mut bytes = [0; 16_384];
    let begun = !answer.is_empty();
    match stream.read(&mut bytes) {
        Ok(0) => {
            Err(Lost { error: io::Error::other("closed before the answer ended"), acted_on: begun })
        }
        Ok(count) => {
            answer.extend_from_slice(&bytes[..count]);
            Ok(())
        }
        Err(error) => {
            let acted_on = begun || error.kind() == io::ErrorKind::WouldBlock;
            Err(Lost { error, acted_on })
        }
    }
}

/// A connection to the proxy from this address.
pub fn connect(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect_timeout(&to.into(), PATIENCE)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends a GET.
pub fn send(stream: &mut TcpStream, path: &str) -> io::Result<()> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\n\r\n").as_bytes())
}
