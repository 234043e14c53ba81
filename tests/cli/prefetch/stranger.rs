//! Files that another process passes on in the place of a prefetcher: none but the requested segment is taken.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, IoSlice, Write},
    mem::MaybeUninit,
    os::{
        fd::AsFd,
        unix::{fs::PermissionsExt, net::UnixListener},
    },
    path::Path,
    thread::{self, JoinHandle},
};

use rustix::{
    cmsg_space,
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
};
use support::{
    data_directory::{SEGMENT_BYTES, segment},
    files::names_in,
    prefetcher::{From, PrefetchScene, content, name},
    restore::{SYSTEM, TARGET},
    running::outcome_of,
    wait_until,
    wrapper::in_shell,
};

/// Answers the next request in the spool with this file, as if it were what was requested.
fn pass_on(spool: &Path, file: File, digest_of: &[u8]) -> JoinHandle<()> {
    let socket = spool.join("prefetcher.socket");
    let _ = fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o777)).unwrap();
    let answer = format!("+{SEGMENT_BYTES} {}\n", blake3::hash(digest_of).to_hex());
    thread::spawn(move || {
        let (call, _) = listener.accept().unwrap();
        BufReader::new(&call).read_line(&mut String::new()).unwrap();
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let files = [file.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&files));
        sendmsg(&call, &[IoSlice::new(answer.as_bytes())], &mut control, SendFlags::NOSIGNAL).unwrap();
    })
}

/// Restores the second segment while a stranger passes on `file`; returns its source and the log.
fn restored_despite(scene: &PrefetchScene, spool: &Path, file: File, digest_of: &[u8]) -> (From, String) {
    let stranger = pass_on(spool, file, digest_of);
    // It ends at 64 MB of a file, before a disk is full.
    let call = scene.call(&scene.scene.recovery, &name(2));
    let outcome = outcome_of(in_shell(&scene.scene.sandbox, "ulimit -f 131072; exec \"$@\"", &call));
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    wait_until("the stranger has been asked", || stranger.is_finished());
    let path = scene.scene.recovery.join(TARGET);
    assert!(fs::read(&path).unwrap() == content(&name(2)), "other bytes: {}", outcome.stderr);
    fs::remove_file(path).unwrap();
    assert_eq!(names_in(&scene.scene.recovery.join("pg_wal")), [""; 0]);
    (From::logged_in(&outcome.stderr), outcome.stderr)
}

/// Creates a scene with a spool that no prefetcher has, and returns that.
fn scene() -> (PrefetchScene, std::path::PathBuf) {
    let scene = PrefetchScene::with(1..=2);
    let prefetcher = scene.prefetched(1, 1);
    let spool = prefetcher.spool().unwrap();
    prefetcher.kill();
    (scene, spool)
}

/// Returns an open file without a name.
fn unnamed(scene: &PrefetchScene, content: &[u8]) -> File {
    let path = scene.scene.sandbox.file("unnamed", content);
    let file = File::options().read(true).write(true).open(&path).unwrap();
    fs::remove_file(path).unwrap();
    file
}

#[test]
fn the_requested_segment_without_a_name_is_taken() {
    let (scene, spool) = scene();
    let right = content(&name(2));
    let (from, said) = restored_despite(&scene, &spool, unnamed(&scene, &right), &right);
    assert_eq!(from, From::Prefetcher, "{said}");
}

#[test]
fn a_device_without_an_end_is_not_copied() {
    let (scene, spool) = scene();
    let (from, said) = restored_despite(&scene, &spool, File::open("/dev/zero").unwrap(), b"");
    assert_eq!(from, From::Archive);
    assert!(
        said.contains("passes on what is not 000000010000000000000002 (it is no regular file)"),
        "{said}"
    );
    // It is asked no more.
    let outcome = outcome_of(scene.call(&scene.scene.recovery, &name(2)));
    assert_eq!((outcome.status, From::logged_in(&outcome.stderr)), (0, From::Archive));
    assert!(!outcome.stderr.contains("passes on"), "{}", outcome.stderr);
}

#[test]
fn a_pipe_or_a_directory_delays_nobody() {
    let (pipe, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"+").unwrap();
    let directory = File::open("/").unwrap();
    for file in [File::from(std::os::fd::OwnedFd::from(pipe)), directory] {
        // A call that was deceived starts a prefetcher, which takes the next stranger's place.
        let (scene, spool) = scene();
        let (from, said) = restored_despite(&scene, &spool, file, b"");
        assert_eq!(from, From::Archive);
        assert!(said.contains("it is no regular file"), "{said}");
    }
}

#[test]
fn a_file_that_others_can_change_by_its_name_is_not_taken() {
    let (scene, spool) = scene();
    let right = content(&name(2));
    let path = scene.scene.sandbox.file("named", &right);
    let (from, said) = restored_despite(&scene, &spool, File::open(&path).unwrap(), &right);
    assert_eq!(from, From::Archive);
    assert!(said.contains("it has a name"), "{said}");
}

#[test]
fn a_file_of_another_size_segment_or_system_is_not_taken() {
    let right = content(&name(2));
    let longer = [&right[..], &right].concat();
    let others = [
        (longer, format!("it has {} bytes", 2 * SEGMENT_BYTES)),
        (content(&name(1)), "which is not where segment 000000010000000000000002 starts".to_owned()),
        (segment(&name(2), SYSTEM + 1, SEGMENT_BYTES, 7), format!("it belongs to system {}", SYSTEM + 1)),
        (vec![0; SEGMENT_BYTES], "it does not begin with a WAL page header".to_owned()),
    ];
    for (other, why) in others {
        let (scene, spool) = scene();
        let (from, said) = restored_despite(&scene, &spool, unnamed(&scene, &other), &other);
        assert_eq!(from, From::Archive, "{why}");
        assert!(said.contains(&why), "{why}: {said}");
    }
}
