//! Execution of one call: time limit, end by a signal, retries, and operations that hang.

mod hung;
mod retry;
mod run;
mod stop;
mod wait;

pub use hung::{Hung, unless_hung};
pub use retry::{retry, warning};
pub use run::{Caught, Ended, run};
pub use stop::{out_of_time, unless_stopped};
pub use wait::found_within;
