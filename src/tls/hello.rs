//! The name in a client's first words, for those who pass TLS on without ending it.

use rustls::server::Acceptor;
use std::io;

/// A hello that is being read.
#[derive(Default)]
pub struct Hello(Acceptor);

impl std::fmt::Debug for Hello {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hello").finish_non_exhaustive()
    }
}

impl Hello {
    /// Reads on; once the hello is whole, gives the name it asks for, if any.
    ///
    /// # Errors
    /// When this is no hello of TLS.
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
