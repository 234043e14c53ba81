//! Archived files that no walkeep would write.

use walkeep::frame::Digest;

/// Changes the JSON in an archived file's header, and updates the header's digest.
pub fn resealed(archived: &[u8], from: &str, to: &str) -> Vec<u8> {
    const SEAL_BYTES: usize = 66;
    let json = String::from_utf8(archived[8..1024 - SEAL_BYTES].to_vec()).unwrap();
    let changed = json.trim_end().replace(from, to);
    assert_ne!(changed, json.trim_end(), "{from} is not in the header");
    let mut header = archived[..8].to_vec();
    header.extend(format!("{changed:<width$}\n", width = 1024 - SEAL_BYTES - 8).bytes());
    let seal = hex(<sha2::Sha256 as sha2::Digest>::digest(&header).into());
    header.extend(format!("{seal}\n").bytes());
    [&header, &archived[1024..]].concat()
}

pub fn hex(digest: [u8; 32]) -> String {
    Digest::from(digest).to_string()
}
