//! `walkeep`: see `walkeep::cli`.

fn main() -> std::process::ExitCode {
    walkeep::cli::walkeep_main()
}
