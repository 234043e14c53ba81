//! Archiving of one file that was examined earlier, provided that it is unchanged.

use super::ancestors::parted_with_retries;
use super::{PushReport, PushRequest, TakenAlong, changed, compress, examine, publish_patiently};
use crate::archive::Archive;
use crate::blocking::blocking;
use crate::error::Error;
use crate::frame::Encoded;
use crate::limit::TimeLimit;
use crate::spool::FileIdentity;

/// Archives a file with all checks of [`push`](super::push), into an open archive. A file that does not have that
/// identity, before and after it is read, is refused.
pub async fn push_unchanged(
    archive: &Archive,
    request: PushRequest,
    identity: FileIdentity,
    limit: &TimeLimit,
) -> Result<PushReport, Error> {
    let (name, path, asked) = (request.name, request.path.clone(), request.clone());
    let (examined, request) = {
        let limit = limit.clone();
        blocking(move || examine(&request, &limit).map(|examined| (examined, request))).await?
    };
    if examined.identity != identity {
        return Err(changed(&path));
    }
    let system = examined.fields.system;
    let compressing = blocking(move || compress(examined, &request));
    let (taken, compressed) = tokio::join!(archive.is_known_taken(system, name), compressing);
    let Encoded { header, content } = compressed?;
    if let Some(parted) = parted_with_retries(archive, system, &asked, limit).await? {
        return Err(parted.error);
    }
    let stored_size = content.size();
    let created = publish_patiently(archive, taken, &header, content, &path, limit).await?;
    Ok(PushReport { header, stored_size, created, along: TakenAlong::default() })
}
