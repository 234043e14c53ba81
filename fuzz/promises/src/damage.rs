//! Archived files with damage: what is encoded decodes to the same bytes, and with any byte changed, gone or added it does not
//! decode at all.

use std::num::NonZeroUsize;

use walkeep_core::frame::{Archived, Codec, Content, HeaderFields, Level, Overflow, encode};
use walkeep_core::wal::SystemIdentifier;

/// Panics if the bytes break a promise.
pub fn hold(data: &[u8]) {
    let Some((order, original)) = data.split_first_chunk::<6>() else { return };
    let [codec, how, at @ ..] = *order;
    let codec = match Level::new(i64::from(codec % 4)) {
        Ok(level) => Codec::Zstd(level),
        Err(_) => Codec::None,
    };
    let file = archived(original, codec);
    assert_eq!(decoded(&file).as_deref(), Some(original), "{codec}");

    let at = u32::from_le_bytes(at) as usize % file.len();
    let mut damaged = file.clone();
    match how % 4 {
        0 => damaged[at] ^= (how >> 2).max(1),
        1 => damaged.truncate(at),
        2 => drop(damaged.remove(at)),
        _ => damaged.insert(at, how >> 2),
    }
    if damaged != file {
        assert_eq!(decoded(&damaged), None, "{codec}, damage {} at {at}", how % 4);
    }
}

fn archived(original: &[u8], codec: Codec) -> Vec<u8> {
    let (Ok(name), Some(system)) = ("00000002.history".parse(), SystemIdentifier::new(7)) else {
        return Vec::new();
    };
    let facts =
        HeaderFields { name, system, wal_magic: None, archived_at: jiff::Timestamp::UNIX_EPOCH, host: None };
    match encode(original, &facts, codec, NonZeroUsize::MIN, Overflow::never()) {
        Ok(encoded) => match encoded.content {
            Content::Memory(parts) => parts.concat(),
            Content::Overflow { .. } => panic!("nothing is too large for memory"),
        },
        Err(error) => panic!("{error}"),
    }
}

/// The bytes that a restore would serve, if any.
fn decoded(file: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    let served = Archived::open(file, file.len() as u64).and_then(|archived| archived.decode(&mut content));
    let checked = Archived::open(file, file.len() as u64).and_then(Archived::check_body);
    assert!(checked.is_ok() || served.is_err(), "verify finds damage where a restore does not");
    served.ok().map(|_| content)
}
