//! The server name in a ClientHello, for listeners that pass TLS through.

use rustls::server::Acceptor;
use std::io;

/// A ClientHello that is being read.
#[derive(Default)]
pub struct Hello(Acceptor);

impl std::fmt::Debug for Hello {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hello").finish_non_exhaustive()
    }
}

impl Hello {
    /// Reads further bytes; once the ClientHello is complete, returns its server name, if any.
    ///
    /// # Errors
    /// When the bytes are not a ClientHello.
    pub fn read(&mut self, mut bytes: &[u8]) -> io::Result<Option<Option<String>>> {
        while !bytes.is_empty() {
            self.0.read_tls(&mut bytes)?;
            match self.0.accept() {
                Ok(Some(accepted)) => {
                    return Ok(Some(accepted.client_hello().server_name().map(str::to_owned)));
                }
                Ok(None) => {}
                Err((error, _)) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
        Ok(None)
    }
}
