//! WAL that running servers and their standbys still need under any policy.

use crate::blocking::blocking;
use crate::error::{Error, ErrorKind};
use crate::server::{Need, Server};
use crate::wal::SystemIdentifier;
use crate::work::Work;

/// Asks the servers what they need. A server that does not answer is an error, because it may need the oldest WAL. So
/// is a server of another cluster, which is a mistake in the settings.
pub(super) async fn of(
    servers: Vec<Server>,
    system: SystemIdentifier,
    work: &Work<'_>,
) -> Result<Vec<Need>, Error> {
    let mut needs = Vec::new();
    for server in servers {
        let hint = format!("does the server at {server} answer? --timeout is the limit for that");
        let asking = async { Ok(blocking(move || of_one(&server, system)).await) };
        let asked = work.unless_stopped(asking, super::STOPPED).await;
        // Of what hung otherwise, the archive would be named.
        needs.extend(asked.map_err(|error| if error.is_timeout() { error.hint(hint) } else { error })??);
    }
    Ok(needs)
}

fn of_one(server: &Server, system: SystemIdentifier) -> Result<Vec<Need>, Error> {
    let in_doubt = |error: Error| {
        let hint = error.advice().unwrap_or("is it running, and may this user connect?").to_owned();
        Error::new(ErrorKind::Local, "nothing is deleted, because a server does not say what it still needs")
            .because(error)
            .hint(hint)
    };
    let theirs = server.system_identifier().map_err(in_doubt)?;
    if theirs != system {
        let what = format!(
            "nothing is deleted, because the server at {server} is of system {theirs}, the archive's files are of {system}"
        );
        return Err(Error::new(ErrorKind::Configuration, what).hint("give those of the same cluster"));
    }
    server.needs().map_err(in_doubt)
}
