//! Which files to take along: those that the server will hand over next. Pure.
//!
//! Source: `pgarch_readyXlog` in PostgreSQL's `pgarch.c`: timeline history files first, then by name, oldest first.

use crate::wal::WalName;

/// How the server marks a file that is ready to be archived, in `archive_status`.
pub(super) const READY: &str = ".ready";

/// The names of the files that are ready besides `asked`, as the server will come to them, at most so many.
///
/// `listing` is what is in `archive_status`. Names that are not those of WAL files are the server's business.
pub(super) fn neighbours(
    listing: impl IntoIterator<Item = String>,
    asked: WalName,
    at_most: usize,
) -> Vec<WalName> {
    let ready = listing.into_iter().filter_map(|entry| entry.strip_suffix(READY)?.parse().ok());
    let mut names: Vec<WalName> = ready.filter(|name| *name != asked).collect();
    names.sort_unstable_by_key(|name| (!matches!(name, WalName::History(_)), name.to_string()));
    names.truncate(at_most);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(listing: &[&str], asked: &str, at_most: usize) -> Vec<String> {
        let listing = listing.iter().map(|name| (*name).to_owned());
        neighbours(listing, asked.parse().unwrap(), at_most).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn they_come_in_the_servers_order_without_the_one_that_was_asked_for() {
        let listing = [
            "000000020000000000000003.ready",
            "000000010000000000000002.ready",
            "000000010000000000000002.00000028.backup.ready",
            "000000010000000000000004.partial.ready",
            "000000010000000000000001.ready",
            "00000002.history.ready",
            "0000000100000000000000FF.done",
            "000000010000000000000005",
            "readme.ready",
            ".ready",
        ];
        assert_eq!(
            texts(&listing, "000000010000000000000001", 99),
            [
                "00000002.history",
                "000000010000000000000002",
                "000000010000000000000002.00000028.backup",
                "000000010000000000000004.partial",
                "000000020000000000000003",
            ]
        );
        assert_eq!(texts(&listing, "000000010000000000000001", 1), ["00000002.history"]);
        assert_eq!(texts(&listing, "000000010000000000000001", 0), [""; 0]);
        assert_eq!(texts(&[], "000000010000000000000001", 9), [""; 0]);
    }
}
