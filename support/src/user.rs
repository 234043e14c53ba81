//! The user that runs servers and commands: PostgreSQL refuses root, and permissions do not stop root.

use std::{os::unix, os::unix::process::CommandExt, path::Path, process::Command, sync::LazyLock};

/// The user to which root switches; `None` if the tests already run as an ordinary user.
static UNPRIVILEGED: LazyLock<Option<User>> = LazyLock::new(|| {
    rustix::process::geteuid().is_root().then(|| {
        ["postgres", "nobody"]
            .into_iter()
            .find_map(User::named)
            .expect("as root, the tests need the user postgres or nobody to run the server as")
    })
});

#[derive(Clone, Copy)]
struct User {
    uid: u32,
    gid: u32,
}

impl User {
    fn named(name: &str) -> Option<Self> {
        let id = |what| super::try_output_of(Command::new("id").args([what, name])).ok()?.parse().ok();
        Some(Self { uid: id("-u")?, gid: id("-g")? })
    }
}

/// Returns the user ID that runs servers and commands.
pub fn uid() -> u32 {
    UNPRIVILEGED.map_or_else(|| rustix::process::geteuid().as_raw(), |user| user.uid)
}

/// Makes `command` run as the unprivileged user.
pub fn drop_privileges(command: &mut Command) {
    if let Some(user) = *UNPRIVILEGED {
        command.uid(user.uid).gid(user.gid);
    }
}

/// Gives `path` to the unprivileged user.
pub fn hand_over(path: &Path) {
    if let Some(user) = *UNPRIVILEGED {
        unix::fs::chown(path, Some(user.uid), Some(user.gid)).unwrap();
    }
}

/// Returns `true` if the unprivileged user can execute `program`, which it cannot in a target directory below /root.
pub fn can_execute(program: &Path) -> bool {
    let mut test = Command::new("test");
    test.arg("-x").arg(program).current_dir("/");
    drop_privileges(&mut test);
    test.status().unwrap().success()
}
