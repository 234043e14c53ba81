//! `walkeep-archive`: see `walkeep::cli`.

fn main() {
    walkeep::cli::archive_main()
}
