//! A small tmpfs in its own mount namespace: a disk that can be full, and a mount that can disappear.
//!
//! The namespace ends with the process that holds it, and that one with the test, however the test ends. It is never
//! visible outside.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::{output_of, user, wrapper::wrapped};

/// A file system of limited size, and commands that see it.
pub struct Tmpfs {
    mount_point: PathBuf,
    holder: Child,
}

impl Tmpfs {
    /// Mounts a tmpfs of `bytes` bytes on a directory of the unprivileged user, who will own it.
    pub fn mount(mount_point: &Path, bytes: u64) -> Self {
        let mut unshare = Command::new("unshare");
        // A user other than root is root in a user namespace of its own.
        unshare.arg(if is_root() { "-m" } else { "-Urm" });
        let script =
            "mount -t tmpfs -o mode=0700,size=$1 tmpfs \"$2\" && echo mounted && exec cat >/dev/null";
        unshare.args(["sh", "-c", script, "sh", &bytes.to_string()]).arg(mount_point);
        unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let holder = unshare.spawn().unwrap_or_else(|error| panic!("{NEEDED}; unshare: {error}"));
        let mut tmpfs = Self { mount_point: mount_point.to_owned(), holder };
        let mut answer = String::new();
        BufReader::new(tmpfs.holder.stdout.take().unwrap()).read_line(&mut answer).unwrap();
        if answer != "mounted\n" {
            let mut why = String::new();
            tmpfs.holder.stderr.take().unwrap().read_to_string(&mut why).unwrap();
            panic!("{NEEDED}; {why}");
        }
        user::hand_over(&tmpfs.seen_outside(mount_point));
        tmpfs
    }

    /// Returns the command within the namespace, still as the unprivileged user.
    pub fn run(&self, command: &Command) -> Command {
        let owner = fs::metadata(&self.mount_point).unwrap();
        let mut enter = self.enter();
        if is_root() {
            enter.args(["--setuid", &owner.uid().to_string(), "--setgid", &owner.gid().to_string()]);
        }
        // Entering the namespace leaves the working directory, and a relative %p depends on it.
        enter.args(["env", "--chdir"]).arg(command.get_current_dir().unwrap_or(Path::new("/")));
        let mut entered = wrapped(enter, command);
        entered.current_dir("/");
        entered
    }

    fn enter(&self) -> Command {
        let mut enter = Command::new("nsenter");
        enter.args(["--target", &self.holder.id().to_string(), "--mount"]);
        if !is_root() {
            enter.args(["--user", "--preserve-credentials"]);
        }
        enter
    }

    /// Returns the path under which the test itself finds the `path` of commands in [`Tmpfs::run`].
    pub fn seen_outside(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(path.strip_prefix("/").unwrap())
    }

    /// Fills it until `left` bytes, a multiple of a page, are free.
    pub fn fill(&self, left: usize) {
        let mut ballast = File::create(self.ballast()).unwrap();
        loop {
            match ballast.write(&[0; 4096]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
        let length = ballast.metadata().unwrap().len();
        ballast.set_len(length - u64::try_from(left).unwrap()).unwrap();
    }

    /// Reverts [`Tmpfs::fill`].
    pub fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.seen_outside(&self.mount_point).join("ballast")
    }

    /// Makes it read-only.
    pub fn remount_read_only(&self) {
        self.run_as_root(["mount", "-o", "remount,bind,ro"]);
    }

    /// Unmounts it; the mount point remains.
    pub fn unmount(&self) {
        self.run_as_root(["umount"]);
    }

    /// Unmounts it, and mounts an empty one in its place.
    pub fn mount_anew(&mut self) {
        self.unmount();
        self.run_as_root(["mount", "-t", "tmpfs", "-o", "mode=0700", "tmpfs"]);
        user::hand_over(&self.seen_outside(&self.mount_point));
    }

    fn run_as_root<const N: usize>(&self, command: [&str; N]) {
        output_of(self.enter().args(command).arg::<&OsStr>(self.mount_point.as_ref()));
    }
}

const NEEDED: &str = "these tests mount a tmpfs in a mount namespace of their own: they need the programs of util-linux, \
                      and root with CAP_SYS_ADMIN, or an ordinary user who may make namespaces \
                      (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns)";

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Both fail only if the process has ended, and with it the namespace.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
