//! Who may read what is written.

use rustix::fs::Mode;
use rustix::process::umask;

/// Sees to it that WAL is readable by nobody the server would not let read it.
///
/// The server runs the command with a umask of 0077, or 0027 where the cluster grants its group access. Both keep
/// others out, and such a choice is kept; a shell's usual 0022 is not.
pub(super) fn keep_others_out() {
    let inherited = umask(Mode::RWXG | Mode::RWXO);
    if inherited.contains(Mode::RWXO) {
        umask(inherited);
    }
}
