//! Checks of a file's content against its header: the first page of a segment, or the text of a history file.

use std::io::{self, Write};

use crate::frame::Header;
use crate::wal::{BackupHistory, LONG_HEADER_BYTES, LongPageHeader, TimelineHistory, WalName};

/// Returns the number of leading bytes that the checks need.
fn bytes_to_check(name: WalName) -> usize {
    if name.segment().is_some() { LONG_HEADER_BYTES } else { usize::MAX }
}

/// Checks the start of a file's content against its header.
pub(crate) fn check_content(header: &Header, beginning: &[u8]) -> Result<(), String> {
    match header.name {
        WalName::Segment(segment) | WalName::Partial(segment) => {
            let page = LongPageHeader::parse(beginning).map_err(|error| error.to_string())?;
            page.check(segment, header.original_size).map_err(|error| error.to_string())?;
            page.check_system(header.system_identifier).map_err(|error| error.to_string())?;
            if header.wal_magic.is_some_and(|magic| magic != page.magic) {
                return Err(format!("its page has the magic {}, its header another one", page.magic));
            }
            Ok(())
        }
        WalName::History(timeline) => {
            TimelineHistory::parse(timeline, beginning).map(drop).map_err(|error| error.to_string())
        }
        WalName::Backup { segment, .. } => {
            BackupHistory::parse(segment, beginning).map(drop).map_err(|error| error.to_string())
        }
    }
}

/// A writer that keeps the first bytes.
pub(crate) struct Beginning<'a, W> {
    file: &'a mut W,
    /// First bytes, as many as [`check_content`] needs.
    pub(crate) kept: Vec<u8>,
    keep: usize,
}

impl<'a, W> Beginning<'a, W> {
    /// Creates a writer for a file of that name.
    pub(crate) fn new(file: &'a mut W, name: WalName) -> Self {
        Self { file, kept: Vec::new(), keep: bytes_to_check(name) }
    }
}

impl<W: Write> Write for Beginning<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        let wanted = self.keep.saturating_sub(self.kept.len()).min(written);
        self.kept.extend(bytes.iter().take(wanted));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Archived;
    use crate::wal::{SystemIdentifier, WalMagic};
    use std::path::Path;

    /// Returns the header of a sample file, and the part of its content that is checked.
    fn sample(name: &str) -> (Header, Vec<u8>) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-1").join(name);
        let bytes = std::fs::read(path).unwrap();
        let mut sink = io::sink();
        let mut beginning = Beginning::new(&mut sink, name.parse().unwrap());
        let archived = Archived::open(&bytes[..], bytes.len() as u64).unwrap();
        let header = archived.decode(&mut beginning).unwrap();
        (header, beginning.kept)
    }

    const SEGMENT: &str = "000000010000000000000003";

    #[test]
    fn only_the_first_header_of_a_segment_is_kept() {
        let (header, beginning) = sample(SEGMENT);
        assert_eq!(beginning.len(), LONG_HEADER_BYTES);
        assert_eq!(check_content(&header, &beginning), Ok(()));
    }

    #[test]
    fn a_segment_that_contradicts_its_first_page_is_refused() {
        let (header, beginning) = sample(SEGMENT);
        let changes: [fn(&mut Header); 4] = [
            |header| header.name = "000000010000000000000004".parse().unwrap(),
            |header| header.system_identifier = SystemIdentifier::new(7).unwrap(),
            |header| header.original_size *= 2,
            |header| header.wal_magic = Some(WalMagic(0xD117)),
        ];
        for change in changes {
            let mut header = header.clone();
            change(&mut header);
            assert!(check_content(&header, &beginning).is_err(), "{header:?}");
        }
        assert!(check_content(&header, &beginning[1..]).is_err());
    }

    #[test]
    fn a_text_file_is_kept_completely_and_must_be_well_formed() {
        for name in ["00000002.history", "000000010000000000000005.00000028.backup"] {
            let (header, content) = sample(name);
            assert_eq!(content.len() as u64, header.original_size, "{name}");
            assert_eq!(check_content(&header, &content), Ok(()), "{name}");
            assert!(check_content(&header, b"no history").is_err(), "{name}");
        }
    }
}
