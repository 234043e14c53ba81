//! One call: within its time limit, until a signal ends it, again while that may help, and whatever hangs.

mod retry;
mod run;
mod stop;
mod wait;

pub use retry::{retry, warning};
pub use run::{Caught, Ended, run};
pub use stop::{out_of_time, unless_stopped};
pub use wait::found_within;
