//! The header of an archived file: layout, fields and verification. Source: `docs/format.md`.
//!
//! | offset | length | content |
//! | --- | --- | --- |
//! | 0 | 4 | 0x184D2A57, little-endian: a zstd skippable frame |
//! | 4 | 4 | n, the length of the rest of the header, little-endian |
//! | 8 | n - 66 | a JSON object, padded with spaces |
//! | n - 58 | 1 | line feed |
//! | n - 57 | 64 | SHA-256 of all bytes before it, in hexadecimal |
//! | n + 7 | 1 | line feed |

use std::fmt::Display;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Digest, FrameError, HostName, host};
use crate::wal::{SegmentSize, SystemIdentifier, WalMagic, WalName};

/// Format that this walkeep writes, and the newest that it reads.
const FORMAT: u32 = 1;

const MAGIC: u32 = 0x184D_2A57;

/// Length of the magic number and the length field, with which every zstd skippable frame begins.
pub(super) const PREFIX_BYTES: usize = 8;

/// Length of two line feeds and the digest between them.
const SEAL_BYTES: usize = Digest::TEXT_BYTES + 2;

/// Header sizes are multiples of this. In practice all headers have this size, so `tail -c +1025` prints the body.
const PADDED_TO: usize = 1024;

/// Maximum size of a header in bytes. A longer one is treated as damage.
const MAX_HEADER_BYTES: usize = 64 << 10;

/// Maximum size of a timeline history file or backup history file that is archived or restored, in bytes.
pub const MAX_TEXT_BYTES: u64 = 1 << 20;

/// Header of an archived file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    format: u32,
    /// Name of the WAL file.
    #[serde(with = "text")]
    pub name: WalName,
    /// Size of the WAL file in bytes.
    pub original_size: u64,
    /// BLAKE3 of the WAL file. Two files have the same content if this is equal.
    #[serde(with = "text")]
    pub blake3: Digest,
    /// Compression of the body.
    pub codec: BodyCodec,
    /// Encryption of the body.
    encryption: Encryption,
    /// Size of the body in bytes.
    pub body_size: u64,
    /// SHA-256 of the body.
    #[serde(with = "text")]
    pub sha256: Digest,
    /// System identifier of the cluster. A JSON string, because JSON readers round numbers of this size.
    #[serde(with = "text")]
    pub system_identifier: SystemIdentifier,
    /// Magic number of a segment's first page; `None` for text files.
    #[serde(with = "magic", default, skip_serializing_if = "Option::is_none")]
    pub wal_magic: Option<WalMagic>,
    /// Time of archiving.
    pub archived_at: Timestamp,
    /// Version of walkeep that wrote the file.
    pub walkeep: String,
    /// Host that archived it, if known.
    #[serde(deserialize_with = "host::deserialize", default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
}

/// Compression of a body: the part of [`Codec`](super::Codec) that a reader needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BodyCodec {
    /// One or more zstd frames.
    Zstd,
    /// The original bytes.
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encryption {
    None,
    Age,
}

/// The fields that are read before the format is known.
#[derive(Deserialize)]
struct Probe {
    format: u32,
    walkeep: Option<String>,
}

/// Facts that [`encode`](super::encode) measures for the header.
#[derive(Clone, Copy)]
pub(super) struct Measured {
    pub(super) original_size: u64,
    pub(super) blake3: Digest,
    pub(super) body_size: u64,
    pub(super) sha256: Digest,
}

impl Header {
    pub(super) fn new(fields: &super::HeaderFields, codec: BodyCodec, measured: Measured) -> Self {
        Self {
            format: FORMAT,
            name: fields.name,
            original_size: measured.original_size,
            blake3: measured.blake3,
            codec,
            encryption: Encryption::None,
            body_size: measured.body_size,
            sha256: measured.sha256,
            system_identifier: fields.system,
            wal_magic: fields.wal_magic,
            archived_at: fields.archived_at,
            walkeep: env!("CARGO_PKG_VERSION").to_owned(),
            host: fields.host.clone(),
        }
    }

    /// Returns the bytes of the header, from the magic number to the last line feed.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let json = serde_json::to_vec(self)?;
        let total = (PREFIX_BYTES + json.len() + SEAL_BYTES).next_multiple_of(PADDED_TO);
        let length = u32::try_from(total - PREFIX_BYTES).map_err(serde::ser::Error::custom)?;
        let mut bytes = Vec::with_capacity(total);
        bytes.extend(MAGIC.to_le_bytes());
        bytes.extend(length.to_le_bytes());
        bytes.extend(json);
        bytes.resize(total - SEAL_BYTES, b' ');
        bytes.push(b'\n');
        let seal = Digest::sha256(&bytes);
        bytes.extend(format!("{seal}\n").into_bytes());
        Ok(bytes)
    }

    /// Returns the number of bytes that follow the first eight.
    pub(super) fn length_of_rest(prefix: [u8; PREFIX_BYTES]) -> Result<usize, FrameError> {
        let [m0, m1, m2, m3, l0, l1, l2, l3] = prefix;
        if u32::from_le_bytes([m0, m1, m2, m3]) != MAGIC {
            return Err(FrameError::Damaged("it does not begin with walkeep's header".into()));
        }
        usize::try_from(u32::from_le_bytes([l0, l1, l2, l3]))
            .ok()
            .filter(|rest| (SEAL_BYTES..=MAX_HEADER_BYTES).contains(rest))
            .ok_or_else(|| FrameError::Damaged("its header has an impossible length".into()))
    }

    /// Parses a whole header, including the first eight bytes, of an archived file of `stored_size` bytes.
    pub(super) fn parse(bytes: &[u8], stored_size: u64) -> Result<Self, FrameError> {
        let json = sealed_json(bytes)
            .ok_or_else(|| FrameError::Damaged("its header does not match the header's own digest".into()))?;
        let malformed = |error: serde_json::Error| {
            FrameError::Damaged(format!("its header is not what format {FORMAT} defines ({error})"))
        };
        let probe: Probe = serde_json::from_slice(json).map_err(malformed)?;
        if probe.format != FORMAT {
            let walkeep = probe.walkeep.unwrap_or_else(|| "a newer version".to_owned());
            return Err(FrameError::Newer { format: probe.format, walkeep });
        }
        let header: Self = serde_json::from_slice(json).map_err(malformed)?;
        header.check_sizes(bytes.len() as u64, stored_size)?;
        match header.encryption {
            Encryption::None => Ok(header),
            Encryption::Age => Err(FrameError::Encrypted),
        }
    }

    /// Verifies all lengths before anything is allocated or read by them.
    fn check_sizes(&self, header_bytes: u64, stored_size: u64) -> Result<(), FrameError> {
        if self.body_size.checked_add(header_bytes) != Some(stored_size) {
            return Err(FrameError::Damaged(format!(
                "it has {stored_size} bytes, but its header speaks of {header_bytes} + {}",
                self.body_size
            )));
        }
        let possible = match self.name {
            WalName::Segment(_) | WalName::Partial(_) => SegmentSize::new(self.original_size).is_ok(),
            WalName::History(_) | WalName::Backup { .. } => self.original_size <= MAX_TEXT_BYTES,
        };
        if possible {
            Ok(())
        } else {
            Err(FrameError::Damaged(format!("its header names an impossible size, {}", self.original_size)))
        }
    }
}

/// Returns the JSON of a header after verifying its digest.
fn sealed_json(bytes: &[u8]) -> Option<&[u8]> {
    let (before, seal) = bytes.split_at_checked(bytes.len().checked_sub(SEAL_BYTES - 1)?)?;
    let seal = std::str::from_utf8(seal).ok()?.strip_suffix('\n')?;
    (seal.parse() == Ok(Digest::sha256(before))).then(|| before.get(PREFIX_BYTES..)).flatten()
}

/// Serialization of values as text.
mod text {
    use super::{Deserialize, Deserializer, Display, FromStr, Serializer};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Serialization of a magic number as four hexadecimal digits.
mod magic {
    use super::{Deserialize, Deserializer, Serializer, WalMagic};

    #[allow(clippy::ref_option, clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(magic: &Option<WalMagic>, to: S) -> Result<S::Ok, S::Error> {
        match magic {
            Some(magic) => to.collect_str(magic),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<WalMagic>, D::Error> {
        let Some(text) = Option::<String>::deserialize(from)? else { return Ok(None) };
        u16::from_str_radix(&text, 16).map(|magic| Some(WalMagic(magic))).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let fields = super::super::HeaderFields {
            name: "000000010000000000000001".parse().unwrap(),
            system: SystemIdentifier::new(u64::MAX).unwrap(),
            wal_magic: Some(WalMagic(0xD110)),
            archived_at: "2026-01-02T03:04:05Z".parse().unwrap(),
            host: HostName::of("db1"),
        };
        let digest = Digest::sha256(b"");
        let measured = Measured { original_size: 1 << 20, blake3: digest, body_size: 7, sha256: digest };
        Header::new(&fields, BodyCodec::Zstd, measured)
    }

    /// Builds a header from JSON and adds a valid digest.
    fn sealed(json: &str) -> Vec<u8> {
        let mut bytes = MAGIC.to_le_bytes().to_vec();
        bytes.extend(u32::try_from(json.len() + SEAL_BYTES).unwrap().to_le_bytes());
        bytes.extend(json.bytes());
        bytes.push(b'\n');
        let seal = Digest::sha256(&bytes);
        bytes.extend(format!("{seal}\n").bytes());
        bytes
    }

    fn parse(bytes: &[u8], body: u64) -> Result<Header, FrameError> {
        Header::parse(bytes, bytes.len() as u64 + body)
    }

    #[test]
    fn a_header_is_1024_bytes_and_survives_the_round_trip() {
        let bytes = header().to_bytes().unwrap();
        assert_eq!(bytes.len(), 1024);
        assert_eq!(Header::length_of_rest(bytes[..8].try_into().unwrap()).unwrap(), 1016);
        assert_eq!(parse(&bytes, 7).unwrap(), header());
    }

    #[test]
    fn a_header_of_any_length_is_padded_to_whole_kib() {
        for more in 400..700 {
            let long = Header { walkeep: "1".repeat(more), ..header() };
            let bytes = long.to_bytes().unwrap();
            let needed = PREFIX_BYTES + serde_json::to_vec(&long).unwrap().len() + SEAL_BYTES;
            assert_eq!(bytes.len(), if needed <= 1024 { 1024 } else { 2048 }, "{more}");
            assert_eq!(parse(&bytes, 7).unwrap(), long, "{more}");
        }
    }

    #[test]
    fn the_longest_header_has_1024_bytes() {
        let longest = Header {
            name: "000000010000000000000001.00000028.backup".parse().unwrap(),
            original_size: u64::MAX,
            body_size: u64::MAX,
            archived_at: "2026-01-02T03:04:05.123456789Z".parse().unwrap(),
            walkeep: "65535.65535.65535-rc.65535".to_owned(),
            host: HostName::of(&"x".repeat(1000)),
            ..header()
        };
        assert_eq!(longest.to_bytes().unwrap().len(), 1024);
    }

    #[test]
    fn a_host_is_optional_and_never_a_reason_to_refuse_a_file() {
        let json = serde_json::to_string(&header()).unwrap();
        let without = Header { host: None, ..header() };
        for host in ["", ",\"host\":null", ",\"host\":7", ",\"host\":\"\"", ",\"host\":[{}]"] {
            let changed = json.replace(",\"host\":\"db1\"", host);
            assert_eq!(parse(&sealed(&changed), 7).unwrap(), without, "{host}");
        }
        let hostile = json.replace("db1", &format!("db\\n\\u001b[31m{}", "x".repeat(9000)));
        let host = parse(&sealed(&hostile), 7).unwrap().host.unwrap().to_string();
        assert!(host.starts_with("db___31mx") && host.len() == 64, "{host}");
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let json = serde_json::to_string(&header()).unwrap().replacen('{', "{\"later\":[1,{}],", 1);
        assert_eq!(parse(&sealed(&json), 7).unwrap(), header());
    }

    #[test]
    fn a_newer_format_says_which_walkeep_wrote_it() {
        let error = parse(&sealed("{\"format\":2,\"walkeep\":\"3.1.4\",\"name\":7}"), 7).unwrap_err();
        assert!(matches!(&error, FrameError::Newer { format: 2, .. }), "{error:?}");
        assert!(error.to_string().contains("3.1.4"), "{error}");
    }

    #[test]
    fn an_encrypted_body_is_an_error_of_its_own() {
        let json = serde_json::to_string(&header())
            .unwrap()
            .replace("\"encryption\":\"none\"", "\"encryption\":\"age\"");
        assert!(matches!(parse(&sealed(&json), 7), Err(FrameError::Encrypted)));
    }

    #[test]
    fn every_length_in_a_header_is_verified() {
        let json = serde_json::to_string(&header()).unwrap();
        for (from, to) in [
            ("\"body_size\":7", "\"body_size\":8"),
            ("\"body_size\":7", "\"body_size\":18446744073709551615"),
            ("\"body_size\":7", "\"body_size\":-7"),
            ("\"original_size\":1048576", "\"original_size\":1048577"),
            ("\"original_size\":1048576", "\"original_size\":2147483648"),
            ("000000010000000000000001", "00000002.history\",\"x\":\""),
        ] {
            let changed = json.replace(from, to);
            assert_ne!(changed, json);
            let outcome = parse(&sealed(&changed), 7);
            if to.contains("history") {
                assert!(outcome.is_ok(), "1 MiB is the most a text file may have");
                let larger = changed.replace("1048576", "1048577");
                assert!(matches!(parse(&sealed(&larger), 7), Err(FrameError::Damaged(_))));
            } else {
                assert!(matches!(outcome, Err(FrameError::Damaged(_))), "{to}: {outcome:?}");
            }
        }
        for length in [0, 65, 65_537, u32::MAX] {
            let mut prefix = [0; 8];
            prefix[..4].copy_from_slice(&MAGIC.to_le_bytes());
            prefix[4..].copy_from_slice(&length.to_le_bytes());
            assert!(Header::length_of_rest(prefix).is_err(), "{length}");
        }
    }
}
