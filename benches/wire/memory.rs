//! Idle connections that have each had a request.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

/// Opens connections, each with one request.
pub fn open(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count)
        .map(|_| {
            let mut stream = TcpStream::connect(address).expect("a connection");
            exchange(&mut stream);
            stream
        })
        .collect()
}

/// A TLS connection.
pub type Secure = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

/// Opens TLS connections, each with one request.
pub fn open_tls(address: SocketAddr, certificate: &Path, count: usize) -> Vec<Secure> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    (0..count)
        .map(|_| {
            let name = address.ip().into();
            let client = rustls::ClientConnection::new(config.clone(), name).unwrap();
            let tcp = TcpStream::connect(address).unwrap();
            let mut stream = rustls::StreamOwned::new(client, tcp);
            exchange(&mut stream);
            stream
        })
        .collect()
}

fn exchange(stream: &mut (impl Read + Write)) {
    stream.write_all(b"GET /k1 HTTP/1.1\r\nHost: bench\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while !answer.ends_with(&[b'a'; 1024]) {
        let count = stream.read(&mut part).unwrap();
        assert!(count > 0, "it answers");
        answer.extend_from_slice(&part[..count]);
    }
}
