//! Permissions of new files.

use rustix::fs::Mode;
use rustix::process::umask;

/// Removes access for other users, unless the server has chosen it.
///
/// The server runs the command with a umask of 0077, or 0027 if the cluster grants access to its group. Both exclude
/// others and are kept; a shell's usual 0022 is not.
pub(super) fn keep_others_out() {
    let inherited = umask(Mode::RWXG | Mode::RWXO);
    if inherited.contains(Mode::RWXO) {
        umask(inherited);
    }
}
