//! `walkeep-restore`: see `walkeep::cli`.

fn main() {
    walkeep::cli::restore_main()
}
