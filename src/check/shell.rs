//! Commands for the reader of a finding, as they are to be typed: as the server's user, with the paths and addresses of this
//! check. Pure.

use std::path::{Path, PathBuf};

use crate::archive::ArchiveUrl;
use crate::error::{Error, ErrorKind};
use crate::wal::WalName;

/// What the commands need to know.
#[derive(Debug, Clone)]
pub(super) struct Shell {
    /// User of the server, as sudo takes it; `None` if the reader is that user, or nobody knows who it is.
    pub(super) user: Option<String>,
    pub(super) archive: ArchiveUrl,
    /// Configuration file that is not the usual one.
    pub(super) config: Option<PathBuf>,
    /// Data directory of the server.
    pub(super) data: Option<PathBuf>,
    /// Connection to the server, as it was given.
    pub(super) url: Option<String>,
}

/// Quotes a word for the shell, if it needs that.
pub(super) fn quoted(word: &str) -> String {
    // Only a zero byte cannot be quoted, and nobody can have given one.
    shlex::try_quote(word).map_or_else(|_| word.to_owned(), Into::into)
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

    /// Returns the words that connect to the server, after a space.
    fn connection(&self, option: &str) -> String {
        self.url.as_ref().map_or_else(String::new, |url| format!(" {option} {}", quoted(url)))
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
        let url = self.url.as_deref().unwrap_or("postgres:///postgres");
        let pgdata = self.pgdata();
        let space = if pgdata.is_empty() { "" } else { " " };
        self.walkeep("check", &format!("{pgdata}{space}--pg-url {}", quoted(url)))
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
        self.filled(command, file, &format!("pg_wal/{file}"))
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

    /// Returns what to look at after an error of the archive, and why.
    pub(super) fn look(&self, error: &Error) -> (&'static str, String) {
        match (&self.archive, error.kind()) {
            // It shows the owner and mode of each directory on the way, and which one is missing.
            (ArchiveUrl::Directory(path), _) => {
                ("to see each directory on the way", self.as_server(&format!("namei -l {}", of_path(path))))
            }
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
                config: None,
                data: Some("/data".into()),
                url: None,
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
    fn what_the_commands_say_is_what_the_shell_reads() {
        let shell = Shell { archive: "/it's $HOME `x`".parse().unwrap(), ..Shell::of_test() };
        let file = "000000010000000000000003".parse().unwrap();
        let outer = shlex::split(&shell.archive(None, file)).unwrap();
        assert_eq!(outer[..5], ["sudo", "-u", "postgres", "sh", "-c"]);
        let inner = shlex::split(&outer[5]).unwrap();
        assert_eq!(inner[3..6], ["walkeep-archive", "--archive", "/it's $HOME `x`"]);
    }
}
