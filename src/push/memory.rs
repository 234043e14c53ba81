//! Memory that a call may take for other files than its own: what the machine and the control groups have left.
//!
//! A call that takes more is killed by the kernel, after it has archived its own file and before the server knows. The server
//! would call again, to the same end, for ever.

use std::fs;
use std::path::{Path, PathBuf};

/// Files of a control group with a limit, its use, and statistics of the use; version 2 and version 1.
const FILES: [[&str; 3]; 2] = [
    ["memory.max", "memory.current", "memory.stat"],
    ["memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat"],
];

/// Keys of the page cache that the kernel gives back first, in the statistics of both versions. Those of version 1 include the
/// groups below.
const GIVEN_BACK: [&str; 2] = ["inactive_file ", "total_inactive_file "];

/// Returns the number of bytes that a call may take; `None` if it cannot be told.
///
/// It is a quarter of what is left. A file in progress takes up to twice its size, and others take memory, too.
pub(super) fn affordable() -> Option<u64> {
    let text = |path: &Path| fs::read_to_string(path).ok();
    let machine = text(Path::new("/proc/meminfo")).and_then(|text| available(&text));
    let groups = text(Path::new("/proc/self/cgroup")).map(|text| directories(&text)).unwrap_or_default();
    let of_groups = groups.iter().flat_map(|directory| {
        let read = move |name: &str| text(&directory.join(name));
        FILES
            .iter()
            .filter_map(move |[limit, used, statistics]| left(&read(limit)?, &read(used)?, read(statistics)))
    });
    share_of_least(machine.into_iter().chain(of_groups))
}

fn share_of_least(left: impl Iterator<Item = u64>) -> Option<u64> {
    left.min().map(|left| left / 4)
}

/// Reads the available memory of a machine from `/proc/meminfo`.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Returns the directories of a process's control groups from `/proc/self/cgroup`, each with those above it. Some do not exist,
/// because a container sees its own group as the root.
fn directories(groups: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let roots: &[&str] = match controllers {
            "" => &["/sys/fs/cgroup", "/sys/fs/cgroup/unified"],
            list if list.split(',').any(|controller| controller == "memory") => &["/sys/fs/cgroup/memory"],
            _ => continue,
        };
        for root in roots {
            let directory = Path::new(root).join(path.trim_start_matches('/'));
            found.extend(
                directory.ancestors().take_while(|above| above.starts_with(root)).map(Path::to_owned),
            );
        }
    }
    found
}

/// Returns what a group has left of its limit; `None` without a limit.
fn left(limit: &str, used: &str, statistics: Option<String>) -> Option<u64> {
    let limit: u64 = limit.trim().parse().ok()?;
    let used: u64 = used.trim().parse().ok()?;
    let statistics = statistics.unwrap_or_default();
    let given_back = statistics.lines().filter_map(|line| {
        GIVEN_BACK.iter().find_map(|key| line.strip_prefix(key))?.trim().parse::<u64>().ok()
    });
    Some(limit.saturating_sub(used.saturating_sub(given_back.max().unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_what_the_kernel_calls_available() {
        let meminfo = "MemTotal:       24000000 kB\nMemFree:         100 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(available(meminfo), Some(2 << 20));
        assert_eq!(available("MemAvailable: x kB"), None);
        assert_eq!(available(""), None);
        assert!(affordable().is_some_and(|bytes| bytes > 1 << 20), "this machine has some");
    }

    #[test]
    fn a_call_may_take_a_quarter_of_what_the_scarcest_has_left() {
        assert_eq!(share_of_least([400, 80, 120].into_iter()), Some(20));
        assert_eq!(share_of_least(std::iter::empty()), None);
    }

    #[test]
    fn the_groups_of_both_versions_are_found_with_those_above() {
        let names =
            |groups| directories(groups).iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        assert_eq!(
            names("5:devices:/x\n4:cpu,memory:/a/b\n"),
            ["/sys/fs/cgroup/memory/a/b", "/sys/fs/cgroup/memory/a", "/sys/fs/cgroup/memory"]
        );
        let both = names("0::/system.slice/postgresql.service\n");
        assert_eq!(both[0], "/sys/fs/cgroup/system.slice/postgresql.service");
        assert!(both.contains(&"/sys/fs/cgroup".to_owned()), "a container sees its group there");
        assert_eq!(names("odd\n0:"), [""; 0]);
    }

    #[test]
    fn a_group_has_its_limit_without_what_is_in_use_and_not_given_back() {
        let statistics = || Some("cache 5\ninactive_file 30\nactive_file 7\n".to_owned());
        assert_eq!(left("100\n", "80\n", statistics()), Some(50));
        assert_eq!(left("100", "80", Some("inactive_file 1\ntotal_inactive_file 40".to_owned())), Some(60));
        assert_eq!(left("100", "300", None), Some(0));
        assert_eq!(left("max", "80", None), None);
        assert_eq!(
            left("9223372036854771712", "80", None),
            Some(9_223_372_036_854_771_632),
            "no limit in version 1"
        );
    }
}
