//! Compatibility: archived files in the repository stay readable by every later version.
#![allow(clippy::unwrap_used)]

use std::fs;

use sha2::Digest as _;
use walkeep_core::frame::{Archived, BodyCodec, Digest};

/// Archived file, compression, size and SHA-256 of its original, and magic number.
const SAMPLES: [(&str, BodyCodec, u64, &str, Option<&str>); 3] = [
    (
        // 4 MB, so that the body has several zstd frames.
        "000000010000000000000003",
        BodyCodec::Zstd,
        4 << 20,
        "c3f4bcb1d7a811829ca9d4109bc6ec7d01cf7c09188deffed318ef869c0769b5",
        Some("D110"),
    ),
    (
        "00000002.history",
        BodyCodec::None,
        41,
        "82b135b86f5166347cb97e0a77c36463e1ddcf105bc01853e158c78ccb24679e",
        None,
    ),
    (
        "000000010000000000000005.00000028.backup",
        BodyCodec::Zstd,
        338,
        "da73106748b372bbf7e60f5ba8bc6e1f43402344efa20f38027b66d0b121f52d",
        None,
    ),
];

#[test]
fn the_samples_of_format_1_are_read() {
    for (name, codec, size, sha256, magic) in SAMPLES {
        let file =
            fs::read(format!("{}/../tests/fixtures/format-1/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let mut original = Vec::new();
        let archived = Archived::open(&file[..], file.len() as u64).unwrap();
        let header = archived.decode(&mut original).unwrap();
        let digest = Digest::from(<[u8; 32]>::from(sha2::Sha256::digest(&original)));
        assert_eq!(header.name.to_string(), name);
        assert_eq!(header.codec, codec, "{name}");
        assert_eq!((header.original_size, original.len() as u64), (size, size), "{name}");
        assert_eq!(header.wal_magic.map(|magic| magic.to_string()).as_deref(), magic, "{name}");
        assert_eq!(header.system_identifier.to_string(), "7710564435452542513", "{name}");
        assert_eq!(header.walkeep, "0.1.0", "{name}");
        assert_eq!(digest.to_string(), sha256, "{name}");
    }
}
