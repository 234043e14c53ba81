//! Mistakes in `archive_command` are recognized by the arguments that the server passes.

use support::{
    data_directory::SEGMENT,
    push::{Pusher, fails},
};

#[test]
fn a_mistake_in_archive_command_is_recognized_by_its_arguments() {
    let pusher = Pusher::new();
    pusher.data.segment(SEGMENT, 0);
    let in_pg_wal = format!("pg_wal/{SEGMENT}");
    let fails_with = |status, arguments: &[&str], words: &str| {
        let mut push = pusher.program();
        push.args(["--archive", pusher.archive.url()]).args(arguments);
        fails(status, push, &[words]);
    };
    fails_with(4, &[SEGMENT, &in_pg_wal], "are %p and %f the wrong way round?");
    fails_with(4, &[&in_pg_wal, &format!("/mnt/archive/{SEGMENT}")], "the archive's directory");
    fails_with(4, &["archive", &in_pg_wal], "needs quotes");
    fails_with(2, &[SEGMENT], "needs %p, the path, and not %f, the name");
    let mut as_cp = pusher.program();
    as_cp.args([&in_pg_wal, &format!("/mnt/archive/{SEGMENT}")]);
    fails(2, as_cp, &["no archive is configured; ", "the archive's directory", "--archive /mnt/archive %p"]);
    assert_eq!(pusher.files(), [""; 0]);
}
