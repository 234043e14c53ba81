//! Why an archived file could not be made, or read.

use std::io;

/// A WAL file could not be turned into an archived file.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// It could not be read or compressed.
    #[error("cannot read it")]
    Input(#[from] io::Error),
    /// The file for what is too large for memory could not be made or written.
    #[error("cannot write what it was compressed to")]
    Overflow(#[source] io::Error),
}

/// An archived file could not be turned into the WAL file it should hold.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The archived file could not be read to its end; its content may be sound.
    #[error("cannot read it")]
    Read(#[source] io::Error),
    /// What was decoded could not be written.
    #[error("cannot write what was decoded")]
    Write(#[source] io::Error),
    /// The bytes are not those that were archived.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// The file has a format that this version does not know.
    #[error("it has format {format}, which needs walkeep {walkeep} (this is {})", env!("CARGO_PKG_VERSION"))]
    Newer {
        /// The format it has.
        format: u32,
        /// The walkeep that wrote it.
        walkeep: String,
    },
    /// The body is encrypted.
    #[error("its body is encrypted with age, which this version of walkeep cannot decrypt")]
    Encrypted,
}
