//! Errors of encoding and decoding.

use std::io;

/// Error from encoding a WAL file.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The input could not be read or compressed.
    #[error("cannot read it")]
    Input(#[from] io::Error),
    /// The overflow file could not be created or written.
    #[error("cannot write what it was compressed to")]
    Overflow(#[source] io::Error),
}

/// Error from decoding an archived file.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The archived file could not be read to its end. Its content may be intact.
    #[error("cannot read it")]
    Read(#[source] io::Error),
    /// The output could not be written.
    #[error("cannot write what was decoded")]
    Write(#[source] io::Error),
    /// The bytes are not those that were archived.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// The file has a format newer than this version of walkeep.
    #[error("it has format {format}, which needs walkeep {walkeep} (this is {})", env!("CARGO_PKG_VERSION"))]
    Newer {
        /// Format of the file.
        format: u32,
        /// Version of walkeep that wrote the file.
        walkeep: String,
    },
    /// The body is encrypted.
    #[error("its body is encrypted with age, which this version of walkeep cannot decrypt")]
    Encrypted,
}
