//! Why an archived file could not be read.

use std::io;

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
