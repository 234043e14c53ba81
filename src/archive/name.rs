//! Names of archived files: the WAL name. If two servers were promoted within one segment, there are two `.partial`
//! files of one name, and the later one has its content in its name as well. No server asks for such a name.

use std::fmt;
use std::str::FromStr;

use crate::frame::{Digest, Header};
use crate::wal::{NameError, SegmentName, SystemIdentifier, WalName};

/// The name of an archived file: a WAL name, or `000000010000000A000000FF.partial.` followed by the BLAKE3 of its
/// content.
///
/// A second `.partial` sorts after the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArchivedName {
    wal: WalName,
    content: Option<Digest>,
}

impl From<WalName> for ArchivedName {
    fn from(wal: WalName) -> Self {
        Self { wal, content: None }
    }
}

impl ArchivedName {
    /// Creates a name with the content; `None` unless `wal` is a `.partial`.
    #[must_use]
    pub fn by_content(wal: WalName, content: Digest) -> Option<Self> {
        matches!(wal, WalName::Partial(_)).then_some(Self { wal, content: Some(content) })
    }

    /// Returns the WAL name, which the server and the header use.
    #[must_use]
    pub fn wal(self) -> WalName {
        self.wal
    }

    /// Returns the BLAKE3 in the name.
    #[must_use]
    pub fn content(self) -> Option<Digest> {
        self.content
    }

    /// Returns the segment whose WAL the file contains, whole or in part.
    #[must_use]
    pub fn segment(self) -> Option<SegmentName> {
        self.wal.segment()
    }
}

/// Difference between a file and its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    /// It comes from another cluster.
    System,
    /// Its WAL name is another one.
    Name,
    /// Its content is not that in its name.
    Content,
}

impl ArchivedName {
    /// Checks by its header that the file under this name is the one that the name says.
    pub fn check(self, system: SystemIdentifier, header: &Header) -> Result<(), Mismatch> {
        if header.system_identifier != system {
            Err(Mismatch::System)
        } else if header.name != self.wal {
            Err(Mismatch::Name)
        } else if self.content.is_some_and(|content| content != header.blake3) {
            Err(Mismatch::Content)
        } else {
            Ok(())
        }
    }
}

impl fmt::Display for ArchivedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.content {
            None => self.wal.fmt(f),
            Some(content) => write!(f, "{}.{content}", self.wal),
        }
    }
}

impl FromStr for ArchivedName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let by_content = || {
            let (wal, content) = text.rsplit_once('.')?;
            Self::by_content(wal.parse().ok()?, content.parse().ok()?)
        };
        by_content().map_or_else(|| text.parse::<WalName>().map(Self::from), Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Archived;
    use std::path::Path;

    #[test]
    fn a_file_matches_its_name_or_the_difference_is_known() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-1/00000002.history");
        let bytes = std::fs::read(path).unwrap();
        let archived = Archived::open(&bytes[..], bytes.len() as u64).unwrap();
        let mut header = archived.header().clone();
        let system = header.system_identifier;
        let name = ArchivedName::from(header.name);
        let other = SystemIdentifier::new(7).unwrap();
        assert_eq!(name.check(system, &header), Ok(()));
        assert_eq!(name.check(other, &header), Err(Mismatch::System));
        let other = ArchivedName::from("00000003.history".parse::<WalName>().unwrap());
        assert_eq!(other.check(system, &header), Err(Mismatch::Name));

        header.name = "0000000A000000160000003C.partial".parse().unwrap();
        let by_content = |content| ArchivedName::by_content(header.name, content).unwrap();
        assert_eq!(by_content(header.blake3).check(system, &header), Ok(()));
        assert_eq!(by_content(Digest::from([0; 32])).check(system, &header), Err(Mismatch::Content));
        assert_eq!(ArchivedName::from(header.name).check(system, &header), Ok(()));
    }

    const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_second_partial_has_its_content_in_its_name_and_sorts_after_the_first() {
        let partial = "0000000A000000160000003C.partial";
        let text = format!("{partial}.{DIGEST}");
        let second: ArchivedName = text.parse().unwrap();
        assert_eq!(second.to_string(), text);
        assert_eq!(second.wal(), partial.parse().unwrap());
        assert_eq!(second.content(), Some(DIGEST.parse().unwrap()));
        assert!(second > ArchivedName::from(second.wal()));
        assert!(text.parse::<WalName>().is_err(), "no server has such a name");
    }

    #[test]
    fn nothing_else_has_its_content_in_its_name() {
        for name in
            ["0000000A000000160000003C", "0000000A.history", "0000000A000000160000003C.00C00028.backup"]
        {
            assert_eq!(name.parse::<ArchivedName>().unwrap(), name.parse::<WalName>().unwrap().into());
            assert!(format!("{name}.{DIGEST}").parse::<ArchivedName>().is_err(), "{name}");
        }
        for odd in [&DIGEST[1..], &DIGEST.to_uppercase(), ""] {
            assert!(format!("0000000A000000160000003C.partial.{odd}").parse::<ArchivedName>().is_err());
        }
    }
}
