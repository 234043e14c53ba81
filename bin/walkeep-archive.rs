//! `walkeep-archive`: see `walkeep::cli`.

fn main() -> std::process::ExitCode {
    walkeep::cli::archive_main()
}
