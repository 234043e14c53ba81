//! Commands for the reader of a finding, as they are to be typed: as the server's user, with the paths and addresses of this
//! check. Pure.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::masked::masked;
use crate::archive::ArchiveUrl;
use crate::cluster::Listening;
use crate::error::{Error, ErrorKind, chain};
use crate::wal::{SystemIdentifier, WalName};

/// What the commands need to know.
#[derive(Debug, Clone)]
pub(super) struct Shell {
    /// User of the server, as sudo takes it; `None` if the reader is that user, or nobody knows who it is.
    pub(super) user: Option<String>,
    pub(super) archive: ArchiveUrl,
    /// `true` if the archive's directory has to be a mount point.
    pub(super) must_be_mounted: bool,
    /// Configuration file that is not the usual one.
    pub(super) config: Option<PathBuf>,
    /// Data directory of the server.
    pub(super) data: Option<PathBuf>,
    /// Cluster that was named.
    pub(super) system: Option<SystemIdentifier>,
    /// `true` if the archive holds other clusters, too, so that a command has to say which one is meant.
    pub(super) has_others: bool,
    /// Connection to the server, as it was given.
    pub(super) url: Option<String>,
    /// Where the server listens, if one runs in its data directory.
    pub(super) listening: Option<Listening>,
}

/// Returns `true` if the system said that.
fn has(error: &Error, errno: Errno) -> bool {
    let said = |error: &(dyn std::error::Error + 'static)| {
        error.downcast_ref::<std::io::Error>().and_then(Errno::from_io_error) == Some(errno)
    };
    chain(error).any(said)
}

/// Returns `true` if the system said anything.
fn has_any(error: &Error) -> bool {
    chain(error).any(|error| error.downcast_ref::<std::io::Error>().is_some())
}

/// Quotes a word for the shell, if it needs that.
pub(super) fn quoted(word: &str) -> String {
    // Only a zero byte cannot be quoted, and nobody can have given one.
    shlex::try_quote(word).map_or_else(|_| word.to_owned(), Into::into)
}

/// Returns the connection to a server that listens there.
pub(super) fn of_listening(Listening { port, directory }: &Listening) -> String {
    let host = directory.as_ref().map_or_else(String::new, |directory| format!("host={directory} "));
    format!("{host}port={port} dbname=postgres")
}

fn of_path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

impl Shell {
    /// Returns the line, typed as the server's user.
    pub(super) fn as_server(&self, line: &str) -> String {
        match &self.user {
            Some(user) => format!("sudo -u {user} {line}"),
            None => line.to_owned(),
        }
    }

    /// Returns a line that needs a shell of the server's user.
    fn script(&self, line: &str) -> String {
        match &self.user {
            Some(_) => self.as_server(&format!("sh -c {}", quoted(line))),
            None => line.to_owned(),
        }
    }

    /// Returns the connection to the server: as it was given, or else to the one that runs in its directory.
    fn address(&self) -> Option<String> {
        self.url.clone().or_else(|| self.listening.as_ref().map(of_listening))
    }

    /// Returns the words that connect to the server, after a space.
    fn connection(&self, option: &str) -> String {
        self.address().map_or_else(String::new, |url| format!(" {option} {}", quoted(&url)))
    }

    /// Returns the statements, each for psql.
    pub(super) fn psql(&self, statements: &[&str]) -> String {
        let mut command = format!("psql{}", self.connection("-d"));
        for statement in statements {
            command.extend([" -c ", &quoted(statement)]);
        }
        self.as_server(&command)
    }

    /// Returns the change of a setting, which takes effect at once.
    pub(super) fn alter(&self, name: &str, value: &str) -> String {
        let value = value.replace('\'', "''");
        self.psql(&[&format!("alter system set {name} = '{value}'"), "select pg_reload_conf()"])
    }

    /// Returns the question whether the server answers.
    pub(super) fn is_ready(&self) -> String {
        format!("pg_isready{}", self.connection("-d"))
    }

    /// Returns a value of `archive_command` that fits.
    pub(super) fn archive_command(&self) -> String {
        format!("walkeep-archive{} %p", self.place())
    }

    /// Returns a value of `restore_command` that fits.
    pub(super) fn restore_command(&self) -> String {
        format!("walkeep-restore{} %f %p", self.place())
    }

    fn place(&self) -> String {
        let config =
            self.config.as_ref().map_or_else(String::new, |file| format!(" --config {}", of_path(file)));
        format!(" --archive {}{config}", quoted(&self.archive.to_string()))
    }

    /// Returns a command of `walkeep`, with more words.
    pub(super) fn walkeep(&self, command: &str, more: &str) -> String {
        let space = if more.is_empty() { "" } else { " " };
        self.as_server(&format!("walkeep {command}{}{space}{more}", self.place()))
    }

    /// Returns a command of `walkeep` about this cluster: where the archive holds others, it says which. `prune` and `verify`
    /// know a word for all.
    pub(super) fn of_system(&self, command: &str, more: &str) -> String {
        let which = match (self.has_others, self.system, command) {
            (true, Some(system), _) => format!("--system-identifier {system}"),
            (true, None, _) if self.data.is_some() => self.pgdata(),
            (true, None, "prune" | "verify") => "--all-systems".to_owned(),
            _ => String::new(),
        };
        let words: Vec<&str> = [which.as_str(), more].into_iter().filter(|words| !words.is_empty()).collect();
        self.walkeep(command, &words.join(" "))
    }

    /// Returns the data directory as a flag; empty if there is none.
    pub(super) fn pgdata(&self) -> String {
        self.data.as_ref().map_or_else(String::new, |data| format!("--pgdata {}", of_path(data)))
    }

    /// Returns the data directory as a flag, or a word to be replaced by it.
    pub(super) fn pgdata_or_directory(&self) -> String {
        Some(self.pgdata()).filter(|flag| !flag.is_empty()).unwrap_or_else(|| "--pgdata PGDATA".to_owned())
    }

    /// Returns the command that takes a base backup.
    pub(super) fn base_backup(&self) -> String {
        self.as_server(&format!("pg_basebackup{} -D DIRECTORY -X none", self.connection("-d")))
    }

    /// Returns this check with a running server, and another flag.
    pub(super) fn check_with_server(&self) -> String {
        let url = self.address().unwrap_or_else(|| "postgres:///postgres".to_owned());
        let pgdata = self.pgdata();
        let space = if pgdata.is_empty() { "" } else { " " };
        self.walkeep("check", &format!("{pgdata}{space}--pg-url {}", quoted(&url)))
    }

    /// Returns the command that archives one file as the server would: with `command`, or one that fits.
    pub(super) fn archive(&self, command: Option<&str>, file: WalName) -> String {
        let ours = self.archive_command();
        // A variable of the server's is not one of the reader's.
        let says_where = |command: &&str| {
            let names_it = command.contains("--archive") || command.contains("WALKEEP_ARCHIVE=");
            names_it || !command.contains("walkeep-archive")
        };
        let command = command.filter(|command| command.contains("%p")).filter(says_where).unwrap_or(&ours);
        self.filled(&masked(command), file, &format!("pg_wal/{file}"))
    }

    /// Fills in a command of the server as the server does, to be run where it runs it.
    fn filled(&self, command: &str, file: WalName, path: &str) -> String {
        let filled = |part: &str| {
            part.replace("%p", path)
                .replace("%f", &file.to_string())
                .replace("%r", "000000000000000000000000")
        };
        let filled = command.split("%%").map(filled).collect::<Vec<_>>().join("%");
        let data = self.data.as_deref().unwrap_or(Path::new("PGDATA"));
        let data = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
        self.script(&format!("cd {} && {filled}", of_path(&data)))
    }

    /// Returns this check of `restore_command`.
    pub(super) fn check_restore(&self) -> String {
        self.walkeep("check", &format!("{} --restore", self.pgdata()))
    }

    /// Returns the command that restores one file as the server would, to where it can be looked at.
    pub(super) fn restore(&self, command: &str, file: WalName) -> String {
        self.filled(command, file, "/tmp/walkeep-restored")
    }

    /// Returns the command that lists a path of the server.
    pub(super) fn ls(&self, path: &Path) -> String {
        self.as_server(&format!("ls -la {}", of_path(path)))
    }

    /// Returns the command that shows what takes the space in a directory.
    pub(super) fn usage(&self, path: &Path) -> String {
        self.as_server(&format!("du -xhd1 {}", of_path(path)))
    }

    /// Returns the command that shows a file of the server.
    pub(super) fn head(&self, path: &Path) -> String {
        self.as_server(&format!("head {}", of_path(path)))
    }

    /// Returns the command that shows the owner and mode of each directory on the way.
    pub(super) fn namei(&self, path: &Path) -> String {
        self.as_server(&format!("namei -l {}", of_path(path)))
    }

    /// Returns what to look at after an error of the archive, and why.
    pub(super) fn look(&self, error: &Error) -> (&'static str, String) {
        match (&self.archive, error.kind()) {
            (ArchiveUrl::Directory(path), _) if has(error, Errno::NOSPC) => {
                ("to see how much space there is", format!("df -h {}", of_path(path)))
            }
            (ArchiveUrl::Directory(path), _) if self.must_be_mounted && !has_any(error) => {
                ("to mount it", format!("sudo mount {}", of_path(path)))
            }
            (ArchiveUrl::Directory(path), _) if has(error, Errno::ROFS) => {
                ("to see how it is mounted", format!("findmnt -T {}", of_path(path)))
            }
            // It shows the owner and mode of each directory on the way, and which one is missing.
            (ArchiveUrl::Directory(path), _) => ("to see each directory on the way", self.namei(path)),
            (_, ErrorKind::Refused) => {
                let purpose = "the rights that archiving needs";
                (purpose, self.walkeep("check", "--print-policy archive"))
            }
            _ => ("to see each request", self.walkeep("check", "--verbose")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Shell {
        /// Creates one for tests.
        pub(in crate::check) fn of_test() -> Self {
            Self {
                user: Some("postgres".to_owned()),
                archive: ArchiveUrl::Directory("/mnt/my archive".into()),
                must_be_mounted: false,
                config: None,
                data: Some("/data".into()),
                system: None,
                has_others: false,
                url: None,
                listening: None,
            }
        }
    }

    #[test]
    fn commands_are_typed_as_the_servers_user_with_everything_quoted() {
        let shell = Shell::of_test();
        assert_eq!(shell.psql(&["select 1"]), "sudo -u postgres psql -c 'select 1'");
        assert_eq!(
            shell.walkeep("verify", ""),
            "sudo -u postgres walkeep verify --archive '/mnt/my archive'"
        );
        let file = "000000010000000000000003".parse().unwrap();
        assert_eq!(
            shell.archive(Some("x --f=%f %p 5%%"), file),
            "sudo -u postgres sh -c 'cd /data && x --f=000000010000000000000003 pg_wal/000000010000000000000003 5%'"
        );
        let elsewhere = shell.archive(Some("walkeep-archive %p"), file);
        assert!(elsewhere.contains("--archive"), "by a variable of the server's: {elsewhere}");
        let own = Shell { user: None, url: Some("host=/run port=5433".to_owned()), ..shell };
        assert_eq!(own.psql(&["select 1"]), "psql -d 'host=/run port=5433' -c 'select 1'");
        assert_eq!(
            own.archive(None, file),
            "cd /data && walkeep-archive --archive '/mnt/my archive' pg_wal/000000010000000000000003"
        );
        let altered = own.alter("archive_command", "a 'b' %p");
        assert!(altered.contains("set archive_command = 'a ''b'' %p'"), "{altered}");
        assert!(own.check_with_server().ends_with("--pgdata /data --pg-url 'host=/run port=5433'"));
    }

    #[test]
    fn a_command_says_which_cluster_is_meant_where_the_archive_holds_several() {
        let alone = Shell { user: None, ..Shell::of_test() };
        assert_eq!(alone.of_system("verify", ""), "walkeep verify --archive '/mnt/my archive'");
        let of_data = Shell { has_others: true, ..alone };
        let ends = |shell: &Shell, command, more, end| {
            let typed = shell.of_system(command, more);
            assert!(typed.ends_with(&format!("'/mnt/my archive' {end}")), "{typed}");
        };
        ends(&of_data, "verify", "--names-only", "--pgdata /data --names-only");
        let named = Shell { system: SystemIdentifier::new(7), ..of_data };
        ends(&named, "list", "", "--system-identifier 7");
        let neither = Shell { system: None, data: None, ..named };
        ends(&neither, "prune", "--dry-run", "--all-systems --dry-run");
    }

    #[test]
    fn a_server_in_the_directory_is_asked_where_it_listens() {
        let listening = Some(Listening { port: 5499, directory: Some("/run/pg".to_owned()) });
        let shell = Shell { user: None, listening, ..Shell::of_test() };
        let address = "'host=/run/pg port=5499 dbname=postgres'";
        assert_eq!(shell.psql(&["select 1"]), format!("psql -d {address} -c 'select 1'"));
        assert!(shell.check_with_server().ends_with(&format!("--pg-url {address}")));
        let given = Shell { url: Some("host=x".to_owned()), ..shell };
        assert_eq!(
            given.psql(&["select 1"]),
            "psql -d 'host=x' -c 'select 1'".replace("'host=x'", &quoted("host=x"))
        );
    }

    #[test]
    fn what_to_look_at_depends_on_what_is_wrong() {
        let shell = Shell { user: None, archive: "/mnt/a".parse().unwrap(), ..Shell::of_test() };
        let said = |errno: Errno| {
            Error::new(ErrorKind::Unavailable, "cannot archive").because(std::io::Error::from(errno))
        };
        for (errno, command) in [
            (Errno::NOSPC, "df -h /mnt/a"),
            (Errno::ROFS, "findmnt -T /mnt/a"),
            (Errno::ACCESS, "namei -l /mnt/a"),
        ] {
            assert_eq!(shell.look(&said(errno)).1, command);
        }
        let not_mounted = Error::new(ErrorKind::Unavailable, "/mnt/a is not a mount point");
        assert_eq!(shell.look(&not_mounted).1, "namei -l /mnt/a");
        let mounted = Shell { must_be_mounted: true, ..shell };
        assert_eq!(mounted.look(&not_mounted).1, "sudo mount /mnt/a");
        assert_eq!(mounted.look(&said(Errno::ACCESS)).1, "namei -l /mnt/a");
    }

    #[test]
    fn what_the_commands_say_is_what_the_shell_reads() {
        let shell = Shell { archive: "/it's $HOME `x`".parse().unwrap(), ..Shell::of_test() };
        let file = "000000010000000000000003".parse().unwrap();
        let outer = shlex::split(&shell.archive(None, file)).unwrap();
        assert_eq!(outer[..5], ["sudo", "-u", "postgres", "sh", "-c"]);
        let inner = shlex::split(&outer[5]).unwrap();
        assert_eq!(inner[3..6], ["walkeep-archive", "--archive", "/it's $HOME `x`"]);
    }
}
