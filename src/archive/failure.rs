//! What became of a request that did not get what it asked for.

use crate::error::{Error, ErrorKind};

/// What the archive was asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// To create a file, unless it is there.
    Create,
    /// Whether a file is there. A store's answer to that has no body, so no word of the store's own.
    Look,
    /// For a file.
    Read,
    /// What files there are. No key is named, so none can be absent.
    List,
    /// To put a file there, whether it is there or not.
    Write,
    /// To delete a file.
    Delete,
}

/// What its answer means.
pub(super) enum Failure {
    /// A file has that name already.
    Taken,
    /// The store does not understand conditions.
    Unconditional,
    /// Anything else.
    Error(Error),
}

impl Failure {
    /// The error that it is to whoever expects neither of the other two.
    pub(super) fn into_error(self) -> Error {
        let unexpected = |what| Error::new(ErrorKind::Unavailable, what);
        match self {
            Self::Taken => unexpected("the archive already has something under a new name"),
            Self::Unconditional => unexpected("the store does not understand a request without conditions"),
            Self::Error(error) => error,
        }
    }
}
