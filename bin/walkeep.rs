//! `walkeep`: see `walkeep::cli`.

fn main() {
    walkeep::cli::walkeep_main()
}
