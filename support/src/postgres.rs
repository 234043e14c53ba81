//! PostgreSQL's programs, and new data directories.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{LazyLock, Mutex, PoisonError},
};

use super::{
    built, output_of,
    sandbox::{Sandbox, temporary_directory},
    try_output_of, user,
};

static BIN_DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    if let Some(directory) = env::var_os("WALKEEP_PG_BINDIR") {
        let directory = PathBuf::from(directory);
        assert!(has_server(&directory), "WALKEEP_PG_BINDIR={} holds no initdb", directory.display());
        return directory;
    }
    newest_debian_version().or_else(pg_config).expect(
        "these tests need a PostgreSQL server: `apt-get install postgresql`, or set WALKEEP_PG_BINDIR to the \
         directory of its initdb",
    )
});

fn has_server(directory: &Path) -> bool {
    directory.join("initdb").is_file()
}

fn newest_debian_version() -> Option<PathBuf> {
    fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| {
            let version = entry.ok()?.path();
            let number: u32 = version.file_name()?.to_str()?.parse().ok()?;
            Some((number, version.join("bin")))
        })
        .filter(|(_, directory)| has_server(directory))
        .max()
        .map(|(_, directory)| directory)
}

fn pg_config() -> Option<PathBuf> {
    let directory = PathBuf::from(try_output_of(Command::new("pg_config").arg("--bindir")).ok()?);
    has_server(&directory).then_some(directory)
}

/// Returns the path of one of PostgreSQL's own programs.
pub fn program(name: &str) -> PathBuf {
    BIN_DIRECTORY.join(name)
}

/// Returns the server's major version: 10 to 19.
pub fn version() -> u32 {
    static VERSION: LazyLock<u32> = LazyLock::new(|| {
        let text = output_of(Command::new(program("postgres")).arg("--version"));
        let number = text.rsplit_once("PostgreSQL) ").unwrap().1;
        number.split(|letter: char| !letter.is_ascii_digit()).next().unwrap().parse().unwrap()
    });
    *VERSION
}

/// Returns the name and the value that the server's version has for a parameter of today.
pub fn as_known_to_the_server(parameter: &str, value: &str) -> (String, String) {
    match parameter {
        // In segments, of 16 MB or less: more is kept of larger ones.
        "wal_keep_size" if version() < 13 => {
            let megabytes = match value.strip_suffix("GB") {
                Some(number) => number.parse::<u32>().unwrap() * 1024,
                None => value.trim_end_matches("MB").parse().unwrap(),
            };
            ("wal_keep_segments".to_owned(), megabytes.to_string())
        }
        "promote_trigger_file" if version() < 12 => ("trigger_file".to_owned(), value.to_owned()),
        _ => (parameter.to_owned(), value.to_owned()),
    }
}

/// Returns the functions that begin and end a base backup in one session, as SQL; the latter's columns are `lsn`,
/// `labelfile` and `spcmapfile`.
pub fn backup_functions(label: &str) -> (String, &'static str) {
    if version() < 15 {
        (format!("pg_start_backup({label}, true, false)"), "pg_stop_backup(false)")
    } else {
        (format!("pg_backup_start({label}, true)"), "pg_backup_stop(false)")
    }
}

/// Puts PostgreSQL's own client programs first on the command's path.
pub fn with_clients(command: &mut Command) -> &mut Command {
    let clients = BIN_DIRECTORY.clone();
    let path = env::var_os("PATH").unwrap_or_default();
    command.env("PATH", env::join_paths([clients].into_iter().chain(env::split_paths(&path))).unwrap())
}

/// Creates the data directory `data`; `initdb_arguments` such as `--wal-segsize=1`.
///
/// Copies one from Cargo's target directory, which takes a tenth of the time of initdb. All clusters with the same
/// arguments therefore share a system identifier.
pub fn initialise(data: &Path, initdb_arguments: &[&str]) {
    // Version 10 has the size that it was built with, of 16 MB.
    let has_sizes = version() > 10;
    let known = |argument: &&&str| has_sizes || !argument.starts_with("--wal-segsize");
    let initdb_arguments: Vec<&str> = initdb_arguments.iter().filter(known).copied().collect();
    copy_directory(&template(&initdb_arguments), data);
}

/// Copies a directory with owners and permissions.
pub fn copy_directory(from: &Path, to: &Path) {
    output_of(Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to));
}

/// Returns the directory for data that outlives a test run, next to Cargo's output.
fn kept() -> PathBuf {
    let directory = built().parent().unwrap().join("tmp");
    fs::create_dir_all(&directory).unwrap();
    directory
}

fn template(initdb_arguments: &[&str]) -> PathBuf {
    static MAKING: Mutex<()> = Mutex::new(());
    let _guard = MAKING.lock().unwrap_or_else(PoisonError::into_inner);

    let version = output_of(Command::new(program("postgres")).arg("--version"));
    let description = format!("{version} {} {}", user::uid(), initdb_arguments.join(" "));
    let name = description.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-");
    let template = kept().join(name);
    if !template.exists() {
        let sandbox = Sandbox::new();
        let fresh = sandbox.join("data");
        output_of(
            sandbox
                .command(program("initdb"))
                .args(["--no-sync", "--no-locale", "-E", "UTF8", "-A", "trust", "-U", "walkeep", "-D"])
                .arg(&fresh)
                .args(initdb_arguments),
        );
        // Renamed to its final name, so that another process sees all of it or nothing; the first one stays.
        let staging = temporary_directory(&kept());
        copy_directory(&fresh, &staging.path().join("data"));
        let renamed = fs::rename(staging.path().join("data"), &template);
        assert!(template.exists(), "cannot keep {}: {renamed:?}", template.display());
    }
    template
}
