//! `walkeep-restore`: see `walkeep::cli`.

fn main() -> std::process::ExitCode {
    walkeep::cli::restore_main()
}
