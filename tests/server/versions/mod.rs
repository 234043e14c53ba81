//! What walkeep promises, on whatever version of PostgreSQL runs the tests: `scripts/test versions` runs these on each that is
//! supported.

mod archiving;
mod incremental;
mod recovery;
mod standby;
