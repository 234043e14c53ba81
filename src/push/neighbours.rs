//! Selection of the files that the server will pass next. Pure.

use crate::wal::WalName;

/// State of a file that is ready to be archived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// To be archived.
    Due,
    /// Archived by an earlier call, so long ago that the archive must be asked.
    Noted,
    /// To be left alone.
    Left,
}

/// Returns the ready files other than `asked`, in the server's order, at most `at_most`. `standing` returns the state
/// of each; it is called only as often as needed.
///
/// Due files come first: files already archived must not displace them.
pub(super) fn neighbours(
    mut ready: Vec<WalName>,
    asked: WalName,
    at_most: usize,
    mut standing: impl FnMut(WalName) -> Standing,
) -> Vec<WalName> {
    ready.retain(|name| *name != asked);
    ready.sort_by_cached_key(|name| name.archiving_order());
    let (mut due, mut noted) = (Vec::new(), Vec::new());
    for name in ready {
        if due.len() == at_most {
            break;
        }
        match standing(name) {
            Standing::Due => due.push(name),
            Standing::Noted => noted.push(name),
            Standing::Left => {}
        }
    }
    due.extend(noted);
    due.truncate(at_most);
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(texts: &[&str]) -> Vec<WalName> {
        texts.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn texts(names: &[WalName]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    const FIRST: &str = "000000010000000000000001";

    #[test]
    fn files_come_in_the_servers_order_without_the_requested_one() {
        let ready = names(&[
            "000000020000000000000003",
            "000000010000000000000002",
            "000000010000000000000002.00000028.backup",
            "000000010000000000000004.partial",
            FIRST,
            "00000002.history",
        ]);
        let taken =
            |at_most| texts(&neighbours(ready.clone(), FIRST.parse().unwrap(), at_most, |_| Standing::Due));
        assert_eq!(
            taken(99),
            [
                "00000002.history",
                "000000010000000000000002",
                "000000010000000000000002.00000028.backup",
                "000000010000000000000004.partial",
                "000000020000000000000003",
            ]
        );
        assert_eq!(taken(1), ["00000002.history"]);
        assert_eq!(taken(0), [""; 0]);
        assert_eq!(neighbours(Vec::new(), FIRST.parse().unwrap(), 9, |_| Standing::Due), []);
    }

    #[test]
    fn files_already_archived_displace_no_due_ones() {
        let ready: Vec<String> = (1..=9).map(|number| format!("00000001000000000000000{number}")).collect();
        let ready = names(&ready.iter().map(String::as_str).collect::<Vec<_>>());
        let standing = |name: WalName| match name.to_string().as_bytes()[23] {
            b'2' | b'4' => Standing::Left,
            b'3' | b'5' => Standing::Noted,
            _ => Standing::Due,
        };
        let mut asked = 0;
        let mut taken = |at_most| {
            asked = 0;
            let counted = |name| {
                asked += 1;
                standing(name)
            };
            let names = neighbours(ready.clone(), FIRST.parse().unwrap(), at_most, counted);
            let last = |name: &String| name[23..].to_owned();
            (texts(&names).iter().map(last).collect::<String>(), asked)
        };
        assert_eq!(taken(2), ("67".to_owned(), 6), "and looks no further");
        assert_eq!(taken(5), ("67893".to_owned(), 8));
        assert_eq!(taken(99), ("678935".to_owned(), 8));
    }
}
