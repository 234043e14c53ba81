//! The cluster that a file belongs to.

use super::PushRequest;
use crate::cluster::Caller;
use crate::error::{Error, ErrorKind};
use crate::wal::SystemIdentifier;

/// Returns the system identifier of the data directory or, without one, the given one.
pub(super) fn system_of_data_directory(
    caller: &Caller,
    given: Option<SystemIdentifier>,
) -> Result<Option<SystemIdentifier>, Error> {
    Ok(caller.data().system_identifier_if(given)?.or(given))
}

/// A text file does not contain its cluster.
pub(super) fn system_of_text(request: &PushRequest) -> Result<SystemIdentifier, Error> {
    let PushRequest { path, caller, system, .. } = request;
    system_of_data_directory(caller, *system)?.ok_or_else(|| {
        let what = format!("cannot tell which cluster {} belongs to", path.display());
        Error::new(ErrorKind::Configuration, what).hint(
            "run walkeep-archive in the data directory, as PostgreSQL does, or give --system-identifier",
        )
    })
}
