//! The kernel's floor: a relay in one thread that only receives and sends, under epoll.
//!
//! A connection of its own to the cluster for each client, both kept open; no HTTP, no timers, no statistics.

use rustix::event::epoll;
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

/// Relays between `ARGUMENTS[0]`, which it listens on, and `ARGUMENTS[1]`, until it is killed.
pub fn run(arguments: &[String]) {
    let listen: SocketAddr = arguments[0].parse().expect("an address to listen on");
    let cluster: SocketAddr = arguments[1].parse().expect("the cluster's address");
    let listener = TcpListener::bind(listen).expect("the address is free");
    listener.set_nonblocking(true).unwrap();
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let readable = epoll::EventFlags::IN;
    epoll::add(&poll, &listener, epoll::EventData::new_u64(u64::MAX), readable).unwrap();
    let mut streams: HashMap<u64, (TcpStream, u64)> = HashMap::new();
    let mut events = Vec::with_capacity(128);
    let mut space = vec![0; 64 * 1024];
    loop {
        events.clear();
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None).unwrap();
        for event in &events {
            let key = event.data.u64();
            if key == u64::MAX {
                while let Ok((client, _)) = listener.accept() {
                    let Ok(server) = TcpStream::connect(cluster) else { continue };
                    let (one, other) = (client.as_raw_fd() as u64, server.as_raw_fd() as u64);
                    for (stream, key, partner) in [(client, one, other), (server, other, one)] {
                        stream.set_nodelay(true).unwrap();
                        stream.set_nonblocking(true).unwrap();
                        epoll::add(&poll, &stream, epoll::EventData::new_u64(key), readable)
                            .unwrap();
                        streams.insert(key, (stream, partner));
                    }
                }
                continue;
            }
            if !relay(&streams, key, &mut space)
                && let Some((_, partner)) = streams.remove(&key)
            {
                streams.remove(&partner);
            }
        }
    }
}

/// Receives once and sends all of it; `false` when either end is gone.
fn relay(streams: &HashMap<u64, (TcpStream, u64)>, key: u64, space: &mut [u8]) -> bool {
    let Some((from, partner)) = streams.get(&key) else { return true };
    let Some((to, _)) = streams.get(partner) else { return false };
    let count = match (&mut &*from).read(space) {
        Ok(0) => return false,
        Ok(count) => count,
        Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
        Err(_) => return false,
    };
    let mut rest = &space[..count];
    while !rest.is_empty() {
        match (&mut &*to).write(rest) {
            Ok(sent) => rest = &rest[sent..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let mut writable = [rustix::event::PollFd::new(to, rustix::event::PollFlags::OUT)];
                let _ = rustix::event::poll(&mut writable, None);
            }
            Err(_) => return false,
        }
    }
    true
}
