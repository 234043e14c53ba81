//! Failures of requests to an archive.

use std::error::Error as StdError;

use crate::error::{Error, ErrorKind, chain};

/// Kind of a request to the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Create a file unless it exists.
    Create,
    /// Look whether a file exists. A store's answer has no body and therefore no message.
    Look,
    /// Read a file.
    Read,
    /// List files. The request has no key, so no file can be absent.
    List,
    /// Write a file, whether it exists or not.
    Write,
    /// Delete a file.
    Delete,
}

/// Meaning of a failed request.
pub(super) enum RequestFailure {
    /// The name is taken.
    Taken,
    /// The store does not support conditions.
    Unconditional,
    /// Any other failure.
    Error(Error),
}

impl RequestFailure {
    /// Returns the error for a caller that handles neither of the other two.
    pub(super) fn into_error(self) -> Error {
        let unexpected = |what| Error::new(ErrorKind::Unavailable, what);
        match self {
            Self::Taken => unexpected("the archive already has something under a new name"),
            Self::Unconditional => unexpected("the store does not understand a request without conditions"),
            Self::Error(error) => error,
        }
    }
}

/// Returns the errors of a chain that say something of their own: those of `object_store` name the library and repeat their cause.
pub(super) fn without_library<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    chain(error).filter(|cause| !(cause.is::<object_store::Error>() && cause.source().is_some()))
}
