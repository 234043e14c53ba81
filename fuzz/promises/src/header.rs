//! Headers of archived files: what is believed of one is what it says, within the bounds that the format sets.

use sha2::{Digest, Sha256};
use walkeep_core::frame::{Archived, MAX_TEXT_BYTES};
use walkeep_core::wal::WalName;

/// Panics if the bytes break a promise.
pub fn hold(data: &[u8]) {
    // As it comes, which is hardly ever under its own digest; and as a writer that is mad or malicious would seal it.
    look(data, data.len() as u64);
    let sealed = sealed(data);
    let says: Option<u64> = serde_json::from_slice::<serde_json::Value>(data)
        .ok()
        .and_then(|json| json.get("body_size")?.as_u64());
    let stored = says.unwrap_or_default().saturating_add(sealed.len() as u64);
    look(&sealed, stored);
    // Nothing passes but under its digest, and with the size that is in it.
    if let Ok(file) = Archived::open(sealed.as_slice(), stored) {
        assert!(Archived::open(sealed.as_slice(), stored.wrapping_add(1)).is_err());
        for at in [0, 4, 8, sealed.len() / 2, sealed.len() - 2] {
            let mut other = sealed.clone();
            other[at] ^= 1;
            assert!(Archived::open(other.as_slice(), stored).is_err(), "byte {at} of {:?}", file.header());
        }
    }
}

fn look(bytes: &[u8], stored: u64) {
    let Ok(file) = Archived::open(bytes, stored) else { return };
    let header = file.header();
    assert!(header.body_size < stored);
    match header.name {
        WalName::Segment(_) | WalName::Partial(_) => {
            assert!(header.original_size.is_power_of_two());
            assert!((1 << 20..=1 << 30).contains(&header.original_size));
        }
        WalName::History(_) | WalName::Backup { .. } => assert!(header.original_size <= MAX_TEXT_BYTES),
    }
    let printed = match serde_json::to_vec(header) {
        Ok(printed) => printed,
        Err(error) => panic!("{header:?} cannot be written: {error}"),
    };
    assert_eq!(serde_json::from_slice::<walkeep_core::frame::Header>(&printed).ok().as_ref(), Some(header));
}

/// The JSON as a header, with magic, length and seal.
fn sealed(json: &[u8]) -> Vec<u8> {
    const SEAL_BYTES: usize = 66;
    let length = u32::try_from(json.len() + SEAL_BYTES).unwrap_or(u32::MAX);
    let mut bytes = 0x184D_2A57_u32.to_le_bytes().to_vec();
    bytes.extend(length.to_le_bytes());
    bytes.extend(json);
    bytes.push(b'\n');
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.extend(digest.into_bytes());
    bytes.push(b'\n');
    bytes
}
