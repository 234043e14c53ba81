//! Creation, lookups and fetching of files.

use std::{
    fs::File,
    future::poll_fn,
    io::{Read, Write},
    pin::pin,
    sync::Arc,
    task::Poll,
    thread,
};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use walkeep::{
    archive::{Archive, Created, Fetched, StoredFile},
    error::{Error, ErrorKind},
    frame::{Codec, Content, HeaderFields, Overflow, encode},
    wal::{LongPageHeader, SystemIdentifier, WalName},
};

use super::backend::{Backend, Scene, run};
use crate::data_directory::{self, SEGMENT_BYTES};

pub const SEGMENT: &str = "000000010000000000000001";
const NEXT: &str = "000000010000000000000002";
const PARTIAL: &str = "000000010000000000000002.partial";
const HISTORY: &str = "00000002.history";
const BACKUP: &str = "000000010000000000000001.00000028.backup";

/// One name of each kind of file.
pub const NAMES: [&str; 4] = [SEGMENT, PARTIAL, HISTORY, BACKUP];

pub fn name(text: &str) -> WalName {
    text.parse().unwrap()
}

pub fn content(bytes: impl AsRef<[u8]>) -> Content<File> {
    Content::Memory(vec![Bytes::copy_from_slice(bytes.as_ref())])
}

impl Scene<'_> {
    /// Creates a file as a push does. Looks the name up first, as a store without conditions requires.
    pub async fn create(&self, file: &str, content: Content<File>) -> Created {
        self.create_in(self.system, file, content).await
    }

    pub async fn create_in(&self, system: SystemIdentifier, file: &str, content: Content<File>) -> Created {
        if self.archive.is_known_taken(system, name(file)).await.unwrap() {
            return Created::Exists;
        }
        self.archive.create(system, name(file), content).await.unwrap()
    }

    /// Reads a file.
    pub async fn read(&self, file: &str) -> Result<Vec<u8>, Error> {
        read(self.archive.fetch(self.system, name(file)).await?).await
    }
}

/// Reads a fetched file, which must have the announced size.
pub async fn read(fetched: Fetched) -> Result<Vec<u8>, Error> {
    let Fetched { mut reader, stored_size, transfer, .. } = fetched;
    let reading = tokio::task::spawn_blocking(move || {
        let mut read = Vec::new();
        reader.read_to_end(&mut read).map(|_| read)
    });
    let read =
        reading.await.unwrap().map_err(|error| Error::new(ErrorKind::Unavailable, "x").because(error))?;
    drop(transfer);
    assert_eq!(read.len() as u64, stored_size);
    Ok(read)
}

pub fn a_file_is_created_once_and_never_replaced(backend: &dyn Backend) {
    run(async {
        let scene = Scene::new(backend).await;
        for file in NAMES {
            assert_eq!(scene.create(file, content("the first")).await, Created::New, "{file}");
            assert_eq!(scene.create(file, content("another")).await, Created::Exists, "{file}");
            if backend.honours_conditions() {
                let again = scene.archive.create(scene.system, name(file), content("another one")).await;
                assert_eq!(again.unwrap(), Created::Exists, "{file}");
            }
            assert_eq!(scene.read(file).await.unwrap(), b"the first", "{file}");
        }
    });
}

pub fn of_concurrent_creates_of_one_name_one_wins_and_its_file_is_complete(backend: &dyn Backend) {
    const MANY: u8 = 8;
    if !backend.honours_conditions() {
        return;
    }
    let scene = run(Scene::new(backend));
    for round in 0..4u8 {
        let file = format!("0000000100000000000000{round:02X}");
        // Like separate processes, each has an archive and a runtime of its own.
        let create = |number: u8| {
            let options = backend.archive(&scene.name);
            run(async {
                let archive = Archive::open(&options).await.unwrap();
                archive.create(scene.system, name(&file), content(vec![number; 100_000])).await
            })
        };
        let create = &create;
        let outcomes = thread::scope(|scope| {
            let threads: Vec<_> = (0..MANY).map(|number| scope.spawn(move || create(number))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        let mut winners = Vec::new();
        for (number, outcome) in (0..MANY).zip(outcomes) {
            match outcome {
                Ok(Created::New) => winners.push(number),
                Ok(Created::Exists) => {}
                // A store may report a concurrent request as a temporary failure.
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.report()),
            }
        }
        assert_eq!(winners.len(), 1, "{winners:?}");
        assert!(run(scene.read(&file)).unwrap() == vec![winners[0]; 100_000]);
    }
}

pub fn a_file_comes_back_whole_whatever_its_size(backend: &dyn Backend) {
    let pattern = |bytes: usize| -> Vec<u8> {
        (0..bytes).map(|at| u8::try_from((at ^ (at >> 8) ^ (at >> 16)) & 0xFF).unwrap()).collect()
    };
    run(async {
        let scene = Scene::new(backend).await;
        for (number, bytes) in [0, 1, 4095, 100_000, 3 << 20].into_iter().enumerate() {
            let (file, whole) = (format!("0000000100000000000000{number:02X}"), pattern(bytes));
            // In several parts, like a large file.
            let parts = whole.chunks(1 << 20).map(Bytes::copy_from_slice).collect();
            assert_eq!(scene.create(&file, Content::Memory(parts)).await, Created::New);
            assert!(scene.read(&file).await.unwrap() == whole, "{bytes} bytes");
        }
        let whole = pattern(20 << 20);
        let (head, rest) = whole.split_at(77);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(rest).unwrap();
        let head = Bytes::copy_from_slice(head);
        let large = Content::Overflow { head, file: Arc::new(file), bytes: rest.len() as u64 };
        assert_eq!(scene.create(PARTIAL, large.clone()).await, Created::New);
        assert!(scene.read(PARTIAL).await.unwrap() == whole, "what is too large for memory");
        assert_eq!(scene.create(PARTIAL, large).await, Created::Exists);
    });
}

pub fn only_a_file_that_does_not_exist_is_absent(backend: &dyn Backend) {
    run(async {
        let scene = Scene::new(backend).await;
        scene.create(SEGMENT, content("x")).await;
        for file in [NEXT, PARTIAL, HISTORY, BACKUP, "0000000200000000000000FF", "0000000100000009000000FF"] {
            let error = scene.read(file).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Absent, "{file}: {}", error.report());
            assert!(
                error.report().contains(file) && error.report().contains(&scene.name),
                "{}",
                error.report()
            );
        }
        assert_eq!(scene.read(SEGMENT).await.unwrap(), b"x");
    });
}

pub fn an_archive_without_a_file_of_the_system_proves_nothing(backend: &dyn Backend) {
    run(async {
        let scene = Scene::new(backend).await;
        let (archive, system) = (&scene.archive, scene.system);
        // Files of another system and unknown files do not count.
        let other = SystemIdentifier::new(8).unwrap();
        for step in 0..3 {
            match step {
                1 => assert_eq!(scene.create_in(other, SEGMENT, content("x")).await, Created::New),
                2 => scene.put_of_system("wal/README", b"not mine"),
                _ => {}
            }
            let kind = |error: Error| error.kind();
            let segment = name(SEGMENT).segment().unwrap();
            let empty = Some(ErrorKind::Empty);
            assert_eq!(archive.confirm_holds(system).await.err().map(kind), empty, "{step}");
            assert_eq!(archive.surroundings(system, segment).await.err().map(kind), empty, "{step}");
            // Listing a system without files is an error, too.
            let listed = archive.inventory(system).await.unwrap_err();
            assert!(matches!(listed.kind(), ErrorKind::Empty), "{step}: {}", listed.report());
            let fetched = scene.read(SEGMENT).await.unwrap_err();
            assert!(matches!(fetched.kind(), ErrorKind::Empty | ErrorKind::Absent), "{}", fetched.report());
            assert_eq!(archive.newest_segment(system).await.unwrap(), None, "{step}");
        }
        scene.create(HISTORY, content("x")).await;
        archive.confirm_holds(system).await.unwrap();
    });
}

pub fn all_lookups_of_a_file_agree(backend: &dyn Backend) {
    run(async {
        let scene = Scene::new(backend).await;
        let (archive, system) = (&scene.archive, scene.system);
        for file in NAMES {
            let (framed, stored) = framed(system, name(file));
            assert!(!archive.holds(system, name(file)).await.unwrap(), "{file}");
            assert!(!archive.is_known_taken(system, name(file)).await.unwrap(), "{file}");
            assert!(!archive.still_holds(system, name(file), stored).await.unwrap(), "{file}");
            scene.create(file, framed).await;
            assert!(archive.holds(system, name(file)).await.unwrap(), "{file}");
            assert!(archive.make_durable(system, name(file)).await.unwrap(), "{file}");
            // A store with conditions is not asked before the create, which tells.
            let create_tells = archive.conditional_put().1 && archive.is_store();
            assert_eq!(archive.is_known_taken(system, name(file)).await.unwrap(), !create_tells, "{file}");
            // A store cannot tell which of two `.partial` files it has.
            let is_known = backend.is_directory() || file != PARTIAL;
            assert_eq!(archive.still_holds(system, name(file), stored).await.unwrap(), is_known, "{file}");
            let other = StoredFile { bytes: stored.bytes + 1, ..stored };
            assert!(!archive.still_holds(system, name(file), other).await.unwrap(), "{file}");
            assert!(!archive.holds(system, name(NEXT)).await.unwrap());
        }
        let names = NAMES.map(name).into_iter().chain([name(NEXT), name("00000009.history")]);
        let held = archive.held_among(system, names).await.unwrap();
        assert_eq!(held, NAMES.map(name).into());
    });
}

/// Returns an archived file as a push creates it, and the note on it.
fn framed(system: SystemIdentifier, name: WalName) -> (Content<File>, StoredFile) {
    let (original, wal_magic) = match name.segment() {
        Some(segment) if !matches!(name, WalName::Backup { .. }) => {
            let bytes = data_directory::segment(
                &segment.to_string(),
                system.to_string().parse().unwrap(),
                SEGMENT_BYTES,
                1,
            );
            let magic = LongPageHeader::parse(&bytes).unwrap().magic;
            (bytes, Some(magic))
        }
        _ => (b"1\t0/600000\tno recovery target specified\n".to_vec(), None),
    };
    let fields =
        HeaderFields { name, system, wal_magic, archived_at: jiff::Timestamp::UNIX_EPOCH, host: None };
    let never: Overflow<fn() -> std::io::Result<File>> =
        Overflow { beyond: u64::MAX, open: || Err(std::io::Error::other("it is small")) };
    let encoded =
        encode(&original[..], &fields, Codec::default(), std::num::NonZeroUsize::MIN, never).unwrap();
    let stored = StoredFile { bytes: encoded.content.size(), blake3: encoded.header.blake3 };
    (encoded.content, stored)
}

pub fn systems_are_apart(backend: &dyn Backend) {
    run(async {
        let scene = Scene::new(backend).await;
        let archive = &scene.archive;
        let only = async || archive.only_system().await.map_err(|error| error.kind());
        assert_eq!(archive.systems().await.unwrap(), []);
        assert_eq!(only().await, Err(ErrorKind::Empty));
        let systems = [7, 70, 8].map(|number| SystemIdentifier::new(number).unwrap());
        for (number, system) in systems.into_iter().enumerate() {
            scene.create_in(system, SEGMENT, content([b'x'; 9].get(..=number).unwrap())).await;
            let expected = if number == 0 { Ok(system) } else { Err(ErrorKind::Configuration) };
            assert_eq!(only().await, expected);
        }
        scene.put("README", b"not mine");
        scene.put("lost+found/x", b"not mine");
        let [seven, seventy, eight] = systems;
        assert_eq!(archive.systems().await.unwrap(), [seven, eight, seventy]);
        for (number, system) in systems.into_iter().enumerate() {
            let files = archive.inventory(system).await.unwrap().files;
            let listed: Vec<_> = files.iter().map(|file| (file.name, file.stored_size)).collect();
            assert_eq!(listed, [(name(SEGMENT).into(), number as u64 + 1)]);
        }
        let gone = archive.inventory(seven).await.unwrap().files;
        archive.delete(seven, &gone, &CancellationToken::default(), &mut |_| ()).await.unwrap();
        assert!(archive.holds(seventy, name(SEGMENT)).await.unwrap());
        assert!(!archive.holds(seven, name(SEGMENT)).await.unwrap());
    });
}

pub fn archives_in_one_place_are_apart(backend: &dyn Backend) {
    run(async {
        let main = Scene::new(backend).await;
        let others = [format!("{}2", main.name), format!("{}/sub", main.name)];
        main.create(SEGMENT, content("main")).await;
        for other in others {
            let archive = Archive::open(&backend.archive(&other)).await.unwrap();
            assert!(!archive.holds(main.system, name(SEGMENT)).await.unwrap(), "{other}");
            assert_eq!(archive.systems().await.unwrap(), [], "{other}");
            archive.create(main.system, name(SEGMENT), content("other")).await.unwrap();
            assert_eq!(archive.inventory(main.system).await.unwrap().files.len(), 1, "{other}");
        }
        assert_eq!(main.archive.systems().await.unwrap(), [main.system]);
        assert_eq!(main.archive.inventory(main.system).await.unwrap().files[0].stored_size, 4);
        assert_eq!(main.read(SEGMENT).await.unwrap(), b"main");
    });
}

pub fn an_abandoned_create_leaves_a_whole_file_or_none_and_blocks_nobody(backend: &dyn Backend) {
    run(async {
        let scene = Scene::new(backend).await;
        scene.create(HISTORY, content("x")).await;
        let whole = vec![7; 300_000];
        for polls in 0..12 {
            let file = format!("0000000100000000000000{polls:02X}");
            {
                let mut creating = pin!(scene.archive.create(scene.system, name(&file), content(&whole)));
                for _ in 0..polls {
                    let polled = poll_fn(|context| Poll::Ready(creating.as_mut().poll(context))).await;
                    if polled.is_ready() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            }
            match scene.read(&file).await {
                Ok(read) => assert!(read == whole, "{polls}: {} bytes", read.len()),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Absent, "{polls}: {}", error.report()),
            }
            // The abandoned create may still take effect before this one.
            scene.create(&file, content(&whole)).await;
            assert!(scene.read(&file).await.unwrap() == whole, "{polls}");
        }
        assert_eq!(scene.archive.inventory(scene.system).await.unwrap().files.len(), 13);
    });
}

pub fn an_abandoned_read_ends(backend: &dyn Backend) {
    run(async {
        let scene = Scene::new(backend).await;
        // More than all buffers together.
        let whole = vec![7; 24 << 20];
        scene.create(SEGMENT, content(&whole)).await;
        let Fetched { mut reader, transfer, .. } =
            scene.archive.fetch(scene.system, name(SEGMENT)).await.unwrap();
        let begun = tokio::task::spawn_blocking(move || {
            let mut beginning = [0; 10];
            reader.read_exact(&mut beginning).map(|()| (reader, beginning))
        });
        let (mut reader, beginning) = begun.await.unwrap().unwrap();
        assert_eq!(beginning, [7; 10]);
        drop(transfer);
        // The reader may return more bytes, but it ends.
        let ended = tokio::task::spawn_blocking(move || std::io::copy(&mut reader, &mut std::io::sink()));
        let ended = tokio::time::timeout(crate::PATIENCE, ended).await.unwrap().unwrap();
        assert!(ended.is_err() || ended.is_ok_and(|read| read == whole.len() as u64 - 10));
        assert!(scene.read(SEGMENT).await.unwrap() == whole);
    });
}
