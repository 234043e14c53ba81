//! Requests to an archive in a store that answers with chosen bytes, for the targets that look at such.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use walkeep::archive::{Archive, ArchivedFile, Created};
use walkeep::error::Error;
use walkeep::frame::Content;
use walkeep_core::wal::{SegmentName, SystemIdentifier, WalName};

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    Create,
    Taken,
    Holds,
    Fetch,
    Inventory,
    Surroundings,
    Lowest,
    Delete,
    Versioning,
    Retained,
}

pub(crate) const QUESTIONS: [(&str, Question); 10] = [
    ("create", Question::Create),
    ("taken", Question::Taken),
    ("holds", Question::Holds),
    ("fetch", Question::Fetch),
    ("inventory", Question::Inventory),
    ("surroundings", Question::Surroundings),
    ("lowest", Question::Lowest),
    ("delete", Question::Delete),
    ("versioning", Question::Versioning),
    ("retained", Question::Retained),
];

/// What was found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// Something that only a success can say.
    Something,
    /// The name is taken.
    Taken,
    /// The file does not exist.
    Nothing,
    /// Nothing, which proves nothing.
    Unknown,
    /// Files were deleted: those with these indices, of three.
    Gone(Vec<usize>),
}

/// Asks the question.
pub(crate) fn ask(archive: &Archive, question: Question) -> Result<Found, Error> {
    runtime().block_on(asked(archive, question))
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => panic!("{error}"),
    })
}

/// Returns the system, and a segment with its neighbours.
fn scene() -> (SystemIdentifier, [SegmentName; 3]) {
    let names = ["000000020000000000000005", "000000020000000000000006", "000000020000000000000007"];
    let (Some(system), [Ok(before), Ok(segment), Ok(after)]) =
        (SystemIdentifier::new(7), names.map(str::parse))
    else {
        panic!("these are names")
    };
    (system, [before, segment, after])
}

async fn asked(archive: &Archive, question: Question) -> Result<Found, Error> {
    let (system, segments) = scene();
    let segment = segments[1];
    let name = WalName::Segment(segment);
    let existence = |exists| if exists { Found::Something } else { Found::Nothing };
    Ok(match question {
        Question::Create => {
            let content = Content::Memory(vec![Bytes::from_static(b"content")]);
            match archive.create(system, name, content).await? {
                Created::New => Found::Something,
                Created::Exists => Found::Taken,
            }
        }
        Question::Taken => existence(archive.is_known_taken(system, name).await?),
        Question::Holds => existence(archive.holds(system, name).await?),
        Question::Fetch => {
            archive.fetch(system, name).await?;
            Found::Something
        }
        Question::Inventory => {
            let inventory = archive.inventory(system).await?;
            assert!(!inventory.files.is_empty(), "an archive without files proves nothing");
            assert!(inventory.files.is_sorted_by_key(|file| file.name));
            Found::Something
        }
        Question::Surroundings => {
            archive.surroundings(system, segment).await?;
            Found::Something
        }
        Question::Lowest => {
            let lowest = archive.lowest_segment(system, segment.timeline()).await?;
            assert!(lowest.is_none_or(|lowest| lowest.timeline() == segment.timeline()));
            Found::Something
        }
        Question::Delete => {
            let since = Timestamp::UNIX_EPOCH;
            let file =
                |segment| ArchivedFile { name: WalName::Segment(segment).into(), since, stored_size: 1 };
            let mut gone = Vec::new();
            let stop = CancellationToken::new();
            archive.delete(system, &segments.map(file), &stop, &mut |index| gone.push(index)).await?;
            gone.sort_unstable();
            Found::Gone(gone)
        }
        Question::Versioning => match archive.versioning().await {
            Some(found) if found.keeps || found.lock.is_some() => Found::Something,
            _ => Found::Unknown,
        },
        Question::Retained => {
            let retained = archive.retained(system, Duration::from_secs(5)).await?;
            assert!(retained.files > 0 || (retained.bytes == 0 && retained.newest.is_none()), "{retained:?}");
            if retained.files > 0 { Found::Something } else { Found::Unknown }
        }
    })
}

/// Returns the complete segments in a listing of all that the archive has of the system.
pub(crate) fn segments_listed(archive: &Archive) -> Result<BTreeSet<SegmentName>, Error> {
    let inventory = runtime().block_on(archive.inventory(scene().0))?;
    let segment = |file: &ArchivedFile| match file.name.wal() {
        WalName::Segment(segment) => Some(segment),
        _ => None,
    };
    Ok(inventory.files.iter().filter_map(segment).collect())
}

/// Checks that an error can be shown: it is one line, and does not contain a secret. Returns the line.
pub(crate) fn check_shown<'a>(error: &Error, secrets: impl IntoIterator<Item = &'a str>) -> String {
    let text = error.report();
    assert!(!text.contains(char::is_control), "{text:?}");
    for secret in secrets {
        assert!(!text.contains(secret), "{secret} is shown: {text:?}");
    }
    text
}
