//! A cluster's endpoint in its own process, so that a test can kill it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

/// An endpoint's process.
pub struct Process {
    child: Child,
    pub address: SocketAddr,
}

impl Process {
    /// Starts a process that answers with this name.
    pub fn start(name: &str) -> Process {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["cluster", name])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Process { child, address: line.trim().parse().unwrap() }
    }

    pub fn signal(&self, signal: &str) {
        kill(&self.child.id().to_string(), signal);
    }

    /// Kills the process without warning.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Sends a signal to a process that this test started.
pub fn kill(id: &str, signal: &str) {
    drop(Command::new("kill").args([&format!("-{signal}"), id]).status());
}

/// An address that is free now.
pub fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The work of such a process until it ends.
pub fn serve(name: &str) -> ! {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap());
    loop {
        let Ok((stream, _)) = listener.accept() else { continue };
        let name = name.to_owned();
        std::thread::spawn(move || drop(answer(stream, &name)));
    }
}

fn answer(mut stream: TcpStream, name: &str) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    // Probes use another path, and succeed.
    let status = if name == "503" { "503 No" } else { "200 OK" };
    let reply =
        |status: &str| format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{name}", name.len());
    let mut head = Vec::new();
    let mut bytes = [0; 4096];
    loop {
        let count = stream.read(&mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        head.extend_from_slice(&bytes[..count]);
        while let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            let probe = head.starts_with(b"GET /healthz ");
            head.drain(..end + 4);
            let status = if probe { "200 OK" } else { status };
            stream.write_all(reply(status).as_bytes())?;
        }
    }
}
