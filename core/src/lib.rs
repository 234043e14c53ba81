//! The rules of PostgreSQL's WAL that an archive depends on, without any I/O: names and contents of WAL files, the part of
//! the WAL that an archive covers, the files that it may delete, and the format of an archived file.
//!
//! All functions take bytes and values and return values. Files are read and written through [`Read`](std::io::Read) and
//! [`Write`](std::io::Write). Nothing here opens a file or a connection, reads a clock or looks at the environment.
//!
//! # Modules
//!
//! Each module uses only those above it in this list:
//!
//! - [`wal`]: names, positions, page headers, records and text files of the WAL.
//! - [`coverage`]: ranges of WAL that an archive has, and how far they recover a base backup.
//! - [`retention`]: archived files that may be deleted, and the reasons why others stay.
//! - [`frame`]: encoder and decoder of the archived file, format 1.
//! - [`error`], [`limit`]: the error type, and the time limit of a call.
//!
//! # Tour
//!
//! [`wal::WalName`] parses file names, and [`coverage::Coverage`] finds the gaps between segments:
//!
//! ```
//! use std::collections::BTreeMap;
//! use walkeep_core::{coverage::Coverage, wal::SegmentSize};
//!
//! let names = ["000000010000000000000002", "000000010000000000000003", "000000010000000000000005"];
//! let names: Vec<_> = names.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
//! let coverage = Coverage::new(SegmentSize::DEFAULT, names, BTreeMap::new());
//! let (_, timeline) = coverage.timelines().next().ok_or("no timeline")?;
//! assert_eq!(timeline.missing(2..=5), [4..=4]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`frame::encode`] creates an archived file, and [`frame::Archived`] reads and verifies it:
//!
//! ```
//! use std::num::NonZeroUsize;
//! use walkeep_core::frame::{Archived, Codec, Content, HeaderFields, HostName, Overflow, encode};
//!
//! let history = b"1\t0/3000000\tno recovery target specified\n";
//! let fields = HeaderFields {
//!     name: "00000002.history".parse()?,
//!     system: "7381092445103374871".parse()?,
//!     wal_magic: None,
//!     archived_at: "2026-01-31T12:00:00Z".parse()?,
//!     host: HostName::of("db1"),
//! };
//! let file = encode(&history[..], &fields, Codec::default(), NonZeroUsize::MIN, Overflow::never())?;
//! let Content::Memory(chunks) = file.content else { return Err("no memory limit was set".into()) };
//! let stored = chunks.concat();
//!
//! let mut restored = Vec::new();
//! let header = Archived::open(&stored[..], stored.len() as u64)?.decode(&mut restored)?;
//! assert_eq!(header.name, fields.name);
//! assert_eq!(restored, history);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A plan what to delete starts from [`retention::decide`], and the meaning of a missing segment for a recovery from
//! [`coverage::MissingSegment`].

pub mod coverage;
pub mod error;
pub mod frame;
pub mod limit;
pub mod retention;
pub mod wal;
