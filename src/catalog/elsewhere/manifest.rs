//! The `backup_manifest` of a directory.

use std::fs::File;
use std::io;
use std::path::Path;

use jiff::Timestamp;

use super::{failed, open};
use crate::error::Error;
use crate::wal::{BackupManifest, Lsn, SystemIdentifier, TimelineId};

/// Maximum size in bytes. A manifest has a line of some 200 bytes per file of the cluster.
const MAX_BYTES: u64 = 4 << 30;

/// Contents of a manifest that concern WAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    /// Start of replay.
    pub(super) start: (TimelineId, Lsn),
    /// Position that replay must reach. A standby may have followed its primary to a later timeline during the
    /// backup.
    pub(super) stop: (TimelineId, Lsn),
    /// System identifier of the cluster.
    pub(super) system: Option<SystemIdentifier>,
    /// `true` for an incremental backup.
    pub(super) incremental: bool,
    /// Modification time of the manifest, which is the end of the backup.
    pub(super) written: Timestamp,
}

impl Manifest {
    /// Reads the manifest in a directory; `None` if there is none.
    pub(super) fn of(directory: &Path) -> Result<Option<Self>, Error> {
        let path = directory.join("backup_manifest");
        let Some((file, written)) = open(&path)? else { return Ok(None) };
        let manifest = read(file).map_err(|error| failed(&path, "cannot read").because(error))?;
        let (start, stop) =
            manifest.ends().ok_or_else(|| failed(&path, "cannot make sense of the WAL-Ranges in"))?;
        let incremental = manifest.is_incremental();
        Ok(Some(Self { start, stop, system: manifest.system(), incremental, written }))
    }
}

fn read(file: File) -> serde_json::Result<BackupManifest> {
    serde_json::from_reader(io::BufReader::new(io::Read::take(file, MAX_BYTES)))
}
