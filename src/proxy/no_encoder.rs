//! A build without the feature `compression`: there are no encoders. The configuration refuses the key.

use crate::decision::compression::Algorithm;
use std::convert::Infallible;
use std::io;

/// Nothing is in flight.
#[derive(Clone, Debug, Default)]
pub struct BytesInFlight(());

/// An encoder, of which there is none.
pub struct Encoder(Infallible);

impl Encoder {
    /// None.
    #[must_use]
    pub fn begin(_: Algorithm, _: Option<u64>, _: &BytesInFlight) -> Option<Encoder> {
        None
    }

    /// Encodes a piece of the body.
    ///
    /// # Errors
    /// Never.
    pub fn write(&mut self, _: &[u8]) -> io::Result<()> {
        match self.0 {}
    }

    /// Ends a block.
    ///
    /// # Errors
    /// Never.
    pub fn flush(&mut self) -> io::Result<()> {
        match self.0 {}
    }

    /// Ends the body.
    ///
    /// # Errors
    /// Never.
    pub fn finish(&mut self) -> io::Result<()> {
        match self.0 {}
    }

    /// The encoded bytes.
    pub fn output(&mut self) -> &mut Vec<u8> {
        match self.0 {}
    }
}
