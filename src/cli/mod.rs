//! Command lines, shared by the three binaries, and exit statuses.

mod archive;
mod arguments;
mod backfill;
mod cat;
mod check;
mod exit;
mod generate;
mod hang;
mod json;
mod list;
mod log;
mod manual;
mod output;
mod owner;
mod placeholders;
mod prefetch;
mod print;
mod progress;
mod prune;
mod restore;
mod shape;
mod signals;
mod status;
mod stopping;
mod supervise;
mod table;
mod tool;
mod umask;
mod unread;
mod verify;
mod walkeep;

pub use archive::main as archive_main;
pub use exit::{ExitStatuses, exit_on_panic};
pub use restore::main as restore_main;
pub use unread::exit_on_panic_of_restore;
pub use walkeep::main as walkeep_main;
